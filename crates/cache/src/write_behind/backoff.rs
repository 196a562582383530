//! Growing pauses.

use std::time::Duration;

/// The pause after so many failures in a row: doubled for each, up to the second of `bounds`; of
/// that, a random part between a half and the whole, so that what failed together does not come
/// back together.
pub(super) fn pause(bounds: (Duration, Duration), failures: u32) -> Duration {
    let (base, most) = bounds;
    let doublings = failures.saturating_sub(1).min(31);
    let whole = base.saturating_mul(1 << doublings).min(most);
    whole.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound_and_vary() {
        let bounds = (Duration::from_millis(100), Duration::from_secs(3));
        for (failures, whole) in [
            (0, 100),
            (1, 100),
            (2, 200),
            (5, 1600),
            (6, 3000),
            (900, 3000),
        ] {
            let whole = Duration::from_millis(whole);
            let pauses: Vec<_> = (0..50).map(|_| pause(bounds, failures)).collect();
            assert!(
                pauses.iter().all(|p| (whole / 2..=whole).contains(p)),
                "{failures}: {pauses:?}"
            );
            assert!(pauses.iter().any(|p| *p != pauses[0]), "{failures}");
        }
    }
}
