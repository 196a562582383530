//! The numbers of a semaphore. Handles are made once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Counter;
use redkit_core::Tally;

pub(super) struct Metrics {
    pub(super) acquired: Counter,
    /// Not free, or not free in time, or not to be had at all.
    pub(super) refused: Counter,
    pub(super) failed: Counter,
    pub(super) lost: Arc<Tally>,
    pub(super) releases_lost: Arc<Tally>,
    held: AtomicU64,
    waiting: AtomicU64,
}

impl Metrics {
    pub(super) fn new(semaphore: &str) -> Self {
        let acquires = |outcome: &'static str| {
            metrics::counter!(
                "redkit_semaphore_acquires_total",
                "semaphore" => semaphore.to_owned(), "outcome" => outcome
            )
        };
        Self {
            acquired: acquires("acquired"),
            refused: acquires("refused"),
            failed: acquires("failed"),
            lost: Arc::new(Tally::new(metrics::counter!(
                "redkit_semaphore_grants_lost_total", "semaphore" => semaphore.to_owned()
            ))),
            releases_lost: Arc::new(Tally::new(metrics::counter!(
                "redkit_semaphore_releases_lost_total", "semaphore" => semaphore.to_owned()
            ))),
            held: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
        }
    }

    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn hold(&self, permits: u32) {
        self.held.fetch_add(permits.into(), Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, permits: u32) {
        self.held.fetch_sub(permits.into(), Ordering::Relaxed);
    }
}

/// A caller that waits, counted until it is dropped.
pub(super) struct Waiting<'a>(&'a Metrics);

impl<'a> Waiting<'a> {
    pub(super) fn new(metrics: &'a Metrics) -> Self {
        metrics.waiting.fetch_add(1, Ordering::Relaxed);
        Self(metrics)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
