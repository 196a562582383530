//! [`Flight`]: one load, in a task of its own. It looks again, takes the lease or waits for
//! another process, loads, and writes what it loaded under the lease.

use std::any::Any;
use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use redkit_core::{Key, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::entry::{Head, millis};
use crate::error::Error;
use crate::fetched::{Keep, Loaded, Source};
use crate::flight::{ALL, Lead};
use crate::id::Id;
use crate::level::Ticket;
use crate::names::EntryKeys;
use crate::scripts::{self, Announce, Filled, LookedUp, Need, Snapshot};
use crate::settings::bounded;
use crate::store::{Hit, Life, ReadError, Seen, Store};
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
    pub(crate) not_this: Option<Id>,
    /// Redis was asked a moment ago and did not answer: an outage costs a caller one timeout.
    pub(crate) is_unreachable: bool,
    /// Whether "the source has none" is an answer.
    pub(crate) takes_none: bool,
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
        let token = Id::random();
        let mut not_this = self.start.not_this;
        let mut waiter = None;
        loop {
            let ticket = store.level.as_ref().map(|level| level.ticket(&self.key));
            let good_for = self.lead.next_stage();
            let looked_up = store
                .look_up(&self.keys, token, not_this, self.start.need)
                .await;
            match looked_up {
                Err(error) => {
                    tracing::debug!(target: "redkit::cache", cache = %store.name, %error, "look-up failed");
                    return self.bypass(load).await;
                }
                Ok((LookedUp::Leased, snapshot)) => {
                    let lease = Lease::new(&store, &self.keys, token);
                    return self.load(load, lease, snapshot, ticket).await;
                }
                Ok((LookedUp::Resting(left), _)) => return self.land(Ended::Resting(left), ALL),
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
                        Ok(Seen::Fresh(Hit { id, .. }) | Seen::Void(id))
                        | Err(ReadError::Undecodable(Some(id), _)) => not_this = Some(id),
                        Ok(Seen::Stale(_) | Seen::Missing)
                        | Err(ReadError::Undecodable(None, _)) => {}
                        Err(ReadError::Unreachable(_)) => return self.bypass(load).await,
                    }
                    if Instant::now() >= deadline {
                        return self.load_unleased(load, Source::Loaded).await;
                    }
                }
                Ok((LookedUp::Taken(left), _)) => {
                    if self.start.need == Need::Refresh {
                        return self.land(Ended::Resting(left), ALL);
                    }
                    let now = Instant::now();
                    if now >= deadline {
                        return self.load_unleased(load, Source::Loaded).await;
                    }
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

/// What became of a loaded value.
pub(crate) enum Kept<V> {
    Written(Hit<V>),
    /// It was not to be kept, something happened to the entry meanwhile, or Redis did not take it.
    Not(Option<Arc<V>>),
    /// An entry of a newer version is there.
    Newer(Option<Arc<V>>),
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

    /// Writes what was loaded, where the leases stand. One round trip; two more when there are tags.
    pub(crate) async fn keep(
        &self,
        leased: Vec<(Lease<V>, Loaded<Option<V>>)>,
        snapshot: &Snapshot,
        cost: Duration,
        announce: Announce,
    ) -> Vec<Result<Kept<V>, Error>> {
        let lives: Vec<_> = leased
            .iter()
            .map(|(_, loaded)| self.lifetime(loaded.value.is_none(), &loaded.keep))
            .collect();
        let lifetime_ms = lives
            .iter()
            .flatten()
            .map(|(ttl, grace)| millis(*ttl).saturating_add(millis(*grace)))
            .max();
        let tags: HashSet<_> = leased
            .iter()
            .flat_map(|(_, loaded)| loaded.keep.tags.iter().cloned())
            .collect();
        let tags: Vec<_> = tags.into_iter().collect();
        let opened = self
            .open_tags(&tags, snapshot, lifetime_ms.unwrap_or(0))
            .await
            .inspect_err(|error| self.cannot_keep(error))
            .unwrap_or_default();

        let mut outcomes = Vec::with_capacity(leased.len());
        let (mut fills, mut released) = (Vec::new(), Vec::new());
        for ((lease, Loaded { value, keep }), life) in leased.into_iter().zip(lives) {
            let tags: Option<Vec<_>> = keep
                .tags
                .iter()
                .map(|tag| opened.get_key_value(tag))
                .map(|open| open.map(|(tag, generation)| (tag.clone(), *generation)))
                .collect();
            let encoded = match &value {
                Some(value) => {
                    let key = lease.keys.entry.as_bytes();
                    self.client.codec().encode(key, value)
                }
                None => Ok(Bytes::new()),
            };
            let value = value.map(Arc::new);
            outcomes.push(match (life, tags, encoded) {
                (None, _, _) => {
                    released.push(lease);
                    Ok(Kept::Not(value))
                }
                (Some(_), None, _) => {
                    self.numbers.fenced.add_one();
                    released.push(lease);
                    Ok(Kept::Not(value))
                }
                (_, _, Err(error)) => {
                    released.push(lease);
                    Err(error.into())
                }
                (Some((ttl, grace)), Some(tags), Ok(raw)) => {
                    let head = Head {
                        id: Id::random(),
                        ttl,
                        grace,
                        cost,
                        version: keep.version,
                        is_negative: value.is_none(),
                        generation: self.settings.clearable.then_some(snapshot.generation),
                        tags,
                    };
                    let entry = head.encode(&raw);
                    // What becomes of it is put in its place below.
                    fills.push((outcomes.len(), lease, head, entry));
                    Ok(Kept::Not(value))
                }
            });
        }
        let fill = self.fill(
            fills
                .iter()
                .map(|(_, lease, head, entry)| (&lease.keys, lease.token, head, entry)),
            snapshot,
            announce,
        );
        let release = join_all(released.into_iter().map(Lease::release));
        let (filled, _) = tokio::join!(fill, release);
        for ((at, _lease, head, _), filled) in fills.into_iter().zip(filled) {
            let Some(outcome) = outcomes.get_mut(at) else {
                continue;
            };
            let Ok(Kept::Not(value)) = outcome else {
                continue;
            };
            let value = value.take();
            *outcome = Ok(match filled {
                Ok(Filled::Written) => Kept::Written(Hit {
                    id: head.id,
                    value,
                    life: Life {
                        ttl: head.ttl,
                        left: head.ttl,
                        cost,
                    },
                    tags: head.tags,
                }),
                Ok(Filled::Fenced) => {
                    self.numbers.fenced.add_one();
                    Kept::Not(value)
                }
                Ok(Filled::Newer) => Kept::Newer(value),
                Err(error) => {
                    self.cannot_keep(&error);
                    Kept::Not(value)
                }
            });
        }
        outcomes
    }

    /// [`Store::keep`] for one value.
    ///
    /// # Errors
    /// When the value cannot be encoded.
    pub(crate) async fn keep_one(
        &self,
        lease: Lease<V>,
        snapshot: &Snapshot,
        loaded: Loaded<Option<V>>,
        cost: Duration,
        announce: Announce,
    ) -> Result<Kept<V>, Error> {
        let kept = self.keep(vec![(lease, loaded)], snapshot, cost, announce);
        kept.await.pop().unwrap_or(Ok(Kept::Not(None)))
    }

    pub(crate) fn cannot_keep(&self, error: &redkit_core::Error) {
        self.numbers.fill_failures.add_one();
        tracing::warn!(target: "redkit::cache", cache = %self.name, %error, "cannot keep a value");
    }

    /// For how long a value is kept, and for how long after that as a stale one; `None` when it is
    /// not kept.
    pub(crate) fn lifetime(&self, is_none: bool, keep: &Keep) -> Option<(Duration, Duration)> {
        let settings = &self.settings;
        let usual = match is_none {
            true => settings.negative_ttl,
            false => Some(settings.ttl),
        };
        let ttl = bounded(keep.ttl.or(usual)?);
        if keep.not || ttl < A_MOMENT {
            return None;
        }
        let ttl = match settings.ttl_jitter {
            jitter if jitter > 0.0 => ttl
                .mul_f64(1.0 - jitter * rand::random::<f64>())
                .max(A_MOMENT),
            _ => ttl,
        };
        let grace = match is_none {
            true => Duration::ZERO,
            false => bounded(keep.stale_for.unwrap_or(settings.stale_for)),
        };
        Some((ttl, grace))
    }

    fn shared_error(&self, keys: &EntryKeys, raw: Bytes) -> Option<crate::LoadError> {
        let codec = self.errors.as_ref()?;
        codec.decode(raw, self.client.codec(), keys.entry.as_bytes())
    }
}

/// A lease that this process holds. A task renews it until it is given back or dropped; then it
/// ends by itself.
pub(crate) struct Lease<V> {
    store: Arc<Store<V>>,
    pub(crate) keys: EntryKeys,
    token: Id,
    /// One for all that were taken together.
    _renewal: Arc<AbortOnDropHandle<()>>,
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Lease<V> {
    pub(crate) fn new(store: &Arc<Store<V>>, keys: &EntryKeys, token: Id) -> Self {
        let renewal = Renewal::start(store, vec![keys.lease.clone()], token);
        Self::renewed_by(renewal, store, keys, token)
    }

    /// One of several leases with the same token.
    pub(crate) fn renewed_by(
        renewal: Renewal,
        store: &Arc<Store<V>>,
        keys: &EntryKeys,
        token: Id,
    ) -> Self {
        Self {
            store: Arc::clone(store),
            keys: keys.clone(),
            token,
            _renewal: renewal.0,
        }
    }

    /// Gives the lease back; the next one may load.
    pub(crate) async fn release(self) {
        self.end(Duration::ZERO, &[]).await;
    }

    /// Gives it back after a load that failed: those who have a stale value leave the source alone
    /// for a while, and those who wait are told of the error.
    pub(crate) async fn fail(self, error: &Error, need: Need) {
        let rest = match need {
            Need::All => Duration::ZERO,
            Need::Better | Need::Refresh => self.store.settings.retry_after,
        };
        let raw = match (error, &self.store.errors) {
            (Error::Load(error), Some(codec)) => {
                let key = self.keys.entry.as_bytes();
                codec.encode(error, self.store.client.codec(), key)
            }
            _ => Bytes::new(),
        };
        self.end(rest, &raw).await;
    }

    async fn end(self, rest: Duration, error: &[u8]) {
        let released = self.store.release(&self.keys, self.token, rest, error);
        if let Err(error) = released.await {
            // It ends by itself.
            tracing::debug!(target: "redkit::cache", cache = %self.store.name, %error, "lease not released");
        }
    }
}

/// The task that renews leases until all of them are given back, dropped or lost.
#[derive(Clone)]
pub(crate) struct Renewal(Arc<AbortOnDropHandle<()>>);

impl Renewal {
    pub(crate) fn start<V: Send + Sync + 'static>(
        store: &Arc<Store<V>>,
        leases: Vec<Key>,
        token: Id,
    ) -> Self {
        let task = renew(Arc::clone(store), leases, token);
        Self(Arc::new(AbortOnDropHandle::new(tokio::spawn(task))))
    }
}

async fn renew<V>(store: Arc<Store<V>>, mut leases: Vec<Key>, token: Id) {
    let ttl = store.settings.lease;
    while !leases.is_empty() {
        sleep(ttl / 3).await;
        let renewals = leases
            .iter()
            .map(|lease| scripts::renew(lease, token, millis(ttl)).into())
            .collect();
        if let Ok(replies) = store.run_all(renewals).await {
            let mut replies = replies.into_iter();
            // What was lost or given back is not asked for again; what was not answered is.
            leases.retain(|_| !matches!(replies.next(), Some(Ok(Value::Int(0)))));
        }
    }
}

/// A panic's own message went to the panic hook; its payload may be anything.
fn panicked(_: &(dyn Any + Send)) -> Error {
    Error::LoaderPanicked
}

/// The shortest time that the server knows.
pub(crate) const A_MOMENT: Duration = Duration::from_millis(1);
