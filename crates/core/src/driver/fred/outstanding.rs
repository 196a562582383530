//! [`Outstanding`]: what fred was handed and the server has not answered, and how much of it nobody
//! waits for.
//!
//! fred keeps a command whose caller has left, and sends it when it can. Nothing takes it back, so
//! nothing more is handed over while too many of them lie there.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::error::{CallError, Fault, FaultKind};

/// How many commands that nobody waits for may lie in fred's queue, and how many bytes of them.
const MOST_LEFT: usize = 4096;
const MOST_LEFT_BYTES: usize = 64 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Outstanding {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// In the order in which they are answered.
    calls: VecDeque<Call>,
    left: usize,
    left_bytes: usize,
}

#[derive(Debug)]
struct Call {
    number: u64,
    bytes: usize,
    has_left: bool,
}

/// A call that is about to be handed over. Dropping it means that its caller has left.
#[derive(Debug)]
pub(super) struct Ticket<'o> {
    outstanding: &'o Outstanding,
    number: u64,
}

impl Outstanding {
    /// Notes a call of so many bytes.
    ///
    /// # Errors
    /// [`FaultKind::Overloaded`] when too much is kept already for callers who have left.
    pub(super) fn begin(&self, bytes: usize) -> Result<Ticket<'_>, CallError> {
        let mut state = self.state.lock();
        if state.left >= MOST_LEFT || state.left_bytes >= MOST_LEFT_BYTES {
            let message = format!(
                "fred keeps {} commands ({} bytes) that were given up and not answered, and nothing \
                 takes them back",
                state.left, state.left_bytes
            );
            return Err(Fault::new(FaultKind::Overloaded, message).not_sent());
        }
        let number = state.add(bytes);
        Ok(Ticket {
            outstanding: self,
            number,
        })
    }

    /// The number of a call of the driver's own, which is not refused.
    pub(super) fn next(&self, bytes: usize) -> u64 {
        self.state.lock().add(bytes)
    }

    /// The server has answered this call, and with it all before it.
    pub(super) fn answered(&self, number: u64) {
        let mut state = self.state.lock();
        while let Some(call) = state.calls.pop_front() {
            if call.number > number {
                state.calls.push_front(call);
                return;
            }
            if call.has_left {
                state.left -= 1;
                state.left_bytes -= call.bytes;
            }
        }
    }
}

impl State {
    fn add(&mut self, bytes: usize) -> u64 {
        let number = self.next;
        self.next += 1;
        self.calls.push_back(Call {
            number,
            bytes,
            has_left: false,
        });
        number
    }
}

impl Ticket<'_> {
    /// The server has answered this call, and with it all before it.
    pub(super) fn answered(self) {
        self.outstanding.answered(self.number);
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.outstanding.state.lock();
        let first = state.calls.front().map_or(0, |call| call.number);
        let index = self.number.checked_sub(first).map(usize::try_from);
        let Some(Ok(index)) = index else {
            return;
        };
        if let Some(call) = state.calls.get_mut(index) {
            call.has_left = true;
            let bytes = call.bytes;
            state.left += 1;
            state.left_bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_counts_until_something_behind_it_is_answered() {
        let outstanding = Outstanding::default();
        let waits = outstanding.begin(1).unwrap();
        for _ in 0..MOST_LEFT {
            drop(outstanding.begin(10).unwrap());
        }
        let refused = outstanding.begin(1).unwrap_err();
        assert!(
            matches!(refused, CallError::NotSent(fault) if fault.kind() == FaultKind::Overloaded)
        );
        waits.answered();
        outstanding.begin(1).unwrap_err();
        let behind = Ticket {
            outstanding: &outstanding,
            number: MOST_LEFT as u64,
        };
        behind.answered();
        assert!(outstanding.state.lock().calls.is_empty());
        drop(outstanding.begin(MOST_LEFT_BYTES).unwrap());
        outstanding.begin(1).unwrap_err();
    }
}
