//! [`QueuedCaller`]: waiting in a queue on the server, first come, first served among all processes.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::backoff::Backoff;
use super::lua;
use super::release_queue::Release;
use super::wake_up::{POLL, Waiter, Wake, WakeUp};
use crate::client::Client;
use crate::error::Error;
use crate::keys::Key;
use crate::script::{Invocation, Script};

static LEAVE: Script =
    Script::of_parts(&[lua::CLOCK, lua::WAKE_UP, lua::WAIT_QUEUE, lua::LEAVE_QUEUE]);

/// For how long a waiter is believed to be alive after a visit: so long a waiter that died holds up
/// those behind it. Scripts get it in microseconds as `alive`.
pub const WAITER_ALIVE: Duration = Duration::from_secs(3);

/// How often a waiter visits at least, so that it is believed to be alive.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A queue of waiters on the server.
#[derive(Debug, Clone)]
pub struct WaitQueue {
    /// The waiters by arrival.
    pub queue: Key,
    /// The waiters by when they are taken for dead.
    pub heartbeats: Key,
    /// Where waiters are woken, by their ids.
    pub channel: Bytes,
}

impl WaitQueue {
    /// The call by which a waiter gives its place up. It wakes the next. A visit of this waiter that arrives
    /// within [`WAITER_ALIVE`] after it, because it was held up on the way, gets nothing.
    pub fn leave(&self, id: &Bytes) -> Invocation {
        LEAVE
            .invoke([&self.queue, &self.heartbeats])
            .arg(id)
            .arg(&self.channel)
            .arg(u64::try_from(WAITER_ALIVE.as_micros()).unwrap_or(u64::MAX))
            .idempotent(true)
    }
}

/// The reply to one visit to the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueStatus<T> {
    /// The waiter has what it waited for, and no place any more.
    Served(T),
    /// It has a place in the queue.
    Waiting {
        /// When a further visit makes sense although nobody wakes the waiter: when a lease runs out, or
        /// units are back.
        hint: Duration,
        /// How many stand before it, where the script says so.
        before: Option<u64>,
    },
    /// It has no place: it may not wait, it would wait for too long, or the queue is full.
    Rejected(T),
}

/// A caller that waits in a [`WaitQueue`]. Its script is made of the part
/// [`lua::WAIT_QUEUE`](super::lua::WAIT_QUEUE): look at the queue; if nobody stands before the caller and
/// there is something to have, leave the queue and take it; otherwise join, unless the caller will
/// not wait (`max_wait` is zero).
///
/// Whatever gives back what is waited for calls `queue_wake`, and so does the script that serves a
/// waiter when there is more to have.
pub trait QueuedCaller: Sync {
    /// The result of a visit.
    type Outcome: Send;

    /// The queue.
    fn queue(&self) -> &WaitQueue;

    /// The waiter's id, which no other waiter has.
    fn id(&self) -> Bytes;

    /// One visit, of a waiter that will wait for `max_wait` more at most.
    fn visit(
        &self,
        max_wait: Duration,
    ) -> impl Future<Output = Result<QueueStatus<Self::Outcome>, Error>> + Send;

    /// The release of a waiter that was dropped, or knows nothing of its last visit: give
    /// the place up, and what the visit may have taken. By default the place alone.
    fn abandon(&self) -> Release {
        Release::new([self.queue().leave(&self.id())]).until(Instant::now() + WAITER_ALIVE)
    }

    /// Whether the waiter goes on after a visit that certainly was not carried out. By default it
    /// does, as long as there is time.
    fn outlives_faults(&self) -> bool {
        true
    }

    /// Whether the waiter also goes on after a visit that may or may not have been carried out. By default
    /// it does not. It may where a further visit is answered with what an earlier one took, and lets it run from then:
    /// a lease is counted from the last visit.
    fn outlives_unknown(&self) -> bool {
        false
    }
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueOutcome<T> {
    /// Whether the waiter was served; otherwise it has no place any more.
    pub is_served: bool,
    /// The result of the last visit.
    pub outcome: T,
    /// When the last visit was sent: leases that it took run from then.
    pub sent: Instant,
}

impl Client {
    /// Waits in a queue until the caller is served, or is rejected: at `deadline` at the latest, when the
    /// last visit says that the caller will not wait any longer. When the future is dropped, or ends
    /// with an error, [`QueuedCaller::abandon`] is released in the background.
    ///
    /// # Errors
    /// The visit's own. A visit of which nobody knows whether it was carried out ends the wait, unless
    /// [`QueuedCaller::outlives_unknown`].
    pub async fn wait_in_queue<Q: QueuedCaller>(
        &self,
        queued: &Q,
        deadline: Instant,
    ) -> Result<QueueOutcome<Q::Outcome>, Error> {
        self.prepare_releases();
        let mut place = Place {
            client: self,
            queued,
            is_left: false,
            was_unknown: false,
        };
        let began = Instant::now();
        let mut waiter: Option<Waiter> = None;
        let mut after_a_fault = Backoff::new(Duration::from_millis(50), HEARTBEAT);
        let mut without_a_hint = Backoff::new(Duration::from_millis(4), HEARTBEAT);
        loop {
            let sent = Instant::now();
            let max_wait = deadline.saturating_duration_since(sent);
            let (hint, before) = match queued.visit(max_wait).await {
                Ok(QueueStatus::Waiting { hint, before }) if !max_wait.is_zero() => (hint, before),
                Ok(QueueStatus::Served(outcome)) => {
                    place.is_left = true;
                    return Ok(QueueOutcome {
                        is_served: true,
                        outcome,
                        sent,
                    });
                }
                Ok(QueueStatus::Rejected(outcome)) => {
                    // A visit that was not answered may yet be carried out.
                    place.is_left = !place.was_unknown;
                    return Ok(QueueOutcome {
                        is_served: false,
                        outcome,
                        sent,
                    });
                }
                // A script that lets a caller join that will not wait; ask once more.
                Ok(QueueStatus::Waiting { before, .. }) => (Duration::ZERO, before),
                Err(error) => {
                    place.was_unknown |= error.is_maybe();
                    let goes_on = error.is_retryable()
                        && match error.is_maybe() {
                            true => queued.outlives_unknown(),
                            false => queued.outlives_faults(),
                        };
                    if !goes_on || max_wait.is_zero() {
                        return Err(error);
                    }
                    sleep(after_a_fault.next_pause().min(max_wait)).await;
                    continue;
                }
            };
            after_a_fault.reset();
            let waiter = match &mut waiter {
                Some(waiter) => waiter,
                none => {
                    let channel = queued.queue().channel.clone();
                    let made = self.waiter_at_once(channel, queued.id(), Wake::One);
                    let stands = made.stands();
                    let made = none.insert(made);
                    if stands {
                        // Events from before the waiter was known were not told: look again.
                        continue;
                    }
                    // The subscription wakes the waiter when it stands. Until then the waiter asks.
                    made
                }
            };
            let pause = match hint.is_zero() {
                true => without_a_hint.next_pause(),
                false => hint,
            };
            let unless_woken = pause_without_a_subscription(before, began.elapsed());
            let pause = pause.min(HEARTBEAT).min(max_wait);
            let woken = waiter.wait_or_ask(pause, unless_woken).await;
            if matches!(woken, WakeUp::Message(_)) {
                without_a_hint.reset();
            }
        }
    }
}

/// A place in the queue, given up when it is dropped.
struct Place<'a, Q: QueuedCaller> {
    client: &'a Client,
    queued: &'a Q,
    is_left: bool,
    was_unknown: bool,
}

impl<Q: QueuedCaller> Drop for Place<'_, Q> {
    fn drop(&mut self) {
        if !self.is_left {
            self.client.release_later(self.queued.abandon());
        }
    }
}

/// How long a waiter pauses that nobody can wake. Those at the front ask 20 times a second, the others ever
/// more seldom the more stand before them, and all at least as often as a heartbeat is due: so a thousand
/// of them cost little more than their heartbeats. One that does not know its place asks the more
/// seldom the longer it has waited, which makes no wait longer by more than a sixteenth.
fn pause_without_a_subscription(before: Option<u64>, waited: Duration) -> Duration {
    const AT_THE_FRONT: u64 = 4;
    const PART: u32 = 16;
    let pause = match before {
        Some(before) => {
            let rank = u32::try_from(before / AT_THE_FRONT).unwrap_or(u32::MAX);
            POLL.saturating_mul(rank.saturating_add(1))
        }
        None => POLL.max(waited / PART),
    };
    pause.min(HEARTBEAT)
}
