//! [`LeaseState`]: until when a lease is held.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{LeaseConfig, LeaseRenewal};
use crate::script::Invocation;
use crate::value::Value;

/// The state that the handle of a lease and the task that renews it share.
pub(super) struct LeaseState {
    renewal: Box<dyn LeaseRenewal>,
    config: LeaseConfig,
    /// When the lease is lost at the latest, however often it is renewed.
    ends: Option<Instant>,
    /// No answer came to the last attempt to renew it.
    has_failed: AtomicBool,
    status: watch::Sender<Status>,
}

/// Waits for a moment, by the clock itself: when a process that was stopped goes on, its tasks may be polled before
/// the timer has told any of them.
async fn passed(moment: Instant) {
    let mut timer = pin!(sleep_until(moment));
    poll_fn(|context| match Instant::now() >= moment {
        true => Poll::Ready(()),
        false => timer.as_mut().poll(context),
    })
    .await;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    /// Certainly held until then.
    Held(Instant),
    /// For ever: a renewal that succeeds later does not bring it back.
    Lost(Instant),
    /// Given back in time.
    Ended(Instant),
}

impl LeaseState {
    pub(super) fn new(renewal: Box<dyn LeaseRenewal>, config: LeaseConfig, sent: Instant) -> Self {
        // A limit beyond all clocks is none.
        let ends = config.hold_at_most;
        let ends = ends.and_then(|limit| sent.checked_add(limit));
        let until = sent + config.ttl.saturating_sub(config.drift);
        let until = ends.map_or(until, |ends| until.min(ends));
        if let Some(held) = &config.held {
            held.fetch_add(1, Ordering::Relaxed);
        }
        Self {
            status: watch::Sender::new(Status::Held(until)),
            renewal,
            ends,
            has_failed: AtomicBool::new(false),
            config,
        }
    }

    pub(super) fn renewal(&self) -> &dyn LeaseRenewal {
        &*self.renewal
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    pub(super) fn note_failure(&self, has_failed: bool) {
        self.has_failed.store(has_failed, Ordering::Relaxed);
    }

    /// The call that renews the lease; `None` when its user's code panics.
    pub(super) fn renewal_call(&self, ttl: Duration) -> Option<Invocation> {
        let call = || self.renewal.renew(ttl).idempotent(true);
        catch_unwind(AssertUnwindSafe(call)).ok()
    }

    /// As [`answered`](Self::answered); `None` when its user's code panics.
    pub(super) fn try_answered(&self, sent: Instant, ttl: Duration, reply: &Value) -> Option<bool> {
        // The user's code is asked before anything changes.
        catch_unwind(AssertUnwindSafe(|| self.answered(sent, ttl, reply))).ok()
    }

    pub(super) fn ttl(&self) -> Duration {
        self.config.ttl
    }

    pub(super) fn until(&self) -> Instant {
        match *self.status.borrow() {
            Status::Held(until) | Status::Lost(until) | Status::Ended(until) => until,
        }
    }

    /// Whether the lease is lost; notes it when the deadline has passed.
    pub(super) fn is_lost(&self) -> bool {
        let now = Instant::now();
        self.update(|status| match status {
            Status::Held(until) if until <= now => Status::Lost(until),
            other => other,
        });
        matches!(*self.status.borrow(), Status::Lost(_))
    }

    /// For how long a renewal that is sent now may ask; `None` when it must not be sent.
    pub(super) fn ttl_at(&self, sent: Instant) -> Option<Duration> {
        if self.is_lost() || !matches!(*self.status.borrow(), Status::Held(_)) {
            return None;
        }
        let Some(ends) = self.ends else {
            return Some(self.config.ttl);
        };
        let left = ends.saturating_duration_since(sent) + self.config.drift;
        Some(left.min(self.config.ttl))
    }

    /// Whether a further renewal would move the deadline.
    pub(super) fn can_be_prolonged(&self) -> bool {
        self.ends.is_none_or(|ends| self.until() < ends)
    }

    /// A renewal that was sent then for this time has been answered. Gives whether the lease is held.
    pub(super) fn answered(&self, sent: Instant, ttl: Duration, reply: &Value) -> bool {
        if !self.renewal.is_held(reply) {
            self.update(|status| match status {
                Status::Held(_) => Status::Lost(sent),
                other => other,
            });
            return false;
        }
        if self.is_lost() {
            return false;
        }
        let until = sent + ttl.saturating_sub(self.config.drift);
        let until = self.ends.map_or(until, |ends| until.min(ends));
        self.update(|status| match status {
            // Answers may come in another order than their calls.
            Status::Held(old) => Status::Held(old.max(until)),
            other => other,
        });
        matches!(*self.status.borrow(), Status::Held(_))
    }

    /// Gives whether the lease was still held.
    pub(super) fn end(&self) -> bool {
        if self.is_lost() {
            return false;
        }
        let mut was_held = false;
        self.update(|status| match status {
            Status::Held(until) => {
                was_held = true;
                Status::Ended(until)
            }
            other => other,
        });
        was_held
    }

    pub(super) async fn lost(&self) {
        let mut status = self.status.subscribe();
        loop {
            let now = *status.borrow_and_update();
            match now {
                Status::Lost(_) => return,
                Status::Ended(_) => std::future::pending().await,
                Status::Held(until) => {
                    tokio::select! {
                        biased;
                        () = passed(until) => if self.is_lost() { return },
                        _ = status.changed() => {}
                    }
                }
            }
        }
    }

    fn update(&self, change: impl FnOnce(Status) -> Status) {
        let (mut is_over_now, mut is_lost_now) = (false, false);
        self.status.send_if_modified(|status| {
            let new = change(*status);
            let is_changed = new != *status;
            let was_held = matches!(status, Status::Held(_));
            is_over_now = was_held && !matches!(new, Status::Held(_));
            is_lost_now = was_held && matches!(new, Status::Lost(_));
            *status = new;
            is_changed
        });
        if is_over_now && let Some(held) = &self.config.held {
            held.fetch_sub(1, Ordering::Relaxed);
        }
        if is_lost_now && let Some(lost) = &self.config.lost {
            lost.add_one();
        }
    }
}
