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
use super::window::{Counts, SlidingWindow};

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
    counts: Counts,
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
    /// Opened by [`suspend`](Self::suspend): only [`resume`](Self::resume) ends it, not time.
    suspended: bool,
    /// Whether what opened the breaker is over when the server answers a probe.
    ends_with_answer: bool,
    /// The same of what was counted last.
    last_ends_with_answer: bool,
    unreported: Vec<Transition>,
}

impl Machine {
    /// The state in which a breaker begins, and to which a reset takes it back.
    pub(super) fn initial(config: &BreakerConfig) -> BreakerState {
        match config.enabled {
            true => BreakerState::Closed,
            false => BreakerState::ForcedClosed,
        }
    }

    /// The configuration must have been validated.
    pub(super) fn new(config: &BreakerConfig) -> Self {
        let resting = Self::initial(config);
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
            suspended: false,
            ends_with_answer: false,
            last_ends_with_answer: false,
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
        if !given_up {
            self.last_ends_with_answer = outcome == Outcome::Failure;
        }
        let failed = outcome.is_failure();
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
                let counts = &mut self.probes.counts;
                counts.calls += 1;
                counts.failures += u64::from(failed);
                counts.slow += u64::from(slow && noted == Noted::Nothing);
                self.judge_probes();
            }
            // These let nothing through, so no ticket is of their generation.
            BreakerState::Open | BreakerState::ForcedOpen => {}
        }
    }

    /// A new connection was made. What is known comes from the old one: an open breaker asks again
    /// at once, a half-open one gives out its probes anew.
    pub(super) fn hint_recovered(&mut self, now: Tick) {
        self.advance(now);
        if self.suspended {
            // The one who watches will say when the server answers.
            return;
        }
        if matches!(self.state, BreakerState::Open | BreakerState::HalfOpen) {
            self.enter(BreakerState::HalfOpen);
        }
    }

    /// The server is silent, or there is no way to it, and somebody watches for its return: the
    /// breaker stays open until [`resume`](Self::resume).
    pub(super) fn suspend(&mut self, now: Tick) {
        self.advance(now);
        if matches!(self.state, BreakerState::Closed | BreakerState::HalfOpen) {
            self.enter(BreakerState::Open);
        }
        self.suspended = self.state == BreakerState::Open;
    }

    /// The server has answered: what such an answer ends is over.
    pub(super) fn resume(&mut self, now: Tick) {
        self.advance(now);
        if self.awaits_answer() {
            self.enter(BreakerState::Closed);
        }
    }

    /// Whether an answer of the server's would close the breaker.
    pub(super) fn awaits_answer(&self) -> bool {
        matches!(self.state, BreakerState::Open | BreakerState::HalfOpen)
            && (self.suspended || self.ends_with_answer)
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
            self.window.counts(self.clock);
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
                    self.last_ends_with_answer = false;
                    entry.noted = Noted::InWindow(self.window.record(self.clock, false, true));
                    self.trip();
                }
            }
            BreakerState::HalfOpen => self.advance_probes(),
            BreakerState::Open
                if !self.suspended && self.clock >= self.since.plus(self.settings.open_for) =>
            {
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
            self.probes.counts.slow += 1;
            news = true;
        }
        while let Some(entry) = self
            .in_flight
            .next_expired(self.clock, self.settings.half_open_timeout)
        {
            entry.given_up = true;
            self.last_ends_with_answer = true;
            self.probes.counts.calls += 1;
            self.probes.counts.failures += 1;
            news = true;
        }
        if news {
            self.judge_probes();
        }
    }

    /// Opens the breaker when the window says so.
    #[inline]
    fn trip(&mut self) {
        let counts = self.window.last_counts();
        if self.state == BreakerState::Closed
            && (counts.failures > 0 || counts.slow > 0)
            && counts.calls >= self.settings.minimum_calls
            && self.too_bad(counts, counts.calls)
        {
            self.enter(BreakerState::Open);
        }
    }

    /// Opens the breaker again as soon as the probes that are left could not save it, and closes
    /// it when all have ended.
    fn judge_probes(&mut self) {
        let limit = self.settings.half_open_calls;
        if self.too_bad(self.probes.counts, limit) {
            self.enter(BreakerState::Open);
        } else if self.probes.counts.calls >= limit {
            self.enter(BreakerState::Closed);
        }
    }

    fn too_bad(&self, counts: Counts, of: u64) -> bool {
        Counts::share(counts.failures, of) >= self.settings.failure_rate
            || Counts::share(counts.slow, of) >= self.settings.slow_call_rate
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
        self.suspended = false;
        if to == BreakerState::Open {
            self.ends_with_answer = self.last_ends_with_answer;
        }
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
        let (counts, of) = match self.state {
            BreakerState::HalfOpen => (self.probes.counts, self.settings.half_open_calls),
            _ => {
                let counts = self.window.last_counts();
                (counts, counts.calls)
            }
        };
        Seen {
            counts,
            failure_rate: Counts::share(counts.failures, of),
            slow_call_rate: Counts::share(counts.slow, of),
        }
    }

    /// When calls are refused: how long until that may change by itself. Nothing is known of a
    /// breaker that was opened by hand, or until the server answers; its usual waiting time keeps callers from asking in a loop.
    fn retry_after(&self) -> Option<Duration> {
        let until = match self.state {
            BreakerState::Closed | BreakerState::ForcedClosed => return None,
            BreakerState::ForcedOpen => self.clock.plus(self.settings.open_for),
            BreakerState::Open if self.suspended => self.clock.plus(self.settings.open_for),
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
