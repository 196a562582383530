//! Mistakes that other limiters are known for, each as a test.

use std::time::Duration;

use redkit_core::Command;
use redkit_ratelimit::{Algorithm, DecidedBy, Error, Policy, Quota, RateLimiter};
use redkit_testkit::Fixture;

use crate::model::policies;
use crate::state::{dump, now};

fn limiter(fixture: &Fixture, name: &str, policy: Policy) -> RateLimiter {
    RateLimiter::builder(&fixture.client, name)
        .decision_timeout(crate::PATIENT)
        .policy(policy)
        .deny_cache(0)
        .build()
        .unwrap()
}

redkit_testkit::suite! {
    /// INCR and EXPIRE in two steps, or a comparison of a number with a string: a key that stays.
    #[paused]
    async fn every_key_goes_away_by_itself(fixture: Fixture) {
        for (n, policy) in policies(3, Duration::from_secs(10), 3).into_iter().enumerate() {
            let limiter = limiter(&fixture, &format!("l{n}"), policy);
            for cost in [1, 2, 3, 1] {
                let decision = limiter.check_n("k", cost).await.unwrap();
                if let Some(receipt) = decision.receipt() {
                    limiter.refund(receipt).await.unwrap();
                }
                drop(limiter.acquire_n("k", cost, Duration::from_millis(1)).await.unwrap());
            }
        }
        let all = dump(&fixture.client).await;
        assert!(all.len() >= 12, "states and refunds: {all:?}");
        assert!(all.iter().all(|stored| stored.expires > 0), "{all:?}");
        tokio::time::advance(Duration::from_secs(41)).await;
        assert_eq!(dump(&fixture.client).await, []);
    }

    /// A log keyed by the millisecond counts two calls in one of them once.
    #[paused]
    async fn calls_at_the_same_moment_all_count(fixture: Fixture) {
        for (n, policy) in policies(3, Duration::from_secs(10), 3).into_iter().enumerate() {
            let limiter = limiter(&fixture, &format!("l{n}"), policy.clone());
            for call in 0..5 {
                // The clock stands still.
                let allowed = limiter.check("k").await.unwrap().is_allowed();
                assert_eq!(allowed, call < 3, "{policy:?}");
            }
        }
    }

    /// Two calls of 7 pass a limit of 10 where only the number before is compared.
    async fn a_cost_of_seven_passes_a_limit_of_ten_once(fixture: Fixture) -> Result<(), Error> {
        for (n, policy) in policies(10, Duration::from_secs(3600), 10).into_iter().enumerate() {
            let limiter = limiter(&fixture, &format!("l{n}"), policy.clone());
            assert!(limiter.check_n("k", 7).await?.is_allowed());
            let second = limiter.check_n("k", 7).await?;
            assert!(!second.is_allowed(), "{policy:?}");
            assert_eq!(second.remaining(), 3);
            assert!(limiter.check_n("k", 3).await?.is_allowed(), "a denied call is not charged");
        }
        Ok(())
    }

    /// Token buckets that charge denied calls go below zero and never recover under load.
    #[paused]
    async fn denied_calls_do_not_put_off_the_next_allowed_one(fixture: Fixture) {
        for (n, policy) in policies(2, Duration::from_secs(10), 2).into_iter().enumerate() {
            let limiter = limiter(&fixture, &format!("l{n}"), policy.clone());
            assert!(limiter.check_n("k", 2).await.unwrap().is_allowed());
            let first = limiter.check("k").await.unwrap().retry_after();
            let start = tokio::time::Instant::now();
            while start.elapsed() < first {
                assert!(!limiter.check("k").await.unwrap().is_allowed());
                let left = first - start.elapsed();
                tokio::time::advance(left.min(Duration::from_millis(100))).await;
            }
            assert!(limiter.check("k").await.unwrap().is_allowed(), "{policy:?}");
        }
    }

    /// Releasing twice admitted 15 of 10.
    async fn a_double_refund_admits_no_more(fixture: Fixture) -> Result<(), Error> {
        for (n, policy) in policies(10, Duration::from_secs(3600), 10).into_iter().enumerate() {
            let limiter = limiter(&fixture, &format!("l{n}"), policy.clone());
            let five = limiter.check_n("k", 5).await?;
            let receipt = five.receipt().unwrap();
            let _rest = limiter.check_n("k", 5).await?;
            let refunds = (0..8).map(|_| limiter.refund(receipt));
            let given = futures_util::future::join_all(refunds).await;
            assert_eq!(given.into_iter().filter(|given| *given.as_ref().unwrap()).count(), 1);
            let mut admitted = 0;
            while limiter.check("k").await?.is_allowed() {
                admitted += 1;
            }
            assert_eq!(admitted, 5, "{policy:?}");
        }
        Ok(())
    }

    /// The window of a limit was made shorter, and the longer one still runs: what was given back of
    /// it must be remembered for as long as it counts.
    #[paused]
    async fn a_refund_in_a_window_that_outlives_its_quota_is_given_once(fixture: Fixture) {
        let hourly = limiter(&fixture, "l", Policy::fixed_window(Quota::per_hour(10)));
        let minutely = limiter(&fixture, "l", Policy::fixed_window(Quota::per_minute(10)));
        assert!(hourly.check("k").await.unwrap().is_allowed());
        let five = minutely.check_n("k", 5).await.unwrap();
        let receipt = five.receipt().unwrap();
        assert!(minutely.refund(receipt).await.unwrap());
        assert!(hourly.check_n("k", 9).await.unwrap().is_allowed());
        for minutes in 1..59 {
            tokio::time::advance(Duration::from_secs(60)).await;
            assert!(!minutely.refund(receipt).await.unwrap(), "after {minutes} minutes");
            assert!(!hourly.check("k").await.unwrap().is_allowed());
        }
        tokio::time::advance(Duration::from_secs(121)).await;
        assert!(!minutely.refund(receipt).await.unwrap());
        assert_eq!(dump(&fixture.client).await, []);
    }

    /// `per_second(n)` that means one in n seconds.
    #[paused]
    async fn ten_per_second_are_ten_in_a_second(fixture: Fixture) {
        let gcra = limiter(&fixture, "l", Policy::gcra(Quota::per_second(10).burst(1)));
        assert!(gcra.check("k").await.unwrap().is_allowed());
        assert_eq!(gcra.check("k").await.unwrap().retry_after(), Duration::from_millis(100));
    }

    /// A clock that went back (another master, a step of NTP) must not let more through, nor make
    /// what is in the log unreadable.
    #[paused]
    async fn a_clock_that_goes_back_lets_no_more_through(fixture: Fixture) {
        let client = &fixture.client;
        let log = limiter(&fixture, "log", Policy::sliding_log(Quota::per_second(3)));
        let key = client.key("ratelimit:log:{k}:log");
        let ahead = i64::try_from(now(client).await).unwrap() + 500_000;
        let push = Command::new("LPUSH").key(&key).arg(ahead).arg(ahead);
        client.call::<i64>(push).await.unwrap();
        assert!(log.check("k").await.unwrap().is_allowed(), "there is room for one");
        let denied = log.check("k").await.unwrap();
        assert_eq!((denied.is_allowed(), denied.remaining()), (false, 0));
        assert_eq!(denied.retry_after(), Duration::from_millis(1500));
        let entries: Vec<i64> = client.call(Command::new("LRANGE").key(&key).arg(0).arg(-1)).await.unwrap();
        assert_eq!(entries, [ahead; 3], "time stood still");

        for (n, policy) in [
            Policy::sliding_counter(Quota::per_second(3)),
            Policy::bucketed(Quota::per_second(3)),
        ]
        .into_iter()
        .enumerate()
        {
            let limiter = limiter(&fixture, &format!("l{n}"), policy.clone());
            assert!(limiter.check_n("k", 2).await.unwrap().is_allowed());
            let key = client.key(format!("ratelimit:l{n}:{{k}}:{}", policy.algorithm()));
            // The window or slice that was begun is the next one.
            client.call::<i64>(Command::new("HINCRBY").key(&key).arg("i").arg(1)).await.unwrap();
            assert!(limiter.check("k").await.unwrap().is_allowed());
            assert!(!limiter.check("k").await.unwrap().is_allowed(), "{policy:?}");
        }
    }

    /// A deployment that makes a window longer, or its slices longer, must not mistake what the old
    /// processes wrote for something of a far future.
    #[paused]
    async fn a_policy_whose_window_grew_denies_for_no_longer_than_the_old_one(fixture: Fixture) {
        let bucketed = |slices| Policy::new(Algorithm::Bucketed { slices }, Quota::per_minute(100));
        for (n, (old, new)) in [
            (Policy::sliding_counter(Quota::per_minute(100)), Policy::sliding_counter(Quota::per_hour(100))),
            (bucketed(60), bucketed(10)),
            (Policy::bucketed(Quota::per_minute(100)), Policy::bucketed(Quota::per_hour(100))),
        ]
        .into_iter()
        .enumerate()
        {
            let limiter = |policy| {
                RateLimiter::builder(&fixture.client, &format!("l{n}"))
                    .decision_timeout(crate::PATIENT)
                    .policy(policy)
                    .build()
                    .unwrap()
            };
            let (old, new) = (limiter(old), limiter(new));
            assert!(old.check_n("k", 99).await.unwrap().is_allowed());
            let last = new.check("k").await.unwrap();
            assert!(last.is_allowed());
            let denied = new.check("k").await.unwrap();
            assert!(!denied.is_allowed());
            let most = Duration::from_secs(121);
            for told in [last.reset_after(), denied.reset_after(), denied.retry_after()] {
                assert!(told <= most, "{told:?}");
            }
            tokio::time::advance(denied.retry_after()).await;
            let next = new.check("k").await.unwrap();
            assert_eq!((next.decided_by(), next.is_allowed()), (DecidedBy::Redis, true));
        }
    }

    /// A limiter whose name or keys hold anything is still one key each.
    #[paused]
    async fn keys_of_any_bytes_are_apart(fixture: Fixture) {
        let limiter = limiter(&fixture, "l", Policy::fixed_window(Quota::per_minute(1)));
        for key in [&b"a"[..], b"a}", b"{a}", b"\xff\x00", b"a b", b"%"] {
            let decision = limiter.check(key).await.unwrap();
            assert!(decision.is_allowed(), "{key:?}");
            assert_eq!(decision.decided_by(), DecidedBy::Redis);
        }
    }
}
