//! Several keys at once: one look at Redis, and one load for all that is missing.

use std::collections::{HashMap, VecDeque};
use std::error::Error as StdError;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use redkit_core::ToArg;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use crate::batch::{Batch, LoadMany, Member};
use crate::cache::{Cache, MOST_LOSSES, begin, failed};
use crate::error::Error;
use crate::fetched::{Fetched, Loaded, Source};
use crate::flight::{Arrival, Boarding, Passenger};
use crate::level::with_bytes;
use crate::load::{Ended, Start};
use crate::names::EntryKeys;
use crate::scripts::Need;
use crate::store::{Hit, ReadError, Seen};

/// What becomes of one key of several: its value, or that the source has none.
type Outcome<V> = Result<Option<Fetched<V>>, Error>;

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Cache<V> {
    /// The values at several keys, in their order; what is missing is loaded together, by one call
    /// of `loader`. A key for which it gives nothing has no value: `None`, which is kept for the
    /// cache's [`negative_ttl`](crate::CacheBuilder::negative_ttl), if it has one.
    ///
    /// One round trip when all are there (on a cluster one to each node, at the same time), one
    /// more when some have tags. Single flight and leases hold per key, as in
    /// [`get_or_load`](Self::get_or_load): what another caller or process is loading already is
    /// waited for, and only the rest is loaded here. Should that other one fail, `loader` is called
    /// again for what is left.
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
        let asked: Vec<K> = keys.into_iter().collect();
        let mut outcomes: HashMap<K, Outcome<V>> = HashMap::with_capacity(asked.len());
        let mut wanted = Vec::new();
        for key in &asked {
            if outcomes.contains_key(key) {
                continue;
            }
            match self.in_process(key) {
                Some(hit) => {
                    let found = hit.value.map(|value| Fetched::new(value, Source::Hit));
                    outcomes.insert(key.clone(), Ok(found));
                }
                None => match self.inner.store.names.of_entry(key) {
                    Ok(keys) => {
                        // Its place is taken, so that a key that is asked for twice is read once.
                        outcomes.insert(key.clone(), Err(Error::NotLoaded));
                        wanted.push((key.clone(), keys));
                    }
                    Err(error) => {
                        outcomes.insert(key.clone(), Err(error));
                    }
                },
            }
        }
        let load = move |keys: Vec<K>| {
            let begun = begin(|| loader(keys));
            async move {
                let loaded = begun?.await.map_err(failed)?;
                let loaded = loaded.into_iter();
                Ok(loaded.map(|(key, value)| (key, value.into())).collect())
            }
            .boxed()
        };
        let missing = self.look_at_all(wanted, &mut outcomes).await;
        self.load_all(missing, Arc::new(load), &mut outcomes).await;
        asked
            .iter()
            .map(|key| outcomes.get(key).cloned().unwrap_or(Err(Error::NotLoaded)))
            .collect()
    }

    /// One look for all; gives what is to be loaded.
    async fn look_at_all<K: ToArg + Clone + Eq + Hash>(
        &self,
        wanted: Vec<(K, EntryKeys)>,
        outcomes: &mut HashMap<K, Outcome<V>>,
    ) -> Vec<Missing<K, V>> {
        let store = &self.inner.store;
        let tickets: Vec<_> = match &store.level {
            Some(level) => wanted
                .iter()
                .map(|(key, _)| Some(with_bytes(key, |key| level.ticket(key))))
                .collect(),
            None => vec![None; wanted.len()],
        };
        let all: Vec<_> = wanted.iter().map(|(_, keys)| keys).collect();
        let (seen, is_unreachable) = match store.read_many(&all).await {
            Ok(seen) => (seen, false),
            Err(error) => {
                tracing::debug!(target: "redkit::cache", cache = %store.name, %error, "read failed");
                (wanted.iter().map(|_| Ok(Seen::Missing)).collect(), true)
            }
        };
        let mut missing = Vec::new();
        for (((key, keys), ticket), seen) in wanted.into_iter().zip(tickets).zip(seen) {
            let unreachable = is_unreachable || matches!(seen, Err(ReadError::Unreachable(_)));
            let (start, stale) = match seen {
                Ok(Seen::Fresh(hit)) => {
                    store.numbers.hits.add_one();
                    if let (Some(level), Some(ticket)) = (&store.level, ticket) {
                        with_bytes(&key, |key| level.put(key, ticket, &hit));
                    }
                    let found = hit.value.map(|value| Fetched::new(value, Source::Hit));
                    outcomes.insert(key, Ok(found));
                    continue;
                }
                Ok(Seen::Stale(Hit {
                    id,
                    value: Some(value),
                    ..
                })) => (Start::of(Need::Better, Some(id)), Some(value)),
                Ok(Seen::Stale(Hit { id, .. }) | Seen::Void(id)) => {
                    (Start::of(Need::All, Some(id)), None)
                }
                Err(ReadError::Undecodable(id, error)) => {
                    store.numbers.decode_failures.add_one();
                    tracing::warn!(target: "redkit::cache", cache = %store.name, %error, "loading anew");
                    (Start::of(Need::All, id), None)
                }
                Ok(Seen::Missing) | Err(ReadError::Unreachable(_)) => {
                    (Start::of(Need::All, None), None)
                }
            };
            missing.push(Missing {
                key,
                keys,
                stale,
                losses: 0,
                start: Start {
                    takes_none: true,
                    is_unreachable: unreachable,
                    ..start
                },
            });
        }
        missing
    }

    /// Boards a flight per key, leads those that nobody leads as one batch, and waits for all.
    async fn load_all<K: ToArg + Clone + Eq + Hash + Send + Sync + 'static>(
        &self,
        missing: Vec<Missing<K, V>>,
        load: Arc<LoadMany<K, V>>,
        outcomes: &mut HashMap<K, Outcome<V>>,
    ) {
        let store = &self.inner.store;
        // For all together: who has stale values does not wait once for each.
        let patience = store
            .settings
            .soft_timeout
            .map(|soft| Instant::now() + soft);
        let boarded = missing.into_iter().map(|one| self.board(one)).collect();
        let mut waiting = VecDeque::from(self.set_off(boarded, &load));
        while let Some(mut one) = waiting.pop_front() {
            let arrival = match (&one.missing.stale, patience) {
                (Some(_), Some(patience)) => {
                    timeout_at(patience, one.passenger.arrive()).await.ok()
                }
                _ => Some(one.passenger.arrive().await),
            };
            let mut boarded = Vec::new();
            boarded.extend(self.settle(one, arrival, outcomes));
            // Who is too late as well flies with it.
            for mut other in std::mem::take(&mut waiting) {
                match other.passenger.arrive().now_or_never() {
                    Some(arrival) => boarded.extend(self.settle(other, Some(arrival), outcomes)),
                    None => waiting.push_back(other),
                }
            }
            // At once: others wait for the flights that are led here.
            waiting.extend(self.set_off(boarded, &load));
        }
    }

    /// What the end of a flight means for who waited for it; gives the next flight, if it needs one.
    fn settle<K: ToArg + Clone + Eq + Hash>(
        &self,
        one: Waiting<K, V>,
        arrival: Option<Arrival<Ended<V>>>,
        outcomes: &mut HashMap<K, Outcome<V>>,
    ) -> Option<Boarded<K, V>> {
        let Waiting {
            mut missing, leads, ..
        } = one;
        let ended = match arrival {
            Some(Arrival::Outcome(ended)) => ended,
            Some(Arrival::TooOld(boarding)) => return Some(Boarded { missing, boarding }),
            // Who led it went away.
            Some(Arrival::Lost) if !leads && missing.losses < MOST_LOSSES => {
                missing.losses += 1;
                return Some(self.board(missing));
            }
            Some(Arrival::Lost) => Ended::Failed(Error::LoaderPanicked),
            None => Ended::Resting(Duration::ZERO),
        };
        let outcome = match (ended, missing.stale.take()) {
            (Ended::Value(value, source), _) => {
                let source = match source {
                    Source::Loaded if !leads => Source::Shared,
                    source => source,
                };
                Ok(value.map(|value| Fetched::new(value, source)))
            }
            (Ended::Resting(_) | Ended::Failed(_), Some(stale)) => {
                self.inner.store.numbers.stale.add_one();
                Ok(Some(Fetched::new(stale, Source::Stale)))
            }
            (Ended::Failed(error), None) => Err(error),
            // Another caller's background refresh found nothing to do, and this one's value ended
            // just now.
            (Ended::Resting(_), None) => return Some(self.board(missing)),
        };
        outcomes.insert(missing.key, outcome);
        None
    }

    fn board<K>(&self, missing: Missing<K, V>) -> Boarded<K, V> {
        Boarded {
            boarding: self.inner.flights.board(&missing.keys.entry, false),
            missing,
        }
    }

    /// Starts one batch for all flights that are led here.
    fn set_off<K: ToArg + Clone + Eq + Hash + Send + Sync + 'static>(
        &self,
        boarded: Vec<Boarded<K, V>>,
        load: &Arc<LoadMany<K, V>>,
    ) -> Vec<Waiting<K, V>> {
        let store = &self.inner.store;
        let mut members = Vec::new();
        let mut waiting = Vec::with_capacity(boarded.len());
        for Boarded { missing, boarding } in boarded {
            let (passenger, leads) = match boarding {
                Boarding::Joined(passenger) => {
                    store.numbers.shared.add_one();
                    (passenger, false)
                }
                Boarding::Lead(lead, passenger) => {
                    members.push(Member {
                        key: missing.key.clone(),
                        bytes: with_bytes(&missing.key, |key| key.into()),
                        keys: missing.keys.clone(),
                        lead,
                        start: missing.start,
                    });
                    (passenger, true)
                }
            };
            waiting.push(Waiting {
                missing,
                passenger,
                leads,
            });
        }
        if !members.is_empty() {
            let batch = Batch::new(Arc::clone(store), Arc::clone(load));
            self.inner.tasks.spawn(batch.fly(members));
        }
        waiting
    }
}

struct Boarded<K, V> {
    missing: Missing<K, V>,
    boarding: Boarding<Ended<V>>,
}

struct Waiting<K, V> {
    missing: Missing<K, V>,
    passenger: Passenger<Ended<V>>,
    leads: bool,
}

/// A key that is to be loaded.
struct Missing<K, V> {
    key: K,
    keys: EntryKeys,
    start: Start,
    stale: Option<Arc<V>>,
    /// How many flights that it had joined never landed.
    losses: u32,
}
