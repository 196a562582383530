//! The state machine: what the breaker decides, without locks, clocks or reporting.
//!
//! Every state has a generation, and a call belongs to the generation that let it through. What
//! comes back from an older one is taken off the list of calls that are out and changes nothing
//! else (generations are gobreaker's idea).

use std::time::Duration;

use super::config::BreakerConfig;
use super::in_flight::{InFlight, Noted, Slot};
use super::snapshot::{Seen, Snapshot, Transition};
use super::state::{BreakerState, Outcome};
use super::tick::{Tick, nanos};
use super::window::{SlidingWindow, Tally};

/// A call that was let through. Whoever holds it gives it back with [`Machine::settle`].
#[derive(Debug)]
#[must_use]
pub(super) struct Ticket {
    generation: u64,
    slot: Slot,
    pub(super) started: Tick,
}

impl Ticket {
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }
}

/// The settings in the units in which they are used.
#[derive(Debug)]
struct Settings {
    /// The state without any intervention.
    resting: BreakerState,
    minimum_calls: u64,
    failure_rate: f64,
    slow_call: u64,
    slow_call_rate: f64,
    open_for: u64,
    half_open_calls: u64,
    half_open_timeout: u64,
}

/// The probes of one half-open generation.
#[derive(Debug, Clone, Copy, Default)]
struct Probes {
    /// Probes that are out or have ended; the places that were given back are taken off.
    admitted: u64,
    /// `calls` are those that have ended; `slow` are those and the slow ones that still run.
    tally: Tally,
}

/// The breaker's state and memory.
#[derive(Debug)]
pub(super) struct Machine {
    settings: Settings,
    state: BreakerState,
    generation: u64,
    since: Tick,
    /// The latest time that was ever told. Threads read the clock before they take the lock, so
    /// times arrive slightly out of order; the list of calls that are out and the window are
    /// given this one, which never runs back.
    clock: Tick,
    window: SlidingWindow,
    probes: Probes,
    in_flight: InFlight,
    not_permitted: u64,
    unreported: Vec<Transition>,
}

impl Machine {
    /// The configuration must have been validated.
    pub(super) fn new(config: &BreakerConfig) -> Self {
        let resting = if config.enabled {
            BreakerState::Closed
        } else {
            BreakerState::ForcedClosed
        };
        Self {
            settings: Settings {
                resting,
                minimum_calls: config.minimum_calls.into(),
                failure_rate: config.failure_rate,
                slow_call: nanos(config.slow_call),
                slow_call_rate: config.slow_call_rate,
                open_for: nanos(config.open_for),
                half_open_calls: config.half_open_calls.into(),
                half_open_timeout: nanos(config.half_open_timeout),
            },
            state: resting,
            generation: 0,
            since: Tick::default(),
            clock: Tick::default(),
            window: SlidingWindow::new(config.window),
            probes: Probes::default(),
            in_flight: InFlight::new(),
            not_permitted: 0,
            unreported: Vec::new(),
        }
    }

    /// Lets a call through, or says after how long asking again makes sense.
    pub(super) fn acquire(&mut self, started: Tick) -> Result<Ticket, Duration> {
        self.advance(started);
        match self.state {
            BreakerState::Closed | BreakerState::ForcedClosed => {}
            BreakerState::HalfOpen if self.probes.admitted < self.settings.half_open_calls => {
                self.probes.admitted += 1;
            }
            BreakerState::HalfOpen | BreakerState::Open | BreakerState::ForcedOpen => {
                self.not_permitted += 1;
                return Err(self.retry_after().unwrap_or_default());
            }
        }
        Ok(Ticket {
            generation: self.generation,
            slot: self.in_flight.add(self.clock),
            started,
        })
    }

    /// Takes a call back. It counts only when the state that let it through still lasts.
    pub(super) fn settle(&mut self, ticket: Ticket, outcome: Outcome, now: Tick) {
        self.advance(now);
        let (noted, given_up) = self.in_flight.remove(ticket.slot);
        if ticket.generation != self.generation {
            return;
        }
        let slow = noted != Noted::Nothing || now.since(ticket.started) > self.settings.slow_call;
        let failed = outcome == Outcome::Failure;
        let neutral = outcome == Outcome::Neutral;
        match self.state {
            BreakerState::Closed | BreakerState::ForcedClosed => {
                match noted {
                    Noted::InWindow(_) if neutral => return,
                    Noted::InWindow(mark) if self.window.complete(self.clock, mark, failed) => {
                        return self.trip();
                    }
                    _ if neutral && !slow => return,
                    _ => {}
                }
                self.window.record(self.clock, failed, slow);
                self.trip();
            }
            BreakerState::HalfOpen => {
                if given_up {
                    return;
                }
                if neutral && !slow {
                    self.probes.admitted = self.probes.admitted.saturating_sub(1);
                    return;
                }
                let tally = &mut self.probes.tally;
                tally.calls += 1;
                tally.failures += u64::from(failed);
                tally.slow += u64::from(slow && noted == Noted::Nothing);
                self.judge_probes();
            }
            // These let nothing through, so no ticket is of their generation.
            BreakerState::Open | BreakerState::ForcedOpen => {}
        }
    }

    /// A new connection was made and answered. What is known comes from the old one: an open
    /// breaker asks again at once, a half-open one gives out its probes anew.
    pub(super) fn hint_recovered(&mut self, now: Tick) {
        self.advance(now);
        if matches!(self.state, BreakerState::Open | BreakerState::HalfOpen) {
            self.enter(BreakerState::HalfOpen);
        }
    }

    pub(super) fn force_open(&mut self, now: Tick) {
        self.force(BreakerState::ForcedOpen, now);
    }

    pub(super) fn force_closed(&mut self, now: Tick) {
        self.force(BreakerState::ForcedClosed, now);
    }

    /// Forgets everything but the calls that are out.
    pub(super) fn reset(&mut self, now: Tick) {
        self.advance(now);
        self.enter(self.settings.resting);
    }

    pub(super) fn snapshot(&mut self, now: Tick) -> Snapshot {
        self.advance(now);
        if matches!(
            self.state,
            BreakerState::Closed | BreakerState::ForcedClosed
        ) {
            // Drops what has become too old.
            self.window.tally(self.clock);
        }
        Snapshot {
            state: self.state,
            seen: self.seen(),
            not_permitted: self.not_permitted,
            in_flight: self.in_flight.count(),
            oldest_in_flight: self
                .in_flight
                .oldest()
                .map(|started| Duration::from_nanos(self.clock.since(started))),
            since: self.since,
            retry_after: self.retry_after(),
        }
    }

    /// The transitions since the last time this was asked, oldest first.
    pub(super) fn take_unreported(&mut self) -> Vec<Transition> {
        if self.unreported.is_empty() {
            return Vec::new();
        }
        std::mem::take(&mut self.unreported)
    }

    /// What happens by itself as time passes: calls become slow, probes are given up, an open
    /// breaker becomes half open.
    fn advance(&mut self, now: Tick) {
        self.clock = self.clock.max(now);
        match self.state {
            BreakerState::Closed | BreakerState::ForcedClosed => {
                let generation = self.generation;
                while generation == self.generation
                    && let Some(entry) = self
                        .in_flight
                        .next_slow(self.clock, self.settings.slow_call)
                {
                    entry.noted = Noted::InWindow(self.window.record(self.clock, false, true));
                    self.trip();
                }
            }
            BreakerState::HalfOpen => self.advance_probes(),
            BreakerState::Open if self.clock >= self.since.plus(self.settings.open_for) => {
                self.enter(BreakerState::HalfOpen);
            }
            BreakerState::Open | BreakerState::ForcedOpen => {}
        }
    }

    fn advance_probes(&mut self) {
        let mut news = false;
        while let Some(entry) = self
            .in_flight
            .next_slow(self.clock, self.settings.slow_call)
        {
            entry.noted = Noted::AsProbe;
            self.probes.tally.slow += 1;
            news = true;
        }
        while let Some(entry) = self
            .in_flight
            .next_expired(self.clock, self.settings.half_open_timeout)
        {
            entry.given_up = true;
            self.probes.tally.calls += 1;
            self.probes.tally.failures += 1;
            news = true;
        }
        if news {
            self.judge_probes();
        }
    }

    /// Opens the breaker when the window says so.
    #[inline]
    fn trip(&mut self) {
        let tally = self.window.last_tally();
        if self.state == BreakerState::Closed
            && (tally.failures > 0 || tally.slow > 0)
            && tally.calls >= self.settings.minimum_calls
            && self.too_bad(tally, tally.calls)
        {
            self.enter(BreakerState::Open);
        }
    }

    /// Opens the breaker again as soon as the probes that are left could not save it, and closes
    /// it when all have ended.
    fn judge_probes(&mut self) {
        let limit = self.settings.half_open_calls;
        if self.too_bad(self.probes.tally, limit) {
            self.enter(BreakerState::Open);
        } else if self.probes.tally.calls >= limit {
            self.enter(BreakerState::Closed);
        }
    }

    fn too_bad(&self, tally: Tally, of: u64) -> bool {
        Tally::share(tally.failures, of) >= self.settings.failure_rate
            || Tally::share(tally.slow, of) >= self.settings.slow_call_rate
    }

    fn force(&mut self, to: BreakerState, now: Tick) {
        self.advance(now);
        if self.state != to {
            self.enter(to);
        }
    }

    /// Begins a new generation: nothing that was let through before counts from here on.
    fn enter(&mut self, to: BreakerState) {
        let (from, seen) = (self.state, self.seen());
        self.generation += 1;
        self.in_flight.unwatch_all();
        self.probes = Probes::default();
        self.state = to;
        // While open the window stays as it was: the status tells what opened the breaker.
        if to.is_permitting() {
            self.window.clear();
        }
        if from != to {
            self.since = self.clock;
            self.unreported.push(Transition {
                sequence: self.generation,
                from,
                to,
                seen,
            });
        }
    }

    fn seen(&self) -> Seen {
        let (tally, of) = match self.state {
            BreakerState::HalfOpen => (self.probes.tally, self.settings.half_open_calls),
            _ => {
                let tally = self.window.last_tally();
                (tally, tally.calls)
            }
        };
        Seen {
            tally,
            failure_rate: Tally::share(tally.failures, of),
            slow_call_rate: Tally::share(tally.slow, of),
        }
    }

    /// When calls are refused: how long until that may change by itself. Nothing is known of a
    /// breaker that was opened by hand; its usual waiting time keeps callers from asking in a loop.
    fn retry_after(&self) -> Option<Duration> {
        let until = match self.state {
            BreakerState::Closed | BreakerState::ForcedClosed => return None,
            BreakerState::ForcedOpen => self.clock.plus(self.settings.open_for),
            BreakerState::Open => self.since.plus(self.settings.open_for),
            BreakerState::HalfOpen if self.probes.admitted < self.settings.half_open_calls => {
                return None;
            }
            BreakerState::HalfOpen => self
                .in_flight
                .oldest_unexpired()
                .map_or(self.clock, |probe| {
                    probe.plus(self.settings.half_open_timeout)
                }),
        };
        Some(Duration::from_nanos(until.since(self.clock)))
    }
}
