//! The window over the last calls.

use super::{Counts, Mark};

const SEEN: u8 = 1;
const FAILED: u8 = 2;
const SLOW: u8 = 4;

/// A ring of the last calls, one byte each.
#[derive(Debug)]
pub(in crate::breaker) struct CountWindow {
    ring: Box<[u8]>,
    /// Where the next call goes.
    at: usize,
    /// How many calls were ever recorded: the next one's mark.
    recorded: u64,
    pub(super) totals: Counts,
}

impl CountWindow {
    pub(super) fn new(calls: u32) -> Self {
        Self {
            ring: vec![0; usize::try_from(calls.max(1)).unwrap_or(usize::MAX)].into(),
            at: 0,
            recorded: 0,
            totals: Counts::default(),
        }
    }

    pub(super) fn record(&mut self, failed: bool, slow: bool) -> Mark {
        if let Some(cell) = self.ring.get_mut(self.at) {
            let failed_bit = if failed { FAILED } else { 0 };
            let slow_bit = if slow { SLOW } else { 0 };
            let leaving = std::mem::replace(cell, SEEN | failed_bit | slow_bit);
            self.totals.subtract(Counts {
                calls: u64::from(leaving & SEEN != 0),
                failures: u64::from(leaving & FAILED != 0),
                slow: u64::from(leaving & SLOW != 0),
            });
            self.totals.add(failed, slow);
        }
        self.at = if self.at + 1 < self.ring.len() {
            self.at + 1
        } else {
            0
        };
        self.recorded += 1;
        Mark(self.recorded - 1)
    }

    pub(super) fn complete(&mut self, mark: Mark, failed: bool) -> bool {
        let size = self.ring.len();
        let Some(back) = usize::try_from(self.recorded - mark.0)
            .ok()
            .filter(|back| *back <= size)
        else {
            return false;
        };
        let at = (self.at + size - back) % size;
        if let Some(cell) = self.ring.get_mut(at)
            && failed
            && *cell & FAILED == 0
        {
            *cell |= FAILED;
            self.totals.failures += 1;
        }
        true
    }

    pub(super) fn clear(&mut self) {
        self.ring.fill(0);
        self.totals = Counts::default();
    }
}
