//! What readers were given, checked against what had been acknowledged when they asked, while
//! values are invalidated in every way and everything breaks.
//!
//! The source holds a number per key that only grows. A writer raises it and then invalidates; when
//! that is acknowledged, whoever asks later must be given that number or a higher one. With a level
//! in the process, "later" is by its bound.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redkit_cache::{Cache, L1, Loaded, Source};
use redkit_core::Client;
use redkit_testkit::{Close, Fixture, Proxy, Server, ServerOptions};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

const KEYS: usize = 6;
const LASTS: Duration = Duration::from_secs(6);

/// The source, and what has been acknowledged.
#[derive(Default)]
struct World {
    numbers: [AtomicU64; KEYS],
    acknowledged: [Mutex<VecDeque<(Instant, u64)>>; KEYS],
    violations: Mutex<Vec<String>>,
    reads: AtomicU64,
    stale: AtomicU64,
    acknowledgements: AtomicU64,
    refused: AtomicU64,
}

impl World {
    /// Writes the source.
    fn raise(&self, key: usize) -> u64 {
        self.numbers[key].fetch_add(1, Ordering::SeqCst) + 1
    }

    fn acknowledge(&self, key: usize, number: u64) {
        self.acknowledgements.fetch_add(1, Ordering::Relaxed);
        let mut acknowledged = self.acknowledged[key].lock();
        acknowledged.push_back((Instant::now(), number));
    }

    /// The least that who asks now must be given.
    fn least(&self, key: usize, bound: Duration) -> u64 {
        let now = Instant::now();
        let acknowledged = self.acknowledged[key].lock();
        acknowledged
            .iter()
            .filter(|(at, _)| now.duration_since(*at) >= bound)
            .map(|(_, number)| *number)
            .max()
            .unwrap_or(0)
    }
}

fn chance(one_in: u32) -> bool {
    rand::random_range(0..one_in) == 0
}

fn some_time(millis: u64) -> Duration {
    Duration::from_micros(rand::random_range(0..=millis * 1000))
}

fn some_key() -> usize {
    rand::random_range(0..KEYS)
}

async fn read(world: Arc<World>, cache: Cache<u64>, bound: Duration, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let key = some_key();
        let least = world.least(key, bound);
        let load = {
            let world = Arc::clone(&world);
            move || async move {
                sleep(some_time(2)).await;
                let number = world.numbers[key].load(Ordering::SeqCst);
                // The longer a load holds what it has read, the more can overtake it.
                sleep(some_time(if chance(10) { 60 } else { 4 })).await;
                let tag = format!("tag:{}", key % 2);
                Ok::<_, std::io::Error>(Loaded::new(number).tags([tag]))
            }
        };
        if let Ok(got) = cache.get_or_load(key, load).await {
            world.reads.fetch_add(1, Ordering::Relaxed);
            if got.source() == Source::Stale {
                world.stale.fetch_add(1, Ordering::Relaxed);
            }
            if *got < least {
                let violation =
                    format!("{key}: {} from {:?}, at least {least}", *got, got.source());
                world.violations.lock().push(violation);
            }
        }
        if chance(4) {
            sleep(some_time(2)).await;
        }
    }
}

async fn write(world: Arc<World>, cache: Cache<u64>, pause: u64, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let key = some_key();
        match rand::random_range(0..10) {
            0..5 => {
                let number = world.raise(key);
                match cache.invalidate(key).await {
                    Ok(_) => world.acknowledge(key, number),
                    Err(_) => drop(world.refused.fetch_add(1, Ordering::Relaxed)),
                }
            }
            5..7 => {
                let raised: Vec<_> = (key % 2..KEYS)
                    .step_by(2)
                    .map(|key| (key, world.raise(key)))
                    .collect();
                match cache.invalidate_tag(&format!("tag:{}", key % 2)).await {
                    Ok(()) => raised
                        .iter()
                        .for_each(|&(key, number)| world.acknowledge(key, number)),
                    Err(_) => drop(world.refused.fetch_add(1, Ordering::Relaxed)),
                }
            }
            7..9 => {
                let write = {
                    let world = Arc::clone(&world);
                    move || async move {
                        sleep(some_time(2)).await;
                        let number = world.raise(key);
                        sleep(some_time(2)).await;
                        let tag = format!("tag:{}", key % 2);
                        Ok::<_, std::io::Error>(Loaded::new(number).tags([tag]))
                    }
                };
                match cache.write_through(key, write).await {
                    Ok(written) => world.acknowledge(key, *written),
                    Err(_) => drop(world.refused.fetch_add(1, Ordering::Relaxed)),
                }
            }
            _ => {
                let raised: Vec<_> = (0..KEYS).map(|key| (key, world.raise(key))).collect();
                match cache.clear().await {
                    Ok(()) => raised
                        .iter()
                        .for_each(|&(key, number)| world.acknowledge(key, number)),
                    Err(_) => drop(world.refused.fetch_add(1, Ordering::Relaxed)),
                }
            }
        }
        sleep(some_time(pause)).await;
    }
}

/// Breaks something every now and then.
async fn break_things(server: &Server, proxies: &[Proxy], stop: &CancellationToken) {
    while !stop.is_cancelled() {
        sleep(Duration::from_millis(100) + some_time(300)).await;
        let proxy = &proxies[rand::random_range(0..proxies.len())];
        match rand::random_range(0..7) {
            0 => proxy.sever(Close::Rst),
            1 => drop(server.kill_clients().await.unwrap()),
            2 => drop(server.kill_subscribers().await.unwrap()),
            3 => drop(server.raw(&["FLUSHALL"]).await.unwrap()),
            4 => {
                server.stop().unwrap();
                sleep(some_time(300)).await;
                server.cont().unwrap();
            }
            5 => {
                proxy.half_open();
                sleep(some_time(1200)).await;
                proxy.pass();
            }
            _ => {
                proxy.black_hole();
                sleep(some_time(300)).await;
                proxy.pass();
                proxy.sever(Close::Rst);
            }
        }
    }
}

fn cache(client: &Client, l1: Option<L1<u64>>) -> Cache<u64> {
    // With a level nothing may end by itself before the bound has been put to the test.
    let ttl = Duration::from_millis(if l1.is_some() { 60_000 } else { 40 });
    let builder = Cache::builder(client, "numbers")
        .ttl(ttl)
        .stale_for(Duration::from_secs(2))
        .soft_timeout(Duration::from_millis(3))
        .refresh_ahead(0.7)
        .lease(Duration::from_millis(500))
        .load_timeout(Duration::from_secs(5))
        .retry_after(Duration::from_millis(50));
    let builder = match l1 {
        Some(l1) => builder.l1(l1),
        None => builder,
    };
    builder.build().unwrap()
}

/// Readers and writers on each client, until the time is up; gives what happened.
async fn live(
    clients: &[Client],
    l1: Option<L1<u64>>,
    bound: Duration,
    breaking: impl AsyncFnOnce(&CancellationToken),
) -> Arc<World> {
    let world = Arc::new(World::default());
    let stop = CancellationToken::new();
    let mut tasks = Vec::new();
    let mut caches = Vec::new();
    for client in clients {
        let cache = cache(client, l1.clone());
        caches.push(cache.clone());
        for _ in 0..4 {
            let (world, cache, stop) = (Arc::clone(&world), cache.clone(), stop.clone());
            tasks.push(tokio::spawn(read(world, cache, bound, stop)));
        }
        let (world, cache, stop) = (Arc::clone(&world), cache.clone(), stop.clone());
        // What is invalidated again soon is not old for long.
        let pause = if l1.is_some() { 300 } else { 12 };
        tasks.push(tokio::spawn(write(world, cache, pause, stop)));
    }
    let end = tokio::spawn({
        let stop = stop.clone();
        async move {
            sleep(LASTS).await;
            stop.cancel();
        }
    });
    breaking(&stop).await;
    end.await.unwrap();
    for task in tasks {
        tokio::time::timeout(Duration::from_secs(60), task)
            .await
            .expect("nothing is stuck")
            .unwrap();
    }
    let stats: Vec<_> = caches.iter().map(Cache::stats).collect();
    let sum = |of: fn(&redkit_cache::CacheStats) -> u64| stats.iter().map(of).sum::<u64>();
    println!(
        "{} reads ({} stale), {} in the process, {} hits, {} loads, {} fenced, {} past the cache; \
         {} acknowledged, {} not",
        world.reads.load(Ordering::Relaxed),
        world.stale.load(Ordering::Relaxed),
        sum(|stats| stats.l1_hits),
        sum(|stats| stats.hits),
        sum(|stats| stats.loads),
        sum(|stats| stats.fenced),
        sum(|stats| stats.bypasses),
        world.acknowledgements.load(Ordering::Relaxed),
        world.refused.load(Ordering::Relaxed),
    );
    assert!(sum(|stats| stats.hits) > 0 && sum(|stats| stats.fenced) > 0);
    if l1.is_some() {
        assert!(sum(|stats| stats.l1_hits) > 0, "the level was never used");
    }
    assert!(world.acknowledgements.load(Ordering::Relaxed) > 20);
    let violations = std::mem::take(&mut *world.violations.lock());
    assert!(
        violations.is_empty(),
        "{} reads were too old, such as {:?}",
        violations.len(),
        &violations[..violations.len().min(5)]
    );
    world
}

async fn live_and_break(fixture: &Fixture, l1: Option<L1<u64>>, bound: Duration) {
    let server = fixture.private_server(ServerOptions::new()).await.unwrap();
    let (mut proxies, mut clients) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let proxy = Proxy::start(server.addr()).await.unwrap();
        let config = fixture.config_at(&server.url_at(proxy.addr())).unwrap();
        let config = config.command_timeout(Duration::from_millis(250));
        clients.push(fixture.connect(config).await.unwrap());
        proxies.push(proxy);
    }
    let breaking = async |stop: &CancellationToken| break_things(&server, &proxies, stop).await;
    live(&clients, l1, bound, breaking).await;
}

async fn live_whole(fixture: &Fixture, l1: Option<L1<u64>>, bound: Duration) {
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(fixture.connect(fixture.config().unwrap()).await.unwrap());
    }
    live(&clients, l1, bound, async |_| {}).await;
}

const BOUND: Duration = Duration::from_millis(300);

fn l1() -> Option<L1<u64>> {
    Some(L1::entries(1000).bound(BOUND))
}

redkit_testkit::suite! {
    #[networked]
    #[multi_thread]
    async fn no_read_is_older_than_an_invalidation_whatever_breaks(fixture: Fixture) {
        live_and_break(&fixture, None, Duration::ZERO).await;
    }

    #[networked]
    #[multi_thread]
    async fn no_read_is_older_by_more_than_the_bound_whatever_breaks(fixture: Fixture) {
        live_and_break(&fixture, l1(), BOUND).await;
    }

    #[multi_thread]
    async fn no_read_is_older_than_an_invalidation(fixture: Fixture) {
        live_whole(&fixture, None, Duration::ZERO).await;
    }

    #[multi_thread]
    async fn no_read_is_older_by_more_than_the_bound(fixture: Fixture) {
        live_whole(&fixture, l1(), BOUND).await;
    }
}
