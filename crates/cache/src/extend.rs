//! The tools for a cache that is built on a [`Cache`], beside loading: a look that loads nothing, tasks
//! that end with the cache, and the settings in force.

use std::time::Duration;

use redkit_core::ToArg;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache::Cache;
use crate::error::Error;
use crate::fetched::{Fetched, Source};
use crate::local_cache::with_bytes;
use crate::settings::Refresh;
use crate::store::Lookup;

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Cache<V> {
    /// The value at `key`, fresh ([`Source::Local`] or [`Source::Redis`]) or stale ([`Source::Stale`]), without loading
    /// one. `None` when there is none, when the source is known to have none, and when what is
    /// stored is not a `V`. Round trips as [`get`](Self::get).
    ///
    /// It is for callers that decide by the value whether to load. A fresh value is counted as a
    /// hit; anything else is counted by the load that follows.
    ///
    /// ```
    /// use redkit_cache::{Cache, Source};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = std::sync::Arc::new(redkit_embedded::Embedded::new());
    /// # let client = redkit_core::Client::from_backend(engine, &redkit_core::ClientConfig::default())?;
    /// # let second = std::time::Duration::from_secs(1);
    /// # let prices: Cache<u64> = Cache::builder(&client, "prices").ttl(second).build()?;
    /// assert!(prices.peek("42").await?.is_none());
    /// prices.set("42", &1999).await?;
    /// let price = prices.peek("42").await?.ok_or("it was set")?;
    /// assert_eq!((*price, price.source()), (1999, Source::Redis));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Core`] when Redis could not be asked.
    pub async fn peek(&self, key: impl ToArg) -> Result<Option<Fetched<V>>, Error> {
        if let Some(hit) = self.in_process(&key) {
            return Ok(hit.fetched(Source::Local));
        }
        self.peek_past_process(&key).await
    }

    /// The same by what Redis has, for a caller that does not take what this process keeps in its [`L1`](crate::L1).
    /// [`peek`](Self::peek) and [`get`](Self::get) go on giving that until Redis has answered: then it is replaced, or
    /// dropped when it does not count any more. It stays when Redis cannot be asked.
    ///
    /// # Errors
    /// As [`peek`](Self::peek).
    pub async fn peek_in_redis(&self, key: impl ToArg) -> Result<Option<Fetched<V>>, Error> {
        let local = self.inner.store.local.as_ref();
        let kept = local.and_then(|local| with_bytes(&key, |key| local.get(key)));
        let found = self.peek_past_process(&key).await?;
        if let Some(kept) = kept {
            let counts = |found: &Fetched<V>| {
                found.source() == Source::Redis && found.entry() == Some(kept.id)
            };
            if !found.as_ref().is_some_and(counts) {
                self.forget_seen(&key, kept.id);
            }
        }
        Ok(found)
    }

    async fn peek_past_process(&self, key: &impl ToArg) -> Result<Option<Fetched<V>>, Error> {
        let store = &self.inner.store;
        let keys = store.names.of_entry(key)?;
        let (hit, source) = match self.read(key, &keys).await {
            Ok(Lookup::Fresh(hit)) => {
                if hit.value.is_some() {
                    store.metrics.hits.add_one();
                }
                (hit, Source::Redis)
            }
            Ok(Lookup::Stale(hit)) => (hit, Source::Stale),
            Ok(Lookup::Invalidated(_) | Lookup::Missing | Lookup::Undecodable(..)) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        Ok(hit.fetched(source))
    }

    /// Runs a task that ends with the cache: it is aborted when the last clone is dropped. A clone
    /// inside of the task keeps the cache alive until the task has ended.
    ///
    /// # Panics
    /// Outside of a tokio runtime, as [`tokio::spawn`] does.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.inner.tasks.spawn(task);
    }

    /// The name in its keys and metrics.
    pub fn name(&self) -> &str {
        &self.inner.store.name
    }

    /// How long a load may take: see [`CacheBuilder::load_timeout`](crate::CacheBuilder::load_timeout).
    pub fn load_timeout(&self) -> Duration {
        self.inner.store.settings.load_timeout
    }

    /// How long values are kept to be served stale, unless they say so themselves: see
    /// [`CacheBuilder::stale_for`](crate::CacheBuilder::stale_for).
    pub fn stale_for(&self) -> Duration {
        self.inner.store.settings.stale_for
    }

    /// By which share of its time a value may be kept shorter: see
    /// [`CacheBuilder::ttl_jitter`](crate::CacheBuilder::ttl_jitter).
    pub fn ttl_jitter(&self) -> f64 {
        self.inner.store.settings.ttl_jitter
    }

    /// After which time a stale value is given in place of a load that goes on: see
    /// [`CacheBuilder::soft_timeout`](crate::CacheBuilder::soft_timeout).
    pub fn soft_timeout(&self) -> Option<Duration> {
        self.inner.store.settings.soft_timeout
    }

    /// After which share of its time a fresh value is loaded anew: see
    /// [`CacheBuilder::refresh_ahead`](crate::CacheBuilder::refresh_ahead).
    pub fn refresh_ahead(&self) -> Option<f64> {
        match self.inner.store.settings.refresh {
            Refresh::Ahead(threshold) => Some(threshold),
            Refresh::Never | Refresh::Early(_) => None,
        }
    }

    /// How early fresh values are loaded anew at random: see
    /// [`CacheBuilder::refresh_early`](crate::CacheBuilder::refresh_early).
    pub fn refresh_early(&self) -> Option<f64> {
        match self.inner.store.settings.refresh {
            Refresh::Early(beta) => Some(beta),
            Refresh::Never | Refresh::Ahead(_) => None,
        }
    }
}
