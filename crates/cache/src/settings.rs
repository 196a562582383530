//! [`Settings`]: how a cache behaves, checked once.

use std::time::Duration;

use redkit_core::ConfigError;

use crate::entry::millis;

/// Long before the server's clock overflows.
const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long the meta hash and tags live at least, so that rarely used ones are not made anew all the
/// time.
const AN_HOUR: Duration = Duration::from_secs(3600);

/// The longest wait: it is added to the time of day, which must not overflow.
const A_DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) ttl: Duration,
    pub(crate) ttl_jitter: f64,
    pub(crate) stale_for: Duration,
    pub(crate) negative_ttl: Option<Duration>,
    pub(crate) load_timeout: Duration,
    pub(crate) soft_timeout: Option<Duration>,
    pub(crate) wait_timeout: Option<Duration>,
    pub(crate) retry_after: Duration,
    pub(crate) refresh: Refresh,
    pub(crate) lease: Duration,
    pub(crate) redis_timeout: Duration,
    pub(crate) max_bypass_loads: usize,
    pub(crate) clearable: bool,
    pub(crate) announces: bool,
}

/// When a value that is still fresh is loaded anew.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Refresh {
    Never,
    /// From this share of its time on.
    Ahead(f64),
    /// At random, the likelier the nearer the end and the longer the load takes.
    Early(f64),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ttl: Duration::ZERO,
            ttl_jitter: 0.0,
            stale_for: Duration::ZERO,
            negative_ttl: None,
            load_timeout: Duration::from_secs(10),
            soft_timeout: None,
            wait_timeout: None,
            retry_after: Duration::from_secs(1),
            refresh: Refresh::Never,
            lease: Duration::from_secs(3),
            redis_timeout: Duration::from_millis(250),
            max_bypass_loads: 64,
            clearable: true,
            announces: true,
        }
    }
}

impl Settings {
    /// Gives the settings when they can work.
    pub(crate) fn check(self) -> Result<Self, ConfigError> {
        let a_time = "give a time such as 10s";
        if self.ttl.is_zero() {
            return wrong(
                "ttl",
                "it is zero or not given",
                "say how long values are kept",
            );
        }
        between("ttl", self.ttl)?;
        if let Some(ttl) = self.negative_ttl {
            between("negative_ttl", ttl)?;
        }
        if self.stale_for > TEN_YEARS {
            return wrong("stale_for", "it is over 10 years", a_time);
        }
        if !(0.0..=1.0).contains(&self.ttl_jitter) {
            let fix = "give a share of the time such as 0.1";
            return wrong("ttl_jitter", "it lies outside 0..1", fix);
        }
        match self.refresh {
            Refresh::Ahead(threshold) if !(threshold > 0.0 && threshold < 1.0) => {
                let fix =
                    "give the share of its time after which a value is loaded anew, such as 0.8";
                return wrong("refresh_ahead", "it lies outside 0..1", fix);
            }
            Refresh::Early(beta) if !(beta > 0.0 && beta.is_finite()) => {
                return wrong("refresh_early", "it is not above zero", "1.0 is usual");
            }
            _ => {}
        }
        if self.load_timeout.is_zero() || self.load_timeout > A_DAY {
            return wrong("load_timeout", "it is zero or over a day", a_time);
        }
        if self
            .wait_timeout
            .is_some_and(|time| time.is_zero() || time > A_DAY)
        {
            return wrong("wait_timeout", "it is zero or over a day", a_time);
        }
        if self.soft_timeout.is_some_and(|time| time > A_DAY) {
            return wrong("soft_timeout", "it is over a day", a_time);
        }
        if self.lease < Duration::from_millis(10) || self.lease > Duration::from_secs(3600) {
            return wrong("lease", "it is under 10 ms or over an hour", "3s is usual");
        }
        if self.redis_timeout.is_zero() || self.redis_timeout > A_DAY {
            return wrong(
                "redis_timeout",
                "it is zero or over a day",
                "250ms is usual",
            );
        }
        if self.retry_after > A_DAY {
            return wrong("retry_after", "it is over a day", "1s is usual");
        }
        if self.max_bypass_loads == 0 {
            let fix = "give the number of loads that your source can bear";
            return wrong("max_bypass_loads", "it is zero", fix);
        }
        Ok(self)
    }

    /// How long the meta hash and tags are kept: longer than any entry that was written by them.
    pub(crate) fn meta_ms(&self, lifetime_ms: u64) -> u64 {
        let usual = millis(self.ttl.saturating_add(self.stale_for));
        usual
            .max(lifetime_ms)
            .saturating_add(millis(self.load_timeout))
            .saturating_mul(2)
            .max(millis(AN_HOUR))
            .min(MAX_MS)
    }

    /// How long another process's load is waited for.
    pub(crate) fn wait_timeout(&self) -> Duration {
        self.wait_timeout.unwrap_or(self.load_timeout)
    }

    /// Whether the time that an entry has left matters on a hit.
    pub(crate) fn needs_time_left(&self) -> bool {
        !self.stale_for.is_zero() || self.refresh != Refresh::Never
    }
}

/// A hundred years: the longest that anything is kept.
const MAX_MS: u64 = 100 * 365 * 24 * 3_600_000;

/// The shortest time that the server knows.
pub(crate) const A_MOMENT: Duration = Duration::from_millis(1);

/// A time to live that a loader asks for, cut to what the server takes.
pub(crate) fn bounded(ttl: Duration) -> Duration {
    ttl.min(Duration::from_millis(MAX_MS / 4))
}

fn between(field: &'static str, ttl: Duration) -> Result<(), ConfigError> {
    if ttl < Duration::from_millis(1) || ttl > TEN_YEARS {
        let problem = "it is under 1 ms or over 10 years";
        return Err(ConfigError::new(field, problem, "give a time between"));
    }
    Ok(())
}

fn wrong<T>(
    field: &'static str,
    problem: &'static str,
    fix: &'static str,
) -> Result<T, ConfigError> {
    Err(ConfigError::new(field, problem, fix))
}
