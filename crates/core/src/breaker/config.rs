//! What a breaker is told: [`BreakerConfig`] and the check that it makes sense.

use std::fmt::Display;
use std::time::Duration;

/// The most calls a window by count may hold (one byte each).
const MAX_WINDOW_CALLS: u32 = 1_000_000;
const MIN_WINDOW_TIME: Duration = Duration::from_millis(100);
const MAX_WINDOW_TIME: Duration = Duration::from_secs(60 * 60);
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_HALF_OPEN_CALLS: u32 = 10_000;

/// Over which calls the rates are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// The last so many calls, however long ago they were.
    Count(u32),
    /// The calls of the last so long, kept in buckets of a tenth of it or a second, whichever is
    /// shorter: that is how exact the far edge is.
    Time(Duration),
}

/// The settings of a [`Breaker`](super::Breaker).
///
/// ```
/// use std::time::Duration;
/// use redkit_core::breaker::{BreakerConfig, Window};
///
/// let mut config = BreakerConfig::default();
/// config.window = Window::Count(100);
/// config.open_for = Duration::from_secs(5);
/// assert!(config.validate().is_ok());
///
/// config.minimum_calls = 101;
/// let error = config.validate().unwrap_err();
/// assert_eq!(error.field(), "minimum_calls");
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BreakerConfig {
    /// Whether the breaker may refuse calls by itself. A breaker that may not still counts, and
    /// can still be opened by hand. Default: yes.
    pub enabled: bool,
    /// Over which calls the rates are computed. Default: those of the last 10 s.
    pub window: Window,
    /// How many calls the window must hold before the rates mean anything. Default: 20.
    pub minimum_calls: u32,
    /// The share of failed calls at which the breaker opens, above 0 and at most 1. Default: 0.5.
    pub failure_rate: f64,
    /// A call that takes longer than this is slow, and is counted as slow while it still runs.
    /// Keep it below the command timeout. Default: 500 ms.
    pub slow_call: Duration,
    /// The share of slow calls at which the breaker opens, above 0 and at most 1. To ignore
    /// slowness make [`slow_call`](Self::slow_call) longer than any call can take. Default: 0.8.
    pub slow_call_rate: f64,
    /// How long the breaker refuses everything before it lets probes through. Default: 2 s.
    pub open_for: Duration,
    /// How many probes go through when half open; once so many have ended, the breaker closes or
    /// opens again. Default: 5.
    pub half_open_calls: u32,
    /// A probe that has not ended after this counts as failed, so that one which never ends cannot
    /// keep the breaker half open. Make it longer than the command timeout. Default: 5 s.
    pub half_open_timeout: Duration,
    /// Whether a server that answers but takes no writes just now (`OOM`, `MISCONF`,
    /// `NOREPLICAS`) counts as failing. An open breaker stops reads too, which such a server still
    /// answers. Default: no.
    pub count_refused_writes: bool,
    /// How long the server may owe replies without sending a byte before the breaker opens: the
    /// time of a probe that asks it for a sign of life is part of it. Default: half of the client's
    /// command timeout. Only a client's breakers know of bytes; a [`Breaker`](super::Breaker) of
    /// one's own is told by [`suspend`](super::Breaker::suspend).
    pub stall_timeout: Option<Duration>,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            window: Window::Time(Duration::from_secs(10)),
            minimum_calls: 20,
            failure_rate: 0.5,
            slow_call: Duration::from_millis(500),
            slow_call_rate: 0.8,
            open_for: Duration::from_secs(2),
            half_open_calls: 5,
            half_open_timeout: Duration::from_secs(5),
            count_refused_writes: false,
            stall_timeout: None,
        }
    }
}

impl BreakerConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`BreakerConfigError`] names the first field that is out of range, and the range.
    pub fn validate(&self) -> Result<(), BreakerConfigError> {
        self.validate_window()?;
        rate("failure_rate", self.failure_rate)?;
        rate("slow_call_rate", self.slow_call_rate)?;
        within(
            "slow_call",
            self.slow_call,
            Duration::from_millis(1),
            MAX_WAIT,
        )?;
        within(
            "open_for",
            self.open_for,
            Duration::from_millis(1),
            MAX_WAIT,
        )?;
        if !(1..=MAX_HALF_OPEN_CALLS).contains(&self.half_open_calls) {
            return Err(BreakerConfigError::new(
                "half_open_calls",
                self.half_open_calls,
                format!("set it from 1 to {MAX_HALF_OPEN_CALLS} probes"),
            ));
        }
        if let Some(stall_timeout) = self.stall_timeout {
            within(
                "stall_timeout",
                stall_timeout,
                Duration::from_millis(1),
                MAX_WAIT,
            )?;
        }
        within(
            "half_open_timeout",
            self.half_open_timeout,
            Duration::from_millis(1),
            MAX_WAIT,
        )
    }

    fn validate_window(&self) -> Result<(), BreakerConfigError> {
        match self.window {
            Window::Count(calls) if !(1..=MAX_WINDOW_CALLS).contains(&calls) => {
                return Err(BreakerConfigError::new(
                    "window",
                    format_args!("Count({calls})"),
                    format!("set it from 1 to {MAX_WINDOW_CALLS} calls"),
                ));
            }
            Window::Time(span) => within("window", span, MIN_WINDOW_TIME, MAX_WINDOW_TIME)?,
            Window::Count(_) => {}
        }
        if self.minimum_calls == 0 {
            return Err(BreakerConfigError::new(
                "minimum_calls",
                0,
                "set it to 1 or more; 1 opens the breaker on a single bad call".to_owned(),
            ));
        }
        match self.window {
            Window::Count(calls) if self.minimum_calls > calls => Err(BreakerConfigError::new(
                "minimum_calls",
                self.minimum_calls,
                format!(
                    "the window holds {calls} calls, so the breaker could never open; set it to \
                     {calls} or less, or enlarge `window`"
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// A field of [`BreakerConfig`] is out of range. Cause: the configuration. Remedy: the message
/// says what to set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("breaker: `{field}` = {value}: {fix}")]
pub struct BreakerConfigError {
    field: &'static str,
    value: Box<str>,
    fix: Box<str>,
}

impl BreakerConfigError {
    fn new(field: &'static str, value: impl Display, fix: String) -> Self {
        Self {
            field,
            value: value.to_string().into(),
            fix: fix.into(),
        }
    }

    /// The field's name.
    pub fn field(&self) -> &'static str {
        self.field
    }
}

fn rate(field: &'static str, value: f64) -> Result<(), BreakerConfigError> {
    if value > 0.0 && value <= 1.0 {
        return Ok(());
    }
    Err(BreakerConfigError::new(
        field,
        value,
        "set it above 0 and at most 1; it is a share, 0.5 is half of the calls".to_owned(),
    ))
}

fn within(
    field: &'static str,
    value: Duration,
    least: Duration,
    most: Duration,
) -> Result<(), BreakerConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(BreakerConfigError::new(
        field,
        format_args!("{value:?}"),
        format!("set it from {least:?} to {most:?}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_slow_calls_are_below_the_command_timeout() {
        let config = BreakerConfig::default();
        assert_eq!(config.validate(), Ok(()));
        assert!(config.slow_call < Duration::from_secs(1));
    }

    #[test]
    fn every_field_out_of_range_is_named_with_the_fix() {
        type Change = fn(&mut BreakerConfig);
        let cases: [(&str, &str, Change); 15] = [
            ("stall_timeout", "1ms", |c| {
                c.stall_timeout = Some(Duration::ZERO);
            }),
            ("window", "Count(0)", |c| c.window = Window::Count(0)),
            ("window", "1000000", |c| c.window = Window::Count(u32::MAX)),
            ("window", "100ms", |c| {
                c.window = Window::Time(Duration::from_millis(99));
            }),
            ("window", "3600s", |c| {
                c.window = Window::Time(Duration::from_secs(3601))
            }),
            ("minimum_calls", "1 or more", |c| c.minimum_calls = 0),
            ("minimum_calls", "10 or less", |c| {
                c.window = Window::Count(10);
            }),
            ("failure_rate", "above 0", |c| c.failure_rate = 0.0),
            ("failure_rate", "at most 1", |c| c.failure_rate = f64::NAN),
            ("slow_call_rate", "at most 1", |c| c.slow_call_rate = 1.01),
            ("slow_call", "1ms", |c| c.slow_call = Duration::ZERO),
            ("open_for", "1ms", |c| c.open_for = Duration::ZERO),
            ("half_open_calls", "from 1", |c| c.half_open_calls = 0),
            ("half_open_timeout", "1ms", |c| {
                c.half_open_timeout = Duration::ZERO;
            }),
            ("half_open_timeout", "86400s", |c| {
                c.half_open_timeout = Duration::MAX;
            }),
        ];
        for (field, text, change) in cases {
            let mut config = BreakerConfig::default();
            change(&mut config);
            let error = config.validate().unwrap_err();
            assert_eq!(error.field(), field);
            let message = error.to_string();
            assert!(
                message.contains(field) && message.contains(text),
                "{message}"
            );
        }
    }
}
