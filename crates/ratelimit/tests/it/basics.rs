//! What holds for every algorithm on every server.

use std::time::Duration;

use redkit_core::{Command, Key, Value};
use redkit_ratelimit::{
    Algorithm, DecidedBy, Error, LimitSet, OnOutage, Policy, Quota, RateLimiter,
};
use redkit_testkit::{BackendKind, Fixture, ServerOptions};

use crate::model::{all_policies, policies};
use crate::state::dump;

fn limiter(fixture: &Fixture, name: &str, policy: Policy) -> RateLimiter {
    RateLimiter::builder(&fixture.client, name)
        .decision_timeout(crate::PATIENT)
        .policy(policy)
        .build()
        .unwrap()
}

/// What the server holds of a key, and until when.
async fn bytes_of(fixture: &Fixture, key: &Key) -> Option<(Value, i64)> {
    let client = &fixture.client;
    let kind: String = client.call(Command::new("TYPE").key(key)).await.unwrap();
    let read = match (fixture.kind, kind.as_str()) {
        (_, "none") => return None,
        // The engine has no DUMP: nothing of it leaves the process.
        (BackendKind::Embedded, "string") => Command::new("GET").key(key),
        (BackendKind::Embedded, "hash") => Command::new("HGETALL").key(key),
        (BackendKind::Embedded, _) => Command::new("LRANGE").key(key).arg(0).arg(-1),
        _ => Command::new("DUMP").key(key),
    };
    let value = client.call(read).await.unwrap();
    let expires = client
        .call(Command::new("PEXPIRETIME").key(key))
        .await
        .unwrap();
    Some((value, expires))
}

redkit_testkit::suite! {
    async fn each_algorithm_admits_its_limit_and_says_all_of_it(fixture: Fixture) -> Result<(), Error> {
        for (n, policy) in policies(5, Duration::from_secs(3600), 5).into_iter().enumerate() {
            let name = format!("l{n}");
            let limiter = limiter(&fixture, &name, policy.clone());
            for taken in 1..=5 {
                let decision = limiter.check("alice").await?;
                assert!(decision.is_allowed(), "{policy:?} {taken}");
                assert_eq!((decision.limit(), decision.remaining()), (5, 5 - taken));
                assert_eq!(decision.policy(), name);
                assert_eq!(decision.decided_by(), DecidedBy::Redis);
                assert_eq!(decision.retry_after(), Duration::ZERO);
                assert!(decision.reset_after() > Duration::from_secs(60), "{decision:?}");
            }
            let denied = limiter.check("alice").await?;
            assert!(!denied.is_allowed() && denied.receipt().is_none(), "{policy:?}");
            assert_eq!((denied.limit(), denied.remaining()), (5, 0));
            assert!(denied.retry_after() > Duration::from_secs(60), "{denied:?}");
            assert!(limiter.check("bob").await?.is_allowed(), "another key");
            limiter.reset("alice").await?;
            assert_eq!(limiter.peek("alice").await?.remaining(), 5, "after a reset");
        }
        Ok(())
    }

    async fn refunded_units_can_be_taken_once(fixture: Fixture) -> Result<(), Error> {
        for (n, policy) in policies(10, Duration::from_secs(3600), 10).into_iter().enumerate() {
            let limiter = limiter(&fixture, &format!("l{n}"), policy.clone());
            let five = limiter.check_n("k", 5).await?;
            assert!(limiter.check_n("k", 5).await?.is_allowed());
            assert!(!limiter.check_n("k", 5).await?.is_allowed());
            let receipt = five.receipt().unwrap();
            assert!(limiter.refund(receipt).await?, "{policy:?}");
            assert!(!limiter.refund(receipt).await?, "the second time: {policy:?}");
            // The memory of the denial is gone with it; and 5 of 10 are there, not 10.
            assert!(limiter.check_n("k", 5).await?.is_allowed(), "{policy:?}");
            assert!(!limiter.check_n("k", 5).await?.is_allowed(), "{policy:?}");
        }
        Ok(())
    }

    async fn quotas_of_calls_count_together(fixture: Fixture) -> Result<(), Error> {
        let hour = Duration::from_secs(3600);
        for (n, policy) in policies(5, hour, 5).into_iter().enumerate() {
            let limiter = limiter(&fixture, &format!("l{n}"), policy.clone());
            assert!(limiter.check_n("k", 5).await?.is_allowed());
            assert!(!limiter.check("k").await?.is_allowed());
            let quota = match policy.quota().burst_size() {
                Some(_) => policy.quota().burst(8),
                None => Quota::per(8, hour),
            };
            let more = limiter.check_with("k", 1, quota).await?;
            assert!(more.is_allowed(), "a larger quota, past the memory of a denial: {policy:?}");
            assert_eq!(more.limit(), 8);
            assert!(!limiter.check("k").await?.is_allowed());
            let error = limiter.check_with("k", 1, Quota::per(0, hour)).await.unwrap_err();
            assert!(error.to_string().contains("limit"), "{error}");
        }
        // Another window would not see what was counted in the policy's, or forget it.
        for (n, policy) in all_policies(5, hour, 5).into_iter().enumerate() {
            let limiter = limiter(&fixture, &format!("w{n}"), policy.clone());
            for window in [Duration::from_secs(60), 2 * hour] {
                let result = limiter.check_with("k", 1, Quota::per(5, window)).await;
                match policy.algorithm() {
                    Algorithm::Gcra | Algorithm::Leaky { .. } => assert!(result?.is_allowed()),
                    _ => {
                        let error = result.unwrap_err();
                        assert!(error.to_string().contains("window"), "{policy:?}: {error}");
                    }
                }
            }
        }
        Ok(())
    }

    #[paused]
    async fn a_leaky_bucket_says_when_to_go(fixture: Fixture) {
        let quota = Quota::per_second(10);
        let leaky = limiter(&fixture, "l", Policy::leaky(quota, Duration::from_millis(250)));
        let step = Duration::from_millis(100);
        let mut receipts = Vec::new();
        for place in 0..3 {
            let decision = leaky.check("k").await.unwrap();
            assert!(decision.is_allowed());
            assert_eq!(decision.delay(), step * place, "one after the other");
            receipts.push(decision.receipt().unwrap().clone());
        }
        let full = leaky.check("k").await.unwrap();
        assert!(!full.is_allowed());
        assert_eq!(full.retry_after(), Duration::from_millis(50), "until the wait is short enough");
        // A place in the middle would be taken by two; the last one is free again.
        assert!(!leaky.refund(&receipts[1]).await.unwrap());
        assert!(leaky.refund(&receipts[2]).await.unwrap());
        assert_eq!(leaky.check("k").await.unwrap().delay(), step * 2);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(leaky.check("k").await.unwrap().delay(), Duration::ZERO);
    }

    /// 7 a second does not divide evenly: 142,857.14… µs each. Over a long time it is exact.
    #[paused]
    async fn an_uneven_rate_is_exact_in_the_long_run(fixture: Fixture) {
        let gcra = limiter(&fixture, "l", Policy::gcra(Quota::per_second(7).burst(1)));
        let start = tokio::time::Instant::now();
        for _ in 0..7 * 60 + 1 {
            let decision = gcra.check("k").await.unwrap();
            if !decision.is_allowed() {
                tokio::time::advance(decision.retry_after()).await;
                assert!(gcra.check("k").await.unwrap().is_allowed());
            }
        }
        // The next µs after the exact time at most, once for each call that had to wait.
        let took = start.elapsed();
        let exact = Duration::from_secs(60);
        assert!(took >= exact && took < exact + Duration::from_micros(7 * 60), "{took:?}");
    }

    #[paused]
    async fn a_denial_is_remembered_by_cost_and_forgotten_in_time(fixture: Fixture) {
        let limiter = limiter(&fixture, "l", Policy::sliding_log(Quota::per_minute(10)));
        assert!(limiter.check_n("k", 5).await.unwrap().is_allowed());
        assert_eq!(limiter.check_n("k", 8).await.unwrap().decided_by(), DecidedBy::Redis);
        let again = limiter.check_n("k", 8).await.unwrap();
        assert_eq!((again.is_allowed(), again.decided_by()), (false, DecidedBy::DenyCache));
        assert_eq!(again.retry_after(), Duration::from_secs(60));
        let more = limiter.check_n("k", 9).await.unwrap();
        assert_eq!((more.is_allowed(), more.decided_by()), (false, DecidedBy::Redis), "costs more");
        let less = limiter.check_n("k", 5).await.unwrap();
        assert_eq!((less.is_allowed(), less.decided_by()), (true, DecidedBy::Redis), "costs less");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(limiter.check_n("k", 8).await.unwrap().is_allowed());
        let stats = limiter.stats();
        assert_eq!((stats.allowed, stats.denied, stats.denied_from_cache), (3, 3, 1));

        let asks = RateLimiter::builder(&fixture.client, "m").decision_timeout(crate::PATIENT)
            .policy(Policy::gcra(Quota::per_minute(1)))
            .deny_cache(0)
            .build()
            .unwrap();
        for _ in 0..3 {
            assert_eq!(asks.check("k").await.unwrap().decided_by(), DecidedBy::Redis);
        }
    }

    #[paused]
    async fn an_impossible_call_is_an_error_although_a_denial_is_remembered(fixture: Fixture) {
        let limiter = limiter(&fixture, "l", Policy::fixed_window(Quota::per_minute(10)));
        let three = Quota::per_minute(3);
        assert!(limiter.check_n("k", 10).await.unwrap().is_allowed());
        for _ in 0..2 {
            assert!(!limiter.check_n("k", 2).await.unwrap().is_allowed());
            assert!(!limiter.check_with("k", 2, three).await.unwrap().is_allowed());
        }
        let known = limiter.check_with("k", 2, three).await.unwrap();
        assert_eq!(known.decided_by(), DecidedBy::DenyCache);
        for error in [
            limiter.check_with("k", 4, three).await.unwrap_err(),
            limiter.check_n("k", 11).await.unwrap_err(),
        ] {
            assert!(matches!(error, Error::CostAboveLimit { .. }), "{error}");
        }
    }

    /// By the bytes that the server holds of them and by when they go, on every server.
    async fn a_denied_call_changes_nothing(fixture: Fixture) -> Result<(), Error> {
        for (n, policy) in all_policies(5, Duration::from_secs(3600), 5).into_iter().enumerate() {
            let limiter = RateLimiter::builder(&fixture.client, &format!("l{n}")).decision_timeout(crate::PATIENT)
                .policy(policy.clone())
                .deny_cache(0)
                .build()?;
            let roles = [&*policy.algorithm().to_string(), "refunds", "queue", "heartbeats"];
            let keys = roles.map(|role| fixture.client.key(format!("ratelimit:l{n}:{{k}}:{role}")));
            let stored = async || {
                let mut all = Vec::new();
                for key in &keys {
                    all.push(bytes_of(&fixture, key).await);
                }
                all
            };
            let three = limiter.check_n("k", 3).await?;
            assert!(three.is_allowed());
            while limiter.check("k").await?.is_allowed() {}
            let before = stored().await;
            assert!(before.iter().any(Option::is_some));
            for cost in 1..=5 {
                assert!(!limiter.check_n("k", cost).await?.is_allowed(), "{policy:?}");
                assert!(!limiter.peek_n("k", cost).await?.is_allowed());
                let waits = limiter.acquire("k", Duration::from_millis(1)).await?;
                assert!(!waits.is_allowed());
                let beside = LimitSet::new().limit_n(&limiter, "k", 1).check().await?;
                assert!(!beside.decision.is_allowed());
            }
            assert_eq!(stored().await, before, "{policy:?}");
        }
        Ok(())
    }

    #[networked]
    async fn a_remembered_denial_asks_no_server(fixture: Fixture) {
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let client = fixture.connect(fixture.config_at(&server.url()).unwrap()).await.unwrap();
        let limiter = RateLimiter::builder(&client, "l").decision_timeout(crate::PATIENT)
            .policy(Policy::fixed_window(Quota::per_hour(1)))
            .build()
            .unwrap();
        assert!(limiter.check("k").await.unwrap().is_allowed());
        let before = client.stats().calls();
        for _ in 0..1000 {
            assert!(!limiter.check("k").await.unwrap().is_allowed());
        }
        assert_eq!(client.stats().calls() - before, 1);
        client.shutdown().await;
    }

    #[paused]
    async fn settings_that_cannot_work_are_refused_when_the_limiter_is_built(fixture: Fixture) {
        let client = &fixture.client;
        let refused = |builder: redkit_ratelimit::RateLimiterBuilder| {
            builder.build().unwrap_err().to_string()
        };
        let start = |name| RateLimiter::builder(client, name).decision_timeout(crate::PATIENT);
        let gcra = || Policy::gcra(Quota::per_second(10));
        let leaky = || Policy::leaky(Quota::per_second(10), Duration::from_secs(1));
        assert!(refused(start("l")).contains("policy"));
        assert!(refused(start("a b").policy(gcra())).contains("name"));
        // Their keys could be those of the limiter `auth` with a policy `login`, or `.login`.
        for name in ["auth..login", "auth."] {
            let error = refused(start(name).policy(gcra().named("login")));
            assert!(error.contains("name") && error.contains("auth.login"), "{error}");
        }
        assert!(refused(start("l").policy(gcra()).policy(gcra())).contains("named"));
        assert!(refused(start("l").policy(gcra().named("x")).policy(gcra().named("x"))).contains("same name"));
        assert!(refused(start("l").policy(leaky()).waiters_first(true)).contains("leaky"));
        assert!(refused(start("l").policy(Policy::gcra(Quota::per_second(0)))).contains("limit"));
        assert!(refused(start("l").policy(Policy::gcra(Quota::per_second(u64::MAX)))).contains("limit"));
        let local = OnOutage::local(client.clone(), 11);
        assert!(refused(start("l").policy(gcra()).on_outage(local)).contains("instances"));
        let local = OnOutage::local(client.clone(), 0);
        assert!(refused(start("l").policy(gcra()).on_outage(local)).contains("instances"));
        assert!(dump(client).await.is_empty());
    }

    async fn keys_are_addresses_numbers_and_texts_as_they_stand(fixture: Fixture) -> Result<(), Error> {
        use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
        let limiter = limiter(&fixture, "l", Policy::fixed_window(Quota::per_hour(100)));
        let ip: IpAddr = Ipv4Addr::new(192, 0, 2, 7).into();
        assert_eq!(limiter.check(ip).await?.remaining(), 99);
        assert_eq!(limiter.check(Ipv4Addr::new(192, 0, 2, 7)).await?.remaining(), 98);
        assert_eq!(limiter.check(&ip.to_string()).await?.remaining(), 97, "as the text of it");
        assert_eq!(limiter.check(Ipv6Addr::LOCALHOST).await?.remaining(), 99);
        let name: std::sync::Arc<str> = "alice".into();
        assert_eq!(limiter.check(&name).await?.remaining(), 99);
        assert_eq!(limiter.check(name).await?.remaining(), 98);
        assert_eq!(limiter.check(std::borrow::Cow::Borrowed("alice")).await?.remaining(), 97);
        assert_eq!(limiter.check(u128::MAX).await?.remaining(), 99);
        Ok(())
    }

    async fn a_policy_of_a_limiter_shares_no_units_with_a_limiter_of_a_longer_name(fixture: Fixture) -> Result<(), Error> {
        let one = || Policy::sliding_log(Quota::per_hour(1));
        let build = |name: &str, policy| {
            RateLimiter::builder(&fixture.client, name).decision_timeout(crate::PATIENT).policy(policy).build()
        };
        let limiters = [
            build("auth", one().named("login"))?,
            build("auth.login", one())?,
            build("auth", one().named(".login"))?,
            build("auth.login", one().named("login"))?,
        ];
        for limiter in &limiters {
            assert!(limiter.check("ann").await?.is_allowed());
            assert!(!limiter.check("ann").await?.is_allowed());
        }
        Ok(())
    }

    async fn keys_are_as_documented(fixture: Fixture) -> Result<(), Error> {
        let users = limiter(&fixture, "users", Policy::gcra(Quota::per_hour(5)));
        assert!(users.check("a}b").await?.is_allowed());
        assert!(users.tagged("t").check("alice").await?.is_allowed());
        let tiers = RateLimiter::builder(&fixture.client, "tiers").decision_timeout(crate::PATIENT)
            .policy(Policy::fixed_window(Quota::per_hour(5)).named("hour"))
            .policy(Policy::new(Algorithm::Bucketed { slices: 4 }, Quota::per_day(50)).named("day"))
            .build()?;
        let taken = tiers.check("alice").await?;
        tiers.refund(taken.receipt().unwrap()).await?;
        for key in [
            "ratelimit:users:{a%7Db}:gcra",
            "ratelimit:users:{t}:gcra:alice",
            "ratelimit:tiers..hour:{alice}:fixed",
            "ratelimit:tiers..hour:{alice}:refunds",
            "ratelimit:tiers..day:{alice}:bucketed",
            "ratelimit:tiers..day:{alice}:refunds",
        ] {
            let key = fixture.client.key(key);
            let ttl: i64 = fixture
                .client
                .call(redkit_core::Command::new("PTTL").key(&key))
                .await?;
            assert!(ttl > 0, "{key}: {ttl}");
        }
        Ok(())
    }
}
