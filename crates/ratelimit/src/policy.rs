//! [`Policy`]: a quota, and how it is counted.

use std::fmt;
use std::time::Duration;

use crate::quota::Quota;

/// How units are counted. All of them are decided on the server's clock, in µs, in one round trip.
///
/// | | admits in any window at most | state | server time |
/// |---|---|---|---|
/// | [`FixedWindow`](Self::FixedWindow) | 2 × limit | a hash | least |
/// | [`SlidingCounter`](Self::SlidingCounter) | less than 2 × limit, in the mean the limit | a hash | little |
/// | [`SlidingLog`](Self::SlidingLog) | the limit, and all of it | 10 bytes per unit | more |
/// | [`Bucketed`](Self::Bucketed) | the limit | a hash of slices | more |
/// | [`Gcra`](Self::Gcra) | burst + limit | a string | little |
/// | [`Leaky`](Self::Leaky) | burst + limit, paced | a string | little |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// A window that begins with the first call that finds none. Cheapest; the end of one window
    /// and the beginning of the next may meet.
    FixedWindow,
    /// The count of this window, and that of the one before it by the share that the sliding
    /// window still covers. Smooth and small; assumes that calls were spread evenly over the
    /// window before.
    SlidingCounter,
    /// The time of every unit. Exact; costs memory by the unit (at most 10⁶ of them).
    SlidingLog,
    /// The window in slices, the oldest counted whole: never admits more than the limit, and by
    /// the share of a slice less.
    Bucketed {
        /// How many slices, from 2 to 1,000. With 10 up to a tenth of the limit is given away.
        slices: u32,
    },
    /// The generic cell rate algorithm, which is a token bucket by another name: `limit / window`
    /// a second, and [`burst`](Quota::burst) at once after a pause.
    Gcra,
    /// A leaky bucket as a queue: calls are let through at `limit / window`, and a call that has to
    /// wait for its turn is told for how long ([`Decision::delay`](crate::Decision::delay)). Who
    /// would wait longer than `max_wait` is denied.
    Leaky {
        /// The longest wait.
        max_wait: Duration,
    },
}

impl Algorithm {
    /// The word for it in keys and scripts.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Algorithm::FixedWindow => "fixed",
            Algorithm::SlidingCounter => "counter",
            Algorithm::SlidingLog => "log",
            Algorithm::Bucketed { .. } => "bucketed",
            Algorithm::Gcra => "gcra",
            Algorithm::Leaky { .. } => "leaky",
        }
    }
}

/// The word for it in keys and configuration.
impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A quota, how it is counted, and a name by which decisions and headers tell it from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    algorithm: Algorithm,
    quota: Quota,
    name: Option<String>,
}

impl Policy {
    /// Any algorithm.
    pub fn new(algorithm: Algorithm, quota: Quota) -> Self {
        Self {
            algorithm,
            quota,
            name: None,
        }
    }

    /// A [fixed window](Algorithm::FixedWindow).
    pub fn fixed_window(quota: Quota) -> Self {
        Self::new(Algorithm::FixedWindow, quota)
    }

    /// A [sliding window counter](Algorithm::SlidingCounter).
    pub fn sliding_counter(quota: Quota) -> Self {
        Self::new(Algorithm::SlidingCounter, quota)
    }

    /// A [sliding log](Algorithm::SlidingLog).
    pub fn sliding_log(quota: Quota) -> Self {
        Self::new(Algorithm::SlidingLog, quota)
    }

    /// A [window in ten slices](Algorithm::Bucketed).
    pub fn bucketed(quota: Quota) -> Self {
        Self::new(Algorithm::Bucketed { slices: 10 }, quota)
    }

    /// [GCRA](Algorithm::Gcra).
    pub fn gcra(quota: Quota) -> Self {
        Self::new(Algorithm::Gcra, quota)
    }

    /// A token bucket, which is [GCRA](Algorithm::Gcra): the burst is its size.
    pub fn token_bucket(quota: Quota) -> Self {
        Self::gcra(quota)
    }

    /// A [leaky bucket](Algorithm::Leaky) that lets calls wait for `max_wait` at most.
    pub fn leaky(quota: Quota, max_wait: Duration) -> Self {
        Self::new(Algorithm::Leaky { max_wait }, quota)
    }

    /// Names the policy: letters, digits, `-`, `_` and `.`. A limiter with several needs a name for
    /// each; alone it has the limiter's.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How units are counted.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The quota.
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// The name, when one was given.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}
