//! A counter is an integer.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use redkit_collections::{Bounded, Counter, Error, Lifetime};

use super::on_embedded;

#[derive(Debug, Clone)]
enum Op {
    Set(i64),
    Incr(i64),
    Decr(i64),
    UpTo(i64, i64),
    DownTo(i64, i64),
    Reset,
}

/// Small ones, and those at which 64 bits and doubles end.
fn number() -> impl Strategy<Value = i64> {
    let edge = prop_oneof![
        Just(i64::MAX),
        Just(i64::MIN),
        Just(0),
        Just(1 << 53),
        Just(-(1 << 53))
    ];
    prop_oneof![
        -20..20_i64,
        (edge, -3..4_i64).prop_map(|(edge, by)| edge.saturating_add(by))
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let positive = || number().prop_map(|n| n.saturating_abs().max(1));
    prop_oneof![
        number().prop_map(Op::Set),
        number().prop_map(Op::Incr),
        number().prop_map(Op::Decr),
        (positive(), number()).prop_map(|(by, limit)| Op::UpTo(by, limit)),
        (positive(), number()).prop_map(|(by, floor)| Op::DownTo(by, floor)),
        Just(Op::Reset),
    ]
}

fn settled(result: Result<i64, Error>, model: &mut i64, sum: Option<i64>) {
    match (result, sum) {
        (Ok(got), Some(sum)) => {
            assert_eq!(got, sum);
            *model = sum;
        }
        (Err(Error::Overflow { .. }), None) => {}
        (got, sum) => panic!("{got:?} for {sum:?}"),
    }
}

async fn step(counter: &Counter, model: &mut i64, op: Op) -> Result<(), Error> {
    match op {
        Op::Set(value) => {
            counter.set(value).await?;
            *model = value;
        }
        Op::Incr(by) => settled(counter.incr(by).await, model, model.checked_add(by)),
        Op::Decr(by) => {
            // The smallest number has no opposite to add.
            let difference = (by != i64::MIN).then(|| model.checked_sub(by)).flatten();
            settled(counter.decr(by).await, model, difference);
        }
        Op::UpTo(by, limit) => {
            let expected = match model.checked_add(by).filter(|sum| *sum <= limit) {
                Some(sum) => Bounded::Counted(sum),
                None => Bounded::Refused(*model),
            };
            assert_eq!(counter.incr_up_to(by, limit).await?, expected);
            if let Bounded::Counted(sum) = expected {
                *model = sum;
            }
        }
        Op::DownTo(by, floor) => {
            let expected = match model.checked_sub(by).filter(|rest| *rest >= floor) {
                Some(rest) => Bounded::Counted(rest),
                None => Bounded::Refused(*model),
            };
            assert_eq!(counter.decr_down_to(by, floor).await?, expected);
            if let Bounded::Counted(rest) = expected {
                *model = rest;
            }
        }
        Op::Reset => {
            assert_eq!(counter.get_and_reset().await?, *model);
            *model = 0;
        }
    }
    assert_eq!(counter.get().await?, *model);
    Ok(())
}

proptest! {
    #[test]
    fn a_counter_is_an_integer(ops in vec(op(), 1..60), timed: bool) {
        on_embedded(|client| async move {
            let mut counter = Counter::new(&client, "c");
            if timed {
                counter = counter.with_ttl(Lifetime::on_create(Duration::from_secs(600)).unwrap());
            }
            let mut model = 0;
            for op in ops {
                step(&counter, &mut model, op).await.unwrap();
            }
        });
    }
}
