//! Entries: typed, readable, expiring, removable.

use std::time::Duration;

use redkit_cache::{Cache, Error, Loaded, Source};
use redkit_core::{Command, Error as CoreError};
use redkit_testkit::Fixture;
use serde::{Deserialize, Serialize};

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Product {
    name: String,
    cents: u64,
}

fn teapot() -> Product {
    Product {
        name: " \"Teapot\" ".to_owned(),
        cents: 1999,
    }
}

fn products(fixture: &Fixture) -> Cache<Product> {
    Cache::builder(&fixture.client, "products")
        .redis_timeout(crate::PATIENT)
        .ttl(MINUTE)
        .build()
        .unwrap()
}

redkit_testkit::suite! {
    async fn a_value_that_was_set_is_read_until_it_is_invalidated(fixture: Fixture) -> Result<(), Error> {
        let products = products(&fixture);
        assert_eq!(products.get("42").await?.as_deref(), None);
        products.set("42", &teapot()).await?;
        assert_eq!(products.get("42").await?.as_deref(), Some(&teapot()));
        assert!(products.invalidate("42").await?);
        assert!(!products.invalidate("42").await?);
        assert_eq!(products.get("42").await?.as_deref(), None);
        Ok(())
    }

    async fn entries_are_readable_json_under_documented_keys_with_a_ttl(fixture: Fixture) -> Result<(), Error> {
        let products = products(&fixture);
        products.set("a}b", &teapot()).await?;
        let key = format!("{}:cache:products:{{a%7Db}}", fixture.namespace());
        let raw: String = fixture.client.call(Command::new("GET").key(&key)).await?;
        // Anybody can read it: everything after the first line is the value.
        let (head, value) = raw.split_once('\n').unwrap();
        assert_eq!(value, r#"{"name":" \"Teapot\" ","cents":1999}"#);
        let fields: Vec<_> = head.split(' ').collect();
        let [format, _id, written, ttl, grace, _cost, version, kind, _generation, tags] = fields[..] else {
            panic!("{head}")
        };
        assert_eq!((format, ttl, grace, version, kind, tags), ("rk1", "60000", "0", "-", "v", "-"));
        assert!(written.parse::<u64>().unwrap() > 1_700_000_000_000_000, "{written} is no time in µs");
        let ttl: i64 = fixture.client.call(Command::new("PTTL").key(&key)).await?;
        assert!((50_000..=60_000).contains(&ttl), "{ttl} ms");
        Ok(())
    }

    async fn null_is_not_absent(fixture: Fixture) -> Result<(), Error> {
        let cache: Cache<Option<u8>> = Cache::builder(&fixture.client, "maybe").redis_timeout(crate::PATIENT).ttl(MINUTE).build()?;
        assert_eq!(cache.get("k").await?.as_deref(), None);
        cache.set("k", &None).await?;
        assert_eq!(cache.get("k").await?.as_deref(), Some(&None));
        let got = cache.get_or_load("k", || async { Ok::<_, std::io::Error>(Some(1)) }).await?;
        assert_eq!((*got, got.source()), (None, Source::Redis));
        Ok(())
    }

    async fn an_undecodable_value_is_an_error_for_get_and_loaded_anew(fixture: Fixture) -> Result<(), Error> {
        let products = products(&fixture);
        let key = fixture.client.keyspace("cache", "products")?.key("42");
        fixture.client.call::<()>(Command::new("SET").key(&key).arg("{\"old\":true}")).await?;
        let error = products.get("42").await.unwrap_err();
        let Error::Core(CoreError::Decode { raw, .. }) = &error else { panic!("{error}") };
        assert_eq!(raw, "{\"old\":true}");
        let got = products.get_or_load("42", || async { Ok::<_, std::io::Error>(teapot()) }).await?;
        assert_eq!((&*got, got.source()), (&teapot(), Source::Loaded));
        assert_eq!(products.get("42").await?.as_deref(), Some(&teapot()), "it was replaced");
        assert!(products.stats().decode_failures > 0);
        Ok(())
    }

    async fn a_loader_may_choose_its_own_time(fixture: Fixture) -> Result<(), Error> {
        let products = products(&fixture);
        let ttl = Duration::from_secs(3);
        let load = |ttl: Duration| async move { Ok::<_, std::io::Error>(Loaded::new(teapot()).ttl(ttl)) };
        products.get_or_load("short", || load(ttl)).await?;
        let key = fixture.client.keyspace("cache", "products")?.key("short");
        let left: i64 = fixture.client.call(Command::new("PTTL").key(&key)).await?;
        assert!((1..=3000).contains(&left), "{left} ms");
        products.get_or_load("never", || load(Duration::ZERO)).await?;
        assert_eq!(products.get("never").await?.as_deref(), None, "it was not kept");
        Ok(())
    }

    async fn an_entry_with_a_grace_period_of_its_own_is_not_taken_for_fresh(fixture: Fixture) -> Result<(), Error> {
        let products = products(&fixture);
        let ttl = Duration::from_millis(40);
        for key in ["one", "two"] {
            let stale = Loaded::new(teapot()).ttl(ttl).stale_for(MINUTE);
            products.set_with(key, stale).await?;
        }
        products.set("fresh", &teapot()).await?;
        tokio::time::sleep(2 * ttl).await;
        assert!(products.get("one").await?.is_none());
        let fails = || async { Err::<Product, _>(std::io::Error::other("down")) };
        assert_eq!(products.get_or_load("one", fails).await?.source(), Source::Stale);
        let fails = |_: Vec<&str>| async { Err::<std::collections::HashMap<&str, Product>, _>(std::io::Error::other("down")) };
        let got = products.get_many_or_load(["fresh", "two", "none"], fails).await;
        let sources: Vec<_> = got.into_iter().map(|got| got.ok().flatten().map(|got| got.source())).collect();
        assert_eq!(sources, [Some(Source::Redis), Some(Source::Stale), None]);
        Ok(())
    }

    #[networked]
    async fn a_read_is_one_command_to_one_server(fixture: Fixture) -> Result<(), Error> {
        let server = fixture.private_server(redkit_testkit::ServerOptions::new()).await.unwrap();
        let client = fixture.connect(fixture.config_at(&server.url()).unwrap()).await.unwrap();
        let products: Cache<Product> = Cache::builder(&client, "products").redis_timeout(crate::PATIENT).ttl(MINUTE).build()?;
        products.set("42", &teapot()).await?;
        server.raw(&["CONFIG", "RESETSTAT"]).await.unwrap();
        for _ in 0..10 {
            assert_eq!(products.get("42").await?.as_deref(), Some(&teapot()));
        }
        let stats = server.raw(&["INFO", "commandstats"]).await.unwrap().text().unwrap();
        let calls = |name: &str| {
            let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
            line.map_or(0, |line| line.split(',').next().unwrap().parse::<u64>().unwrap())
        };
        assert_eq!((calls("mget"), calls("get"), calls("hget"), calls("pttl")), (10, 0, 0, 0), "{stats}");
        Ok(())
    }

    async fn statistics_count_hits_misses_and_loads(fixture: Fixture) -> Result<(), Error> {
        let products = products(&fixture);
        for _ in 0..4 {
            products.get_or_load("42", || async { Ok::<_, std::io::Error>(teapot()) }).await?;
        }
        let stats = products.stats();
        assert_eq!((stats.hits, stats.misses, stats.loads, stats.load_failures), (3, 1, 1, 0));
        assert!((stats.hit_rate() - 0.75).abs() < 1e-9);
        Ok(())
    }

    #[paused]
    async fn an_entry_ends_with_its_time(fixture: Fixture) -> Result<(), Error> {
        let products = products(&fixture);
        products.set("42", &teapot()).await?;
        tokio::time::advance(MINUTE - Duration::from_millis(1)).await;
        assert!(products.get("42").await?.is_some());
        tokio::time::advance(Duration::from_millis(2)).await;
        assert_eq!(products.get("42").await?.as_deref(), None);
        Ok(())
    }

    async fn generations_and_tags_outlive_their_entries(fixture: Fixture) -> Result<(), Error> {
        const HOURS: Duration = Duration::from_secs(5 * 3600);
        let products = products(&fixture);
        let meta = fixture.client.keyspace("cache-meta", "products")?;
        let both = [meta.key("products"), meta.role_key("products", "generation")];
        let left = || async {
            let mut least = Duration::MAX;
            for key in &both {
                let left: i64 = fixture.client.call(Command::new("PTTL").key(key)).await?;
                least = least.min(Duration::from_millis(left.try_into().unwrap()));
            }
            Ok::<_, Error>(least)
        };
        let nearly_over = || async {
            for key in &both {
                fixture.client.call::<i64>(Command::new("PEXPIRE").key(key).arg(20_000)).await?;
            }
            Ok::<_, Error>(())
        };
        products.set("set", &teapot()).await?;
        nearly_over().await?;
        products.set("set", &teapot()).await?;
        assert!(left().await? > MINUTE, "a cache that is only written keeps it");
        nearly_over().await?;
        products.set_with("long", Loaded::new(teapot()).ttl(HOURS)).await?;
        assert!(left().await? > HOURS);
        nearly_over().await?;
        let load = || async { Ok::<_, std::io::Error>(Loaded::new(teapot()).ttl(HOURS)) };
        products.get_or_load("filled", load).await?;
        assert!(left().await? > HOURS, "the loader's own time counts");
        // A tag as well, which is prolonged in time and not with every load.
        let tag = fixture.client.keyspace("cache-tag", "products")?.key("pots");
        let tagged = || Loaded::new(teapot()).ttl(HOURS).tags(["pots"]);
        products.set_with("tagged", tagged()).await?;
        fixture.client.call::<i64>(Command::new("PEXPIRE").key(&tag).arg(20_000)).await?;
        products.set_with("tagged", tagged()).await?;
        let left: i64 = fixture.client.call(Command::new("PTTL").key(&tag)).await?;
        assert!(Duration::from_millis(left.try_into().unwrap()) > HOURS);
        Ok(())
    }

    async fn settings_that_cannot_work_name_themselves(fixture: Fixture) {
        let build = |name: &str, ttl: Option<Duration>, timeout: Duration| {
            let builder = Cache::<u8>::builder(&fixture.client, name).redis_timeout(crate::PATIENT).load_timeout(timeout);
            let builder = match ttl {
                Some(ttl) => builder.ttl(ttl),
                None => builder.config(&redkit_cache::CacheConfig::default()),
            };
            let Err(Error::Core(CoreError::Config(error))) = builder.build() else { panic!("{name}") };
            error.field().to_owned()
        };
        assert_eq!(build("a b", Some(MINUTE), MINUTE), "name");
        assert_eq!(build("a", None, MINUTE), "ttl");
        assert_eq!(build("a", Some(Duration::ZERO), MINUTE), "ttl");
        assert_eq!(build("a", Some(Duration::MAX), MINUTE), "ttl");
        assert_eq!(build("a", Some(MINUTE), Duration::ZERO), "load_timeout");
    }

    async fn shares_and_times_outside_their_bounds_name_themselves(fixture: Fixture) {
        type Builder = redkit_cache::CacheBuilder<u8>;
        let field = |change: fn(Builder) -> Builder| {
            let builder = change(Cache::<u8>::builder(&fixture.client, "a").redis_timeout(crate::PATIENT).ttl(MINUTE));
            let Err(Error::Core(CoreError::Config(error))) = builder.build() else { panic!("it was taken") };
            error.field().to_owned()
        };
        assert_eq!(field(|b| b.refresh_ahead(1.5)), "refresh_ahead");
        assert_eq!(field(|b| b.refresh_ahead(0.0)), "refresh_ahead");
        assert_eq!(field(|b| b.refresh_ahead(f64::NAN)), "refresh_ahead");
        assert_eq!(field(|b| b.refresh_early(0.0)), "refresh_early");
        assert_eq!(field(|b| b.refresh_early(f64::INFINITY)), "refresh_early");
        assert_eq!(field(|b| b.ttl_jitter(1.1)), "ttl_jitter");
        assert_eq!(field(|b| b.ttl_jitter(f64::NAN)), "ttl_jitter");
        assert_eq!(field(|b| b.negative_ttl(Duration::ZERO)), "negative_ttl");
        assert_eq!(field(|b| b.stale_for(Duration::MAX)), "stale_for");
        assert_eq!(field(|b| b.lease(Duration::ZERO)), "lease");
        assert_eq!(field(|b| b.redis_timeout(Duration::ZERO)), "redis_timeout");
        assert_eq!(field(|b| b.wait_timeout(Duration::ZERO)), "wait_timeout");
        assert_eq!(field(|b| b.retry_after(Duration::MAX)), "retry_after");
        assert_eq!(field(|b| b.max_bypass_loads(0)), "max_bypass_loads");
        // They are added to the time of day, which would overflow in the middle of a miss.
        assert_eq!(field(|b| b.load_timeout(Duration::MAX)), "load_timeout");
        assert_eq!(field(|b| b.wait_timeout(Duration::MAX)), "wait_timeout");
        assert_eq!(field(|b| b.soft_timeout(Duration::MAX)), "soft_timeout");
    }

    async fn any_bytes_are_a_key_and_none_are_too(fixture: Fixture) -> Result<(), Error> {
        let cache: Cache<u64> = Cache::builder(&fixture.client, "odd").redis_timeout(crate::PATIENT).ttl(MINUTE).build()?;
        let keys: [&[u8]; 5] = [b"", b"%", b"}{", b"\0\xff\n", b"a b"];
        for (key, value) in keys.iter().zip(0..) {
            cache.set(*key, &value).await?;
        }
        for (key, value) in keys.iter().zip(0..) {
            let got = cache.get_or_load(*key, || async { Ok::<_, std::io::Error>(99) }).await?;
            assert_eq!((*got, got.source()), (value, Source::Redis), "{key:?}");
        }
        assert!(cache.invalidate(b"".as_slice()).await?);
        assert!(cache.get("").await?.is_none());
        assert_eq!(cache.get("%").await?.as_deref(), Some(&1));
        Ok(())
    }
}
