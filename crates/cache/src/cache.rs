//! [`Cache`]: typed values under keys, with a time to live.

use std::error::Error as StdError;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use redkit_core::{Client, ToArg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::builder::CacheBuilder;
use crate::error::{Error, LoadError};
use crate::fetched::{Fetched, Loaded, Source};
use crate::flight::{Arrival, Boarding, Flights};
use crate::id::Id;
use crate::level::with_bytes;
use crate::load::{Ended, Flight, Load, Start};
use crate::names::EntryKeys;
use crate::refresh::{Refreshes, is_due};
use crate::scripts::Need;
use crate::stats::CacheStats;
use crate::store::{Hit, ReadError, Seen, Store};
use crate::tasks::Tasks;

/// A cache of values of one type. It is cheap to clone; clones share loads, statistics and the
/// level in the process. When the last one is dropped its loads end.
///
/// See the [crate's documentation](crate) for an example and for what it guarantees.
pub struct Cache<V> {
    pub(crate) inner: Arc<Inner<V>>,
}

pub(crate) struct Inner<V> {
    pub(crate) store: Arc<Store<V>>,
    pub(crate) flights: Arc<Flights<Ended<V>>>,
    refreshes: Arc<Refreshes>,
    pub(crate) tasks: Tasks,
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Cache<V> {
    /// Starts a cache named `name`, which stands in its keys and metrics.
    pub fn builder(client: &Client, name: &str) -> CacheBuilder<V> {
        CacheBuilder::new(client, name)
    }

    pub(crate) fn new(store: Store<V>) -> Self {
        Self {
            inner: Arc::new(Inner {
                store: Arc::new(store),
                flights: Flights::new(),
                refreshes: Arc::default(),
                tasks: Tasks::default(),
            }),
        }
    }

    /// The fresh value at `key`, if there is one. One round trip; none when the value is in this
    /// process; one more when it has tags.
    ///
    /// # Errors
    /// [`Error::Core`] when Redis could not be asked, or what is stored is not a `V`.
    pub async fn get(&self, key: impl ToArg) -> Result<Option<Fetched<V>>, Error> {
        let store = &self.inner.store;
        if let Some(hit) = self.in_process(&key) {
            return Ok(hit.value.map(|value| Fetched::new(value, Source::Hit)));
        }
        let keys = store.names.of_entry(&key)?;
        let found = match self.read(&key, &keys).await {
            Ok(Seen::Fresh(hit)) => hit.value,
            Ok(Seen::Stale(_) | Seen::Void(_) | Seen::Missing) => None,
            Err(ReadError::Undecodable(_, error)) => {
                store.numbers.decode_failures.add_one();
                return Err(error.into());
            }
            Err(ReadError::Unreachable(error)) => return Err(error.into()),
        };
        match &found {
            Some(_) => store.numbers.hits.add_one(),
            None => store.numbers.misses.add_one(),
        }
        Ok(found.map(|value| Fetched::new(value, Source::Hit)))
    }

    /// The value at `key`, loaded by `loader` when there is none. None or one round trip on a hit;
    /// on a miss two more, and the load.
    ///
    /// However many callers in however many processes ask for the same key at the same time, one
    /// loader runs, and all get its value. It runs in a task of its own: when the caller that
    /// started it goes away, it goes on for the others and for the cache. Its error goes to all
    /// callers of its process that wait; for those of others see
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
        let load = || {
            let begun = begin(loader);
            async move {
                let loaded = begun?.await.map_err(failed)?;
                Ok(some(loaded.into()))
            }
            .boxed()
        };
        match self.fetch(key, load, false).await? {
            Some(fetched) => Ok(fetched),
            // `fetch` does not give it unless asked to.
            None => Err(Error::NotLoaded),
        }
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
        self.fetch(key, load, true).await
    }

    /// What this cache and its clones have done.
    pub fn stats(&self) -> CacheStats {
        let store = &self.inner.store;
        CacheStats {
            l1_entries: store.level.as_ref().map_or(0, |level| level.len()),
            ..store.numbers.read()
        }
    }

    async fn fetch(
        &self,
        key: impl ToArg,
        load: impl FnOnce() -> Load<V>,
        takes_none: bool,
    ) -> Result<Option<Fetched<V>>, Error> {
        let store = &self.inner.store;
        let mut load = Some(load);
        let (mut attempt, mut losses) = (0, 0);
        loop {
            attempt += 1;
            if let Some(hit) = self.in_process(&key)
                && (takes_none || hit.value.is_some())
            {
                self.refresh_if_due(&key, &hit, &mut load);
                return Ok(hit.value.map(|value| Fetched::new(value, Source::Hit)));
            }
            let keys = store.names.of_entry(&key)?;
            let (start, stale) = match self.read(&key, &keys).await {
                Ok(Seen::Fresh(hit)) if takes_none || hit.value.is_some() => {
                    store.numbers.hits.add_one();
                    self.refresh_if_due(&key, &hit, &mut load);
                    return Ok(hit.value.map(|value| Fetched::new(value, Source::Hit)));
                }
                Ok(Seen::Stale(hit)) if hit.value.is_some() => {
                    (Start::of(Need::Better, Some(hit.id)), hit.value)
                }
                Ok(Seen::Fresh(Hit { id, .. }) | Seen::Stale(Hit { id, .. }) | Seen::Void(id)) => {
                    (Start::of(Need::All, Some(id)), None)
                }
                Ok(Seen::Missing) => (Start::of(Need::All, None), None),
                Err(ReadError::Undecodable(id, error)) => {
                    store.numbers.decode_failures.add_one();
                    tracing::warn!(target: "redkit::cache", cache = %store.name, %error, "loading anew");
                    (Start::of(Need::All, id), None)
                }
                Err(ReadError::Unreachable(error)) => {
                    tracing::debug!(target: "redkit::cache", cache = %store.name, %error, "read failed");
                    let start = Start {
                        is_unreachable: true,
                        ..Start::of(Need::All, None)
                    };
                    (start, None)
                }
            };
            let start = Start {
                takes_none,
                ..start
            };
            // Who has asked in vain so often asks for itself.
            let anew = attempt > MOST_ATTEMPTS;
            let mut boarding = self.inner.flights.board(&keys.entry, anew);
            let (ended, leads) = loop {
                let (mut passenger, leads) = match boarding {
                    Boarding::Joined(passenger) => {
                        store.numbers.shared.add_one();
                        (passenger, false)
                    }
                    Boarding::Lead(lead, passenger) => {
                        let Some(load) = load.take() else {
                            return Err(Error::NotLoaded);
                        };
                        let flight = Flight {
                            store: Arc::clone(store),
                            key: with_bytes(&key, |key| key.into()),
                            keys: keys.clone(),
                            lead,
                            start,
                        };
                        let load = load();
                        self.inner.tasks.spawn(async move {
                            flight.fly(load).await;
                        });
                        (passenger, true)
                    }
                };
                let arrival = match (&stale, store.settings.soft_timeout) {
                    (Some(_), Some(soft)) => timeout(soft, passenger.arrive()).await.ok(),
                    _ => Some(passenger.arrive().await),
                };
                match arrival {
                    Some(Arrival::Outcome(ended)) => break (ended, leads),
                    Some(Arrival::TooOld(next)) => boarding = next,
                    // Who led it went away.
                    Some(Arrival::Lost) if !leads && losses < MOST_LOSSES => {
                        losses += 1;
                        boarding = self.inner.flights.board(&keys.entry, false);
                    }
                    Some(Arrival::Lost) => break (Ended::Failed(Error::LoaderPanicked), leads),
                    // It takes too long for who has something to give; the load goes on.
                    None => break (Ended::Resting(Duration::ZERO), leads),
                }
            };
            match (ended, stale) {
                (Ended::Value(None, _), _) if !takes_none => {}
                (Ended::Value(value, source), _) => {
                    let source = match source {
                        Source::Loaded if !leads => Source::Shared,
                        source => source,
                    };
                    return Ok(value.map(|value| Fetched::new(value, source)));
                }
                (Ended::Resting(_) | Ended::Failed(_), Some(stale)) => {
                    store.numbers.stale.add_one();
                    return Ok(Some(Fetched::new(stale, Source::Stale)));
                }
                (Ended::Failed(error), None) => return Err(error),
                // It had a stale value, which is gone: look again.
                (Ended::Resting(_), None) => {}
            }
        }
    }

    /// What this process keeps.
    #[inline]
    pub(crate) fn in_process(&self, key: &impl ToArg) -> Option<Hit<V>> {
        let store = &self.inner.store;
        let level = store.level.as_ref()?;
        let hit = with_bytes(key, |key| level.get(key))?;
        store.numbers.l1_hits.add_one();
        Some(hit)
    }

    /// Reads, and keeps what is fresh in the process.
    pub(crate) async fn read(
        &self,
        key: &impl ToArg,
        keys: &EntryKeys,
    ) -> Result<Seen<V>, ReadError> {
        let store = &self.inner.store;
        let Some(level) = &store.level else {
            return store.read(keys).await;
        };
        let ticket = with_bytes(key, |key| level.ticket(key));
        let seen = store.read(keys).await?;
        if let Seen::Fresh(hit) = &seen {
            with_bytes(key, |key| level.put(key, ticket, hit));
        }
        Ok(seen)
    }

    /// Loads a fresh value anew in the background when it is time: one process in the fleet does.
    fn refresh_if_due(
        &self,
        key: &impl ToArg,
        hit: &Hit<V>,
        load: &mut Option<impl FnOnce() -> Load<V>>,
    ) {
        let store = &self.inner.store;
        if !is_due(store.settings.refresh, &hit.life) {
            return;
        }
        self.refresh(key, hit.id, load);
    }

    #[cold]
    fn refresh(&self, key: &impl ToArg, id: Id, load: &mut Option<impl FnOnce() -> Load<V>>) {
        let store = &self.inner.store;
        let Ok(keys) = store.names.of_entry(key) else {
            return;
        };
        let Some(place) = self.inner.refreshes.begin(&keys.entry) else {
            return;
        };
        let (Boarding::Lead(lead, _), Some(load)) =
            (self.inner.flights.board(&keys.entry, false), load.take())
        else {
            return;
        };
        let flight = Flight {
            store: Arc::clone(store),
            key: with_bytes(key, |key| key.into()),
            keys,
            lead,
            start: Start {
                // A source that has lost the value is an answer, too.
                takes_none: true,
                ..Start::of(Need::Refresh, Some(id))
            },
        };
        store.numbers.refreshes.add_one();
        let load = load();
        self.inner.tasks.spawn(async move {
            let ended = flight.fly(load).await;
            place.rest(&ended).await;
        });
    }
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

/// Every attempt but the first means that something was invalidated or expired in between.
const MOST_ATTEMPTS: u32 = 4;

/// How often who joined a flight that never landed boards another.
pub(crate) const MOST_LOSSES: u32 = 4;
