//! [`Slots`]: where the outcome of a call is put, and who is woken for it.

use std::task::Waker;

use tokio::time::Instant;

use crate::error::CallError;
use crate::value::Value;

/// The reply to one command.
pub(super) type Reply = Result<Value, CallError>;

/// How many slots are kept when none is used.
const MOST_KEPT: usize = 4096;

/// The slots of all calls that somebody waits for.
#[derive(Debug, Default)]
pub(super) struct Slots {
    all: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug)]
enum Slot {
    Free,
    Waiting {
        /// The call's place in the queue.
        number: u64,
        deadline: Option<Instant>,
        waker: Waker,
        /// The replies that came, when there are to be several.
        replies: Vec<Reply>,
        is_single: bool,
    },
    Done(Result<Taken, CallError>),
}

/// What came for a call.
#[derive(Debug)]
pub(super) enum Taken {
    One(Reply),
    Many(Vec<Reply>),
}

impl Slots {
    pub(super) fn add(
        &mut self,
        number: u64,
        replies: usize,
        deadline: Option<Instant>,
        waker: &Waker,
    ) -> u32 {
        let slot = Slot::Waiting {
            number,
            deadline,
            waker: waker.clone(),
            replies: Vec::new(),
            is_single: replies == 1,
        };
        match self.free.pop() {
            Some(id) => {
                if let Some(place) = self.get(id) {
                    *place = slot;
                }
                id
            }
            None => {
                self.all.push(slot);
                // The number of calls that wait for room keeps far below 2^32.
                u32::try_from(self.all.len() - 1).unwrap_or(u32::MAX)
            }
        }
    }

    /// Puts a reply into a slot; gives who is to be woken with the last.
    pub(super) fn put(&mut self, id: u32, reply: Reply, is_last: bool) -> Option<Waker> {
        let slot = self.get(id)?;
        let Slot::Waiting {
            replies, is_single, ..
        } = slot
        else {
            return None;
        };
        let taken = if *is_single {
            Taken::One(reply)
        } else {
            replies.push(reply);
            if !is_last {
                return None;
            }
            Taken::Many(std::mem::take(replies))
        };
        wake(slot, Ok(taken))
    }

    pub(super) fn fail(&mut self, id: u32, error: CallError) -> Option<Waker> {
        wake(self.get(id)?, Err(error))
    }

    /// The outcome, when there is one; the slot is free then. Otherwise `waker` is called when there
    /// is.
    pub(super) fn take(&mut self, id: u32, waker: &Waker) -> Option<Result<Taken, CallError>> {
        let slot = self.get(id)?;
        if let Slot::Waiting { waker: known, .. } = slot {
            known.clone_from(waker);
            return None;
        }
        let done = std::mem::replace(slot, Slot::Free);
        self.release(id);
        match done {
            Slot::Done(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Frees a slot that nobody looks at any more; gives its call's place when there was no outcome.
    pub(super) fn remove(&mut self, id: u32) -> Option<u64> {
        let slot = self.get(id)?;
        let number = match std::mem::replace(slot, Slot::Free) {
            Slot::Waiting { number, .. } => Some(number),
            Slot::Free => return None,
            Slot::Done(_) => None,
        };
        self.release(id);
        number
    }

    fn release(&mut self, id: u32) {
        self.free.push(id);
        if self.free.len() == self.all.len() && self.all.len() > MOST_KEPT {
            // What a rush needed is not kept for ever.
            self.all = Vec::new();
            self.free = Vec::new();
        }
    }

    pub(super) fn renumber(&mut self, id: u32, next: u64) {
        if let Some(Slot::Waiting { number, .. }) = self.get(id) {
            *number = next;
        }
    }

    /// The calls whose deadlines have passed, and the next deadline of the others.
    pub(super) fn due(&self, now: Instant) -> (Vec<(u32, u64)>, Option<Instant>) {
        let mut due = Vec::new();
        let mut next: Option<Instant> = None;
        for (id, slot) in (0..).zip(&self.all) {
            let Slot::Waiting {
                number,
                deadline: Some(deadline),
                ..
            } = slot
            else {
                continue;
            };
            if *deadline <= now {
                due.push((id, *number));
            } else {
                next = Some(next.map_or(*deadline, |next| next.min(*deadline)));
            }
        }
        (due, next)
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn len(&self) -> usize {
        self.all.len() - self.free.len()
    }

    fn get(&mut self, id: u32) -> Option<&mut Slot> {
        self.all.get_mut(usize::try_from(id).ok()?)
    }
}

fn wake(slot: &mut Slot, outcome: Result<Taken, CallError>) -> Option<Waker> {
    match std::mem::replace(slot, Slot::Done(outcome)) {
        Slot::Waiting { waker, .. } => Some(waker),
        other => {
            *slot = other;
            None
        }
    }
}
