//! Sharing the state machine between threads: the lock, the permit that gives itself back, and
//! reporting after the lock is released.
//!
//! Generic over the lock, so that the concurrency model (`model.rs`) runs this very code on a lock
//! whose every interleaving it explores.

use std::sync::Arc;
use std::time::Duration;

use super::machine::{Machine, Ticket};
use super::snapshot::Transition;
use super::state::Outcome;
use super::tick::Tick;

/// Mutual exclusion.
pub(super) trait Lock<T> {
    fn new(value: T) -> Self;
    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R;
}

impl<T> Lock<T> for parking_lot::Mutex<T> {
    fn new(value: T) -> Self {
        parking_lot::Mutex::new(value)
    }

    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        work(&mut self.lock())
    }
}

/// What the breaker needs of the world: the time, and somebody to tell. It is never told anything
/// under the lock, so it may ask the breaker whatever it likes.
pub(super) trait Environment {
    fn now(&self) -> Tick;
    /// Transitions may arrive out of order when threads race: their sequence tells which is last.
    fn changed(&self, transition: &Transition);
    fn settled(&self, outcome: Outcome);
    fn refused(&self);
}

/// The state machine behind its lock.
#[derive(Debug)]
pub(super) struct Shared<L, S> {
    machine: L,
    pub(super) environment: S,
}

impl<L: Lock<Machine>, S: Environment> Shared<L, S> {
    pub(super) fn new(machine: Machine, environment: S) -> Self {
        Self {
            machine: L::new(machine),
            environment,
        }
    }

    pub(super) fn acquire(self: &Arc<Self>, now: Tick) -> Result<Held<L, S>, Duration> {
        match self.run(|machine| machine.acquire(now)) {
            Ok(ticket) => Ok(Held {
                shared: Arc::clone(self),
                ticket: Some(ticket),
            }),
            Err(retry_after) => {
                self.environment.refused();
                Err(retry_after)
            }
        }
    }

    /// Works on the machine under the lock and reports afterwards what has changed.
    pub(super) fn run<R>(&self, work: impl FnOnce(&mut Machine) -> R) -> R {
        let (result, transitions) = self.machine.with(|machine| {
            let result = work(machine);
            (result, machine.take_unreported())
        });
        for transition in &transitions {
            self.environment.changed(transition);
        }
        result
    }

    fn settle(&self, ticket: Ticket, outcome: Outcome, now: Tick) {
        self.run(|machine| machine.settle(ticket, outcome, now));
        self.environment.settled(outcome);
    }
}

/// A call that was let through; dropping it gives it back as neutral.
#[derive(Debug)]
pub(super) struct Held<L: Lock<Machine>, S: Environment> {
    shared: Arc<Shared<L, S>>,
    ticket: Option<Ticket>,
}

impl<L: Lock<Machine>, S: Environment> Held<L, S> {
    pub(super) fn settle(mut self, outcome: Outcome, now: Tick) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.settle(ticket, outcome, now);
        }
    }

    pub(super) fn ticket(&self) -> Option<&Ticket> {
        self.ticket.as_ref()
    }

    pub(super) fn environment(&self) -> &S {
        &self.shared.environment
    }
}

impl<L: Lock<Machine>, S: Environment> Drop for Held<L, S> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let now = self.shared.environment.now();
            self.shared.settle(ticket, Outcome::Neutral, now);
        }
    }
}
