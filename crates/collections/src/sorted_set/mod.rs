//! [`SortedSet`]: members in the order of their scores.

mod add;
mod algebra;
mod bounds;
mod consumer;
mod ranges;

use std::borrow::Borrow;
use std::marker::PhantomData;

use bytes::Bytes;
use redkit_core::{Client, Command, Error as CoreError, Pattern, Script, ToKey, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::add::{Add, AddIf};
pub use self::algebra::{Aggregate, Combine};
pub use self::bounds::{Order, Select};
pub use self::consumer::SortedSetConsumer;
use crate::encoding::{decode, encode, require_equality};
use crate::error::Error;
use crate::handle::{Handle, operations_of_every_handle};
use crate::scan::{Scanned, scanned};

static RANK: Script = Script::new(include_str!("../scripts/rank.lua"));

/// Members of one type under one key, each once, in the order of their scores: a leader board, a
/// schedule, an index.
///
/// Scores are `f64`, infinities among them; what is not a number is refused before it is sent.
/// Members of equal score are in the order of their bytes as they are encoded. They are equal when
/// the client's codec gives equal bytes for them, as in a [`Set`](crate::Set); a client whose codec
/// encrypts or compresses is refused.
///
/// Ranges are Rust's, also with [`Bound`](std::ops::Bound): by rank from 0 with negative ones from
/// the end (`0..10`), by score (`100.0..`, `..=5.0`), by member.
///
/// ```
/// use redkit_collections::{Order, Select, SortedSet};
/// # use redkit_core::{Client, ClientConfig};
/// # use redkit_embedded::Embedded;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = Client::from_backend(std::sync::Arc::new(Embedded::new()), &ClientConfig::default())?;
/// let board: SortedSet<String> = SortedSet::new(&client, "board")?;
/// board.add("ann", 120.0).await?;
/// board.add_many([("bob", 80.0), ("cat", 100.0)]).await?;
/// board.increment("bob", 30.0).await?;
///
/// let top = board.range_by_rank(0..2, Order::Descending).await?;
/// assert_eq!(top, [("ann".to_owned(), 120.0), ("bob".to_owned(), 110.0)]);
/// assert_eq!(board.rank_with_score("cat", Order::Descending).await?, Some((2, 100.0)));
/// let above = board.range_by_score(105.0.., Select::ascending().limit(10)).await?;
/// assert_eq!(above.len(), 2);
/// # Ok(()) }
/// ```
///
/// # Cost
/// One round trip each; nothing is sent when no member is named. *n* is the number of members named
/// or given, *N* of those in the set.
///
/// | operations | time at the server |
/// |---|---|
/// | `add`, `remove`, `increment`, `rank`, `rank_with_score`, counts | O(log N) |
/// | `score`, `len` | O(1) |
/// | `add_many`, `remove_many`, pops | O(n log N) |
/// | `scores`, `random_many` | O(n) |
/// | ranges, removals of ranges, `store_range_*` | O(log N + n), and the offset |
/// | `union`, `intersection`, `difference` and their kin | O(M log M) in all members M |
/// | `scan` | O(1) per step; as many round trips as pages |
///
/// # Errors
/// [`Error::Core`] when Redis could not be asked or refused, and for a member that is not a `T`
/// (where members were taken by then, [`Error::Undecodable`], which keeps them);
/// [`Error::Invalid`] for a score or bound that is not a number. Reads are repeated when that
/// helps; writes are never sent twice: [`Error::is_maybe`] says that one may have been carried out.
///
/// # In a cluster
/// A sorted set is one key, so it lies on one node. What names several needs them in one slot: see
/// [`check_same_slot`](redkit_core::check_same_slot). Sets of one operation are those of one
/// client or its clones; others are refused ([`Error::Invalid`]), because they may be elsewhere.
pub struct SortedSet<T> {
    handle: Handle,
    member: PhantomData<fn() -> T>,
}

operations_of_every_handle!(SortedSet<T>);

impl<T> SortedSet<T> {
    /// The sorted set at `key` in the client's namespace; braces in the key choose its slot in a
    /// cluster. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::NotComparable`] when the client's codec encrypts or compresses.
    pub fn new(client: &Client, key: impl ToKey) -> Result<Self, Error> {
        require_equality(client.codec(), "a sorted set")?;
        Ok(Self {
            handle: Handle::new(client, key),
            member: PhantomData,
        })
    }

    /// The number of members.
    pub async fn len(&self) -> Result<usize, Error> {
        self.handle.call(self.handle.command("ZCARD")).await
    }

    /// Whether there is no member, and so no key.
    pub async fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len().await? == 0)
    }
}

impl<T: Serialize + DeserializeOwned> SortedSet<T> {
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
        let command = self.with_members("ZREM", members)?;
        match command.arg_count() {
            1 => Ok(0),
            _ => self.handle.call(command).await,
        }
    }

    /// A member's score.
    pub async fn score<Q>(&self, member: &Q) -> Result<Option<f64>, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let command = self.handle.command("ZSCORE").arg(self.seal(member)?);
        self.handle.call(command).await
    }

    /// Members' scores, in their order; `None` for those that are not there.
    pub async fn scores<'q, Q>(
        &self,
        members: impl IntoIterator<Item = &'q Q>,
    ) -> Result<Vec<Option<f64>>, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized + 'q,
    {
        let command = self.with_members("ZMSCORE", members)?;
        match command.arg_count() {
            1 => Ok(Vec::new()),
            _ => self.handle.call(command).await,
        }
    }

    /// A member's place in an order, from 0.
    pub async fn rank<Q>(&self, member: &Q, order: Order) -> Result<Option<usize>, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let command = self.handle.command(order.rank_command());
        self.handle.call(command.arg(self.seal(member)?)).await
    }

    /// A member's place in an order, from 0, and its score, read at the same moment, by a script:
    /// only from 7.2 on do servers have a command for it.
    pub async fn rank_with_score<Q>(
        &self,
        member: &Q,
        order: Order,
    ) -> Result<Option<(usize, f64)>, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let call = RANK
            .invoke([&self.handle.key])
            .arg(order.rank_command())
            .arg(self.seal(member)?)
            .idempotent(true);
        Ok(self.handle.client.eval(call).await?)
    }

    /// Takes the member with the lowest score.
    pub async fn pop_min(&self) -> Result<Option<(T, f64)>, Error> {
        Ok(self.pop_min_many(1).await?.pop())
    }

    /// Takes the member with the highest score.
    pub async fn pop_max(&self) -> Result<Option<(T, f64)>, Error> {
        Ok(self.pop_max_many(1).await?.pop())
    }

    /// Takes up to `count` members with the lowest scores, the lowest first.
    pub async fn pop_min_many(&self, count: u32) -> Result<Vec<(T, f64)>, Error> {
        let command = self.handle.command("ZPOPMIN").arg(count);
        self.open_taken(self.handle.call(command).await?)
    }

    /// Takes up to `count` members with the highest scores, the highest first.
    pub async fn pop_max_many(&self, count: u32) -> Result<Vec<(T, f64)>, Error> {
        let command = self.handle.command("ZPOPMAX").arg(count);
        self.open_taken(self.handle.call(command).await?)
    }

    /// A member chosen by chance, with its score.
    pub async fn random(&self) -> Result<Option<(T, f64)>, Error> {
        Ok(self.random_many(1).await?.pop())
    }

    /// Up to `count` members chosen by chance, each once, with their scores.
    pub async fn random_many(&self, count: u32) -> Result<Vec<(T, f64)>, Error> {
        let command = self.handle.command("ZRANDMEMBER").arg(count);
        self.read_scored(command.arg("WITHSCORES")).await
    }

    /// The members that match, with their scores, in no order. What is there from beginning to end
    /// is seen at least once; during changes some may be seen twice. The pattern is matched against
    /// members as they are stored.
    pub fn scan(&self, pattern: Pattern) -> Scanned<(T, f64)>
    where
        T: 'static,
    {
        let set = self.clone();
        scanned(&self.handle, "ZSCAN", &pattern, move |items| {
            let (member, score) = (items.next()?, items.next()?);
            Some(set.open(member).and_then(|member| {
                let score = Value::Bulk(score).to();
                let score = score.map_err(|error| CoreError::Reply {
                    command: "ZSCAN".into(),
                    error,
                })?;
                Ok((member, score))
            }))
        })
    }

    async fn read_scored(&self, command: Command) -> Result<Vec<(T, f64)>, Error> {
        let members: Vec<(Bytes, f64)> = self.handle.call(command).await?;
        members
            .into_iter()
            .map(|(raw, score)| Ok((self.open(raw)?, score)))
            .collect()
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

    /// Decodes members that are no longer in the set; a failure keeps all of them.
    fn open_taken(&self, taken: Vec<(Bytes, f64)>) -> Result<Vec<(T, f64)>, Error> {
        let codec = self.handle.client.codec();
        let decoded: Result<Vec<(T, f64)>, CoreError> = taken
            .iter()
            .map(|(raw, score)| {
                let member = codec.decode(self.handle.key.as_bytes(), raw.clone())?;
                Ok((member, *score))
            })
            .collect();
        decoded.map_err(|error| {
            let (taken, scores) = taken.into_iter().unzip();
            Error::Undecodable {
                taken,
                scores,
                error: Box::new(error),
            }
        })
    }
}

impl<T> Clone for SortedSet<T> {
    fn clone(&self) -> Self {
        Self {
            handle: self.handle.clone(),
            member: PhantomData,
        }
    }
}
