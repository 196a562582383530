//! [`DeadLetter`]: a change that was given up.

use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;

use super::queue::Letter;

/// A change that was given up. There is at most one per key: the newest.
#[derive(Clone)]
pub struct DeadLetter(Letter);

impl DeadLetter {
    pub(super) fn new(letter: Letter) -> Self {
        Self(letter)
    }

    /// The key.
    pub fn key(&self) -> &Bytes {
        &self.0.key
    }

    /// The version of the change.
    pub fn version(&self) -> u64 {
        self.0.version
    }

    /// When it was given up, on the server's clock.
    pub fn died_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.0.died
    }

    /// How often it had been tried.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// The text of the last error.
    pub fn error(&self) -> &str {
        &self.0.error
    }

    /// Whether the key was written since, so that this change will not be put back.
    pub fn is_superseded(&self) -> bool {
        self.0.is_superseded
    }

    /// The value's bytes as they are stored; `None` for a delete. Typed:
    /// [`WriteBehind::value_of`](super::WriteBehind::value_of).
    pub fn raw(&self) -> Option<Bytes> {
        match self.0.change.first() {
            Some(b'v') => Some(self.0.change.slice(1..)),
            _ => None,
        }
    }
}

/// Shows neither key nor value.
impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("version", &self.version())
            .field("attempts", &self.attempts())
            .field("error", &self.error())
            .field("is_superseded", &self.is_superseded())
            .finish_non_exhaustive()
    }
}

/// Some dead letters, and where the next are. See [`WriteBehind::dead_letters`](super::WriteBehind::dead_letters).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeadLetterPage {
    /// The letters.
    pub letters: Vec<DeadLetter>,
    /// Give this for the next page; `None` when this is the last.
    pub next: Option<Cursor>,
}

/// A place in the list of dead letters.
#[derive(Clone, PartialEq, Eq)]
pub struct Cursor {
    pub(super) partition: usize,
    pub(super) after: Option<Bytes>,
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor")
            .field("partition", &self.partition)
            .finish_non_exhaustive()
    }
}

/// How many dead letters were put back, and how many were not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Redriven {
    /// Back in the queue.
    pub redriven: u64,
    /// Left as they are: their keys were written since.
    pub superseded: u64,
    /// There was no letter.
    pub missing: u64,
}
