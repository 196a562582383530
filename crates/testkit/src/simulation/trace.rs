//! [`Trace`]: what happened, as a hash always and as a story when somebody wants to read it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use super::fault::FaultKind;

/// What of a run is written down to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Detail {
    /// Nothing.
    #[default]
    None,
    /// Faults, and what the processes note.
    Story,
    /// Every message as well.
    Messages,
}

/// What happened in a world.
#[derive(Debug, Default)]
pub(super) struct Trace {
    detail: Detail,
    hasher: Hashed,
    story: Vec<String>,
    faults: BTreeMap<FaultKind, u64>,
}

/// Fixed keys: the same in every process.
#[derive(Debug, Default)]
struct Hashed(DefaultHasher);

impl Trace {
    pub(super) fn new(detail: Detail) -> Self {
        Self {
            detail,
            ..Self::default()
        }
    }

    /// Everything that happened until now, as a number.
    pub(super) fn hash(&self) -> u64 {
        self.hasher.0.finish()
    }

    pub(super) fn story(&self) -> &[String] {
        &self.story
    }

    /// How many faults of each kind have happened.
    pub(super) fn faults(&self) -> &BTreeMap<FaultKind, u64> {
        &self.faults
    }

    /// A message was sent or arrived: its time, who sent it, and what it says.
    pub(super) fn message(&mut self, now: Duration, parts: &[&[u8]]) {
        self.mark(now);
        for part in parts {
            self.hasher.0.write_usize(part.len());
            self.hasher.0.write(part);
        }
    }

    /// A line of the story about a message.
    pub(super) fn tell_message(
        &mut self,
        now: Duration,
        actor: &str,
        line: impl FnOnce() -> String,
    ) {
        if self.detail >= Detail::Messages {
            let line = line();
            self.push(now, actor, &line);
        }
    }

    /// A process says what it does.
    pub(super) fn note(&mut self, now: Duration, actor: &str, line: &str) {
        self.message(now, &[actor.as_bytes(), line.as_bytes()]);
        if self.detail >= Detail::Story {
            self.push(now, actor, line);
        }
    }

    /// Something goes wrong.
    pub(super) fn fault(&mut self, now: Duration, kind: FaultKind, actor: &str, line: &str) {
        *self.faults.entry(kind).or_default() += 1;
        self.note(now, actor, line);
    }

    fn mark(&mut self, now: Duration) {
        self.hasher.0.write_u128(now.as_nanos());
    }

    fn push(&mut self, now: Duration, actor: &str, line: &str) {
        let seconds = now.as_secs_f64();
        self.story
            .push(format!("{seconds:9.4} s  {actor:<12} {line}"));
    }
}
