//! [`WritesThrough`]: a process that dies in the middle of a write leaves nothing behind that the source does not have.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::{Rng, RngExt};
use redkit_cache::Cache;
use redkit_testkit::simulation::checkers::Freshness;
use redkit_testkit::simulation::{
    Fault, FaultKind, FaultMenu, Process, ProcessId, Scenario, ScenarioContext, Violation, World,
    WorldOptions,
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
    /// The processes that have written to the source, and have not told the cache yet.
    written: Arc<Mutex<Vec<ProcessId>>>,
    lease: Duration,
}

/// The time between a write of the source and the end of the call.
struct Written<'a> {
    shared: &'a Shared,
    process: ProcessId,
}

impl<'a> Written<'a> {
    fn begin(shared: &'a Shared, process: ProcessId) -> Self {
        shared.written.lock().push(process);
        Self { shared, process }
    }
}

impl Drop for Written<'_> {
    fn drop(&mut self) {
        let mut written = self.shared.written.lock();
        written.retain(|process| *process != self.process);
    }
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

    fn marks(&self) -> &'static [&'static str] {
        &["redis", "loaded", "shared", "written"]
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let operations = context.operations(60);
        let lease = Duration::from_millis(context.random().random_range(300..700));
        let shared = Shared {
            numbers: Arc::new(Mutex::new([1; KEYS])),
            seen: Arc::new(Mutex::new(Freshness::new(lease + LOADS))),
            written: Arc::default(),
            lease,
        };
        let mut world = context.world(WorldOptions::new());
        for name in PROCESSES {
            let shared = shared.clone();
            world.process(name, move |process| {
                work(process, shared.clone(), operations)
            });
        }
        kill_writers(&mut world, context.random(), &shared);
        let is_done = world.run_until_done(Duration::from_secs(300));
        shared.seen.lock().check()?;
        match is_done {
            true => Ok(()),
            false => Err(Violation::new("every call ends", world.now())),
        }
    }
}

/// Kills processes that have written to the source and have not told the cache yet.
fn kill_writers(world: &mut World, random: &mut impl Rng, shared: &Shared) {
    const TIMES: usize = 4;
    const LOOKS: usize = 200;
    const PAUSE: Duration = Duration::from_millis(5);
    for _ in 0..TIMES {
        world.run_for(Duration::from_millis(random.random_range(0..700)));
        let written = (0..LOOKS).find_map(|_| {
            world.run_for(PAUSE);
            shared.written.lock().last().copied()
        });
        let Some(process) = written else { return };
        world.inject(Fault::KillProcess {
            process,
            restart_after: Some(Duration::from_millis(random.random_range(1..60))),
        });
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
        // Often the key that is being written now.
        let key = match self.process.chance(0.4) {
            true => key_of(meeting(self.process.now())),
            false => self.process.random_range(0..KEYS),
        };
        let (process, numbers) = (self.process.clone(), Arc::clone(&self.shared.numbers));
        let load = move || async move {
            some_time(&process, 2).await;
            let number = numbers.lock()[key];
            some_time(&process, 20).await;
            Ok::<_, io::Error>(number)
        };
        let began = self.process.now();
        let got = self.cache.get_or_load(name(key), load).await;
        match &got {
            Ok(got) => self.process.reached(got.source().as_str()),
            Err(error) => self.process.fails("read", error),
        }
        if let Ok(got) = got {
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
        let number = meeting(now) + 1;
        sleep((MEETING * number).saturating_sub(now)).await;
        some_time(&self.process, 20).await;
        let key = key_of(number);
        let (process, shared) = (self.process.clone(), self.shared.clone());
        let write = move || async move {
            let longest = if process.chance(0.3) { 80 } else { 10 };
            some_time(&process, longest).await;
            let number = {
                let mut numbers = shared.numbers.lock();
                numbers[key] += 1;
                numbers[key]
            };
            process.note(|| format!("writes {} = {number}", name(key)));
            let (id, now) = (process.id(), process.now());
            shared.seen.lock().invalidated(id, &name(key), number, now);
            let _written = Written::begin(&shared, id);
            let longest = if process.chance(0.5) { 200 } else { 10 };
            some_time(&process, longest).await;
            Ok::<_, io::Error>(number)
        };
        match self.cache.write_through(name(key), write).await {
            Ok(written) => self.process.reached(written.source().as_str()),
            Err(error) => {
                self.process.fails("write", &error);
                self.process.note(|| format!("is not told: {error}"));
            }
        }
    }
}

/// The number of the last moment at which processes met.
fn meeting(now: Duration) -> u32 {
    u32::try_from(now.as_nanos() / MEETING.as_nanos()).unwrap_or_default()
}

/// The key that they write then.
fn key_of(meeting: u32) -> usize {
    usize::try_from(meeting).unwrap_or_default() % KEYS
}
