//! [`Warming`]: filling a cache before it is asked.

use std::error::Error as StdError;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use redkit_core::ToArg;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::cache::Cache;
use crate::error::Error;
use crate::fetched::{Loaded, Source};

/// How a cache is warmed, from [`Cache::warm`].
#[must_use = "it does nothing until `run`"]
pub struct Warming<'p, V, S> {
    cache: Cache<V>,
    keys: S,
    concurrency: usize,
    progress: Option<Box<Progress<'p>>>,
}

type Progress<'p> = dyn FnMut(&Warmed) + Send + 'p;

/// How far a warming is, and what it came to.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Warmed {
    /// Keys that were loaded.
    pub loaded: u64,
    /// Keys that had a fresh value already, or that somebody else was loading.
    pub present: u64,
    /// Keys whose load failed.
    pub failed: u64,
    /// The first failure.
    pub first_error: Option<Error>,
    /// Since the beginning.
    pub took: Duration,
}

impl Warmed {
    /// Keys that are done.
    pub fn done(&self) -> u64 {
        self.loaded + self.present + self.failed
    }
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Cache<V> {
    /// Loads the values of these keys, as [`get_or_load`](Self::get_or_load) does: what is there is
    /// left alone, and several processes that warm the same keys share the work. A failed key does
    /// not stop the others.
    ///
    /// ```
    /// # use redkit_cache::{Cache, Error};
    /// # async fn price_from_database(id: u32) -> Result<u64, std::io::Error> { Ok(1999) }
    /// # async fn example(prices: Cache<u64>) {
    /// let warmed = prices
    ///     .warm(futures_util::stream::iter(1..=1000))
    ///     .concurrency(16)
    ///     .on_progress(|so_far| println!("{} done", so_far.done()))
    ///     .run(price_from_database)
    ///     .await;
    /// println!("{} loaded, {} failed in {:?}", warmed.loaded, warmed.failed, warmed.took);
    /// # }
    /// ```
    pub fn warm<'p, S: Stream>(&self, keys: S) -> Warming<'p, V, S> {
        Warming {
            cache: self.clone(),
            keys,
            concurrency: 8,
            progress: None,
        }
    }
}

impl<'p, V, S> Warming<'p, V, S>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    S: Stream,
    S::Item: ToArg + Clone,
{
    /// How many keys are loaded at once. Default: 8. Zero is taken as one.
    pub fn concurrency(mut self, limit: usize) -> Self {
        self.concurrency = limit.max(1);
        self
    }

    /// Called after every key.
    pub fn on_progress(mut self, progress: impl FnMut(&Warmed) + Send + 'p) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// Warms, and gives a summary. Loads that have begun go on when this is dropped.
    pub async fn run<L, F, T, E>(self, loader: L) -> Warmed
    where
        L: Fn(S::Item) -> F,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Loaded<V>>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let Self {
            cache,
            keys,
            concurrency,
            mut progress,
        } = self;
        let begun = Instant::now();
        let mut warmed = Warmed::default();
        let loads = keys
            .map(|key| {
                let load = key.clone();
                let (cache, loader) = (&cache, &loader);
                async move { cache.get_or_load(key, || loader(load)).await }
            })
            .buffer_unordered(concurrency);
        let mut loads = std::pin::pin!(loads);
        while let Some(outcome) = loads.next().await {
            match outcome {
                Ok(fetched) if fetched.source() == Source::Loaded => warmed.loaded += 1,
                Ok(fetched)
                    if matches!(
                        fetched.source(),
                        Source::Local | Source::Redis | Source::Shared
                    ) =>
                {
                    warmed.present += 1;
                }
                // Stale or past the cache: nothing was warmed.
                Ok(_) => warmed.failed += 1,
                Err(error) => {
                    warmed.failed += 1;
                    warmed.first_error.get_or_insert(error);
                }
            }
            warmed.took = begun.elapsed();
            if let Some(progress) = &mut progress {
                progress(&warmed);
            }
        }
        warmed.took = begun.elapsed();
        warmed
    }
}

impl<V, S> std::fmt::Debug for Warming<'_, V, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Warming")
            .field("cache", &self.cache)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}
