//! A queue's numbers: its own counters, and the same as metrics. Handles are made once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Gauge, Histogram};
use redkit_core::Tally;

/// How a queue stands, and what this process has done with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteBehindStats {
    /// Keys with a change that is not in the database yet.
    pub pending: u64,
    /// Of those, keys whose change a worker is writing now.
    pub in_flight: u64,
    /// Of those, keys that pause after a failure.
    pub resting: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// How long the oldest of them has been pending.
    pub oldest: Duration,

    /// Writes that this process's handle had accepted.
    pub accepted: u64,
    /// Of those, writes that took the place of one that was pending.
    pub coalesced: u64,
    /// Writes that were refused because the queue was full.
    pub refused: u64,
    /// Changes that this process's workers have written.
    pub written: u64,
    /// Failures of changes that were, or are, to be tried again.
    pub retries: u64,
    /// Changes that this process's workers have given up.
    pub given_up: u64,
    /// Batches that this process's workers dropped or could not report, because the lease was
    /// lost.
    pub leases_lost: u64,
}

pub(super) struct Metrics {
    pub(super) accepted: Tally,
    pub(super) coalesced: Tally,
    pub(super) refused: Tally,
    pub(super) written: Tally,
    pub(super) retries: Tally,
    pub(super) given_up: Tally,
    pub(super) leases_lost: Tally,
    pub(super) sink_duration: Histogram,
    workers: AtomicU64,
    /// As workers of this process last saw the partitions.
    pending: Vec<AtomicU64>,
    oldest: Vec<AtomicU64>,
    dead: Vec<AtomicU64>,
    pending_gauge: Gauge,
    oldest_gauge: Gauge,
}

impl Metrics {
    pub(super) fn new(queue: &str, partitions: u16) -> Self {
        let queue = queue.to_owned();
        let writes = |outcome: &'static str| {
            Tally::new(metrics::counter!(
                "redkit_write_behind_writes_total", "queue" => queue.clone(), "outcome" => outcome
            ))
        };
        let changes = |outcome: &'static str| {
            Tally::new(metrics::counter!(
                "redkit_write_behind_changes_total", "queue" => queue.clone(), "outcome" => outcome
            ))
        };
        let zeros = || (0..partitions).map(|_| AtomicU64::new(0)).collect();
        Self {
            accepted: writes("accepted"),
            coalesced: writes("coalesced"),
            refused: writes("refused"),
            written: changes("written"),
            retries: changes("retried"),
            given_up: changes("given_up"),
            leases_lost: Tally::new(metrics::counter!(
                "redkit_write_behind_leases_lost_total", "queue" => queue.clone()
            )),
            sink_duration: metrics::histogram!(
                "redkit_write_behind_sink_duration_seconds", "queue" => queue.clone()
            ),
            workers: AtomicU64::new(0),
            pending: zeros(),
            oldest: zeros(),
            dead: zeros(),
            pending_gauge: metrics::gauge!("redkit_write_behind_pending", "queue" => queue.clone()),
            oldest_gauge: metrics::gauge!("redkit_write_behind_oldest_seconds", "queue" => queue),
        }
    }

    /// One more worker of this process looks at the queue.
    pub(super) fn worker_begins(&self) {
        self.workers.fetch_add(1, Ordering::Relaxed);
    }

    /// It does so no more. What the last one saw does not stay: others may have written it since.
    pub(super) fn worker_ends(&self) {
        if self.workers.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        for partition in 0..u16::try_from(self.pending.len()).unwrap_or(u16::MAX) {
            self.seen(partition, 0, Duration::ZERO, 0);
        }
    }

    /// Notes how a worker found a partition.
    pub(super) fn seen(&self, partition: u16, pending: u64, oldest: Duration, dead: u64) {
        let index = usize::from(partition);
        let oldest = u64::try_from(oldest.as_micros()).unwrap_or(u64::MAX);
        for (numbers, number) in [
            (&self.pending, pending),
            (&self.oldest, oldest),
            (&self.dead, dead),
        ] {
            if let Some(of_partition) = numbers.get(index) {
                of_partition.store(number, Ordering::Relaxed);
            }
        }
        let now = self.last_seen();
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
        self.pending_gauge.set(now.pending as f64);
        self.oldest_gauge.set(now.oldest.as_secs_f64());
    }

    /// The process's own part of the statistics, and how its workers last saw the queue.
    pub(super) fn last_seen(&self) -> WriteBehindStats {
        let all = |numbers: &[AtomicU64]| -> Vec<u64> {
            numbers.iter().map(|n| n.load(Ordering::Relaxed)).collect()
        };
        let oldest = all(&self.oldest).into_iter().max().unwrap_or_default();
        WriteBehindStats {
            pending: all(&self.pending).iter().sum(),
            dead_letters: all(&self.dead).iter().sum(),
            oldest: Duration::from_micros(oldest),
            ..self.read()
        }
    }

    /// The process's own part of the statistics.
    pub(super) fn read(&self) -> WriteBehindStats {
        WriteBehindStats {
            accepted: self.accepted.get(),
            coalesced: self.coalesced.get(),
            refused: self.refused.get(),
            written: self.written.get(),
            retries: self.retries.get(),
            given_up: self.given_up.get(),
            leases_lost: self.leases_lost.get(),
            ..WriteBehindStats::default()
        }
    }
}
