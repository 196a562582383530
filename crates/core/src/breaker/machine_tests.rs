//! The rules of the state machine, one by one.

use std::time::Duration;

use super::config::{BreakerConfig, Window};
use super::machine::Machine;
use super::state::{BreakerState, Outcome};
use super::tick::Tick;

pub(super) fn at(ms: u64) -> Tick {
    Tick::after(Duration::from_millis(ms))
}

pub(super) fn config() -> BreakerConfig {
    BreakerConfig {
        window: Window::Count(4),
        minimum_calls: 2,
        failure_rate: 0.5,
        slow_call: Duration::from_millis(100),
        slow_call_rate: 0.75,
        open_for: Duration::from_millis(1_000),
        half_open_calls: 2,
        half_open_timeout: Duration::from_millis(300),
        ..BreakerConfig::default()
    }
}

fn call(machine: &mut Machine, outcome: Outcome, ms: u64) {
    let ticket = machine.acquire(at(ms)).unwrap();
    machine.settle(ticket, outcome, at(ms));
}

fn state(machine: &mut Machine, ms: u64) -> BreakerState {
    machine.snapshot(at(ms)).state
}

fn opened(config: &BreakerConfig) -> Machine {
    let mut machine = Machine::new(config);
    call(&mut machine, Outcome::Failure, 0);
    call(&mut machine, Outcome::Failure, 0);
    assert_eq!(state(&mut machine, 0), BreakerState::Open);
    machine
}

#[test]
fn it_opens_at_the_threshold_once_there_are_enough_calls() {
    let mut machine = Machine::new(&config());
    call(&mut machine, Outcome::Failure, 0);
    assert_eq!(state(&mut machine, 0), BreakerState::Closed);
    call(&mut machine, Outcome::Neutral, 0);
    assert_eq!(
        state(&mut machine, 0),
        BreakerState::Closed,
        "neutral is no call"
    );
    call(&mut machine, Outcome::Success, 0);
    let snapshot = machine.snapshot(at(0));
    assert_eq!(snapshot.state, BreakerState::Open);
    assert_eq!(
        (snapshot.seen.counts.calls, snapshot.seen.failure_rate),
        (2, 0.5)
    );
    assert_eq!(
        machine.acquire(at(400)).unwrap_err(),
        Duration::from_millis(600)
    );
    assert_eq!(machine.snapshot(at(400)).not_permitted, 1);
}

#[test]
fn calls_that_hang_open_it_though_none_has_ended() {
    let mut machine = Machine::new(&config());
    let first = machine.acquire(at(0)).unwrap();
    let second = machine.acquire(at(10)).unwrap();
    assert_eq!(state(&mut machine, 100), BreakerState::Closed);
    let snapshot = machine.snapshot(at(110));
    assert_eq!(
        (snapshot.seen.counts.calls, snapshot.seen.counts.slow),
        (1, 1)
    );
    assert_eq!(
        snapshot.oldest_in_flight,
        Some(Duration::from_millis(110)),
        "it is still out"
    );
    assert!(machine.acquire(at(111)).is_err());
    assert_eq!(state(&mut machine, 111), BreakerState::Open);
    machine.settle(first, Outcome::Failure, at(120));
    machine.settle(second, Outcome::Failure, at(120));
    let snapshot = machine.snapshot(at(120));
    assert_eq!((snapshot.in_flight, snapshot.seen.counts.failures), (0, 0));
}

#[test]
fn a_call_counted_while_it_ran_gains_its_failure_and_no_second_count() {
    let mut machine = Machine::new(&BreakerConfig {
        minimum_calls: 4,
        ..config()
    });
    let ticket = machine.acquire(at(0)).unwrap();
    assert_eq!(machine.snapshot(at(150)).seen.counts.slow, 1);
    machine.settle(ticket, Outcome::Failure, at(160));
    let counts = machine.snapshot(at(160)).seen.counts;
    assert_eq!((counts.calls, counts.failures, counts.slow), (1, 1, 1));
}

#[test]
fn a_cancelled_call_counts_only_when_it_was_slow() {
    let mut machine = Machine::new(&BreakerConfig {
        minimum_calls: 4,
        ..config()
    });
    let quick = machine.acquire(at(0)).unwrap();
    machine.settle(quick, Outcome::Neutral, at(100));
    assert_eq!(machine.snapshot(at(100)).seen.counts.calls, 0);
    let slow = machine.acquire(at(100)).unwrap();
    machine.settle(slow, Outcome::Neutral, at(201));
    let counts = machine.snapshot(at(201)).seen.counts;
    assert_eq!((counts.calls, counts.failures, counts.slow), (1, 0, 1));
}

#[test]
fn good_probes_close_it_and_the_window_is_empty() {
    let mut machine = opened(&config());
    assert_eq!(state(&mut machine, 999), BreakerState::Open);
    call(&mut machine, Outcome::Success, 1_000);
    assert_eq!(state(&mut machine, 1_000), BreakerState::HalfOpen);
    call(&mut machine, Outcome::Success, 1_000);
    let snapshot = machine.snapshot(at(1_000));
    assert_eq!(
        (snapshot.state, snapshot.seen.counts.calls),
        (BreakerState::Closed, 0)
    );
    let path: Vec<_> = machine
        .take_unreported()
        .into_iter()
        .map(|t| (t.from, t.to))
        .collect();
    use BreakerState::{Closed, HalfOpen, Open};
    assert_eq!(path, [(Closed, Open), (Open, HalfOpen), (HalfOpen, Closed)]);
}

#[test]
fn bad_probes_open_it_again_as_soon_as_the_rest_cannot_help() {
    let mut machine = opened(&config());
    let other = machine.acquire(at(1_000)).unwrap();
    call(&mut machine, Outcome::Failure, 1_050);
    let snapshot = machine.snapshot(at(1_050));
    assert_eq!(snapshot.state, BreakerState::Open);
    assert_eq!(snapshot.retry_after, Some(Duration::from_millis(1_000)));
    machine.settle(other, Outcome::Success, at(1_060));
    assert_eq!(state(&mut machine, 1_060), BreakerState::Open);
}

#[test]
fn a_cancelled_probe_gives_its_place_back() {
    let mut machine = opened(&config());
    let first = machine.acquire(at(1_000)).unwrap();
    let second = machine.acquire(at(1_000)).unwrap();
    assert_eq!(
        machine.acquire(at(1_010)).unwrap_err(),
        Duration::from_millis(290),
        "until the older probe is given up"
    );
    machine.settle(first, Outcome::Neutral, at(1_020));
    let third = machine.acquire(at(1_020)).unwrap();
    assert!(machine.acquire(at(1_020)).is_err());
    machine.settle(second, Outcome::Success, at(1_030));
    machine.settle(third, Outcome::Success, at(1_030));
    assert_eq!(state(&mut machine, 1_030), BreakerState::Closed);
}

#[test]
fn a_probe_that_never_ends_is_given_up_and_counts_once() {
    let mut machine = opened(&BreakerConfig {
        half_open_calls: 3,
        ..config()
    });
    let hanging = machine.acquire(at(1_000)).unwrap();
    assert_eq!(state(&mut machine, 1_300), BreakerState::HalfOpen);
    let snapshot = machine.snapshot(at(1_301));
    let counts = snapshot.seen.counts;
    assert_eq!((counts.calls, counts.failures, counts.slow), (1, 1, 1));
    machine.settle(hanging, Outcome::Failure, at(1_400));
    let counts = machine.snapshot(at(1_400)).seen.counts;
    assert_eq!((counts.calls, counts.failures, counts.slow), (1, 1, 1));
    call(&mut machine, Outcome::Success, 1_400);
    call(&mut machine, Outcome::Success, 1_400);
    assert_eq!(state(&mut machine, 1_400), BreakerState::Closed, "1 of 3");
}

#[test]
fn a_recovered_connection_is_probed_at_once_and_with_all_probes() {
    let mut machine = opened(&config());
    machine.hint_recovered(at(10));
    let old = [
        machine.acquire(at(10)).unwrap(),
        machine.acquire(at(10)).unwrap(),
    ];
    assert!(machine.acquire(at(20)).is_err());
    machine.hint_recovered(at(30));
    call(&mut machine, Outcome::Success, 30);
    for ticket in old {
        machine.settle(ticket, Outcome::Failure, at(40));
    }
    call(&mut machine, Outcome::Success, 50);
    assert_eq!(state(&mut machine, 50), BreakerState::Closed);
    machine.hint_recovered(at(50));
    assert_eq!(state(&mut machine, 50), BreakerState::Closed);
}

#[test]
fn a_state_set_by_hand_stays_until_reset() {
    let mut machine = opened(&config());
    machine.force_closed(at(0));
    for _ in 0..10 {
        call(&mut machine, Outcome::Failure, 0);
    }
    let snapshot = machine.snapshot(at(0));
    assert_eq!(
        (snapshot.state, snapshot.seen.failure_rate),
        (BreakerState::ForcedClosed, 1.0)
    );
    machine.force_open(at(0));
    machine.hint_recovered(at(5_000));
    assert_eq!(
        machine.acquire(at(5_000)).unwrap_err(),
        Duration::from_millis(1_000)
    );
    machine.reset(at(5_000));
    assert_eq!(state(&mut machine, 5_000), BreakerState::Closed);

    let mut disabled = Machine::new(&BreakerConfig {
        enabled: false,
        ..config()
    });
    for _ in 0..10 {
        call(&mut disabled, Outcome::Failure, 0);
    }
    disabled.reset(at(0));
    assert_eq!(state(&mut disabled, 0), BreakerState::ForcedClosed);
}

#[test]
fn time_that_runs_back_does_no_harm() {
    let mut machine = Machine::new(&config());
    let late = machine.acquire(at(500)).unwrap();
    let early = machine.acquire(at(450)).unwrap();
    machine.settle(late, Outcome::Success, at(400));
    machine.settle(early, Outcome::Success, at(551));
    let counts = machine.snapshot(at(551)).seen.counts;
    assert_eq!(
        (counts.calls, counts.slow),
        (2, 1),
        "101 ms by its own clock"
    );
}
