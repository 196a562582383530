//! Tags and clearing: many values gone at once, none of them touched, and none that comes back.

use std::time::Duration;

use redkit_cache::{Cache, CacheBuilder, Error, Loaded, Source};
use redkit_core::Command;
use redkit_testkit::Fixture;
use tokio::sync::oneshot;
use tokio::time::Instant;

fn builder(client: &redkit_core::Client) -> CacheBuilder<u64> {
    Cache::builder(client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(Duration::from_secs(60))
}

type Loading = Result<Loaded<u64>, std::io::Error>;

redkit_testkit::suite! {
    async fn all_values_with_a_tag_go_and_no_others(fixture: Fixture) -> Result<(), Error> {
        let cache = builder(&fixture.client).build()?;
        for i in 0..30_u64 {
            let tags = [format!("third:{}", i % 3), "every thing, with = and %".to_owned()];
            assert!(cache.set_with(i, Loaded::new(i).tags(tags)).await?);
        }
        cache.invalidate_tag("third:1").await?;
        for i in 0..30_u64 {
            let found = cache.get(i).await?;
            assert_eq!(found.as_deref(), (i % 3 != 1).then_some(&i), "{i}");
        }
        cache.invalidate_tags(["third:0", "every thing, with = and %"]).await?;
        for i in 0..30_u64 {
            assert!(cache.get(i).await?.is_none());
        }
        let load = || async { Loading::Ok(Loaded::new(7).tags(["third:1"])) };
        assert_eq!(cache.get_or_load(1, load).await?.source(), Source::Loaded);
        assert_eq!(cache.get_or_load(1, load).await?.source(), Source::Redis);
        Ok(())
    }

    async fn a_tag_that_is_invalidated_during_a_load_is_not_missed(fixture: Fixture) -> Result<(), Error> {
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let (cache, other) = (builder(&fixture.client).build()?, builder(&other).build()?);
        // Once with a tag that is new, once with one that is known.
        for _ in 0..2 {
            let (reading, read) = oneshot::channel();
            let (go, told) = oneshot::channel::<()>();
            let old = tokio::spawn({
                let cache = cache.clone();
                async move {
                    let load = || async move {
                        reading.send(()).unwrap();
                        told.await.unwrap();
                        // Only now the loader says which tags it has.
                        Loading::Ok(Loaded::new(1).tags(["shoes"]))
                    };
                    cache.get_or_load("k", load).await
                }
            });
            read.await.unwrap();
            other.invalidate_tag("shoes").await?;
            // It asks after the invalidation, and boards what began before it.
            let shared = cache.stats().shared;
            let late = cache.get_or_load("k", || async { Loading::Ok(Loaded::new(2).tags(["shoes"])) });
            let (late, ()) = tokio::join!(late, async {
                while cache.stats().shared == shared {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                go.send(()).unwrap();
            });
            assert_eq!(*late?, 2);
            assert_eq!(*old.await.unwrap()?, 1);
            assert_eq!(cache.get("k").await?.as_deref(), Some(&2));
            cache.invalidate_tag("shoes").await?;
        }
        Ok(())
    }

    async fn a_lost_generation_is_a_miss_and_never_a_resurrection(fixture: Fixture) -> Result<(), Error> {
        let cache = builder(&fixture.client).build()?;
        cache.set_with("k", Loaded::new(1).tags(["shoes"])).await?;
        let tag = fixture.client.keyspace("cache-tag", "numbers")?.key("shoes");
        fixture.client.call::<i64>(Command::new("DEL").key(&tag)).await?;
        assert!(cache.get("k").await?.is_none());
        cache.set_with("other", Loaded::new(2).tags(["shoes"])).await?;
        assert!(cache.get("k").await?.is_none(), "a new generation is another one");

        // Evicted, expired or flushed, alone or with the hash beside it.
        let meta = fixture.client.keyspace("cache-meta", "numbers")?;
        let (hash, generation) = (meta.key("numbers"), meta.role_key("numbers", "generation"));
        for lost in [vec![&generation], vec![&hash, &generation]] {
            cache.set("plain", &3).await?;
            assert_eq!(cache.get("plain").await?.as_deref(), Some(&3));
            let both = Command::new("DEL").keys_from(lost);
            fixture.client.call::<i64>(both).await?;
            assert!(cache.get("plain").await?.is_none());
            let load = |_: Vec<&str>| async { Ok::<_, std::io::Error>(std::collections::HashMap::<&str, u64>::new()) };
            assert!(cache.get_many_or_load(["plain"], load).await.remove(0)?.is_none());
            cache.set("new", &4).await?;
            assert_eq!(cache.get("new").await?.as_deref(), Some(&4));
            assert!(cache.get("plain").await?.is_none(), "a new one is another one");
        }
        Ok(())
    }

    async fn clearing_removes_everything_of_this_cache(fixture: Fixture) -> Result<(), Error> {
        let cache = builder(&fixture.client).build()?;
        let neighbour: Cache<u64> = Cache::builder(&fixture.client, "others").redis_timeout(crate::PATIENT).ttl(Duration::from_secs(60)).build()?;
        neighbour.set(1, &1).await?;
        for i in 0..10_u64 {
            cache.set(i, &i).await?;
        }
        cache.clear().await?;
        for i in 0..10_u64 {
            assert!(cache.get(i).await?.is_none());
        }
        assert_eq!(neighbour.get(1).await?.as_deref(), Some(&1));
        // With a generation that was seen before the clearing by another process.
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let other = builder(&other).build()?;
        other.set("k", &1).await?;
        cache.clear().await?;
        other.set("k", &2).await?;
        assert_eq!(cache.get("k").await?.as_deref(), Some(&2), "it was set after the clearing");
        Ok(())
    }

    async fn a_version_from_before_a_clearing_keeps_no_other_away(fixture: Fixture) -> Result<(), Error> {
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let (cache, other) = (builder(&fixture.client).build()?, builder(&other).build()?);
        let of = |version: u64| Loaded::new(version).version(version);
        // Set, loaded, and set by one that has not heard of the clearing.
        cache.set_with("set", of(9)).await?;
        cache.set_with("load", of(9)).await?;
        other.set_with("late", of(9)).await?;
        cache.clear().await?;
        assert!(cache.set_with("set", of(5)).await?);
        assert_eq!(cache.get("set").await?.as_deref(), Some(&5));
        let load = || async { Loading::Ok(Loaded::new(5).version(5)) };
        assert_eq!(cache.get_or_load("load", load).await?.source(), Source::Loaded);
        assert_eq!(cache.get("load").await?.as_deref(), Some(&5));
        assert!(other.set_with("late", of(5)).await?);
        assert_eq!(cache.get("late").await?.as_deref(), Some(&5));

        // But what was written after it counts, for those as well who have not heard of it.
        cache.clear().await?;
        cache.set_with("late", of(7)).await?;
        assert!(!other.set_with("late", of(6)).await?);
        assert_eq!(cache.get("late").await?.as_deref(), Some(&7));
        Ok(())
    }

    async fn a_newer_version_after_a_clearing_stays_though_an_older_load_lands(fixture: Fixture) -> Result<(), Error> {
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let (cache, other) = (builder(&fixture.client).build()?, builder(&other).build()?);
        let (reading, read) = oneshot::channel();
        let (go, told) = oneshot::channel::<()>();
        let old = tokio::spawn({
            let cache = cache.clone();
            async move {
                let load = || async move {
                    reading.send(()).unwrap();
                    told.await.unwrap();
                    Loading::Ok(Loaded::new(5).version(5))
                };
                cache.get_or_load("k", load).await
            }
        });
        read.await.unwrap();
        other.clear().await?;
        // By other means than `set`, which would take the lease away: by a copy.
        other.set_with("k2", Loaded::new(9).version(9)).await?;
        let entries = fixture.client.keyspace("cache", "numbers")?;
        let raw: bytes::Bytes = fixture.client.call(Command::new("GET").key(entries.key("k2"))).await?;
        fixture.client.call::<()>(Command::new("SET").key(entries.key("k")).arg(raw).arg("PX").arg(60_000)).await?;
        go.send(()).unwrap();
        assert_eq!(*old.await.unwrap()?, 5);
        assert_eq!(cache.get("k").await?.as_deref(), Some(&9));
        let lease = Command::new("EXISTS").key(entries.role_key("k", "lease"));
        assert!(!fixture.client.call::<bool>(lease).await?, "it was given back");
        Ok(())
    }

    async fn a_load_that_is_cleared_meanwhile_is_not_shared_with_later_callers(fixture: Fixture) -> Result<(), Error> {
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let (cache, other) = (builder(&fixture.client).build()?, builder(&other).build()?);
        let (reading, read) = oneshot::channel();
        let (go, told) = oneshot::channel::<()>();
        let old = tokio::spawn({
            let cache = cache.clone();
            async move {
                let load = || async move {
                    reading.send(()).unwrap();
                    told.await.unwrap();
                    Ok::<_, std::io::Error>(1)
                };
                cache.get_or_load("k", load).await
            }
        });
        read.await.unwrap();
        other.clear().await?;
        let late = cache.get_or_load("k", || async { Ok::<_, std::io::Error>(2) });
        assert_eq!(*late.await?, 2, "it does not wait for the load from before");
        go.send(()).unwrap();
        old.await.unwrap()?;
        assert_eq!(cache.get("k").await?.as_deref(), Some(&2));
        Ok(())
    }

    async fn a_cache_that_cannot_be_cleared_says_so(fixture: Fixture) -> Result<(), Error> {
        let cache = builder(&fixture.client).clearable(false).build()?;
        cache.set("k", &1).await?;
        assert_eq!(cache.get("k").await?.as_deref(), Some(&1));
        assert!(matches!(cache.clear().await, Err(Error::NotClearable)));
        Ok(())
    }

    /// The figure is in the benchmark; here the work is counted: no command per entry.
    #[networked]
    async fn invalidating_a_tag_takes_as_many_commands_for_many_values_as_for_few(fixture: Fixture) -> Result<(), Error> {
        let server = fixture.private_server(redkit_testkit::ServerOptions::new()).await.unwrap();
        let client = fixture.connect(fixture.config_at(&server.url()).unwrap()).await.unwrap();
        let cache = builder(&client).build()?;
        let mut took = Vec::new();
        for (tag, entries) in [("few", 10_u64), ("many", 1000)] {
            let load = |i: u64| async move { Loading::Ok(Loaded::new(i).tags([tag])) };
            let keys = futures_util::stream::iter((0..entries).map(|i| format!("{tag}:{i}")));
            let warmed = cache.warm(keys).concurrency(20).run(|_| load(1)).await;
            assert_eq!(warmed.loaded, entries);
            let before = commands(&client).await;
            let start = Instant::now();
            cache.invalidate_tag(tag).await?;
            took.push((start.elapsed(), commands(&client).await - before));
            assert!(cache.get(format!("{tag}:3")).await?.is_none());
        }
        println!("10 entries: {:?}; 1,000 entries: {:?}", took[0], took[1]);
        // The scripts were sent by the first, and the server's own probes come in between.
        assert!(took[1].1 <= took[0].1 + 5, "{took:?}");
        Ok(())
    }
}

async fn commands(client: &redkit_core::Client) -> u64 {
    let info = Command::new("INFO").arg("stats");
    let text: String = client.call(info).await.unwrap();
    let at = text.find("total_commands_processed:").unwrap() + 25;
    text[at..]
        .chars()
        .take_while(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .unwrap()
}
