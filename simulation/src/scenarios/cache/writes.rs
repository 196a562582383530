//! [`WritesThrough`]: a process that dies in the middle of a write leaves nothing behind that the source does not have.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::RngExt;
use redkit_cache::Cache;
use redkit_testkit::simulation::checkers::Freshness;
use redkit_testkit::simulation::{
    FaultKind, FaultMenu, Process, Scenario, ScenarioContext, Violation, WorldOptions,
};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::source::{name, some_time};

/// Processes write the same keys through at the same time, and die in between. Once the source has a number, and the
/// lease of the write has ended, no caller is given an older one: also where nobody was told that the write is done.
pub(super) struct WritesThrough;

const PROCESSES: [&str; 3] = ["ann", "bob", "cem"];
/// So many that a key is not written again before what was left behind can be read.
const KEYS: usize = 12;
/// Processes write this often, all of them the same key at about the same moment.
const MEETING: Duration = Duration::from_millis(250);
/// A caller that had asked before is given what was loaded before.
const LOADS: Duration = Duration::from_millis(1_000);
/// Far longer than a run: what is left behind is seen.
const TTL: Duration = Duration::from_secs(600);

#[derive(Clone)]
struct Shared {
    numbers: Arc<Mutex<[u64; KEYS]>>,
    seen: Arc<Mutex<Freshness>>,
    lease: Duration,
}

impl Scenario for WritesThrough {
    fn name(&self) -> &'static str {
        "cache-writes"
    }

    fn pattern(&self) -> &'static str {
        "cache"
    }

    fn processes(&self) -> usize {
        PROCESSES.len()
    }

    fn faults(&self) -> FaultMenu {
        // Messages are never so late that a lease ends or a write begins without the server.
        use FaultKind::{DelayReply, DelayRequest, ForgetScripts, KillProcess};
        FaultMenu::only(&[
            KillProcess,
            KillProcess,
            DelayRequest,
            DelayReply,
            ForgetScripts,
        ])
        .longest(Duration::from_millis(60))
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let operations = context.operations(60);
        let lease = Duration::from_millis(context.random().random_range(300..700));
        let shared = Shared {
            numbers: Arc::new(Mutex::new([1; KEYS])),
            seen: Arc::new(Mutex::new(Freshness::new(lease + LOADS))),
            lease,
        };
        let mut world = context.world(WorldOptions::new());
        for name in PROCESSES {
            let shared = shared.clone();
            world.process(name, move |process| {
                work(process, shared.clone(), operations)
            });
        }
        let is_done = world.run_until_done(Duration::from_secs(300));
        shared.seen.lock().check()?;
        match is_done {
            true => Ok(()),
            false => Err(Violation::new("every call ends", world.now())),
        }
    }
}

#[expect(clippy::panic, reason = "a scenario fails by panicking")]
async fn work(process: Process, shared: Shared, operations: usize) {
    let cache = Cache::<u64>::builder(&process.client(), "numbers")
        .ttl(TTL)
        .lease(shared.lease)
        .build();
    let cache = cache.unwrap_or_else(|error| panic!("{error}"));
    let worker = Arc::new(Worker {
        process,
        shared,
        cache,
    });
    let mut tasks = JoinSet::new();
    let writer = Arc::clone(&worker);
    tasks.spawn(async move {
        for _ in 0..operations / 4 {
            writer.write().await;
        }
    });
    tasks.spawn(async move {
        for _ in 0..operations {
            worker.read().await;
            some_time(&worker.process, 150).await;
        }
    });
    while tasks.join_next().await.is_some() {}
}

struct Worker {
    process: Process,
    shared: Shared,
    cache: Cache<u64>,
}

impl Worker {
    async fn read(&self) {
        let key = self.process.random_range(0..KEYS);
        let (process, numbers) = (self.process.clone(), Arc::clone(&self.shared.numbers));
        let load = move || async move {
            some_time(&process, 2).await;
            let number = numbers.lock()[key];
            some_time(&process, 20).await;
            Ok::<_, io::Error>(number)
        };
        let began = self.process.now();
        if let Ok(got) = self.cache.get_or_load(name(key), load).await {
            let (id, end) = (self.process.id(), self.process.now());
            self.process
                .note(|| format!("gets {} = {}, {}", name(key), *got, got.source()));
            let mut seen = self.shared.seen.lock();
            seen.read(id, &name(key), *got, began, end);
        }
    }

    /// Waits for the next moment at which the processes meet, and writes.
    async fn write(&self) {
        let now = self.process.now();
        let number = u32::try_from(now.as_nanos() / MEETING.as_nanos() + 1).unwrap_or_default();
        sleep((MEETING * number).saturating_sub(now)).await;
        some_time(&self.process, 20).await;
        let key = usize::try_from(number).unwrap_or_default() % KEYS;
        let (process, shared) = (self.process.clone(), self.shared.clone());
        let write = move || async move {
            some_time(&process, 10).await;
            let number = {
                let mut numbers = shared.numbers.lock();
                numbers[key] += 1;
                numbers[key]
            };
            process.note(|| format!("writes {} = {number}", name(key)));
            let (id, now) = (process.id(), process.now());
            shared.seen.lock().invalidated(id, &name(key), number, now);
            let longest = if process.chance(0.5) { 200 } else { 10 };
            some_time(&process, longest).await;
            Ok::<_, io::Error>(number)
        };
        if let Err(error) = self.cache.write_through(name(key), write).await {
            self.process.note(|| format!("is not told: {error}"));
        }
    }
}
