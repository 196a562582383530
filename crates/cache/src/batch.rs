//! [`Batch`]: the flights of several keys as one task. What [`Flight`](crate::load::Flight) does for
//! one key, with one look-up and one load for all.

use std::collections::HashMap;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all, select_all};
use redkit_core::ToArg;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::join;
use tokio::time::{Instant, timeout};

use crate::error::Error;
use crate::fetched::{Keep, Loaded, Source};
use crate::flight::{ALL, Lead};
use crate::id::Id;
use crate::keep::Kept;
use crate::lease::{Lease, Renewal};
use crate::level::Ticket;
use crate::load::{Ended, Start};
use crate::names::EntryKeys;
use crate::scripts::{Announce, Asker, LookedUp, Snapshot};
use crate::settings::A_MOMENT;
use crate::store::{ReadError, Seen, Store};

/// The user's loader for several keys.
pub(crate) type LoadMany<K, V> =
    dyn Fn(Vec<K>) -> BoxFuture<'static, Result<HashMap<K, Loaded<V>>, Error>> + Send + Sync;

pub(crate) struct Batch<K, V> {
    store: Arc<Store<V>>,
    load: Arc<LoadMany<K, V>>,
}

/// One key of a batch.
pub(crate) struct Member<K, V> {
    pub(crate) key: K,
    pub(crate) bytes: Box<[u8]>,
    pub(crate) keys: EntryKeys,
    pub(crate) lead: Lead<Ended<V>>,
    pub(crate) start: Start,
}

/// A member whose lease is held.
struct Leased<K, V> {
    member: Member<K, V>,
    lease: Lease<V>,
    ticket: Option<Ticket>,
}

impl<K, V> Batch<K, V>
where
    K: ToArg + Clone + Eq + Hash + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    pub(crate) fn new(store: Arc<Store<V>>, load: Arc<LoadMany<K, V>>) -> Self {
        Self { store, load }
    }

    pub(crate) async fn fly(self, members: Vec<Member<K, V>>) {
        let store = &*self.store;
        let deadline = Instant::now() + store.settings.wait_timeout();
        let (unreachable, mut pending): (Vec<_>, Vec<_>) = members
            .into_iter()
            .partition(|member| member.start.is_unreachable);
        self.bypass(unreachable).await;
        let mut asker = Asker::new();
        let mut waiters = None;
        while !pending.is_empty() {
            let tickets: Vec<_> = pending
                .iter()
                .map(|member| {
                    store
                        .level
                        .as_ref()
                        .map(|level| level.ticket(&member.bytes))
                })
                .collect();
            let stages: Vec<_> = pending
                .iter()
                .map(|member| member.lead.next_stage())
                .collect();
            let looks = pending
                .iter()
                .map(|member| (&member.keys, member.start.not_this, member.start.need));
            let (snapshot, found) = match store.look_up_all(looks, asker).await {
                Ok(found) => found,
                Err(error) => {
                    if let Some(again) = asker.again(&error) {
                        asker = again;
                        continue;
                    }
                    tracing::debug!(target: "redkit::cache", cache = %store.name, %error, "look-up failed");
                    return self.bypass(pending).await;
                }
            };
            let (mut leased, mut taken, mut unreachable) = (Vec::new(), Vec::new(), Vec::new());
            let (mut shortest, mut again) = (Duration::MAX, None);
            let looked = pending.into_iter().zip(tickets).zip(stages).zip(found);
            for (((mut member, ticket), good_for), found) in looked {
                match found {
                    Err(error) if asker.again(&error).is_some() => {
                        again = again.or_else(|| asker.again(&error));
                        shortest = Duration::ZERO;
                        taken.push(member);
                    }
                    // Errors are asked for by those who wait for one key.
                    Err(_) | Ok(LookedUp::Failed(_)) => unreachable.push(member),
                    Ok(LookedUp::Leased) => {
                        leased.push((member, ticket));
                    }
                    Ok(LookedUp::Resting(left)) => member.lead.land(Ended::Resting(left), ALL),
                    Ok(LookedUp::Taken(left, _)) => {
                        shortest = shortest.min(left);
                        taken.push(member);
                    }
                    Ok(LookedUp::Fresh(raw, left)) => {
                        let seen = store.judge_again(&member.keys, raw, left, &snapshot).await;
                        match seen {
                            Ok(Seen::Fresh(hit)) => {
                                if let (Some(level), Some(ticket)) = (&store.level, ticket) {
                                    level.put(&member.bytes, ticket, &hit);
                                }
                                store.numbers.hits.add_one();
                                let ended = Ended::Value(hit.value, Source::Hit);
                                member.lead.land(ended, good_for);
                                continue;
                            }
                            Ok(Seen::Void(id)) => {
                                member.start.not_this = member.start.not_this.and(Some(id));
                            }
                            Err(ReadError::Undecodable(id, _)) => {
                                member.start.not_this = member.start.not_this.and(id);
                            }
                            _ => {}
                        }
                        shortest = Duration::ZERO;
                        taken.push(member);
                    }
                }
            }
            let leased = self.hold(leased, asker.token);
            asker = again.unwrap_or(asker);
            join!(self.load(leased, snapshot), self.bypass(unreachable));
            pending = taken;
            if pending.is_empty() {
                return;
            }
            let now = Instant::now();
            if now >= deadline {
                return self.load_unleased(pending, Source::Loaded).await;
            }
            // As for one key: take the places, look once more, and wait then.
            match &mut waiters {
                None => {
                    let places = pending
                        .iter()
                        .map(|member| store.wakes.watch(&member.keys.entry));
                    waiters = Some(join_all(places).await);
                }
                Some(waiters) => {
                    store.numbers.waits.add_one();
                    let limit = shortest.saturating_add(A_MOMENT).min(deadline - now);
                    let any = waiters.iter_mut().map(|waiter| waiter.wait(limit).boxed());
                    select_all(any).await;
                }
            }
        }
    }

    /// One renewal for all of them.
    fn hold(&self, taken: Vec<(Member<K, V>, Option<Ticket>)>, token: Id) -> Vec<Leased<K, V>> {
        if taken.is_empty() {
            return Vec::new();
        }
        let leases = taken.iter().map(|(member, _)| member.keys.lease.clone());
        let renewal = Renewal::start(&self.store, leases.collect(), token);
        let hold = |(member, ticket): (Member<K, V>, _)| Leased {
            lease: Lease::renewed_by(
                renewal.clone(),
                &self.store,
                &member.keys,
                token,
                member.start.need,
            ),
            member,
            ticket,
        };
        taken.into_iter().map(hold).collect()
    }

    async fn bypass(&self, members: Vec<Member<K, V>>) {
        if members.is_empty() {
            return;
        }
        let store = &*self.store;
        members
            .iter()
            .for_each(|_| store.numbers.bypasses.add_one());
        // The whole batch is one load.
        let permit = timeout(store.settings.load_timeout, store.bypass.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            store.numbers.overloads.add_one();
            for member in members {
                member.lead.land(Ended::Failed(Error::Overloaded), ALL);
            }
            return;
        };
        self.load_unleased(members, Source::Bypassed).await;
    }

    async fn load_unleased(&self, members: Vec<Member<K, V>>, source: Source) {
        let stages: Vec<_> = members
            .iter()
            .map(|member| member.lead.next_stage())
            .collect();
        let mut loaded = self
            .run(members.iter().map(|m| m.key.clone()).collect())
            .await;
        for (member, good_for) in members.into_iter().zip(stages) {
            match &mut loaded {
                Ok(loaded) => {
                    let value = loaded.remove(&member.key).map(|l| Arc::new(l.value));
                    member.lead.land(Ended::Value(value, source), good_for);
                }
                Err(error) => member.lead.land(Ended::Failed(error.clone()), ALL),
            }
        }
    }

    async fn load(&self, leased: Vec<Leased<K, V>>, snapshot: Snapshot) {
        if leased.is_empty() {
            return;
        }
        let store = &*self.store;
        leased.iter().for_each(|_| store.numbers.misses.add_one());
        let stages: Vec<_> = leased
            .iter()
            .map(|leased| leased.member.lead.next_stage())
            .collect();
        let begun = Instant::now();
        let keys = leased.iter().map(|leased| leased.member.key.clone());
        let mut loaded = match self.run(keys.collect()).await {
            Ok(loaded) => loaded,
            Err(error) => {
                let ends = leased.into_iter().map(|leased| {
                    let error = error.clone();
                    async move {
                        leased.lease.fail(&error, leased.member.start.need).await;
                        leased.member.lead.land(Ended::Failed(error), ALL);
                    }
                });
                join_all(ends).await;
                return;
            }
        };
        let cost = begun.elapsed();
        let (mut members, mut to_keep) = (Vec::new(), Vec::new());
        for (leased, good_for) in leased.into_iter().zip(stages) {
            let (value, keep) = match loaded.remove(&leased.member.key) {
                Some(Loaded { value, keep }) => (Some(value), keep),
                None => (None, Keep::default()),
            };
            to_keep.push((leased.lease, Loaded { value, keep }));
            let good_if_written = leased.member.lead.next_stage();
            members.push((leased.member, leased.ticket, good_for, good_if_written));
        }
        let kept = store.keep(to_keep, &snapshot, cost, Announce::Not).await;
        for ((member, ticket, good_for, good_if_written), kept) in members.into_iter().zip(kept) {
            let value = |value| Ended::Value(value, Source::Loaded);
            match kept {
                Err(error) => member.lead.land(Ended::Failed(error), ALL),
                Ok(Kept::Written(hit)) => {
                    if let (Some(level), Some(ticket)) = (&store.level, ticket) {
                        level.put(&member.bytes, ticket, &hit);
                    }
                    member.lead.land(value(hit.value), good_if_written);
                }
                Ok(Kept::Not(loaded)) => member.lead.land(value(loaded), good_for),
                Ok(Kept::Newer(older)) => {
                    let newer = member.lead.next_stage();
                    match store.read(&member.keys).await {
                        Ok(Seen::Fresh(hit)) => member.lead.land(value(hit.value), newer),
                        _ => member.lead.land(value(older), good_for),
                    }
                }
            }
        }
    }

    /// Runs the loader, bounded, and catches its panic.
    async fn run(&self, keys: Vec<K>) -> Result<HashMap<K, Loaded<V>>, Error> {
        let numbers = &self.store.numbers;
        let asked = keys.len();
        let limit = self.store.settings.load_timeout;
        let load = AssertUnwindSafe((self.load)(keys)).catch_unwind();
        let outcome = match timeout(limit, load).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Error::LoaderPanicked),
            Err(_) => Err(Error::LoadTimeout(limit)),
        };
        for _ in 0..asked {
            match &outcome {
                Ok(_) => numbers.loads.add_one(),
                Err(_) => numbers.load_failures.add_one(),
            }
        }
        outcome
    }
}
