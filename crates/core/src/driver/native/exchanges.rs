//! [`Exchanges`]: what is to be sent, what was sent, and who waits for which reply. No socket: every
//! interleaving of callers, writer and reader is a sequence of calls here.
//!
//! Calls stand in one queue, in the order in which their bytes go out and their replies come back:
//!
//! ```text
//!   base          answered         given            handed
//!    | answered     | reply is to    | with the       | waiting to
//!    | already      | come           | socket now     | be written
//! ```

mod batch;

use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::encode::{Segments, encode};
use super::slots::{Slots, Taken};
use crate::command::Command;
use crate::driver::link::no_reply;
use crate::error::{CallError, Fault, FaultKind, ServerError};
use crate::value::Value;

/// How many replies may be owed before new calls wait for room. A server that is this far behind is
/// not helped by more.
const MOST_OWED: usize = 65_536;

/// How many bytes of ours may wait to be written before new calls wait for room. Large arguments are
/// the callers' and do not count.
const MOST_WAITING: usize = 16 * 1024 * 1024;

/// Deadlines are looked at together, and not more often than this: an outcome comes this late at most,
/// and the runtime's timer adds a millisecond.
const SWEEP: Duration = Duration::from_millis(2);

/// The shared buffer is kept for the next commands up to this size.
const MOST_KEPT: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Exchanges {
    slots: Slots,
    queue: VecDeque<Entry>,
    /// The number of the first entry in the queue; the marks below are such numbers, too.
    base: u64,
    answered: u64,
    given: u64,
    handed: u64,
    is_writing: bool,
    /// The bytes of small entries from `given` on, unless they are with the writer.
    small: Vec<u8>,
    head: usize,
    owed: usize,
    waiting: usize,
    dead: usize,
    dead_bytes: usize,
    /// One past the last call that was answered, also in part, while its bytes were with a writer.
    answered_early: u64,
    /// Such a call's bytes had not left: the server answered what it cannot have had.
    is_violated: bool,
    /// The connection's task was told that there is something to write.
    is_told: bool,
    /// The socket takes no more for now, and the task waits for it.
    pub(super) is_blocked: bool,
    /// When deadlines are looked at next.
    armed: Option<Instant>,
    /// Who waits for room, in the order in which they came.
    for_room: BTreeMap<u64, Waker>,
    tickets: u64,
    closed: Option<Fault>,
}

/// One call: one command or several, which are sent together or not at all.
#[derive(Debug)]
struct Entry {
    /// Who waits; nobody when the caller has left.
    slot: Option<u32>,
    /// How many replies are to come.
    replies: usize,
    /// How many bytes are still to be given to the socket.
    left: usize,
    /// How many of its bytes count as waiting.
    weight: usize,
    /// Some of its bytes were given.
    is_begun: bool,
    /// Nobody waits for it, and it is not to be sent.
    is_dead: bool,
    segments: Option<Box<Segments>>,
    confirms: Option<Box<[Confirm]>>,
}

/// The pushed frame that answers a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Confirm {
    pub(super) kind: &'static str,
    pub(super) name: Bytes,
}

impl Confirm {
    /// Stands for a command behind those that end sharded channels, whose reply comes after all that the server says
    /// of them, and is no pushed frame.
    pub(super) fn settled() -> Self {
        Self {
            kind: "",
            name: Bytes::new(),
        }
    }
}

impl Entry {
    /// The pushed frame that comes next.
    fn awaited(&self) -> Option<&Confirm> {
        let confirms = self.confirms.as_ref()?;
        confirms.get(confirms.len().checked_sub(self.replies)?)
    }

    /// Whether an error is the late refusal of an end that the server had made by itself already: its own end was taken
    /// for the reply then.
    fn is_late(&self, reply: &Result<Value, ServerError>) -> bool {
        let is_of_slot = |error: &ServerError| {
            matches!(error.code(), "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN")
        };
        reply.as_ref().is_err_and(is_of_slot)
            && self
                .awaited()
                .is_some_and(|awaited| awaited.kind.is_empty())
    }
}

/// A call to be queued.
pub(super) struct Request<'c> {
    pub(super) commands: &'c [Command],
    /// Its bytes and how many of them are ours, unless they belong into the shared buffer.
    pub(super) segments: Option<(Segments, usize)>,
    pub(super) confirms: Option<Box<[Confirm]>>,
    pub(super) deadline: Option<Instant>,
}

/// Why a call was not queued.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Too much waits already: the waker is called when there is room.
    Full,
    Closed(CallError),
}

/// Who has to see to it that what was queued is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The caller itself: nothing else is on its way.
    Write,
    /// The connection's task.
    Wake,
    /// Somebody does already.
    Nothing,
}

/// The server sent a reply to no command.
#[derive(Debug)]
pub(super) struct Unasked(pub(super) Option<ServerError>);

impl Exchanges {
    pub(super) fn new() -> Self {
        Self {
            slots: Slots::default(),
            queue: VecDeque::new(),
            base: 0,
            answered: 0,
            given: 0,
            handed: 0,
            is_writing: false,
            small: Vec::new(),
            head: 0,
            owed: 0,
            waiting: 0,
            dead: 0,
            dead_bytes: 0,
            answered_early: 0,
            is_violated: false,
            is_told: false,
            is_blocked: false,
            armed: None,
            for_room: BTreeMap::new(),
            tickets: 0,
            closed: None,
        }
    }

    /// Queues a call, and gives the slot in which its outcome will be.
    pub(super) fn submit(
        &mut self,
        request: &mut Request<'_>,
        ticket: &mut Option<u64>,
        waker: &Waker,
    ) -> Result<(u32, Next), Refusal> {
        if let Some(fault) = &self.closed {
            return Err(Refusal::Closed(fault.clone().not_sent()));
        }
        if !self.has_room() {
            let ticket = *ticket.get_or_insert_with(|| {
                self.tickets += 1;
                self.tickets
            });
            self.for_room.insert(ticket, waker.clone());
            return Err(Refusal::Full);
        }
        if let Some(ticket) = ticket.take() {
            self.leave_room(ticket);
        }
        let number = self.end();
        let is_alone = self.answered == number && !self.is_writing;
        let replies = request.commands.len();
        let slot = self.slots.add(number, replies, request.deadline, waker);
        let (segments, left, weight) = match request.segments.take() {
            Some((segments, ours)) => {
                let left = segments.iter().map(Bytes::len).sum();
                (Some(Box::new(segments)), left, ours)
            }
            None => {
                let before = self.small.len();
                for command in request.commands {
                    encode(command, &mut self.small);
                }
                let left = self.small.len() - before;
                (None, left, left)
            }
        };
        self.owed += replies;
        self.waiting += weight;
        self.queue.push_back(Entry {
            slot: Some(slot),
            replies,
            left,
            weight,
            is_begun: false,
            is_dead: false,
            segments,
            confirms: request.confirms.take(),
        });
        let is_early = match (request.deadline, self.armed) {
            (Some(deadline), Some(armed)) => deadline < armed,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if is_early {
            self.armed = request.deadline;
        }
        let next = if is_alone && !is_early {
            Next::Write
        } else if is_early || !(self.is_told || self.is_blocked) {
            self.is_told = true;
            Next::Wake
        } else {
            Next::Nothing
        };
        Ok((slot, next))
    }

    /// What became of a call; the slot is free then.
    pub(super) fn outcome(&mut self, slot: u32, waker: &Waker) -> Option<Result<Taken, CallError>> {
        self.slots.take(slot, waker)
    }

    /// The caller has left. Gives who waits for the room that it leaves.
    pub(super) fn abandon(&mut self, slot: u32) -> SmallVec<[Waker; 4]> {
        if let Some(number) = self.slots.remove(slot) {
            self.leave(number);
            self.bury_some();
        }
        self.room()
    }

    /// Who waited for room has left, or has got it.
    pub(super) fn leave_room(&mut self, ticket: u64) {
        self.for_room.remove(&ticket);
    }

    /// Whether there is anything to write, and nobody does.
    pub(super) fn wants_writer(&self) -> bool {
        !self.is_writing && self.given < self.end() && self.closed.is_none() && !self.is_violated
    }

    /// Whether the server answered a call before its bytes had left: which reply is whose is not known then.
    pub(super) fn is_violated(&self) -> bool {
        self.is_violated
    }

    /// A reply came. Gives who is to be woken.
    pub(super) fn answer(
        &mut self,
        reply: Result<Value, ServerError>,
    ) -> Result<Option<Waker>, Unasked> {
        let index = self.index(self.answered);
        let is_sent =
            self.answered < self.given || (self.is_writing && self.answered < self.handed);
        // A server answers the first commands of a pipeline before it has the last.
        let may_be_answered = |entry: &&mut Entry| is_sent || (entry.is_begun && entry.replies > 1);
        let Some(entry) = self.queue.get_mut(index).filter(may_be_answered) else {
            return Err(Unasked(reply.err()));
        };
        if entry.is_late(&reply) {
            return Ok(None);
        }
        if self.answered >= self.given {
            self.answered_early = self.answered + 1;
        }
        entry.replies = entry.replies.saturating_sub(1);
        self.owed = self.owed.saturating_sub(1);
        let is_last = entry.replies == 0;
        // With the last one its slot may become another call's.
        let slot = match is_last {
            true => entry.slot.take(),
            false => entry.slot,
        };
        let waker = slot.and_then(|slot| {
            self.slots
                .put(slot, reply.map_err(CallError::Replied), is_last)
        });
        if is_last {
            self.answered += 1;
            self.forget_answered();
        }
        Ok(waker)
    }

    /// A pushed frame came that may be the answer to a command. `None` when it is not.
    pub(super) fn confirm(&mut self, kind: &[u8], name: &[u8]) -> Option<Option<Waker>> {
        let entry = self.queue.get(self.index(self.answered))?;
        let awaited = entry.awaited()?;
        if awaited.kind.as_bytes() != kind || awaited.name != name {
            return None;
        }
        self.answer(Ok(Value::Nil)).ok()
    }

    /// When deadlines are to be looked at.
    pub(super) fn armed(&self) -> Option<Instant> {
        self.armed
    }

    /// Ends the calls whose deadlines have passed. Gives who is to be woken.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let (due, next) = self.slots.due(now);
        self.armed = next.map(|next| next.max(now + SWEEP));
        for (slot, number) in due {
            let error = match self.may_have_left(number) {
                true => no_reply(),
                false => Fault::new(
                    FaultKind::Timeout,
                    "the server did not take the command within the deadline",
                )
                .not_sent(),
            };
            wakers.extend(self.slots.fail(slot, error));
            self.leave(number);
        }
        self.bury_some();
        wakers.extend(self.room());
        wakers
    }

    /// The connection has ended. Gives who is to be woken.
    pub(super) fn close(&mut self, fault: &Fault) -> Vec<Waker> {
        if self.closed.is_some() {
            return Vec::new();
        }
        self.closed = Some(fault.clone());
        let mut wakers: Vec<Waker> = std::mem::take(&mut self.for_room).into_values().collect();
        let unsent = Fault::new(
            fault.kind(),
            "the connection ended before the command was sent",
        )
        .with_source(fault.clone());
        let queue = std::mem::take(&mut self.queue);
        for (number, entry) in (self.base..).zip(&queue) {
            let error = match entry.is_begun || number < self.given.max(self.handed) {
                true => fault.clone().maybe(),
                false => unsent.clone().not_sent(),
            };
            wakers.extend(entry.slot.and_then(|slot| self.slots.fail(slot, error)));
        }
        self.small = Vec::new();
        self.armed = None;
        (self.owed, self.waiting) = (0, 0);
        wakers
    }

    /// How many replies are to come, once what waits is written.
    #[cfg(any(test, fuzzing))]
    pub(super) fn owed(&self) -> usize {
        self.owed
    }

    /// Bytes of ours that wait to be written.
    #[cfg(any(test, fuzzing))]
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The memory that is held: entries, slots and buffered bytes.
    #[cfg(any(test, fuzzing))]
    pub(super) fn held(&self) -> (usize, usize, usize) {
        (self.queue.len(), self.slots.len(), self.small.len())
    }

    fn end(&self) -> u64 {
        self.base + self.queue.len() as u64
    }

    fn index(&self, number: u64) -> usize {
        usize::try_from(number.saturating_sub(self.base)).unwrap_or(usize::MAX)
    }

    fn has_room(&self) -> bool {
        self.owed < MOST_OWED && self.waiting < MOST_WAITING
    }

    /// Those who wait for room, when there is some again.
    pub(super) fn room(&mut self) -> SmallVec<[Waker; 4]> {
        match self.for_room.is_empty() || !self.has_room() {
            true => SmallVec::new(),
            false => std::mem::take(&mut self.for_room).into_values().collect(),
        }
    }

    fn may_have_left(&self, number: u64) -> bool {
        let is_begun = |entry: &Entry| entry.is_begun;
        number < self.given
            || (self.is_writing && number < self.handed)
            || self.queue.get(self.index(number)).is_some_and(is_begun)
    }

    /// Nobody waits for this call any more. Unless its bytes may have gone, they need not go.
    fn leave(&mut self, number: u64) {
        let may_have_left = self.may_have_left(number);
        let index = self.index(number);
        if let Some(entry) = self.queue.get_mut(index) {
            entry.slot = None;
            if !may_have_left {
                self.kill(index);
            }
        }
    }

    fn kill(&mut self, index: usize) {
        let Some(entry) = self.queue.get_mut(index) else {
            return;
        };
        if entry.is_dead || entry.is_begun {
            return;
        }
        entry.is_dead = true;
        self.owed -= entry.replies;
        self.waiting -= entry.weight;
        self.dead += 1;
        match &mut entry.segments {
            // These go at once; of the shared buffer whole stretches are taken out together.
            Some(segments) => **segments = Segments::new(),
            None => self.dead_bytes += entry.left,
        }
    }

    /// Takes dead calls out of the queue when there are more of them than others.
    fn bury_some(&mut self) {
        let unsent = self.queue.len() - self.index(self.given).min(self.queue.len());
        let many = self.dead > 64 && self.dead * 2 > unsent;
        let much = self.dead_bytes > MOST_KEPT && self.dead_bytes * 2 > self.small.len();
        if (many || much) && !self.is_writing {
            self.bury();
        }
    }

    /// Takes dead calls, and their bytes, out of the queue.
    fn bury(&mut self) {
        if self.dead == 0 {
            return;
        }
        let first = self.index(self.given).min(self.queue.len());
        let (mut from, mut to) = (self.head, self.head);
        for mut entry in self.queue.split_off(first) {
            let bytes = match entry.segments {
                Some(_) => 0,
                None => entry.left,
            };
            if !entry.is_dead {
                self.small.copy_within(from..from + bytes, to);
                to += bytes;
                if let Some(slot) = &mut entry.slot {
                    self.slots
                        .renumber(*slot, self.base + self.queue.len() as u64);
                }
                self.queue.push_back(entry);
            }
            from += bytes;
        }
        self.small.truncate(to);
        (self.dead, self.dead_bytes) = (0, 0);
        if self.head == to {
            self.small.clear();
            self.head = 0;
            self.small.shrink_to(MOST_KEPT);
        }
        if self.queue.capacity() > 1024 && self.queue.len() * 4 < self.queue.capacity() {
            self.queue.shrink_to(self.queue.len() * 2);
        }
    }

    fn forget_answered(&mut self) {
        while self.base < self.answered.min(self.given) && self.queue.pop_front().is_some() {
            self.base += 1;
        }
    }
}

#[cfg(test)]
mod tests;
