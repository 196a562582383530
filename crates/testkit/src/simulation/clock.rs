//! [`LocalClock`]: what the clock of a host shows at a time of the world.

use std::time::Duration;

/// A clock that runs a little fast or slow, and may leap ahead. It never goes back, as the monotonic
/// clocks of operating systems never do.
#[derive(Debug, Clone, Copy)]
pub(super) struct LocalClock {
    /// By how much it is fast, in parts per million.
    drift: i32,
    /// The sum of its leaps.
    leaps: Duration,
}

const MILLION: i128 = 1_000_000;

impl LocalClock {
    pub(super) fn new(drift: i32) -> Self {
        Self {
            drift,
            leaps: Duration::ZERO,
        }
    }

    /// What it shows at this time of the world.
    pub(super) fn local(&self, world: Duration) -> Duration {
        let nanos = signed(world);
        let shown = nanos + nanos * i128::from(self.drift) / MILLION;
        duration(shown) + self.leaps
    }

    /// The first time of the world at which it shows this time or a later one.
    pub(super) fn world(&self, local: Duration) -> Duration {
        let nanos = signed(local.saturating_sub(self.leaps));
        let rate = MILLION + i128::from(self.drift);
        let mut world = duration(nanos * MILLION / rate);
        while self.local(world) < local {
            world += Duration::from_nanos(1);
        }
        world
    }

    /// From now on it shows so much more.
    pub(super) fn leap(&mut self, by: Duration) {
        self.leaps += by;
    }
}

fn signed(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

fn duration(nanos: i128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_shows_more_and_is_read_back() {
        let second = Duration::from_secs(1);
        let mut clock = LocalClock::new(500);
        assert_eq!(clock.local(second), Duration::from_micros(1_000_500));
        clock.leap(second);
        for drift in [-20_000, -1, 0, 7, 20_000] {
            let clock = LocalClock {
                drift,
                leaps: Duration::from_millis(70),
            };
            for nanos in [70_000_000, 70_000_001, 123_456_789, 9_999_999_999_999] {
                let local = Duration::from_nanos(nanos);
                let world = clock.world(local);
                assert!(clock.local(world) >= local, "{drift} {nanos}");
                let before = world.saturating_sub(Duration::from_nanos(1));
                assert!(
                    world.is_zero() || clock.local(before) < local,
                    "{drift} {nanos}"
                );
            }
        }
    }
}
