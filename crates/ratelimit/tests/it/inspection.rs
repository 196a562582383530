//! What monitoring sees of limiters, and can do with them.

use std::sync::Arc;
use std::time::Duration;

use redkit_core::inspection::{Fact, InspectError};
use redkit_core::{Client, Inspect};
use redkit_ratelimit::{ConcurrencyLimiter, OnOutage, Policy, Quota, RateLimiter};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};

fn limiters(client: &Client) -> Vec<Arc<dyn Inspect>> {
    let mut all = client.inspect();
    all.retain(|object| object.kind() == "limiter");
    all
}

redkit_testkit::suite! {
    #[paused]
    async fn a_limiter_shows_its_decisions_and_can_be_reset(fixture: Fixture) {
        let client = &fixture.client;
        let limiter = RateLimiter::builder(client, "api")
            .policy(Policy::gcra(Quota::per_minute(2).burst(2)).named("minute"))
            .policy(Policy::sliding_log(Quota::per_hour(100)).named("hour"))
            .build()
            .unwrap();
        for _ in 0..4 {
            drop(limiter.check("alice").await.unwrap());
        }
        let [seen] = &limiters(client)[..] else { panic!("there is one") };
        assert_eq!(seen.name(), "api");
        let snapshot = seen.snapshot();
        for (name, count) in [("decisions", 4), ("allowed", 2), ("denied", 2), ("by_redis", 3), ("by_deny_cache", 1), ("errors", 0)] {
            assert_eq!(snapshot.get(name), Some(&Fact::Count(count)), "{name}: {snapshot:?}");
        }
        assert_eq!(snapshot.get("is_outage"), Some(&Fact::Flag(false)));
        let policies = snapshot.items.iter().map(|item| format!("{:?}", item[0].1)).collect::<String>();
        assert!(policies.contains("minute") && policies.contains("hour"), "{policies}");

        assert_eq!(seen.actions()[0].name, "reset");
        assert!(!limiter.check("alice").await.unwrap().is_allowed());
        seen.act("reset", "alice").await.unwrap();
        assert!(limiter.check("alice").await.unwrap().is_allowed());
        assert!(matches!(seen.act("reset", "").await, Err(InspectError::Argument(_))));
        assert!(matches!(seen.act("explode", "").await, Err(InspectError::UnknownAction { .. })));
        drop(limiter);
        assert_eq!(limiters(client).len(), 1, "somebody looks at it");
    }

    #[paused]
    async fn a_limiter_of_places_shows_what_is_held_and_what_was_lost(fixture: Fixture) {
        drop(fixture);
        let backend = FaultyBackend::embedded();
        let client = backend.client();
        let places = ConcurrencyLimiter::builder(&client, "exports")
            .limit(2)
            .lease(Duration::from_secs(3))
            .on_outage(OnOutage::Closed)
            .build()
            .unwrap();
        let [seen] = &limiters(&client)[..] else { panic!("there is one") };
        let count = |name| match seen.snapshot().get(name) {
            Some(Fact::Count(count)) => *count,
            other => panic!("{name}: {other:?}"),
        };
        let permit = places.try_acquire("k").await.unwrap().unwrap();
        assert_eq!((count("held"), count("lost")), (1, 0));
        backend.set(Rule::new(Injection::HangBefore));
        permit.lost().await;
        assert_eq!((count("held"), count("lost")), (0, 1));
        assert!(places.try_acquire("k").await.unwrap().is_none());
        assert_eq!(seen.snapshot().get("is_outage"), Some(&Fact::Flag(true)));
        assert_eq!((count("by_closed"), count("denied")), (1, 1));
        assert!(seen.actions().is_empty());
        assert!(seen.act("reset", "k").await.is_err());
    }

    #[paused]
    async fn a_limiter_that_is_gone_is_not_seen(fixture: Fixture) {
        let build = || RateLimiter::builder(&fixture.client, "l").policy(Policy::gcra(Quota::per_second(1))).build().unwrap();
        let limiter = build();
        drop(build());
        assert_eq!(limiters(&fixture.client).len(), 1);
        drop(limiter);
        assert_eq!(limiters(&fixture.client).len(), 0);
    }
}
