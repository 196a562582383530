//! The state machine against a reference model, which keeps every call in a list and computes everything
//! anew: it knows neither buckets nor cursors nor running totals.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::config::{BreakerConfig, Window};
use super::machine::{Machine, Ticket};
use super::machine_tests::{at, config};
use super::state::{BreakerState, Outcome};

#[derive(Debug, Clone)]
struct Call {
    id: usize,
    generation: u64,
    started: u64,
    slow: bool,
    given_up: bool,
}

#[derive(Debug, Clone)]
struct Observation {
    call: usize,
    at: u64,
    failed: bool,
    slow: bool,
}

struct Reference {
    config: BreakerConfig,
    state: BreakerState,
    generation: u64,
    since: u64,
    now: u64,
    next_id: usize,
    out: Vec<Call>,
    seen: Vec<Observation>,
    admitted: u32,
    ended: u32,
    suspended: bool,
    /// Whether an answer ends what opened it, and what was seen last.
    ends_with_answer: bool,
    last_ends_with_answer: bool,
}

const MS: u64 = 1_000_000;

impl Reference {
    fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            state: BreakerState::Closed,
            generation: 0,
            since: 0,
            now: 0,
            next_id: 0,
            out: Vec::new(),
            seen: Vec::new(),
            admitted: 0,
            ended: 0,
            suspended: false,
            ends_with_answer: false,
            last_ends_with_answer: false,
        }
    }

    fn awaits_answer(&self) -> bool {
        let is_open = matches!(self.state, BreakerState::Open | BreakerState::HalfOpen);
        is_open && (self.suspended || self.ends_with_answer)
    }

    fn forget_old(&mut self) {
        match self.config.window {
            Window::Count(calls) => {
                let excess = self.seen.len().saturating_sub(calls as usize);
                self.seen.drain(..excess);
            }
            Window::Time(span) => {
                // All spans of these tests are below ten seconds: ten buckets.
                let width = u64::try_from(span.as_nanos()).unwrap().div_ceil(10);
                let newest = self.now * MS / width;
                self.seen.retain(|o| newest - o.at * MS / width < 10);
            }
        }
    }

    fn enter(&mut self, state: BreakerState) {
        if state != self.state {
            self.since = self.now;
        }
        self.generation += 1;
        self.state = state;
        self.admitted = 0;
        self.ended = 0;
        self.suspended = false;
        if state == BreakerState::Open {
            self.ends_with_answer = self.last_ends_with_answer;
        }
        self.seen.clear();
    }

    fn note(&mut self, call: usize, failed: bool, slow: bool) {
        if let Some(known) = self.seen.iter_mut().find(|o| o.call == call) {
            known.failed |= failed;
        } else {
            self.seen.push(Observation {
                call,
                at: self.now,
                failed,
                slow,
            });
        }
    }

    fn judge(&mut self) {
        let half_open = self.state == BreakerState::HalfOpen;
        if !half_open {
            self.forget_old();
        }
        let failed = self.seen.iter().filter(|o| o.failed).count() as f64;
        let slow = self.seen.iter().filter(|o| o.slow).count() as f64;
        let of = match half_open {
            true => f64::from(self.config.half_open_calls),
            false => self.seen.len() as f64,
        };
        let enough = half_open || self.seen.len() >= self.config.minimum_calls as usize;
        if enough
            && (failed / of >= self.config.failure_rate || slow / of >= self.config.slow_call_rate)
        {
            self.enter(BreakerState::Open);
        } else if half_open && self.ended >= self.config.half_open_calls {
            self.enter(BreakerState::Closed);
        }
    }

    fn advance(&mut self, now: u64) {
        self.now = now;
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap();
        if !matches!(self.state, BreakerState::Closed | BreakerState::HalfOpen) {
            if self.state == BreakerState::Open
                && !self.suspended
                && now >= self.since + ms(self.config.open_for)
            {
                self.enter(BreakerState::HalfOpen);
            }
            return;
        }
        let half_open = self.state == BreakerState::HalfOpen;
        let generation = self.generation;
        let mut news = false;
        for i in 0..self.out.len() {
            let age = now - self.out[i].started;
            if self.generation == generation
                && self.out[i].generation == generation
                && !self.out[i].slow
                && age > ms(self.config.slow_call)
            {
                self.out[i].slow = true;
                self.last_ends_with_answer &= half_open;
                self.forget_old_unless(half_open);
                self.note(self.out[i].id, false, true);
                news = true;
                if !half_open {
                    self.judge();
                }
            }
        }
        for i in 0..self.out.len() {
            let age = now - self.out[i].started;
            if half_open
                && self.out[i].generation == generation
                && !self.out[i].given_up
                && age > ms(self.config.half_open_timeout)
            {
                self.out[i].given_up = true;
                self.last_ends_with_answer = true;
                self.note(self.out[i].id, true, true);
                self.ended += 1;
                news = true;
            }
        }
        if half_open && news {
            self.judge();
        }
    }

    fn forget_old_unless(&mut self, half_open: bool) {
        if !half_open {
            self.forget_old();
        }
    }

    fn acquire(&mut self, now: u64) -> bool {
        self.advance(now);
        match self.state {
            BreakerState::Closed => {}
            BreakerState::HalfOpen if self.admitted < self.config.half_open_calls => {
                self.admitted += 1;
            }
            _ => return false,
        }
        self.out.push(Call {
            id: self.next_id,
            generation: self.generation,
            started: now,
            slow: false,
            given_up: false,
        });
        self.next_id += 1;
        true
    }

    fn settle(&mut self, index: usize, outcome: Outcome, now: u64) {
        self.advance(now);
        let call = self.out.remove(index);
        if call.generation != self.generation || call.given_up {
            return;
        }
        self.last_ends_with_answer = outcome == Outcome::Failure;
        let neutral = outcome == Outcome::Neutral;
        let failed = outcome.is_failure();
        let half_open = self.state == BreakerState::HalfOpen;
        if neutral && half_open && !call.slow {
            self.admitted -= 1;
        }
        if neutral && !(half_open && call.slow) {
            return;
        }
        self.forget_old_unless(half_open);
        self.note(call.id, failed, call.slow);
        self.ended += u32::from(half_open);
        self.judge();
    }
}

#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Acquire,
    Settle(prop::sample::Index, Outcome),
    Look,
    Hint,
    Suspend,
    Resume,
    ForceOpen,
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![
        3 => Just(Outcome::Success),
        2 => Just(Outcome::Failure),
        1 => Just(Outcome::Refusal),
        1 => Just(Outcome::Neutral),
    ];
    prop_oneof![
        30 => (0u64..60).prop_map(Step::Pass),
        3 => (0u64..1_500).prop_map(Step::Pass),
        40 => Just(Step::Acquire),
        40 => (any::<prop::sample::Index>(), outcome).prop_map(|(i, o)| Step::Settle(i, o)),
        10 => Just(Step::Look),
        2 => Just(Step::Hint),
        2 => Just(Step::Suspend),
        3 => Just(Step::Resume),
        1 => Just(Step::ForceOpen),
        2 => Just(Step::Reset),
    ]
}

fn configs() -> impl Strategy<Value = BreakerConfig> {
    let windows = prop_oneof![
        (4u32..9).prop_map(Window::Count),
        (100u64..2_000).prop_map(|ms| Window::Time(Duration::from_millis(ms))),
    ];
    (windows, 1u32..5, 1u32..4, 0.1f64..=1.0, 0.1f64..=1.0).prop_map(
        |(window, minimum_calls, half_open_calls, failure_rate, slow_call_rate)| BreakerConfig {
            window,
            minimum_calls,
            half_open_calls,
            failure_rate,
            slow_call_rate,
            ..config()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn it_does_what_a_list_of_calls_says(config in configs(), steps in vec(step(), 1..200)) {
        prop_assert_eq!(config.validate(), Ok(()));
        let mut subject = Machine::new(&config);
        let mut reference = Reference::new(config);
        let mut tickets: Vec<Ticket> = Vec::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Pass(ms) => {
                    now += ms;
                    continue;
                }
                Step::Acquire => {
                    let ticket = subject.acquire(at(now)).ok();
                    prop_assert_eq!(ticket.is_some(), reference.acquire(now));
                    tickets.extend(ticket);
                }
                Step::Settle(_, _) if tickets.is_empty() => continue,
                Step::Settle(index, outcome) => {
                    let index = index.index(tickets.len());
                    subject.settle(tickets.remove(index), outcome, at(now));
                    reference.settle(index, outcome, now);
                }
                Step::Look => {}
                Step::Hint => {
                    subject.hint_recovered(at(now));
                    reference.advance(now);
                    let is_open =
                        matches!(reference.state, BreakerState::Open | BreakerState::HalfOpen);
                    if is_open && !reference.suspended {
                        reference.enter(BreakerState::HalfOpen);
                    }
                }
                Step::Suspend => {
                    subject.suspend(at(now));
                    reference.advance(now);
                    if matches!(reference.state, BreakerState::Closed | BreakerState::HalfOpen) {
                        reference.enter(BreakerState::Open);
                    }
                    reference.suspended = reference.state == BreakerState::Open;
                }
                Step::Resume => {
                    subject.resume(at(now));
                    reference.advance(now);
                    if reference.awaits_answer() {
                        reference.enter(BreakerState::Closed);
                    }
                }
                Step::ForceOpen => {
                    subject.force_open(at(now));
                    reference.advance(now);
                    if reference.state != BreakerState::ForcedOpen {
                        reference.enter(BreakerState::ForcedOpen);
                    }
                }
                Step::Reset => {
                    subject.reset(at(now));
                    reference.advance(now);
                    reference.enter(BreakerState::Closed);
                }
            }
            let snapshot = subject.snapshot(at(now));
            reference.advance(now);
            prop_assert_eq!(snapshot.state, reference.state);
            prop_assert_eq!(subject.awaits_answer(), reference.awaits_answer());
            prop_assert_eq!(snapshot.since, at(reference.since));
            prop_assert_eq!(snapshot.in_flight, tickets.len() as u64);
            prop_assert_eq!(
                snapshot.oldest_in_flight,
                reference.out.first().map(|call| Duration::from_millis(now - call.started))
            );
            let counts = snapshot.seen.counts;
            let failed = reference.seen.iter().filter(|o| o.failed).count() as u64;
            let slow = reference.seen.iter().filter(|o| o.slow).count() as u64;
            match reference.state {
                BreakerState::Closed => {
                    reference.forget_old();
                    let failed = reference.seen.iter().filter(|o| o.failed).count() as u64;
                    let slow = reference.seen.iter().filter(|o| o.slow).count() as u64;
                    prop_assert_eq!(
                        (counts.calls, counts.failures, counts.slow),
                        (reference.seen.len() as u64, failed, slow)
                    );
                }
                BreakerState::HalfOpen => prop_assert_eq!(
                    (counts.calls, counts.failures, counts.slow),
                    (u64::from(reference.ended), failed, slow)
                ),
                _ => {}
            }
        }
    }
}
