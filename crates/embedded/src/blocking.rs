//! Callers that wait until a key has something for them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::error::Reply;
use crate::state::{Protocol, State};

/// Looks whether a key has something and takes it; `None` to go on waiting.
pub(crate) type Serve = Box<dyn Fn(&mut State, &[u8]) -> Option<Reply> + Send>;

/// A command that found nothing and may wait.
pub(crate) struct Wait {
    pub(crate) keys: Vec<Bytes>,
    /// How long; `None` for ever.
    pub(crate) timeout: Option<Duration>,
    pub(crate) serve: Serve,
}

/// What a command that may wait came to.
pub(crate) enum Attempt {
    Done(Reply),
    Wait(Wait),
}

/// A place among the waiters, and where the reply will come.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) number: u64,
    pub(crate) timeout: Option<Duration>,
    pub(crate) reply: oneshot::Receiver<Reply>,
}

/// Who waits, in the order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: BTreeMap<u64, Waiter>,
    by_key: HashMap<Bytes, BTreeSet<u64>>,
    arrivals: u64,
}

struct Waiter {
    session: i64,
    keys: Vec<Bytes>,
    /// The shapes in which its connection wants replies.
    protocol: Protocol,
    serve: Serve,
    reply: oneshot::Sender<Reply>,
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter").finish_non_exhaustive()
    }
}

impl Waiters {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a session waits.
    pub(crate) fn has(&self, session: i64) -> bool {
        self.of_session(session).is_some()
    }

    /// The first waiter for a key that came after `previous`.
    fn next_for(&self, key: &[u8], previous: u64) -> Option<u64> {
        let numbers = self.by_key.get(key)?;
        numbers.range(previous + 1..).next().copied()
    }

    fn of_session(&self, session: i64) -> Option<u64> {
        let mut waiting = self.waiting.iter();
        waiting.find(|(_, w)| w.session == session).map(|(n, _)| *n)
    }
}

impl State {
    /// Lets a session wait.
    pub(crate) fn enqueue(&mut self, session: i64, wait: Wait) -> Ticket {
        let (reply, receiver) = oneshot::channel();
        self.waiters.arrivals += 1;
        let number = self.waiters.arrivals;
        // A key may be named twice.
        let keys: BTreeSet<Bytes> = wait.keys.into_iter().collect();
        for key in &keys {
            self.db.observers.wait_for(key);
            let numbers = self.waiters.by_key.entry(key.clone()).or_default();
            numbers.insert(number);
        }
        self.waiters.waiting.insert(
            number,
            Waiter {
                session,
                keys: keys.into_iter().collect(),
                protocol: self.protocol,
                serve: wait.serve,
                reply,
            },
        );
        Ticket {
            number,
            timeout: wait.timeout,
            reply: receiver,
        }
    }

    /// Takes a waiter out of the queue, if it is still there.
    pub(crate) fn dequeue(&mut self, number: u64) {
        self.take_waiter(number);
    }

    /// Ends the waiting of a session; says whether it waited. Without a reply its call ends as one
    /// on a closed connection.
    pub(crate) fn unblock(&mut self, session: i64, reply: Option<Reply>) -> bool {
        let number = self.waiters.of_session(session);
        let Some(waiter) = number.and_then(|number| self.take_waiter(number)) else {
            return false;
        };
        if let Some(reply) = reply {
            answer(waiter, reply);
        }
        true
    }

    /// Ends all waiting.
    pub(crate) fn unblock_all(&mut self) {
        for number in self.waiters.waiting.keys().copied().collect::<Vec<_>>() {
            self.dequeue(number);
        }
    }

    /// Serves the waiters whose keys changed: first come, first served. Runs after a whole command,
    /// script or transaction, so that what it did to a key in between is never seen.
    pub(crate) fn serve_waiters(&mut self) {
        while let Some(key) = self.db.observers.next_ready() {
            let mut previous = 0;
            while let Some(number) = self.waiters.next_for(&key, previous) {
                previous = number;
                let Some(waiter) = self.waiters.waiting.remove(&number) else {
                    continue;
                };
                let outer = std::mem::replace(&mut self.protocol, waiter.protocol);
                let served = (waiter.serve)(self, &key);
                self.protocol = outer;
                self.waiters.waiting.insert(number, waiter);
                if let Some(reply) = served
                    && let Some(waiter) = self.take_waiter(number)
                {
                    answer(waiter, reply);
                }
            }
        }
    }

    fn take_waiter(&mut self, number: u64) -> Option<Waiter> {
        let waiter = self.waiters.waiting.remove(&number)?;
        for key in &waiter.keys {
            self.db.observers.stop_waiting_for(key);
            if let Some(numbers) = self.waiters.by_key.get_mut(key) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.waiters.by_key.remove(key);
                }
            }
        }
        Some(waiter)
    }
}

/// A caller that is just going away takes the reply with it, like a client whose connection breaks.
fn answer(waiter: Waiter, reply: Reply) {
    let _ = waiter.reply.send(reply);
}
