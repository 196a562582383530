//! The numbers of a manager: see `docs/metrics.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics::{Histogram, counter, histogram};
use redkit_core::Tally;

/// Handles of metrics, made once.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) acquired: Tally,
    pub(crate) taken: Tally,
    pub(crate) failed: Tally,
    pub(crate) released: Tally,
    /// Releases that found the lock not held any more.
    pub(crate) late: Tally,
    /// Releases of which the server could not be told.
    pub(crate) unreleased: Arc<Tally>,
    pub(crate) renewed: Arc<Tally>,
    pub(crate) lost: Arc<Tally>,
    wait: Histogram,
    waiting: AtomicUsize,
}

/// What a [`LockManager`](crate::LockManager) and its clones have done in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LockStats {
    /// Guards that are held now.
    pub held: usize,
    /// Callers that wait now.
    pub waiting: usize,
    /// Calls that took what they asked for.
    pub acquired: u64,
    /// Calls that ended because a lock was taken.
    pub taken: u64,
    /// Calls that ended with another error.
    pub failed: u64,
    /// Renewals that the server confirmed.
    pub renewed: u64,
    /// Locks that were lost while they were held.
    pub lost: u64,
}

impl Metrics {
    pub(crate) fn new(locks: &str) -> Self {
        let locks = locks.to_owned();
        let acquire = |outcome: &'static str| {
            Tally::new(
                counter!("redkit_lock_acquisitions_total", "locks" => locks.clone(), "outcome" => outcome),
            )
        };
        let release = |outcome: &'static str| {
            Tally::new(
                counter!("redkit_lock_releases_total", "locks" => locks.clone(), "outcome" => outcome),
            )
        };
        Self {
            acquired: acquire("acquired"),
            taken: acquire("taken"),
            failed: acquire("failed"),
            released: release("released"),
            late: release("late"),
            unreleased: Arc::new(release("failed")),
            renewed: Arc::new(Tally::new(
                counter!("redkit_lock_renewals_total", "locks" => locks.clone()),
            )),
            lost: Arc::new(Tally::new(
                counter!("redkit_lock_lost_total", "locks" => locks.clone()),
            )),
            wait: histogram!("redkit_lock_wait_seconds", "locks" => locks),
            waiting: AtomicUsize::new(0),
        }
    }

    pub(crate) fn waited(&self, time: Duration) {
        self.wait.record(time.as_secs_f64());
    }

    /// Counts a caller as waiting until the returned value is dropped.
    pub(crate) fn waiting(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }

    pub(crate) fn read(&self, held: usize) -> LockStats {
        LockStats {
            held,
            waiting: self.waiting.load(Ordering::Relaxed),
            acquired: self.acquired.get(),
            taken: self.taken.get(),
            failed: self.failed.get(),
            renewed: self.renewed.get(),
            lost: self.lost.get(),
        }
    }
}

/// A caller that waits.
pub(crate) struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
