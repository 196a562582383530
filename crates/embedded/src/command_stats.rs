//! How often each command ran, and for how long: `INFO commandstats`.

use std::fmt;
use std::time::Duration;

/// Counts of every command, by its number.
#[derive(Debug, Default)]
pub(crate) struct CommandStats {
    commands: Vec<Counts>,
}

/// The counts of one command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    calls: u64,
    took: Duration,
    /// Refused before they ran: wrong numbers of arguments.
    rejected: u64,
    /// Ran into an error.
    failed: u64,
}

impl CommandStats {
    pub(crate) fn ran(&mut self, number: usize, took: Duration, failed: bool) {
        let counts = self.counts(number);
        counts.calls += 1;
        counts.took += took;
        counts.failed += u64::from(failed);
    }

    pub(crate) fn rejected(&mut self, number: usize) {
        self.counts(number).rejected += 1;
    }

    /// The counts of a command that was called.
    pub(crate) fn of(&self, number: usize) -> Option<Counts> {
        let counts = self.commands.get(number).copied()?;
        Some(counts).filter(|counts| *counts != Counts::default())
    }

    /// How many commands ran.
    pub(crate) fn commands(&self) -> u64 {
        self.commands.iter().map(|counts| counts.calls).sum()
    }

    pub(crate) fn reset(&mut self) {
        self.commands.clear();
    }

    fn counts(&mut self, number: usize) -> &mut Counts {
        if self.commands.len() <= number {
            self.commands.resize(number + 1, Counts::default());
        }
        // It was made long enough.
        &mut self.commands[number]
    }
}

/// As `INFO commandstats` writes it.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.took.as_secs_f64() * 1e6;
        #[expect(clippy::cast_precision_loss, reason = "a mean with two digits")]
        let each = match self.calls {
            0 => 0.0,
            calls => micros / calls as f64,
        };
        write!(
            f,
            "calls={},usec={micros:.0},usec_per_call={each:.2},rejected_calls={},failed_calls={}",
            self.calls, self.rejected, self.failed
        )
    }
}
