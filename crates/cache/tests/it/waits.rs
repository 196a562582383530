//! Callers that wait for another process's load, and what wakes them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use redkit_cache::{Cache, Source};
use redkit_core::{Client, GapReason, Interest, Push};
use redkit_embedded::Embedded;
use redkit_testkit::{FaultyBackend, Injection, Rule};
use tokio::time::{Instant, sleep};

const MINUTE: Duration = Duration::from_secs(60);
const LOAD: Duration = Duration::from_secs(7);

fn cache(client: &Client) -> Cache<u32> {
    Cache::builder(client, "numbers")
        .ttl(MINUTE)
        .lease(MINUTE)
        .load_timeout(MINUTE)
        .build()
        .unwrap()
}

/// Begins a load in one process, and gives how long after its end a caller in another has the value.
async fn told_after(elsewhere: &Cache<u32>, here: &Cache<u32>) -> Duration {
    let begun = Instant::now();
    let loads = {
        let elsewhere = elsewhere.clone();
        tokio::spawn(async move {
            let load = async || {
                sleep(LOAD).await;
                Ok::<_, Infallible>(1)
            };
            elsewhere.get_or_load("k", load).await.unwrap();
        })
    };
    sleep(Duration::from_millis(5)).await;
    let never = async || -> Result<u32, Infallible> { panic!("the other process loads") };
    let value = here.get_or_load("k", never).await.unwrap();
    assert_eq!((*value, value.source()), (1, Source::Shared));
    loads.await.unwrap();
    begun.elapsed() - LOAD
}

#[tokio::test(start_paused = true)]
async fn a_caller_is_woken_when_another_process_has_loaded() {
    let backend = FaultyBackend::embedded();
    let after = told_after(&cache(&backend.client()), &cache(&backend.client())).await;
    assert!(after < Duration::from_millis(2), "{after:?}");
}

/// No message is heard then, and nobody may sleep until the lease of the other has passed.
#[tokio::test(start_paused = true)]
async fn a_caller_asks_while_the_subscription_is_lost() {
    let backend = FaultyBackend::embedded();
    backend.take_over(|interest| matches!(interest, Interest::Channels(names) if names.iter().any(|name| name.ends_with(b":wake"))));
    let (elsewhere, here) = (cache(&backend.client()), cache(&backend.client()));
    let lost = tokio::spawn({
        let backend = backend.clone();
        async move {
            sleep(LOAD / 2).await;
            assert_eq!(backend.push(&Push::Gap(GapReason::Lost)), 1);
        }
    });
    let after = told_after(&elsewhere, &here).await;
    assert!(after <= Duration::from_millis(60), "{after:?}");
    lost.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_may_not_subscribe_asks() {
    let backend = FaultyBackend::embedded();
    backend.set(Rule::new(Injection::Refuse("NOPERM", "no channels for you")).on_name("SUBSCRIBE"));
    let after = told_after(&cache(&backend.client()), &cache(&backend.client())).await;
    assert!(after <= Duration::from_millis(60), "{after:?}");
}

/// A caller in another process waits for as long as the loader needs, and is not let in when the first
/// lease would have run out.
#[tokio::test(start_paused = true)]
async fn the_lease_of_a_load_is_renewed_while_it_runs() {
    let backend = FaultyBackend::embedded();
    let [elsewhere, here] = [(); 2].map(|()| {
        Cache::builder(&backend.client(), "numbers")
            .ttl(MINUTE)
            .lease(Duration::from_secs(1))
            .build()
            .unwrap()
    });
    let after = told_after(&elsewhere, &here).await;
    assert!(after < Duration::from_millis(2), "{after:?}");
}

/// Processes died one after the other while they loaded, so that in each turn one more lease is free.
#[tokio::test(start_paused = true)]
async fn a_bulk_load_waits_no_longer_for_others_because_it_loads_meanwhile() {
    let (keys, lease, step) = (0..12_u32, LOAD * 2, Duration::from_millis(500));
    let engine = Arc::new(Embedded::new());
    let builder = |client: &Client| {
        Cache::<u32>::builder(client, "numbers")
            .ttl(MINUTE)
            .load_timeout(MINUTE)
            .lease(lease)
    };
    let first = Instant::now() + lease;
    let mut dead = Vec::new();
    for key in keys.clone() {
        let backend = FaultyBackend::new(engine.clone());
        let cache = builder(&backend.client()).build().unwrap();
        dead.push(tokio::spawn(async move {
            let never = async || {
                sleep(10 * MINUTE).await;
                Ok::<_, Infallible>(0)
            };
            drop(cache.get_or_load(key, never).await);
        }));
        sleep(step).await;
        backend.set(Rule::new(Injection::LoseRequest));
    }
    // Until the second of these leases has run out.
    let wait = first + step * 3 / 2 - Instant::now();
    let ours = builder(&FaultyBackend::new(engine).client())
        .wait_timeout(wait)
        .build()
        .unwrap();
    let loader = move |keys: Vec<u32>| async move {
        sleep(step).await;
        let loaded = keys.into_iter().map(|key| (key, key));
        Ok::<HashMap<_, _>, Infallible>(loaded.collect())
    };
    let start = Instant::now();
    for (key, got) in keys.clone().zip(ours.get_many_or_load(keys, loader).await) {
        assert_eq!(got.unwrap().as_deref(), Some(&key));
    }
    let waited = start.elapsed();
    assert!(waited < wait + 3 * step, "{waited:?} for {wait:?}");
}

/// The write has begun at the server, and the reply is on its way.
#[tokio::test(start_paused = true)]
async fn a_write_whose_caller_goes_away_before_it_has_begun_is_not_waited_for() {
    let backend = FaultyBackend::embedded();
    let lease = MINUTE;
    let cache = Cache::<u32>::builder(&backend.client(), "numbers")
        .ttl(MINUTE)
        .lease(lease)
        .wait_timeout(2 * lease)
        .redis_timeout(MINUTE)
        .build()
        .unwrap();
    let write = || async { Ok::<_, Infallible>(1) };
    // From now on the server knows the scripts.
    cache.write_through("other", write).await.unwrap();
    let late = Duration::from_millis(500);
    backend.set(Rule::new(Injection::DelayReply(late)).times(1));
    let leaves = tokio::time::timeout(late / 2, cache.write_through("k", write));
    leaves.await.expect_err("the reply is on its way");
    let start = Instant::now();
    let got = cache.get_or_load("k", write).await.unwrap();
    assert_eq!((*got, got.source()), (1, Source::Loaded));
    let waited = start.elapsed();
    assert!(waited < lease / 2, "{waited:?}");
}
