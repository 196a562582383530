//! [`List`]: items in order, pushed and popped at both ends.

mod consumer;
mod edit;
mod moves;

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::ops::RangeBounds;

use bytes::Bytes;
use redkit_core::{Client, Command, Script, ToArg, ToKey};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::consumer::ListConsumer;
pub use self::edit::Occurrences;
use crate::encoding::{decode, decode_taken, decode_taken_one, encode};
use crate::error::Error;
use crate::handle::{Handle, bytes_of, operations_of_every_handle};
use crate::lifetime::script_args;
use crate::positions::positions;
use crate::scan::{Page, Scanned, paged};
use crate::write::Shape;

static PUSH_CAPPED: Script = Script::new(include_str!("../scripts/push_capped.lua"));

/// Items of one type in order, under one key: a queue, a stack, a history of the last hundred.
///
/// Positions count from 0 at the front; negative ones from the end, −1 is the last item. Ranges are
/// Rust's: `0..10` are the first ten, `-3..` the last three.
///
/// ```
/// use redkit_collections::List;
/// # use redkit_core::{Client, ClientConfig};
/// # use redkit_embedded::Embedded;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = Client::from_backend(std::sync::Arc::new(Embedded::new()), &ClientConfig::default())?;
/// let recent: List<String> = List::new(&client, "recent:7");
/// for page in ["/", "/teapots", "/teapots/42"] {
///     recent.push_front_capped([page], 2).await?; // never more than two
/// }
/// assert_eq!(recent.range(..).await?, ["/teapots/42", "/teapots"]);
/// assert_eq!(recent.pop_back().await?.as_deref(), Some("/teapots"));
/// # Ok(()) }
/// ```
///
/// To wait for items, take a [`consumer`](Self::consumer).
///
/// # Cost
/// One round trip each. *n* is the number of items named or given, *N* of those in the list.
///
/// | operations | time at the server |
/// |---|---|
/// | pushes, pops, `push_*_capped`, `move_to`, `len` | O(1) per item |
/// | `get`, `set`, `range`, `trim` | O(N), fast near the ends; plus O(n) |
/// | `insert_before`, `insert_after`, `remove`, `position`, `positions` | O(N) |
/// | `stream` | a round trip per page |
///
/// One push sends all its items in one command: up to some hundred thousand small ones.
///
/// # Errors
/// [`Error::Core`] when Redis could not be asked or refused, and for an item that is not a `T`
/// (where items were taken by then, [`Error::Undecodable`], which keeps them). Reads are repeated
/// when that helps; writes are never sent twice: when [`Error::is_maybe`] holds after a push, the
/// items may be in the list, and after a pop they may be gone.
///
/// # In a cluster
/// A list is one key, so it lies on one node. `move_to` needs both lists in one slot: see
/// [`check_same_slot`](redkit_core::check_same_slot).
///
/// # Encryption
/// A codec that encrypts binds items to their list's key. Lists between which items move need a
/// common place: [`bound_to`](Self::bound_to). Operations that find an item by its value are
/// refused then ([`Error::NotComparable`]), and with a codec that compresses.
pub struct List<T> {
    handle: Handle,
    place: Option<Bytes>,
    item: PhantomData<fn() -> T>,
}

operations_of_every_handle!(List<T>);

/// An end of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// The front, position 0.
    Front,
    /// The back, position −1.
    Back,
}

impl End {
    fn word(self) -> &'static str {
        match self {
            End::Front => "LEFT",
            End::Back => "RIGHT",
        }
    }
}

impl<T> List<T> {
    /// The list at `key` in the client's namespace; braces in the key choose its slot in a cluster.
    /// Nothing is sent.
    pub fn new(client: &Client, key: impl ToKey) -> Self {
        Self {
            handle: Handle::new(client, key),
            place: None,
            item: PhantomData,
        }
    }

    /// Binds encrypted items to `place` instead of the key, so that they can move between all
    /// lists that are bound to the same place. Without effect with a codec that does not encrypt.
    #[must_use]
    pub fn bound_to(mut self, place: impl ToArg) -> Self {
        self.place = Some(bytes_of(place).into());
        self
    }

    /// The number of items.
    pub async fn len(&self) -> Result<usize, Error> {
        self.handle.call(self.handle.command("LLEN")).await
    }

    /// Whether there is no item, and so no key.
    pub async fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len().await? == 0)
    }

    fn place(&self) -> &[u8] {
        match &self.place {
            Some(place) => place,
            None => self.handle.key.as_bytes(),
        }
    }
}

impl<T: Serialize + DeserializeOwned> List<T> {
    /// Puts an item before all others; gives the list's length.
    pub async fn push_front<Q>(&self, item: &Q) -> Result<usize, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.push("LPUSH", [item], Shape::Last(2)).await
    }

    /// Puts an item behind all others; gives the list's length.
    pub async fn push_back<Q>(&self, item: &Q) -> Result<usize, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.push("RPUSH", [item], Shape::Last(2)).await
    }

    /// Puts items to the front one after the other, so that the last of them is first then; gives
    /// the list's length. All of them or none.
    pub async fn push_front_many<'q, Q>(
        &self,
        items: impl IntoIterator<Item = &'q Q>,
    ) -> Result<usize, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized + 'q,
    {
        self.push("LPUSH", items, Shape::Last(2)).await
    }

    /// Puts items to the back in their order; gives the list's length. All of them or none.
    pub async fn push_back_many<'q, Q>(
        &self,
        items: impl IntoIterator<Item = &'q Q>,
    ) -> Result<usize, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized + 'q,
    {
        self.push("RPUSH", items, Shape::Last(2)).await
    }

    /// Puts an item to the front of a list that is there; gives its length, 0 when it is not.
    pub async fn push_front_if_exists<Q>(&self, item: &Q) -> Result<usize, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.push("LPUSHX", [item], Shape::Refusable).await
    }

    /// Puts an item to the back of a list that is there; gives its length, 0 when it is not.
    pub async fn push_back_if_exists<Q>(&self, item: &Q) -> Result<usize, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.push("RPUSHX", [item], Shape::Refusable).await
    }

    /// As [`push_front_many`](Self::push_front_many), and cuts the list off behind the first `most`
    /// items, in the same step; gives the list's length.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `most` is 0.
    pub async fn push_front_capped<'q, Q>(
        &self,
        items: impl IntoIterator<Item = &'q Q>,
        most: u32,
    ) -> Result<usize, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized + 'q,
    {
        self.push_capped("LPUSH", items, most).await
    }

    /// As [`push_back_many`](Self::push_back_many), and cuts the list off before the last `most`
    /// items, in the same step; gives the list's length.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `most` is 0.
    pub async fn push_back_capped<'q, Q>(
        &self,
        items: impl IntoIterator<Item = &'q Q>,
        most: u32,
    ) -> Result<usize, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized + 'q,
    {
        self.push_capped("RPUSH", items, most).await
    }

    /// Takes the first item.
    pub async fn pop_front(&self) -> Result<Option<T>, Error> {
        self.pop("LPOP").await
    }

    /// Takes the last item.
    pub async fn pop_back(&self) -> Result<Option<T>, Error> {
        self.pop("RPOP").await
    }

    /// Takes up to `count` items from the front, the first of them first.
    pub async fn pop_front_many(&self, count: u32) -> Result<Vec<T>, Error> {
        self.pop_many("LPOP", count).await
    }

    /// Takes up to `count` items from the back, the last of them first.
    pub async fn pop_back_many(&self, count: u32) -> Result<Vec<T>, Error> {
        self.pop_many("RPOP", count).await
    }

    /// The item at a position.
    pub async fn get(&self, position: i64) -> Result<Option<T>, Error> {
        let command = self.handle.command("LINDEX").arg(position);
        let raw: Option<Bytes> = self.handle.call(command).await?;
        raw.map(|raw| self.open(raw)).transpose()
    }

    /// The items in a range of positions. All of them are in memory at once: use
    /// [`stream`](Self::stream) for long lists.
    pub async fn range(&self, range: impl RangeBounds<i64>) -> Result<Vec<T>, Error> {
        let Some((first, last)) = positions(&range) else {
            return Ok(Vec::new());
        };
        let raw: Vec<Bytes> = self.handle.call(page(&self.handle, first, last)).await?;
        raw.into_iter().map(|raw| self.open(raw)).collect()
    }

    /// All items from front to back, a page per round trip.
    ///
    /// Pages are positions: when items are pushed or popped at the front meanwhile, some are seen
    /// twice or not at all. What is only pushed at the back does no harm.
    pub fn stream(&self) -> Scanned<T>
    where
        T: 'static,
    {
        let (handle, list) = (self.handle.clone(), self.clone());
        let fetch = move |first: i64, len: u32| {
            let len = i64::from(len);
            let (handle, last) = (handle.clone(), first.saturating_add(len - 1));
            async move {
                let items: Vec<Bytes> = handle.call(page(&handle, first, last)).await?;
                let is_full = i64::try_from(items.len()).is_ok_and(|got| got == len);
                let next = is_full.then(|| last.saturating_add(1));
                Ok(Page { items, next })
            }
        };
        paged(0, fetch, move |items| {
            items.next().map(|raw| list.open(raw))
        })
    }

    async fn push<'q, Q>(
        &self,
        name: &str,
        items: impl IntoIterator<Item = &'q Q>,
        shape: Shape,
    ) -> Result<usize, Error>
    where
        Q: Serialize + ?Sized + 'q,
    {
        let mut command = self.handle.command(name);
        for item in items {
            command = command.arg(self.seal(item)?);
        }
        match command.arg_count() {
            1 => self.len().await,
            _ => self.handle.write(command, shape).await,
        }
    }

    async fn push_capped<'q, Q>(
        &self,
        name: &str,
        items: impl IntoIterator<Item = &'q Q>,
        most: u32,
    ) -> Result<usize, Error>
    where
        Q: Serialize + ?Sized + 'q,
    {
        if most == 0 {
            let fix = "give the number of items that stay, or use `clear`";
            return Err(Error::invalid("most", "it is zero", fix));
        }
        let (millis, policy) = script_args(self.handle.ttl);
        let mut call = PUSH_CAPPED
            .invoke([&self.handle.key])
            .arg(most)
            .arg(millis)
            .arg(policy)
            .arg(name);
        let mut any = false;
        for item in items {
            any = true;
            call = call.arg(self.seal(item)?);
        }
        match any {
            false => self.len().await,
            true => Ok(self.handle.client.eval(call).await?),
        }
    }

    async fn pop(&self, name: &str) -> Result<Option<T>, Error> {
        let taken: Option<Bytes> = self.handle.call(self.handle.command(name)).await?;
        self.open_taken(taken)
    }

    async fn pop_many(&self, name: &str, count: u32) -> Result<Vec<T>, Error> {
        let command = self.handle.command(name).arg(count);
        let taken: Option<Vec<Bytes>> = self.handle.call(command).await?;
        decode_taken(&self.handle.client, self.place(), taken.unwrap_or_default())
    }

    fn seal<Q: Serialize + ?Sized>(&self, item: &Q) -> Result<Bytes, Error> {
        encode(&self.handle.client, self.place(), item)
    }

    fn open(&self, raw: Bytes) -> Result<T, Error> {
        decode(&self.handle.client, self.place(), raw)
    }

    fn open_taken(&self, taken: Option<Bytes>) -> Result<Option<T>, Error> {
        decode_taken_one(&self.handle.client, self.place(), taken)
    }
}

impl<T> Clone for List<T> {
    fn clone(&self) -> Self {
        Self {
            handle: self.handle.clone(),
            place: self.place.clone(),
            item: PhantomData,
        }
    }
}

fn page(handle: &Handle, first: i64, last: i64) -> Command {
    handle.command("LRANGE").arg(first).arg(last)
}
