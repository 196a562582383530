//! The engine's clock: tokio's, anchored to the wall clock once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Wall-clock time that advances as tokio's clock does, so that a test with a paused clock moves
/// TTLs and `TIME` by `tokio::time::advance`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
    /// Microseconds since the Unix epoch at the origin.
    wall: i64,
    /// Whether the clock began with a given time, so that runs repeat.
    is_given: bool,
}

/// Measures how long a command takes, on the system's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Option<std::time::Instant>);

impl Stopwatch {
    /// How long it was since the stopwatch was started.
    pub(crate) fn elapsed(self) -> Duration {
        self.0.map_or(Duration::ZERO, |start| start.elapsed())
    }
}

impl Clock {
    /// A clock that shows the time of the system now.
    pub(crate) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            is_given: false,
            ..Self::starting_at(now.unwrap_or_default())
        }
    }

    /// A clock that shows this time since the Unix epoch now.
    pub(crate) fn starting_at(now: Duration) -> Self {
        Self {
            origin: Instant::now(),
            wall: micros(now),
            is_given: true,
        }
    }

    /// Microseconds since the Unix epoch.
    pub(crate) fn micros(&self) -> i64 {
        let elapsed = Instant::now().saturating_duration_since(self.origin);
        self.wall.saturating_add(micros(elapsed))
    }

    /// Starts to measure how long a command takes. An engine whose time was given takes every command to take none: the
    /// system's clock would make two runs differ.
    pub(crate) fn stopwatch(&self) -> Stopwatch {
        let measures = !self.is_given;
        Stopwatch(measures.then(std::time::Instant::now))
    }

    /// Sets the clock forward or back by so many microseconds.
    pub(crate) fn adjust(&mut self, by_micros: i64) {
        self.wall = self.wall.saturating_add(by_micros);
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
