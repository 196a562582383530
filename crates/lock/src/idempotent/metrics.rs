//! The numbers of idempotent executions. Handles are made once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Counter;
use redkit_core::Tally;

pub(super) struct Metrics {
    pub(super) begun: Counter,
    pub(super) replayed: Counter,
    pub(super) in_flight: Counter,
    pub(super) other_fingerprint: Counter,
    pub(super) failed: Counter,
    pub(super) lost: Arc<Tally>,
    pub(super) not_stored: Tally,
    running: AtomicU64,
}

impl Metrics {
    pub(super) fn new(name: &str) -> Self {
        let calls = |outcome: &'static str| {
            metrics::counter!(
                "redkit_idempotent_calls_total",
                "execution" => name.to_owned(), "outcome" => outcome
            )
        };
        Self {
            begun: calls("begun"),
            replayed: calls("replayed"),
            in_flight: calls("in_flight"),
            other_fingerprint: calls("other_fingerprint"),
            failed: calls("failed"),
            lost: Arc::new(Tally::new(metrics::counter!(
                "redkit_idempotent_lost_total", "execution" => name.to_owned()
            ))),
            not_stored: Tally::new(metrics::counter!(
                "redkit_idempotent_results_not_stored_total", "execution" => name.to_owned()
            )),
            running: AtomicU64::new(0),
        }
    }

    pub(super) fn running(&self) -> u64 {
        self.running.load(Ordering::Relaxed)
    }

    pub(super) fn begins(&self) {
        self.begun.increment(1);
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ends(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }
}
