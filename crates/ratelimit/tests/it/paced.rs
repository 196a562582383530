//! Leaky buckets beside others: whoever takes or gives back, nobody gets a turn that another has.

use std::time::Duration;

use proptest::prelude::*;
use redkit_core::Client;
use redkit_ratelimit::{DecidedBy, Decision, LimitSet, Policy, Quota, RateLimiter};
use redkit_testkit::Fixture;
use tokio::time::advance;

use crate::model::{Admitted, assert_pace, leaky, micros};
use crate::properties::in_virtual_time;
use crate::state::{dump, now};

fn limiter(client: &Client, name: &str, policy: &Policy) -> RateLimiter {
    RateLimiter::builder(client, name)
        .policy(policy.clone())
        .build()
        .unwrap()
}

/// How units are taken.
#[derive(Debug, Clone, Copy)]
enum How {
    Check,
    Acquire,
    LimitSet,
}

/// Calls that may wait and calls that may not, and refunds of any of them at any time.
#[test]
fn no_two_are_told_the_same_turn_whatever_is_given_back() {
    let how = prop_oneof![3 => Just(How::Check), 1 => Just(How::Acquire), 1 => Just(How::LimitSet)];
    let call = (
        prop_oneof![2 => Just(0.0), 3 => 0.0..0.2, 1 => 0.0..1.0],
        how,
        1_u64..=2,
        any::<prop::sample::Index>(),
        any::<bool>(),
    );
    let strategy = (
        1_u64..=12,
        1_000_u64..3_000_000,
        1_u64..=4,
        prop::collection::vec(call, 1..40),
    );
    in_virtual_time(
        200,
        strategy,
        |client, (limit, window, burst, calls)| async move {
            let policy = leaky(limit, Duration::from_micros(window), burst);
            let leaky = limiter(&client, "l", &policy);
            let mut taken: Vec<(Decision, Admitted, bool)> = Vec::new();
            for (gap, how, cost, which, refunds) in calls {
                advance(Duration::from_micros(window).mul_f64(gap)).await;
                let at = now(&client).await;
                // More than the burst would go at one moment, whatever it waits.
                let cost = cost.min(burst);
                let decision = match how {
                    How::Check => leaky.check_n("k", cost).await.unwrap(),
                    How::Acquire => leaky.acquire_n("k", cost, Duration::ZERO).await.unwrap(),
                    How::LimitSet => {
                        let decided = LimitSet::new().limit_n(&leaky, "k", cost).check().await;
                        decided.unwrap().decision
                    }
                };
                if decision.is_allowed() {
                    let turn = Admitted {
                        at: at + micros(decision.delay()),
                        cost: cost.into(),
                    };
                    taken.push((decision, turn, false));
                }
                if refunds && !taken.is_empty() {
                    let which = which.index(taken.len());
                    let (decision, _, was_given) = &mut taken[which];
                    let given = leaky.refund(decision.receipt().unwrap()).await.unwrap();
                    assert!(!(given && *was_given), "given twice");
                    *was_given |= given;
                }
                let stored = dump(&client).await;
                assert!(stored.iter().all(|one| one.expires > 0), "{stored:?}");
            }
            let kept = taken.iter().filter(|(_, _, given)| !given);
            assert_pace(&policy, kept.map(|(_, turn, _)| *turn).collect());
        },
    );
}

redkit_testkit::suite! {
    /// That a call cannot go at once, beside others, says nothing of one that may wait.
    #[paused]
    async fn a_call_that_cannot_go_at_once_is_not_remembered_as_denied(fixture: Fixture) {
        let policy = Policy::leaky(Quota::per_second(10), Duration::from_secs(1));
        let leaky = limiter(&fixture.client, "l", &policy);
        assert!(leaky.check("k").await.unwrap().is_allowed());
        let together = LimitSet::new().limit(&leaky, "k").check().await.unwrap().decision;
        assert_eq!((together.is_allowed(), together.decided_by()), (false, DecidedBy::Redis));
        let alone = leaky.check("k").await.unwrap();
        assert_eq!((alone.is_allowed(), alone.decided_by()), (true, DecidedBy::Redis));
        assert_eq!(alone.delay(), Duration::from_millis(100));
    }

    /// `acquire` takes what can go at once, which is the burst and not what the queue holds.
    #[paused]
    async fn a_waiter_can_ask_for_the_burst(fixture: Fixture) {
        let policy = Policy::leaky(Quota::per_second(10), Duration::from_secs(1));
        let leaky = limiter(&fixture.client, "l", &policy);
        assert_eq!(leaky.check_n("k", 2).await.unwrap().delay(), Duration::from_millis(100));
        let error = leaky.acquire_n("k", 2, Duration::from_secs(9)).await.unwrap_err();
        assert!(error.to_string().contains("has 1 units at most"), "{error}");
        let start = tokio::time::Instant::now();
        let decision = leaky.acquire("k", Duration::from_secs(9)).await.unwrap();
        assert_eq!((decision.is_allowed(), decision.delay()), (true, Duration::ZERO));
        assert!(start.elapsed() >= Duration::from_millis(200), "after those two");
    }
}
