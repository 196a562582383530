//! [`Plan`]: a policy as the integers that its script takes, checked so that nothing in the script
//! leaves the range in which Lua's numbers are exact.

use std::time::Duration;

use redkit_core::ConfigError;
use smallvec::{SmallVec, smallvec};

use crate::policy::Algorithm;
use crate::quota::Quota;

/// The most units of a quota or a burst.
const MAX_UNITS: u64 = 1_000_000_000;
/// The most units of a log, which stores each of them.
const MAX_LOG: u64 = 1_000_000;
const MIN_WINDOW: Duration = Duration::from_millis(1);
const MAX_WINDOW: Duration = Duration::from_secs(366 * 86_400);
/// How long a burst may take to drain.
const MAX_DRAIN_MICROS: u128 = 10 * 366 * 86_400 * 1_000_000;
/// Products in scripts stay below 2^52, so that a sum of two of them is exact as well.
const EXACT: u128 = 1 << 52;

/// The numbers of a limit that its script takes: a variant for each part in `src/scripts`, whose header says
/// what the fields mean. Times are in µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    FixedWindow {
        limit: u64,
        window: u64,
    },
    SlidingCounter {
        limit: u64,
        window_in_grains: u64,
        grain: u64,
    },
    SlidingLog {
        limit: u64,
        window: u64,
    },
    Bucketed {
        limit: u64,
        slice: u64,
        slices: u64,
    },
    /// GCRA, and the leaky bucket: a unit is `weight`, and `share` drains in a µs.
    Rate {
        burst: u64,
        weight: u64,
        share: u64,
        /// How long this call may be told to wait for its turn.
        max_delay: u64,
        /// How long calls of the limit may be told to wait, also where this one may not.
        queue: u64,
    },
    /// Places that are held by leases.
    Concurrency {
        limit: u64,
        lease: u64,
    },
}

impl Plan {
    pub(crate) fn new(algorithm: Algorithm, quota: Quota) -> Result<Self, ConfigError> {
        let (limit, window) = (quota.limit(), check_quota(quota)?);
        let has_burst = matches!(algorithm, Algorithm::Gcra | Algorithm::Leaky { .. });
        if !has_burst && quota.burst_size().is_some() {
            return Err(ConfigError::new(
                "burst",
                "a window has no burst apart from its limit",
                "leave it out, or use GCRA or a leaky bucket",
            ));
        }
        match algorithm {
            Algorithm::FixedWindow => Ok(Plan::FixedWindow { limit, window }),
            Algorithm::SlidingCounter => {
                // Grains as small as products of limit and window allow.
                let grain = to_u64((u128::from(limit) * u128::from(window)).div_ceil(EXACT)).max(1);
                Ok(Plan::SlidingCounter {
                    limit,
                    window_in_grains: window.div_ceil(grain),
                    grain,
                })
            }
            Algorithm::SlidingLog if limit > MAX_LOG => Err(ConfigError::new(
                "limit",
                "a log stores every unit, and takes 1,000,000 at most",
                "use a smaller limit, or another algorithm",
            )),
            Algorithm::SlidingLog => Ok(Plan::SlidingLog { limit, window }),
            Algorithm::Bucketed { slices } if !(2..=1000).contains(&slices) => {
                Err(ConfigError::new(
                    "slices",
                    "there are fewer than 2 or more than 1,000 of them",
                    "use a number such as 10",
                ))
            }
            Algorithm::Bucketed { slices } => {
                let slices = u64::from(slices);
                Ok(Plan::Bucketed {
                    limit,
                    slice: window.div_ceil(slices),
                    slices,
                })
            }
            Algorithm::Gcra => Self::rate(quota, window, limit, Duration::ZERO),
            Algorithm::Leaky { max_wait } => Self::rate(quota, window, 1, max_wait),
        }
    }

    /// A quota that flows: `limit` units in `window` µs, which is `weight / share` µs for a unit in
    /// lowest terms. Only where numbers would become too large it is rounded, up, by less than a
    /// millionth.
    fn rate(
        quota: Quota,
        window: u64,
        default_burst: u64,
        max_wait: Duration,
    ) -> Result<Self, ConfigError> {
        let limit = quota.limit();
        let burst = check_units("burst", quota.burst_size().unwrap_or(default_burst))?;
        if max_wait > MAX_WINDOW {
            return Err(ConfigError::new(
                "max_wait",
                "it is over 366 days",
                "give a shorter time",
            ));
        }
        let queue = to_u64(max_wait.as_micros());
        let drain = u128::from(burst) * u128::from(window) / u128::from(limit);
        if drain > MAX_DRAIN_MICROS {
            return Err(ConfigError::new(
                "burst",
                "at this rate it takes over ten years until it is there again",
                "use a smaller burst or a higher rate",
            ));
        }
        let queued_units = u128::from(queue) * u128::from(limit) / u128::from(window);
        if queued_units > u128::from(MAX_UNITS) {
            return Err(ConfigError::new(
                "max_wait",
                "at this rate over 1,000,000,000 units would wait",
                "give a shorter time",
            ));
        }
        let common = gcd(limit, window);
        let (full_weight, full_share) = (window / common, limit / common);
        let (mut weight, mut share) = (full_weight, full_share);
        let capacity = |weight: u64, share: u64| {
            u128::from(burst) * u128::from(weight) + u128::from(queue) * u128::from(share)
        };
        while capacity(weight, share) > EXACT && share > 1 {
            let factor = to_u64(capacity(weight, share).div_ceil(EXACT)).max(2);
            share = (share / factor).max(1);
            let scaled = u128::from(full_weight) * u128::from(share);
            weight = to_u64(scaled.div_ceil(u128::from(full_share)));
        }
        Ok(Plan::Rate {
            burst,
            weight,
            share,
            max_delay: queue,
            queue,
        })
    }

    /// The name of the plan's part in scripts.
    pub(crate) fn script_part(&self) -> &'static str {
        match self {
            Plan::FixedWindow { .. } => "fixed",
            Plan::SlidingCounter { .. } => "counter",
            Plan::SlidingLog { .. } => "log",
            Plan::Bucketed { .. } => "bucketed",
            Plan::Rate { .. } => "gcra",
            Plan::Concurrency { .. } => "concurrency",
        }
    }

    /// The part's parameters, in their order. The first is the most units that fit without waiting.
    pub(crate) fn parameters(&self) -> SmallVec<[u64; 4]> {
        match *self {
            Plan::FixedWindow { limit, window } | Plan::SlidingLog { limit, window } => {
                smallvec![limit, window]
            }
            Plan::SlidingCounter {
                limit,
                window_in_grains,
                grain,
            } => smallvec![limit, window_in_grains, grain],
            Plan::Bucketed {
                limit,
                slice,
                slices,
            } => smallvec![limit, slice, slices],
            Plan::Rate {
                burst,
                weight,
                share,
                max_delay,
                ..
            } => smallvec![burst, weight, share, max_delay],
            Plan::Concurrency { limit, lease } => smallvec![limit, lease],
        }
    }

    /// The limit as a decision names it: the most units that one call can take.
    pub(crate) fn most_units(&self) -> u64 {
        match *self {
            Plan::FixedWindow { limit, .. }
            | Plan::SlidingCounter { limit, .. }
            | Plan::SlidingLog { limit, .. }
            | Plan::Bucketed { limit, .. }
            | Plan::Concurrency { limit, .. } => limit,
            Plan::Rate {
                burst,
                weight,
                share,
                max_delay,
                ..
            } => (burst * weight + max_delay * share) / weight,
        }
    }

    /// How long a unit takes to come back, of a rate.
    pub(crate) fn unit_after(&self) -> Option<Duration> {
        match *self {
            Plan::Rate { weight, share, .. } => Some(Duration::from_micros(weight.div_ceil(share))),
            _ => None,
        }
    }

    /// For how long a receipt can be worth anything, in µs.
    pub(crate) fn receipt_life(&self) -> u64 {
        match *self {
            Plan::FixedWindow { window, .. } | Plan::SlidingLog { window, .. } => window,
            Plan::SlidingCounter {
                window_in_grains,
                grain,
                ..
            } => 2 * window_in_grains * grain,
            Plan::Bucketed { slice, slices, .. } => slice * (slices + 1),
            Plan::Rate {
                burst,
                weight,
                share,
                queue,
                ..
            } => (burst * weight + queue * share) / share + 1,
            Plan::Concurrency { lease, .. } => lease,
        }
    }

    /// The same for one of `instances` processes that divide the limit among themselves; `None` when
    /// there is less than one unit for each.
    pub(crate) fn divided(mut self, instances: u64) -> Option<Self> {
        if let Plan::Rate { weight, .. } = &mut self {
            // The rate is divided too: a unit takes as many times longer. This stays in the exact
            // range because the burst is divided by the same number.
            *weight = weight.checked_mul(instances)?;
        }
        let units = match &mut self {
            Plan::FixedWindow { limit, .. }
            | Plan::SlidingCounter { limit, .. }
            | Plan::SlidingLog { limit, .. }
            | Plan::Bucketed { limit, .. }
            | Plan::Concurrency { limit, .. } => limit,
            Plan::Rate { burst, .. } => burst,
        };
        *units = units.checked_div(instances)?;
        (*units > 0).then_some(self)
    }

    /// Whether the plan's units are held by a lease.
    pub(crate) fn is_concurrency(&self) -> bool {
        matches!(self, Plan::Concurrency { .. })
    }

    /// Whether calls may be told to wait for their turn.
    pub(crate) fn has_queue(&self) -> bool {
        matches!(self, Plan::Rate { queue: 1.., .. })
    }

    /// The same for a call that may wait for its turn. Refunds need it, however the units were
    /// taken, because others may have been told when to go.
    pub(crate) fn with_delay(mut self) -> Self {
        if let Plan::Rate {
            max_delay, queue, ..
        } = &mut self
        {
            *max_delay = *queue;
        }
        self
    }

    /// The same for a call that goes at once or not at all.
    pub(crate) fn without_delay(mut self) -> Self {
        if let Plan::Rate { max_delay, .. } = &mut self {
            *max_delay = 0;
        }
        self
    }
}

/// Checks a quota and gives its window in µs.
fn check_quota(quota: Quota) -> Result<u64, ConfigError> {
    check_units("limit", quota.limit())?;
    let window = quota.window();
    if window < MIN_WINDOW || window > MAX_WINDOW {
        return Err(ConfigError::new(
            "window",
            "it is under 1 ms or over 366 days",
            "give a time between",
        ));
    }
    // Whole µs: a fraction would make the window shorter than it is.
    Ok(to_u64(window.as_nanos().div_ceil(1000)))
}

fn check_units(field: &'static str, units: u64) -> Result<u64, ConfigError> {
    match units {
        0 => Err(ConfigError::new(
            field,
            "it is zero, which nothing ever satisfies",
            "give at least 1",
        )),
        1..=MAX_UNITS => Ok(units),
        _ => Err(ConfigError::new(
            field,
            "it is over 1,000,000,000",
            "give a smaller number, or count in larger units",
        )),
    }
}

/// Of numbers that were checked to be in range.
fn to_u64(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn gcd(a: u64, b: u64) -> u64 {
    match b {
        0 => a,
        _ => gcd(b, a % b),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(algorithm: Algorithm, quota: Quota) -> String {
        let error = Plan::new(algorithm, quota).unwrap_err();
        error.field().to_owned()
    }

    #[test]
    fn quotas_that_cannot_work_are_refused_by_name() {
        let second = Duration::from_secs(1);
        for (limit, window, expected) in [
            (0, second, "limit"),
            (MAX_UNITS + 1, second, "limit"),
            (u64::MAX, Duration::MAX, "limit"),
            (1, Duration::ZERO, "window"),
            (1, Duration::from_micros(999), "window"),
            (1, MAX_WINDOW + second, "window"),
            (1, Duration::MAX, "window"),
        ] {
            let quota = Quota::per(limit, window);
            for algorithm in [
                Algorithm::FixedWindow,
                Algorithm::Gcra,
                Algorithm::SlidingCounter,
            ] {
                assert_eq!(field(algorithm, quota), expected, "{quota:?}");
            }
        }
        let quota = Quota::per_second(5);
        assert_eq!(field(Algorithm::Gcra, quota.burst(0)), "burst");
        assert_eq!(field(Algorithm::SlidingLog, quota.burst(1)), "burst");
        assert_eq!(
            field(Algorithm::Gcra, Quota::per_day(1).burst(4000)),
            "burst"
        );
        assert_eq!(field(Algorithm::Bucketed { slices: 1 }, quota), "slices");
        assert_eq!(
            field(Algorithm::SlidingLog, Quota::per_day(MAX_LOG + 1)),
            "limit"
        );
        let max_wait = Duration::MAX;
        assert_eq!(field(Algorithm::Leaky { max_wait }, quota), "max_wait");
    }

    #[test]
    fn a_rate_that_does_not_divide_evenly_is_kept_exactly() {
        let plan = Plan::new(Algorithm::Gcra, Quota::per_second(7)).unwrap();
        assert_eq!(plan.parameters()[..], [7, 1_000_000, 7, 0]);
        let plan = Plan::new(Algorithm::Gcra, Quota::per_minute(100).burst(20)).unwrap();
        assert_eq!(plan.parameters()[..], [20, 600_000, 1, 0]);
        assert_eq!(plan.most_units(), 20);
    }

    #[test]
    fn dividing_never_gives_more_than_there_was() {
        let fixed = Plan::new(Algorithm::FixedWindow, Quota::per_second(10)).unwrap();
        assert_eq!(fixed.divided(3).unwrap().most_units(), 3);
        assert!(fixed.divided(11).is_none());
        let gcra = Plan::new(Algorithm::Gcra, Quota::per_second(10).burst(5)).unwrap();
        assert_eq!(
            gcra.divided(5).unwrap().parameters()[..],
            [1, 500_000, 1, 0]
        );
        assert!(gcra.divided(6).is_none(), "a burst of less than one");
    }

    proptest! {
        #[test]
        fn everything_stays_exact_and_no_rate_is_above_its_quota(
            limit in 1..=MAX_UNITS,
            window in 1_000..=366 * 86_400 * 1_000_000_u64,
            burst in 1..=MAX_UNITS,
            wait in 0..=366 * 86_400 * 1_000_000_u64,
        ) {
            let quota = Quota::per(limit, Duration::from_micros(window));
            let plan = Plan::new(Algorithm::SlidingCounter, quota).unwrap();
            let Plan::SlidingCounter { window_in_grains: grains, grain, .. } = plan else {
                panic!("{plan:?}");
            };
            prop_assert!(u128::from(limit) * u128::from(grains) <= EXACT + u128::from(limit));
            prop_assert!(grains * grain >= window, "a window is never shortened");
            prop_assert!(grains * grain - window < grain);

            let max_wait = Duration::from_micros(wait);
            let Ok(plan) = Plan::new(Algorithm::Leaky { max_wait }, quota.burst(burst)) else {
                return Ok(());
            };
            let Plan::Rate { weight, share, max_delay, .. } = plan else {
                panic!("{plan:?}");
            };
            let [weight, share, patience] = [weight, share, max_delay].map(u128::from);
            prop_assert!(u128::from(burst) * weight + patience * share <= EXACT);
            let (window, limit) = (u128::from(window), u128::from(limit));
            prop_assert!(weight * limit >= window * share, "never above the quota");
            // weight / share − window / limit < a millionth of window / limit
            let excess = weight * limit - window * share;
            prop_assert!(excess * 1_000_000 < window * share, "{excess}");
        }
    }
}
