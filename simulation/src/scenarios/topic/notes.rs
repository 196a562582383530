//! [`Notes`]: what was published and handled in a run, and which consumers were away.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_testkit::simulation::Process;
use redkit_testkit::simulation::checkers::{Handled, Handling};
use redkit_testkit::simulation::history::{Outcome, Pending, ProcessId, Recorder};

/// What the processes of a run note. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Notes {
    pub(super) published: Recorder<Message, ()>,
    state: Arc<Mutex<State>>,
}

/// A message, by its number, and its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) number: u64,
    pub(super) key: u64,
}

/// A time for which a process could not be seen by the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Absence {
    pub(super) process: ProcessId,
    pub(super) from: Duration,
    pub(super) until: Duration,
    /// How long it was, by the world's clock or the process's own, by which it was longer.
    pub(super) lasted: Duration,
    /// It was killed then.
    pub(super) is_death: bool,
}

#[derive(Default)]
struct State {
    last: u64,
    handled: Vec<Handling>,
    away: Vec<Absence>,
    dead: Vec<u64>,
    is_done: bool,
}

/// A handler that runs. Dropped without an end it was cut.
pub(super) struct Running {
    notes: Notes,
    process: Process,
    index: usize,
    has_ended: bool,
}

impl Notes {
    /// A message that nobody has published yet.
    pub(super) fn next_message(&self, keys: u64) -> Message {
        let mut state = self.state.lock();
        state.last += 1;
        Message {
            number: state.last,
            key: state.last % keys.max(1),
        }
    }

    pub(super) fn publishes(&self, process: &Process, message: Message) -> Pending<Message, ()> {
        self.published.begin(process.id(), process.now(), message)
    }

    /// A handler is called.
    pub(super) fn handles(&self, process: &Process, message: u64, attempt: u32) -> Running {
        let now = process.now();
        process.note(|| format!("begins attempt {attempt} of message {message}"));
        let mut state = self.state.lock();
        state.handled.push(Handling {
            process: process.id(),
            message,
            attempt,
            start: now,
            end: now,
            how: Handled::Cut,
        });
        Running {
            notes: self.clone(),
            process: process.clone(),
            index: state.handled.len() - 1,
            has_ended: false,
        }
    }

    /// A process was dead, held up, or without the server.
    pub(super) fn away(&self, absence: Absence) {
        self.state.lock().away.push(absence);
    }

    pub(super) fn are_dead(&self, messages: impl IntoIterator<Item = u64>) {
        self.state.lock().dead.extend(messages);
    }

    /// All messages are done; the consumers may go.
    pub(super) fn finish(&self) {
        self.state.lock().is_done = true;
    }

    pub(super) fn is_done(&self) -> bool {
        self.state.lock().is_done
    }

    pub(super) fn handled(&self) -> Vec<Handling> {
        self.state.lock().handled.clone()
    }

    pub(super) fn absences(&self) -> Vec<Absence> {
        self.state.lock().away.clone()
    }

    pub(super) fn dead(&self) -> Vec<u64> {
        self.state.lock().dead.clone()
    }
}

impl Running {
    pub(super) fn ended(mut self, how: Handled) {
        self.has_ended = true;
        self.note(how);
    }

    fn note(&self, how: Handled) {
        let now = self.process.now();
        if let Some(handling) = self.notes.state.lock().handled.get_mut(self.index) {
            handling.end = now;
            handling.how = how;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended {
            self.note(Handled::Cut);
        }
    }
}

/// The outcome of a publication.
pub(super) fn outcome<T>(result: Result<T, redkit_pubsub::Error>) -> Outcome<()> {
    match result {
        Ok(_) => Outcome::Replied(()),
        Err(redkit_pubsub::Error::Core(error)) if error.is_maybe() => Outcome::Maybe,
        Err(_) => Outcome::NotSent,
    }
}
