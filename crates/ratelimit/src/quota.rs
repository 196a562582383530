//! [`Quota`]: how much in which time, in units that cannot be misread.

use std::time::Duration;

/// So many units in so much time: `Quota::per_second(10)` is ten in each second.
///
/// ```
/// use std::time::Duration;
/// use redkit_ratelimit::Quota;
///
/// let quota = Quota::per_minute(100).burst(20);
/// assert_eq!((quota.limit(), quota.window()), (100, Duration::from_secs(60)));
/// assert_eq!(quota, Quota::per(100, Duration::from_secs(60)).burst(20));
/// ```
///
/// A quota is checked where it is used: when a limiter is built, or a call names one. It holds
/// 1 to 10⁹ units, in a window of 1 ms to 366 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quota {
    limit: u64,
    window: Duration,
    burst: Option<u64>,
}

impl Quota {
    /// `limit` units in every `window`.
    pub const fn per(limit: u64, window: Duration) -> Self {
        Self {
            limit,
            window,
            burst: None,
        }
    }

    /// `limit` units in every second.
    pub const fn per_second(limit: u64) -> Self {
        Self::per(limit, Duration::from_secs(1))
    }

    /// `limit` units in every minute.
    pub const fn per_minute(limit: u64) -> Self {
        Self::per(limit, Duration::from_secs(60))
    }

    /// `limit` units in every hour.
    pub const fn per_hour(limit: u64) -> Self {
        Self::per(limit, Duration::from_secs(3600))
    }

    /// `limit` units in every 24 hours.
    pub const fn per_day(limit: u64) -> Self {
        Self::per(limit, Duration::from_secs(86_400))
    }

    /// How many units may be taken at once after a pause in which none were taken. For
    /// [GCRA](crate::Algorithm::Gcra) (default: the whole limit) and the
    /// [leaky bucket](crate::Algorithm::Leaky) (default: 1); windows have no burst apart from
    /// their limit, and refuse one.
    #[must_use]
    pub const fn burst(mut self, burst: u64) -> Self {
        self.burst = Some(burst);
        self
    }

    /// The units.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// The window.
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// The burst, when one was given.
    pub const fn burst_size(&self) -> Option<u64> {
        self.burst
    }
}
