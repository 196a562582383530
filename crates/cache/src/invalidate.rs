//! Writing and removing, which make earlier reads obsolete.

use redkit_core::ToArg;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache::Cache;
use crate::entry::{Head, millis};
use crate::error::Error;
use crate::fetched::{Fetched, Loaded};
use crate::id::Id;
use crate::local_cache::with_bytes;
use crate::names::EntryKeys;

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Cache<V> {
    /// Keeps `value` at `key` for the cache's time to live. One round trip; on a cluster two. A load
    /// of the same key that is in progress in any process will not replace it.
    ///
    /// Write your database first: then a failure here leaves an old value in the cache, until
    /// its time is up, and never a new one that the database does not have. When two programs
    /// write the same key at the same time, their order here may not be their order in the
    /// database: [`write_through`](Self::write_through) takes care of that.
    ///
    /// # Errors
    /// [`Error::Core`]; when its [`is_maybe`](redkit_core::Error::is_maybe) holds, the value may
    /// have been written.
    pub async fn set(&self, key: impl ToArg, value: &V) -> Result<(), Error> {
        self.put(&key, value, Loaded::new(())).await.map(drop)
    }

    /// Like [`set`](Self::set), with options: the time to live, tags, a version. Gives `false` when
    /// the value was not kept: because an entry of a newer version is there, because the options
    /// say so, or because one of its tags was invalidated at the same time. Tags cost two round
    /// trips more.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub async fn set_with(&self, key: impl ToArg, value: Loaded<V>) -> Result<bool, Error> {
        let Loaded { value, keep } = value;
        self.put(&key, &value, Loaded { value: (), keep }).await
    }

    /// Removes the value at `key`; gives whether there was one. One round trip; on a cluster two. A
    /// load of the same key that is in progress in any process will not be kept, so that what it
    /// read before this call does not outlive it. What a [`write_through`](Self::write_through) in progress gives will
    /// not be kept either, and readers wait until it has ended.
    ///
    /// # Errors
    /// [`Error::Core`]; the value may then still be there until its time is up. Try again: doing it
    /// twice does no harm.
    pub async fn invalidate(&self, key: impl ToArg) -> Result<bool, Error> {
        let keys = self.inner.store.names.of_entry(&key)?;
        self.overtake(&key, &keys);
        let removed = self.inner.store.invalidate(&keys).await;
        // A reading from before the removal may have been kept while it was under way.
        self.overtake(&key, &keys);
        Ok(removed?)
    }

    /// Removes the value at `key` only while it is the one that `seen` was read from, or was kept as; gives whether it was
    /// there. A caller that looked at the same value and comes later removes nothing: neither what has taken its place,
    /// nor the load that is to. One round trip, on a cluster two; none when `seen` was not kept. On a cluster other
    /// processes take what has taken its place out of their [`L1`](crate::L1) all the same, and ask Redis for it again.
    ///
    /// ```
    /// use redkit_cache::{Cache, Error};
    /// # async fn example(prices: Cache<u64>) -> Result<(), Error> {
    /// if let Some(price) = prices.get("42").await?
    ///     && *price == 0
    /// {
    ///     // Nobody's newer price goes with it.
    ///     prices.invalidate_seen("42", &price).await?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate).
    pub async fn invalidate_seen(&self, key: impl ToArg, seen: &Fetched<V>) -> Result<bool, Error> {
        let Some(id) = seen.entry() else {
            return Ok(false);
        };
        let keys = self.inner.store.names.of_entry(&key)?;
        // A load that begins after the removal is not obsolete.
        let leased = self.inner.loads.leased(&keys.entry);
        self.forget_seen(&key, id);
        let removed = self.inner.store.invalidate_seen(&keys, id).await;
        // Whatever the answer: another process may have removed it, whose message is on its way.
        self.forget_seen(&key, id);
        let removed = removed?;
        if let Some(leased) = leased
            && removed
        {
            self.inner.loads.detach_obsolete(&keys.entry, &leased);
        }
        Ok(removed)
    }

    /// Removes all values with this tag, however many there are, in the time that one takes: they
    /// are not touched, and not found any more. Loads in progress that give the tag are not kept.
    /// Three round trips.
    ///
    /// # Errors
    /// [`Error::Core`]; values may then still be there until their time is up.
    pub async fn invalidate_tag(&self, tag: &str) -> Result<(), Error> {
        self.invalidate_tags([tag]).await
    }

    /// [`invalidate_tag`](Self::invalidate_tag) for several tags in as many round trips.
    ///
    /// # Errors
    /// As [`invalidate_tag`](Self::invalidate_tag).
    pub async fn invalidate_tags<T: Into<Box<str>>>(
        &self,
        tags: impl IntoIterator<Item = T>,
    ) -> Result<(), Error> {
        let store = &self.inner.store;
        let tags: Vec<Box<str>> = tags.into_iter().map(Into::into).collect();
        let result = store.invalidate_tags(&tags).await;
        if let Some(local) = &store.local {
            tags.iter().for_each(|tag| local.remove_tag(tag));
        }
        Ok(result?)
    }

    /// Removes all values of this cache, in the time that one takes: they are not touched, and not
    /// found any more. Loads in progress are not kept. One round trip.
    ///
    /// # Errors
    /// [`Error::NotClearable`]; [`Error::Core`], after which values may still be there until their
    /// time is up.
    pub async fn clear(&self) -> Result<(), Error> {
        let store = &self.inner.store;
        if !store.settings.clearable {
            return Err(Error::NotClearable);
        }
        let result = store.clear().await;
        self.inner.loads.detach_all();
        if let Some(local) = &store.local {
            local.clear();
        }
        Ok(result?)
    }

    /// Makes obsolete whatever this process has read or is reading of a key.
    pub(crate) fn overtake(&self, key: &impl ToArg, keys: &EntryKeys) {
        self.inner.loads.detach(&keys.entry);
        if let Some(local) = &self.inner.store.local {
            with_bytes(key, |key| local.remove(key));
        }
    }

    /// Takes an entry out of this process, and what is being read of its key.
    pub(crate) fn forget_seen(&self, key: &impl ToArg, seen: Id) {
        if let Some(local) = &self.inner.store.local {
            with_bytes(key, |key| local.remove_seen(key, seen));
        }
    }

    async fn put(&self, key: &impl ToArg, value: &V, options: Loaded<()>) -> Result<bool, Error> {
        let store = &self.inner.store;
        let keep = options.keep;
        let keys = store.names.of_entry(key)?;
        let Some((ttl, grace)) = store.lifetime(false, &keep) else {
            // The entry that is there is older.
            self.invalidate(key).await?;
            return Ok(false);
        };
        let raw = store.client.codec().encode(keys.entry.as_bytes(), value)?;
        let mut head = Head {
            id: Id::random(),
            ttl,
            grace,
            cost: std::time::Duration::ZERO,
            version: keep.version,
            is_negative: false,
            generation: store.known_generation(),
            tags: Vec::new(),
        };
        if !keep.tags.is_empty() {
            let snapshot = store.snapshot().await?;
            let lifetime_ms = millis(ttl).saturating_add(millis(grace));
            let opened = store.open_tags(&keep.tags, &snapshot, lifetime_ms).await?;
            if opened.len() < keep.tags.len() {
                self.invalidate(key).await?;
                return Ok(false);
            }
            head.tags = opened.into_iter().collect();
        }
        for _ in 0..2 {
            if !store.settings.clearable {
                head.generation = None;
            } else if head.generation.is_none() {
                head.generation = Some(store.snapshot().await?.generation);
            }
            let entry = head.encode(&raw);
            self.overtake(key, &keys);
            let written = store.set(&keys, &head, &entry).await;
            self.overtake(key, &keys);
            match written? {
                Some(written) => return Ok(written),
                // The cache was cleared since the generation was last seen.
                None => head.generation = store.known_generation(),
            }
        }
        // Cleared again in between: what was written is void, as if it had been written before.
        Ok(false)
    }
}
