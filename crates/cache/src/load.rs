//! [`Flight`]: one load, in a task of its own. It looks again, takes the lease or waits for
//! another process, loads, and writes what it loaded under the lease.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use crate::error::Error;
use crate::fetched::{Loaded, Source};
use crate::flight::{ALL, Lead};
use crate::id::Id;
use crate::keep::Kept;
use crate::lease::Lease;
use crate::level::Ticket;
use crate::names::EntryKeys;
use crate::scripts::{Announce, Asker, LookedUp, Need, Refused, Snapshot};
use crate::settings::A_MOMENT;
use crate::store::{Hit, ReadError, Seen, Store};
use crate::wake::Woken;

/// The user's loader, begun.
pub(crate) type Load<V> = BoxFuture<'static, Result<Loaded<Option<V>>, Error>>;

/// How a flight ended.
pub(crate) enum Ended<V> {
    Value(Option<Arc<V>>, Source),
    /// Nothing was loaded: the source failed lately, and those who have something use that.
    Resting(Duration),
    Failed(Error),
}

impl<V> Clone for Ended<V> {
    fn clone(&self) -> Self {
        match self {
            Ended::Value(value, source) => Ended::Value(value.clone(), *source),
            Ended::Resting(left) => Ended::Resting(*left),
            Ended::Failed(error) => Ended::Failed(error.clone()),
        }
    }
}

/// What is known before a flight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    pub(crate) need: Need,
    /// The entry that was seen and will not do.
    pub(crate) not_this: Refused,
    /// Redis was asked a moment ago and did not answer: an outage costs a caller one timeout.
    pub(crate) is_unreachable: bool,
    /// Whether "the source has none" is an answer.
    pub(crate) takes_none: bool,
}

impl Start {
    pub(crate) fn of(need: Need, not_this: Option<Id>) -> Self {
        Self {
            need,
            not_this: not_this.map_or(Refused::Nothing, Refused::This),
            is_unreachable: false,
            takes_none: false,
        }
    }
}

pub(crate) struct Flight<V> {
    pub(crate) store: Arc<Store<V>>,
    pub(crate) key: Box<[u8]>,
    pub(crate) keys: EntryKeys,
    pub(crate) lead: Lead<Ended<V>>,
    pub(crate) start: Start,
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Flight<V> {
    /// Flies. Gives what it ended with, for those who do not wait for it.
    pub(crate) async fn fly(self, load: Load<V>) -> Ended<V> {
        if self.start.is_unreachable {
            return self.bypass(load).await;
        }
        let store = Arc::clone(&self.store);
        let deadline = Instant::now() + store.settings.wait_timeout();
        let mut asker = Asker::new();
        let mut not_this = self.start.not_this;
        let (mut waiter, mut awaited) = (None, None);
        loop {
            let ticket = store.level.as_ref().map(|level| level.ticket(&self.key));
            let good_for = self.lead.next_stage();
            let looked_up = store
                .look_up(&self.keys, asker, not_this, self.start.need, awaited)
                .await;
            match looked_up {
                Err(error) => {
                    if let Some(again) = asker.again(&error) {
                        asker = again;
                        continue;
                    }
                    tracing::debug!(target: "redkit::cache", cache = %store.name, %error, "look-up failed");
                    return self.bypass(load).await;
                }
                Ok((LookedUp::Leased, snapshot)) => {
                    let lease = Lease::new(&store, &self.keys, asker.token, self.start.need);
                    return self.load(load, lease, snapshot, ticket).await;
                }
                Ok((LookedUp::Resting(left), _)) => return self.land(Ended::Resting(left), ALL),
                Ok((LookedUp::Failed(raw), _)) => match store.shared_error(&self.keys, raw) {
                    Some(error) => return self.land(Ended::Failed(Error::Load(error)), ALL),
                    // It cannot be read here: as if it had not been shared.
                    None => awaited = None,
                },
                Ok((LookedUp::Fresh(raw, left), snapshot)) => {
                    let seen = store.judge_again(&self.keys, raw, left, &snapshot).await;
                    match seen {
                        Ok(Seen::Fresh(hit)) if hit.value.is_some() || self.start.takes_none => {
                            if let (Some(level), Some(ticket)) = (&store.level, ticket) {
                                level.put(&self.key, ticket, &hit);
                            }
                            store.numbers.hits.add_one();
                            let source = match waiter.is_some() {
                                true => Source::Shared,
                                false => Source::Hit,
                            };
                            return self.land(Ended::Value(hit.value, source), good_for);
                        }
                        Ok(Seen::Fresh(Hit { id, .. }) | Seen::Void(id)) => {
                            not_this = not_this.and(Some(id));
                        }
                        Err(ReadError::Undecodable(id, _)) => not_this = not_this.and(id),
                        Ok(Seen::Stale(_) | Seen::Missing) => {}
                        Err(ReadError::Unreachable(_)) => return self.bypass(load).await,
                    }
                    if Instant::now() >= deadline {
                        return self.load_unleased(load, Source::Loaded).await;
                    }
                }
                Ok((LookedUp::Taken(left, by), _)) => {
                    if self.start.need == Need::Refresh {
                        return self.land(Ended::Resting(left), ALL);
                    }
                    let now = Instant::now();
                    if now >= deadline {
                        return self.load_unleased(load, Source::Loaded).await;
                    }
                    awaited = by;
                    match &mut waiter {
                        // Looked up once more after taking the place, nothing is missed.
                        None => waiter = Some(store.wakes.watch(&self.keys.entry).await),
                        Some(waiter) => {
                            store.numbers.waits.add_one();
                            let limit = (left + A_MOMENT).min(deadline - now);
                            if let Woken::Failed(raw) = waiter.wait(limit).await
                                && let Some(error) = store.shared_error(&self.keys, raw)
                            {
                                return self.land(Ended::Failed(Error::Load(error)), ALL);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Redis cannot be asked.
    async fn bypass(self, load: Load<V>) -> Ended<V> {
        let store = Arc::clone(&self.store);
        store.numbers.bypasses.add_one();
        let permit = timeout(store.settings.load_timeout, store.bypass.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            store.numbers.overloads.add_one();
            return self.land(Ended::Failed(Error::Overloaded), ALL);
        };
        self.load_unleased(load, Source::Bypassed).await
    }

    /// Loads what cannot be kept.
    async fn load_unleased(self, load: Load<V>, source: Source) -> Ended<V> {
        let good_for = self.lead.next_stage();
        match self.store.run(load).await {
            Ok(loaded) => {
                if source == Source::Bypassed {
                    self.store.numbers.dropped_writes.add_one();
                }
                let value = loaded.value.map(Arc::new);
                self.land(Ended::Value(value, source), good_for)
            }
            Err(error) => self.land(Ended::Failed(error), ALL),
        }
    }

    async fn load(
        self,
        load: Load<V>,
        lease: Lease<V>,
        snapshot: Snapshot,
        ticket: Option<Ticket>,
    ) -> Ended<V> {
        let store = Arc::clone(&self.store);
        store.numbers.misses.add_one();
        // What is loaded from here on is good for who has boarded so far.
        let good_for = self.lead.next_stage();
        let begun = Instant::now();
        let loaded = match store.run(load).await {
            Ok(loaded) => loaded,
            Err(error) => {
                lease.fail(&error, self.start.need).await;
                return self.land(Ended::Failed(error), ALL);
            }
        };
        let cost = begun.elapsed();
        // And if nothing happens to the entry until it is written, for who has boarded by now.
        let good_if_written = self.lead.next_stage();
        let kept = store.keep_one(lease, &snapshot, loaded, cost, Announce::Not);
        match kept.await {
            Err(error) => self.land(Ended::Failed(error), ALL),
            Ok(Kept::Written(hit)) => {
                if let (Some(level), Some(ticket)) = (&store.level, ticket) {
                    level.put(&self.key, ticket, &hit);
                }
                self.land(Ended::Value(hit.value, Source::Loaded), good_if_written)
            }
            Ok(Kept::Not(value)) => self.land(Ended::Value(value, Source::Loaded), good_for),
            Ok(Kept::Newer(value)) => {
                let newer = self.lead.next_stage();
                match store.read(&self.keys).await {
                    Ok(Seen::Fresh(hit)) if hit.value.is_some() || self.start.takes_none => {
                        self.land(Ended::Value(hit.value, Source::Shared), newer)
                    }
                    _ => self.land(Ended::Value(value, Source::Loaded), good_for),
                }
            }
        }
    }

    fn land(self, ended: Ended<V>, good_for: u32) -> Ended<V> {
        self.lead.land(ended.clone(), good_for);
        ended
    }
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Store<V> {
    /// Runs a loader, bounded, and catches its panic.
    pub(crate) async fn run(&self, load: Load<V>) -> Result<Loaded<Option<V>>, Error> {
        let limit = self.settings.load_timeout;
        let outcome = match timeout(limit, AssertUnwindSafe(load).catch_unwind()).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Err(panicked(&panic)),
            Err(_) => Err(Error::LoadTimeout(limit)),
        };
        match &outcome {
            Ok(_) => self.numbers.loads.add_one(),
            Err(_) => self.numbers.load_failures.add_one(),
        }
        outcome
    }

    fn shared_error(&self, keys: &EntryKeys, raw: Bytes) -> Option<crate::LoadError> {
        let codec = self.errors.as_ref()?;
        codec.decode(raw, self.client.codec(), keys.entry.as_bytes())
    }
}

/// A panic's own message went to the panic hook; its payload may be anything.
fn panicked(_: &(dyn Any + Send)) -> Error {
    Error::LoaderPanicked
}
