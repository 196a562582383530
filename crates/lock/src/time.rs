//! Times as scripts take them, and times that a caller may ask for.

use std::time::Duration;

use redkit_core::ConfigError;
use tokio::time::Instant;

/// Whole microseconds, as scripts take them.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Whole milliseconds, rounded up, as `PEXPIRE` and its kin take them.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// When a wait of `timeout` ends; one that is longer than any process lives ends in a year.
pub(crate) fn deadline_after(timeout: Duration) -> Instant {
    Instant::now() + timeout.min(LONGEST_WAIT)
}

const LONGEST_WAIT: Duration = Duration::from_secs(365 * 86_400);

/// # Errors
/// [`ConfigError`] for a lease that cannot be renewed in time, or outlives its use.
pub(crate) fn check_lease(field: &'static str, lease: Duration) -> Result<(), ConfigError> {
    if (Duration::from_millis(100)..=Duration::from_secs(86_400)).contains(&lease) {
        return Ok(());
    }
    Err(ConfigError::new(
        field,
        "it is under 100 ms or over a day",
        "give a time such as 30 s",
    ))
}
