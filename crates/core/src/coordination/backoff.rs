//! [`Backoff`]: growing pauses between attempts.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::random::random_range;

/// Pauses between attempts: each twice as long as the one before, up to a bound. Of each pause a
/// random part between a half and the whole is taken, so that callers who failed together do not come
/// back together.
///
/// ```
/// use std::time::Duration;
/// use redkit_core::coordination::Backoff;
///
/// let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
/// assert!(backoff.next_pause() <= Duration::from_millis(50));
/// assert!(backoff.next_pause() <= Duration::from_millis(100));
/// backoff.reset(); // after an attempt that succeeded
/// assert!(backoff.next_pause() <= Duration::from_millis(50));
/// ```
#[derive(Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    pauses: Option<ExponentialBackoff>,
}

impl Backoff {
    /// Pauses that begin with `min` and grow to `max`.
    pub const fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            pauses: None,
        }
    }

    /// The pause after one more failure.
    pub fn next_pause(&mut self) -> Duration {
        let (min, max) = (self.min, self.max);
        let whole = self.pauses.get_or_insert_with(|| pauses(min, max)).next();
        part_of(whole.unwrap_or(max))
    }

    /// The pause after so many failures in a row, for a caller that keeps their number elsewhere.
    pub fn pause_after(&self, failures: u32) -> Duration {
        // After 31 doublings a pause of a nanosecond is two seconds: any real bound is reached.
        let doublings = failures.saturating_sub(1).min(MOST_DOUBLINGS);
        let doublings = usize::try_from(doublings).unwrap_or(0);
        let whole = pauses(self.min, self.max).nth(doublings);
        part_of(whole.unwrap_or(self.max))
    }

    /// Begins anew with the shortest pause.
    pub fn reset(&mut self) {
        self.pauses = None;
    }
}

const MOST_DOUBLINGS: u32 = 31;

fn pauses(min: Duration, max: Duration) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(min.min(max))
        .with_max_delay(max)
        .without_max_times()
        .build()
}

fn part_of(whole: Duration) -> Duration {
    whole.mul_f64(random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound_and_vary() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(3));
        for (failures, whole) in [
            (0, 100),
            (1, 100),
            (2, 200),
            (5, 1600),
            (6, 3000),
            (900, 3000),
        ] {
            let whole = Duration::from_millis(whole);
            let pauses: Vec<_> = (0..50).map(|_| backoff.pause_after(failures)).collect();
            assert!(
                pauses.iter().all(|p| (whole / 2..=whole).contains(p)),
                "{failures}: {pauses:?}"
            );
            assert!(pauses.iter().any(|p| *p != pauses[0]), "{failures}");
        }
    }

    #[test]
    fn a_reset_begins_with_the_shortest_pause() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(40));
        let wholes = [10, 20, 40, 40].map(Duration::from_millis);
        for whole in wholes {
            let pause = backoff.next_pause();
            assert!(
                (whole / 2..=whole).contains(&pause),
                "{pause:?} of {whole:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next_pause() <= wholes[0]);
    }
}
