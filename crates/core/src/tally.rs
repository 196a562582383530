//! [`Tally`]: a counter that a program can read back, and the metric that goes with it.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Counter;

/// Counts for a pattern's own statistics and for the `metrics` facade at once. Make it once, with
/// the handle of its metric, and keep it: looking a metric up for every call costs more than the
/// call.
///
/// ```
/// use redkit_core::Tally;
///
/// let hits = Tally::new(metrics::counter!("my_hits_total"));
/// hits.add_one();
/// assert_eq!(hits.get(), 1);
/// hits.reset(); // the metric goes on
/// assert_eq!(hits.get(), 0);
/// ```
#[derive(Debug)]
pub struct Tally {
    own: AtomicU64,
    metric: Counter,
}

impl Tally {
    /// At zero.
    pub fn new(metric: Counter) -> Self {
        Self {
            own: AtomicU64::new(0),
            metric,
        }
    }

    /// Counts one.
    pub fn add_one(&self) {
        self.own.fetch_add(1, Ordering::Relaxed);
        self.metric.increment(1);
    }

    /// How many there have been since the start or the last reset.
    pub fn get(&self) -> u64 {
        self.own.load(Ordering::Relaxed)
    }

    /// Back to zero. The metric is not affected.
    pub fn reset(&self) {
        self.own.store(0, Ordering::Relaxed);
    }
}
