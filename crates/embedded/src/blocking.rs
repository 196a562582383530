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
    /// Whether it wants to hear of a key that is gone, too.
    pub(crate) hears_of_absence: bool,
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
    by_key: HashMap<Bytes, Queue>,
    /// The number of the waiter of a session: it has one at most.
    by_session: HashMap<i64, u64>,
    arrivals: u64,
}

/// The waiters for one key.
#[derive(Debug, Default)]
struct Queue {
    numbers: BTreeSet<u64>,
    /// How many of them want to hear that the key is gone.
    hear_of_absence: usize,
}

struct Waiter {
    session: i64,
    keys: Vec<Bytes>,
    /// The shapes in which its connection wants replies.
    protocol: Protocol,
    serve: Serve,
    hears_of_absence: bool,
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
        let queue = self.by_key.get(key)?;
        queue.numbers.range(previous + 1..).next().copied()
    }

    fn hear_of_absence(&self, key: &[u8]) -> bool {
        let queue = self.by_key.get(key);
        queue.is_some_and(|queue| queue.hear_of_absence > 0)
    }

    fn of_session(&self, session: i64) -> Option<u64> {
        self.by_session.get(&session).copied()
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
            let queue = self.waiters.by_key.entry(key.clone()).or_default();
            queue.numbers.insert(number);
            queue.hear_of_absence += usize::from(wait.hears_of_absence);
        }
        self.waiters.by_session.insert(session, number);
        self.waiters.waiting.insert(
            number,
            Waiter {
                session,
                keys: keys.into_iter().collect(),
                protocol: self.protocol,
                serve: wait.serve,
                hears_of_absence: wait.hears_of_absence,
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
                // The waiters before took all there was: nothing is left for the others to look at.
                if !self.db.contains(&key) && !self.waiters.hear_of_absence(&key) {
                    break;
                }
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
        self.waiters.by_session.remove(&waiter.session);
        for key in &waiter.keys {
            self.db.observers.stop_waiting_for(key);
            if let Some(queue) = self.waiters.by_key.get_mut(key) {
                queue.numbers.remove(&number);
                queue.hear_of_absence -= usize::from(waiter.hears_of_absence);
                if queue.numbers.is_empty() {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use redkit_core::Value;

    use super::*;
    use crate::clock::Clock;
    use crate::commands;

    fn run(state: &mut State, line: &[&[u8]]) -> Option<Value> {
        let (name, args) = line.split_first()?;
        let reply = state.run(commands::lookup(name)?.spec, args);
        state.settle();
        reply.ok()
    }

    #[test]
    fn a_push_asks_no_more_waiters_than_it_has_items_for() {
        let mut state = State::new(Clock::new());
        let asked = Arc::new(AtomicUsize::new(0));
        let mut tickets: Vec<Ticket> = (0..1_000)
            .map(|session| {
                let asked = Arc::clone(&asked);
                let serve: Serve = Box::new(move |state, key| {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let popped = commands::lookup(b"LPOP")?;
                    let popped = state.run(popped.spec, &[key]);
                    Some(popped).filter(|popped| !matches!(popped, Ok(Value::Nil)))
                });
                let wait = Wait {
                    keys: vec![Bytes::from_static(b"q")],
                    timeout: None,
                    serve,
                    hears_of_absence: false,
                };
                state.enqueue(session, wait)
            })
            .collect();
        run(&mut state, &[b"RPUSH", b"q", b"a", b"b"]).unwrap();
        assert!(asked.load(Ordering::Relaxed) <= 3, "{asked:?}");
        assert_eq!(state.waiters.len(), 998);
        let first = tickets.remove(0).reply.try_recv().unwrap();
        assert_eq!(first.unwrap(), Value::bulk("a"));
        assert!(!state.waiters.has(0) && state.waiters.has(2));
        assert!(state.unblock(2, None) && !state.waiters.has(2));
    }
}
