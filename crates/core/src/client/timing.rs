//! When a call begins, when it ends at the latest, and the pauses between its attempts.

use std::time::Duration;

use tokio::time::Instant;

use super::in_flight::Entry;
use crate::command::Command;
use crate::config::RetryConfig;
use crate::coordination::Backoff;

/// When a caller's call began, how long it may take, and whether it may be refused because there are
/// too many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) start: Instant,
    pub(super) budget: Option<Duration>,
    pub(super) entry: Entry,
}

/// When a call began, and when it ends at the latest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) start: Instant,
    pub(super) deadline: Instant,
}

/// The ends of a call that does not name an earlier one.
pub(super) struct Limits {
    /// By the command timeout.
    pub(super) usual: Instant,
    /// By the caller's budget, which also shortens a deadline of the command's own. One beyond all clocks is none.
    pub(super) budget: Option<Instant>,
}

impl Limits {
    /// Gives the command its deadline.
    pub(super) fn apply(&self, command: &mut Command) -> Instant {
        let deadline = command.deadline_or(|| self.usual);
        match self.budget {
            Some(budget) if budget < deadline => command.shorten_deadline(budget),
            _ => deadline,
        }
    }
}

/// The pauses between the attempts of a call, as many as there may be.
pub(super) struct Pauses {
    left: u32,
    backoff: Backoff,
}

impl Pauses {
    pub(super) fn new(retry: RetryConfig) -> Self {
        Self {
            left: retry.max_attempts.saturating_sub(1),
            backoff: Backoff::new(retry.min_delay, retry.max_delay),
        }
    }

    pub(super) fn next_pause(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        Some(self.backoff.next_pause())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pause_is_longer_than_the_longest_and_there_are_as_many_as_repetitions() {
        let millis = Duration::from_millis;
        let retry = RetryConfig {
            max_attempts: 9,
            min_delay: millis(10),
            max_delay: millis(200),
        };
        for _ in 0..200 {
            let mut pauses = Pauses::new(retry);
            for whole in [10, 20, 40, 80, 160, 200, 200, 200] {
                let pause = pauses.next_pause().unwrap();
                assert!(
                    pause >= millis(whole / 2) && pause <= millis(whole),
                    "{pause:?}"
                );
            }
            assert_eq!(pauses.next_pause(), None);
        }
        let none = RetryConfig {
            max_attempts: 2,
            min_delay: Duration::ZERO,
            max_delay: Duration::ZERO,
        };
        assert_eq!(Pauses::new(none).next_pause(), Some(Duration::ZERO));
    }
}
