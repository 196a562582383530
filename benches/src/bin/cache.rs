//! `cargo xtask bench cache`: hits in the process beside `moka`, hits in Redis beside `cached` and
//! `hitbox`, a stampede, and a tag on few and on many entries.
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has nothing to report"
)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cached::ConcurrentCachedAsync as _;
use cached::stores::AsyncRedisCache;
use clap::Parser;
use hitbox_backend::CacheBackend as _;
use hitbox_backend::format::JsonFormat;
use hitbox_core::{BoxContext, CacheContext, CacheKey, CacheValue, EntityPolicyConfig};
use hitbox_redis::{ConnectionMode, RedisBackend};
use redkit_benches::{Load, Paired, Section, Target, Worker, compare, verdict, write_section};
use redkit_cache::{Cache, L1, Loaded};
use redkit_core::{Client, ClientConfig};
use redkit_testkit::{Server, ServerOptions};

/// Measures the cache beside its peers.
#[derive(Debug, Parser)]
struct Arguments {
    /// End with an error when a target is missed.
    #[arg(long)]
    check: bool,
    /// Few and short rounds, and nothing is written.
    #[arg(long)]
    quick: bool,
}

const KEYS: usize = 1000;
/// Reads in the process that count as one operation: one alone is shorter than the clock's step.
const READS: usize = 100;
const MOST_OF_MOKA: f64 = 2.0;
const TTL: Duration = Duration::from_secs(600);

fn keys() -> Vec<String> {
    (0..KEYS).map(|i| format!("product:{i}")).collect()
}

/// What all of them keep.
fn value() -> String {
    "v".repeat(64)
}

/// Reads keys in turn.
struct InProcess {
    cache: Cache<String>,
    keys: Vec<String>,
    next: usize,
}

impl Worker for InProcess {
    async fn step(&mut self) {
        for _ in 0..READS {
            let key = self.keys[self.next % KEYS].as_str();
            self.next += 1;
            let load = || std::future::ready(Err::<String, _>("it is in the process"));
            let value = self.cache.get_or_load(key, load).await.unwrap();
            assert_eq!(value.len(), 64);
        }
        // Nothing in it waits for anything.
        tokio::task::yield_now().await;
    }
}

struct Moka {
    cache: moka::sync::Cache<String, Arc<String>>,
    keys: Vec<String>,
    next: usize,
}

impl Worker for Moka {
    async fn step(&mut self) {
        for _ in 0..READS {
            let key = self.keys[self.next % KEYS].as_str();
            self.next += 1;
            assert_eq!(self.cache.get(key).unwrap().len(), 64);
        }
        tokio::task::yield_now().await;
    }
}

struct InRedis {
    cache: Cache<String>,
    keys: Vec<String>,
    next: usize,
}

impl Worker for InRedis {
    async fn step(&mut self) {
        let key = self.keys[self.next % KEYS].as_str();
        self.next += 1;
        assert_eq!(self.cache.get(key).await.unwrap().unwrap().len(), 64);
    }
}

struct Cached {
    cache: Arc<AsyncRedisCache<String, String>>,
    keys: Vec<String>,
    next: usize,
}

impl Worker for Cached {
    async fn step(&mut self) {
        let key = &self.keys[self.next % KEYS];
        self.next += 1;
        let value = self.cache.async_cache_get(key).await.unwrap();
        assert_eq!(value.unwrap().len(), 64);
    }
}

type HitboxRedis = RedisBackend<JsonFormat, hitbox_backend::PassthroughCompressor>;

/// Only its backend, without the policies and predicates above it.
struct Hitbox {
    backend: Arc<HitboxRedis>,
    keys: Vec<CacheKey>,
    next: usize,
}

impl Worker for Hitbox {
    async fn step(&mut self) {
        let key = &self.keys[self.next % KEYS];
        self.next += 1;
        let mut context: BoxContext = CacheContext::default().boxed();
        let value = self.backend.get::<String>(key, &mut context).await.unwrap();
        assert_eq!(value.unwrap().data().len(), 64);
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> ExitCode {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let client = Client::connect(ClientConfig::from_url(&server.url()).unwrap())
        .await
        .unwrap();
    let (slice, rounds) = match arguments.quick {
        true => (Duration::from_millis(200), 2),
        false => (Duration::from_secs(1), 7),
    };
    let load = |tasks| Load {
        tasks,
        slice,
        rounds,
    };
    let mut text = String::new();
    let mut targets = Vec::new();

    let paired = in_process(&client, load(1)).await;
    // Each operation is many reads.
    #[expect(clippy::cast_precision_loss, reason = "a hundred")]
    let reads = READS as f64;
    let (ours, moka) = (
        1e9 / (paired.ours.throughput * reads),
        1e9 / (paired.peer.throughput * reads),
    );
    let line = format!(
        "A hit in the process takes {ours:.0} ns through `get_or_load`, `moka`'s `get` {moka:.0} ns: \
         **{:.2}** times as long (target: at most {MOST_OF_MOKA}).\n",
        1.0 / paired.throughput_ratio
    );
    println!("{line}");
    let _ = writeln!(text, "{line}");
    targets.push(Target {
        what: "a hit in the process, in times of moka's get".to_owned(),
        value: 1.0 / paired.throughput_ratio,
        at_least: None,
        at_most: Some(MOST_OF_MOKA),
    });

    let head = "| hit in Redis | peer | tasks | redkit ops/s | peer ops/s | ratio | redkit p50/p99 µs | peer p50/p99 µs |\n|---|---|---|---|---|---|---|---|";
    println!("{head}");
    let _ = writeln!(text, "{head}");
    for (clearable, peer) in [
        (true, Peer::Cached),
        (false, Peer::Cached),
        (true, Peer::Hitbox),
    ] {
        for tasks in [1, 16, 256] {
            let paired = in_redis(&client, &server, clearable, peer, load(tasks)).await;
            let what = match clearable {
                true => "as built by default",
                false => "`clearable(false)`",
            };
            let row = row(&format!("{what} | {}", peer.name()), tasks, &paired);
            println!("{row}");
            let _ = writeln!(text, "{row}");
        }
    }
    let stampede = stampede(&client).await;
    println!("\n{stampede}");
    let _ = writeln!(text, "\n{stampede}");
    let many = if arguments.quick { 2_000 } else { 100_000 };
    let tags = tags(&client, many).await;
    println!("\n{tags}");
    let _ = writeln!(text, "\n{tags}");

    let version = client.capabilities().version;
    client.shutdown().await;
    if !arguments.quick {
        let (major, minor, patch) = version;
        let text = format!(
            "## cache: beside `moka`, `cached` and `hitbox`\n\n`cargo xtask bench cache`, Redis {major}.{minor}.{patch} on \
             loopback, client and server on the same cores. Values of 64 bytes.\n`cached` is its \
             `AsyncRedisCache`: a `GET` and no more; `hitbox` its Redis backend with JSON: a hash and its time \
             left in two commands.\nOurs asks for the cache's generation too, unless it was built with \
             `clearable(false)`.\n\n{text}"
        );
        let path = write_section(&Section {
            name: "cache",
            text,
        });
        println!("written: {}", path.unwrap().display());
    }
    verdict(&targets, arguments.check)
}

async fn in_process(client: &Client, load: Load) -> Paired {
    let cache: Cache<String> = Cache::builder(client, "in-process")
        .ttl(TTL)
        .l1(L1::entries(10 * KEYS as u64))
        .build()
        .unwrap();
    let moka = moka::sync::Cache::new(10 * KEYS as u64);
    for key in keys() {
        cache.set(&key, &value()).await.unwrap();
        moka.insert(key, Arc::new(value()));
    }
    // The level is trusted once it listens; then every key comes into it.
    loop {
        let before = cache.stats().l1_hits;
        for key in keys() {
            cache.get(&key).await.unwrap();
        }
        if cache.stats().l1_hits - before == KEYS as u64 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ours = |next| InProcess {
        cache: cache.clone(),
        keys: keys(),
        next,
    };
    let peer = |next| Moka {
        cache: moka.clone(),
        keys: keys(),
        next,
    };
    compare(load, ours, peer).await
}

#[derive(Debug, Clone, Copy)]
enum Peer {
    Cached,
    Hitbox,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Peer::Cached => "`cached`",
            Peer::Hitbox => "`hitbox`",
        }
    }
}

async fn in_redis(
    client: &Client,
    server: &Server,
    clearable: bool,
    peer: Peer,
    load: Load,
) -> Paired {
    let cache: Cache<String> = Cache::builder(client, "in-redis")
        .ttl(TTL)
        .clearable(clearable)
        .build()
        .unwrap();
    for key in keys() {
        cache.set(&key, &value()).await.unwrap();
    }
    let ours = |next| InRedis {
        cache: cache.clone(),
        keys: keys(),
        next,
    };
    match peer {
        Peer::Cached => {
            let peer = Arc::new(cached_peer(server).await);
            let theirs = |next| Cached {
                cache: Arc::clone(&peer),
                keys: keys(),
                next,
            };
            compare(load, ours, theirs).await
        }
        Peer::Hitbox => {
            let keys: Vec<_> = keys()
                .iter()
                .map(|key| CacheKey::from_str("bench", key))
                .collect();
            let backend = Arc::new(hitbox_peer(server, &keys).await);
            let theirs = |next| Hitbox {
                backend: Arc::clone(&backend),
                keys: keys.clone(),
                next,
            };
            compare(load, ours, theirs).await
        }
    }
}

async fn cached_peer(server: &Server) -> AsyncRedisCache<String, String> {
    let peer = AsyncRedisCache::<String, String>::builder("peer")
        .ttl(TTL)
        .connection_string(&server.url())
        .build()
        .await
        .unwrap();
    for key in keys() {
        peer.async_cache_set(key, value()).await.unwrap();
    }
    peer
}

async fn hitbox_peer(server: &Server, keys: &[CacheKey]) -> HitboxRedis {
    let backend = RedisBackend::builder()
        .connection(ConnectionMode::single(server.url()))
        .value_format(JsonFormat)
        .build()
        .unwrap();
    let config = EntityPolicyConfig {
        ttl: Some(TTL),
        stale_ttl: None,
    };
    let mut context: BoxContext = CacheContext::default().boxed();
    for key in keys {
        let value = CacheValue::from_config(value(), &config);
        backend
            .set::<String>(key, &value, &mut context)
            .await
            .unwrap();
    }
    backend
}

/// Many callers, over two clients, on one cold key.
async fn stampede(client: &Client) -> String {
    const CALLERS: usize = 1024;
    const TAKES: Duration = Duration::from_millis(100);
    let caches = [(); 2].map(|()| {
        Cache::<String>::builder(client, "stampede")
            .ttl(TTL)
            .build()
            .unwrap()
    });
    let loads = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|i| {
            let (cache, loads) = (caches[i % 2].clone(), Arc::clone(&loads));
            tokio::spawn(async move {
                let load = || async move {
                    loads.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(TAKES).await;
                    Ok::<_, std::io::Error>(value())
                };
                cache.get_or_load("cold", load).await.unwrap();
                begun.elapsed()
            })
        })
        .collect();
    let mut waited = Vec::new();
    for caller in callers {
        waited.push(caller.await.unwrap());
    }
    waited.sort_unstable();
    format!(
        "A stampede of {CALLERS} callers over two caches on a cold key, with a load of {TAKES:?}: {} \
         load, p99 {:.1} ms.",
        loads.load(Ordering::SeqCst),
        waited[CALLERS * 99 / 100].as_secs_f64() * 1e3,
    )
}

/// How long a tag takes to be invalidated, on 10 entries and on many.
async fn tags(client: &Client, many: u64) -> String {
    let cache: Cache<u64> = Cache::builder(client, "tags").ttl(TTL).build().unwrap();
    let mut medians = Vec::new();
    for entries in [10, many] {
        let mut took = Vec::new();
        for round in 0..7_u64 {
            let tag = format!("tag-{entries}-{round}");
            // Once for the many: the tag of the later rounds is on as many of them.
            let keys: Vec<_> = (0..entries).collect();
            for some in keys.chunks(1000) {
                let tag = tag.clone();
                let load = move |keys: Vec<u64>| {
                    let tag = tag.clone();
                    let loaded = move |key| (key, Loaded::new(key).tags([tag.clone()]));
                    let all: HashMap<_, _> = keys.into_iter().map(loaded).collect();
                    std::future::ready(Ok::<_, std::io::Error>(all))
                };
                let got = cache.get_many_or_load(some.iter().copied(), load).await;
                assert!(got.iter().all(Result::is_ok));
            }
            let begun = Instant::now();
            cache.invalidate_tag(&tag).await.unwrap();
            took.push(begun.elapsed());
            assert!(cache.get(3_u64).await.unwrap().is_none());
            if entries > 10_000 && round == 2 {
                break;
            }
        }
        took.sort_unstable();
        medians.push(took[took.len() / 2]);
    }
    format!(
        "Invalidating a tag takes {:.0} µs with 10 entries and {:.0} µs with {many}.",
        medians[0].as_secs_f64() * 1e6,
        medians[1].as_secs_f64() * 1e6,
    )
}

fn row(what: &str, tasks: usize, paired: &Paired) -> String {
    let Paired { ours, peer, .. } = paired;
    format!(
        "| {what} | {tasks} | {:.0} | {:.0} | **{:.2}** | {}/{} | {}/{} |",
        ours.throughput,
        peer.throughput,
        paired.throughput_ratio,
        ours.latency.value_at_quantile(0.5),
        ours.latency.value_at_quantile(0.99),
        peer.latency.value_at_quantile(0.5),
        peer.latency.value_at_quantile(0.99),
    )
}
