//! An engine on which some commands fail or hang: what the cache makes of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use redkit_cache::{Cache, CacheBuilder, Error, Loaded, Source};
use redkit_core::{
    Backend, CallError, Capabilities, Client, ClientConfig, Command, ConnectionState, Fault,
    FaultKind, Interest, PushStream, ServerError, Topology, Value,
};
use redkit_embedded::Embedded;
use tokio::sync::watch;
use tokio::time::Instant;

/// What the engine does with a command that names a key with a given part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    Nothing,
    /// Reads of entries find nothing, as if they were written right after them, and reads of tags are
    /// refused. Scripts see everything.
    RefusesTags,
    /// No command is answered.
    Hangs,
    /// Reads are answered, scripts are not.
    HangsOnScripts,
}

struct Obstructed {
    engine: Embedded,
    obstacle: Mutex<Obstacle>,
}

impl Obstructed {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            engine: Embedded::new(),
            obstacle: Mutex::new(Obstacle::Nothing),
        })
    }

    fn set(&self, obstacle: Obstacle) {
        *self.obstacle.lock() = obstacle;
    }

    async fn meets(&self, command: &Command) -> Option<CallError> {
        let obstacle = *self.obstacle.lock();
        let hangs = match obstacle {
            Obstacle::Hangs => true,
            Obstacle::HangsOnScripts => command.name().starts_with("EVAL"),
            Obstacle::Nothing | Obstacle::RefusesTags => false,
        };
        if hangs {
            let deadline = command.deadline_at().expect("every command has one");
            tokio::time::sleep_until(deadline).await;
            return Some(Fault::new(FaultKind::Timeout, "no reply").maybe());
        }
        let is_refused = obstacle == Obstacle::RefusesTags
            && command.name().ends_with("GET")
            && command.iter().any(|arg| arg.starts_with(b"cache-tag:"));
        is_refused.then(|| CallError::Replied(ServerError::new("NOPERM", "not these keys")))
    }
}

#[async_trait]
impl Backend for Obstructed {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        if let Some(error) = self.meets(command).await {
            return Err(error);
        }
        let is_early = *self.obstacle.lock() == Obstacle::RefusesTags && command.name() == "MGET";
        if is_early {
            return Ok(Value::Array(vec![Value::Nil; command.arg_count()]));
        }
        self.engine.call(command).await
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let mut replies = Vec::new();
        for command in commands {
            replies.push(self.call(command).await);
        }
        Ok(replies)
    }

    async fn subscribe(&self, interest: Interest) -> Result<PushStream, CallError> {
        self.engine.subscribe(interest).await
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        self.engine.dedicated().await
    }

    fn topology(&self) -> Topology {
        self.engine.topology()
    }

    fn capabilities(&self) -> Capabilities {
        self.engine.capabilities()
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.engine.state()
    }

    async fn shutdown(&self) {
        self.engine.shutdown().await;
    }
}

fn obstructed() -> (Arc<Obstructed>, CacheBuilder<u64>) {
    let backend = Obstructed::new();
    let client = Client::from_backend(
        Arc::clone(&backend) as Arc<dyn Backend>,
        &ClientConfig::default().command_timeout(Duration::from_secs(1)),
    )
    .unwrap();
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
    backend.set(Obstacle::RefusesTags);
    let start = Instant::now();
    assert_eq!(one(&cache, 1).await.unwrap(), (2, Source::Bypassed));
    assert_eq!(many(&cache, 2).await.unwrap(), (2, Source::Bypassed));
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "nothing is waited for"
    );
    // What stands there is not worse for it.
    backend.set(Obstacle::Nothing);
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
            backend.set(obstacle);
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
    backend.set(Obstacle::HangsOnScripts);
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
