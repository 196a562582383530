//! The way of an acquisition: try, join the waiters, **try again**, wait to be woken, and try in turn.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::coordination::{
    Backoff, QueueStatus, QueuedCaller, Release, Token, WaitQueue, Waiter, Wake,
};
use redkit_core::{Error as CoreError, Topology, Value};
use tokio::time::{Instant, sleep, timeout_at};

use crate::confirmation::Wire;
use crate::error::Error;
use crate::fence::Fence;
use crate::guard::Guard;
use crate::held::Held;
use crate::keys::LockKeys;
use crate::line::Front;
use crate::manager::{Inner, LockManager};
use crate::scripts::{self, Attempt, Bid, Taken};
use crate::time::deadline_after;

/// How many keys one call may name.
const MOST_KEYS: usize = 1000;

/// How long a waiter sleeps at most when nothing says how long the lock is taken.
const UNKNOWN_EXPIRY: Duration = Duration::from_secs(1);

impl LockManager {
    /// Takes all locks or none.
    pub(crate) async fn take(&self, users: Vec<Bytes>, timeout: Duration) -> Result<Guard, Error> {
        if !(1..=MOST_KEYS).contains(&users.len()) {
            return Err(Error::KeyCount(users.len()));
        }
        let start = Instant::now();
        let taken = self.take_groups(users, deadline_after(timeout)).await;
        let metrics = &self.inner.metrics;
        match &taken {
            Ok(_) => {
                metrics.acquired.add_one();
                metrics.waited(start.elapsed());
            }
            Err(Error::Taken { .. }) => metrics.taken.add_one(),
            Err(_) => metrics.failed.add_one(),
        }
        taken
    }

    async fn take_groups(&self, users: Vec<Bytes>, deadline: Instant) -> Result<Guard, Error> {
        let inner = &self.inner;
        // A guard may be dropped outside of a runtime later.
        inner.client.prepare_releases();
        let call = Call {
            inner,
            owner: &self.owner,
            token: Token::random(),
            deadline,
            wire: Wire::new(
                &inner.client,
                inner.settings.confirmation.as_ref(),
                &inner.connections,
            ),
        };
        let mut held = Held::new(inner, call.token);
        for locks in inner.groups(users) {
            match call.acquire(&locks).await {
                Ok((fences, sent)) => {
                    held.add(locks, fences, sent);
                    if let Err(error) = call.wire.confirm().await {
                        let _ = held.release().await;
                        return Err(error);
                    }
                }
                Err(error) => {
                    // The server answers, so that the caller need not find its own locks taken.
                    if let Error::Taken { .. } = error {
                        let _ = held.release().await;
                    }
                    return Err(error);
                }
            }
        }
        // The reply came too late to be of use; what is left of it is given back.
        if held.is_lost() {
            return Err(Error::Lost);
        }
        Ok(Guard::new(inner, held))
    }
}

impl Inner {
    /// The locks, in the groups that are taken one after the other, in an order that is the same for all callers.
    fn groups(&self, mut users: Vec<Bytes>) -> Vec<Vec<LockKeys>> {
        users.sort_unstable();
        users.dedup();
        let mut locks: Vec<LockKeys> = users.into_iter().map(|user| self.keys(user)).collect();
        if self.settings.is_fair {
            return locks.into_iter().map(|lock| vec![lock]).collect();
        }
        if self.client.topology() != Topology::Cluster || locks.len() == 1 {
            return vec![locks];
        }
        locks.sort_by_key(|lock| lock.lock.slot());
        let slots = locks.chunk_by(|one, other| one.lock.slot() == other.lock.slot());
        slots.map(<[LockKeys]>::to_vec).collect()
    }
}

/// One call of a user.
struct Call<'a> {
    inner: &'a Arc<Inner>,
    owner: &'a str,
    token: Token,
    deadline: Instant,
    wire: Wire<'a>,
}

/// The place of a caller that waits.
struct Place<'a> {
    index: usize,
    waiter: Waiter,
    // After the waiter, which hands a message on that it has no use for.
    _front: Front<'a>,
}

impl<'a> Call<'a> {
    /// Takes the locks of a group. Gives their fences, and when the call that took them was sent.
    async fn acquire(&self, locks: &[LockKeys]) -> Result<(Vec<Fence>, Instant), Error> {
        match (self.inner.settings.is_fair, locks) {
            (true, [lock]) => self.acquire_in_order(lock).await,
            _ => self.acquire_woken(locks).await,
        }
    }

    async fn acquire_woken(&self, locks: &[LockKeys]) -> Result<(Vec<Fence>, Instant), Error> {
        let mut unsettled = Unsettled::new(self, locks);
        let mut after_a_fault = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let mut place: Option<Place<'_>> = None;
        let mut counted = None;
        loop {
            let sent = Instant::now();
            let left = self.deadline.saturating_duration_since(sent);
            let call = scripts::acquire(locks, &self.bid(!left.is_zero(), place.is_some()));
            unsettled.begin();
            let reply = self.wire.eval(call).await;
            unsettled.answered(&reply);
            let attempt = reply.and_then(|reply| scripts::read_attempt(reply, locks.len()));
            let taken = match attempt {
                Ok(Attempt::Acquired(fences)) => {
                    unsettled.settled();
                    if let Some(place) = place {
                        place.waiter.done();
                    }
                    return Ok((fences, sent));
                }
                Ok(Attempt::Taken(taken)) if left.is_zero() => return Err(taken.into()),
                Ok(Attempt::Taken(taken)) => taken,
                Err(error) if left.is_zero() || !error.is_retryable() => return Err(error.into()),
                Err(_) => {
                    sleep(after_a_fault.next_pause().min(left)).await;
                    continue;
                }
            };
            after_a_fault.reset();
            self.wire.put_back();
            counted.get_or_insert_with(|| self.inner.metrics.waiting());
            match &mut place {
                Some(place) if place.index == taken.index => {
                    // A lock is gone in the millisecond after its time to live.
                    let expiry = taken.expires_in.unwrap_or(UNKNOWN_EXPIRY);
                    let pause = expiry + Duration::from_millis(1);
                    place.waiter.wait(pause.min(left)).await;
                }
                // What happened before this was not told: try again.
                other => {
                    *other = None;
                    *other = self.place(locks, taken).await?;
                }
            }
        }
    }

    /// A place among the waiters of the lock that is taken; none when the time was up before it was had.
    async fn place(&self, locks: &[LockKeys], taken: Taken) -> Result<Option<Place<'a>>, Error> {
        let index = taken.index;
        let Some(lock) = locks.get(index) else {
            return Err(taken.into());
        };
        let key = lock.lock.to_bytes();
        let inner: &'a Inner = self.inner;
        let front = timeout_at(self.deadline, inner.lines.front(&key)).await;
        let front = front.map_err(|_| Error::from(taken))?;
        let waiter = inner.client.waiter(inner.channel.clone(), key, Wake::One);
        let waiter = timeout_at(self.deadline, waiter).await.ok();
        Ok(waiter.map(|waiter| Place {
            index,
            waiter,
            _front: front,
        }))
    }

    async fn acquire_in_order(&self, lock: &LockKeys) -> Result<(Vec<Fence>, Instant), Error> {
        let queued = Queued {
            call: self,
            lock,
            queue: WaitQueue {
                queue: lock.queue.clone(),
                heartbeats: lock.heartbeats.clone(),
                channel: self.inner.channel.clone(),
            },
        };
        let _counted = self.inner.metrics.waiting();
        let waited = self.inner.client.wait_in_queue(&queued, self.deadline);
        let outcome = waited.await?;
        match outcome.outcome {
            Attempt::Acquired(fences) => Ok((fences, outcome.sent)),
            Attempt::Taken(taken) => Err(taken.into()),
        }
    }

    fn bid(&self, waits: bool, has_waited: bool) -> Bid<'_> {
        let settings = &self.inner.settings;
        Bid {
            token: self.token,
            ttl: settings.first_ttl(),
            fence_ttl: settings.fence_ttl,
            owner: self.owner,
            waits,
            has_waited,
        }
    }

    /// Gives back what a call may have taken.
    fn release(&self, locks: &[LockKeys]) -> Release {
        let call = self.inner.undo(locks, self.token).idempotent(true);
        Release::new([call])
            .patiently_until(Instant::now() + self.inner.settings.first_ttl())
            .counted_by(Arc::clone(&self.inner.metrics.unreleased))
    }
}

/// A caller in the queue of a lock.
struct Queued<'a> {
    call: &'a Call<'a>,
    lock: &'a LockKeys,
    queue: WaitQueue,
}

impl QueuedCaller for Queued<'_> {
    type Outcome = Attempt;

    fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn id(&self) -> Bytes {
        self.call.token.to_string().into()
    }

    async fn visit(&self, max_wait: Duration) -> Result<QueueStatus<Attempt>, CoreError> {
        let bid = self.call.bid(!max_wait.is_zero(), true);
        let call = scripts::acquire_fair(self.lock, &self.queue.channel, &bid);
        let reply = self.call.wire.eval(call).await?;
        Ok(match scripts::read_attempt(reply, 1)? {
            acquired @ Attempt::Acquired(_) => QueueStatus::Served(acquired),
            taken if max_wait.is_zero() => QueueStatus::Rejected(taken),
            Attempt::Taken(taken) => {
                self.call.wire.put_back();
                QueueStatus::Waiting {
                    hint: taken.expires_in.unwrap_or(UNKNOWN_EXPIRY) + Duration::from_millis(1),
                    before: None,
                }
            }
        })
    }

    /// A visit by the same token takes no second lock, and renews what an unanswered one took.
    fn outlives_unknown(&self) -> bool {
        true
    }

    fn abandon(&self) -> Release {
        let settings = &self.call.inner.settings;
        let leave = self.queue.leave(&self.id());
        let locks = std::slice::from_ref(self.lock);
        let release = self.call.inner.undo(locks, self.call.token);
        Release::new([leave, release.idempotent(true)])
            .patiently_until(Instant::now() + settings.first_ttl())
            .counted_by(Arc::clone(&self.call.inner.metrics.unreleased))
    }
}

/// Gives back what a caller may have taken that was dropped, or gave up, before it knew.
struct Unsettled<'a> {
    call: &'a Call<'a>,
    locks: &'a [LockKeys],
    is_under_way: bool,
    /// An attempt was not answered, and may yet be carried out.
    was_unknown: bool,
}

impl<'a> Unsettled<'a> {
    fn new(call: &'a Call<'a>, locks: &'a [LockKeys]) -> Self {
        Self {
            call,
            locks,
            is_under_way: false,
            was_unknown: false,
        }
    }

    fn begin(&mut self) {
        self.is_under_way = true;
    }

    fn answered(&mut self, reply: &Result<Value, CoreError>) {
        self.is_under_way = false;
        self.was_unknown |= reply.as_ref().is_err_and(CoreError::is_maybe);
    }

    /// The locks are held: a guard gives them back.
    fn settled(&mut self) {
        (self.is_under_way, self.was_unknown) = (false, false);
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        if self.is_under_way || self.was_unknown {
            let release = self.call.release(self.locks);
            self.call.inner.client.release_later(release);
        }
    }
}

impl From<Taken> for Error {
    fn from(taken: Taken) -> Self {
        Error::Taken {
            holder: taken.holder.map(Box::new),
        }
    }
}
