//! Single flight and fences between processes: each client here stands for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redkit_cache::{Cache, CacheBuilder, Error, Loaded, Source};
use redkit_core::Command;
use redkit_testkit::Fixture;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Instant;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("product {0} is not in the database")]
struct NotThere(u32);

fn numbers(client: &redkit_core::Client) -> CacheBuilder<u64> {
    Cache::builder(client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(Duration::from_secs(60))
        .load_timeout(Duration::from_secs(20))
}

async fn two(fixture: &Fixture) -> (Cache<u64>, Cache<u64>) {
    let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
    let build = |client| numbers(client).build().unwrap();
    (build(&fixture.client), build(&other))
}

/// A load that has begun and waits to be told its end.
struct Held {
    go: oneshot::Sender<Result<u64, NotThere>>,
    caller: tokio::task::JoinHandle<Result<redkit_cache::Fetched<u64>, Error>>,
}

async fn hold(cache: &Cache<u64>, key: &'static str) -> Held {
    let (began, begins) = oneshot::channel();
    let (go, told) = oneshot::channel();
    let cache = cache.clone();
    let caller = tokio::spawn(async move {
        let load = || async move {
            began.send(()).unwrap();
            told.await.unwrap()
        };
        cache.get_or_load(key, load).await
    });
    begins.await.unwrap();
    Held { go, caller }
}

redkit_testkit::suite! {
    #[multi_thread]
    async fn one_process_loads_and_the_others_wait_for_it(fixture: Fixture) -> Result<(), Error> {
        let (a, b) = two(&fixture).await;
        for round in 0..5_u64 {
            let loads = Arc::new(AtomicU64::new(0));
            let tasks: Vec<_> = (0..64)
                .map(|i| {
                    let (cache, loads) = (if i % 2 == 0 { a.clone() } else { b.clone() }, Arc::clone(&loads));
                    tokio::spawn(async move {
                        let load = || async move {
                            loads.fetch_add(1, Ordering::SeqCst);
                            tokio::time::sleep(Duration::from_millis(50)).await;
                            Ok::<_, NotThere>(round)
                        };
                        cache.get_or_load(round, load).await
                    })
                })
                .collect();
            for task in tasks {
                assert_eq!(*task.await.unwrap()?, round);
            }
            assert_eq!(loads.load(Ordering::SeqCst), 1, "round {round}");
        }
        assert!(a.stats().waits + b.stats().waits > 0, "somebody waited for another process");
        Ok(())
    }

    async fn a_load_that_another_process_invalidates_is_not_kept(fixture: Fixture) -> Result<(), Error> {
        let (a, b) = two(&fixture).await;
        let old = hold(&a, "k").await;
        b.invalidate("k").await?;
        old.go.send(Ok(1)).unwrap();
        assert_eq!(*old.caller.await.unwrap()?, 1, "who asked before gets what was read before");
        assert!(a.get("k").await?.is_none(), "the lease did not stand");
        assert_eq!(a.stats().fenced, 1);
        Ok(())
    }

    async fn a_value_that_another_process_sets_during_a_load_is_not_replaced(fixture: Fixture) -> Result<(), Error> {
        let (a, b) = two(&fixture).await;
        let old = hold(&a, "k").await;
        b.set("k", &2).await?;
        old.go.send(Ok(1)).unwrap();
        old.caller.await.unwrap()?;
        assert_eq!(a.get("k").await?.as_deref(), Some(&2));
        Ok(())
    }

    async fn a_caller_after_another_processs_invalidation_does_not_share_the_older_load(fixture: Fixture) -> Result<(), Error> {
        let (a, b) = two(&fixture).await;
        let old = hold(&a, "k").await;
        b.invalidate("k").await?;
        // This process was not told of the invalidation, and sees that the lease of its load is gone.
        let late = a.get_or_load("k", || async { Ok::<_, NotThere>(2) });
        assert_eq!(*late.await?, 2, "a value read before the invalidation is too old for it");
        old.go.send(Ok(1)).unwrap();
        assert_eq!(*old.caller.await.unwrap()?, 1);
        assert_eq!(b.get("k").await?.as_deref(), Some(&2));
        Ok(())
    }

    async fn a_failed_load_lets_the_next_process_try(fixture: Fixture) -> Result<(), Error> {
        let (a, b) = two(&fixture).await;
        let failing = hold(&a, "k").await;
        let waiting = b.get_or_load("k", || async { Ok::<_, NotThere>(2) });
        let (got, ()) = tokio::join!(waiting, async {
            while b.stats().waits == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            failing.go.send(Err(NotThere(7))).unwrap();
        });
        let got = got?;
        assert_eq!((*got, got.source()), (2, Source::Loaded));
        assert_eq!(failing.caller.await.unwrap().unwrap_err().load_error(), Some(&NotThere(7)));
        Ok(())
    }

    async fn a_shared_error_reaches_callers_that_wait_in_other_processes(fixture: Fixture) -> Result<(), Error> {
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let build = |client| numbers(client).share_errors::<NotThere>().build().unwrap();
        let (a, b) = (build(&fixture.client), build(&other));
        let failing = hold(&a, "k").await;
        let waiting = b.get_or_load("k", || async { Ok::<_, NotThere>(2) });
        let (got, ()) = tokio::join!(waiting, async {
            while b.stats().waits == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            failing.go.send(Err(NotThere(7))).unwrap();
        });
        assert_eq!(got.unwrap_err().load_error(), Some(&NotThere(7)), "typed, as in its own process");
        assert_eq!((b.stats().loads, b.stats().load_failures), (0, 0), "one load for both");
        let after = b.get_or_load("k", || async { Ok::<_, NotThere>(3) }).await?;
        assert_eq!(*after, 3, "and it was not kept");
        Ok(())
    }

    async fn a_dead_process_is_waited_for_until_its_lease_ends(fixture: Fixture) -> Result<(), Error> {
        let (a, _) = two(&fixture).await;
        let lease = fixture.client.keyspace("cache", "numbers")?.role_key("k", "lease");
        let dead = Command::new("SET").key(&lease).arg("ldead").arg("PX").arg(300);
        fixture.client.call::<()>(dead).await?;
        let start = Instant::now();
        let got = a.get_or_load("k", || async { Ok::<_, NotThere>(1) }).await?;
        assert_eq!((*got, got.source()), (1, Source::Loaded));
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(250), "the lease was respected: {took:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(a.get("k").await?.as_deref(), Some(&1), "and it was kept");
        Ok(())
    }

    async fn a_lease_is_renewed_while_the_load_runs(fixture: Fixture) -> Result<(), Error> {
        let cache = numbers(&fixture.client).lease(Duration::from_secs(1)).build()?;
        let slow = || async {
            tokio::time::sleep(Duration::from_millis(2500)).await;
            Ok::<_, NotThere>(1)
        };
        cache.get_or_load("k", slow).await?;
        assert_eq!(cache.stats().fenced, 0);
        assert_eq!(cache.get("k").await?.as_deref(), Some(&1), "the lease stood to the end");
        Ok(())
    }

    async fn a_caller_that_has_waited_for_wait_timeout_loads_and_does_not_keep_the_value(fixture: Fixture) -> Result<(), Error> {
        let (a, _) = two(&fixture).await;
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let b = numbers(&other).wait_timeout(Duration::from_millis(200)).build()?;
        let slow = hold(&a, "k").await;
        let got = b.get_or_load("k", || async { Ok::<_, NotThere>(2) }).await?;
        assert_eq!((*got, got.source()), (2, Source::Loaded));
        slow.go.send(Ok(1)).unwrap();
        slow.caller.await.unwrap()?;
        assert_eq!(b.get("k").await?.as_deref(), Some(&1), "the lease was never lost");
        Ok(())
    }

    async fn an_older_version_never_replaces_a_newer_one(fixture: Fixture) -> Result<(), Error> {
        let (a, b) = two(&fixture).await;
        // Beyond what a double holds: the comparison is exact.
        let (older, newer) = (u64::MAX - 1, u64::MAX);
        assert!(a.set_with("k", Loaded::new(2).version(newer)).await?);
        assert!(!b.set_with("k", Loaded::new(1).version(older)).await?);
        assert!(!b.set_with("k", Loaded::new(1).version(9)).await?);
        assert_eq!(a.get("k").await?.as_deref(), Some(&2));
        assert!(b.set_with("k", Loaded::new(3).version(newer)).await?, "the same version may");

        // A load that read an older version gives what is there.
        let raced = numbers(&fixture.client).stale_for(Duration::from_secs(60)).build()?;
        raced.set_with("s", Loaded::new(5).version(5).ttl(Duration::from_millis(20))).await?;
        tokio::time::sleep(Duration::from_millis(60)).await;
        let load = || async { Ok::<_, NotThere>(Loaded::new(4).version(4)) };
        let got = raced.get_or_load("s", load).await?;
        assert_eq!(*got, 4, "the newer one is stale, so there is nothing better");
        let got = raced.get_or_load("s", || async { Ok::<_, NotThere>(Loaded::new(6).version(6)) }).await?;
        assert_eq!(*got, 6);
        assert_eq!(raced.get("s").await?.as_deref(), Some(&6));
        Ok(())
    }
}
