//! [`Latency`]: how long a client's calls took, in counts by bucket.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets: up to 7 µs one for each µs, then eight for each doubling, up to about 71 minutes.
const BUCKETS: usize = 8 + 29 * 8;

/// How long calls took: counts by bucket, each at most an eighth wide. Two of them give what happened between
/// ([`since`](Self::since)), and those of several clients add up ([`add`](Self::add)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latency {
    counts: Box<[u64]>,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS].into(),
        }
    }
}

impl Latency {
    /// How many calls were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What was counted after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self.counts.iter().zip(&earlier.counts);
        let counts = counts.map(|(now, before)| now.saturating_sub(*before));
        Self {
            counts: counts.collect(),
        }
    }

    /// Counts the calls of another client as well.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.counts.iter_mut().zip(&other.counts) {
            *sum = sum.saturating_add(*more);
        }
    }

    /// The time within which the share `q` (0 to 1) of the calls ended, at most an eighth too long; `None` when there
    /// were none.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of a count, rounded"
        )]
        let wanted = ((total as f64 * q.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Some(Duration::from_micros(end_of(bucket)));
            }
        }
        None
    }

    /// The buckets that are not empty: their numbers and counts, to be sent elsewhere and read by
    /// [`from_buckets`](Self::from_buckets).
    pub fn buckets(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let counts = self.counts.iter().copied().enumerate();
        counts.filter(|(_, count)| *count > 0)
    }

    /// From [buckets](Self::buckets); numbers that there are not are left out.
    pub fn from_buckets(buckets: impl IntoIterator<Item = (usize, u64)>) -> Self {
        let mut latency = Self::default();
        for (bucket, count) in buckets {
            if let Some(sum) = latency.counts.get_mut(bucket) {
                *sum = sum.saturating_add(count);
            }
        }
        latency
    }
}

/// Where a client counts.
#[derive(Debug)]
pub(super) struct Recorder(Box<[AtomicU64]>);

impl Recorder {
    pub(super) fn new() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = self.0.get(bucket_of(micros)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self) -> Latency {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        Latency {
            counts: counts.collect(),
        }
    }
}

fn bucket_of(micros: u64) -> usize {
    if micros < 8 {
        return usize::try_from(micros).unwrap_or_default();
    }
    let doublings = micros.ilog2() - 3;
    let within = (micros >> doublings) & 7;
    let bucket = 8 + u64::from(doublings) * 8 + within;
    usize::try_from(bucket).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The longest time of a bucket.
fn end_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 8 {
        return bucket;
    }
    let (doublings, within) = ((bucket - 8) / 8, (bucket - 8) % 8);
    ((8 + within + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_in_a_bucket_that_ends_at_most_an_eighth_later() {
        let mut micros = 0;
        while micros < 4_000_000_000 {
            let end = end_of(bucket_of(micros));
            assert!(end >= micros, "{micros} {end}");
            assert!(end <= micros + micros / 8, "{micros} {end}");
            micros += 1 + micros / 13;
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_what_was_counted_since() {
        let recorder = Recorder::new();
        recorder.record(Duration::from_secs(9));
        let earlier = recorder.read();
        assert_eq!(Latency::default().quantile(0.5), None);
        for micros in 1..=1_000 {
            recorder.record(Duration::from_micros(micros));
        }
        let since = recorder.read().since(&earlier);
        assert_eq!(since.count(), 1_000);
        let within = |q: f64, micros: u64| {
            let found = since.quantile(q).unwrap();
            let wanted = Duration::from_micros(micros);
            assert!(
                found >= wanted && found <= wanted + wanted / 8,
                "{q} {found:?}"
            );
        };
        within(0.5, 500);
        within(0.99, 990);
        within(1.0, 1_000);
        let sent = Latency::from_buckets(since.buckets());
        assert_eq!(sent, since);
        let mut both = sent.clone();
        both.add(&since);
        assert_eq!(
            (both.count(), both.quantile(0.5)),
            (2_000, since.quantile(0.5))
        );
        assert_eq!(Latency::from_buckets([(usize::MAX, 1)]).count(), 0);
    }
}
