//! Several limits at once: all or nothing, in one step, with the name of the one that binds.

use std::time::Duration;

use redkit_ratelimit::{
    ConcurrencyLimiter, DecidedBy, Error, LimitSet, Policy, Quota, RateLimiter,
};
use redkit_testkit::{FaultyBackend, Fixture};
use tokio::time::{Instant, advance, sleep, timeout};

use crate::model::{Admitted, Model, policies};
use crate::state::{dump, now};

fn limiter(fixture: &Fixture, name: &str, policy: Policy) -> RateLimiter {
    RateLimiter::builder(&fixture.client, name)
        .decision_timeout(crate::PATIENT)
        .policy(policy)
        .deny_cache(0)
        .build()
        .unwrap()
}

fn places(fixture: &Fixture, limit: u64) -> ConcurrencyLimiter {
    ConcurrencyLimiter::builder(&fixture.client, "places")
        .decision_timeout(crate::PATIENT)
        .limit(limit)
        .build()
        .unwrap()
}

redkit_testkit::suite! {
    async fn tiers_on_one_key_are_charged_together(fixture: Fixture) -> Result<(), Error> {
        let tiers = RateLimiter::builder(&fixture.client, "api").decision_timeout(crate::PATIENT)
            .policy(Policy::gcra(Quota::per_hour(10).burst(2)).named("burst"))
            .policy(Policy::sliding_log(Quota::per_day(3)).named("day"))
            .build()?;
        assert!(tiers.check_n("k", 2).await?.is_allowed());
        let denied = tiers.check_n("k", 2).await?;
        assert!(!denied.is_allowed());
        assert_eq!(denied.policy(), "day", "it makes the caller wait longer");
        assert_eq!(denied.verdicts().len(), 2);
        let remaining: Vec<_> = denied.verdicts().iter().map(|v| (v.policy(), v.remaining())).collect();
        assert_eq!(remaining, [("burst", 0), ("day", 1)]);
        let peeked = tiers.peek("k").await?;
        assert_eq!((peeked.policy(), peeked.is_allowed()), ("burst", false));
        assert_eq!(peeked.verdicts()[1].remaining(), 1, "what was denied was not charged");
        let error = tiers.check_with("k", 1, Quota::per_hour(1)).await.unwrap_err();
        assert!(error.to_string().contains("quota"), "{error}");
        Ok(())
    }

    async fn limits_that_allowed_a_denied_call_keep_their_units(fixture: Fixture) -> Result<(), Error> {
        let tiers = RateLimiter::builder(&fixture.client, "api")
            .decision_timeout(crate::PATIENT)
            .policy(Policy::fixed_window(Quota::per_hour(10)).named("hour"))
            .policy(Policy::sliding_log(Quota::per_day(3)).named("day"))
            .deny_cache(0)
            .build()?;
        assert!(tiers.check_n("k", 3).await?.is_allowed());
        for _ in 0..2 {
            let denied = tiers.check("k").await?;
            let said: Vec<_> = denied.verdicts().iter().map(|v| (v.is_allowed(), v.remaining())).collect();
            assert_eq!(said, [(true, 7), (false, 0)]);
        }
        Ok(())
    }

    async fn users_addresses_and_places_in_one_call(fixture: Fixture) -> Result<(), Error> {
        let users = limiter(&fixture, "users", Policy::gcra(Quota::per_hour(10)));
        let addresses = limiter(&fixture, "addresses", Policy::sliding_counter(Quota::per_hour(8)));
        let reports = places(&fixture, 1);
        let call = || {
            LimitSet::new()
                .limit(&users, "alice")
                .limit_n(&addresses, "192.0.2.7", 3)
                .lease(&reports, "alice")
                .tag("tenant")
        };
        let first = call().check().await?;
        assert!(first.decision.is_allowed());
        assert_eq!(first.permits.len(), 1);
        let second = call().check().await?;
        assert!(!second.decision.is_allowed() && second.permits.is_empty());
        assert_eq!(second.decision.policy(), "places");
        let (alice, address) = (users.tagged("tenant"), addresses.tagged("tenant"));
        assert_eq!(alice.peek("alice").await?.remaining(), 9, "charged once");
        assert_eq!(address.peek("192.0.2.7").await?.remaining(), 5);

        for permit in first.permits {
            permit.release().await?;
        }
        let third = call().check().await?;
        assert!(third.decision.is_allowed());
        let fourth = call().check().await?;
        assert_eq!(fourth.decision.policy(), "addresses", "an hour is longer than a lease");
        let receipt = third.decision.receipt().unwrap();
        assert!(receipt.refund().await? && !receipt.refund().await?);
        assert_eq!(alice.peek("alice").await?.remaining(), 9);
        assert_eq!(address.peek("192.0.2.7").await?.remaining(), 5);
        Ok(())
    }

    async fn different_slots_are_refused_everywhere_or_done_as_well_as_can_be(fixture: Fixture) -> Result<(), Error> {
        let users = limiter(&fixture, "users", Policy::fixed_window(Quota::per_hour(10)));
        let addresses = limiter(&fixture, "addresses", Policy::gcra(Quota::per_hour(2)));
        let reports = places(&fixture, 5);
        let call = || {
            LimitSet::new()
                .limit(&users, "alice")
                .lease(&reports, "alice")
                .limit(&addresses, "192.0.2.7")
        };
        let error = call().check().await.unwrap_err();
        assert!(matches!(error, Error::DifferentSlots { .. }), "{error}");
        assert!(matches!(call().peek().await, Err(Error::DifferentSlots { .. })));
        let mut held = Vec::new();
        for n in 1..=4 {
            let decided = call().best_effort().check().await?;
            assert_eq!(decided.decision.is_allowed(), n <= 2);
            // Of a denied call, what is left after it was given back.
            assert_eq!(decided.decision.verdicts()[0].remaining(), 10 - u64::min(n, 2));
            held.extend(decided.permits);
        }
        assert_eq!(held.len(), 2);
        assert_eq!(users.peek("alice").await?.remaining(), 8, "what was denied was given back");
        drop(held);
        Ok(())
    }

    async fn mistakes_are_errors(fixture: Fixture) -> Result<(), Error> {
        let users = limiter(&fixture, "users", Policy::fixed_window(Quota::per_hour(10)));
        let twice = LimitSet::new().limit(&users, "k").limit(&users, "k").check().await;
        assert!(matches!(twice, Err(Error::NamedTwice(name)) if &*name == "users"));
        assert!(matches!(LimitSet::new().check().await, Err(Error::NothingNamed)));
        let much = LimitSet::new().limit_n(&users, "k", 11).check().await;
        assert!(matches!(much, Err(Error::CostAboveLimit { .. })));
        let empty = LimitSet::new().lease(&places(&fixture, 1), "").check().await;
        assert!(matches!(empty, Err(Error::EmptyKey)));
        let elsewhere = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let other = RateLimiter::builder(&elsewhere, "o").decision_timeout(crate::PATIENT).policy(Policy::gcra(Quota::per_hour(1))).build()?;
        let mixed = LimitSet::new().limit(&users, "k").limit(&other, "k").check().await;
        assert!(matches!(mixed, Err(Error::DifferentClients)) || fixture.kind == redkit_testkit::BackendKind::Embedded);
        assert_eq!(users.peek("k").await?.remaining(), 10);
        Ok(())
    }

    /// Beside the models: allowed when all models allow it, charged to all or none.
    #[paused]
    async fn all_or_nothing_is_that_of_the_models(fixture: Fixture) {
        let window = Duration::from_millis(1_000);
        let mut limits: Vec<(RateLimiter, Model)> = policies(5, window, 5)
            .iter()
            .enumerate()
            .map(|(n, policy)| (limiter(&fixture, &format!("l{n}"), policy.clone()), Model::new(policy)))
            .collect();
        let mut random = 12_345_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let (mut allowed, mut denied) = (0, 0);
        for _ in 0..400 {
            advance(Duration::from_micros(next(300_000))).await;
            let costs: Vec<u64> = limits.iter().map(|_| 1 + next(2)).collect();
            let at = now(&fixture.client).await;
            let before = dump(&fixture.client).await;
            let call = limits.iter().zip(&costs).fold(LimitSet::new(), |call, ((limiter, _), cost)| {
                call.limit_n(limiter, "k", *cost)
            });
            let peeked = call.clone().peek().await.unwrap();
            assert_eq!(dump(&fixture.client).await, before, "a look changes nothing");
            let decision = call.check().await.unwrap().decision;
            let waits: Vec<i128> = limits
                .iter()
                .zip(&costs)
                .map(|((_, model), cost)| model.wait(at, (*cost).into()))
                .collect();
            let longest = *waits.iter().max().unwrap();
            assert_eq!(decision.is_allowed(), longest == 0);
            assert_eq!(peeked.is_allowed(), decision.is_allowed());
            assert_eq!(i128::try_from(decision.retry_after().as_micros()).unwrap(), longest);
            if decision.is_allowed() {
                allowed += 1;
                for ((_, model), cost) in limits.iter_mut().zip(&costs) {
                    model.history.push(Admitted { at, cost: (*cost).into() });
                }
            } else {
                denied += 1;
                assert_eq!(dump(&fixture.client).await, before, "a denied call changes nothing");
                let binding = waits.iter().rposition(|wait| *wait == longest).unwrap();
                assert_eq!(decision.policy(), format!("l{binding}"));
            }
            for ((_, model), verdict) in limits.iter().zip(decision.verdicts()) {
                assert_eq!(i128::from(verdict.remaining()), model.room(at).max(0), "{model:?}");
            }
        }
        assert!(allowed > 50 && denied > 50, "{allowed} {denied}");
        limits.iter().for_each(|(_, model)| model.assert_bound());
    }

    #[paused]
    async fn a_denial_by_one_limit_is_remembered_for_the_set(fixture: Fixture) {
        let small = RateLimiter::builder(&fixture.client, "small").decision_timeout(crate::PATIENT)
            .policy(Policy::fixed_window(Quota::per_minute(1)))
            .build()
            .unwrap();
        let large = limiter(&fixture, "large", Policy::gcra(Quota::per_minute(100)));
        let call = || LimitSet::new().limit(&large, "k").limit(&small, "k");
        assert!(call().check().await.unwrap().decision.is_allowed());
        assert_eq!(call().check().await.unwrap().decision.decided_by(), DecidedBy::Redis);
        let known = call().check().await.unwrap().decision;
        assert_eq!((known.decided_by(), known.policy()), (DecidedBy::DenyCache, "small"));
        assert_eq!(large.peek("k").await.unwrap().remaining(), 99);
        advance(Duration::from_secs(60)).await;
        assert!(call().check().await.unwrap().decision.is_allowed());
    }

    /// The place is free and the first waiter has been told; it has not come yet.
    #[paused]
    async fn a_set_goes_before_nobody_that_waits_for_a_place(fixture: Fixture) {
        let users = limiter(&fixture, "users", Policy::gcra(Quota::per_hour(10)));
        let places = places(&fixture, 1);
        let set = || LimitSet::new().limit(&users, "k").lease(&places, "k");
        let held = places.try_acquire("k").await.unwrap().unwrap();
        let mut waits = Box::pin(places.acquire("k", Duration::from_secs(60)));
        assert!(timeout(Duration::from_millis(700), &mut waits).await.is_err());
        held.release().await.unwrap();
        let denied = set().check().await.unwrap();
        assert!(!denied.decision.is_allowed() && denied.permits.is_empty());
        assert_eq!(denied.decision.policy(), "places");
        assert!(denied.decision.retry_after() >= Duration::from_millis(100));
        assert_eq!(users.peek("k").await.unwrap().remaining(), 10, "not charged");
        let start = Instant::now();
        let permit = waits.await.unwrap().expect("it is its turn");
        assert!(start.elapsed() < Duration::from_millis(2), "{:?}", start.elapsed());
        permit.release().await.unwrap();
        assert!(set().check().await.unwrap().decision.is_allowed(), "nobody waits any more");
    }

    #[paused]
    async fn a_set_goes_before_waiters_for_units_unless_these_come_first(fixture: Fixture) {
        for waiters_first in [false, true] {
            let slow = RateLimiter::builder(&fixture.client, &format!("l-{waiters_first}"))
                .decision_timeout(crate::PATIENT)
                .policy(Policy::gcra(Quota::per_second(1)))
                .waiters_first(waiters_first)
                .build()
                .unwrap();
            let other = limiter(&fixture, &format!("other-{waiters_first}"), Policy::gcra(Quota::per_hour(10)));
            assert!(slow.check("k").await.unwrap().is_allowed());
            let mut waits = Box::pin(slow.acquire("k", Duration::from_secs(60)));
            assert!(timeout(Duration::from_millis(1), &mut waits).await.is_err());
            advance(Duration::from_secs(1)).await;
            let set = || LimitSet::new().limit(&other, "k").limit(&slow, "k");
            for _ in 0..2 {
                let decision = set().check().await.unwrap().decision;
                let by = if decision.is_allowed() { "" } else { decision.policy() };
                assert_eq!(decision.decided_by(), DecidedBy::Redis);
                assert_eq!(by, if waiters_first { slow.name() } else { "" });
                if !waiters_first {
                    break;
                }
            }
            assert!(waits.await.unwrap().is_allowed());
        }
    }

    #[paused]
    async fn a_denied_set_is_one_call(fixture: Fixture) {
        drop(fixture);
        let backend = FaultyBackend::embedded();
        let client = backend.client();
        let places = ConcurrencyLimiter::builder(&client, "places").limit(1).build().unwrap();
        let users = RateLimiter::builder(&client, "users")
            .policy(Policy::gcra(Quota::per_hour(1)))
            .deny_cache(0)
            .build()
            .unwrap();
        let set = || LimitSet::new().lease(&places, "k").limit(&users, "k").check();
        let held = set().await.unwrap();
        drop(held.permits);
        // In the background, and every script is known to the engine from now on.
        sleep(Duration::from_secs(1)).await;
        assert!(!set().await.unwrap().decision.is_allowed());
        sleep(Duration::from_secs(1)).await;
        backend.forget();
        for _ in 0..10 {
            assert!(!set().await.unwrap().decision.is_allowed());
        }
        sleep(Duration::from_secs(5)).await;
        assert_eq!(backend.seen().len(), 10);
        assert_eq!(places.peek("k").await.unwrap().remaining(), 1);
    }
}
