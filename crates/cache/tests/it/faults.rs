//! When Redis is down, pages are still served: every value is loaded, and an outage is not made
//! worse.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redkit_cache::{Cache, Error, Loaded, Source};
use redkit_core::{Client, ClientConfig};
use redkit_testkit::{Server, ServerOptions};

async fn client(server: &Server) -> Client {
    let config = ClientConfig::from_url(&server.url())
        .unwrap()
        .command_timeout(Duration::from_millis(200));
    Client::connect(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_is_bypassed_once_per_key_and_process() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let client = client(&server).await;
    let numbers: Cache<u64> = Cache::builder(&client, "numbers")
        .ttl(Duration::from_secs(60))
        .build()
        .unwrap();
    numbers.set("k", &1).await.unwrap();
    server.stop().unwrap();

    let loads = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let (numbers, loads) = (numbers.clone(), Arc::clone(&loads));
            tokio::spawn(async move {
                let load = || async move {
                    loads.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Ok::<_, std::io::Error>(2)
                };
                numbers.get_or_load("k", load).await
            })
        })
        .collect();
    for task in tasks {
        let got = task.await.unwrap().unwrap();
        assert_eq!((*got, got.source()), (2, Source::Bypassed));
    }
    // Those who come while a load is running share the next: an invalidation may have been
    // acknowledged to them that Redis could not tell of.
    let loads = loads.load(Ordering::SeqCst);
    assert!((1..=2).contains(&loads), "{loads} loads for all");
    // One look that times out, then the loads: an outage costs one timeout, not two.
    assert!(
        start.elapsed() < Duration::from_millis(900),
        "{:?}",
        start.elapsed()
    );
    assert!(matches!(numbers.get("k").await, Err(Error::Core(error)) if error.is_retryable()));

    server.cont().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let got = numbers
            .get_or_load("k", || async { Ok::<_, std::io::Error>(3) })
            .await
            .unwrap();
        if got.source() == Source::Redis {
            assert_eq!(
                *got, 1,
                "what was loaded past the cache did not overwrite it"
            );
            break;
        }
        assert!(Instant::now() < deadline, "the cache is not used again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client.shutdown().await;
}

#[tokio::test]
async fn a_server_without_memory_still_takes_invalidations() {
    let options = ServerOptions::new().config("maxmemory-policy noeviction");
    let server = Server::redis(options).await.unwrap();
    let client = client(&server).await;
    let numbers: Cache<u64> = Cache::builder(&client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(Duration::from_secs(60))
        .build()
        .unwrap();
    for key in ["entry", "tag", "clear"] {
        let tagged = Loaded::new(1).tags([key]);
        numbers.set_with(key, tagged).await.unwrap();
    }
    let limit = server.raw(&["CONFIG", "SET", "maxmemory", "100kb"]);
    assert!(!limit.await.unwrap().is_error());
    assert!(numbers.set("more", &1).await.is_err(), "there is no room");
    assert!(numbers.invalidate("entry").await.unwrap());
    numbers.invalidate_tag("tag").await.unwrap();
    assert!(numbers.get("tag").await.unwrap().is_none());
    assert_eq!(numbers.get("clear").await.unwrap().as_deref(), Some(&1));
    numbers.clear().await.unwrap();
    assert!(numbers.get("clear").await.unwrap().is_none());
    client.shutdown().await;
}
