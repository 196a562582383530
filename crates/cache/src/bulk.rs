//! Several keys at once: one look at Redis, and one load for all that is missing.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::FutureExt;
use redkit_core::ToArg;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache::{Cache, begin, failed, some};
use crate::entry::Hit;
use crate::error::Error;
use crate::fetched::{Fetched, Loaded, Source};
use crate::id::Id;
use crate::load_task::Loader;
use crate::local_cache::with_bytes;
use crate::miss::{Missing, Outcome};
use crate::refresh::is_due;

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Cache<V> {
    /// The values at several keys, in their order; what is missing is loaded together, by one call
    /// of `loader`. A key for which it gives nothing has no value: `None`, which is kept for the
    /// cache's [`negative_ttl`](crate::CacheBuilder::negative_ttl), if it has one.
    ///
    /// One round trip when all are there (on a cluster one to each node, at the same time), one
    /// more when some have tags. Single flight and leases hold per key, as in
    /// [`get_or_load`](Self::get_or_load): keys that another caller or process is loading already are
    /// waited for, and only the rest is loaded here. Should the load of another process fail, `loader` is
    /// called again for its keys, unless errors are
    /// [shared](crate::CacheBuilder::share_errors).
    ///
    /// Values that are to be loaded anew before their end
    /// ([`refresh_ahead`](crate::CacheBuilder::refresh_ahead)) are, by one call of `loader` in the
    /// background.
    ///
    /// # Errors
    /// Each key has its own, as in [`get_or_load`](Self::get_or_load). The loader's error goes to
    /// all keys that it was asked for.
    ///
    /// ```
    /// # use std::collections::{HashMap, VecDeque};
    /// # use redkit_cache::{Cache, Error};
    /// # async fn prices_from_database(ids: Vec<u32>) -> Result<HashMap<u32, u64>, std::io::Error> { Ok(HashMap::new()) }
    /// # async fn example(prices: Cache<u64>) -> Result<(), Error> {
    /// for price in prices.get_many_or_load([1, 2, 3], prices_from_database).await {
    ///     if let Some(price) = price? {
    ///         println!("{}", *price);
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn get_many_or_load<K, L, F, T, E>(
        &self,
        keys: impl IntoIterator<Item = K>,
        loader: L,
    ) -> Vec<Result<Option<Fetched<V>>, Error>>
    where
        K: ToArg + Clone + Eq + Hash + Send + Sync + 'static,
        L: Fn(Vec<K>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<HashMap<K, T>, E>> + Send + 'static,
        T: Into<Loaded<V>>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let mut keys_by_index = Vec::new();
        let mut indices = HashMap::new();
        // A key that is asked for twice is read once.
        let asked: Vec<usize> = keys
            .into_iter()
            .map(|key| {
                *indices.entry(key).or_insert_with_key(|key| {
                    keys_by_index.push(key.clone());
                    keys_by_index.len() - 1
                })
            })
            .collect();
        let ReadAll {
            mut outcomes,
            missing,
            due,
        } = self.read_all(&keys_by_index).await;
        let load = Arc::new(move |keys: Vec<K>| {
            let begun = begin(|| loader(keys));
            async move { begun?.await.map_err(failed) }
        });
        let keys_by_index = Arc::new(keys_by_index);
        let loader = || Some(of_many(Arc::clone(&keys_by_index), Arc::clone(&load)));
        if !due.is_empty() {
            let due = due
                .into_iter()
                .filter_map(|(index, id)| Some((index, keys_by_index.get(index)?, id)));
            self.refresh(due, loader);
        }
        for (index, outcome) in self.load_missing(missing, loader).await {
            outcomes.insert(index, outcome);
        }
        asked
            .iter()
            .map(|index| {
                outcomes
                    .get(index)
                    .cloned()
                    .unwrap_or(Err(Error::NotLoaded))
            })
            .collect()
    }

    /// Reads all keys together.
    async fn read_all<K: ToArg>(&self, all: &[K]) -> ReadAll<V> {
        let store = &self.inner.store;
        let mut due = Vec::new();
        let mut note_if_due = |index, hit: &Hit<V>| {
            if is_due(store.settings.refresh, &hit.life) {
                due.push((index, hit.id));
            }
        };
        let mut outcomes = HashMap::with_capacity(all.len());
        let mut wanted = Vec::new();
        for (index, key) in all.iter().enumerate() {
            if let Some(hit) = self.in_process(key) {
                note_if_due(index, &hit);
                let found = hit.fetched(Source::Local);
                outcomes.insert(index, Ok(found));
                continue;
            }
            match store.names.of_entry(key) {
                Ok(keys) => {
                    let local = store.local.as_ref();
                    let ticket = local.map(|local| with_bytes(key, |key| local.ticket(key)));
                    let leased = self.inner.loads.leased(&keys.entry);
                    wanted.push((index, key, keys, ticket, leased));
                }
                Err(error) => drop(outcomes.insert(index, Err(error))),
            }
        }
        let reads: Vec<_> = wanted
            .iter()
            .map(|(_, _, keys, _, leased)| (keys, leased.is_some()))
            .collect();
        let readings = match store.read_many(&reads).await {
            Ok(readings) => readings,
            Err(error) => wanted.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut missing = Vec::new();
        for ((index, key, keys, ticket, leased), reading) in wanted.into_iter().zip(readings) {
            if let (Some(leased), Ok(reading)) = (leased, &reading) {
                self.detach_if_obsolete(&keys, &leased, reading);
            }
            match self.hit_or_missing((index, key, &keys), reading, true, None) {
                Ok(hit) => {
                    store.metrics.hits.add_one();
                    note_if_due(index, &hit);
                    if let (Some(local), Some(ticket)) = (&store.local, ticket) {
                        with_bytes(key, |key| local.put(key, ticket, &hit));
                    }
                    let found = hit.fetched(Source::Redis);
                    outcomes.insert(index, Ok(found));
                }
                Err(one) => missing.push(one),
            }
        }
        ReadAll {
            outcomes,
            missing,
            due,
        }
    }
}

/// The result of reading several keys, each by its index.
struct ReadAll<V> {
    /// The values that are there.
    outcomes: HashMap<usize, Outcome<V>>,
    /// The keys to be loaded.
    missing: Vec<Missing<V>>,
    /// The keys whose values are to be loaded anew in the background, with their entries' ids.
    due: Vec<(usize, Id)>,
}

/// The user's loader for several keys, as a task asks for them: by index, and in their order. A key
/// for which it gives nothing has no value.
fn of_many<K, V, T, L, F>(keys: Arc<Vec<K>>, load: Arc<L>) -> Loader<V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + 'static,
    T: Into<Loaded<V>>,
    L: Fn(Vec<K>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<HashMap<K, T>, Error>> + Send + 'static,
{
    Box::new(move |indices| {
        let asked: Vec<K> = indices
            .iter()
            .filter_map(|&index| keys.get(index))
            .cloned()
            .collect();
        let loading = load(asked.clone());
        async move {
            let mut loaded = loading.await?;
            let take = |key: &K| match loaded.remove(key) {
                Some(value) => some(value.into()),
                None => Loaded::new(None),
            };
            Ok(asked.iter().map(take).collect())
        }
        .boxed()
    })
}
