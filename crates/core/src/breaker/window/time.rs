//! The window over the last while.

use super::{Counts, Mark};
use crate::breaker::tick::Tick;

/// The finest a window by time is split.
const BUCKETS: u64 = 10;
const WIDEST_BUCKET: u64 = 1_000_000_000;

/// A ring of buckets, each with the totals of one span of time.
#[derive(Debug)]
pub(in crate::breaker) struct TimeWindow {
    buckets: Box<[Counts]>,
    width: u64,
    /// The number of the newest bucket, counted from the beginning of time.
    newest: u64,
    /// Where in the ring that bucket is.
    at: usize,
    /// When it ends. Kept, so that a call within the bucket needs no division.
    ends: Tick,
    pub(super) totals: Counts,
}

impl TimeWindow {
    pub(super) fn new(span: u64) -> Self {
        let count = span.div_ceil(WIDEST_BUCKET).max(BUCKETS);
        let width = span.div_ceil(count).max(1);
        let length = usize::try_from(count).unwrap_or(usize::MAX);
        Self {
            buckets: vec![Counts::default(); length].into(),
            width,
            newest: 0,
            at: 0,
            ends: Tick::default().plus(width),
            totals: Counts::default(),
        }
    }

    pub(super) fn record(&mut self, now: Tick, failed: bool, slow: bool) -> Mark {
        self.rotate(now);
        if let Some(bucket) = self.buckets.get_mut(self.at) {
            bucket.add(failed, slow);
            self.totals.add(failed, slow);
        }
        Mark(self.newest)
    }

    pub(super) fn complete(&mut self, now: Tick, mark: Mark, failed: bool) -> bool {
        self.rotate(now);
        let size = self.buckets.len();
        let Some(back) = usize::try_from(self.newest - mark.0)
            .ok()
            .filter(|back| *back < size)
        else {
            return false;
        };
        if let Some(bucket) = self.buckets.get_mut((self.at + size - back) % size)
            && failed
        {
            bucket.failures += 1;
            self.totals.failures += 1;
        }
        true
    }

    /// Makes the bucket of `now` the newest one and empties those that it pushes out.
    pub(super) fn rotate(&mut self, now: Tick) {
        if now < self.ends {
            return;
        }
        let target = now.spans(self.width);
        let steps = target - self.newest;
        if steps >= self.buckets.len() as u64 {
            self.buckets.fill(Counts::default());
            self.totals = Counts::default();
        } else {
            for _ in 0..steps {
                self.at = (self.at + 1) % self.buckets.len();
                if let Some(bucket) = self.buckets.get_mut(self.at) {
                    self.totals.subtract(std::mem::take(bucket));
                }
            }
        }
        self.newest = target;
        self.ends = Tick::default()
            .plus(self.width.saturating_mul(target))
            .plus(self.width);
    }

    pub(super) fn clear(&mut self) {
        self.buckets.fill(Counts::default());
        self.totals = Counts::default();
    }
}
