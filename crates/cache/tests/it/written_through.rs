//! Write-through: the source first, and never the cache alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use redkit_cache::{Cache, Error, L1, Source};
use redkit_core::Client;
use redkit_testkit::{Fixture, Proxy, ServerOptions};
use tokio::sync::oneshot;
use tokio::time::Instant;

#[derive(Debug, thiserror::Error, PartialEq)]
#[error("the database is on fire")]
struct OnFire;

fn numbers(client: &Client) -> Cache<u64> {
    leasing(client, Duration::from_secs(3))
}

fn leasing(client: &Client, lease: Duration) -> Cache<u64> {
    Cache::builder(client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(Duration::from_secs(60))
        .lease(lease)
        .wait_timeout(Duration::from_secs(60))
        .build()
        .unwrap()
}

/// A write that has begun and waits to be told its end.
struct Held {
    go: oneshot::Sender<Result<u64, OnFire>>,
    caller: tokio::task::JoinHandle<Result<redkit_cache::Fetched<u64>, Error>>,
}

async fn hold(cache: &Cache<u64>) -> Held {
    let (began, begins) = oneshot::channel();
    let (go, told) = oneshot::channel();
    let cache = cache.clone();
    let caller = tokio::spawn(async move {
        let write = || async move {
            began.send(()).unwrap();
            told.await.unwrap()
        };
        cache.write_through("k", write).await
    });
    begins.await.unwrap();
    Held { go, caller }
}

/// A reader that comes during a write loads when the write has ended, and not before: if the writer died, what was
/// loaded before would stay.
async fn reads_after(write: Held, cache: &Cache<u64>) -> Result<(), Error> {
    let has_ended = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&has_ended);
    let load = || async move { Ok::<_, OnFire>(if seen.load(SeqCst) { 2 } else { 0 }) };
    let reader = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_load("k", load).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    has_ended.store(true, SeqCst);
    write.go.send(Ok(2)).unwrap();
    assert_eq!(*write.caller.await.unwrap()?, 2);
    let got = reader.await.unwrap()?;
    assert_eq!((*got, got.source()), (2, Source::Loaded));
    assert_eq!(
        cache.get("k").await?.as_deref(),
        Some(&2),
        "and it was kept"
    );
    cache.invalidate("k").await?;
    Ok(())
}

redkit_testkit::suite! {
    async fn a_written_value_is_in_the_cache(fixture: Fixture) -> Result<(), Error> {
        let cache = numbers(&fixture.client);
        cache.set("k", &1).await?;
        let written = cache.write_through("k", || async { Ok::<_, OnFire>(2) }).await?;
        assert_eq!((*written, written.source()), (2, Source::Written));
        assert_eq!(cache.get("k").await?.as_deref(), Some(&2));
        Ok(())
    }

    async fn a_write_goes_on_when_the_cache_is_dropped(fixture: Fixture) -> Result<(), Error> {
        let cache = numbers(&fixture.client);
        cache.set("k", &1).await?;
        let held = hold(&cache).await;
        drop(cache);
        // With the caller goes the last handle.
        held.caller.abort();
        held.caller.await.unwrap_err();
        held.go.send(Ok(2)).expect("the write goes on");
        let other = numbers(&fixture.client);
        let deadline = Instant::now() + Duration::from_secs(20);
        while other.get("k").await?.as_deref() != Some(&2) {
            assert!(Instant::now() < deadline, "the cache has what the source has not");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn a_write_that_fails_removes_the_entry(fixture: Fixture) -> Result<(), Error> {
        let cache = numbers(&fixture.client);
        cache.set("k", &1).await?;
        let error = cache.write_through("k", || async { Err::<u64, _>(OnFire) }).await.unwrap_err();
        assert!(matches!(error, Error::Write(_)) && error.load_error() == Some(&OnFire));
        assert!(cache.get("k").await?.is_none(), "nobody knows what the source has");
        cache.set("k", &1).await?;
        let panics = || async {
            if true {
                panic!("the writer's own panic, wanted here");
            }
            Ok::<u64, OnFire>(1)
        };
        let error = cache.write_through("k", panics).await.unwrap_err();
        assert!(matches!(error, Error::LoaderPanicked));
        assert!(cache.get("k").await?.is_none());
        Ok(())
    }

    async fn a_load_that_began_before_a_write_is_not_kept(fixture: Fixture) -> Result<(), Error> {
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let (a, b) = (numbers(&fixture.client), numbers(&other));
        let (began, begins) = oneshot::channel();
        let (go, told) = oneshot::channel::<()>();
        let old = tokio::spawn({
            let a = a.clone();
            async move {
                let load = || async move {
                    began.send(()).unwrap();
                    told.await.unwrap();
                    Ok::<_, OnFire>(1)
                };
                a.get_or_load("k", load).await
            }
        });
        begins.await.unwrap();
        b.write_through("k", || async { Ok::<_, OnFire>(2) }).await?;
        go.send(()).unwrap();
        old.await.unwrap()?;
        assert_eq!(a.get("k").await?.as_deref(), Some(&2));
        Ok(())
    }

    async fn a_reader_during_a_write_waits_for_it(fixture: Fixture) -> Result<(), Error> {
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let (a, b) = (numbers(&fixture.client), numbers(&other));
        let write = hold(&a).await;
        let read = b.get_or_load("k", || async { Ok::<_, OnFire>(1) });
        let (read, ()) = tokio::join!(read, async {
            while b.stats().waits == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            write.go.send(Ok(2)).unwrap();
        });
        assert_eq!(*read?, 2);
        write.caller.await.unwrap()?;
        Ok(())
    }

    async fn two_writes_at_once_leave_nothing(fixture: Fixture) -> Result<(), Error> {
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let (a, b) = (numbers(&fixture.client), numbers(&other));
        // Whoever ends first, and whoever began first.
        for first_ends_first in [true, false] {
            a.set("k", &0).await?;
            let (one, two) = (hold(&a).await, hold(&b).await);
            let mut ends = vec![(one, 1), (two, 2)];
            if !first_ends_first {
                ends.reverse();
            }
            for (write, value) in ends {
                write.go.send(Ok(value)).unwrap();
                assert_eq!(*write.caller.await.unwrap()?, value, "the source is written");
            }
            assert!(a.get("k").await?.is_none(), "nobody knows which the source has");
            let loaded = b.get_or_load("k", || async { Ok::<_, OnFire>(3) }).await?;
            assert_eq!((*loaded, loaded.source()), (3, Source::Loaded));
        }
        Ok(())
    }

    async fn a_reader_waits_until_the_last_of_two_writes_has_ended(fixture: Fixture) -> Result<(), Error> {
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let [a, b] = [&fixture.client, &other].map(|client| leasing(client, Duration::from_secs(30)));
        for first_ends_first in [true, false] {
            let (mut earlier, mut later) = (hold(&a).await, hold(&b).await);
            if !first_ends_first {
                std::mem::swap(&mut earlier, &mut later);
            }
            earlier.go.send(Ok(1)).unwrap();
            earlier.caller.await.unwrap()?;
            reads_after(later, &b).await?;
        }
        Ok(())
    }

    async fn a_reader_waits_for_a_write_although_the_key_was_invalidated(fixture: Fixture) -> Result<(), Error> {
        let cache = leasing(&fixture.client, Duration::from_secs(30));
        let write = hold(&cache).await;
        cache.invalidate("k").await?;
        reads_after(write, &cache).await
    }

    async fn a_caller_that_goes_away_does_not_leave_the_old_value(fixture: Fixture) -> Result<(), Error> {
        let cache = numbers(&fixture.client);
        cache.set("k", &1).await?;
        let write = hold(&cache).await;
        write.caller.abort();
        assert!(write.caller.await.unwrap_err().is_cancelled());
        write.go.send(Ok(2)).unwrap();
        let start = Instant::now();
        while cache.get("k").await?.as_deref() != Some(&2) {
            assert!(start.elapsed() < Duration::from_secs(10), "it was not kept");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    async fn an_entry_that_is_being_written_is_gone_everywhere(fixture: Fixture) -> Result<(), Error> {
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let a = numbers(&fixture.client);
        let b = Cache::builder(&other, "numbers").redis_timeout(crate::PATIENT)
            .ttl(Duration::from_secs(60))
            // Only the news of the change can come in time.
            .l1(L1::entries(10).bound(Duration::from_secs(30)))
            .build()?;
        a.set("k", &1).await?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while b.stats().l1_hits == 0 {
            assert_eq!(b.get("k").await?.as_deref(), Some(&1));
            assert!(Instant::now() < deadline, "the level is not used");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let write = hold(&a).await;
        assert!(a.get("k").await?.is_none());
        let deadline = Instant::now() + Duration::from_secs(10);
        while b.get("k").await?.is_some() {
            assert!(Instant::now() < deadline, "the other process was not told");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        write.go.send(Ok(2)).unwrap();
        write.caller.await.unwrap()?;
        assert_eq!(b.get("k").await?.as_deref(), Some(&2));
        Ok(())
    }

    #[multi_thread]
    async fn a_process_that_dies_half_way_does_not_leave_the_old_value(fixture: Fixture) -> Result<(), Error> {
        let cache = leasing(&fixture.client, Duration::from_secs(1));
        cache.set("k", &1).await?;
        // As much of a process as the server knows: its tasks, on a connection of their own.
        let process = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = fixture.config().unwrap();
        let (began, begins) = oneshot::channel();
        let fixture = Arc::new(fixture);
        let theirs = Arc::clone(&fixture);
        process.spawn(async move {
            let client = theirs.connect(config).await.unwrap();
            let cache = leasing(&client, Duration::from_secs(1));
            drop(theirs);
            let write = || async move {
                // By now the source has it.
                began.send(()).unwrap();
                std::future::pending::<()>().await;
                Ok::<u64, OnFire>(2)
            };
            let _ = cache.write_through("k", write).await;
        });
        begins.await.unwrap();
        process.shutdown_background();
        let died = Instant::now();
        let got = cache.get_or_load("k", || async { Ok::<_, OnFire>(2) }).await?;
        assert_eq!((*got, got.source()), (2, Source::Loaded));
        let took = died.elapsed();
        assert!(took < Duration::from_secs(8), "the lease of a second was waited for: {took:?}");
        assert_eq!(cache.get("k").await?.as_deref(), Some(&2), "and it was kept");
        Ok(())
    }

    async fn a_caller_that_goes_away_while_redis_is_asked_holds_no_reader_up(fixture: Fixture) -> Result<(), Error> {
        let cache = leasing(&fixture.client, Duration::from_secs(60));
        cache.write_through("warm", || async { Ok::<_, OnFire>(2) }).await?;
        let keys = 0..40_u32;
        for key in keys.clone() {
            let write = cache.write_through(key, || async { Ok::<_, OnFire>(2) });
            let _ = tokio::time::timeout(Duration::from_micros(u64::from(key) * 20), write).await;
        }
        let start = Instant::now();
        for key in keys {
            assert_eq!(*cache.get_or_load(key, || async { Ok::<_, OnFire>(2) }).await?, 2);
        }
        let took = start.elapsed();
        assert!(took < Duration::from_secs(20), "the lease of a minute was waited for: {took:?}");
        Ok(())
    }

    async fn a_writer_that_hangs_is_not_waited_for_longer_than_for_a_load(fixture: Fixture) -> Result<(), Error> {
        let cache = Cache::builder(&fixture.client, "numbers").redis_timeout(crate::PATIENT)
            .ttl(Duration::from_secs(60))
            .lease(Duration::from_millis(300))
            .load_timeout(Duration::from_millis(900))
            .wait_timeout(Duration::from_secs(60))
            .build()?;
        cache.set("k", &1).await?;
        let hung = hold(&cache).await;
        let start = Instant::now();
        let got = cache.get_or_load("k", || async { Ok::<_, OnFire>(1) }).await?;
        assert_eq!((*got, got.source()), (1, Source::Loaded), "the source has not written yet");
        let took = start.elapsed();
        assert!(took > Duration::from_millis(500) && took < Duration::from_secs(20), "{took:?}");
        assert_eq!(cache.get("k").await?.as_deref(), Some(&1), "and it was kept");
        hung.go.send(Ok(2)).unwrap();
        assert_eq!(*hung.caller.await.unwrap()?, 2);
        assert!(cache.get("k").await?.is_none(), "what was loaded during the write is old");
        Ok(())
    }

    #[networked]
    async fn the_source_is_written_although_redis_is_down(fixture: Fixture) -> Result<(), Error> {
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let proxy = Proxy::start(server.addr()).await.unwrap();
        let config = fixture.config_at(&server.url_at(proxy.addr())).unwrap();
        let client = fixture.connect(config.command_timeout(Duration::from_millis(100))).await.unwrap();
        let cache = numbers(&client);
        cache.set("k", &1).await?;
        proxy.half_open_without_server();
        let mut source = 1;
        let written = &mut source;
        let (tell, told) = oneshot::channel();
        let write = || async move {
            tell.send(2).unwrap();
            Ok::<_, OnFire>(2)
        };
        let error = cache.write_through("k", write).await.unwrap_err();
        *written = told.await.unwrap();
        assert!(matches!(error, Error::Core(_)) && error.is_retryable(), "{error}");
        assert_eq!(source, 2);
        Ok(())
    }
}
