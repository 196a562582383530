//! Several keys at once; functions; warming; named caches.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_cache::{Cache, CacheConfig, Caches, Error, L1, Loaded, Source};
use redkit_core::{Command, Error as CoreError};
use redkit_testkit::Fixture;
use tokio::sync::oneshot;

#[derive(Debug, thiserror::Error, PartialEq)]
#[error("the database is on fire")]
struct OnFire;

fn numbers(fixture: &Fixture) -> Cache<u64> {
    builder(&fixture.client).build().unwrap()
}

fn builder(client: &redkit_core::Client) -> redkit_cache::CacheBuilder<u64> {
    Cache::builder(client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(Duration::from_secs(60))
}

type Asked = Arc<Mutex<Vec<Vec<u64>>>>;

/// A loader that has squares for even numbers, and remembers what it was asked for.
fn squares(
    asked: &Asked,
) -> impl Fn(Vec<u64>) -> std::future::Ready<Result<HashMap<u64, u64>, OnFire>> + Send + Sync + 'static
{
    let asked = Arc::clone(asked);
    move |mut keys| {
        let even = keys.iter().filter(|&&key| key % 2 == 0);
        let squares = even.map(|&key| (key, key * key)).collect();
        keys.sort_unstable();
        asked.lock().push(keys);
        std::future::ready(Ok(squares))
    }
}

redkit_testkit::suite! {
    async fn missing_keys_are_loaded_together_and_once(fixture: Fixture) -> Result<(), Error> {
        let cache = builder(&fixture.client).negative_ttl(Duration::from_secs(60)).build()?;
        let asked = Asked::default();
        cache.set(4_u64, &16).await?;
        let keys = [6_u64, 4, 3, 6, 2];
        for (round, source) in [Source::Loaded, Source::Redis].into_iter().enumerate() {
            let got = cache.get_many_or_load(keys, squares(&asked)).await;
            let got: Vec<_> = got.into_iter().collect::<Result<_, _>>()?;
            let values: Vec<_> = got.iter().map(|got| got.as_deref().copied()).collect();
            assert_eq!(values, [Some(36), Some(16), None, Some(36), Some(4)], "round {round}");
            assert_eq!(got[0].as_ref().unwrap().source(), source);
            assert_eq!(got[1].as_ref().unwrap().source(), Source::Redis);
        }
        assert_eq!(*asked.lock(), [[2, 3, 6]], "one call, without what was there");
        Ok(())
    }

    async fn many_keys_take_few_round_trips(fixture: Fixture) -> Result<(), Error> {
        let cache = numbers(&fixture);
        let asked = Asked::default();
        let keys = || (0..1000_u64).map(|i| i * 2);
        cache.get_many_or_load(keys(), squares(&asked)).await;
        let before = fixture.client.stats().calls();
        let got = cache.get_many_or_load(keys(), squares(&asked)).await;
        assert!(got.iter().all(|got| matches!(got, Ok(Some(got)) if got.source() == Source::Redis)));
        assert_eq!(fixture.client.stats().calls() - before, 1);
        assert_eq!(asked.lock().len(), 1);
        Ok(())
    }

    /// Another process fills one of the keys while this one loads the other for longer than it would wait.
    async fn a_key_that_was_filled_during_a_long_load_is_not_loaded_again(fixture: Fixture) -> Result<(), Error> {
        let client = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let theirs = builder(&client).build()?;
        let ours = builder(&fixture.client).wait_timeout(Duration::from_millis(100)).build()?;
        let (began, begins) = oneshot::channel();
        let (filled, is_filled) = oneshot::channel();
        let filling = tokio::spawn(async move {
            let load = || async move {
                began.send(()).unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok::<_, OnFire>(20)
            };
            theirs.get_or_load(2_u64, load).await.map(|_| filled.send(()).unwrap())
        });
        begins.await.unwrap();
        let asked = Asked::default();
        let is_filled = Arc::new(Mutex::new(Some(is_filled)));
        let loader = {
            let asked = Arc::clone(&asked);
            move |keys: Vec<u64>| {
                asked.lock().push(keys.clone());
                let is_filled = is_filled.lock().take();
                async move {
                    if let Some(is_filled) = is_filled {
                        is_filled.await.unwrap();
                    }
                    tokio::time::sleep(Duration::from_millis(150)).await;
                    Ok::<_, OnFire>(keys.into_iter().map(|key| (key, key)).collect::<HashMap<_, _>>())
                }
            }
        };
        let got = ours.get_many_or_load([1_u64, 2], loader).await;
        let got: Vec<_> = got.into_iter().collect::<Result<_, _>>()?;
        let values: Vec<_> = got.iter().map(|got| got.as_deref().copied()).collect();
        assert_eq!(values, [Some(1), Some(20)]);
        assert_eq!(*asked.lock(), [[1]], "what another process had filled was not asked for");
        filling.await.unwrap()?;
        Ok(())
    }

    async fn the_loaders_error_goes_to_the_keys_it_was_asked_for(fixture: Fixture) -> Result<(), Error> {
        let cache = numbers(&fixture);
        cache.set(1_u64, &1).await?;
        let fails = |_| async { Err::<HashMap<u64, u64>, _>(OnFire) };
        let got = cache.get_many_or_load([1_u64, 2, 3], fails).await;
        assert_eq!(got[0].as_ref().unwrap().as_deref(), Some(&1));
        for got in &got[1..] {
            assert_eq!(got.as_ref().unwrap_err().load_error(), Some(&OnFire));
        }
        let panics = |_: Vec<u64>| -> std::future::Ready<Result<HashMap<u64, u64>, OnFire>> {
            panic!("the loader's own panic, wanted here")
        };
        let got = cache.get_many_or_load([2_u64], panics).await;
        assert!(matches!(got[0], Err(Error::LoaderPanicked)), "{got:?}");
        let asked = Asked::default();
        let got = cache.get_many_or_load([2_u64], squares(&asked)).await;
        assert_eq!(got[0].as_ref().unwrap().as_deref(), Some(&4), "nothing is stuck");
        Ok(())
    }

    async fn keys_that_others_load_are_waited_for(fixture: Fixture) -> Result<(), Error> {
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let (here, there) = (numbers(&fixture), builder(&other).build()?);
        let mut held = Vec::new();
        // One key is being loaded in this process, another in another process.
        for (cache, key) in [(&here, 2_u64), (&there, 4)] {
            let (began, begins) = oneshot::channel();
            let (go, told) = oneshot::channel::<()>();
            let cache = cache.clone();
            let load = tokio::spawn(async move {
                let load = || async move {
                    began.send(()).unwrap();
                    told.await.unwrap();
                    Ok::<_, OnFire>(key + 1000)
                };
                cache.get_or_load(key, load).await
            });
            begins.await.unwrap();
            held.push((go, load));
        }
        let asked = Asked::default();
        let all = here.get_many_or_load([2_u64, 4, 6], squares(&asked));
        let (got, ()) = tokio::join!(all, async {
            while asked.lock().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            for (go, load) in held {
                go.send(()).unwrap();
                load.await.unwrap().unwrap();
            }
        });
        let got: Vec<_> = got.into_iter().map(|got| *got.unwrap().unwrap()).collect();
        assert_eq!(got, [1002, 1004, 36]);
        assert_eq!(*asked.lock(), [[6]]);
        Ok(())
    }

    async fn a_call_for_many_keys_holds_up_no_caller_of_one(fixture: Fixture) -> Result<(), Error> {
        let cache = numbers(&fixture);
        let mut held = Vec::new();
        for key in [2_u64, 4] {
            let (began, begins) = oneshot::channel();
            let (go, told) = oneshot::channel::<()>();
            let cache = cache.clone();
            let load = tokio::spawn(async move {
                let load = || async move {
                    began.send(()).unwrap();
                    told.await.unwrap();
                    // What is not kept is too old for who came while it was read.
                    Ok::<_, OnFire>(Loaded::new(1000).do_not_cache())
                };
                cache.get_or_load(key, load).await
            });
            begins.await.unwrap();
            held.push((go, load));
        }
        let asked = Asked::default();
        let many = tokio::spawn({
            let (cache, squares) = (cache.clone(), squares(&asked));
            async move { cache.get_many_or_load([2_u64, 4], squares).await }
        });
        while cache.stats().shared < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (go, first) = held.remove(0);
        go.send(()).unwrap();
        first.await.unwrap()?;
        // The other key is still being loaded.
        let one = cache.get_or_load(2_u64, || async { Ok::<_, OnFire>(4) });
        let one = tokio::time::timeout(Duration::from_secs(5), one).await;
        assert_eq!(*one.expect("nobody waits for another's other key")?, 4);
        let (go, second) = held.remove(0);
        go.send(()).unwrap();
        second.await.unwrap()?;
        let got: Vec<_> = many.await.unwrap().into_iter().map(|got| *got.unwrap().unwrap()).collect();
        assert_eq!(got, [4, 16]);
        Ok(())
    }

    async fn a_key_that_another_process_fails_to_load_is_loaded_here(fixture: Fixture) -> Result<(), Error> {
        let cache = numbers(&fixture);
        let lease = fixture.client.keyspace("cache", "numbers")?.role_key(4_u64, "lease");
        let dead = Command::new("SET").key(&lease).arg("ldead").arg("PX").arg(300);
        fixture.client.call::<()>(dead).await?;
        let asked = Asked::default();
        let got = cache.get_many_or_load([2_u64, 4], squares(&asked)).await;
        let got: Vec<_> = got.into_iter().map(|got| *got.unwrap().unwrap()).collect();
        assert_eq!(got, [4, 16]);
        assert_eq!(*asked.lock(), [[2], [4]], "what could be loaded was not held up");
        Ok(())
    }

    async fn an_invalidated_tag_is_noticed_among_many(fixture: Fixture) -> Result<(), Error> {
        let cache = builder(&fixture.client).l1(L1::entries(100)).build()?;
        for i in 0..6_u64 {
            cache.set_with(i, Loaded::new(i).tags([format!("t{}", i % 3)])).await?;
        }
        cache.invalidate_tag("t1").await?;
        let asked = Asked::default();
        cache.get_many_or_load(0..6_u64, squares(&asked)).await;
        assert_eq!(*asked.lock(), [[1, 4]]);
        Ok(())
    }

    async fn a_function_is_called_once_per_argument(fixture: Fixture) -> Result<(), Error> {
        let calls = Arc::new(Mutex::new(0));
        let square = {
            let calls = Arc::clone(&calls);
            move |n: u32| {
                *calls.lock() += 1;
                async move { Ok::<u64, OnFire>(u64::from(n * n)) }
            }
        };
        let square = numbers(&fixture).memoize(square);
        assert_eq!((*square.call(3).await?, *square.call(3).await?, *square.call(4).await?), (9, 9, 16));
        assert_eq!(*calls.lock(), 2);
        assert!(square.forget(3).await?);
        square.call(3).await?;
        assert_eq!(*calls.lock(), 3);
        Ok(())
    }

    async fn warming_loads_missing_keys_and_reports_progress(fixture: Fixture) -> Result<(), Error> {
        let cache = numbers(&fixture);
        cache.set(5_u64, &5).await?;
        let running = Arc::new(Mutex::new((0_u32, 0_u32)));
        let load = |key: u64| {
            let running = Arc::clone(&running);
            async move {
                {
                    let mut running = running.lock();
                    running.0 += 1;
                    running.1 = running.1.max(running.0);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
                running.lock().0 -= 1;
                if key == 7 { Err(OnFire) } else { Ok(key) }
            }
        };
        let mut seen = Vec::new();
        let warmed = cache
            .warm(futures_util::stream::iter(0..50_u64))
            .concurrency(4)
            .on_progress(|so_far| seen.push(so_far.done()))
            .run(load)
            .await;
        assert_eq!((warmed.loaded, warmed.present, warmed.failed), (48, 1, 1));
        assert_eq!(warmed.first_error.unwrap().load_error(), Some(&OnFire));
        assert_eq!(seen, (1..=50).collect::<Vec<_>>());
        let most = running.lock().1;
        assert!((2..=4).contains(&most), "{most} at once");
        assert_eq!(cache.get(9_u64).await?.as_deref(), Some(&9));
        Ok(())
    }

    async fn caches_come_from_a_configuration(fixture: Fixture) -> Result<(), Error> {
        let configs: BTreeMap<String, CacheConfig> = serde_json::from_str(
            r#"{ "numbers": { "ttl": "3s", "l1_entries": 10, "l1_ttl": "1s", "l1_bound": "500ms" },
                 "no-level": { "ttl": "3s", "l1_ttl": "1s", "l1_bound": "1s" },
                 "wrong": { "ttl": "3s", "refresh_ahead": 1.5 } }"#,
        ).unwrap();
        let caches = Caches::new(&fixture.client, configs);
        let numbers: Cache<u64> = caches.get("numbers")?;
        numbers.set("k", &1).await?;
        let key = fixture.client.keyspace("cache", "numbers")?.key("k");
        let left: i64 = fixture.client.call(Command::new("PTTL").key(&key)).await?;
        assert!((1..=3000).contains(&left), "{left}");
        let field = |name: &str| {
            let Err(Error::Core(CoreError::Config(error))) = caches.get::<u64>(name) else { panic!("{name}") };
            (error.field().to_owned(), error.to_string())
        };
        assert_eq!(field("wrong").0, "refresh_ahead");
        let (at, text) = field("no-level");
        assert!(at == "l1_ttl" && text.contains("l1_bound") && text.contains("l1_entries"), "{text}");
        // A level that the program gives takes the file's settings.
        let with_level = Cache::<u64>::builder(&fixture.client, "no-level").redis_timeout(crate::PATIENT).l1(L1::entries(10));
        let config: CacheConfig = serde_json::from_str(r#"{ "ttl": "3s", "l1_bound": "1ms" }"#).unwrap();
        let Err(Error::Core(CoreError::Config(error))) = with_level.config(&config).build() else { panic!("it was taken") };
        assert_eq!(error.field(), "l1.bound");
        let (at, text) = field("products");
        assert!(at == "caches" && text.contains("numbers, wrong"), "{text}");
        Ok(())
    }
}
