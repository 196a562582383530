//! [`WriteBehind`]: the handle that programs write and read through.

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use redkit_core::{Client, ToArg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::builder::WriteBehindBuilder;
use super::current::Current;
use super::flush::{ASK, LOOK_AGAIN, flush};
use super::metrics::WriteBehindStats;
use super::queue::{Partition, Put, Queue};
use super::sink::Sink;
use super::stored::{bytes_of, decode};
use super::worker::Worker;
use super::write_id::WriteId;
use crate::cache::Cache;
use crate::error::Error;
use crate::fetched::Loaded;

/// A queue of changes on their way to a database, and the way to read past it. It is cheap to clone.
///
/// See the [module's documentation](super) for what it guarantees, and an example.
pub struct WriteBehind<V> {
    pub(super) queue: Arc<Queue>,
    cache: Option<Cache<V>>,
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> WriteBehind<V> {
    /// Starts a queue named `name`, which stands in its keys and metrics.
    pub fn builder(client: &Client, name: &str) -> WriteBehindBuilder<V> {
        WriteBehindBuilder::new(client, name)
    }

    pub(super) fn new(queue: Queue, cache: Option<Cache<V>>) -> Self {
        let queue = Arc::new(queue);
        let inspected: Weak<Queue> = Arc::downgrade(&queue);
        queue.client.register(inspected);
        Self { queue, cache }
    }

    /// Writes `value` at `key`: it is durable in the queue, and visible to every reader through a
    /// handle, when this returns. Gives the change's version. One round trip.
    ///
    /// # Errors
    /// [`Error::QueueFull`], after [`wait_when_full`](WriteBehindBuilder::wait_when_full);
    /// [`Error::Partitions`]; [`Error::Core`]. When the latter's
    /// [`is_maybe`](redkit_core::Error::is_maybe) holds, the write may have been accepted, or may yet be:
    /// use [`put_as`](Self::put_as) if you mean to repeat it.
    pub async fn put(&self, key: impl ToArg, value: &V) -> Result<u64, Error> {
        self.put_as(WriteId::random(), key, value).await
    }

    /// As [`put`](Self::put), with an id by which a repetition is recognised: it is accepted once,
    /// and a repetition changes nothing, also when others wrote the key in between.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn put_as(&self, id: WriteId, key: impl ToArg, value: &V) -> Result<u64, Error> {
        let key = bytes_of(&key);
        let logical = self.queue.logical_key(&key);
        let raw = self
            .queue
            .client
            .codec()
            .encode(logical.as_bytes(), value)?;
        let mut change = Vec::with_capacity(raw.len() + 1);
        change.push(b'v');
        change.extend_from_slice(&raw);
        self.enqueue(&key, &change.into(), id).await
    }

    /// Deletes what is at `key`, as durably as [`put`](Self::put) writes.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn delete(&self, key: impl ToArg) -> Result<u64, Error> {
        self.delete_as(WriteId::random(), key).await
    }

    /// As [`delete`](Self::delete), with an id by which a repetition is recognised.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn delete_as(&self, id: WriteId, key: impl ToArg) -> Result<u64, Error> {
        self.enqueue(&bytes_of(&key), &Bytes::from_static(b"d"), id)
            .await
    }

    /// The pending change of `key`: [`Current::Pending`], [`Current::Deleted`] or nothing. One round
    /// trip.
    ///
    /// # Errors
    /// [`Error::Core`] when Redis could not be asked, or what is pending is not a `V`.
    pub async fn pending(&self, key: impl ToArg) -> Result<Option<Current<V>>, Error> {
        let key = bytes_of(&key);
        let Some((_, change)) = self.queue.partition_of(&key).look(&key).await? else {
            return Ok(None);
        };
        Ok(Some(match decode(&self.queue, &key, &change)? {
            Some(value) => Current::Pending(value),
            None => Current::Deleted,
        }))
    }

    /// The state of `key` now: the pending change, else the value that the cache has or `loader` loads. One
    /// round trip, and those of [`Cache::get_or_load`] when nothing is pending.
    ///
    /// # Errors
    /// As [`pending`](Self::pending) and [`Cache::get_or_load`]; [`Error::NoCache`] when the queue was
    /// opened without one.
    pub async fn get_or_load<L, F, T, E>(
        &self,
        key: impl ToArg,
        loader: L,
    ) -> Result<Current<V>, Error>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Loaded<V>>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let cache = self.cache.as_ref().ok_or(Error::NoCache)?;
        let key = bytes_of(&key);
        if let Some(current) = self.pending(&key).await? {
            return Ok(current);
        }
        Ok(Current::Fetched(cache.get_or_load(&key, loader).await?))
    }

    /// As [`get_or_load`](Self::get_or_load), for a database that may have no value at this key:
    /// gives `None` then. What is pending is known without it: a delete is
    /// [`Current::Deleted`].
    ///
    /// # Errors
    /// As [`pending`](Self::pending) and [`Cache::find_or_load`]; [`Error::NoCache`] when the queue
    /// was opened without one.
    pub async fn find_or_load<L, F, T, E>(
        &self,
        key: impl ToArg,
        loader: L,
    ) -> Result<Option<Current<V>>, Error>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Loaded<Option<V>>>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let cache = self.cache.as_ref().ok_or(Error::NoCache)?;
        let key = bytes_of(&key);
        if let Some(current) = self.pending(&key).await? {
            return Ok(Some(current));
        }
        let fetched = cache.find_or_load(&key, loader).await?;
        Ok(fetched.map(Current::Fetched))
    }

    /// Starts a worker in this process that gives pending changes to `sink`. Several may run, in
    /// several processes; all must write to the same database.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use = "dropping the worker ends it"]
    pub fn start(&self, sink: impl Sink<V>) -> Worker {
        Worker::start(Arc::clone(&self.queue), self.cache.clone(), sink)
    }

    /// Waits until everything that was pending at the call is written, replaced by something newer
    /// that is written, or given up; workers do not wait for batches to fill meanwhile. Two round
    /// trips per partition, and one for every look after that.
    ///
    /// # Errors
    /// [`Error::NotFlushed`] when it is not done within `limit` (a day at most), also because Redis could not be asked;
    /// [`Error::Core`] for what does not pass with time.
    pub async fn flush(&self, limit: Duration) -> Result<(), Error> {
        flush(&self.queue, limit).await
    }

    /// How the queue stands, and what this process has done. One round trip per partition.
    ///
    /// # Errors
    /// [`Error::Core`].
    pub async fn stats(&self) -> Result<WriteBehindStats, Error> {
        let contents = self.queue.on_all(Partition::contents).await?;
        let own = self.queue.metrics.read();
        Ok(contents.into_iter().fold(own, |mut sum, part| {
            sum.pending += part.pending;
            sum.in_flight += part.in_flight;
            sum.resting += part.resting;
            sum.dead_letters += part.dead;
            sum.oldest = sum.oldest.max(part.oldest);
            sum
        }))
    }

    async fn enqueue(&self, key: &[u8], change: &Bytes, id: WriteId) -> Result<u64, Error> {
        let (queue, partition) = (&*self.queue, self.queue.partition_of(key));
        let deadline = Instant::now() + queue.settings.wait_when_full;
        loop {
            match partition.put(key, change, id, &queue.settings).await? {
                Put::Accepted {
                    version, coalesced, ..
                } => {
                    queue.metrics.accepted.add_one();
                    if coalesced {
                        queue.metrics.coalesced.add_one();
                    }
                    return Ok(version);
                }
                Put::Repeated { version } => return Ok(version),
                Put::Full { pending } if Instant::now() >= deadline => {
                    queue.metrics.refused.add_one();
                    return Err(Error::QueueFull { pending });
                }
                Put::Full { .. } => self.wait_for_room(partition, key, deadline).await?,
            }
        }
    }

    /// Waits until there is room for a change of this key, or until the deadline. The change itself,
    /// which may be large, is not sent meanwhile.
    async fn wait_for_room(
        &self,
        partition: &Partition,
        key: &[u8],
        deadline: Instant,
    ) -> Result<(), Error> {
        // Before the question, so that room which is made in between is not missed.
        let mut waiter = partition.wait_for_batches();
        while !partition.has_room(key, &self.queue.settings).await? {
            let left = deadline.saturating_duration_since(Instant::now());
            waiter
                .wait_or_ask(left.min(LOOK_AGAIN), ASK.min(left))
                .await;
            if Instant::now() >= deadline {
                break;
            }
        }
        Ok(())
    }
}

impl<V> Clone for WriteBehind<V> {
    fn clone(&self) -> Self {
        Self {
            queue: Arc::clone(&self.queue),
            cache: self.cache.clone(),
        }
    }
}

impl<V> fmt::Debug for WriteBehind<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBehind")
            .field("name", &self.queue.name)
            .field("partitions", &self.queue.settings.partitions)
            .finish_non_exhaustive()
    }
}
