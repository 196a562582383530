//! The level beside an engine on which the test decides what is told of changed keys.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use redkit_cache::{Cache, L1, Loaded};
use redkit_core::{
    Backend, CallError, Capabilities, Client, ClientConfig, Command, ConnectionState, GapReason,
    Interest, Push, PushSink, PushStream, Topology, Value, push_channel,
};
use redkit_embedded::Embedded;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

const MINUTE: Duration = Duration::from_secs(60);

struct Told {
    engine: Embedded,
    topology: Topology,
    keys: Mutex<Option<PushSink>>,
    /// The commands that were sent alone.
    alone: Mutex<Vec<String>>,
}

impl Told {
    fn new(topology: Topology) -> Arc<Self> {
        Arc::new(Self {
            engine: Embedded::new(),
            topology,
            keys: Mutex::default(),
            alone: Mutex::default(),
        })
    }

    fn tell(&self, push: Push) {
        assert!(self.keys.lock().as_ref().unwrap().send(push));
    }
}

#[async_trait]
impl Backend for Told {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        self.alone.lock().push(command.name().to_owned());
        self.engine.call(command).await
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        self.engine.pipeline(commands).await
    }

    async fn subscribe(&self, interest: Interest) -> Result<PushStream, CallError> {
        let Interest::Invalidations { .. } = interest else {
            return self.engine.subscribe(interest).await;
        };
        let (sink, stream) = push_channel(100);
        *self.keys.lock() = Some(sink);
        Ok(stream)
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        self.engine.dedicated().await
    }

    fn topology(&self) -> Topology {
        self.topology
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

async fn is_kept(cache: &Cache<u64>, key: &str) -> bool {
    let before = cache.stats().l1_hits;
    cache.get(key).await.unwrap();
    cache.stats().l1_hits > before
}

async fn warm(cache: &Cache<u64>, key: &str) {
    let warm = async {
        while !is_kept(cache, key).await {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(MINUTE, warm).await.expect("it is kept");
}

#[tokio::test(start_paused = true)]
async fn each_gap_in_the_servers_messages_is_heeded() {
    let told = Told::new(Topology::Embedded);
    let backend: Arc<dyn Backend> = Arc::clone(&told) as Arc<dyn Backend>;
    let client = Client::from_backend(backend, &ClientConfig::default()).unwrap();
    // Nothing that is asked of Redis in the meantime has a part in it.
    let l1 = L1::entries(100).ttl(100 * MINUTE).bound(60 * MINUTE);
    let cache: Cache<u64> = Cache::builder(&client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(100 * MINUTE)
        .l1(l1.tracked())
        .build()
        .unwrap();
    let key = client.keyspace("cache", "numbers").unwrap().key("k");
    let delete = || client.call::<i64>(Command::new("DEL").key(&key));
    let pause = || sleep(Duration::from_millis(50));

    for push in [
        Push::Invalidate(None),
        Push::Gap(GapReason::Lagged(1)),
        Push::Gap(GapReason::Reconnected),
    ] {
        cache.set("k", &1).await.unwrap();
        warm(&cache, "k").await;
        delete().await.unwrap();
        pause().await;
        assert!(is_kept(&cache, "k").await, "nobody has told it");
        told.tell(push.clone());
        pause().await;
        assert!(cache.get("k").await.unwrap().is_none(), "{push:?}");
    }

    cache.set("k", &1).await.unwrap();
    warm(&cache, "k").await;
    told.tell(Push::Gap(GapReason::Lost));
    pause().await;
    for _ in 0..100 {
        assert!(!is_kept(&cache, "k").await, "who knows what is not told");
        pause().await;
    }
    delete().await.unwrap();
    told.tell(Push::Gap(GapReason::Reconnected));
    cache.set("other", &2).await.unwrap();
    warm(&cache, "other").await;
    let now = cache.get("k").await.unwrap();
    assert!(now.is_none(), "it was read while nothing was told");
}

#[tokio::test(start_paused = true)]
async fn reads_of_several_keys_go_to_masters_alone() {
    // On a cluster whose replicas may be read, those answer what is sent alone and only reads.
    let told = Told::new(Topology::Cluster);
    let backend: Arc<dyn Backend> = Arc::clone(&told) as Arc<dyn Backend>;
    let client = Client::from_backend(backend, &ClientConfig::default()).unwrap();
    let cache: Cache<u64> = Cache::builder(&client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(MINUTE)
        .l1(L1::entries(100))
        .build()
        .unwrap();
    let graced = || Loaded::new(1).stale_for(MINUTE).tags(["t"]);
    cache.set_with("k", graced()).await.unwrap();
    warm(&cache, "k").await;
    let plain: Cache<u64> = Cache::builder(&client, "plain")
        .redis_timeout(crate::PATIENT)
        .ttl(MINUTE)
        .build()
        .unwrap();
    plain.set_with("k", graced()).await.unwrap();
    assert_eq!(plain.get("k").await.unwrap().as_deref(), Some(&1));
    let load = || async { Ok::<_, std::io::Error>(2) };
    plain.get_or_load("other", load).await.unwrap();
    sleep(MINUTE / 2).await;
    let alone = told.alone.lock();
    let scripts = alone.iter().filter(|name| name.starts_with("EVAL"));
    assert!(scripts.count() > 3, "it was asked now and then");
    let others: Vec<_> = alone
        .iter()
        .filter(|name| !name.starts_with("EVAL"))
        .collect();
    assert!(others.is_empty(), "{others:?}");
}
