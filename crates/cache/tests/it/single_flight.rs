//! Single flight: one load per key in the process, its value or error shared, whoever goes away;
//! and nothing read before an invalidation is kept after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redkit_cache::{Cache, Error, Source};
use redkit_testkit::Fixture;
use tokio::sync::{Notify, oneshot};

#[derive(Debug, thiserror::Error, PartialEq)]
#[error("the database is on fire")]
struct OnFire;

fn numbers(fixture: &Fixture) -> Cache<u64> {
    Cache::builder(&fixture.client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(Duration::from_secs(60))
        .load_timeout(Duration::from_secs(5))
        .build()
        .unwrap()
}

redkit_testkit::suite! {
    #[multi_thread]
    async fn many_callers_on_one_cold_key_load_once(fixture: Fixture) -> Result<(), Error> {
        let numbers = numbers(&fixture);
        for round in 0..20_u64 {
            let loads = Arc::new(AtomicU64::new(0));
            let tasks: Vec<_> = (0..128)
                .map(|_| {
                    let (numbers, loads) = (numbers.clone(), Arc::clone(&loads));
                    tokio::spawn(async move {
                        // No pause in the loader: the next flight may begin as soon as it likes.
                        let load = || async move {
                            loads.fetch_add(1, Ordering::SeqCst);
                            Ok::<_, OnFire>(round)
                        };
                        numbers.get_or_load(round, load).await
                    })
                })
                .collect();
            for task in tasks {
                assert_eq!(*task.await.unwrap()?, round);
            }
            assert_eq!(loads.load(Ordering::SeqCst), 1, "round {round}");
        }
        let stats = numbers.stats();
        assert_eq!(stats.loads, 20);
        assert_eq!(stats.misses, 20);
        Ok(())
    }

    async fn an_error_is_shared_and_not_kept(fixture: Fixture) -> Result<(), Error> {
        let numbers = numbers(&fixture);
        let fail = || async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Err::<u64, _>(OnFire)
        };
        let (one, two) = tokio::join!(numbers.get_or_load("k", fail), numbers.get_or_load("k", fail));
        for result in [one, two] {
            assert_eq!(result.unwrap_err().load_error(), Some(&OnFire));
        }
        assert_eq!(numbers.stats().load_failures, 1, "one load for both");
        let after = numbers.get_or_load("k", || async { Ok::<_, OnFire>(7) }).await?;
        assert_eq!((*after, after.source()), (7, Source::Loaded));
        Ok(())
    }

    async fn a_load_survives_the_caller_that_started_it(fixture: Fixture) -> Result<(), Error> {
        let numbers = numbers(&fixture);
        let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let first = {
            let (numbers, started, go) = (numbers.clone(), Arc::clone(&started), Arc::clone(&go));
            tokio::spawn(async move {
                let load = || async move {
                    started.notify_one();
                    go.notified().await;
                    Ok::<_, OnFire>(1)
                };
                numbers.get_or_load("k", load).await
            })
        };
        started.notified().await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        let second = numbers.get_or_load("k", || async { Ok::<_, OnFire>(2) });
        let (got, ()) = tokio::join!(second, async {
            tokio::task::yield_now().await;
            go.notify_one();
        });
        let got = got?;
        assert_eq!(*got, 1, "the first caller's load");
        assert_eq!(numbers.get("k").await?.as_deref(), Some(&1), "and it was kept");
        Ok(())
    }

    async fn a_value_read_before_an_invalidation_is_not_kept_after_it(fixture: Fixture) -> Result<(), Error> {
        let numbers = numbers(&fixture);
        for write in ["invalidate", "set"] {
            let (reading, read) = oneshot::channel();
            let (go, written) = oneshot::channel::<()>();
            let old = tokio::spawn({
                let numbers = numbers.clone();
                async move {
                    let load = || async move {
                        reading.send(()).unwrap(); // the old value has been read
                        written.await.unwrap();
                        Ok::<_, OnFire>(1)
                    };
                    numbers.get_or_load(write, load).await
                }
            });
            read.await.unwrap();
            let expected = if write == "set" {
                numbers.set(write, &2).await?;
                Some(2)
            } else {
                numbers.invalidate(write).await?;
                None
            };
            go.send(()).unwrap();
            assert_eq!(*old.await.unwrap()?, 1, "who asked before gets what was read before");
            assert_eq!(numbers.get(write).await?.as_deref().copied(), expected, "after {write}");
        }
        Ok(())
    }

    async fn a_caller_after_an_invalidation_does_not_join_an_older_load(fixture: Fixture) -> Result<(), Error> {
        let numbers = numbers(&fixture);
        let (reading, read) = oneshot::channel();
        let (go, wait) = oneshot::channel::<()>();
        let old = tokio::spawn({
            let numbers = numbers.clone();
            async move {
                let load = || async move {
                    reading.send(()).unwrap();
                    wait.await.unwrap();
                    Ok::<_, OnFire>(1)
                };
                numbers.get_or_load("k", load).await
            }
        });
        read.await.unwrap();
        numbers.invalidate("k").await?;
        let new = numbers.get_or_load("k", || async { Ok::<_, OnFire>(2) }).await?;
        assert_eq!((*new, new.source()), (2, Source::Loaded));
        go.send(()).unwrap();
        assert_eq!(*old.await.unwrap()?, 1);
        assert_eq!(numbers.get("k").await?.as_deref(), Some(&2), "the older load did not replace it");
        Ok(())
    }

    async fn a_panic_reaches_all_waiting_callers_and_no_later_one(fixture: Fixture) -> Result<(), Error> {
        let numbers = numbers(&fixture);
        let load = || async {
            tokio::task::yield_now().await;
            if true {
                panic!("the loader's own panic, wanted here");
            }
            Ok::<u64, OnFire>(1)
        };
        let (one, two) = tokio::join!(numbers.get_or_load("k", load), numbers.get_or_load("k", load));
        assert!(matches!(one, Err(Error::LoaderPanicked)), "{one:?}");
        assert!(matches!(two, Err(Error::LoaderPanicked)), "{two:?}");
        assert_eq!(*numbers.get_or_load("k", || async { Ok::<_, OnFire>(3) }).await?, 3);
        Ok(())
    }

    #[paused]
    async fn a_loader_that_hangs_is_given_up(fixture: Fixture) {
        let numbers = numbers(&fixture);
        let start = tokio::time::Instant::now();
        let hang = || std::future::pending::<Result<u64, OnFire>>();
        let error = numbers.get_or_load("k", hang).await.unwrap_err();
        assert!(matches!(error, Error::LoadTimeout(_)) && error.is_retryable(), "{error}");
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        assert_eq!(numbers.stats().load_failures, 1);
    }

    async fn dropping_the_cache_ends_its_loads(fixture: Fixture) {
        let numbers = numbers(&fixture);
        let (held, dropped) = oneshot::channel::<()>();
        let (reading, read) = oneshot::channel();
        let caller = tokio::spawn({
            let numbers = numbers.clone();
            async move {
                let load = || async move {
                    let _held = held;
                    reading.send(()).unwrap();
                    std::future::pending::<Result<u64, OnFire>>().await
                };
                numbers.get_or_load("k", load).await
            }
        });
        read.await.unwrap();
        caller.abort();
        drop(caller.await);
        drop(numbers);
        let ended = tokio::time::timeout(Duration::from_secs(5), dropped).await;
        assert!(ended.expect("the load ended").is_err());
    }
}
