//! Writers that know nothing of this library, and tracked levels that are read all the time: no
//! read is older than what such a writer removed a while ago.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redkit_cache::{Cache, L1};
use redkit_core::{Client, Command};
use redkit_testkit::{BackendKind, Fixture, Server, ServerOptions};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const KEYS: usize = 12;
const LASTS: Duration = Duration::from_secs(4);

/// Mostly a millisecond; the machine may be busy, and a lost connection has to be made anew.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Default)]
struct World {
    /// The source.
    numbers: [AtomicU64; KEYS],
    /// What was removed, and when that was acknowledged.
    removed: Mutex<Vec<(usize, Instant, u64)>>,
    violations: Mutex<Vec<String>>,
}

impl World {
    /// What a read that begins now must give at least.
    fn least(&self, key: usize) -> u64 {
        let removed = self.removed.lock();
        let old = removed
            .iter()
            .filter(|(of, at, _)| *of == key && at.elapsed() > PATIENCE);
        old.map(|(.., number)| *number).max().unwrap_or(0)
    }
}

fn some_time(millis: u64) -> Duration {
    Duration::from_micros(rand::random_range(0..=millis * 1000))
}

fn cache(client: &Client) -> Cache<u64> {
    // Nothing but what the servers tell can say that a value is old.
    let l1 = L1::entries(100).bound(Duration::from_secs(600)).tracked();
    let builder = Cache::builder(client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(Duration::from_secs(600));
    builder.announce_changes(false).l1(l1).build().unwrap()
}

async fn read(world: Arc<World>, cache: Cache<u64>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let key = rand::random_range(0..KEYS);
        let least = world.least(key);
        let load = {
            let world = Arc::clone(&world);
            move || async move {
                let number = world.numbers[key].load(Ordering::SeqCst);
                sleep(some_time(3)).await;
                Ok::<_, std::io::Error>(number)
            }
        };
        match cache.get_or_load(key, load).await {
            Ok(got) if *got < least => {
                let violation = format!("{key}: {} from {:?} after {least}", *got, got.source());
                world.violations.lock().push(violation);
            }
            _ => {}
        }
        sleep(some_time(2)).await;
    }
}

/// Removes entry and lease, as `docs/keyspace.md` tells other programs to.
async fn remove(world: &World, client: &Client) {
    let keys = client.keyspace("cache", "numbers").unwrap();
    let key = rand::random_range(0..KEYS);
    // Several in a row: while what the first made necessary is under way.
    for _ in 0..3 {
        let number = world.numbers[key].fetch_add(1, Ordering::SeqCst) + 1;
        let both = [keys.key(key), keys.role_key(key, "lease")];
        let both = Command::new("DEL").keys_from(&both).idempotent(true);
        if client.call::<i64>(both).await.is_ok() {
            world.removed.lock().push((key, Instant::now(), number));
        }
        sleep(some_time(4)).await;
    }
}

async fn live(clients: &[Client], writer: &Client, server: Option<&Server>) {
    let world = Arc::new(World::default());
    let stop = CancellationToken::new();
    let caches: Vec<_> = clients.iter().map(cache).collect();
    let readers: Vec<_> = caches
        .iter()
        .flat_map(|cache| [cache; 4])
        .map(|cache| tokio::spawn(read(Arc::clone(&world), cache.clone(), stop.clone())))
        .collect();
    let start = Instant::now();
    while start.elapsed() < LASTS {
        remove(&world, writer).await;
        match server {
            Some(server) if rand::random_range(0..6) == 0 => {
                server.kill_subscribers().await.unwrap();
            }
            _ => {}
        }
        sleep(some_time(150)).await;
    }
    sleep(PATIENCE + PATIENCE / 2).await;
    stop.cancel();
    for reader in readers {
        let reader = tokio::time::timeout(Duration::from_secs(30), reader);
        reader.await.expect("nothing is stuck").unwrap();
    }
    let kept: u64 = caches.iter().map(|cache| cache.stats().l1_hits).sum();
    let loads: u64 = caches.iter().map(|cache| cache.stats().loads).sum();
    let removed = world.removed.lock().len();
    println!("{kept} hits in the process, {loads} loads, {removed} removals");
    assert!(kept > 100 && removed > 50);
    let violations = std::mem::take(&mut *world.violations.lock());
    assert!(
        violations.is_empty(),
        "{} reads were too old, such as {:?}",
        violations.len(),
        &violations[..violations.len().min(5)]
    );
}

fn cannot(fixture: &Fixture) -> bool {
    matches!(fixture.kind, BackendKind::Fred | BackendKind::FredSentinel)
}

redkit_testkit::suite! {
    #[multi_thread]
    async fn no_read_is_older_than_another_programs_removal(fixture: Fixture) {
        if cannot(&fixture) {
            return;
        }
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(fixture.connect(fixture.config().unwrap()).await.unwrap());
        }
        live(&clients, &fixture.client, None).await;
    }

    #[networked]
    #[multi_thread]
    async fn no_read_is_older_than_another_programs_removal_though_connections_are_lost(fixture: Fixture) {
        if cannot(&fixture) {
            return;
        }
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let mut clients = Vec::new();
        for _ in 0..3 {
            let config = fixture.config_at(&server.url()).unwrap();
            clients.push(fixture.connect(config).await.unwrap());
        }
        let writer = fixture.connect(fixture.config_at(&server.url()).unwrap()).await.unwrap();
        live(&clients, &writer, Some(&server)).await;
    }
}
