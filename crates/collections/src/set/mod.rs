//! [`Set`]: members without order, each once.

mod algebra;

use std::borrow::Borrow;
use std::marker::PhantomData;

use bytes::Bytes;
use redkit_core::{Client, Command, Pattern, ToKey};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::encoding::{decode, decode_taken, encode, require_equality};
use crate::error::Error;
use crate::handle::{Handle, check_slots, operations_of_every_handle};
use crate::scan::{Scanned, scanned};
use crate::write::{Shape, write};

/// Members of one type under one key, each once and in no order: tags, followers, what was seen.
///
/// Members are equal when the client's codec gives equal bytes for them. With JSON that holds for
/// values that are equal, except for types that are not always encoded alike, such as one with a
/// `HashMap` in it: take a `BTreeMap`. A client whose codec
/// encrypts or compresses is refused.
///
/// ```
/// use redkit_collections::Set;
/// # use redkit_core::{Client, ClientConfig};
/// # use redkit_embedded::Embedded;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = Client::from_backend(std::sync::Arc::new(Embedded::new()), &ClientConfig::default())?;
/// let mine: Set<String> = Set::new(&client, "{tags}:mine")?;
/// let yours: Set<String> = Set::new(&client, "{tags}:yours")?;
/// assert!(mine.add("redis").await?);
/// assert!(!mine.add("redis").await?, "it was there");
/// yours.add_many(["redis", "rust"]).await?;
/// assert_eq!(mine.intersection([&yours]).await?, ["redis"]);
/// # Ok(()) }
/// ```
///
/// # Cost
/// One round trip each; nothing is sent when no member is named. *n* is the number of members named
/// or given, *N* of those in the set (in the smallest set, of an intersection; in all, of a union or
/// difference).
///
/// | operations | time at the server |
/// |---|---|
/// | `add`, `remove`, `contains`, `len`, `move_to`, `random`, `pop` | O(1) |
/// | `add_many`, `remove_many`, `contains_many`, `random_many`, `pop_many` | O(n) |
/// | `members` | O(N), blocks the server meanwhile: for sets of some thousands of members at most |
/// | `intersection` and its kin | O(N · sets) |
/// | `union`, `difference` and their kin | O(N) |
/// | `scan` | O(1) per step; as many round trips as pages |
///
/// # Errors
/// [`Error::Core`] when Redis could not be asked or refused, and for a member that is not a `T`
/// (where members were taken by then, [`Error::Undecodable`], which keeps them). Reads are repeated
/// when that helps; writes are never sent twice: [`Error::is_maybe`] says that one may have been
/// carried out.
///
/// # In a cluster
/// A set is one key, so it lies on one node. What names several sets needs them in one slot: see
/// [`check_same_slot`](redkit_core::check_same_slot). Sets of one operation are of one
/// client or its clones; others are refused ([`Error::Invalid`]), because they may be elsewhere.
pub struct Set<T> {
    handle: Handle,
    member: PhantomData<fn() -> T>,
}

operations_of_every_handle!(Set<T>);

impl<T> Set<T> {
    /// The set at `key` in the client's namespace; braces in the key choose its slot in a cluster.
    /// Nothing is sent.
    ///
    /// # Errors
    /// [`Error::NotComparable`] when the client's codec encrypts or compresses.
    pub fn new(client: &Client, key: impl ToKey) -> Result<Self, Error> {
        require_equality(client.codec(), "a set")?;
        Ok(Self {
            handle: Handle::new(client, key),
            member: PhantomData,
        })
    }

    /// The number of members.
    pub async fn len(&self) -> Result<usize, Error> {
        self.handle.call(self.handle.command("SCARD")).await
    }

    /// Whether there is no member, and so no key.
    pub async fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len().await? == 0)
    }
}

impl<T: Serialize + DeserializeOwned> Set<T> {
    /// Adds a member; says whether it is new.
    pub async fn add<Q>(&self, member: &Q) -> Result<bool, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        Ok(self.add_many([member]).await? > 0)
    }

    /// Adds members; gives how many of them are new. All of them or none.
    pub async fn add_many<'q, Q>(
        &self,
        members: impl IntoIterator<Item = &'q Q>,
    ) -> Result<usize, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized + 'q,
    {
        let command = self.with_members("SADD", members)?;
        match command.arg_count() {
            1 => Ok(0),
            _ => self.handle.write(command, Shape::Sum(2)).await,
        }
    }

    /// Removes a member; says whether it was there. The key goes with its last member.
    pub async fn remove<Q>(&self, member: &Q) -> Result<bool, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        Ok(self.remove_many([member]).await? > 0)
    }

    /// Removes members; gives how many of them were there.
    pub async fn remove_many<'q, Q>(
        &self,
        members: impl IntoIterator<Item = &'q Q>,
    ) -> Result<usize, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized + 'q,
    {
        let command = self.with_members("SREM", members)?;
        match command.arg_count() {
            1 => Ok(0),
            _ => self.handle.call(command).await,
        }
    }

    /// Whether this is a member.
    pub async fn contains<Q>(&self, member: &Q) -> Result<bool, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let command = self.handle.command("SISMEMBER");
        self.handle.call(command.arg(self.seal(member)?)).await
    }

    /// Of each whether it is a member, in their order.
    pub async fn contains_many<'q, Q>(
        &self,
        members: impl IntoIterator<Item = &'q Q>,
    ) -> Result<Vec<bool>, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized + 'q,
    {
        let command = self.with_members("SMISMEMBER", members)?;
        match command.arg_count() {
            1 => Ok(Vec::new()),
            _ => self.handle.call(command).await,
        }
    }

    /// All members, in no order. All of them are in memory at once, here and at the server:
    /// [`scan`](Self::scan) large sets.
    pub async fn members(&self) -> Result<Vec<T>, Error> {
        self.read(self.handle.command("SMEMBERS")).await
    }

    /// A member chosen by chance.
    pub async fn random(&self) -> Result<Option<T>, Error> {
        Ok(self.random_many(1).await?.pop())
    }

    /// Up to `count` members chosen by chance, each once.
    pub async fn random_many(&self, count: u32) -> Result<Vec<T>, Error> {
        let command = self.handle.command("SRANDMEMBER").arg(count);
        self.read(command).await
    }

    /// Exactly `count` members chosen by chance, some of them perhaps several times; none of an
    /// empty set.
    pub async fn random_repeated(&self, count: u32) -> Result<Vec<T>, Error> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let command = self.handle.command("SRANDMEMBER").arg(-i64::from(count));
        self.read(command).await
    }

    /// Takes a member chosen by chance.
    pub async fn pop(&self) -> Result<Option<T>, Error> {
        Ok(self.pop_many(1).await?.pop())
    }

    /// Takes up to `count` members chosen by chance.
    pub async fn pop_many(&self, count: u32) -> Result<Vec<T>, Error> {
        let command = self.handle.command("SPOP").arg(count);
        let taken: Vec<Bytes> = self.handle.call(command).await?;
        decode_taken(&self.handle.client, self.handle.key.as_bytes(), taken)
    }

    /// Moves a member to another set, in one step; says whether it was here. The other set's time
    /// to live applies.
    ///
    /// # Errors
    /// [`Error::Core`] when the sets lie on different slots of a cluster; [`Error::Invalid`] when
    /// they are of different clients.
    pub async fn move_to<Q>(&self, target: &Set<T>, member: &Q) -> Result<bool, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.handle.check_same_client(&target.handle)?;
        let command = self.handle.command("SMOVE").key(target.key());
        let command = command.arg(self.seal(member)?);
        check_slots(&self.handle.client, &command)?;
        let handle = &target.handle;
        write(
            &self.handle.client,
            &handle.key,
            handle.ttl,
            command,
            Shape::Refusable,
        )
        .await
    }

    /// The members that match, in no order. What is there from beginning to end is seen at least
    /// once; during changes some may be seen twice. The pattern is matched against members as they
    /// are stored: with JSON the text `abc` is stored as `"abc"`, with its quotes.
    pub fn scan(&self, pattern: Pattern) -> Scanned<T>
    where
        T: 'static,
    {
        let set = self.clone();
        scanned(&self.handle, "SSCAN", &pattern, move |items| {
            items.next().map(|raw| set.open(raw))
        })
    }

    async fn read(&self, command: Command) -> Result<Vec<T>, Error> {
        let members: Vec<Bytes> = self.handle.call(command).await?;
        members.into_iter().map(|raw| self.open(raw)).collect()
    }

    fn with_members<'q, Q>(
        &self,
        name: &str,
        members: impl IntoIterator<Item = &'q Q>,
    ) -> Result<Command, Error>
    where
        Q: Serialize + ?Sized + 'q,
    {
        members
            .into_iter()
            .try_fold(self.handle.command(name), |command, member| {
                Ok(command.arg(self.seal(member)?))
            })
    }

    fn seal<Q: Serialize + ?Sized>(&self, member: &Q) -> Result<Bytes, Error> {
        encode(&self.handle.client, self.handle.key.as_bytes(), member)
    }

    fn open(&self, raw: Bytes) -> Result<T, Error> {
        decode(&self.handle.client, self.handle.key.as_bytes(), raw)
    }
}

impl<T> Clone for Set<T> {
    fn clone(&self) -> Self {
        Self {
            handle: self.handle.clone(),
            member: PhantomData,
        }
    }
}
