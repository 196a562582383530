//! [`WorldOptions`] and [`ProcessOptions`].

use std::ops::Range;
use std::time::Duration;

/// How a [`World`](super::World) is made.
#[derive(Debug, Clone)]
pub struct WorldOptions {
    pub(super) servers: usize,
    pub(super) delay: Range<Duration>,
    pub(super) epoch: Duration,
    pub(super) notice: Duration,
    pub(super) silence: Duration,
}

impl WorldOptions {
    /// One server; messages take 0.1 to 2 ms each way.
    pub fn new() -> Self {
        Self {
            servers: 1,
            delay: Duration::from_micros(100)..Duration::from_millis(2),
            epoch: Duration::from_secs(1_800_000_000),
            notice: Duration::from_millis(8),
            silence: Duration::from_secs(1),
        }
    }

    /// So many servers, which know nothing of each other. At least one.
    #[must_use]
    pub fn servers(mut self, number: usize) -> Self {
        self.servers = number.max(1);
        self
    }

    /// How long a message takes one way: at random from this range, each by itself. Messages of one
    /// connection keep their order, those of different connections do not.
    #[must_use]
    pub fn delay(mut self, range: Range<Duration>) -> Self {
        self.delay = range;
        self
    }

    /// What the servers' clocks show at the start, since the Unix epoch. Default: 2027-01-15.
    #[must_use]
    pub fn epoch(mut self, since_the_epoch: Duration) -> Self {
        self.epoch = since_the_epoch;
        self
    }

    /// How long a process that had nothing to do for a while may take to notice a message, as one that the
    /// operating system had put to sleep. The longer, the faster a world runs. Default: 8 ms.
    #[must_use]
    pub fn notice(mut self, longest: Duration) -> Self {
        self.notice = longest;
        self
    }

    /// After how long a driver gives up a connection through which nothing gets, half as much more at
    /// random. Default: 1 s.
    #[must_use]
    pub fn silence(mut self, time: Duration) -> Self {
        self.silence = time;
        self
    }
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// How a process of a [`World`](super::World) is made.
#[derive(Debug, Clone)]
pub struct ProcessOptions {
    pub(super) name: String,
    pub(super) drift: i32,
}

impl ProcessOptions {
    /// A process of this name, whose clock runs as the world's does.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            drift: 0,
        }
    }

    /// By how much its clock is fast, in parts per million; negative when it is slow. Good quartz drifts
    /// by less than 100.
    #[must_use]
    pub fn drift(mut self, parts_per_million: i32) -> Self {
        self.drift = parts_per_million.clamp(-100_000, 100_000);
        self
    }
}
