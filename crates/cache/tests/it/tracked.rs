//! A level that the servers tell of changed keys: it notices what other programs do to them.

use std::time::Duration;

use redkit_cache::{Cache, CacheBuilder, Error, L1, Loaded};
use redkit_core::{Client, ClientConfig, Command, Error as CoreError};
use redkit_testkit::{BackendKind, Close, Cluster, Fixture, Program, Proxy, Server, ServerOptions};
use tokio::time::{Instant, sleep, timeout};

/// Redis is asked four times in it: what happens sooner does not happen because of that.
const BOUND: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(5);

fn builder(client: &Client) -> CacheBuilder<u64> {
    Cache::builder(client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(Duration::from_secs(600))
        .l1(L1::entries(1000)
            .ttl(Duration::from_secs(600))
            .bound(BOUND)
            .tracked())
}

/// The one driver that cannot is shown by a test of its own.
fn cannot(fixture: &Fixture) -> bool {
    matches!(fixture.kind, BackendKind::Fred | BackendKind::FredSentinel)
}

/// Whether a read is answered by the process.
async fn is_kept(cache: &Cache<u64>, key: &str) -> bool {
    let before = cache.stats().l1_hits;
    // A busy machine, or one that was just broken, may let a call fail.
    let _ = cache.get(key).await;
    cache.stats().l1_hits > before
}

/// Reads until the process answers.
async fn warm(cache: &Cache<u64>, key: &str) {
    let warm = async {
        while !is_kept(cache, key).await {
            sleep(Duration::from_millis(2)).await;
        }
    };
    let warm = timeout(Duration::from_secs(20), warm);
    warm.await.expect("it comes into the process");
}

/// Reads until the process does not answer.
async fn until_dropped(cache: &Cache<u64>, key: &str, what: &str) {
    let start = Instant::now();
    while is_kept(cache, key).await {
        assert!(start.elapsed() < SOON, "{what}: it is served as before");
        sleep(Duration::from_millis(1)).await;
    }
    println!("{what}: {:?}", start.elapsed());
}

redkit_testkit::suite! {
    async fn changes_by_other_programs_are_noticed(fixture: Fixture) -> Result<(), Error> {
        if cannot(&fixture) {
            return Ok(());
        }
        let cache = builder(&fixture.client).build()?;
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let (entries, tags) = (other.keyspace("cache", "numbers")?, other.keyspace("cache-tag", "numbers")?);
        let generation = other.keyspace("cache-meta", "numbers")?.role_key("numbers", "generation");
        let (key, tag) = (entries.key("k"), tags.key("t"));
        for what in ["DEL", "SET", "PEXPIRE", "DEL of a tag", "DEL of the generation"] {
            cache.set_with("k", Loaded::new(1).tags(["t"])).await?;
            cache.set("neighbour", &3).await?;
            // On a cluster what was told of the one may come long after what was told of the other.
            sleep(Duration::from_millis(100)).await;
            warm(&cache, "k").await;
            warm(&cache, "neighbour").await;
            let change = match what {
                "DEL" => Command::new("DEL").key(&key),
                "SET" => {
                    let raw: String = other.call(Command::new("GET").key(&key)).await?;
                    let raw = raw.strip_suffix('1').unwrap().to_owned() + "7";
                    Command::new("SET").key(&key).arg(raw).arg("KEEPTTL")
                }
                "PEXPIRE" => Command::new("PEXPIRE").key(&key).arg(1),
                "DEL of a tag" => Command::new("DEL").key(&tag),
                _ => Command::new("DEL").key(&generation),
            };
            other.call::<redkit_core::Value>(change).await?;
            let now = (what == "SET").then_some(7);
            let start = Instant::now();
            while cache.get("k").await?.as_deref() != now.as_ref() {
                assert!(start.elapsed() < SOON, "{what}: it is served as before");
                sleep(Duration::from_millis(1)).await;
            }
            println!("{what}: {:?}", start.elapsed());
            if what != "DEL of the generation" {
                assert!(is_kept(&cache, "neighbour").await, "{what}: it concerns one key");
            }
        }
        Ok(())
    }

    async fn loads_of_others_leave_kept_values_alone(fixture: Fixture) -> Result<(), Error> {
        if cannot(&fixture) {
            return Ok(());
        }
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let (cache, other) = (builder(&fixture.client).build()?, builder(&other).build()?);
        cache.set_with("k", Loaded::new(1).tags(["t"])).await?;
        warm(&cache, "k").await;
        // Leases come and go, and the same tag is opened.
        for key in 0..20_u64 {
            let load = || async { Ok::<_, std::io::Error>(Loaded::new(2).tags(["t"])) };
            other.get_or_load(key, load).await?;
        }
        // What the last of them did has been told when its own key's change has.
        cache.set("last", &3).await?;
        warm(&cache, "last").await;
        other.invalidate("last").await?;
        until_dropped(&cache, "last", "invalidated").await;
        assert!(is_kept(&cache, "k").await);
        Ok(())
    }

    async fn without_announcements_every_kind_of_change_is_heard(fixture: Fixture) -> Result<(), Error> {
        if cannot(&fixture) {
            return Ok(());
        }
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let build = |client| builder(client).announce_changes(false).build();
        let (cache, other) = (build(&fixture.client)?, build(&other)?);
        for what in ["set", "invalidate", "write through", "tag", "clear"] {
            other.set_with("k", Loaded::new(1).tags(["t"])).await?;
            warm(&cache, "k").await;
            match what {
                "set" => other.set("k", &9).await?,
                "invalidate" => drop(other.invalidate("k").await?),
                "write through" => drop(other.write_through("k", || async { Ok::<_, std::io::Error>(9) }).await?),
                "tag" => other.invalidate_tag("t").await?,
                _ => other.clear().await?,
            }
            until_dropped(&cache, "k", what).await;
            let now = ["set", "write through"].contains(&what).then_some(9);
            assert_eq!(cache.get("k").await?.as_deref(), now.as_ref(), "{what}");
        }
        Ok(())
    }

    async fn a_driver_that_does_not_hear_says_so_at_once(fixture: Fixture) {
        match (builder(&fixture.client).build(), cannot(&fixture)) {
            (Ok(_), false) => {}
            (Err(Error::Core(CoreError::Config(error))), true) => {
                assert_eq!(error.field(), "l1.tracked");
                assert!(error.to_string().contains("`native` driver"), "{error}");
            }
            (built, _) => panic!("{:?}", built.map(drop)),
        }
    }

    #[paused]
    async fn values_that_a_flush_took_are_not_served(fixture: Fixture) -> Result<(), Error> {
        let cache = builder(&fixture.client).build()?;
        for flush in ["FLUSHALL", "FLUSHDB"] {
            cache.set("k", &1).await?;
            warm(&cache, "k").await;
            fixture.client.call::<()>(Command::new(flush)).await?;
            until_dropped(&cache, "k", flush).await;
            assert!(cache.get("k").await?.is_none());
        }
        Ok(())
    }
}

/// Flushes the servers, and cuts the connections on which they tell of changes.
async fn flushed_and_killed(url: &str, servers: &[&Server]) {
    let config = ClientConfig::from_url(url)
        .unwrap()
        .command_timeout(Duration::from_secs(10));
    let client = Client::connect(config).await.unwrap();
    let cache = builder(&client).build().unwrap();
    for flush in ["FLUSHALL", "FLUSHDB"] {
        cache.set("k", &1).await.unwrap();
        warm(&cache, "k").await;
        for server in servers {
            let flushed = server.raw(&[flush]).await.unwrap();
            assert!(!flushed.is_error(), "{flushed:?}");
        }
        until_dropped(&cache, "k", flush).await;
        assert!(cache.get("k").await.unwrap().is_none());
    }
    for server in servers {
        cache.set("k", &1).await.unwrap();
        warm(&cache, "k").await;
        // One of them has the connection, depending on what else goes over it.
        server.kill_clients().await.unwrap();
        server.kill_subscribers().await.unwrap();
        until_dropped(&cache, "k", "CLIENT KILL").await;
        // It is armed anew.
        warm(&cache, "k").await;
        let key = client.keyspace("cache", "numbers").unwrap().key("k");
        let delete = Command::new("DEL").key(&key).idempotent(true);
        client.call::<i64>(delete).await.unwrap();
        until_dropped(&cache, "k", "DEL after CLIENT KILL").await;
    }
    client.shutdown().await;
}

#[tokio::test]
async fn flushes_and_lost_connections_are_noticed_on_redis() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    flushed_and_killed(&server.url(), &[&server]).await;
}

#[tokio::test]
async fn flushes_and_lost_connections_are_noticed_on_valkey() {
    let server = Server::valkey(ServerOptions::new()).await.unwrap();
    flushed_and_killed(&server.url(), &[&server]).await;
}

#[tokio::test]
async fn flushes_and_lost_connections_are_noticed_on_a_cluster() {
    let cluster = Cluster::start(Program::Redis, 3, 0).await.unwrap();
    let masters = cluster.masters().await.unwrap();
    flushed_and_killed(&cluster.url(), &masters).await;
}

#[tokio::test]
async fn no_kept_value_outlives_a_change_that_was_not_told() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let proxy = Proxy::start(server.addr()).await.unwrap();
    let config = ClientConfig::from_url(&server.url_at(proxy.addr())).unwrap();
    let client = Client::connect(config).await.unwrap();
    let cache = builder(&client).build().unwrap();
    cache.set("k", &1).await.unwrap();
    warm(&cache, "k").await;
    // What the server tells now is lost, and then the connection.
    proxy.black_hole();
    let key = client.keyspace("cache", "numbers").unwrap().key("k");
    let key = String::from_utf8(key.as_bytes().to_vec()).unwrap();
    let deleted = server.raw(&["DEL", &key]).await.unwrap();
    assert_eq!(deleted.int(), Some(1));
    assert!(is_kept(&cache, "k").await, "nobody knows");
    proxy.pass();
    proxy.sever(Close::Rst);
    until_dropped(&cache, "k", "told to nobody").await;
    // It comes back, and does not bring the value with it.
    cache.set("other", &2).await.unwrap();
    warm(&cache, "other").await;
    assert!(cache.get("k").await.unwrap().is_none());
    client.shutdown().await;
}
