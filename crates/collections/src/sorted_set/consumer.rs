//! [`SortedSetConsumer`]: waiting for a sorted set's members.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::Command;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::SortedSet;
use crate::blocking::{Line, seconds};
use crate::error::Error;

/// Waits for members of a sorted set, on a connection of its own that it keeps, so that nobody else
/// waits with it. When the connection is lost the next call makes another.
///
/// ```no_run
/// use std::time::Duration;
/// use redkit_collections::SortedSet;
///
/// # async fn example(client: redkit_core::Client) -> Result<(), redkit_collections::Error> {
/// let urgent: SortedSet<String> = SortedSet::new(&client, "urgent")?;
/// let mut consumer = urgent.consumer().await?;
/// while let Some((job, priority)) = consumer.pop_max(Duration::from_secs(30)).await? {
///     println!("{priority}: {job}");
/// }
/// # Ok(()) }
/// ```
///
/// # What can be lost
/// A member is taken and then sent. It is lost when the connection breaks in between (the call ends
/// with an error for which [`Error::is_maybe`] holds), when the process dies, and when the call's
/// future is dropped, as in a `select!`, at the moment a member arrives. Dropping it while nothing
/// arrives is fine; the consumer then goes on with a new connection. Servers have no move from a
/// sorted set that would lose nothing: where that matters, use a list and
/// [`ListConsumer::move_to`](crate::ListConsumer::move_to).
///
/// # Cost and cluster
/// One round trip per call, and one connection. In a cluster the connection is to the node that
/// serves the set, and moves with it.
///
/// Every call ends by its wait and a [margin](Self::margin) of 1 s.
pub struct SortedSetConsumer<T> {
    set: SortedSet<T>,
    line: Line,
}

impl<T> SortedSet<T> {
    /// A consumer that waits for this set's members, on a connection of its own.
    ///
    /// # Errors
    /// [`Error::Core`] when the connection cannot be made.
    pub async fn consumer(&self) -> Result<SortedSetConsumer<T>, Error> {
        Ok(SortedSetConsumer {
            line: Line::open(&self.handle.client, self.key()).await?,
            set: self.clone(),
        })
    }
}

impl<T: Serialize + DeserializeOwned> SortedSetConsumer<T> {
    /// How much longer than its wait a call may take, for the way there and back: half of it for
    /// making a connection, if need be. Default: 1 s; at most a day.
    #[must_use]
    pub fn margin(mut self, margin: Duration) -> Self {
        self.line.set_margin(margin);
        self
    }

    /// Takes the member with the lowest score; waits for one until `wait` is over. A wait of zero
    /// is none.
    ///
    /// # Errors
    /// [`Error::Core`]: see what can be lost, above. [`Error::Undecodable`] for a member that is
    /// not a `T`; [`Error::Invalid`] for a wait of more than a day.
    pub async fn pop_min(&mut self, wait: Duration) -> Result<Option<(T, f64)>, Error> {
        self.pop("MIN", wait).await
    }

    /// Takes the member with the highest score; waits for one until `wait` is over. A wait of zero
    /// is none.
    ///
    /// # Errors
    /// As [`pop_min`](Self::pop_min).
    pub async fn pop_max(&mut self, wait: Duration) -> Result<Option<(T, f64)>, Error> {
        self.pop("MAX", wait).await
    }

    async fn pop(&mut self, end: &str, wait: Duration) -> Result<Option<(T, f64)>, Error> {
        let key = self.set.key();
        let taken: Option<(Bytes, Vec<(Bytes, f64)>)> = self
            .line
            .call(wait, |left| {
                let command = match left.is_zero() {
                    true => Command::new("ZMPOP"),
                    false => Command::new("BZMPOP").arg(seconds(left)),
                };
                command.arg(1).key(key).arg(end)
            })
            .await?;
        let taken = taken.map(|(_, members)| members).unwrap_or_default();
        Ok(self.set.open_taken(taken)?.pop())
    }
}

impl<T> fmt::Debug for SortedSetConsumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SortedSetConsumer")
            .field("set", &self.set)
            .finish_non_exhaustive()
    }
}
