//! [`Cache`]: typed values under keys, with a time to live.

use std::error::Error as StdError;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use redkit_core::{Client, Error as CoreError, ToArg};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::builder::{CacheBuilder, NoTtl};
use crate::entry::Hit;
use crate::error::{Error, LoadError};
use crate::fetched::{Fetched, Loaded, Source};
use crate::id::Id;
use crate::inspect::InspectedCache;
use crate::load_outcome::LoadOutcome;
use crate::load_task::Loader;
use crate::local_cache::with_bytes;
use crate::names::EntryKeys;
use crate::refresh::{Refreshes, is_due};
use crate::single_flight::{Leased, SingleFlight};
use crate::stats::CacheStats;
use crate::store::{Lookup, Reading, Store};
use crate::tasks::Tasks;

/// A cache of values of one type. It is cheap to clone; clones share loads, statistics and the
/// local cache. When the last one is dropped its loads end.
///
/// See the [crate's documentation](crate) for an example and for what it guarantees.
pub struct Cache<V> {
    pub(crate) inner: Arc<Inner<V>>,
}

pub(crate) struct Inner<V> {
    pub(crate) store: Arc<Store<V>>,
    pub(crate) loads: Arc<SingleFlight<LoadOutcome<V>>>,
    pub(crate) refreshes: Arc<Refreshes>,
    pub(crate) tasks: Tasks,
    /// The cache as monitoring sees it, for as long as there is the cache.
    inspected: Arc<InspectedCache<V>>,
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Cache<V> {
    /// Starts a cache named `name`, which stands in its keys and metrics.
    pub fn builder(client: &Client, name: &str) -> CacheBuilder<V, NoTtl> {
        CacheBuilder::new(client, name)
    }

    pub(crate) fn new(store: Store<V>) -> Self {
        let inner = Arc::new_cyclic(|cache: &Weak<Inner<V>>| Inner {
            inspected: Arc::new(InspectedCache::new(cache.clone(), &store.name)),
            store: Arc::new(store),
            loads: SingleFlight::new(),
            refreshes: Arc::default(),
            tasks: Tasks::default(),
        });
        let inspected: Weak<InspectedCache<V>> = Arc::downgrade(&inner.inspected);
        inner.store.client.register(inspected);
        Self { inner }
    }

    /// The fresh value at `key`, if there is one. One round trip; none when the value is in this
    /// process; one more when it has tags, and one when nothing is found, which may be something of
    /// another type.
    ///
    /// # Errors
    /// [`Error::Core`] when Redis could not be asked within
    /// [`redis_timeout`](crate::CacheBuilder::redis_timeout), or what is stored is not a `V`: another
    /// program's text, say, or a list.
    pub async fn get(&self, key: impl ToArg) -> Result<Option<Fetched<V>>, Error> {
        let store = &self.inner.store;
        if let Some(hit) = self.in_process(&key) {
            return Ok(hit.fetched(Source::Local));
        }
        let keys = store.names.of_entry(&key)?;
        let mut lookup = self.read(&key, &keys).await?;
        if let Lookup::Missing = lookup
            && let Some(error) = store.is_of_another_type(&keys).await?
        {
            lookup = Lookup::Undecodable(None, error);
        }
        let found = match lookup {
            Lookup::Fresh(hit) => hit.fetched(Source::Redis),
            Lookup::Stale(_) | Lookup::Invalidated(_) | Lookup::Missing => None,
            Lookup::Undecodable(_, error) => {
                store.metrics.decode_failures.add_one();
                return Err(error.into());
            }
        };
        match &found {
            Some(_) => store.metrics.hits.add_one(),
            None => store.metrics.misses.add_one(),
        }
        Ok(found)
    }

    /// The value at `key`, loaded by `loader` when there is none. None or one round trip on a hit;
    /// on a miss two more, and the load.
    ///
    /// However many callers in however many processes ask for the same key at the same time, one
    /// loader runs, and all get its value. It runs in a task of its own: when the caller that
    /// started it goes away, it goes on for the others and for the cache. Its error goes to all
    /// callers of its process that wait; for callers in other processes see
    /// [`share_errors`](crate::CacheBuilder::share_errors).
    ///
    /// The value that you get was read from the source after every invalidation that was
    /// acknowledged before you called, or it is marked as [`Source::Stale`], or it comes from this
    /// process's [`L1`](crate::L1), within its bound.
    ///
    /// When Redis cannot be asked the value is loaded all the same ([`Source::Bypassed`]); when it
    /// cannot be written the value is given and not kept. What is stored but is not a `V` counts
    /// as a miss and is replaced.
    ///
    /// # Errors
    /// [`Error::Load`] with the loader's own error, [`Error::LoadTimeout`],
    /// [`Error::LoaderPanicked`], [`Error::Overloaded`]; [`Error::Core`] when the loaded value
    /// cannot be encoded. None of them is kept: the next call loads again. With a stale value at
    /// hand, that is given in place of the error.
    pub async fn get_or_load<L, F, T, E>(
        &self,
        key: impl ToArg,
        loader: L,
    ) -> Result<Fetched<V>, Error>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Loaded<V>>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.fetch_some(key, || load_some(loader), None).await
    }

    /// Like [`get_or_load`](Self::get_or_load) for a caller that has seen the value at `key` and does not take it: the
    /// loader runs although that is fresh, also when it has just failed. The value stays meanwhile, for all others, until
    /// the loaded one takes its place; when loading fails, or takes longer than
    /// [`soft_timeout`](crate::CacheBuilder::soft_timeout), or in another process longer than
    /// [`wait_timeout`](crate::CacheBuilder::wait_timeout), it is given as [`Source::Stale`]. All callers that have seen the
    /// same value share one load and its failure, in all processes, and a caller that comes when another is there is given
    /// that one.
    ///
    /// Other processes that keep the old value in their [`L1`](crate::L1) give it until its time there is up, as after a
    /// load ahead of time. When the value was not kept, or does not count any more, this is `get_or_load`.
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load).
    pub async fn reload<L, F, T, E>(
        &self,
        key: impl ToArg,
        seen: &Fetched<V>,
        loader: L,
    ) -> Result<Fetched<V>, Error>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Loaded<V>>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.fetch_some(key, || load_some(loader), seen.entry())
            .await
    }

    /// Like [`get_or_load`](Self::get_or_load) for a source that may have no value at this key.
    /// That it has none is kept as well, for the cache's
    /// [`negative_ttl`](crate::CacheBuilder::negative_ttl) or the loader's own; without either the
    /// source is asked again by the next call.
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load).
    pub async fn find_or_load<L, F, T, E>(
        &self,
        key: impl ToArg,
        loader: L,
    ) -> Result<Option<Fetched<V>>, Error>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Loaded<Option<V>>>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let load = || {
            let begun = begin(loader);
            async move { Ok(begun?.await.map_err(failed)?.into()) }.boxed()
        };
        self.fetch(key, load, true, None).await
    }

    /// The numbers of this cache and its clones.
    pub fn stats(&self) -> CacheStats {
        let store = &self.inner.store;
        CacheStats {
            l1_entries: store.local.as_ref().map_or(0, |local| local.len()),
            ..store.metrics.read()
        }
    }

    async fn fetch_some(
        &self,
        key: impl ToArg,
        load: impl FnOnce() -> Load<V>,
        seen: Option<Id>,
    ) -> Result<Fetched<V>, Error> {
        match self.fetch(key, load, false, seen).await? {
            Some(fetched) => Ok(fetched),
            // `fetch` does not give it unless asked to.
            None => Err(Error::NotLoaded),
        }
    }

    /// `seen` is the entry that the caller does not take.
    async fn fetch(
        &self,
        key: impl ToArg,
        load: impl FnOnce() -> Load<V>,
        takes_none: bool,
        seen: Option<Id>,
    ) -> Result<Option<Fetched<V>>, Error> {
        let store = &self.inner.store;
        let mut load = Some(load);
        let mut loader = || load.take().map(|load| of_one(load()));
        if let Some(hit) = self.in_process(&key)
            && (takes_none || hit.value.is_some())
            && seen != Some(hit.id)
        {
            self.refresh_if_due(&key, &hit, loader);
            return Ok(hit.fetched(Source::Local));
        }
        let keys = store.names.of_entry(&key)?;
        let reading = self.read_for_load(&key, &keys).await;
        let missing = match self.hit_or_missing((0, &key, &keys), reading, takes_none, seen) {
            Ok(hit) => {
                store.metrics.hits.add_one();
                self.refresh_if_due(&key, &hit, loader);
                return Ok(hit.fetched(Source::Redis));
            }
            Err(missing) => missing,
        };
        let mut outcomes = self.load_missing(vec![missing], &mut loader).await;
        match outcomes.pop() {
            Some((_, outcome)) => outcome,
            None => Err(Error::NotLoaded),
        }
    }

    /// The value that this process keeps.
    #[inline]
    pub(crate) fn in_process(&self, key: &impl ToArg) -> Option<Hit<V>> {
        let store = &self.inner.store;
        let local = store.local.as_ref()?;
        let hit = with_bytes(key, |key| local.get(key))?;
        store.metrics.l1_hits.add_one();
        Some(hit)
    }

    /// Reads, and keeps a fresh value in the process.
    pub(crate) async fn read(
        &self,
        key: &impl ToArg,
        keys: &EntryKeys,
    ) -> Result<Lookup<V>, CoreError> {
        let reading = self.read_with(key, keys, false).await?;
        Ok(reading.lookup)
    }

    /// The same for a caller that will load what is missing: a load in progress that turns out to be
    /// obsolete is detached, so that the caller starts anew and does not wait for it.
    async fn read_for_load(
        &self,
        key: &impl ToArg,
        keys: &EntryKeys,
    ) -> Result<Reading<V>, CoreError> {
        let leased = self.inner.loads.leased(&keys.entry);
        let reading = self.read_with(key, keys, leased.is_some()).await?;
        if let Some(leased) = leased {
            self.detach_if_obsolete(keys, &leased, &reading);
        }
        Ok(reading)
    }

    /// A load is obsolete when its lease is gone or the cache was cleared since it began.
    pub(crate) fn detach_if_obsolete(
        &self,
        keys: &EntryKeys,
        leased: &Leased<LoadOutcome<V>>,
        reading: &Reading<V>,
    ) {
        let token = leased.token();
        let is_cleared = reading
            .generation
            .is_some_and(|now| token.generation.is_some_and(|its| its != now));
        if is_cleared || !token.holds(reading.lease.as_deref()) {
            self.inner.loads.detach_obsolete(&keys.entry, leased);
        }
    }

    async fn read_with(
        &self,
        key: &impl ToArg,
        keys: &EntryKeys,
        with_lease: bool,
    ) -> Result<Reading<V>, CoreError> {
        let store = &self.inner.store;
        let Some(local) = &store.local else {
            return store.read(keys, with_lease).await;
        };
        let ticket = with_bytes(key, |key| local.ticket(key));
        let reading = store.read(keys, with_lease).await?;
        if let Lookup::Fresh(hit) = &reading.lookup {
            with_bytes(key, |key| local.put(key, ticket, hit));
        }
        Ok(reading)
    }

    /// Loads a fresh value anew in the background when it is time: one process in the fleet does.
    fn refresh_if_due(
        &self,
        key: &impl ToArg,
        hit: &Hit<V>,
        loader: impl FnOnce() -> Option<Loader<V>>,
    ) {
        if is_due(self.inner.store.settings.refresh, &hit.life) {
            self.refresh([(0, key, hit.id)], loader);
        }
    }
}

/// The user's loader for one key, begun.
type Load<V> = BoxFuture<'static, Result<Loaded<Option<V>>, Error>>;

/// Begins a load that gives a value.
fn load_some<V, L, F, T, E>(loader: L) -> Load<V>
where
    V: Send + 'static,
    L: FnOnce() -> F,
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Into<Loaded<V>>,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    let begun = begin(loader);
    async move {
        let loaded = begun?.await.map_err(failed)?;
        Ok(some(loaded.into()))
    }
    .boxed()
}

/// A task asks for each key once, so there is one call.
fn of_one<V: Send + 'static>(load: Load<V>) -> Loader<V> {
    let load = Mutex::new(Some(load));
    Box::new(move |_| {
        let load = load.lock().take();
        async move {
            match load {
                Some(load) => Ok(vec![load.await?]),
                None => Err(Error::NotLoaded),
            }
        }
        .boxed()
    })
}

/// Calls the user's loader. What it does before it gives its future may panic as well.
pub(crate) fn begin<F>(loader: impl FnOnce() -> F) -> Result<F, Error> {
    catch_unwind(AssertUnwindSafe(loader)).map_err(|_| Error::LoaderPanicked)
}

pub(crate) fn failed(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::Load(LoadError::new(error.into()))
}

pub(crate) fn some<V>(loaded: Loaded<V>) -> Loaded<Option<V>> {
    Loaded {
        value: Some(loaded.value),
        keep: loaded.keep,
    }
}

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<V> fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("name", &self.inner.store.name)
            .finish_non_exhaustive()
    }
}
