//! `acquire`: first come, first served, bounded, and nothing stays behind.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_core::Command;
use redkit_ratelimit::{ConcurrencyLimiter, DecidedBy, Error, Policy, Quota, RateLimiter};
use redkit_testkit::{FaultyBackend, Fixture};
use tokio::time::{Instant, advance, sleep, timeout};

use crate::model::policies;
use crate::state::{dump, now};

fn limiter(fixture: &Fixture, name: &str, policy: Policy) -> RateLimiter {
    RateLimiter::builder(&fixture.client, name)
        .decision_timeout(crate::PATIENT)
        .policy(policy)
        .deny_cache(0)
        .max_waiters(20)
        .build()
        .unwrap()
}

async fn queue_length(fixture: &Fixture, name: &str) -> i64 {
    let key = fixture.client.key(format!("ratelimit:{name}:{{k}}:queue"));
    fixture
        .client
        .call(Command::new("ZCARD").key(&key))
        .await
        .unwrap()
}

redkit_testkit::suite! {
    #[paused]
    async fn waiters_go_in_the_order_in_which_they_came(fixture: Fixture) {
        for (n, policy) in policies(2, Duration::from_secs(1), 2).into_iter().enumerate() {
            let name = format!("l{n}");
            let limiter = limiter(&fixture, &name, policy.clone());
            assert!(limiter.check_n("k", 2).await.unwrap().is_allowed());
            let order = Arc::new(Mutex::new(Vec::new()));
            let mut tasks = Vec::new();
            for waiter in 0..8_i64 {
                let (limiter, order) = (limiter.clone(), Arc::clone(&order));
                tasks.push(tokio::spawn(async move {
                    let decision = limiter.acquire("k", Duration::from_secs(60)).await.unwrap();
                    assert!(decision.is_allowed());
                    order.lock().push(waiter);
                }));
                while queue_length(&fixture, &name).await <= waiter {
                    tokio::task::yield_now().await;
                }
            }
            let start = Instant::now();
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(*order.lock(), (0..8).collect::<Vec<_>>(), "{policy:?}");
            // 8 at 2 a second; windows that count a part of the one before are slower.
            assert!(start.elapsed() <= Duration::from_millis(8_500), "{policy:?}: {:?}", start.elapsed());
            assert_eq!(queue_length(&fixture, &name).await, 0);
        }
    }

    #[paused]
    async fn a_caller_that_would_wait_too_long_is_told_at_once(fixture: Fixture) {
        for (n, policy) in policies(1, Duration::from_secs(10), 1).into_iter().enumerate() {
            let limiter = limiter(&fixture, &format!("l{n}"), policy.clone());
            assert!(limiter.check("k").await.unwrap().is_allowed());
            let start = Instant::now();
            let before = dump(&fixture.client).await;
            let denied = limiter.acquire("k", Duration::from_secs(5)).await.unwrap();
            assert!(!denied.is_allowed() && denied.retry_after() > Duration::from_secs(5), "{denied:?}");
            assert_eq!(start.elapsed(), Duration::ZERO, "{policy:?}");
            assert_eq!(dump(&fixture.client).await, before, "and left nothing behind");
            // Exactly long enough is enough, up to the timer's millisecond.
            let enough = denied.retry_after() + Duration::from_millis(2);
            assert!(limiter.acquire("k", enough).await.unwrap().is_allowed(), "{policy:?}");
            assert!(start.elapsed() <= enough);
        }
    }

    async fn a_dropped_wait_gives_its_place_back(fixture: Fixture) -> Result<(), Error> {
        let limiter = limiter(&fixture, "l", Policy::fixed_window(Quota::per(1, Duration::from_secs(3))));
        assert!(limiter.check("k").await?.is_allowed());
        let waiting = tokio::spawn({
            let limiter = limiter.clone();
            async move { limiter.acquire("k", Duration::from_secs(60)).await }
        });
        until(|| async { queue_length(&fixture, "l").await == 1 }).await;
        waiting.abort();
        drop(waiting.await);
        // In the background, and long before it would be taken for dead.
        let start = std::time::Instant::now();
        until(|| async { queue_length(&fixture, "l").await == 0 }).await;
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        Ok(())
    }

    #[paused]
    async fn a_waiter_that_died_holds_up_the_others_for_three_seconds(fixture: Fixture) {
        let limiter = limiter(&fixture, "l", Policy::fixed_window(Quota::per(1, Duration::from_secs(1))));
        assert!(limiter.check("k").await.unwrap().is_allowed());
        // Its process is gone: nothing of it will ever run again, not even its `drop`.
        let dead = limiter.acquire("k", Duration::from_secs(60));
        let mut dead = Box::pin(dead);
        assert!(timeout(Duration::from_millis(1), &mut dead).await.is_err());
        std::mem::forget(dead);
        assert_eq!(queue_length(&fixture, "l").await, 1);
        let start = Instant::now();
        assert!(limiter.acquire("k", Duration::from_secs(60)).await.unwrap().is_allowed());
        let took = start.elapsed();
        assert!((Duration::from_millis(2_900)..Duration::from_millis(4_100)).contains(&took), "{took:?}");
    }

    #[paused]
    async fn a_full_queue_is_an_error(fixture: Fixture) {
        let limiter = limiter(&fixture, "l", Policy::gcra(Quota::per_second(1)));
        assert!(limiter.check("k").await.unwrap().is_allowed());
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let limiter = limiter.clone();
                tokio::spawn(async move { limiter.acquire("k", Duration::from_secs(60)).await })
            })
            .collect();
        while queue_length(&fixture, "l").await < 20 {
            tokio::task::yield_now().await;
        }
        let error = limiter.acquire("k", Duration::from_secs(60)).await.unwrap_err();
        assert!(matches!(error, Error::QueueFull(20)) && error.is_retryable(), "{error}");
        for task in tasks {
            assert!(task.await.unwrap().unwrap().is_allowed());
        }
    }

    #[paused]
    async fn a_check_takes_what_it_finds_unless_waiters_come_first(fixture: Fixture) {
        for waiters_first in [false, true] {
            let limiter = RateLimiter::builder(&fixture.client, &format!("l-{waiters_first}")).decision_timeout(crate::PATIENT)
                .policy(Policy::gcra(Quota::per_second(1)))
                .waiters_first(waiters_first)
                .deny_cache(0)
                .build()
                .unwrap();
            assert!(limiter.check("k").await.unwrap().is_allowed());
            let waiting = tokio::spawn({
                let limiter = limiter.clone();
                async move { limiter.acquire("k", Duration::from_secs(60)).await }
            });
            while queue_length(&fixture, limiter.name()).await == 0 {
                tokio::task::yield_now().await;
            }
            // Room again, and the waiter has not come for it yet.
            advance(Duration::from_secs(1)).await;
            let check = limiter.check("k").await.unwrap();
            assert_eq!(check.is_allowed(), !waiters_first);
            let start = Instant::now();
            assert!(waiting.await.unwrap().unwrap().is_allowed());
            let waited = if waiters_first { 0 } else { 1_000 };
            assert!(start.elapsed().abs_diff(Duration::from_millis(waited)) < Duration::from_millis(5));
        }
    }

    #[paused]
    async fn a_waiter_behind_a_costlier_one_asks_once_a_second(fixture: Fixture) {
        drop(fixture);
        for (n, policy) in policies(10, Duration::from_secs(60), 10).into_iter().enumerate() {
            let backend = FaultyBackend::embedded();
    let client = backend.client();
            let limiter = RateLimiter::builder(&client, &format!("l{n}")).decision_timeout(crate::PATIENT)
                .policy(policy.clone())
                .waiters_first(true)
                .build()
                .unwrap();
            assert!(limiter.check_n("k", 7).await.unwrap().is_allowed());
            let wait = |cost| {
                let limiter = limiter.clone();
                let wait = async move { limiter.acquire_n("k", cost, Duration::from_secs(600)).await };
                tokio::spawn(wait)
            };
            let visits = || backend.count(":heartbeats");
            let start = Instant::now();
            let before = visits();
            let costly = wait(10);
            while visits() == before {
                tokio::task::yield_now().await;
            }
            let cheap = wait(1);
            // Three are left, and not for a new caller.
            let check = limiter.check("k").await.unwrap();
            assert!(!check.is_allowed() && check.retry_after() > Duration::from_secs(1), "{policy:?}: {check:?}");
            let before = visits();
            assert!(costly.await.unwrap().unwrap().is_allowed());
            assert!(cheap.await.unwrap().unwrap().is_allowed());
            let (visits, seconds) = (visits() - before, start.elapsed().as_secs());
            // Two waiters, each with a few more visits when their time comes.
            assert!(u64::try_from(visits).unwrap() <= 2 * seconds + 10, "{policy:?}: {visits} in {seconds} s");
        }
    }

    #[paused]
    async fn a_waiter_behind_one_that_died_when_its_turn_came_asks_ever_more_seldom(fixture: Fixture) {
        drop(fixture);
        let backend = FaultyBackend::embedded();
    let client = backend.client();
        let limiter = RateLimiter::builder(&client, "l").decision_timeout(crate::PATIENT)
            .policy(Policy::fixed_window(Quota::per(5, Duration::from_millis(500))))
            .waiters_first(true)
            .build()
            .unwrap();
        assert!(limiter.check_n("k", 5).await.unwrap().is_allowed());
        let mut dead = Box::pin(limiter.acquire("k", Duration::from_secs(60)));
        assert!(timeout(Duration::from_millis(1), &mut dead).await.is_err());
        std::mem::forget(dead);
        advance(Duration::from_millis(600)).await;
        // Its units are there, and it does not come for them.
        let check = limiter.check("k").await.unwrap();
        assert!(!check.is_allowed() && check.retry_after() >= Duration::from_millis(10), "{check:?}");
        let before = backend.count(":heartbeats");
        let start = Instant::now();
        assert!(limiter.acquire("k", Duration::from_secs(60)).await.unwrap().is_allowed());
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        let visits = backend.count(":heartbeats") - before;
        assert!(visits < 20, "{visits}");
    }

    /// The units that are left are for the waiters, and only as long as there are any.
    #[paused]
    async fn a_denial_in_favour_of_waiters_is_not_remembered(fixture: Fixture) {
        let limiter = RateLimiter::builder(&fixture.client, "l").decision_timeout(crate::PATIENT)
            .policy(Policy::sliding_log(Quota::per_minute(10)))
            .waiters_first(true)
            .build()
            .unwrap();
        assert!(limiter.check_n("k", 7).await.unwrap().is_allowed());
        let mut waiting = Box::pin(limiter.acquire_n("k", 10, Duration::from_secs(600)));
        assert!(timeout(Duration::from_millis(1), &mut waiting).await.is_err());
        for _ in 0..2 {
            let denied = limiter.check("k").await.unwrap();
            assert_eq!((denied.is_allowed(), denied.decided_by()), (false, DecidedBy::Redis));
        }
        drop(waiting);
        sleep(Duration::from_millis(1)).await;
        assert!(limiter.check("k").await.unwrap().is_allowed(), "nobody waits any more");
        // With nobody in line a denial is remembered as ever.
        assert!(!limiter.check_n("k", 3).await.unwrap().is_allowed());
        assert_eq!(limiter.check_n("k", 3).await.unwrap().decided_by(), DecidedBy::DenyCache);
    }

    #[paused]
    async fn a_waiter_is_woken_by_units_that_come_back(fixture: Fixture) {
        for (n, policy) in policies(1, Duration::from_secs(3600), 1).into_iter().enumerate() {
            for by_reset in [false, true] {
                let limiter = limiter(&fixture, &format!("l{n}-{by_reset}"), policy.clone());
                let taken = limiter.check("k").await.unwrap();
                let waits = tokio::spawn({
                    let limiter = limiter.clone();
                    async move {
                        let decision = limiter.acquire("k", Duration::from_secs(7200)).await.unwrap();
                        (decision.is_allowed(), Instant::now())
                    }
                });
                while queue_length(&fixture, limiter.name()).await == 0 {
                    tokio::task::yield_now().await;
                }
                sleep(Duration::from_millis(10_300)).await;
                let back = Instant::now();
                match by_reset {
                    true => limiter.reset("k").await.unwrap(),
                    false => assert!(limiter.refund(taken.receipt().unwrap()).await.unwrap()),
                }
                let (allowed, at) = waits.await.unwrap();
                assert!(allowed && at - back < Duration::from_millis(3), "{policy:?}: {:?}", at - back);
            }
        }
    }

    /// The clock went back by an hour after the waiter was last seen, which then died.
    #[paused]
    async fn a_dead_waiter_from_a_later_time_holds_up_the_others_for_three_seconds(fixture: Fixture) {
        let limiter = limiter(&fixture, "l", Policy::fixed_window(Quota::per(1, Duration::from_secs(1))));
        let dead = "00000001000000000000000000000000";
        let later = now(&fixture.client).await + 3_600_000_000;
        for role in ["queue", "heartbeats"] {
            let key = fixture.client.key(format!("ratelimit:l:{{k}}:{role}"));
            let add = Command::new("ZADD").key(&key).arg(later.to_string()).arg(dead);
            fixture.client.call::<i64>(add).await.unwrap();
            let expire = Command::new("EXPIRE").key(&key).arg(4000);
            fixture.client.call::<i64>(expire).await.unwrap();
        }
        let start = Instant::now();
        assert!(limiter.acquire("k", Duration::from_secs(60)).await.unwrap().is_allowed());
        let took = start.elapsed();
        assert!((Duration::from_millis(2_900)..Duration::from_millis(4_100)).contains(&took), "{took:?}");
    }

    /// A limit of units and a limit of places may have the same name: their lines are apart.
    #[paused]
    async fn limiters_of_one_name_have_queues_of_their_own(fixture: Fixture) {
        let units = limiter(&fixture, "same", Policy::fixed_window(Quota::per_minute(1)));
        let places = ConcurrencyLimiter::builder(&fixture.client, "same").decision_timeout(crate::PATIENT).limit(1).build().unwrap();
        assert!(units.check("k").await.unwrap().is_allowed());
        let mut for_units = Box::pin(units.acquire("k", Duration::from_secs(600)));
        assert!(timeout(Duration::from_millis(1), &mut for_units).await.is_err());
        let permit = places.try_acquire("k").await.unwrap().expect("nobody waits for a place");
        let mut for_places = Box::pin(places.acquire("k", Duration::from_secs(600)));
        assert!(timeout(Duration::from_millis(1), &mut for_places).await.is_err());
        let keys: Vec<_> = dump(&fixture.client).await.into_iter().map(|one| one.key).collect();
        for role in ["queue", "heartbeats", "places-queue", "places-heartbeats"] {
            let key = format!("ratelimit:same:{{k}}:{role}");
            assert!(keys.iter().any(|other| other.ends_with(&key)), "{key}: {keys:?}");
        }
        drop(permit);
    }

    async fn waiting_works_on_every_server(fixture: Fixture) -> Result<(), Error> {
        let tiers = RateLimiter::builder(&fixture.client, "l").decision_timeout(crate::PATIENT)
            .policy(Policy::gcra(Quota::per_second(20).burst(1)).named("pace"))
            .policy(Policy::sliding_log(Quota::per_hour(1000)).named("hour"))
            .build()?;
        let start = std::time::Instant::now();
        let waits = (0..11).map(|_| tiers.acquire("k", Duration::from_secs(60)));
        for decision in futures_util::future::join_all(waits).await {
            assert!(decision?.is_allowed());
        }
        // 50 ms each, after the first.
        assert!(start.elapsed() >= Duration::from_millis(499), "{:?}", start.elapsed());
        assert_eq!(tiers.peek("k").await?.verdicts()[1].remaining(), 989);
        Ok(())
    }
}

async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), wait)
        .await
        .expect("it comes to hold");
}
