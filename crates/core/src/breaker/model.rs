//! The concurrency model: `loom` runs the shared handle under every order in which its threads can
//! take the lock (up to four preemptions), and each order must keep the promises.
//!
//! It runs with the ordinary tests, without any flag: the handle is generic over its lock, and
//! here the lock is loom's. What a scenario notes down for itself is in `std` types, which loom
//! does not schedule: its threads run one at a time and change over only at loom's locks.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use loom::thread;

use super::config::{BreakerConfig, Window};
use super::machine::Machine;
use super::shared::{Environment, Held, Lock, Shared};
use super::snapshot::{Snapshot, Transition};
use super::state::{BreakerState, Outcome};
use super::tick::Tick;

/// Both the order of taking the lock and that of giving it back are explored.
#[derive(Debug)]
struct LoomLock<T>(loom::sync::Mutex<T>);

impl<T> Lock<T> for LoomLock<T> {
    fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        work(&mut self.0.lock().unwrap())
    }
}

/// A clock set by hand, and a note of every report.
#[derive(Debug, Default)]
struct World {
    now: AtomicU64,
    reports: Mutex<Vec<Transition>>,
    settled: AtomicI64,
    /// Set when reports are to be answered with a question to the breaker, which would be a
    /// deadlock if they were made under the lock.
    asks_back: OnceLock<Weak<Subject>>,
}

type Subject = Shared<LoomLock<Machine>, World>;
type Permit = Held<LoomLock<Machine>, World>;

impl Environment for World {
    fn now(&self) -> Tick {
        Tick::after(Duration::from_millis(self.now.load(Ordering::Relaxed)))
    }

    fn changed(&self, transition: &Transition) {
        self.reports.lock().unwrap().push(transition.clone());
        if let Some(subject) = self.asks_back.get().and_then(Weak::upgrade) {
            status(&subject);
        }
    }

    fn settled(&self, _outcome: Outcome) {
        self.settled.fetch_add(1, Ordering::Relaxed);
    }

    fn refused(&self) {}
}

/// Opens on the first bad call.
fn config(half_open_calls: u32) -> BreakerConfig {
    BreakerConfig {
        window: Window::Count(4),
        minimum_calls: 1,
        failure_rate: 1.0,
        slow_call: Duration::from_millis(100),
        slow_call_rate: 1.0,
        half_open_calls,
        ..BreakerConfig::default()
    }
}

fn subject(config: &BreakerConfig) -> Arc<Subject> {
    Arc::new(Shared::new(Machine::new(config), World::default()))
}

/// A breaker that has opened.
fn opened(config: &BreakerConfig) -> Arc<Subject> {
    let subject = subject(config);
    acquire(&subject)
        .unwrap()
        .settle(Outcome::Failure, Tick::default());
    assert_eq!(status(&subject).state, BreakerState::Open);
    subject
}

/// A breaker that has opened and was told that the connection is back.
fn half_open(config: &BreakerConfig) -> Arc<Subject> {
    let subject = opened(config);
    hint_recovered(&subject);
    assert_eq!(status(&subject).state, BreakerState::HalfOpen);
    subject
}

fn acquire(subject: &Arc<Subject>) -> Option<Permit> {
    subject.acquire(subject.environment.now()).ok()
}

fn settle(permit: Permit, outcome: Outcome) {
    let now = permit.environment().now();
    permit.settle(outcome, now);
}

fn hint_recovered(subject: &Subject) {
    subject.run(|machine| machine.hint_recovered(Tick::default()));
}

fn status(subject: &Subject) -> Snapshot {
    let now = subject.environment.now();
    subject.run(|machine| machine.snapshot(now))
}

/// What must hold whatever has happened, once all threads are done.
fn check_end(subject: &Subject) {
    let end = status(subject);
    assert_eq!(end.in_flight, 0, "a permit was lost");
    let mut reports = subject.environment.reports.lock().unwrap().clone();
    reports.sort_by_key(|report| report.sequence);
    for pair in reports.windows(2) {
        assert!(
            pair[0].sequence < pair[1].sequence,
            "a transition was reported twice"
        );
        assert_eq!(pair[0].to, pair[1].from, "a transition was not reported");
    }
    let last = reports
        .last()
        .map_or(BreakerState::Closed, |report| report.to);
    assert_eq!(last, end.state, "the last report is not the state");
}

/// Runs `threads` beside one another, the first of them here, under every order.
fn explore(setup: impl Fn() -> Vec<Box<dyn FnOnce() + Send>> + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(move || {
        let mut threads = setup().into_iter();
        let here = threads.next().unwrap();
        let check = threads.next_back().unwrap();
        let others: Vec<_> = threads.map(thread::spawn).collect();
        here();
        for other in others {
            other.join().unwrap();
        }
        check();
    });
}

/// Boxes the closures of one scenario: those that run side by side, then the final check.
macro_rules! threads {
    ($($thread:expr),+ $(,)?) => {
        vec![$(Box::new($thread) as Box<dyn FnOnce() + Send>),+]
    };
}

#[test]
fn probes_out_and_ended_never_exceed_their_number() {
    for (limit, by_time) in [(1, false), (2, false), (1, true), (2, true)] {
        explore(move || {
            let subject = if by_time {
                let subject = opened(&config(limit));
                subject.environment.now.store(2_000, Ordering::Relaxed);
                subject
            } else {
                half_open(&config(limit))
            };
            let generation_of = |permit: &Permit| permit.ticket().unwrap().generation();
            let half_open_generation = 2;
            // Counted up after a probe was given and down before its place is given back: never
            // more than the breaker itself has out.
            let taken = Arc::new(AtomicI64::new(0));
            let probe = |outcome: Option<Outcome>| {
                let (subject, taken) = (Arc::clone(&subject), Arc::clone(&taken));
                move || {
                    for _ in 0..2 {
                        let Some(permit) = acquire(&subject) else {
                            continue;
                        };
                        let is_probe = generation_of(&permit) == half_open_generation;
                        if is_probe {
                            let now_taken = taken.fetch_add(1, Ordering::Relaxed) + 1;
                            assert!(now_taken <= i64::from(limit), "too many probes");
                        }
                        match outcome {
                            Some(outcome) => settle(permit, outcome),
                            None => {
                                if is_probe {
                                    taken.fetch_sub(1, Ordering::Relaxed);
                                }
                                drop(permit);
                            }
                        }
                    }
                }
            };
            threads![
                probe(Some(Outcome::Success)),
                probe(Some(Outcome::Failure)),
                probe(None),
                {
                    let subject = Arc::clone(&subject);
                    move || check_end(&subject)
                }
            ]
        });
    }
}

#[test]
fn a_result_from_before_a_reset_moves_nothing() {
    explore(|| {
        let subject = subject(&config(1));
        let old = acquire(&subject).unwrap();
        let (resets, ends) = (Arc::clone(&subject), Arc::clone(&subject));
        threads![
            move || settle(old, Outcome::Failure),
            move || resets.run(|machine| machine.reset(Tick::default())),
            move || {
                // A good call of its own, so that the window is not empty.
                if let Some(permit) = acquire(&subject) {
                    settle(permit, Outcome::Neutral);
                }
            },
            move || {
                // Either the failure opened the breaker and the reset closed it, or it came late.
                assert_eq!(status(&ends).state, BreakerState::Closed);
                check_end(&ends);
            }
        ]
    });
}

#[test]
fn a_probe_on_the_old_connection_does_not_spoil_the_new_one() {
    explore(|| {
        let subject = half_open(&config(1));
        let old = acquire(&subject).unwrap();
        let looks = Arc::clone(&subject);
        let ends = Arc::clone(&subject);
        threads![
            move || settle(old, Outcome::Failure),
            move || {
                hint_recovered(&subject);
                let permit = acquire(&subject).expect("a new connection has probes of its own");
                settle(permit, Outcome::Success);
            },
            move || {
                status(&looks);
            },
            move || {
                assert_eq!(status(&ends).state, BreakerState::Closed);
                check_end(&ends);
            }
        ]
    });
}

#[test]
fn a_breaker_that_was_opened_by_hand_stays_open_and_reports_never_deadlock() {
    explore(|| {
        let subject = subject(&config(1));
        let asks_back = Arc::downgrade(&subject);
        subject.environment.asks_back.set(asks_back).unwrap();
        let (forces, hints, ends) = (
            Arc::clone(&subject),
            Arc::clone(&subject),
            Arc::clone(&subject),
        );
        threads![
            move || {
                if let Some(permit) = acquire(&subject) {
                    settle(permit, Outcome::Failure);
                }
            },
            move || forces.run(|machine| machine.force_open(Tick::default())),
            move || hint_recovered(&hints),
            move || {
                assert_eq!(status(&ends).state, BreakerState::ForcedOpen);
                assert!(acquire(&ends).is_none());
                check_end(&ends);
            }
        ]
    });
}

#[test]
fn a_call_that_ends_while_it_is_found_slow_counts_once() {
    for outcome in [Some(Outcome::Success), Some(Outcome::Neutral), None] {
        explore(move || {
            let config = BreakerConfig {
                minimum_calls: 4,
                ..config(1)
            };
            let subject = subject(&config);
            let permit = acquire(&subject).unwrap();
            subject.environment.now.store(101, Ordering::Relaxed);
            let (looks, enters, ends) = (
                Arc::clone(&subject),
                Arc::clone(&subject),
                Arc::clone(&subject),
            );
            threads![
                move || match outcome {
                    Some(outcome) => settle(permit, outcome),
                    None => drop(permit),
                },
                move || {
                    status(&looks);
                },
                move || drop(acquire(&enters)),
                move || {
                    let end = status(&ends);
                    assert_eq!((end.seen.counts.calls, end.seen.counts.slow), (1, 1));
                    assert_eq!(ends.environment.settled.load(Ordering::Relaxed), 2);
                    check_end(&ends);
                }
            ]
        });
    }
}
