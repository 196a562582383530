use super::*;
use crate::simulation::history::ProcessId;

fn operation<C, R>(start: u64, end: u64, call: C, outcome: Outcome<R>) -> Operation<C, R> {
    Operation {
        process: ProcessId(0),
        start: Duration::from_millis(start),
        end: Some(Duration::from_millis(end)),
        call,
        outcome,
    }
}

fn counted(operations: &[(u64, u64, CounterCall, Outcome<i64>)]) -> Result<(), Violation> {
    let operations = operations
        .iter()
        .map(|(start, end, call, outcome)| operation(*start, *end, *call, *outcome));
    check(&Counter, &operations.collect())
}

type Written = (u64, u64, RegisterCall<u8>, Outcome<RegisterReply<u8>>);

fn registered(operations: &[Written]) -> Result<(), Violation> {
    let operations = operations
        .iter()
        .map(|(start, end, call, outcome)| operation(*start, *end, *call, *outcome));
    check(&Register::new(0), &operations.collect())
}

use CounterCall::{Add, Read};
use Outcome::{Maybe, NotSent, Replied};

const WRITTEN: Outcome<RegisterReply<u8>> = Replied(RegisterReply::Written);

fn value(value: u8) -> Outcome<RegisterReply<u8>> {
    Replied(RegisterReply::Value(value))
}

#[test]
fn calls_one_after_the_other_are_accepted() {
    counted(&[]).unwrap();
    counted(&[
        (1, 2, Add(1), Replied(1)),
        (3, 4, Read, Replied(1)),
        (5, 6, Add(2), Replied(3)),
    ])
    .unwrap();
}

#[test]
fn a_reply_that_no_order_explains_is_refused() {
    let violation = counted(&[(1, 2, Add(1), Replied(1)), (3, 4, Read, Replied(2))]).unwrap_err();
    assert_eq!(violation.at(), Duration::from_millis(4));
    assert!(
        violation.to_string().contains("fits nowhere"),
        "{violation}"
    );
}

#[test]
fn calls_that_overlap_may_come_in_any_order() {
    counted(&[(1, 9, Add(1), Replied(2)), (2, 8, Add(1), Replied(1))]).unwrap();
    counted(&[(1, 2, Add(1), Replied(2)), (3, 8, Add(1), Replied(1))]).unwrap_err();
}

#[test]
fn a_lost_update_is_refused() {
    counted(&[(1, 9, Add(1), Replied(1)), (2, 8, Add(1), Replied(1))]).unwrap_err();
}

#[test]
fn a_call_of_unknown_outcome_takes_effect_late_or_never() {
    let never = [(1, 2, Add(5), Maybe), (3, 4, Read, Replied(0))];
    counted(&never).unwrap();
    let late = [
        (1, 2, Add(5), Maybe),
        (3, 4, Read, Replied(0)),
        (5, 6, Read, Replied(5)),
    ];
    counted(&late).unwrap();
    let twice = [
        (1, 2, Add(5), Maybe),
        (3, 4, Read, Replied(5)),
        (5, 6, Read, Replied(10)),
    ];
    counted(&twice).unwrap_err();
    let early = [(1, 2, Read, Replied(5)), (3, 4, Add(5), Maybe)];
    counted(&early).unwrap_err();
}

#[test]
fn a_call_that_was_not_sent_takes_no_effect() {
    counted(&[(1, 2, Add(5), NotSent), (3, 4, Read, Replied(5))]).unwrap_err();
}

#[test]
fn a_stale_read_of_a_register_is_refused() {
    use RegisterCall::{Read, Write};
    registered(&[(1, 2, Write(1), WRITTEN), (3, 4, Read, value(0))]).unwrap_err();
    registered(&[(1, 4, Write(1), WRITTEN), (2, 3, Read, value(0))]).unwrap();
    // Once the new value was read, the old one is over, also while the write is still under way.
    registered(&[
        (1, 9, Write(1), WRITTEN),
        (2, 3, Read, value(1)),
        (4, 5, Read, value(0)),
    ])
    .unwrap_err();
}

#[test]
fn of_two_compare_and_sets_of_one_value_one_wins() {
    let set = |to, set| {
        let call = RegisterCall::CompareAndSet { from: 0, to };
        (1, 5, call, Replied(RegisterReply::Set(set)))
    };
    registered(&[set(1, true), set(2, false)]).unwrap();
    registered(&[set(1, true), set(2, true)]).unwrap_err();
}

#[test]
fn many_increments_of_unknown_outcome_are_decided() {
    let mut operations: Vec<_> = (0..60).map(|n| (n, n, Add(1), Maybe)).collect();
    operations.push((100, 101, Read, Replied(30)));
    operations.push((102, 103, Read, Replied(60)));
    counted(&operations).unwrap();
    operations.push((104, 105, Read, Replied(61)));
    let violation = counted(&operations).unwrap_err();
    assert_eq!(violation.guarantee(), "linearizability");
}

#[test]
fn a_long_history_of_many_processes_is_decided() {
    // Eight processes at a time, whose increments are in order by their ends.
    let operations = (0..2_000_u64).map(|n| {
        let reply = i64::try_from(n).unwrap() + 1;
        operation(n * 10, n * 10 + 75, Add(1), Replied(reply))
    });
    let history: History<_, _> = operations.collect();
    check(&Counter, &history).unwrap();
}
