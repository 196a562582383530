//! [`Inbox`]: what a user has not read yet.

mod builder;
mod id;
mod subscription;

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::random::random;
use redkit_core::{Client, Command, Key, Keyspace, ToArg};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::builder::InboxBuilder;
pub use self::id::{ItemId, NotAnId};
pub use self::subscription::{InboxEvent, InboxSubscription};
use crate::channel::{check_size, read};
use crate::error::Error;
use crate::metrics::InboxMetrics;
use crate::scripts::{self, Entries, InboxKeys, RawItem};

/// The last messages of each user, kept until they are confirmed as read.
///
/// Reading and clearing is one step that can lose nothing: [`read`](Self::read) hands items out under a
/// token and keeps them from other readers for a while; [`confirm`](Self::confirm), or the next reading
/// ([`read_next`](Self::read_next)), removes just these. When a reply is lost or the reader dies, they
/// come again. What arrives in between is in no reading, so it is never removed unread.
///
/// ```
/// use redkit_pubsub::Inbox;
/// # use redkit_core::{Client, ClientConfig};
/// # use redkit_embedded::Embedded;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = Client::from_backend(std::sync::Arc::new(Embedded::new()), &ClientConfig::default())?;
/// let inbox: Inbox<String> = Inbox::builder(&client, "notifications").capacity(100).build()?;
/// inbox.push("ann", "your order was shipped").await?;
/// assert_eq!(inbox.unread("ann").await?, 1);
///
/// let batch = inbox.read("ann", 50).await?;
/// for item in &batch.items {
///     println!("{}", item.value.as_ref().map_or("?", |value| value));
/// }
/// inbox.confirm("ann", &batch.token).await?; // only now they are gone
/// assert_eq!(inbox.unread("ann").await?, 0);
/// # Ok(()) }
/// ```
///
/// A user who is connected gets items as they come: [`subscribe`](Self::subscribe).
///
/// # Cost
/// One round trip each; a push is O(1), reading is O(items). All keys of a user lie in one slot.
///
/// # When Redis is down
/// Each call fails as any call does. A push that ended with [`is_maybe`](redkit_core::Error::is_maybe) may
/// have arrived; it is not repeated, unless it has an id ([`push_once`](Self::push_once)). Readings and
/// confirmations are repeated, which is safe.
pub struct Inbox<T> {
    inner: Arc<Inner>,
    item: PhantomData<fn() -> T>,
}

struct Inner {
    client: Client,
    name: Box<str>,
    keys: Keyspace,
    capacity: u32,
    ttl: Duration,
    reading_time: Duration,
    known_for: Duration,
    max_message_bytes: usize,
    metrics: InboxMetrics,
}

/// What became of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pushed {
    /// The item's id.
    pub id: ItemId,
    /// How many old items were dropped, unread, because the inbox was full.
    pub dropped: u64,
    /// Whether a push with the same id had been there before: then this one changed nothing, and the other
    /// facts are those of the first. Always false for a push without an id.
    pub was_known: bool,
}

/// An item of an inbox.
#[derive(Debug)]
#[non_exhaustive]
pub struct Item<T> {
    /// Its id: greater for later ones.
    pub id: ItemId,
    /// Its value; the error keeps the bytes of one that is not a `T`. Such an item is confirmed like
    /// the others, so that it does not come for ever.
    pub value: Result<T, redkit_core::Error>,
}

/// Items that were handed out.
#[derive(Debug)]
#[non_exhaustive]
pub struct Batch<T> {
    /// The oldest first. Empty when there is nothing, or other readers have it all.
    pub items: Vec<Item<T>>,
    /// With which the items are confirmed.
    pub token: ReadToken,
    /// How many items of the earlier reading were removed: see [`Inbox::read_next`].
    pub confirmed: u64,
}

/// The name of a reading: 128 random bits. Its text form can be handed to a browser and back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReadToken(Box<str>);

impl ReadToken {
    fn random() -> Self {
        Self(format!("{:032x}", random::<u128>()).into())
    }

    /// From its text form.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a text that is none.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match text.len() == 32 && text.bytes().all(is_hex) {
            true => Ok(Self(text.into())),
            false => Err(Error::invalid(
                "token",
                "it is not the token of a reading",
                "give back the token of the batch as it was",
            )),
        }
    }
}

impl fmt::Display for ReadToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<T> Inbox<T> {
    /// Starts to build the inboxes of one name: letters, digits, `-`, `_` and `.`.
    pub fn builder(client: &Client, name: impl Into<String>) -> InboxBuilder<T> {
        InboxBuilder::new(client, name.into())
    }

    /// How many items a user has, those that are being read included.
    ///
    /// # Errors
    /// [`Error::Core`] when Redis could not be asked.
    pub async fn unread(&self, user: impl ToArg) -> Result<u64, Error> {
        let items = self.inner.keys.key(user);
        Ok(self
            .inner
            .client
            .call(Command::new("XLEN").key(&items))
            .await?)
    }

    /// Removes the items of a reading. Gives how many that were: 0 when they had been removed before.
    ///
    /// # Errors
    /// [`Error::Core`] when Redis could not be asked.
    pub async fn confirm(&self, user: impl ToArg, token: &ReadToken) -> Result<u64, Error> {
        let inner = &self.inner;
        let keys = inner.keys_of(user);
        let reading =
            scripts::inbox_read(&inner.client, &keys, &token.0, "", Duration::ZERO, 0).await?;
        inner.metrics.confirmed.increment(reading.confirmed);
        Ok(reading.confirmed)
    }

    /// Removes all items up to and including `id`: what a connected user has seen.
    ///
    /// # Errors
    /// [`Error::Core`] when Redis could not be asked.
    pub async fn confirm_up_to(&self, user: impl ToArg, id: ItemId) -> Result<u64, Error> {
        let items = self.inner.keys.key(user);
        let trim = Command::new("XTRIM").key(&items).arg("MINID").arg("=");
        let trim = trim.arg(id.next().to_string()).idempotent(true);
        let removed: u64 = self.inner.client.call(trim).await?;
        self.inner.metrics.confirmed.increment(removed);
        Ok(removed)
    }

    /// Removes all items. Users who are connected are told nothing of it, and go on with what comes then.
    ///
    /// # Errors
    /// [`Error::Core`] when Redis could not be asked.
    pub async fn clear(&self, user: impl ToArg) -> Result<(), Error> {
        // The state stays for its time, as the stream does: without them the inbox would be one that was lost.
        let items = self.inner.keys.key(user);
        let trim = Command::new("XTRIM").key(&items).arg("MAXLEN").arg("=");
        let _: u64 = self.inner.client.call(trim.arg(0).idempotent(true)).await?;
        Ok(())
    }
}

impl<T: Serialize> Inbox<T> {
    /// Puts an item into a user's inbox, and hands it to those who are connected. It is not repeated when nobody
    /// knows whether it arrived.
    ///
    /// # Errors
    /// [`Error::TooLarge`], and [`Error::Core`] when it could not be encoded or stored.
    pub async fn push<Q>(&self, user: impl ToArg, item: &Q) -> Result<Pushed, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.push_with(user, None, item).await
    }

    /// As [`push`](Self::push), under an id by which the push is known again for a
    /// [while](InboxBuilder::known_for): pushing it twice into the same inbox is as good as once, so it is repeated
    /// after a lost reply, and can be by the caller. Also when the user has read the item meanwhile.
    ///
    /// # Errors
    /// As [`push`](Self::push); [`Error::Invalid`] for an empty id.
    pub async fn push_once<Q>(&self, user: impl ToArg, id: &str, item: &Q) -> Result<Pushed, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.push_with(user, Some(id), item).await
    }

    /// Puts one item into the inboxes of several users, in one round trip (on a cluster: one to each
    /// node). Each user has a result of its own.
    ///
    /// # Errors
    /// When nothing is known of any of them: as [`push`](Self::push).
    pub async fn push_to_many<Q, U: ToArg>(
        &self,
        users: impl IntoIterator<Item = U>,
        item: &Q,
    ) -> Result<Vec<Result<Pushed, Error>>, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.push_to_many_with(users, None, item).await
    }

    /// As [`push_to_many`](Self::push_to_many), under an id, as [`push_once`](Self::push_once): users who have it
    /// already are not given it again, so a call that failed for some of them is repeated as it was.
    ///
    /// # Errors
    /// As [`push_once`](Self::push_once).
    pub async fn push_once_to_many<Q, U: ToArg>(
        &self,
        users: impl IntoIterator<Item = U>,
        id: &str,
        item: &Q,
    ) -> Result<Vec<Result<Pushed, Error>>, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.push_to_many_with(users, Some(id), item).await
    }

    async fn push_with<Q>(
        &self,
        user: impl ToArg,
        id: Option<&str>,
        item: &Q,
    ) -> Result<Pushed, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let inner = &self.inner;
        let script = inner.push(user, id, item)?;
        let pushed = inner.client.eval::<(ItemId, u64, u64)>(script).await;
        Ok(inner.pushed(pushed?))
    }

    async fn push_to_many_with<Q, U: ToArg>(
        &self,
        users: impl IntoIterator<Item = U>,
        id: Option<&str>,
        item: &Q,
    ) -> Result<Vec<Result<Pushed, Error>>, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let inner = &self.inner;
        let scripts = users
            .into_iter()
            .map(|user| inner.push(user, id, item))
            .collect::<Result<Vec<_>, Error>>()?;
        if scripts.is_empty() {
            return Ok(Vec::new());
        }
        let replies = inner.client.eval_all(scripts).await?;
        let pushed = |reply| read("EVALSHA", reply).map(|pushed| inner.pushed(pushed));
        Ok(replies.into_iter().map(pushed).collect())
    }
}

impl<T: DeserializeOwned> Inbox<T> {
    /// Hands out up to `most` items that nobody else is reading, and keeps them from other readers for
    /// the [reading time](InboxBuilder::reading_time). They stay in the inbox until they are
    /// confirmed.
    ///
    /// # Errors
    /// [`Error::Invalid`] for `most` 0, [`Error::Core`] when Redis could not be asked.
    pub async fn read(&self, user: impl ToArg, most: u32) -> Result<Batch<T>, Error> {
        self.read_and_confirm(user, "", most).await
    }

    /// As [`read`](Self::read), and confirms an earlier reading in the same step.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn read_next(
        &self,
        user: impl ToArg,
        earlier: &ReadToken,
        most: u32,
    ) -> Result<Batch<T>, Error> {
        self.read_and_confirm(user, &earlier.0, most).await
    }

    /// A page of a user's items behind `after`, the oldest first; nothing is handed out or removed.
    ///
    /// # Errors
    /// [`Error::Core`] when Redis could not be asked.
    pub async fn page(
        &self,
        user: impl ToArg,
        after: Option<ItemId>,
        most: u32,
    ) -> Result<Vec<Item<T>>, Error> {
        let items = self.inner.keys.key(user);
        let raw = self.inner.range(&items, after, most).await?;
        Ok(raw
            .into_iter()
            .map(|item| self.inner.open(&items, item))
            .collect())
    }

    async fn read_and_confirm(
        &self,
        user: impl ToArg,
        confirm: &str,
        most: u32,
    ) -> Result<Batch<T>, Error> {
        if most == 0 {
            let fix = "read at least one item, or use `confirm`";
            return Err(Error::invalid("most", "it is zero", fix));
        }
        let inner = &self.inner;
        let (keys, token) = (inner.keys_of(user), ReadToken::random());
        let time = inner.reading_time;
        let reading =
            scripts::inbox_read(&inner.client, &keys, confirm, &token.0, time, most).await?;
        inner.metrics.confirmed.increment(reading.confirmed);
        let items = reading.items.into_iter();
        Ok(Batch {
            items: items.map(|item| inner.open(&keys.items, item)).collect(),
            token,
            confirmed: reading.confirmed,
        })
    }
}

impl Inner {
    fn keys_of(&self, user: impl ToArg) -> InboxKeys {
        InboxKeys {
            items: self.keys.key(&user),
            state: self.keys.role_key(&user, "state"),
            live: self.keys.role_key(&user, "live"),
        }
    }

    fn push<Q: Serialize + ?Sized>(
        &self,
        user: impl ToArg,
        id: Option<&str>,
        item: &Q,
    ) -> Result<redkit_core::Invocation, Error> {
        let record = match id {
            Some("") => {
                let fix = "name the push, or use one without an id";
                return Err(Error::invalid("id", "it is empty", fix));
            }
            Some(id) => Some(self.keys.tagged_key(&user, "id", id)),
            None => None,
        };
        let keys = self.keys_of(user);
        let raw = self.client.codec().encode(keys.items.as_bytes(), item)?;
        let raw = check_size(raw, self.max_message_bytes)?;
        let record = record.as_ref().map(|record| (record, self.known_for));
        let (most, ttl) = (self.capacity, self.ttl);
        Ok(scripts::inbox_push(&keys, most, ttl, raw, record))
    }

    fn pushed(&self, (id, dropped, was_known): (ItemId, u64, u64)) -> Pushed {
        let was_known = was_known == 1;
        if !was_known {
            self.metrics.pushed.increment(1);
            self.metrics.dropped.increment(dropped);
        }
        Pushed {
            id,
            dropped,
            was_known,
        }
    }

    async fn range(
        &self,
        items: &Key,
        after: Option<ItemId>,
        most: u32,
    ) -> Result<Vec<RawItem>, Error> {
        let from = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
        let range = Command::new("XRANGE").key(items).arg(from).arg("+");
        let Entries(items) = self.client.call(range.arg("COUNT").arg(most)).await?;
        Ok(items)
    }

    fn open<T: DeserializeOwned>(&self, items: &Key, item: RawItem) -> Item<T> {
        self.open_raw(items, item.id, item.raw)
    }

    fn open_raw<T: DeserializeOwned>(&self, items: &Key, id: ItemId, raw: Bytes) -> Item<T> {
        Item {
            id,
            value: self.client.codec().decode(items.as_bytes(), raw),
        }
    }
}

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            item: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("name", &self.inner.name)
            .field("capacity", &self.inner.capacity)
            .field("ttl", &self.inner.ttl)
            .finish_non_exhaustive()
    }
}
