//! [`LoadTask`]: the way of a miss, for one key or several, in a task of its own. It looks the keys
//! up and asks for their leases; waits where another process holds the lease; loads what it has
//! leases for; and writes that under the leases.

mod loading;
mod member;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all, select_all};
use redkit_core::coordination::{Release, Wake, WakeUp};
use redkit_core::{CallError, Error as CoreError, FaultKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::join;
use tokio::time::Instant;

use self::loading::Leased;
pub(crate) use self::member::{LoadRequest, Member};
use crate::entry::Hit;
use crate::error::{Error, LoadError};
use crate::fetched::{Loaded, Source};
use crate::id::LeaseToken;
use crate::lease::Lease;
use crate::load_outcome::LoadOutcome;
use crate::names::EntryKeys;
use crate::scripts::{self, Have, LookUp, LookUpReply, Snapshot};
use crate::settings::A_MOMENT;
use crate::store::{LookUpFailure, Lookup, Store};

/// The user's loader: gives the values of the members with these indices, in their order.
pub(crate) type Loader<V> = Box<
    dyn Fn(&[usize]) -> BoxFuture<'static, Result<Vec<Loaded<Option<V>>>, Error>> + Send + Sync,
>;

pub(crate) struct LoadTask<V> {
    store: Arc<Store<V>>,
    loader: Loader<V>,
}

/// Where the members go after a look-up.
struct Sorted<V> {
    /// Members that have their leases.
    leased: Vec<Member<V>>,
    /// Members of which nothing can be read.
    unreachable: Vec<Member<V>>,
    /// To be looked up again.
    pending: Vec<Member<V>>,
    /// Whether that is to be done at once.
    look_again: bool,
    /// How long the first of the other processes' leases lasts.
    shortest: Duration,
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> LoadTask<V> {
    pub(crate) fn new(store: Arc<Store<V>>, loader: Loader<V>) -> Self {
        Self { store, loader }
    }

    /// Completes every member, one way or another.
    pub(crate) async fn run(self, members: Vec<Member<V>>) {
        let (unreachable, reachable): (Vec<_>, Vec<_>) = members
            .into_iter()
            .partition(|member| member.request.is_unreachable);
        join!(self.bypass(unreachable), self.look_up_until_done(reachable));
    }

    async fn look_up_until_done(&self, mut pending: Vec<Member<V>>) {
        if pending.is_empty() {
            return;
        }
        let store = &*self.store;
        let deadline = Instant::now() + store.settings.wait_timeout();
        let Ok(mut token) = self.new_token(&pending).await else {
            return self.bypass(pending).await;
        };
        // The token of a look-up that was not answered, and may still arrive.
        let mut unanswered = None;
        let mut is_last_look = false;
        loop {
            // 1. Look up, and ask for the leases.
            for member in &mut pending {
                member.begin_look_up(&self.store);
            }
            let look_ups = pending.iter().map(|member| LookUp {
                keys: &member.request.keys,
                rejected: member.request.rejected,
                have: member.request.have,
                awaited: member.awaited,
            });
            let sent = Instant::now();
            let looked_up = store.look_up(look_ups, token, unanswered).await;
            let mut sorted = Sorted::new();
            let (snapshot, replies) = match looked_up {
                Ok(looked_up) => looked_up,
                Err(failure) if unanswered.is_none() && may_be_asked_again(&failure.error) => {
                    unanswered = Some(token);
                    token = LeaseToken::random(token.generation);
                    continue;
                }
                Err(LookUpFailure { error, may_hold }) => {
                    tracing::debug!(target: "redkit::cache", cache = %store.name, %error, "look-up failed");
                    let holders = pending.iter().zip(may_hold);
                    let holders = holders.filter_map(|(member, may)| may.then_some(member));
                    self.give_back(holders, token, sent);
                    if let Some(unanswered) = unanswered {
                        self.give_back(&pending, unanswered, sent);
                    }
                    return self.bypass(pending).await;
                }
            };
            let can_ask_again = unanswered.is_none();
            let lost_reply =
                |reply: &Result<_, _>| matches!(reply, Err(error) if may_be_asked_again(error));
            let is_unanswered = can_ask_again && replies.iter().any(lost_reply);
            for (member, reply) in pending.into_iter().zip(replies) {
                match reply {
                    Ok(reply) => self.sort(member, reply, &snapshot, &mut sorted).await,
                    Err(error) if can_ask_again && may_be_asked_again(&error) => {
                        sorted.look_again(member);
                    }
                    Err(error) => {
                        let tokens = error.is_maybe().then_some(token);
                        for token in tokens.into_iter().chain(unanswered) {
                            self.give_back([&member], token, sent);
                        }
                        sorted.unreachable.push(member);
                    }
                }
            }
            // 2. to 4. Lease, load, fenced write.
            let leased = self.hold(sorted.leased, token, sent);
            let has_loaded = !leased.is_empty();
            join!(
                self.load(leased, &snapshot),
                self.bypass(sorted.unreachable)
            );
            if is_unanswered {
                unanswered = Some(token);
                token = LeaseToken::random(token.generation);
            }
            pending = sorted.pending;
            if pending.is_empty() {
                return;
            }
            // Or wait for the processes that hold the other leases.
            let now = Instant::now();
            // While this process loaded, the others may have filled what is waited for: look once more.
            if has_loaded && !is_last_look {
                is_last_look = now >= deadline;
                continue;
            }
            if now >= deadline {
                // The other processes that wait would each ask the source at the same time. A caller that has a value which
                // others are given all the while can do without.
                let (given_up, needed): (Vec<_>, Vec<_>) = pending
                    .into_iter()
                    .partition(|member| member.request.have == Have::Unwanted);
                for member in given_up {
                    member.end(LoadOutcome::GivenUp);
                }
                return self.load_unleased(needed, Source::Loaded).await;
            }
            if !sorted.look_again {
                let limit = sorted.shortest.saturating_add(A_MOMENT);
                pending = self.wait(pending, limit.min(deadline - now)).await;
            }
            if pending.is_empty() {
                return;
            }
        }
    }

    /// Gives back, in the background, the leases of members that go on without them: a look-up with this
    /// token, sent at `sent` or before, may have taken them all the same, or take them yet. Otherwise
    /// every caller of the keys would wait for leases that nobody holds.
    fn give_back<'m>(
        &self,
        members: impl IntoIterator<Item = &'m Member<V>>,
        token: LeaseToken,
        sent: Instant,
    ) where
        V: 'm,
    {
        let store = &*self.store;
        let release = |member: &Member<V>| {
            scripts::release(&member.request.keys, &store.names, token, 0, b"", 0)
        };
        let releases: Vec<_> = members.into_iter().map(release).collect();
        if !releases.is_empty() {
            let runs_out = sent + store.settings.lease;
            store
                .client
                .release_later(Release::new(releases).until(runs_out));
        }
    }

    /// A token that tells later callers whether the cache was cleared since.
    async fn new_token(&self, members: &[Member<V>]) -> Result<LeaseToken, CoreError> {
        let store = &*self.store;
        if !store.settings.clearable {
            return Ok(LeaseToken::random(None));
        }
        let seen = members.iter().find_map(|member| member.request.generation);
        let generation = match seen.or_else(|| store.known_generation()) {
            Some(generation) => generation,
            // The cache is new, or has lost its generation: this makes one.
            None => store.snapshot_in_time().await?.generation,
        };
        Ok(LeaseToken::random(Some(generation)))
    }

    /// Sorts a member by the reply to its look-up.
    async fn sort(
        &self,
        mut member: Member<V>,
        reply: LookUpReply,
        snapshot: &Snapshot,
        sorted: &mut Sorted<V>,
    ) {
        let store = &*self.store;
        match reply {
            LookUpReply::Leased => sorted.leased.push(member),
            // Its own failure: before that of the load that it has waited for, the source is asked again.
            LookUpReply::Resting(_) if member.request.have == Have::Unwanted => {
                member.end(LoadOutcome::GivenUp);
            }
            LookUpReply::Resting(left) => member.end(LoadOutcome::Resting(left)),
            LookUpReply::Taken(left, _) if member.request.have == Have::Fresh => {
                member.end(LoadOutcome::Resting(left));
            }
            LookUpReply::Taken(left, owner) => {
                member.awaited = owner;
                sorted.shortest = sorted.shortest.min(left);
                sorted.pending.push(member);
            }
            LookUpReply::Failed(raw) => match store.shared_error(&member.request.keys, raw) {
                Some(error) => member.end(LoadOutcome::Failed(error)),
                // It cannot be read here: as if it had not been shared.
                None if member.request.have == Have::Unwanted => member.end(LoadOutcome::GivenUp),
                None => {
                    member.awaited = None;
                    sorted.look_again(member);
                }
            },
            LookUpReply::Fresh(raw, left) => {
                let keys = &member.request.keys;
                let lookup = store.judge(keys, raw, left, snapshot).await;
                match lookup {
                    Ok(Lookup::Fresh(hit)) if hit.value.is_some() || member.request.takes_none => {
                        member.keep_in_process(store, &hit);
                        store.metrics.hits.add_one();
                        let source = match member.waiter.is_some() {
                            true => Source::Shared,
                            false => Source::Redis,
                        };
                        member.give(hit.value, source, Some(hit.id));
                    }
                    Ok(Lookup::Fresh(Hit { id, .. }) | Lookup::Invalidated(id)) => {
                        member.request.rejected = member.request.rejected.and(Some(id));
                        sorted.look_again(member);
                    }
                    Ok(Lookup::Undecodable(id, _)) => {
                        member.request.rejected = member.request.rejected.and(id);
                        sorted.look_again(member);
                    }
                    // Its time has ended on the way.
                    Ok(Lookup::Stale(_) | Lookup::Missing) => sorted.look_again(member),
                    Err(_) => sorted.unreachable.push(member),
                }
            }
        }
    }

    /// Waits until one of the loads of other processes has ended, at most for `limit`; gives the
    /// members that are to be looked up again.
    async fn wait(&self, mut members: Vec<Member<V>>, limit: Duration) -> Vec<Member<V>> {
        let store = &*self.store;
        if members.iter().any(|member| member.waiter.is_none()) {
            let watch = |member: &Member<V>| {
                let (channel, key) = (
                    store.names.wake.clone(),
                    member.request.keys.entry.to_bytes(),
                );
                store.client.waiter(channel, key, Wake::All)
            };
            let waiters = join_all(members.iter().map(watch)).await;
            for (member, waiter) in members.iter_mut().zip(waiters) {
                member.waiter = Some(waiter);
            }
            // Looked up once more from here, nothing is missed.
            return members;
        }
        store.metrics.waits.add_one();
        let waits: Vec<_> = members
            .iter_mut()
            .filter_map(|member| member.waiter.as_mut())
            .map(|waiter| waiter.wait(limit).boxed())
            .collect();
        let (woken, index, _) = select_all(waits).await;
        if let Some(raw) = shared_error_of(woken)
            && let Some(member) = members.get(index)
            && let Some(error) = store.shared_error(&member.request.keys, raw)
        {
            members.swap_remove(index).end(LoadOutcome::Failed(error));
        }
        members
    }

    /// Holds the leases that a look-up sent at `sent` took.
    fn hold(&self, members: Vec<Member<V>>, token: LeaseToken, sent: Instant) -> Vec<Leased<V>> {
        let hold = |member: Member<V>| {
            let LoadRequest { keys, have, .. } = &member.request;
            let lease = Lease::hold(&self.store, keys, *have, token, sent);
            member.leader.holds(token);
            Leased { member, lease }
        };
        members.into_iter().map(hold).collect()
    }
}

impl<V> Sorted<V> {
    fn new() -> Self {
        Self {
            leased: Vec::new(),
            unreachable: Vec::new(),
            pending: Vec::new(),
            look_again: false,
            shortest: Duration::MAX,
        }
    }

    fn look_again(&mut self, member: Member<V>) {
        self.look_again = true;
        self.pending.push(member);
    }
}

impl<V> Store<V> {
    fn shared_error(&self, keys: &EntryKeys, raw: Bytes) -> Option<Error> {
        let codec = self.errors.as_ref()?;
        let error: LoadError = codec.decode(raw, self.client.codec(), keys.entry.as_bytes())?;
        Some(Error::Load(error))
    }
}

/// The error of the load that a caller waited for, when it was woken by that.
fn shared_error_of(woken: WakeUp) -> Option<Bytes> {
    match woken {
        WakeUp::Message(payload) if payload.first() == Some(&b'e') => Some(payload.slice(1..)),
        WakeUp::Message(_) | WakeUp::Look => None,
    }
}

/// Whether a look-up is worth asking once more after this error, under another token: the first may
/// still arrive, when the lease that it then takes has long been lost, and no load must be kept under
/// that one.
fn may_be_asked_again(error: &CoreError) -> bool {
    let CoreError::Call { error, .. } = error else {
        return false;
    };
    matches!(error, CallError::Maybe(fault) if fault.kind() == FaultKind::Disconnected)
}
