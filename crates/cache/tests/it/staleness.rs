//! Values whose time is up, or nearly: when they are served, and when they are loaded anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redkit_cache::{Cache, CacheBuilder, Error, L1, Loaded, Source};
use redkit_testkit::Fixture;
use tokio::time::{Instant, advance, sleep};

#[derive(Debug, thiserror::Error, PartialEq)]
#[error("the database is on fire")]
struct OnFire;

const SECOND: Duration = Duration::from_secs(1);

fn builder(fixture: &Fixture) -> CacheBuilder<u64> {
    Cache::builder(&fixture.client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(10 * SECOND)
        .stale_for(60 * SECOND)
        .load_timeout(5 * SECOND)
}

async fn fails() -> Result<u64, OnFire> {
    Err(OnFire)
}

redkit_testkit::suite! {
    #[paused]
    async fn a_source_that_fails_leaves_the_stale_value_and_is_left_alone(fixture: Fixture) -> Result<(), Error> {
        let cache = builder(&fixture).retry_after(3 * SECOND).build()?;
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let other = Cache::builder(&other, "numbers").redis_timeout(crate::PATIENT).ttl(10 * SECOND).stale_for(60 * SECOND).build()?;
        cache.set("k", &1).await?;
        advance(11 * SECOND).await;
        assert!(cache.get("k").await?.is_none(), "`get` gives what is fresh");
        for _ in 0..10 {
            for cache in [&cache, &other] {
                let got = cache.get_or_load("k", fails).await?;
                assert_eq!((*got, got.source()), (1, Source::Stale));
            }
        }
        assert_eq!(cache.stats().load_failures, 1);
        assert_eq!(other.stats().load_failures, 0, "it is left alone in all processes");
        advance(4 * SECOND).await;
        cache.get_or_load("k", fails).await?;
        assert_eq!(cache.stats().load_failures, 2, "and then tried again");
        advance(4 * SECOND).await;
        let got = cache.get_or_load("k", || async { Ok::<_, OnFire>(2) }).await?;
        assert_eq!((*got, got.source()), (2, Source::Loaded));
        Ok(())
    }

    #[paused]
    async fn a_source_that_fails_is_tried_by_callers_that_have_nothing(fixture: Fixture) -> Result<(), Error> {
        let cache = builder(&fixture).build()?;
        for _ in 0..3 {
            let error = cache.get_or_load("k", fails).await.unwrap_err();
            assert_eq!(error.load_error(), Some(&OnFire));
        }
        assert_eq!(cache.stats().load_failures, 3);
        Ok(())
    }

    #[paused]
    async fn the_stale_value_ends_with_its_grace(fixture: Fixture) -> Result<(), Error> {
        let cache = builder(&fixture).build()?;
        cache.set("k", &1).await?;
        advance(69 * SECOND).await;
        assert_eq!(cache.get_or_load("k", fails).await?.source(), Source::Stale);
        advance(2 * SECOND).await;
        let error = cache.get_or_load("k", fails).await.unwrap_err();
        assert_eq!(error.load_error(), Some(&OnFire));
        Ok(())
    }

    #[paused]
    async fn a_slow_source_is_waited_for_as_long_as_said_and_its_value_kept(fixture: Fixture) -> Result<(), Error> {
        let cache = builder(&fixture).soft_timeout(SECOND / 10).build()?;
        cache.set("k", &1).await?;
        advance(11 * SECOND).await;
        let slow = || async {
            sleep(SECOND).await;
            Ok::<_, OnFire>(2)
        };
        let start = Instant::now();
        let got = cache.get_or_load("k", slow).await?;
        assert_eq!((*got, got.source()), (1, Source::Stale));
        assert_eq!(start.elapsed(), SECOND / 10);
        sleep(2 * SECOND).await;
        assert_eq!(cache.get("k").await?.as_deref(), Some(&2), "the load went on");
        Ok(())
    }

    #[paused]
    async fn stale_while_revalidating_does_not_wait(fixture: Fixture) -> Result<(), Error> {
        let cache = builder(&fixture).soft_timeout(Duration::ZERO).build()?;
        cache.set("k", &1).await?;
        advance(11 * SECOND).await;
        let start = Instant::now();
        for _ in 0..20 {
            let slow = || async {
                sleep(SECOND).await;
                Ok::<_, OnFire>(2)
            };
            assert_eq!(cache.get_or_load("k", slow).await?.source(), Source::Stale);
        }
        assert!(start.elapsed() < SECOND / 10, "{:?}", start.elapsed());
        sleep(2 * SECOND).await;
        assert_eq!(cache.get("k").await?.as_deref(), Some(&2));
        assert_eq!(cache.stats().loads, 1);
        Ok(())
    }

    #[paused]
    async fn a_load_that_hangs_gives_the_stale_value_at_the_hard_timeout(fixture: Fixture) -> Result<(), Error> {
        let cache = builder(&fixture).build()?;
        cache.set("k", &1).await?;
        advance(11 * SECOND).await;
        let start = Instant::now();
        let got = cache.get_or_load("k", std::future::pending::<Result<u64, OnFire>>).await?;
        assert_eq!((got.source(), start.elapsed()), (Source::Stale, 5 * SECOND));
        Ok(())
    }

    async fn a_hard_delete_beats_the_stale_value(fixture: Fixture) -> Result<(), Error> {
        let cache = builder(&fixture).build()?;
        cache.set_with("k", Loaded::new(1).ttl(Duration::from_millis(20))).await?;
        sleep(Duration::from_millis(60)).await;
        assert_eq!(cache.get_or_load("k", fails).await?.source(), Source::Stale);
        cache.invalidate("k").await?;
        let error = cache.get_or_load("k", fails).await.unwrap_err();
        assert_eq!(error.load_error(), Some(&OnFire));
        Ok(())
    }

    #[paused]
    async fn one_process_refreshes_ahead_and_no_caller_waits(fixture: Fixture) -> Result<(), Error> {
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let build = |client| Cache::builder(client, "numbers").redis_timeout(crate::PATIENT).ttl(10 * SECOND).refresh_ahead(0.8).build();
        let caches: [Cache<u64>; 2] = [build(&fixture.client)?, build(&other)?];
        let loads = Arc::new(AtomicU64::new(0));
        let ask = |at: usize| {
            let (cache, loads) = (caches[at].clone(), Arc::clone(&loads));
            async move {
                let load = || async move {
                    sleep(SECOND / 2).await;
                    Ok::<_, OnFire>(loads.fetch_add(1, Ordering::SeqCst) + 1)
                };
                cache.get_or_load("k", load).await
            }
        };
        assert_eq!(*ask(0).await?, 1);
        advance(7 * SECOND + SECOND / 2).await;
        ask(1).await?;
        sleep(SECOND / 4).await;
        assert_eq!(loads.load(Ordering::SeqCst), 1, "too early");
        advance(SECOND).await;
        let start = Instant::now();
        for _ in 0..20 {
            for at in [0, 1] {
                let got = ask(at).await?;
                assert_eq!((*got, got.source()), (1, Source::Redis));
            }
        }
        assert!(start.elapsed() < SECOND / 10, "nobody waits: {:?}", start.elapsed());
        sleep(SECOND).await;
        assert_eq!(loads.load(Ordering::SeqCst), 2, "one load in the fleet");
        assert_eq!(*ask(1).await?, 2);
        Ok(())
    }

    #[paused]
    async fn values_that_are_read_together_are_refreshed_ahead_by_one_load(fixture: Fixture) -> Result<(), Error> {
        for has_l1 in [false, true] {
            let name = if has_l1 { "local" } else { "shared" };
            let mut builder = Cache::<u64>::builder(&fixture.client, name).redis_timeout(crate::PATIENT).ttl(10 * SECOND).refresh_ahead(0.8);
            if has_l1 {
                builder = builder.l1(L1::entries(100).ttl(10 * SECOND));
            }
            let cache = builder.build()?;
            let asked = Arc::new(Mutex::new(Vec::new()));
            let ask = || {
                let asked = Arc::clone(&asked);
                cache.get_many_or_load([1_u64, 2, 3], move |keys: Vec<u64>| {
                    let asked = Arc::clone(&asked);
                    async move {
                        sleep(SECOND / 2).await;
                        let mut asked = asked.lock();
                        asked.push(keys.clone());
                        let load = asked.len() as u64;
                        Ok::<HashMap<u64, u64>, OnFire>(keys.into_iter().map(|key| (key, load)).collect())
                    }
                })
            };
            let values = async || -> Result<Vec<u64>, Error> {
                ask().await.into_iter().map(|got| Ok(*got?.expect("there is one"))).collect()
            };
            assert_eq!(values().await?, [1, 1, 1]);
            advance(7 * SECOND).await;
            assert!(cache.invalidate(2_u64).await?);
            assert_eq!(values().await?, [1, 2, 1]);
            advance(3 * SECOND / 2).await;
            let start = Instant::now();
            for _ in 0..20 {
                assert_eq!(values().await?, [1, 2, 1]);
            }
            assert!(start.elapsed() < SECOND / 10, "nobody waits: {:?}", start.elapsed());
            sleep(SECOND).await;
            assert_eq!(*asked.lock(), [vec![1, 2, 3], vec![2], vec![1, 3]], "{name}");
            assert_eq!(values().await?, [3, 2, 3]);
            assert_eq!(cache.stats().refreshes, 2);
        }
        Ok(())
    }

    #[paused]
    async fn a_refresh_that_fails_is_not_tried_by_every_hit(fixture: Fixture) -> Result<(), Error> {
        let cache = builder(&fixture).refresh_ahead(0.5).retry_after(2 * SECOND).build()?;
        cache.set("k", &1).await?;
        advance(6 * SECOND).await;
        for _ in 0..50 {
            assert_eq!(cache.get_or_load("k", fails).await?.source(), Source::Redis);
            sleep(SECOND / 100).await;
        }
        assert_eq!(cache.stats().load_failures, 1);
        Ok(())
    }

    #[paused]
    async fn xfetch_refreshes_the_earlier_the_longer_a_load_takes(fixture: Fixture) -> Result<(), Error> {
        let cache = Cache::<u64>::builder(&fixture.client, "numbers").redis_timeout(crate::PATIENT).ttl(100 * SECOND).refresh_early(1.0).build()?;
        let load = |cost: Duration| move || async move {
            sleep(cost).await;
            Ok::<_, OnFire>(1)
        };
        let (quick, slow) = (SECOND / 100, 4 * SECOND);
        for i in 0..200_u64 {
            cache.get_or_load(i, load(quick)).await?;
        }
        advance(80 * SECOND).await;
        for i in 0..200_u64 {
            cache.get_or_load(i, load(quick)).await?;
        }
        sleep(SECOND).await;
        assert_eq!(cache.stats().refreshes, 0, "20 s is far ahead of 10 ms");
        cache.clear().await?;
        let all = (0..200_u64).map(|i| cache.get_or_load(i, load(slow)));
        futures_util::future::join_all(all).await;
        advance(80 * SECOND).await;
        for i in 0..200_u64 {
            cache.get_or_load(i, load(slow)).await?;
        }
        // e^(-20/4) of them, more or less: 1 to 2 of 200; 12 s later e^(-2) of them.
        advance(12 * SECOND).await;
        for i in 0..200_u64 {
            cache.get_or_load(i, load(slow)).await?;
        }
        let refreshes = cache.stats().refreshes;
        assert!((5..100).contains(&refreshes), "{refreshes}");
        Ok(())
    }

    #[paused]
    async fn that_there_is_nothing_is_kept_for_its_own_time(fixture: Fixture) -> Result<(), Error> {
        let cache = builder(&fixture).negative_ttl(2 * SECOND).build()?;
        let loads = Arc::new(AtomicU64::new(0));
        let nothing = || {
            let loads = Arc::clone(&loads);
            async move {
                loads.fetch_add(1, Ordering::SeqCst);
                Ok::<Option<u64>, OnFire>(None)
            }
        };
        for _ in 0..3 {
            assert!(cache.find_or_load("k", nothing).await?.is_none());
        }
        assert_eq!(loads.load(Ordering::SeqCst), 1);
        assert!(cache.get("k").await?.is_none());
        advance(3 * SECOND).await;
        assert!(cache.find_or_load("k", nothing).await?.is_none());
        assert_eq!(loads.load(Ordering::SeqCst), 2);
        // Who must have a value loads, whatever is known.
        assert_eq!(*cache.get_or_load("k", || async { Ok::<_, OnFire>(3) }).await?, 3);
        assert_eq!(cache.find_or_load("k", nothing).await?.as_deref(), Some(&3));
        Ok(())
    }

    async fn that_there_is_nothing_is_not_kept_unless_asked_for(fixture: Fixture) -> Result<(), Error> {
        let cache = builder(&fixture).build()?;
        for _ in 0..2 {
            let nothing = || async { Ok::<Option<u64>, OnFire>(None) };
            assert!(cache.find_or_load("k", nothing).await?.is_none());
        }
        assert_eq!(cache.stats().loads, 2);
        let nothing = || async { Ok::<_, OnFire>(Loaded::new(None).ttl(10 * SECOND)) };
        assert!(cache.find_or_load("k", nothing).await?.is_none());
        assert!(cache.find_or_load("k", nothing).await?.is_none());
        assert_eq!(cache.stats().loads, 3, "the loader's own time counts");
        Ok(())
    }

    #[paused]
    async fn a_source_that_has_lost_the_value_takes_the_stale_one_along(fixture: Fixture) -> Result<(), Error> {
        let cache = builder(&fixture).build()?;
        cache.set("k", &1).await?;
        advance(11 * SECOND).await;
        let nothing = || async { Ok::<Option<u64>, OnFire>(None) };
        assert!(cache.find_or_load("k", nothing).await?.is_none());
        let error = cache.get_or_load("k", fails).await.unwrap_err();
        assert_eq!(error.load_error(), Some(&OnFire), "it does not come back when the source fails");
        Ok(())
    }

    async fn jitter_shortens_each_time_differently(fixture: Fixture) -> Result<(), Error> {
        let cache = Cache::<u64>::builder(&fixture.client, "numbers").redis_timeout(crate::PATIENT).ttl(100 * SECOND).ttl_jitter(0.5).build()?;
        let keys = fixture.client.keyspace("cache", "numbers")?;
        let mut times = Vec::new();
        for i in 0..40_u64 {
            cache.set(i, &i).await?;
            let ttl = redkit_core::Command::new("PTTL").key(keys.key(i));
            times.push(fixture.client.call::<i64>(ttl).await?);
        }
        let (min, max) = (*times.iter().min().unwrap(), *times.iter().max().unwrap());
        assert!(min >= 49_000 && max <= 100_000, "{min}..{max}");
        assert!(max - min > 10_000, "{min}..{max}");
        Ok(())
    }
}
