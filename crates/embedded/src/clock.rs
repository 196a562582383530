//! The engine's clock: tokio's, anchored to the wall clock once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Wall-clock time that advances as tokio's clock does, so that a test with a paused clock moves
/// TTLs and `TIME` by `tokio::time::advance`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
    wall: Duration,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
            wall: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        }
    }

    /// Microseconds since the Unix epoch.
    pub(crate) fn micros(&self) -> i64 {
        let elapsed = Instant::now().saturating_duration_since(self.origin);
        i64::try_from(self.wall.saturating_add(elapsed).as_micros()).unwrap_or(i64::MAX)
    }
}
