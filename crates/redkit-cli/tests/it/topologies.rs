//! The program on every kind of server that programs use: Redis, Valkey, TLS, sentinels, a cluster. The rest of the
//! tests run on an engine, or on one Redis.

use std::time::Duration;

use redkit_lock::LockManager;
use redkit_pubsub::topic::Topic;
use redkit_ratelimit::{Policy, Quota, RateLimiter};
use redkit_testkit::Fixture;
use serde_json::Value;

use crate::{ended, program};

/// Runs the program as the fixture's clients are configured.
async fn json(fixture: &Fixture, args: &[&str]) -> Value {
    let mut command = program(&[&["--json"], args].concat());
    command
        .env("REDIS_URL", fixture.url())
        .env("REDKIT_NAMESPACE", fixture.client.namespace());
    if let Some(tls) = fixture.server().and_then(|server| server.tls()) {
        command.env("REDKIT_TLS_CA_FILE", &tls.ca_file);
    }
    ended(command).await.json()
}

redkit_testkit::suite! {
    async fn locks_topics_limits_and_keys_are_found_and_acted_on(fixture: Fixture) {
        if fixture.url().starts_with("embedded") {
            // The program runs in a process of its own: the other tests give it an engine on a port.
            return;
        }
        let client = &fixture.client;
        let locks = LockManager::builder(client, "orders").build().unwrap();
        let mut held = Vec::new();
        for key in ["a", "b", "c", "d", "e"] {
            held.push(locks.acquire(key, Duration::from_secs(5)).await.unwrap());
        }
        let listed = json(&fixture, &["locks", "list", "orders"]).await;
        assert_eq!(listed["locks"].as_array().unwrap().len(), 5, "{listed}");
        let fence = held[0].fence().get().to_string();
        let release = ["locks", "force-release", "orders", "a", "--fence", &fence, "--yes"];
        assert_eq!(json(&fixture, &release).await["released"], true);
        assert!(locks.inspect("a").await.unwrap().is_none());

        let topic: Topic<String> = Topic::builder(client, "mail").partitions(4).build().unwrap();
        for n in 0..8 {
            topic.publish(&format!("letter {n}")).await.unwrap();
        }
        let listed = json(&fixture, &["topics", "list", "mail"]).await;
        assert_eq!(listed["topics"][0]["name"], "mail", "{listed}");

        let limiter = RateLimiter::builder(client, "api").policy(Policy::gcra(Quota::per_minute(2).burst(2))).build().unwrap();
        for _ in 0..3 {
            let _ = limiter.check("alice").await.unwrap();
        }
        let listed = json(&fixture, &["limits", "list"]).await;
        assert!(listed.to_string().contains("alice"), "{listed}");

        let keys = json(&fixture, &["keys"]).await;
        assert_eq!(keys["is_complete"], true, "{keys}");
        assert!(keys["scanned"].as_u64().unwrap() >= 9, "{keys}");
        let watch = json(&fixture, &["watch", "--count", "1", "--interval", "200ms"]).await;
        assert!(watch.is_object(), "{watch}");
    }
}
