//! [`Trace`]: what happened, as a hash always and as a story when somebody wants to read it.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Write};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use redkit_core::{Command, Push, Value};
use rustc_hash::FxHasher;

use super::event::Answer;
use super::fault::FaultKind;
use super::history::ProcessId;
use super::violation::Violation;

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
#[derive(Default)]
pub(super) struct Trace {
    detail: Detail,
    hasher: Hashed,
    story: Vec<String>,
    faults: BTreeMap<FaultKind, u64>,
    marks: BTreeMap<&'static str, u64>,
    failed: Option<Violation>,
}

/// The same in every process.
#[derive(Default)]
struct Hashed(FxHasher);

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

    /// How often each mark of the scenario was reached.
    pub(super) fn marks(&self) -> &BTreeMap<&'static str, u64> {
        &self.marks
    }

    /// A mark of the scenario is reached. What it is called follows from what happened, so it is not part of the hash.
    pub(super) fn reached(&mut self, mark: &'static str) {
        *self.marks.entry(mark).or_default() += 1;
    }

    /// The first call that failed before anything had gone wrong that calls fail by.
    pub(super) fn failed(&self) -> Option<&Violation> {
        self.failed.as_ref()
    }

    /// A call failed that nothing but a fault can make fail.
    pub(super) fn fails(
        &mut self,
        now: Duration,
        process: ProcessId,
        text: impl FnOnce() -> String,
    ) {
        let excuses = |kind: &FaultKind| *kind != FaultKind::JumpServerClock;
        if self.failed.is_none() && !self.faults.keys().any(excuses) {
            let violation = Violation::new("calls succeed while nothing goes wrong", now);
            self.failed = Some(violation.event(now, process, text()));
        }
    }

    /// A command is sent.
    pub(super) fn command(&mut self, now: Duration, command: &Command) {
        self.mark(now);
        self.hasher.text(command.name().as_bytes());
        for argument in command.iter() {
            self.hasher.text(argument);
        }
    }

    /// A reply arrives.
    pub(super) fn reply(&mut self, now: Duration, answer: &Answer) {
        self.mark(now);
        match answer {
            Ok(replies) => {
                for reply in replies {
                    match reply {
                        Ok(value) => self.hasher.value(value),
                        Err(error) => self.hasher.debug(error),
                    }
                }
            }
            Err(error) => self.hasher.debug(error),
        }
    }

    /// A pushed message arrives.
    pub(super) fn push(&mut self, now: Duration, push: &Push) {
        self.mark(now);
        match push {
            Push::Message {
                channel,
                pattern,
                payload,
            } => {
                self.hasher.text(channel);
                self.hasher.text(pattern.as_deref().unwrap_or_default());
                self.hasher.text(payload);
            }
            Push::Invalidate(Some(keys)) => {
                self.hasher.0.write_usize(keys.len());
                keys.iter().for_each(|key| self.hasher.text(key));
            }
            other => self.hasher.debug(other),
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
            self.add_line(now, actor, &line);
        }
    }

    /// A process says something. What it says follows from what happened, so its words are not part of the hash: they
    /// would have to be made for every run.
    pub(super) fn note(&mut self, now: Duration, actor: &str) {
        self.mark(now);
        self.hasher.text(actor.as_bytes());
    }

    /// Whether the story is to be read.
    pub(super) fn tells(&self) -> bool {
        self.detail >= Detail::Story
    }

    /// A line of the story.
    pub(super) fn tell(&mut self, now: Duration, actor: &str, line: &str) {
        if self.tells() {
            self.add_line(now, actor, line);
        }
    }

    /// Something goes wrong.
    pub(super) fn fault(&mut self, now: Duration, kind: FaultKind, actor: &str, line: &str) {
        *self.faults.entry(kind).or_default() += 1;
        self.note(now, actor);
        self.hasher.text(line.as_bytes());
        self.tell(now, actor, line);
    }

    fn mark(&mut self, now: Duration) {
        self.hasher.0.write_u128(now.as_nanos());
    }

    fn add_line(&mut self, now: Duration, actor: &str, line: &str) {
        let seconds = now.as_secs_f64();
        self.story
            .push(format!("{seconds:9.4} s  {actor:<12} {line}"));
    }
}

impl Hashed {
    fn text(&mut self, text: &[u8]) {
        text.hash(&mut self.0);
    }

    /// Without its text as `Debug` gives it, which takes longer than the call that it answers.
    fn value(&mut self, value: &Value) {
        std::mem::discriminant(value).hash(&mut self.0);
        match value {
            Value::Nil | Value::Ok => {}
            Value::Int(number) => self.0.write_i64(*number),
            Value::Bulk(text) | Value::BigNumber(text) => self.text(text),
            Value::Status(status) => self.text(status.as_bytes()),
            Value::Array(items) | Value::Set(items) => {
                self.0.write_usize(items.len());
                items.iter().for_each(|item| self.value(item));
            }
            Value::Map(pairs) => {
                self.0.write_usize(pairs.len());
                for (key, value) in pairs {
                    self.value(key);
                    self.value(value);
                }
            }
            other => self.debug(other),
        }
    }

    fn debug(&mut self, shown: &impl Debug) {
        // Hashing never fails.
        let _ = write!(self, "{shown:?}");
    }
}

impl Write for Hashed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text(text.as_bytes());
        Ok(())
    }
}
