//! An engine on which some commands fail or hang: what the cache makes of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redkit_cache::{Cache, CacheBuilder, Error, Loaded, Source};
use redkit_core::{ClientConfig, Command, Value};
use redkit_testkit::{FaultyBackend, Injection, Rule};
use tokio::time::{Instant, sleep_until};

/// How the engine treats commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    /// Reads of entries find nothing, as if they were written right after them, and reads of tags are
    /// refused. Scripts see everything.
    RefusesTags,
    /// No command is answered.
    Hangs,
    /// Reads are answered, scripts are not.
    HangsOnScripts,
}

impl Obstacle {
    fn put_before(self, backend: &FaultyBackend) {
        let rule = |injection| Rule::new(injection).alone();
        match self {
            Obstacle::RefusesTags => {
                let refuses = Injection::Refuse("NOPERM", "not these keys");
                let names_a_tag =
                    |command: &Command| command.iter().any(|arg| arg.starts_with(b"cache-tag:"));
                backend
                    .add(rule(refuses).on(move |command| {
                        command.name().ends_with("GET") && names_a_tag(command)
                    }));
                let nothing =
                    |command: &Command| Ok(Value::Array(vec![Value::Nil; command.arg_count()]));
                backend.add(rule(Injection::answer(nothing)).on_name("MGET"));
            }
            Obstacle::Hangs => backend.add(
                rule(Injection::HangBefore).on(|command| !command.name().ends_with("SUBSCRIBE")),
            ),
            Obstacle::HangsOnScripts => backend
                .add(rule(Injection::HangBefore).on(|command| command.name().starts_with("EVAL"))),
        }
    }
}

fn obstructed() -> (Arc<FaultyBackend>, CacheBuilder<u64>) {
    let backend = FaultyBackend::embedded();
    let config = ClientConfig::default().command_timeout(Duration::from_secs(1));
    let client = backend.client_with(&config);
    let builder = Cache::builder(&client, "numbers").ttl(Duration::from_secs(60));
    (backend, builder)
}

async fn one(cache: &Cache<u64>, key: u64) -> Result<(u64, Source), Error> {
    let got = cache
        .get_or_load(key, || async { Ok::<_, std::io::Error>(2) })
        .await?;
    Ok((*got, got.source()))
}

async fn many(cache: &Cache<u64>, key: u64) -> Result<(u64, Source), Error> {
    let load = |keys: Vec<u64>| async move {
        let loaded = keys.into_iter().map(|key| (key, 2));
        Ok::<HashMap<u64, u64>, std::io::Error>(loaded.collect())
    };
    let got = cache.get_many_or_load([key], load).await.remove(0)?;
    let got = got.expect("the source has it");
    Ok((*got, got.source()))
}

#[tokio::test(start_paused = true)]
async fn an_entry_whose_tags_cannot_be_read_is_loaded_past_the_cache_by_every_way_of_asking() {
    let (backend, builder) = obstructed();
    let cache = builder.build().unwrap();
    for key in [1, 2] {
        let tagged = Loaded::new(1).tags(["shoes"]);
        assert!(cache.set_with(key, tagged).await.unwrap());
    }
    Obstacle::RefusesTags.put_before(&backend);
    let start = Instant::now();
    assert_eq!(one(&cache, 1).await.unwrap(), (2, Source::Bypassed));
    assert_eq!(many(&cache, 2).await.unwrap(), (2, Source::Bypassed));
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "nothing is waited for"
    );
    // What stands there is not worse for it.
    backend.clear();
    for key in [1_u64, 2] {
        assert_eq!(cache.get(key).await.unwrap().as_deref(), Some(&1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_up_waits_for_redis_no_longer_than_its_budget() {
    for (obstacle, budget) in [
        (Obstacle::Hangs, None),
        (Obstacle::Hangs, Some(30)),
        (Obstacle::HangsOnScripts, None),
        (Obstacle::HangsOnScripts, Some(30)),
    ] {
        // A client for each, so that no breaker has opened.
        for (n, asks) in (0..).zip([0, 1, 2]) {
            let (backend, mut builder) = obstructed();
            if let Some(budget) = budget {
                builder = builder.redis_timeout(Duration::from_millis(budget));
            }
            let cache = builder.build().unwrap();
            obstacle.put_before(&backend);
            let start = Instant::now();
            match asks {
                0 => assert_eq!(one(&cache, 1).await.unwrap(), (2, Source::Bypassed)),
                1 => assert_eq!(many(&cache, 2).await.unwrap(), (2, Source::Bypassed)),
                _ if obstacle == Obstacle::Hangs => {
                    assert!(matches!(cache.get(1_u64).await, Err(Error::Core(_))));
                }
                _ => continue,
            }
            let (took, budget) = (start.elapsed().as_millis(), budget.unwrap_or(250).into());
            assert!(
                (budget..budget + 5).contains(&took),
                "{obstacle:?}, way {n}: {took} ms"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_is_given_when_redis_does_not_answer_in_time() {
    let (backend, builder) = obstructed();
    let cache = builder
        .ttl(Duration::from_millis(100))
        .stale_for(Duration::from_secs(60))
        .build()
        .unwrap();
    cache.set(1_u64, &1).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    // The read is answered, and what would take the lease is not.
    Obstacle::HangsOnScripts.put_before(&backend);
    let fails = || async { Err::<u64, _>(std::io::Error::other("the source is down as well")) };
    let start = Instant::now();
    let got = cache.get_or_load(1_u64, fails).await.unwrap();
    assert_eq!((*got, got.source()), (1, Source::Stale));
    assert!(
        start.elapsed() < Duration::from_millis(260),
        "{:?}",
        start.elapsed()
    );
}

/// The server does what it was asked, and too late for the caller.
#[tokio::test(start_paused = true)]
async fn a_look_up_that_was_given_up_leaves_no_lease_that_others_wait_for() {
    for (in_bulk, is_alone) in [(false, false), (true, false), (true, true)] {
        let (backend, builder) = obstructed();
        let cache = builder.build().unwrap();
        // The server knows the scripts.
        assert_eq!(one(&cache, 1).await.unwrap(), (2, Source::Loaded));
        let is_look_up = |command: &Command| {
            let mut args = command.iter();
            command.name().starts_with("EVAL") && args.any(|arg| arg.ends_with(b"{2}:lease"))
        };
        let late = Injection::DelayReply(Duration::from_millis(300));
        let late = Rule::new(late).on(is_look_up).times(1);
        backend.add(if is_alone { late.alone() } else { late });
        let start = Instant::now();
        let got = match in_bulk {
            true => many(&cache, 2).await,
            false => one(&cache, 2).await,
        };
        assert_eq!(got.unwrap(), (2, Source::Bypassed));
        assert!(
            start.elapsed() < Duration::from_millis(260),
            "{:?}",
            start.elapsed()
        );
        sleep_until(start + Duration::from_millis(400)).await;
        let other = Cache::builder(&backend.client(), "numbers").ttl(Duration::from_secs(60));
        let other = other.build().unwrap();
        let start = Instant::now();
        assert_eq!(one(&other, 2).await.unwrap(), (2, Source::Loaded));
        assert!(
            start.elapsed() < Duration::from_millis(100),
            "{:?}",
            start.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_up_whose_snapshot_fails_gives_back_only_the_leases_that_it_took() {
    let (backend, builder) = obstructed();
    let cache = builder.build().unwrap();
    // The server knows the scripts, and another process is loading the second key.
    assert_eq!(one(&cache, 9).await.unwrap(), (2, Source::Loaded));
    let lease = |key: u64| format!("cache:numbers:{{{key}}}:lease");
    let client = backend.client();
    let other = Command::new("SET").key(lease(2)).arg("lother");
    client.call::<()>(other).await.unwrap();
    let is_snapshot = |command: &Command| {
        let mut args = command.iter();
        command.name().starts_with("EVAL") && args.any(|arg| arg == b"cache-meta:numbers:{numbers}")
    };
    let refuses = Injection::Refuse("NOPERM", "not this key");
    backend.set(Rule::new(refuses).on(is_snapshot).alone());
    backend.forget();
    let load = |keys: Vec<u64>| async move {
        let loaded = keys.into_iter().map(|key| (key, 2));
        Ok::<HashMap<u64, u64>, std::io::Error>(loaded.collect())
    };
    for got in cache.get_many_or_load([1, 2], load).await {
        assert_eq!(got.unwrap().unwrap().source(), Source::Bypassed);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let get = |key| Command::new("GET").key(lease(key));
    let left: Option<String> = client.call(get(1)).await.unwrap();
    assert_eq!(left, None, "this one was taken, and is given back");
    let left: Option<String> = client.call(get(2)).await.unwrap();
    assert_eq!(left.as_deref(), Some("Lother"));
    // The look-up and the release name the first, the look-up alone the second.
    let named = |key| {
        let seen = backend.seen().into_iter();
        seen.filter(|command| command.name().starts_with("EVAL"))
            .filter(|command| command.iter().any(|arg| arg == lease(key).as_bytes()))
            .count()
    };
    assert!(named(1) > 1);
    assert_eq!(named(2), 1);
}
