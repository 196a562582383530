//! `redkit limits`.

use std::time::Duration;

use redkit_ratelimit::{Algorithm, ConcurrencyLimiter, Policy, Quota, RateLimiter};

use crate::engine;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_up_is_listed_explained_and_given_back() {
    let engine = engine().await;
    let policies = [
        ("fixed", Policy::fixed_window(Quota::per_hour(5))),
        ("counter", Policy::sliding_counter(Quota::per_hour(5))),
        ("log", Policy::sliding_log(Quota::per_hour(5))),
        ("bucketed", Policy::bucketed(Quota::per_hour(5))),
        ("gcra", Policy::gcra(Quota::per_hour(5))),
        (
            "leaky",
            Policy::leaky(Quota::per_hour(5).burst(5), Duration::from_secs(1)),
        ),
    ];
    for (word, policy) in policies {
        let limiter = RateLimiter::builder(&engine.client, word)
            .policy(policy)
            .deny_cache(0)
            .build()
            .unwrap();
        for _ in 0..5 {
            assert!(limiter.check("alice").await.unwrap().is_allowed(), "{word}");
        }
        assert!(
            !limiter.check("alice").await.unwrap().is_allowed(),
            "{word}"
        );

        let shown = engine
            .json(&["limits", "inspect", word, "alice", "--quota", "5/1h"])
            .await;
        let row = &shown["limits"][0];
        assert_eq!(row["algorithm"], word);
        let is_rate = matches!(word, "gcra" | "leaky");
        assert_eq!(
            row["used"],
            if is_rate {
                serde_json::Value::Null
            } else {
                5.into()
            },
            "{word}"
        );
        assert!(row["resets_in_seconds"].as_f64().unwrap() > 0.0);
        let decision = &shown["decision"];
        assert_eq!(
            (&decision["is_allowed"], &decision["remaining"]),
            (&false.into(), &0.into()),
            "{word}"
        );
        assert!(
            decision["retry_after_seconds"].as_f64().unwrap() > 0.0,
            "{word}"
        );

        let reset = ["limits", "reset", word, "alice"];
        engine
            .redkit(&reset)
            .await
            .failed(2, "no terminal", "--yes");
        assert!(!limiter.peek("alice").await.unwrap().is_allowed(), "{word}");
        engine.json(&[&reset[..], &["--yes"]].concat()).await;
        assert!(limiter.check("alice").await.unwrap().is_allowed(), "{word}");
    }
    let listed = engine.json(&["limits", "list"]).await;
    assert_eq!(listed["limits"].as_array().unwrap().len(), 6, "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_a_policy_with_a_name_is_explained_and_given_back() {
    let engine = engine().await;
    let tiers = RateLimiter::builder(&engine.client, "auth.login")
        .policy(Policy::fixed_window(Quota::per_hour(5)).named("hour"))
        .policy(Policy::fixed_window(Quota::per_day(50)).named("day"))
        .deny_cache(0)
        .build()
        .unwrap();
    assert!(tiers.check_n("alice", 5).await.unwrap().is_allowed());
    assert!(!tiers.check("alice").await.unwrap().is_allowed());

    let listed = engine.json(&["limits", "list"]).await;
    let rows = listed["limits"].as_array().unwrap();
    let names: Vec<_> = rows
        .iter()
        .map(|row| row["limit"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"auth.login..hour") && names.contains(&"auth.login..day"),
        "{names:?}"
    );

    let hour = ["auth.login..hour", "alice"];
    let shown = engine
        .json(&[&["limits", "inspect"], &hour[..], &["--quota", "5/1h"]].concat())
        .await;
    assert_eq!(shown["limits"][0]["used"], 5);
    assert_eq!(shown["decision"]["remaining"], 0);
    engine
        .json(&[&["limits", "reset"], &hour[..], &["--yes"]].concat())
        .await;
    let left = tiers.peek("alice").await.unwrap();
    let left: Vec<_> = left.verdicts().iter().map(|one| one.remaining()).collect();
    assert_eq!(left, [5, 45]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_and_places_are_listed_and_places_stay() {
    let engine = engine().await;
    let policy = Policy::fixed_window(Quota::per_hour(5));
    let api = RateLimiter::builder(&engine.client, "api")
        .policy(policy)
        .build()
        .unwrap();
    assert!(
        api.tagged("tenant-1")
            .check_n("alice", 5)
            .await
            .unwrap()
            .is_allowed()
    );
    let exports = ConcurrencyLimiter::builder(&engine.client, "exports")
        .limit(2)
        .build()
        .unwrap();
    let _permit = exports.try_acquire("alice").await.unwrap().unwrap();

    let listed = engine.json(&["limits", "list"]).await;
    let rows = listed["limits"].as_array().unwrap();
    let of = |limit: &str| rows.iter().find(|row| row["limit"] == limit).unwrap();
    assert_eq!(
        (&of("api")["tag"], &of("api")["used"]),
        (&"tenant-1".into(), &5.into())
    );
    assert_eq!(
        (&of("exports")["algorithm"], &of("exports")["used"]),
        (&"concurrency".into(), &1.into())
    );

    let places = engine
        .redkit(&["limits", "reset", "exports", "alice", "--yes"])
        .await;
    places.failed(1, "held by programs", "limits list");
    let untagged = engine
        .redkit(&["limits", "reset", "api", "alice", "--yes"])
        .await;
    untagged.failed(1, "nothing is used up", "limits list");
    engine
        .json(&[
            "limits", "reset", "api", "alice", "--tag", "tenant-1", "--yes",
        ])
        .await;
    assert!(
        api.tagged("tenant-1")
            .check_n("alice", 5)
            .await
            .unwrap()
            .is_allowed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_used_keys_are_shown_however_many_there_are() {
    let engine = engine().await;
    let fixed = Policy::fixed_window(Quota::per_hour(9));
    let gcra = Policy::gcra(Quota::per_hour(9));
    for (name, policy) in [("fixed", fixed), ("gcra", gcra)] {
        let limiter = RateLimiter::builder(&engine.client, name)
            .policy(policy)
            .build()
            .unwrap();
        for n in 0..200 {
            let cost = if n == 123 { 5 } else { 1 };
            let key = format!("user-{n}");
            assert!(limiter.check_n(key, cost).await.unwrap().is_allowed());
        }
        let listed = engine.json(&["limits", "list", name, "--limit", "1"]).await;
        assert_eq!(listed["limits"][0]["key"], "user-123", "{listed}");
        assert_eq!(listed["is_complete"], false);
        let shown = engine
            .redkit(&["limits", "list", name, "--limit", "1"])
            .await;
        assert!(shown.err.contains("199 more"), "{shown:?}");
    }
    let all = engine.json(&["limits", "list"]).await;
    assert_eq!(all["is_complete"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_and_waits_are_those_of_the_programs_or_refused() {
    let engine = engine().await;
    let sixty = Algorithm::Bucketed { slices: 60 };
    let bucketed = RateLimiter::builder(&engine.client, "bucketed")
        .policy(Policy::new(sixty, Quota::per_minute(5)))
        .build()
        .unwrap();
    assert!(bucketed.check_n("alice", 5).await.unwrap().is_allowed());
    let inspect = ["limits", "inspect", "bucketed", "alice", "--quota", "5/1m"];
    let with = |more: &[&'static str]| [&inspect[..], more].concat();
    for wrong in [&[][..], &["--slices", "2"]] {
        let refused = engine.redkit(&with(wrong)).await;
        refused.failed(2, "windows of another length", "--slices");
    }
    let shown = engine.json(&with(&["--slices", "60"])).await;
    assert_eq!(shown["decision"]["is_allowed"], false, "{shown}");
    let retry = shown["decision"]["retry_after_seconds"].as_f64().unwrap();
    assert!(retry > 0.0 && retry <= 61.0, "{shown}");

    // Slices that are no whole number of microseconds.
    let seven = Policy::new(Algorithm::Bucketed { slices: 7 }, Quota::per_minute(5));
    let sevenths = RateLimiter::builder(&engine.client, "sevenths").policy(seven);
    let sevenths = sevenths.build().unwrap();
    assert!(sevenths.check_n("alice", 5).await.unwrap().is_allowed());
    let inspect = [
        "limits", "inspect", "sevenths", "alice", "--quota", "5/1m", "--slices", "7",
    ];
    let shown = engine.json(&inspect).await;
    assert_eq!(shown["decision"]["is_allowed"], false, "{shown}");

    let leaky = Policy::leaky(Quota::per_minute(5).burst(1), Duration::from_secs(60));
    let leaky = RateLimiter::builder(&engine.client, "leaky")
        .policy(leaky)
        .build()
        .unwrap();
    assert!(leaky.check("alice").await.unwrap().is_allowed());
    let inspect = [
        "limits", "inspect", "leaky", "alice", "--quota", "5/1m", "--burst", "1",
    ];
    let shown = engine
        .json(&[&inspect[..], &["--max-wait", "60s"]].concat())
        .await;
    assert_eq!(shown["decision"]["is_allowed"], true, "{shown}");
}
