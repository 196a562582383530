//! Profiles: settings that belong together, for programs in production and on a desk.

use std::time::Duration;

use super::ClientConfig;

/// A set of settings to start from: `profile = "production"` in serde, `?profile=production` in a
/// URL, `REDKIT_PROFILE` in the environment. What is set besides wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Production,
    Development,
}

impl Profile {
    pub(super) fn config(self) -> ClientConfig {
        match self {
            Profile::Production => ClientConfig::production(),
            Profile::Development => ClientConfig::development(),
        }
    }
}

/// Profiles.
///
/// | setting | default | production | development |
/// |---|---|---|---|
/// | `breaker_minimum_calls` at a `breaker_failure_rate` of 0.5 | 20 | 20: 10 failed calls open it | 6: 3 failed calls open it |
/// | `breaker_open_for` | 2 s | 4 s | 1 s |
/// | `retry_attempts` | 3 | 6: five repetitions | 3: two repetitions |
/// | `retry_min_delay` to `retry_max_delay` | 10 to 200 ms | 10 to 200 ms | 10 to 100 ms |
/// | `batch_keys` | 1,000 | 500 | 1,000 |
///
/// Every other setting is at its default. Attempts and pauses end with the command's timeout, and an
/// open breaker closes as soon as the server answers again, so neither delays a failure or a recovery
/// by what the table says at most.
impl ClientConfig {
    /// For production: tolerant of short trouble, gentle to a server that is shared. Goes on from
    /// the server at `redis://127.0.0.1:6379`, which [`with_url`](Self::with_url) replaces.
    ///
    /// ```
    /// use redkit_core::ClientConfig;
    ///
    /// let config = ClientConfig::production().with_url("rediss://cache.internal?namespace=shop")?;
    /// // The same, all in one text:
    /// let config = ClientConfig::from_url("rediss://cache.internal?namespace=shop&profile=production")?;
    /// # Ok::<(), redkit_core::ConfigError>(())
    /// ```
    pub fn production() -> Self {
        let mut config = Self::default();
        config.breaker.minimum_calls = 20;
        config.breaker.failure_rate = 0.5;
        config.breaker.open_for = Duration::from_secs(4);
        config
            .retry(6, Duration::from_millis(10), Duration::from_millis(200))
            .batch_keys(500)
    }

    /// For development: trouble shows soon, and is over soon.
    pub fn development() -> Self {
        let mut config = Self::default();
        config.breaker.minimum_calls = 6;
        config.breaker.failure_rate = 0.5;
        config.breaker.open_for = Duration::from_secs(1);
        config
            .retry(3, Duration::from_millis(10), Duration::from_millis(100))
            .batch_keys(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_where_the_settings_start() {
        let url = "redis://h?profile=production&retry_attempts=2";
        let config = ClientConfig::from_url(url).unwrap();
        assert_eq!(config.retry.max_attempts, 2);
        assert_eq!(config.retry.max_delay, Duration::from_millis(200));
        assert_eq!(config.breaker.open_for, Duration::from_secs(4));
        assert_eq!(config.batch_keys, 500);

        let same = ClientConfig::production().with_url("redis://h?retry_attempts=2");
        assert_eq!(format!("{:?}", same.unwrap()), format!("{config:?}"));
        let error = ClientConfig::from_url("redis://h?profile=test").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("write production or development"),
            "{error}"
        );
    }

    #[test]
    fn profiles_are_valid_and_differ() {
        let (production, development) = (ClientConfig::production(), ClientConfig::development());
        production.validate().unwrap();
        development.validate().unwrap();
        let threshold = |config: &ClientConfig| {
            f64::from(config.breaker.minimum_calls) * config.breaker.failure_rate
        };
        // The original's thresholds.
        assert_eq!(
            (threshold(&production), threshold(&development)),
            (10.0, 3.0)
        );
    }
}
