//! [`Cache`]: typed values under keys, with a time to live.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::{Client, Command, Key, Keyspace, ToArg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::builder::CacheBuilder;
use crate::error::{Error, LoadError};
use crate::fetched::{Fetched, Loaded, Source};
use crate::flight::{Flights, Outcome, Void};
use crate::stats::{CacheStats, Numbers};

/// A cache of values of one type. It is cheap to clone; clones share loads and statistics.
///
/// See the [crate's documentation](crate) for an example.
pub struct Cache<V> {
    inner: Arc<Inner<V>>,
}

struct Inner<V> {
    store: Arc<Store>,
    flights: Arc<Flights<(Arc<V>, Source)>>,
    load_timeout: Duration,
}

/// What a load needs after its callers are gone.
struct Store {
    client: Client,
    keys: Keyspace,
    name: Box<str>,
    ttl: Duration,
    numbers: Numbers,
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Cache<V> {
    /// Starts a cache named `name`, which stands in its keys and metrics.
    pub fn builder(client: &Client, name: &str) -> CacheBuilder<V> {
        CacheBuilder::new(client, name)
    }

    pub(crate) fn new(
        client: Client,
        keys: Keyspace,
        name: &str,
        ttl: Duration,
        load_timeout: Duration,
    ) -> Self {
        let numbers = Numbers::new(name);
        let store = Arc::new(Store {
            client,
            keys,
            name: name.into(),
            ttl,
            numbers,
        });
        Self {
            inner: Arc::new(Inner {
                store,
                flights: Arc::new(Flights::new()),
                load_timeout,
            }),
        }
    }

    /// The value at `key`, if there is one. One round trip.
    ///
    /// # Errors
    /// [`Error::Core`] when Redis could not be asked, or what is stored is not a `V`.
    pub async fn get(&self, key: impl ToArg) -> Result<Option<V>, Error> {
        let store = &self.inner.store;
        let key = store.keys.key(key);
        let Some(raw) = store.read(&key).await? else {
            return Ok(None);
        };
        Ok(Some(store.client.codec().decode(key.as_bytes(), raw)?))
    }

    /// Keeps `value` at `key` for the cache's time to live. One round trip. A load of the same key
    /// that is in progress in this process will not replace it.
    ///
    /// Write your database first: then a failure here leaves an old value in the cache, until
    /// its time is up, and never a new one that the database does not have.
    ///
    /// # Errors
    /// [`Error::Core`]; when its [`is_maybe`](redkit_core::Error::is_maybe) holds, the value may
    /// have been written.
    pub async fn set(&self, key: impl ToArg, value: &V) -> Result<(), Error> {
        let store = &self.inner.store;
        let key = store.keys.key(key);
        let raw = store.client.codec().encode(key.as_bytes(), value)?;
        self.inner.flights.void(&key);
        Ok(store.write(&key, raw, store.ttl).await?)
    }

    /// Removes the value at `key`; gives whether there was one. One round trip. A load of the
    /// same key that is in progress in this process will not be kept, so that what it read before
    /// this call does not outlive it.
    ///
    /// # Errors
    /// [`Error::Core`]; the value may then still be there until its time is up.
    pub async fn invalidate(&self, key: impl ToArg) -> Result<bool, Error> {
        let store = &self.inner.store;
        let key = store.keys.key(key);
        self.inner.flights.void(&key);
        Ok(store.remove(&key).await?)
    }

    /// The value at `key`, loaded by `loader` when there is none. One round trip on a hit; on a
    /// miss two more, and the load.
    ///
    /// However many callers of this process ask for the same key at the same time, one loader
    /// runs, and all get its value or its error. It runs in a task of its own: when the caller
    /// that started it goes away, it goes on for the others and for the cache.
    ///
    /// When Redis cannot be asked the value is loaded all the same ([`Source::Bypassed`]); when it
    /// cannot be written the value is given and not kept. What is stored but is not a `V` counts
    /// as a miss and is replaced.
    ///
    /// # Errors
    /// [`Error::Load`] with the loader's own error, [`Error::LoadTimeout`],
    /// [`Error::LoaderPanicked`]; [`Error::Core`] when the loaded value cannot be encoded. None of
    /// them is kept: the next call loads again.
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
        let store = &self.inner.store;
        let key = store.keys.key(key);
        let is_reachable = match store.look_up(&key).await {
            Lookup::Found(value) => {
                store.numbers.hits.add_one();
                return Ok(Fetched::new(Arc::new(value), Source::Hit));
            }
            Lookup::Missing => true,
            Lookup::Unreachable => false,
        };
        let limit = self.inner.load_timeout;
        let (outcome, started) = self
            .inner
            .flights
            .join(&key, |void| {
                let (store, key, load) = (Arc::clone(store), key.clone(), loader());
                async move { store.load(&key, is_reachable, load, limit, &void).await }
            })
            .await;
        if !started {
            store.numbers.shared.add_one();
        }
        let (value, source) = outcome?;
        let source = if started || source == Source::Bypassed {
            source
        } else {
            Source::Shared
        };
        Ok(Fetched::new(value, source))
    }

    /// What this cache and its clones have done.
    pub fn stats(&self) -> CacheStats {
        self.inner.store.numbers.read()
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

enum Lookup<V> {
    Found(V),
    Missing,
    Unreachable,
}

impl Store {
    async fn read(&self, key: &Key) -> Result<Option<Bytes>, redkit_core::Error> {
        self.client.call(Command::new("GET").key(key)).await
    }

    async fn write(&self, key: &Key, raw: Bytes, ttl: Duration) -> Result<(), redkit_core::Error> {
        // The builder bounds the time; a loader's own is cut to what the server takes.
        let ttl = u64::try_from(ttl.as_millis())
            .unwrap_or(u64::MAX)
            .min(MAX_TTL_MS);
        let size = key.as_bytes().len() + raw.len() + 32;
        let command = Command::with_capacity("SET", size)
            .key(key)
            .arg(&raw)
            .arg("PX")
            .arg(ttl);
        self.client.call(command).await
    }

    async fn remove(&self, key: &Key) -> Result<bool, redkit_core::Error> {
        // Removing twice is as good as once; only the answer may then be "there was none".
        self.client
            .call(Command::new("UNLINK").key(key).idempotent(true))
            .await
    }

    async fn look_up<V: DeserializeOwned>(&self, key: &Key) -> Lookup<V> {
        match self.read(key).await {
            Ok(None) => Lookup::Missing,
            Ok(Some(raw)) => match self.client.codec().decode(key.as_bytes(), raw) {
                Ok(value) => Lookup::Found(value),
                Err(error) => {
                    self.numbers.decode_failures.add_one();
                    tracing::warn!(target: "redkit::cache", cache = %self.name, %error, "loading anew");
                    Lookup::Missing
                }
            },
            Err(error) => {
                tracing::debug!(target: "redkit::cache", cache = %self.name, %error, "read failed");
                Lookup::Unreachable
            }
        }
    }

    /// The flight: looks again, because another flight may have landed since; loads; keeps. A
    /// server that could not be asked a moment ago is not asked again: an outage costs a caller
    /// one timeout.
    async fn load<V, T, E>(
        &self,
        key: &Key,
        is_reachable: bool,
        load: impl Future<Output = Result<T, E>>,
        limit: Duration,
        void: &Void,
    ) -> Outcome<(Arc<V>, Source)>
    where
        V: Serialize + DeserializeOwned,
        T: Into<Loaded<V>>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let looked_up = match is_reachable {
            true => self.look_up(key).await,
            false => Lookup::Unreachable,
        };
        let source = match looked_up {
            Lookup::Found(value) => {
                self.numbers.hits.add_one();
                return Ok((Arc::new(value), Source::Hit));
            }
            Lookup::Missing => {
                self.numbers.misses.add_one();
                Source::Loaded
            }
            Lookup::Unreachable => {
                self.numbers.bypasses.add_one();
                Source::Bypassed
            }
        };
        // Also when the loader panics and nothing below runs.
        let failed = CountOnDrop(Some(&self.numbers));
        let Loaded { value, ttl } = match timeout(limit, load).await {
            Ok(Ok(loaded)) => loaded.into(),
            Ok(Err(error)) => return Err(Error::Load(LoadError::new(error.into()))),
            Err(_) => return Err(Error::LoadTimeout(limit)),
        };
        failed.disarm();
        self.numbers.loads.add_one();
        let raw = self.client.codec().encode(key.as_bytes(), &value)?;
        if source != Source::Bypassed {
            self.fill(key, raw, ttl.unwrap_or(self.ttl), void).await;
        }
        Ok((Arc::new(value), source))
    }

    async fn fill(&self, key: &Key, raw: Bytes, ttl: Duration, void: &Void) {
        if void.is_set() || ttl < Duration::from_millis(1) {
            return;
        }
        let written = self.write(key, raw, ttl).await;
        // An invalidation that came in between removed nothing, or what was there before: what was
        // written just now is as old as the load.
        let removed = if void.is_set() {
            self.remove(key).await.map(drop)
        } else {
            Ok(())
        };
        if let Err(error) = written.and(removed) {
            self.numbers.fill_failures.add_one();
            tracing::warn!(target: "redkit::cache", cache = %self.name, %error, "cannot keep a value");
        }
    }
}

/// Counts a load as failed unless told otherwise.
struct CountOnDrop<'n>(Option<&'n Numbers>);

impl CountOnDrop<'_> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CountOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(numbers) = self.0 {
            numbers.load_failures.add_one();
        }
    }
}

/// A hundred years: what a loader may ask for at most.
const MAX_TTL_MS: u64 = 100 * 365 * 24 * 3_600_000;
