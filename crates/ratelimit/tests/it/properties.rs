//! Each algorithm beside an exact model, in virtual time: every decision, every number in it, the
//! bound over every window, and what refunds may do.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use redkit_core::{Client, ClientConfig, Command};
use redkit_embedded::Embedded;
use redkit_ratelimit::{Error, Policy, RateLimiter};
use tokio::time::advance;

use crate::model::{Admitted, Model, all_policies, micros, policies};
use crate::state::{Stored, dump, now};

/// Runs `cases` of a property, each on an engine and a stopped clock of its own.
pub(crate) fn in_virtual_time<S, F>(cases: u32, strategy: S, body: impl Fn(Client, S::Value) -> F)
where
    S: Strategy,
    F: Future<Output = ()>,
{
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&strategy, |value| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let engine = Arc::new(Embedded::new());
            let client = Client::from_backend(engine, &ClientConfig::default()).unwrap();
            body(client, value).await;
        });
        Ok(())
    });
    outcome.unwrap();
}

/// Begins anew, so that what is compared is what one limit stores.
async fn alone(client: &Client) {
    client.call::<()>(Command::new("FLUSHALL")).await.unwrap();
}

fn limiter(client: &Client, policy: &Policy) -> RateLimiter {
    RateLimiter::builder(client, "l")
        .policy(policy.clone())
        .deny_cache(0)
        .build()
        .unwrap()
}

/// A quota, and gaps (as a share of the window) with costs (as a share of the limit).
fn calls() -> impl Strategy<Value = (u64, u64, u64, Vec<(f64, f64)>)> {
    let gap = prop_oneof![
        3 => Just(0.0),
        6 => 0.0..0.3,
        2 => 0.0..1.5,
        1 => Just(1.0),
        1 => Just(2.0),
    ];
    let cost = prop_oneof![4 => Just(0.0), 1 => 0.0..1.0];
    (
        1_u64..=12,
        1_000_u64..3_000_000,
        1_u64..=12,
        prop::collection::vec((gap, cost), 1..50),
    )
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "shares of small numbers"
)]
fn share(of: u64, share: f64) -> u64 {
    (of as f64 * share) as u64
}

/// What is stored of one owner is never more than one entry for each unit.
fn assert_bounded(stored: &[Stored], limit: u64) {
    for one in stored.iter().filter(|one| one.key.ends_with(":log")) {
        let length = one.value.clone().to::<Vec<String>>().unwrap().len();
        assert!(length as u64 <= limit, "{length} entries for {limit} units");
    }
}

#[test]
fn every_decision_is_that_of_the_model() {
    in_virtual_time(
        100,
        calls(),
        |client, (limit, window, burst, calls)| async move {
            for (n, policy) in all_policies(limit, Duration::from_micros(window), burst)
                .iter()
                .enumerate()
            {
                alone(&client).await;
                let (limiter, mut model) = (limiter(&client, policy), Model::new(policy));
                let most = u64::try_from(Model::new(policy).most()).unwrap();
                let key = format!("k{n}");
                for (gap, cost) in &calls {
                    advance(Duration::from_micros(share(window, *gap))).await;
                    let cost = 1 + share(most - 1, *cost);
                    let at = now(&client).await;
                    let room = model.room(at);
                    let before = dump(&client).await;

                    let peeked = limiter.peek_n(&key, cost).await.unwrap();
                    assert_eq!(dump(&client).await, before, "a look changes nothing");
                    assert_eq!(
                        i128::from(peeked.remaining()),
                        room.max(0),
                        "{policy:?} {model:?} at {at}"
                    );

                    let decision = limiter.check_n(&key, cost).await.unwrap();
                    let wait = model.wait(at, cost.into());
                    let context = format!("{decision:?} at {at}, {model:?}");
                    assert_eq!(decision.is_allowed(), room >= cost.into(), "{context}");
                    assert_eq!(peeked.is_allowed(), decision.is_allowed(), "{context}");
                    assert_eq!(micros(decision.retry_after()), wait, "{context}");
                    let delay = match decision.is_allowed() {
                        true => model.delay(at, cost.into()),
                        false => 0,
                    };
                    assert_eq!(micros(decision.delay()), delay, "{context}");
                    assert_eq!(micros(peeked.retry_after()), wait, "{context}");
                    assert_eq!(decision.limit(), most);
                    if decision.is_allowed() {
                        let cost = cost.into();
                        model.history.push(Admitted { at, cost });
                    }
                    let left = model.room(at).max(0);
                    assert_eq!(
                        i128::from(decision.remaining()),
                        left,
                        "{policy:?} {model:?} at {at}"
                    );
                    // All is back when it says, and not before.
                    let reset = micros(decision.reset_after());
                    assert_eq!(model.room(at + reset), most.into(), "{context}");
                    let after = dump(&client).await;
                    if !decision.is_allowed() {
                        assert_eq!(after, before, "a denied call changes nothing");
                    }
                    assert!(after.iter().all(|stored| stored.expires > 0), "{after:?}");
                    assert_bounded(&after, limit);
                }
                model.assert_bound();
            }
        },
    );
}

/// `retry_after` by the clock: one µs less is too early, and exactly that long is not.
#[test]
fn waiting_as_long_as_it_says_is_enough_and_a_microsecond_less_is_not() {
    in_virtual_time(
        100,
        calls(),
        |client, (limit, window, burst, calls)| async move {
            for (n, policy) in all_policies(limit, Duration::from_micros(window), burst)
                .iter()
                .enumerate()
            {
                alone(&client).await;
                let limiter = limiter(&client, policy);
                let most = u64::try_from(Model::new(policy).most()).unwrap();
                let key = format!("k{n}");
                for (gap, cost) in &calls {
                    advance(Duration::from_micros(share(window, *gap))).await;
                    let cost = 1 + share(most - 1, *cost);
                    let decision = limiter.check_n(&key, cost).await.unwrap();
                    if decision.is_allowed() {
                        continue;
                    }
                    advance(decision.retry_after() - Duration::from_micros(1)).await;
                    let early = limiter.check_n(&key, cost).await.unwrap();
                    assert!(!early.is_allowed(), "{policy:?}: {decision:?}, {early:?}");
                    assert_eq!(early.retry_after(), Duration::from_micros(1));
                    advance(Duration::from_micros(1)).await;
                    let in_time = limiter.check_n(&key, cost).await.unwrap();
                    assert!(
                        in_time.is_allowed(),
                        "{policy:?}: {decision:?}, {in_time:?}"
                    );
                    assert_bounded(&dump(&client).await, limit);
                }
            }
        },
    );
}

/// With the memory of denials, calls of differing costs are told what the model says as well.
#[test]
fn the_memory_of_denials_tells_a_wait_that_is_enough_whatever_the_costs() {
    in_virtual_time(
        200,
        calls(),
        |client, (limit, window, burst, calls)| async move {
            for policy in all_policies(limit, Duration::from_micros(window), burst) {
                alone(&client).await;
                let builder = RateLimiter::builder(&client, "l").policy(policy.clone());
                let (limiter, mut model) = (builder.build().unwrap(), Model::new(&policy));
                let most = u64::try_from(model.most()).unwrap();
                for (gap, cost) in &calls {
                    advance(Duration::from_micros(share(window, *gap))).await;
                    let cost = 1 + share(most - 1, *cost);
                    // The second time the memory may know.
                    for _ in 0..2 {
                        let at = now(&client).await;
                        let decision = limiter.check_n("k", cost).await.unwrap();
                        let wait = model.wait(at, cost.into());
                        let context = format!("{cost} at {at}: {decision:?}, {model:?}");
                        assert_eq!(decision.is_allowed(), wait == 0, "{context}");
                        assert_eq!(micros(decision.retry_after()), wait, "{context}");
                        if decision.is_allowed() {
                            let cost = cost.into();
                            model.history.push(Admitted { at, cost });
                        }
                    }
                }
            }
        },
    );
}

/// Refunds at any time, of anything, twice: what was not given back never exceeds the bound.
#[test]
fn refunds_give_back_once_and_never_let_more_through() {
    let strategy = (
        calls(),
        prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 50),
    );
    in_virtual_time(
        200,
        strategy,
        |client, ((limit, window, burst, calls), refunds)| async move {
            for (n, policy) in policies(limit, Duration::from_micros(window), burst)
                .iter()
                .enumerate()
            {
                alone(&client).await;
                let (limiter, mut model) = (limiter(&client, policy), Model::new(policy));
                let most = policy.quota().burst_size().unwrap_or(limit);
                let key = format!("k{n}");
                let mut receipts = Vec::new();
                for ((gap, cost), (which, refunds)) in calls.iter().zip(&refunds) {
                    advance(Duration::from_micros(share(window, *gap))).await;
                    let cost = 1 + share(most - 1, *cost);
                    let at = now(&client).await;
                    let decision = limiter.check_n(&key, cost).await.unwrap();
                    if let Some(receipt) = decision.receipt() {
                        assert!(decision.is_allowed());
                        receipts.push((
                            receipt.clone(),
                            Admitted {
                                at,
                                cost: cost.into(),
                            },
                            false,
                        ));
                    }
                    if receipts.is_empty() || !refunds {
                        continue;
                    }
                    advance(Duration::from_micros(share(window, *gap) / 2)).await;
                    let which = which.index(receipts.len());
                    let (receipt, _, was_given) = &mut receipts[which];
                    let given = limiter.refund(receipt).await.unwrap();
                    assert!(!(given && *was_given), "given twice: {policy:?}");
                    *was_given |= given;
                    let before = dump(&client).await;
                    assert!(
                        !limiter.refund(receipt).await.unwrap(),
                        "the second time gives nothing"
                    );
                    assert_eq!(dump(&client).await, before, "and changes nothing");
                    assert!(before.iter().all(|stored| stored.expires > 0), "{before:?}");
                }
                // In the order in which they were admitted, without what was given back.
                let kept = receipts.iter().filter(|(_, _, given)| !given);
                model.history = kept.map(|(_, admitted, _)| *admitted).collect();
                model.assert_bound();
            }
        },
    );
}

/// What is refunded at once is there at once, as if it had never been taken.
#[test]
fn a_refund_at_once_is_as_if_nothing_had_been_taken() {
    in_virtual_time(
        100,
        calls(),
        |client, (limit, window, burst, calls)| async move {
            for (n, policy) in policies(limit, Duration::from_micros(window), burst)
                .iter()
                .enumerate()
            {
                alone(&client).await;
                let limiter = limiter(&client, policy);
                let most = policy.quota().burst_size().unwrap_or(limit);
                let key = format!("k{n}");
                for (gap, cost) in &calls {
                    advance(Duration::from_micros(share(window, *gap))).await;
                    let cost = 1 + share(most - 1, *cost);
                    let before = limiter.peek_n(&key, cost).await.unwrap();
                    let decision = limiter.check_n(&key, cost).await.unwrap();
                    let Some(receipt) = decision.receipt() else {
                        continue;
                    };
                    assert!(limiter.refund(receipt).await.unwrap(), "{policy:?}");
                    let after = limiter.peek_n(&key, cost).await.unwrap();
                    assert_eq!(after.is_allowed(), before.is_allowed(), "{policy:?}");
                    assert_eq!(after.remaining(), before.remaining(), "{policy:?}");
                    // Keep some, so that there is something to be wrong about.
                    if cost % 2 == 1 {
                        drop(limiter.check_n(&key, cost).await.unwrap());
                    }
                }
            }
        },
    );
}

#[test]
fn nothing_and_more_than_there_ever_is_are_errors() {
    in_virtual_time(1, Just(()), |client, ()| async move {
        for policy in policies(10, Duration::from_secs(1), 10) {
            let limiter = limiter(&client, &policy);
            assert!(matches!(
                limiter.check_n("k", 0).await,
                Err(Error::ZeroCost)
            ));
            let error = limiter.check_n("k", 11).await.unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::CostAboveLimit {
                        cost: 11,
                        limit: 10,
                        ..
                    }
                ),
                "{error}"
            );
            assert!(!error.is_retryable());
            let waited = limiter.acquire_n("k", 11, Duration::from_secs(60)).await;
            assert!(
                matches!(waited, Err(Error::CostAboveLimit { .. })),
                "no endless wait"
            );
            assert!(matches!(limiter.check("").await, Err(Error::EmptyKey)));
        }
        assert!(dump(&client).await.is_empty(), "nothing was sent");
    });
}
