//! [`Settings`]: how a queue behaves, checked.

use std::time::Duration;

use redkit_core::ConfigError;
use redkit_core::coordination::Backoff;

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) partitions: u16,
    pub(super) max_batch: u32,
    pub(super) max_batch_bytes: u32,
    pub(super) max_age: Duration,
    pub(super) max_pending: u32,
    pub(super) wait_when_full: Duration,
    pub(super) write_id_window: Duration,
    pub(super) max_attempts: u32,
    pub(super) backoff: (Duration, Duration),
    pub(super) lease: Duration,
    pub(super) sink_timeout: Duration,
    pub(super) concurrency: u32,
    pub(super) poll_interval: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            partitions: 16,
            max_batch: 100,
            max_batch_bytes: 4 * 1024 * 1024,
            max_age: Duration::from_secs(1),
            max_pending: 100_000,
            wait_when_full: Duration::ZERO,
            write_id_window: Duration::from_secs(60),
            max_attempts: 10,
            backoff: (Duration::from_millis(200), Duration::from_secs(60)),
            lease: Duration::from_secs(10),
            sink_timeout: Duration::from_secs(30),
            concurrency: 8,
            poll_interval: None,
        }
    }
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let within = |field, number: u32, least: u32, most: u32| match number {
            number if (least..=most).contains(&number) => Ok(()),
            _ => Err(ConfigError::new(
                field,
                format!("it is not between {least} and {most}"),
                "give a number between",
            )),
        };
        within("partitions", self.partitions.into(), 1, 1024)?;
        // As many keys as one script should touch at once.
        within("max_batch", self.max_batch, 1, 1000)?;
        within("max_batch_bytes", self.max_batch_bytes, 1, 1 << 28)?;
        within("max_pending", self.max_pending, 1, u32::MAX)?;
        within("max_attempts", self.max_attempts, 1, 1_000_000)?;
        within("concurrency", self.concurrency, 1, 1024)?;
        let between = |field, time: Duration, least: Duration, most: Duration| match time {
            time if (least..=most).contains(&time) => Ok(()),
            _ => Err(ConfigError::new(
                field,
                format!("it is not between {least:?} and {most:?}"),
                "give a time between",
            )),
        };
        let (base, most) = self.backoff;
        between("max_age", self.max_age, Duration::ZERO, DAY)?;
        between("wait_when_full", self.wait_when_full, Duration::ZERO, DAY)?;
        between("write_id_window", self.write_id_window, MILLISECOND, DAY)?;
        between("backoff", base, MILLISECOND, DAY)?;
        between("backoff", most, base, DAY)?;
        between("lease", self.lease, Duration::from_millis(100), HOUR)?;
        between("sink_timeout", self.sink_timeout, MILLISECOND, DAY)?;
        let (interval, _) = self.poll_intervals();
        between("poll_interval", interval, MILLISECOND, HOUR)
    }

    /// The pauses after failures.
    pub(super) fn backoff(&self) -> Backoff {
        let (first, most) = self.backoff;
        Backoff::new(first, most)
    }

    /// How long a worker waits at most before it looks again: while it is told of what is new, and while it
    /// is not.
    pub(super) fn poll_intervals(&self) -> (Duration, Duration) {
        let second = Duration::from_secs(1);
        let interval = self.poll_interval.unwrap_or(second);
        let ask = (self.max_age / 4).clamp(Duration::from_millis(10), second);
        (interval, ask.min(interval))
    }
}

/// For scripts. The settings are bounded, so nothing is cut off.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
