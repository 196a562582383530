//! Single flight in the process: one load per key at a time. The caller that starts it is its
//! *leader*; callers that ask meanwhile are *followers* and get the same outcome, as far as it is
//! young enough for them.
//!
//! A caller that asks after an invalidation was acknowledged must not be given a value that was read
//! before it. A leader therefore draws a [`Cutoff`] before each reading, and completes with the one of
//! the reading that gave the outcome: followers that joined later than that ask again, together.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Mutex, MutexGuard};
use redkit_core::Key;
use tokio::sync::watch;

use crate::id::LeaseToken;

/// The loads in progress.
pub(crate) struct SingleFlight<T> {
    by_key: Mutex<ByKey<T>>,
}

type ByKey<T> = HashMap<Key, Arc<InFlight<T>>>;

/// A load in progress.
struct InFlight<T> {
    state: watch::Sender<State<T>>,
    /// Counts the cutoffs that the leader has drawn.
    cutoffs: AtomicU32,
    /// How many cutoffs had been drawn when the last follower joined.
    last_joined: AtomicU32,
    /// The leading end, while nobody has taken it.
    unclaimed: Weak<Mutex<Option<Leader<T>>>>,
    /// The lease under which the value is loaded, once it is held.
    lease: OnceLock<LeaseToken>,
}

enum State<T> {
    Running,
    Completed {
        outcome: T,
        cutoff: Cutoff,
        /// The next load, for the followers that joined too late for this outcome.
        next: Option<Next<T>>,
    },
    /// The leader went away without an outcome.
    Abandoned,
}

/// A load that waits for one of the followers that were too late for the load before to lead it. It is
/// gone with the last of them.
struct Next<T> {
    in_flight: Arc<InFlight<T>>,
    leader: Arc<Mutex<Option<Leader<T>>>>,
}

/// A line between followers: an outcome is young enough for all that had joined when it was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cutoff(u32);

impl Cutoff {
    /// The outcome is no value that could be too old: an error, say.
    pub(crate) const NONE: Self = Self(u32::MAX);
}

/// The role that a caller has after joining.
pub(crate) enum Join<T> {
    /// It leads a load, and waits for the outcome like any follower.
    Leader(Leader<T>, Follower<T>),
    Follower(Follower<T>),
}

/// The leading end of a load. Dropping it ends the load without an outcome.
pub(crate) struct Leader<T> {
    single_flight: Weak<SingleFlight<T>>,
    key: Key,
    in_flight: Arc<InFlight<T>>,
}

/// The waiting end of a load.
pub(crate) struct Follower<T> {
    state: watch::Receiver<State<T>>,
    joined_at: Cutoff,
}

/// How a load ended for one of its followers.
pub(crate) enum Completion<T> {
    Outcome(T),
    /// The outcome is too old for this follower, which has joined the load that comes next.
    TooOld(Join<T>),
    /// The leader went away: its task panicked or was ended.
    Abandoned,
}

/// A load in progress whose lease is held, as a caller saw it before it looked into the cache.
pub(crate) struct Leased<T>(Arc<InFlight<T>>, LeaseToken);

impl<T> Leased<T> {
    pub(crate) fn token(&self) -> LeaseToken {
        self.1
    }
}

impl<T: Clone> SingleFlight<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            by_key: Mutex::default(),
        })
    }

    /// Joins the load of `key`, or starts one.
    pub(crate) fn join(self: &Arc<Self>, key: &Key) -> Join<T> {
        let by_key = self.by_key.lock();
        let Some(in_flight) = by_key.get(key) else {
            return self.insert(by_key, key);
        };
        let follower = in_flight.join();
        let unclaimed = in_flight.unclaimed.upgrade();
        drop(by_key);
        match unclaimed.and_then(|leader| leader.lock().take()) {
            Some(leader) => Join::Leader(leader, follower),
            None => Join::Follower(follower),
        }
    }

    /// Starts a load of `key` even if there is one; callers join this one from now on.
    pub(crate) fn start(self: &Arc<Self>, key: &Key) -> Join<T> {
        self.insert(self.by_key.lock(), key)
    }

    fn insert(self: &Arc<Self>, mut by_key: MutexGuard<'_, ByKey<T>>, key: &Key) -> Join<T> {
        let in_flight = Arc::new(InFlight::new(Weak::new()));
        let follower = in_flight.join();
        let replaced = by_key.insert(key.clone(), Arc::clone(&in_flight));
        drop(by_key);
        // Not under the lock: dropping the last handle of a load takes the lock itself.
        drop(replaced);
        let leader = Leader {
            single_flight: Arc::downgrade(self),
            key: key.clone(),
            in_flight,
        };
        Join::Leader(leader, follower)
    }

    /// The load of `key`, if there is one that holds its lease.
    pub(crate) fn leased(&self, key: &Key) -> Option<Leased<T>> {
        let by_key = self.by_key.lock();
        let in_flight = by_key.get(key)?;
        let token = *in_flight.lease.get()?;
        Some(Leased(Arc::clone(in_flight), token))
    }

    /// Makes callers start anew that ask for `key` from now on: the load in progress is obsolete.
    pub(crate) fn detach(&self, key: &Key) {
        let detached = self.by_key.lock().remove(key);
        drop(detached);
    }

    /// The same, unless another load has taken the place of this one.
    pub(crate) fn detach_obsolete(&self, key: &Key, obsolete: &Leased<T>) {
        let mut by_key = self.by_key.lock();
        let is_listed = |in_flight: &Arc<InFlight<T>>| Arc::ptr_eq(in_flight, &obsolete.0);
        let detached = match by_key.get(key).is_some_and(is_listed) {
            true => by_key.remove(key),
            false => None,
        };
        drop(by_key);
        drop(detached);
    }

    /// [`SingleFlight::detach`] for all keys.
    pub(crate) fn detach_all(&self) {
        let all = std::mem::take(&mut *self.by_key.lock());
        drop(all);
    }
}

impl<T> InFlight<T> {
    fn new(unclaimed: Weak<Mutex<Option<Leader<T>>>>) -> Self {
        Self {
            state: watch::Sender::new(State::Running),
            cutoffs: AtomicU32::new(0),
            last_joined: AtomicU32::new(0),
            unclaimed,
            lease: OnceLock::new(),
        }
    }

    fn join(&self) -> Follower<T> {
        let state = self.state.subscribe();
        let joined_at = self.cutoffs.load(Ordering::SeqCst);
        self.last_joined.fetch_max(joined_at, Ordering::SeqCst);
        Follower {
            state,
            joined_at: Cutoff(joined_at),
        }
    }
}

impl<T> Next<T> {
    fn new(single_flight: Weak<SingleFlight<T>>, key: Key) -> Self {
        let leader = Arc::new(Mutex::new(None));
        let in_flight = Arc::new(InFlight::new(Arc::downgrade(&leader)));
        *leader.lock() = Some(Leader {
            single_flight,
            key,
            in_flight: Arc::clone(&in_flight),
        });
        Self { in_flight, leader }
    }

    /// A follower that was too late for the load before has waited since before this one began,
    /// whenever it gets to joining it.
    fn join(&self) -> Join<T> {
        let follower = Follower {
            state: self.in_flight.state.subscribe(),
            joined_at: Cutoff(0),
        };
        match self.leader.lock().take() {
            Some(leader) => Join::Leader(leader, follower),
            None => Join::Follower(follower),
        }
    }
}

impl<T> Leader<T> {
    /// Draws a line: what is read *after* this call is young enough for every follower that has
    /// joined so far.
    pub(crate) fn draw_cutoff(&self) -> Cutoff {
        Cutoff(self.in_flight.cutoffs.fetch_add(1, Ordering::SeqCst))
    }

    /// The value will be loaded under this lease. Callers can see by it whether the load is obsolete.
    pub(crate) fn holds(&self, lease: LeaseToken) {
        // A leader takes one lease.
        let _ = self.in_flight.lease.set(lease);
    }

    /// Ends the load, for the followers that had joined when the cutoff was drawn.
    pub(crate) fn complete(self, outcome: T, cutoff: Cutoff) {
        let next = self.make_room(cutoff);
        self.in_flight.state.send_replace(State::Completed {
            outcome,
            cutoff,
            next,
        });
    }

    /// Takes the load off the list, and puts the next in its place when a follower needs one.
    fn make_room(&self, cutoff: Cutoff) -> Option<Next<T>> {
        let single_flight = self.single_flight.upgrade()?;
        let mut by_key = single_flight.by_key.lock();
        let is_listed = self.is_listed(&by_key);
        // Under the lock: nobody joins between the look and the change.
        let is_needed = self.in_flight.last_joined.load(Ordering::SeqCst) > cutoff.0;
        let next = is_needed.then(|| Next::new(Weak::clone(&self.single_flight), self.key.clone()));
        let replaced = match (&next, is_listed) {
            (Some(next), true) => by_key.insert(self.key.clone(), Arc::clone(&next.in_flight)),
            (None, true) => by_key.remove(&self.key),
            (_, false) => None,
        };
        drop(by_key);
        drop(replaced);
        next
    }

    fn is_listed(&self, by_key: &ByKey<T>) -> bool {
        by_key
            .get(&self.key)
            .is_some_and(|in_flight| Arc::ptr_eq(in_flight, &self.in_flight))
    }
}

impl<T> Drop for Leader<T> {
    fn drop(&mut self) {
        let Some(single_flight) = self.single_flight.upgrade() else {
            return;
        };
        let mut by_key = single_flight.by_key.lock();
        // After `complete` or `detach` another load may stand here.
        let removed = match self.is_listed(&by_key) {
            true => by_key.remove(&self.key),
            false => None,
        };
        drop(by_key);
        drop(removed);
        self.in_flight.state.send_if_modified(|state| {
            let is_running = matches!(state, State::Running);
            if is_running {
                *state = State::Abandoned;
            }
            is_running
        });
    }
}

impl<T: Clone> Follower<T> {
    /// Waits for the end. The wait can be given up and begun again.
    pub(crate) async fn wait(&mut self) -> Completion<T> {
        let joined_at = self.joined_at;
        let ended = self
            .state
            .wait_for(|state| !matches!(state, State::Running))
            .await;
        match ended.as_deref() {
            Ok(State::Completed {
                outcome,
                cutoff,
                next,
            }) => match next {
                _ if joined_at <= *cutoff => Completion::Outcome(outcome.clone()),
                Some(next) => Completion::TooOld(next.join()),
                None => Completion::Abandoned,
            },
            Ok(State::Running | State::Abandoned) | Err(_) => Completion::Abandoned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::from_raw("k")
    }

    fn lead(loads: &Arc<SingleFlight<u8>>) -> (Leader<u8>, Follower<u8>) {
        match loads.join(&key()) {
            Join::Leader(leader, follower) => (leader, follower),
            Join::Follower(_) => panic!("somebody leads already"),
        }
    }

    fn follow(loads: &Arc<SingleFlight<u8>>) -> Follower<u8> {
        match loads.join(&key()) {
            Join::Follower(follower) => follower,
            Join::Leader(..) => panic!("nobody leads"),
        }
    }

    #[tokio::test]
    async fn a_follower_that_joins_after_the_reading_began_asks_again() {
        let loads = SingleFlight::new();
        let (leader, mut first) = lead(&loads);
        let mut second = follow(&loads);
        let cutoff = leader.draw_cutoff();
        let mut late = follow(&loads);
        leader.complete(1, cutoff);
        assert!(matches!(first.wait().await, Completion::Outcome(1)));
        assert!(matches!(second.wait().await, Completion::Outcome(1)));
        let Completion::TooOld(Join::Leader(next, mut late)) = late.wait().await else {
            panic!("the first that was too late leads the next");
        };
        let cutoff = next.draw_cutoff();
        next.complete(2, cutoff);
        assert!(matches!(late.wait().await, Completion::Outcome(2)));
        drop(lead(&loads));
    }

    #[tokio::test]
    async fn all_followers_that_are_too_late_share_the_next_load() {
        let loads = SingleFlight::new();
        let (first, _) = lead(&loads);
        let cutoff = first.draw_cutoff();
        let (mut one, mut two) = (follow(&loads), follow(&loads));
        first.complete(1, cutoff);
        let Completion::TooOld(Join::Leader(next, mut one)) = one.wait().await else {
            panic!("the first leads");
        };
        // It has begun when the other gets to it.
        let cutoff = next.draw_cutoff();
        let Completion::TooOld(Join::Follower(mut two)) = two.wait().await else {
            panic!("the second follows");
        };
        let mut new = follow(&loads);
        next.complete(2, cutoff);
        assert!(matches!(one.wait().await, Completion::Outcome(2)));
        assert!(matches!(two.wait().await, Completion::Outcome(2)));
        assert!(matches!(new.wait().await, Completion::TooOld(_)));
    }

    #[tokio::test]
    async fn a_next_load_that_no_follower_wants_any_more_is_gone() {
        let loads = SingleFlight::new();
        let (first, _) = lead(&loads);
        let cutoff = first.draw_cutoff();
        let late = follow(&loads);
        first.complete(1, cutoff);
        // A caller that joins before a late follower has claimed it leads it.
        let (claimed, _) = lead(&loads);
        drop(claimed);
        let (again, _) = lead(&loads);
        drop((late, again));
        assert!(loads.by_key.lock().is_empty());
        let (first, _) = lead(&loads);
        let cutoff = first.draw_cutoff();
        let late = follow(&loads);
        first.complete(1, cutoff);
        assert_eq!(loads.by_key.lock().len(), 1);
        drop(late);
        assert!(loads.by_key.lock().is_empty(), "nobody is left to claim it");
    }

    #[tokio::test]
    async fn a_detached_load_makes_room_for_another_and_does_not_remove_it() {
        let loads = SingleFlight::new();
        let (old, mut waits) = lead(&loads);
        loads.detach(&key());
        let (new, _) = lead(&loads);
        drop(old);
        assert!(matches!(waits.wait().await, Completion::Abandoned));
        let mut other = follow(&loads);
        new.complete(2, Cutoff::NONE);
        assert!(matches!(other.wait().await, Completion::Outcome(2)));
    }

    #[tokio::test]
    async fn only_the_load_that_was_seen_to_be_obsolete_is_detached() {
        let loads = SingleFlight::new();
        let (first, _) = lead(&loads);
        assert!(loads.leased(&key()).is_none(), "it has no lease yet");
        first.holds(LeaseToken::random(None));
        let seen = loads.leased(&key()).unwrap();
        first.complete(1, Cutoff::NONE);
        let (second, _) = lead(&loads);
        loads.detach_obsolete(&key(), &seen);
        drop(follow(&loads));
        second.holds(LeaseToken::random(None));
        loads.detach_obsolete(&key(), &loads.leased(&key()).unwrap());
        drop(lead(&loads));
    }
}
