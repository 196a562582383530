//! The level in the process: what it spares, and that it hears of changes or does not serve.

use std::time::Duration;

use redkit_cache::{Cache, CacheBuilder, Error, L1, Loaded, Source};
use redkit_core::{Client, Command};
use redkit_testkit::{Fixture, Proxy, ServerOptions};
use tokio::time::{Instant, sleep, timeout};

const BOUND: Duration = Duration::from_millis(400);

/// So long that what happens well before its quarter did not happen because of it.
const LONG: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(5);

fn builder(client: &Client) -> CacheBuilder<u64> {
    Cache::builder(client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(Duration::from_secs(60))
        .l1(L1::entries(1000).bound(BOUND))
}

async fn two(fixture: &Fixture) -> (Cache<u64>, Cache<u64>) {
    let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
    let build = |client| builder(client).build().unwrap();
    (build(&fixture.client), build(&other))
}

/// Reads until the value comes out of the process: the level has to be trusted first.
async fn warm(cache: &Cache<u64>, key: &str) {
    let warm = async {
        loop {
            let before = cache.stats().l1_hits;
            // A busy machine may let a call time out.
            let _ = cache.get(key).await;
            if cache.stats().l1_hits > before {
                return;
            }
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), warm)
        .await
        .expect("the level is trusted");
}

/// Reads until another value comes; gives how long it took.
async fn until_not(cache: &Cache<u64>, key: &str, old: u64) -> Duration {
    let start = Instant::now();
    while matches!(cache.get(key).await, Ok(Some(value)) if *value == old) {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "it stays for ever"
        );
        sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}

redkit_testkit::suite! {
    async fn a_hit_asks_nobody_and_shares_the_value(fixture: Fixture) -> Result<(), Error> {
        let (cache, _) = two(&fixture).await;
        cache.set("k", &1).await?;
        warm(&cache, "k").await;
        // The watch asks now and then; reads do not.
        let before = fixture.client.stats().calls();
        let first = cache.get("k").await?.unwrap().into_arc();
        for _ in 0..1000 {
            let got = cache.get_or_load("k", || async { Ok::<_, std::io::Error>(2) }).await?;
            assert_eq!(got.source(), Source::Local);
            assert!(std::sync::Arc::ptr_eq(&got.into_arc(), &first), "no copy, no decoding");
        }
        let asked = fixture.client.stats().calls() - before;
        assert!(asked < 100, "{asked} calls for 1,000 reads");
        Ok(())
    }

    async fn all_processes_hear_of_every_kind_of_change(fixture: Fixture) -> Result<(), Error> {
        let (a, b) = two(&fixture).await;
        for (round, key) in ["set", "invalidate", "through", "tag", "clear"].into_iter().enumerate() {
            let round = round as u64;
            b.set_with(key, Loaded::new(round).tags(["all", key])).await?;
            warm(&a, key).await;
            match key {
                "set" => b.set(key, &99).await?,
                "invalidate" => drop(b.invalidate(key).await?),
                "through" => {
                    let written = b.write_through(key, || async { Ok::<_, std::io::Error>(99) }).await?;
                    assert_eq!((*written, written.source()), (99, Source::Written));
                }
                "tag" => b.invalidate_tag(key).await?,
                _ => b.clear().await?,
            }
            // Mostly within a millisecond; the bound is what is promised.
            let took = until_not(&a, key, round).await;
            println!("{key}: {took:?}");
            assert!(took < BOUND + Duration::from_secs(2), "{key}: {took:?}");
            let own = b.get(key).await?;
            assert_ne!(own.as_deref(), Some(&round), "a process sees its own changes at once");
        }
        Ok(())
    }

    async fn an_invalidation_of_another_tag_leaves_the_value(fixture: Fixture) -> Result<(), Error> {
        let (a, b) = two(&fixture).await;
        b.set_with("k", Loaded::new(1).tags(["mine"])).await?;
        warm(&a, "k").await;
        b.invalidate_tag("other").await?;
        sleep(Duration::from_millis(50)).await;
        let before = a.stats().l1_hits;
        assert_eq!(a.get("k").await?.as_deref(), Some(&1));
        assert_eq!(a.stats().l1_hits, before + 1);
        Ok(())
    }

    async fn a_value_ends_here_when_its_own_time_does(fixture: Fixture) -> Result<(), Error> {
        let (cache, _) = two(&fixture).await;
        cache.set("warm", &0).await?;
        warm(&cache, "warm").await;
        cache.set_with("k", Loaded::new(1).ttl(Duration::from_millis(150))).await?;
        assert_eq!(cache.get("k").await?.as_deref(), Some(&1));
        sleep(Duration::from_millis(250)).await;
        assert!(cache.get("k").await?.is_none());
        Ok(())
    }

    async fn a_refresh_is_begun_by_hits_in_the_process(fixture: Fixture) -> Result<(), Error> {
        // A busy machine may be late with the news that keep the level trusted.
        let l1 = L1::entries(10).bound(LONG);
        let cache = builder(&fixture.client).ttl(Duration::from_secs(3)).refresh_ahead(0.1).l1(l1).build()?;
        cache.set("k", &1).await?;
        warm(&cache, "k").await;
        let start = Instant::now();
        loop {
            let got = cache.get_or_load("k", || async { Ok::<_, std::io::Error>(2) }).await?;
            assert_eq!(got.source(), Source::Local, "nobody waits");
            if *got == 2 {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(2));
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(cache.stats().refreshes, 1);
        Ok(())
    }

    async fn a_change_without_a_message_ends_within_the_bound(fixture: Fixture) -> Result<(), Error> {
        let (a, _) = two(&fixture).await;
        a.set("k", &1).await?;
        warm(&a, "k").await;
        // As when a node of a cluster did not pass the message on: it is counted, and never heard.
        let keys = fixture.client.keyspace("cache", "numbers")?;
        let meta = fixture.client.keyspace("cache-meta", "numbers")?.key("numbers");
        fixture.client.call::<i64>(Command::new("DEL").key(keys.key("k"))).await?;
        fixture.client.call::<i64>(Command::new("HINCRBY").key(&meta).arg("s").arg(1)).await?;
        let took = until_not(&a, "k", 1).await;
        println!("without a message: {took:?}");
        // Asked every quarter of the bound, waited for an eighth; and the machine is busy.
        assert!(took < BOUND + Duration::from_secs(1), "{took:?}");

        // When a later message comes, its number says so at once.
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let patient = builder(&fixture.client).l1(L1::entries(10).bound(LONG)).build()?;
        patient.set("k", &1).await?;
        warm(&patient, "k").await;
        fixture.client.call::<i64>(Command::new("DEL").key(keys.key("k"))).await?;
        fixture.client.call::<i64>(Command::new("HINCRBY").key(&meta).arg("s").arg(1)).await?;
        let hits = patient.stats().l1_hits;
        assert_eq!(patient.get("k").await?.as_deref(), Some(&1), "nobody has told it");
        assert_eq!(patient.stats().l1_hits, hits + 1);
        builder(&other).build()?.set("other", &2).await?;
        let took = until_not(&patient, "k", 1).await;
        println!("with a later message: {took:?}");
        assert!(took < SOON, "{took:?}");
        Ok(())
    }

    async fn the_row_of_changes_is_begun_before_anything_is_served(fixture: Fixture) -> Result<(), Error> {
        // Without it, a row that was lost would look like one that never was.
        let cache = builder(&fixture.client).clearable(false).build()?;
        let meta = fixture.client.keyspace("cache-meta", "numbers")?.key("numbers");
        let ask = || fixture.client.call::<Option<String>>(Command::new("HGET").key(&meta).arg("i"));
        assert_eq!(ask().await?, None);
        let start = Instant::now();
        let first = loop {
            assert!(cache.get("nothing").await?.is_none());
            if let Some(first) = ask().await? {
                break first;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "nobody begins it");
            sleep(Duration::from_millis(5)).await;
        };
        let left: i64 = fixture.client.call(Command::new("PTTL").key(&meta)).await?;
        assert!(left > 60_000, "{left}");
        cache.set("k", &1).await?;
        warm(&cache, "k").await;
        assert_eq!(ask().await?, Some(first));
        Ok(())
    }

    #[networked]
    async fn a_process_that_is_cut_off_stops_serving_within_the_bound(fixture: Fixture) -> Result<(), Error> {
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let proxy = Proxy::start(server.addr()).await.unwrap();
        let cut = fixture.config_at(&server.url_at(proxy.addr())).unwrap();
        let cut = fixture.connect(cut).await.unwrap();
        let cut = builder(&cut).build()?;
        let whole = fixture.connect(fixture.config_at(&server.url()).unwrap()).await.unwrap();
        let whole = builder(&whole).build()?;
        whole.set("k", &1).await?;
        warm(&cut, "k").await;
        proxy.half_open();
        let before = cut.stats().l1_hits;
        assert_eq!(cut.get("k").await?.as_deref(), Some(&1), "within its bound it may");
        assert_eq!(cut.stats().l1_hits, before + 1);
        whole.invalidate("k").await?;
        let invalidated = Instant::now();
        let mut served = Duration::ZERO;
        loop {
            let at = invalidated.elapsed();
            let hits = cut.stats().l1_hits;
            let got = cut.get_or_load("k", || async { Ok::<_, std::io::Error>(2) }).await?;
            match cut.stats().l1_hits > hits {
                true => served = at,
                false => {
                    assert_eq!((*got, got.source()), (2, Source::Bypassed));
                    break;
                }
            }
            assert!(at < Duration::from_secs(10));
            sleep(Duration::from_millis(2)).await;
        }
        println!("served for {served:?} after the invalidation");
        assert!(served <= BOUND, "{served:?}");
        proxy.pass();
        let start = Instant::now();
        loop {
            let got = cut.get_or_load("k", || async { Ok::<_, std::io::Error>(3) }).await?;
            assert_ne!(*got, 1, "what was kept before the cut is not served after it");
            if cut.stats().l1_hits > before + 1 && got.source() == Source::Local {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "it is not trusted again");
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    #[networked]
    async fn a_lost_subscription_throws_everything_away(fixture: Fixture) -> Result<(), Error> {
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let client = fixture.connect(fixture.config_at(&server.url()).unwrap()).await.unwrap();
        let cache = builder(&client).l1(L1::entries(10).bound(LONG)).build()?;
        cache.set("k", &1).await?;
        warm(&cache, "k").await;
        // The value goes behind its back, and nothing says so.
        let key = client.keyspace("cache", "numbers")?.key("k");
        client.call::<i64>(Command::new("DEL").key(&key)).await?;
        let hits = cache.stats().l1_hits;
        assert_eq!(cache.get("k").await?.as_deref(), Some(&1));
        assert_eq!(cache.stats().l1_hits, hits + 1);
        server.kill_subscribers().await.unwrap();
        let took = until_not(&cache, "k", 1).await;
        println!("after the subscription was lost: {took:?}");
        assert!(took < SOON, "{took:?}");
        cache.set("k", &2).await?;
        warm(&cache, "k").await;
        assert_eq!(cache.get("k").await?.as_deref(), Some(&2));
        Ok(())
    }

    #[networked]
    async fn data_that_the_server_lost_are_not_served(fixture: Fixture) -> Result<(), Error> {
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let client = fixture.connect(fixture.config_at(&server.url()).unwrap()).await.unwrap();
        let cache = builder(&client).build()?;
        cache.set("k", &1).await?;
        warm(&cache, "k").await;
        server.raw(&["FLUSHALL"]).await.unwrap();
        let took = until_not(&cache, "k", 1).await;
        println!("flushed: {took:?}");
        assert!(took < BOUND + Duration::from_secs(1), "{took:?}");

        cache.set("k", &1).await?;
        warm(&cache, "k").await;
        server.restart().await.unwrap();
        let start = Instant::now();
        while !matches!(cache.get("k").await, Ok(None)) {
            assert!(start.elapsed() < Duration::from_secs(20), "it is served after a restart");
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn a_weigher_bounds_the_kept_values(fixture: Fixture) -> Result<(), Error> {
        let cache: Cache<String> = Cache::builder(&fixture.client, "texts").redis_timeout(crate::PATIENT)
            .ttl(Duration::from_secs(60))
            .l1(L1::weighted(1000, |_, text: &String| u32::try_from(text.len()).unwrap()))
            .build()?;
        cache.set("small", &"x".repeat(10)).await?;
        cache.set("large", &"x".repeat(2000)).await?;
        let start = Instant::now();
        while cache.stats().l1_hits == 0 {
            cache.get("small").await?;
            assert!(start.elapsed() < Duration::from_secs(20));
            sleep(Duration::from_millis(5)).await;
        }
        // What has no room goes when the level next tidies up.
        loop {
            let before = cache.stats().l1_hits;
            cache.get("large").await?;
            cache.get("large").await?;
            if cache.stats().l1_hits == before {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "it has no room");
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn settings_of_the_level_are_checked(fixture: Fixture) {
        let field = |l1: L1<u64>| {
            let Err(Error::Core(redkit_core::Error::Config(error))) = builder(&fixture.client).l1(l1).build() else {
                panic!("it was taken")
            };
            error.field().to_owned()
        };
        assert_eq!(field(L1::entries(0)), "l1");
        assert_eq!(field(L1::entries(1).ttl(Duration::ZERO)), "l1.ttl");
        assert_eq!(field(L1::entries(1).bound(Duration::from_millis(1))), "l1.bound");
        assert!(builder(&fixture.client).announce_changes(false).build().is_err());
    }
}
