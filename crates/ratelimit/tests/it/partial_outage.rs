//! One shard of several cannot be asked, in virtual time: the limits of the others go on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redkit_core::{Client, Topology};
use redkit_ratelimit::{DecidedBy, LimitSet, OnOutage, Policy, Quota, RateLimiter};
use redkit_testkit::{FaultyBackend, Injection, Rule};
use tokio::time::{Instant, sleep};

use crate::said::{Said, listen};

/// A key on the shard that is down, as it stands in commands.
const DOWN: &str = "{192.0.2.7}";

fn limiter(client: &Client, name: &str, limit: u64, on_outage: OnOutage) -> RateLimiter {
    RateLimiter::builder(client, name)
        .policy(Policy::fixed_window(Quota::per_hour(limit)))
        .on_outage(on_outage)
        .build()
        .unwrap()
}

/// Two limits in two slots.
fn set(users: &RateLimiter, addresses: &RateLimiter) -> LimitSet {
    LimitSet::new()
        .limit(users, "alice")
        .limit(addresses, "192.0.2.7")
        .best_effort()
}

#[tokio::test(start_paused = true)]
async fn a_best_effort_set_keeps_the_limits_of_the_shards_that_answer() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let users = limiter(&client, "users", 2, OnOutage::Open);
    let addresses = limiter(&client, "addresses", 9, OnOutage::Open);
    backend.set(Rule::new(Injection::NotSent).on_part(DOWN));
    for _ in 0..2 {
        let decision = set(&users, &addresses).check().await.unwrap().decision;
        assert_eq!(
            (decision.is_allowed(), decision.decided_by()),
            (true, DecidedBy::Open)
        );
    }
    let denied = set(&users, &addresses).check().await.unwrap().decision;
    assert!(!denied.is_allowed());
    assert_eq!(
        (denied.policy(), denied.decided_by()),
        ("users", DecidedBy::Redis)
    );
    backend.clear();
    assert_eq!(addresses.peek("192.0.2.7").await.unwrap().remaining(), 9);

    // A limiter that is closed, or that leaves it to the caller, costs the others nothing.
    let members = limiter(&client, "members", 2, OnOutage::Open);
    for (name, on_outage) in [("closed", OnOutage::Closed), ("error", OnOutage::Error)] {
        let other = limiter(&client, name, 9, on_outage);
        backend.set(Rule::new(Injection::NotSent).on_part(DOWN));
        let decided = set(&members, &other).check().await;
        backend.clear();
        assert_eq!(decided.is_err(), name == "error");
        if let Ok(decided) = decided {
            assert!(!decided.decision.is_allowed());
            assert_eq!(decided.decision.decided_by(), DecidedBy::Closed);
            assert_eq!(
                decided.decision.remaining(),
                0,
                "nothing was taken that comes back"
            );
        }
        assert_eq!(members.peek("alice").await.unwrap().remaining(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_hangs_leaves_their_part_of_the_time_to_those_behind_it() {
    let backend = FaultyBackend::embedded();
    backend.set_topology(Topology::Cluster);
    let client = backend.client();
    let users = limiter(&client, "users", 2, OnOutage::Open);
    let addresses = limiter(&client, "addresses", 9, OnOutage::Open);
    let set = || {
        LimitSet::new()
            .limit(&addresses, "192.0.2.7")
            .limit(&users, "alice")
            .best_effort()
    };
    backend.set(Rule::new(Injection::HangBefore).on_part(DOWN));
    for allowed in [true, true, false] {
        let start = Instant::now();
        let decision = set().check().await.unwrap().decision;
        assert_eq!(decision.is_allowed(), allowed);
        let took = start.elapsed();
        assert!(took <= Duration::from_millis(101), "{took:?}");
        if !allowed {
            assert_eq!(
                (decision.policy(), decision.decided_by()),
                ("users", DecidedBy::Redis)
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_slots_of_one_server_share_the_whole_time() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let limiters: Vec<_> = ["a", "b", "c", "d", "e"]
        .iter()
        .map(|name| limiter(&client, name, 9, OnOutage::Open))
        .collect();
    let pause = Injection::DelayRequest(Duration::from_millis(30));
    backend.set(Rule::new(pause).on_part("{key-0}"));
    let mut set = LimitSet::new().best_effort();
    for (number, limiter) in limiters.iter().enumerate() {
        set = set.limit(limiter, format!("key-{number}"));
    }
    let decision = set.check().await.unwrap().decision;
    assert_eq!(
        (decision.is_allowed(), decision.decided_by()),
        (true, DecidedBy::Redis)
    );
}

#[tokio::test(start_paused = true)]
async fn limits_behind_a_call_that_took_all_the_time_have_a_moment() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let users = limiter(&client, "users", 1, OnOutage::Open);
    let addresses = limiter(&client, "addresses", 9, OnOutage::Open);
    backend.set(Rule::new(Injection::HangBefore).on_part(DOWN));
    for allowed in [true, false] {
        let set = LimitSet::new().limit(&addresses, "192.0.2.7");
        let set = set.limit(&users, "alice").best_effort();
        let decision = set.check().await.unwrap().decision;
        assert_eq!(decision.is_allowed(), allowed);
    }
}

#[tokio::test]
async fn a_set_of_limiters_that_wait_for_ever_decides() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let patient = |name: &str| {
        RateLimiter::builder(&client, name)
            .policy(Policy::fixed_window(Quota::per_hour(1)))
            .decision_timeout(Duration::MAX)
            .build()
            .unwrap()
    };
    let (users, addresses) = (patient("users"), patient("addresses"));
    for allowed in [true, false] {
        let decision = set(&users, &addresses).check().await.unwrap().decision;
        assert_eq!(decision.is_allowed(), allowed);
    }
}

/// Both shards are reached by one switch, which fails after the first answer.
#[tokio::test(start_paused = true)]
async fn a_best_effort_set_decides_in_time_although_nothing_can_be_given_back() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let users = limiter(&client, "users", 9, OnOutage::Open);
    let addresses = limiter(&client, "addresses", 9, OnOutage::Closed);
    // The engine knows the scripts then.
    let first = set(&users, &addresses).check().await.unwrap().decision;
    assert!(first.receipt().unwrap().refund().await.unwrap());
    backend.set(Rule::new(Injection::HangBefore).on_part(DOWN));
    backend.add(Rule::new(Injection::HangBefore).on_part("{alice}").skip(1));
    let start = Instant::now();
    let denied = set(&users, &addresses).check().await.unwrap().decision;
    assert_eq!(
        (denied.is_allowed(), denied.decided_by()),
        (false, DecidedBy::Closed)
    );
    assert!(
        start.elapsed() <= Duration::from_millis(101),
        "{:?}",
        start.elapsed()
    );
    backend.clear();
    sleep(Duration::from_secs(5)).await;
    let left = users.peek("alice").await.unwrap().remaining();
    assert_eq!(left, 9, "given back in the background");
}

/// A limiter's keys lie on all shards.
#[tokio::test(start_paused = true)]
async fn an_outage_of_one_shard_is_told_once_and_not_with_each_call() {
    let said = Arc::new(Said::default());
    let _listening = listen(&said);
    let count = || [&said.begun, &said.ended].map(|count| count.swap(0, Ordering::Relaxed));
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let users = limiter(&client, "users", 1000, OnOutage::Open);
    let addresses = limiter(&client, "addresses", 1000, OnOutage::Open);
    backend.set(Rule::new(Injection::NotSent).on_part(DOWN));
    for _ in 0..100 {
        for key in ["192.0.2.7", "alice"] {
            assert!(users.check(key).await.unwrap().is_allowed());
            sleep(Duration::from_millis(10)).await;
        }
    }
    assert_eq!(count(), [1, 0]);
    sleep(Duration::from_secs(5)).await;
    assert!(users.check("alice").await.unwrap().is_allowed());
    assert_eq!(count(), [0, 1], "no call has met a fault for a while");
    for _ in 0..10 {
        let decided = set(&users, &addresses).check().await.unwrap();
        assert!(decided.decision.is_allowed());
    }
    assert_eq!(count(), [1, 0], "it is an outage of one of the two");
}

#[test]
fn units_that_cannot_be_given_back_at_all_are_counted() {
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let backend = FaultyBackend::embedded();
            let client = backend.client();
            let users = limiter(&client, "users", 9, OnOutage::Open);
            let addresses = limiter(&client, "addresses", 9, OnOutage::Closed);
            let first = set(&users, &addresses).check().await.unwrap().decision;
            assert!(first.receipt().unwrap().refund().await.unwrap());
            backend.set(Rule::new(Injection::NotSent).on_part(DOWN));
            backend.add(Rule::new(Injection::NotSent).on_part("{alice}").skip(1));
            let denied = set(&users, &addresses).check().await.unwrap().decision;
            assert!(!denied.is_allowed());
            // The units are back by themselves then.
            sleep(Duration::from_secs(2 * 3600)).await;
        });
    });
    let lost: Vec<_> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .filter(|(key, ..)| key.key().name() == "redkit_ratelimit_releases_lost_total")
        .map(|(key, _, _, value)| {
            let limiter = key
                .key()
                .labels()
                .next()
                .map(|label| label.value().to_owned());
            (limiter.unwrap_or_default(), value)
        })
        .filter(|(_, value)| *value != metrics_util::debugging::DebugValue::Counter(0))
        .collect();
    let one = metrics_util::debugging::DebugValue::Counter(1);
    assert_eq!(lost, [("users".to_owned(), one)]);
}
