//! The level beside an engine on which the test decides what is told of changed keys.

use std::sync::Arc;
use std::time::Duration;

use redkit_cache::{Cache, L1, Loaded};
use redkit_core::{ClientConfig, Command, GapReason, Interest, Push, Topology};
use redkit_testkit::FaultyBackend;
use tokio::time::{sleep, timeout};

const MINUTE: Duration = Duration::from_secs(60);

/// An engine of which no client is told what has changed, unless the test does it.
fn told_by_the_test() -> Arc<FaultyBackend> {
    let backend = FaultyBackend::embedded();
    backend.take_over(|interest| matches!(interest, Interest::Invalidations { .. }));
    backend
}

async fn is_kept(cache: &Cache<u64>, key: &str) -> bool {
    let before = cache.stats().l1_hits;
    cache.get(key).await.unwrap();
    cache.stats().l1_hits > before
}

async fn warm(cache: &Cache<u64>, key: &str) {
    let warm = async {
        while !is_kept(cache, key).await {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(MINUTE, warm).await.expect("it is kept");
}

#[tokio::test(start_paused = true)]
async fn each_gap_in_the_servers_messages_is_heeded() {
    let backend = told_by_the_test();
    let client = backend.client_with(&ClientConfig::default());
    // Nothing that is asked of Redis in the meantime has a part in it.
    let l1 = L1::entries(100).ttl(100 * MINUTE).bound(60 * MINUTE);
    let cache: Cache<u64> = Cache::builder(&client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(100 * MINUTE)
        .l1(l1.tracked())
        .build()
        .unwrap();
    let key = client.keyspace("cache", "numbers").unwrap().key("k");
    let delete = || client.call::<i64>(Command::new("DEL").key(&key));
    let pause = || sleep(Duration::from_millis(50));

    for push in [
        Push::Invalidate(None),
        Push::Gap(GapReason::Lagged(1)),
        Push::Gap(GapReason::Reconnected),
    ] {
        cache.set("k", &1).await.unwrap();
        warm(&cache, "k").await;
        delete().await.unwrap();
        pause().await;
        assert!(is_kept(&cache, "k").await, "it was not told");
        assert_eq!(backend.push(&push), 1);
        pause().await;
        assert!(cache.get("k").await.unwrap().is_none(), "{push:?}");
    }

    cache.set("k", &1).await.unwrap();
    warm(&cache, "k").await;
    assert_eq!(backend.push(&Push::Gap(GapReason::Lost)), 1);
    pause().await;
    for _ in 0..100 {
        assert!(
            !is_kept(&cache, "k").await,
            "the cache may not be told of everything"
        );
        pause().await;
    }
    delete().await.unwrap();
    assert_eq!(backend.push(&Push::Gap(GapReason::Reconnected)), 1);
    cache.set("other", &2).await.unwrap();
    warm(&cache, "other").await;
    let now = cache.get("k").await.unwrap();
    assert!(now.is_none(), "it was read while nothing was told");
}

#[tokio::test(start_paused = true)]
async fn reads_of_several_keys_go_to_masters_alone() {
    // On a cluster whose replicas may be read, those answer what is sent alone and only reads.
    let backend = told_by_the_test();
    backend.set_topology(Topology::Cluster);
    let client = backend.client_with(&ClientConfig::default());
    let cache: Cache<u64> = Cache::builder(&client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(MINUTE)
        .l1(L1::entries(100))
        .build()
        .unwrap();
    let graced = || Loaded::new(1).stale_for(MINUTE).tags(["t"]);
    cache.set_with("k", graced()).await.unwrap();
    warm(&cache, "k").await;
    let plain: Cache<u64> = Cache::builder(&client, "plain")
        .redis_timeout(crate::PATIENT)
        .ttl(MINUTE)
        .build()
        .unwrap();
    plain.set_with("k", graced()).await.unwrap();
    assert_eq!(plain.get("k").await.unwrap().as_deref(), Some(&1));
    let load = || async { Ok::<_, std::io::Error>(2) };
    plain.get_or_load("other", load).await.unwrap();
    sleep(MINUTE / 2).await;
    // Subscriptions are noted among the commands.
    let mut alone = backend.seen_alone();
    alone.retain(|command| !["SUBSCRIBE", "TRACKING"].contains(&command.name()));
    let (scripts, others): (Vec<_>, Vec<_>) = alone
        .iter()
        .partition(|command| command.name().starts_with("EVAL"));
    assert!(scripts.len() > 3, "it was asked now and then");
    assert!(others.is_empty(), "{others:?}");
}
