//! [`Trims`]: when a process that publishes to a log trims it.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::builder::Retention;

/// How often a process trims a partition that it publishes to. Its consumers do so more often.
const EVERY: Duration = Duration::from_secs(15);

/// So many publications may add less than one round of trimming removes.
pub(super) const PUBLISHED_A_ROUND: usize = 250;

/// When each partition is trimmed next; none for a topic that is not trimmed, whose publishers are not to meet here.
pub(super) struct Trims(Option<Mutex<Vec<Instant>>>);

impl Trims {
    pub(super) fn new(retention: Retention, partitions: u32) -> Self {
        let next = || Mutex::new(vec![Instant::now(); partitions as usize]);
        Self(match retention {
            Retention::Queue
            | Retention::Log {
                keep: None,
                most: None,
            } => None,
            Retention::Log { .. } => Some(next()),
        })
    }

    /// Whether a partition is to be trimmed now; the next time is later.
    pub(super) fn is_due(&self, partition: u32) -> bool {
        let Some(next) = &self.0 else {
            return false;
        };
        let mut next = next.lock();
        let Some(next) = next.get_mut(partition as usize) else {
            return false;
        };
        let now = Instant::now();
        let is_due = *next <= now;
        if is_due {
            *next = now + EVERY;
        }
        is_due
    }

    /// There is more to trim than was: the next publication goes on.
    pub(super) fn has_more(&self, partition: u32) {
        if let Some(next) = &self.0
            && let Some(next) = next.lock().get_mut(partition as usize)
        {
            *next = Instant::now();
        }
    }
}
