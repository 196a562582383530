//! Callers that wait for another process's load, and what wakes them.

use std::convert::Infallible;
use std::time::Duration;

use redkit_cache::{Cache, Source};
use redkit_core::{Client, GapReason, Interest, Push};
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
