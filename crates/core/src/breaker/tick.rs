//! The breaker's own time: nanoseconds since the breaker was made.
//!
//! The state machine knows no clock type, so that tests and the concurrency model give it any
//! instants they like, and a point in time is one word to store and compare.

use std::time::Duration;

/// A point in time, counted from the making of the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Tick(u64);

impl Tick {
    /// The instant `elapsed` after the breaker was made (584 years at most).
    pub(super) fn after(elapsed: Duration) -> Self {
        Self(nanos(elapsed))
    }

    /// Nanoseconds from `earlier` to this tick, or none when `earlier` is the later one.
    pub(super) fn since(self, earlier: Tick) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This tick moved into the future.
    pub(super) fn plus(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// How long after the making of the breaker this is.
    pub(super) fn elapsed(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// How many whole spans of `width` nanoseconds lie before this tick.
    pub(super) fn spans(self, width: u64) -> u64 {
        self.0.checked_div(width).unwrap_or(0)
    }
}

/// A duration in whole nanoseconds; one that does not fit is as long as can be told.
pub(super) fn nanos(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::from(duration.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_and_sums_saturate() {
        let (early, late) = (Tick(10), Tick(25));
        assert_eq!((late.since(early), early.since(late)), (15, 0));
        assert_eq!(late.plus(u64::MAX), Tick(u64::MAX));
        assert_eq!(nanos(Duration::MAX), u64::MAX);
        assert_eq!(nanos(Duration::new(2, 5)), 2_000_000_005);
        assert_eq!(Tick(29).spans(10), 2);
    }
}
