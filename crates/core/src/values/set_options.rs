//! [`SetOptions`]: how a value is written.

use std::time::{Duration, SystemTime};

use super::expiry::Expiry;
use crate::command::Command;
use crate::error::Error;

/// How a value is written: when it expires, and under which condition. Each can be said once, so
/// that they never contradict each other: what is said last stands.
///
/// At first a key is written always, and does not expire, even if it did before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetOptions {
    expiry: Option<Expiry>,
    condition: Option<Condition>,
    is_repeatable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Absent,
    Present,
}

impl SetOptions {
    /// No option.
    pub fn new() -> Self {
        Self::default()
    }

    /// The key expires after this time.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        self.expiry(Expiry::In(ttl))
    }

    /// The key expires at this time.
    #[must_use]
    pub fn expires_at(self, time: SystemTime) -> Self {
        self.expiry(Expiry::At(time))
    }

    /// The key expires when it did before.
    #[must_use]
    pub fn keep_ttl(self) -> Self {
        self.expiry(Expiry::Keep)
    }

    /// The same as [`ttl`](Self::ttl), [`expires_at`](Self::expires_at) or
    /// [`keep_ttl`](Self::keep_ttl), by value.
    #[must_use]
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = Some(expiry);
        self
    }

    /// Only if there is no such key (`NX`).
    #[must_use]
    pub fn if_absent(mut self) -> Self {
        self.condition = Some(Condition::Absent);
        self
    }

    /// Only if there is such a key (`XX`).
    #[must_use]
    pub fn if_present(mut self) -> Self {
        self.condition = Some(Condition::Present);
        self
    }

    /// The write may be sent again when it got no answer and may have been carried out. That is right
    /// where no other writer has the key: otherwise the second time may undo what another wrote in
    /// between. It has no effect on conditional writes.
    #[must_use]
    pub fn repeatable(mut self) -> Self {
        self.is_repeatable = true;
        self
    }

    /// Adds the options to `SET key value`.
    pub(super) fn add_to(self, mut command: Command) -> Result<Command, Error> {
        if let Some(expiry) = self.expiry {
            command = expiry.add_to(command, "SET")?;
        }
        Ok(match self.condition {
            None => command.idempotent(self.is_repeatable),
            Some(Condition::Absent) => command.arg("NX"),
            Some(Condition::Present) => command.arg("XX"),
        })
    }
}
