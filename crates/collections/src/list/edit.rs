//! Changes in the middle of a list, and finding items by their value.

use std::borrow::Borrow;
use std::ops::RangeBounds;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::List;
use crate::encoding::require_equality;
use crate::error::Error;
use crate::positions::positions;
use crate::write::Shape;

/// Which of the items that equal a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occurrences {
    /// Every one.
    All,
    /// This many, from the front.
    First(u32),
    /// This many, from the back.
    Last(u32),
}

impl<T: Serialize + DeserializeOwned> List<T> {
    /// Replaces the item at a position; says whether there is one.
    pub async fn set<Q>(&self, position: i64, item: &Q) -> Result<bool, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let command = self.handle.command("LSET").arg(position);
        let command = command.arg(self.seal(item)?);
        let result: Result<(), Error> = self.handle.write(command, Shape::Once).await;
        match result {
            Ok(()) => Ok(true),
            Err(error) => match error.replied().map(|replied| replied.message()) {
                Some(text) if text.contains("no such key") => Ok(false),
                Some(text) if text.contains("index out of range") => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// Puts an item before the first that equals `pivot`; gives the list's length, `None` when
    /// there is no such item.
    ///
    /// # Errors
    /// [`Error::NotComparable`] when the client's codec encrypts or compresses.
    pub async fn insert_before<Q>(&self, pivot: &Q, item: &Q) -> Result<Option<usize>, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.insert("BEFORE", pivot, item).await
    }

    /// Puts an item behind the first that equals `pivot`; gives the list's length, `None` when
    /// there is no such item.
    ///
    /// # Errors
    /// [`Error::NotComparable`] when the client's codec encrypts or compresses.
    pub async fn insert_after<Q>(&self, pivot: &Q, item: &Q) -> Result<Option<usize>, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.insert("AFTER", pivot, item).await
    }

    /// Removes items that equal `item`; gives how many.
    ///
    /// # Errors
    /// [`Error::NotComparable`] when the client's codec encrypts or compresses.
    pub async fn remove<Q>(&self, item: &Q, which: Occurrences) -> Result<usize, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let count = match which {
            // To the server zero means all.
            Occurrences::First(0) | Occurrences::Last(0) => return Ok(0),
            Occurrences::All => 0,
            Occurrences::First(count) => i64::from(count),
            Occurrences::Last(count) => -i64::from(count),
        };
        self.require_equality("finding an item of a list")?;
        let command = self.handle.command("LREM").arg(count);
        self.handle.call(command.arg(self.seal(item)?)).await
    }

    /// The position of the first item that equals `item`.
    ///
    /// # Errors
    /// [`Error::NotComparable`] when the client's codec encrypts or compresses.
    pub async fn position<Q>(&self, item: &Q) -> Result<Option<usize>, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.require_equality("finding an item of a list")?;
        let command = self.handle.command("LPOS").arg(self.seal(item)?);
        self.handle.call(command).await
    }

    /// The positions of items that equal `item`: from the front with `First`, from the back, the
    /// last of them first, with `Last`.
    ///
    /// # Errors
    /// [`Error::NotComparable`] when the client's codec encrypts or compresses.
    pub async fn positions<Q>(&self, item: &Q, which: Occurrences) -> Result<Vec<usize>, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let (rank, count) = match which {
            Occurrences::First(0) | Occurrences::Last(0) => return Ok(Vec::new()),
            Occurrences::All => (1, 0),
            Occurrences::First(count) => (1, count),
            Occurrences::Last(count) => (-1, count),
        };
        self.require_equality("finding an item of a list")?;
        let command = self.handle.command("LPOS").arg(self.seal(item)?);
        let command = command.arg("RANK").arg(rank).arg("COUNT").arg(count);
        let found: Vec<i64> = self.handle.call(command).await?;
        Ok(found
            .into_iter()
            .filter_map(|position| position.try_into().ok())
            .collect())
    }

    async fn insert<Q>(&self, side: &str, pivot: &Q, item: &Q) -> Result<Option<usize>, Error>
    where
        Q: Serialize + ?Sized,
    {
        self.require_equality("finding an item of a list")?;
        let command = self.handle.command("LINSERT").arg(side);
        let command = command.arg(self.seal(pivot)?).arg(self.seal(item)?);
        let reply: i64 = self.handle.write(command, Shape::Refusable).await?;
        Ok(usize::try_from(reply).ok().filter(|&len| len > 0))
    }
}

impl<T> List<T> {
    /// Keeps the items in a range of positions and removes all others; with an empty range all.
    pub async fn trim(&self, range: impl RangeBounds<i64>) -> Result<(), Error> {
        // The second before the first: none. A key of another type is refused, as with any range.
        let (first, last) = positions(&range).unwrap_or((1, 0));
        let command = self.handle.command("LTRIM").arg(first).arg(last);
        self.handle.call(command).await
    }

    pub(super) fn require_equality(&self, what: &'static str) -> Result<(), Error> {
        require_equality(self.handle.client.codec(), what)
    }
}
