//! [`SingleLoads`]: in the whole fleet a key is loaded once at a time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_cache::Cache;
use redkit_testkit::simulation::checkers::SingleLoad;
use redkit_testkit::simulation::{
    FaultKind, FaultMenu, Process, Scenario, ScenarioContext, Violation, WorldOptions,
};

use super::source::{name, some_time};

/// Many callers of four processes ask for few keys, whose values end soon. Processes are killed; messages are
/// late, though not by so much that a caller gives the cache up.
pub(super) struct SingleLoads;

const PROCESSES: [&str; 4] = ["ann", "bob", "cem", "dot"];
const KEYS: usize = 3;
const CALLERS: usize = 3;

type Loads = Arc<Mutex<SingleLoad>>;

impl Scenario for SingleLoads {
    fn name(&self) -> &'static str {
        "cache-loads"
    }

    fn pattern(&self) -> &'static str {
        "cache"
    }

    fn processes(&self) -> usize {
        PROCESSES.len()
    }

    fn faults(&self) -> FaultMenu {
        FaultMenu::only(&[
            FaultKind::KillProcess,
            FaultKind::DelayRequest,
            FaultKind::DelayReply,
            FaultKind::ForgetScripts,
        ])
        .within(Duration::from_secs(3))
        .longest(Duration::from_millis(40))
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let operations = context.operations(60);
        let loads = Loads::default();
        let mut world = context.world(WorldOptions::new());
        for name in PROCESSES {
            let loads = Arc::clone(&loads);
            world.process(name, move |process| {
                work(process, Arc::clone(&loads), operations)
            });
        }
        let is_done = world.run_until_done(Duration::from_secs(300));
        loads.lock().check()?;
        match is_done {
            true => Ok(()),
            false => Err(Violation::new("every call ends", world.now())),
        }
    }
}

#[expect(clippy::panic, reason = "a scenario fails by panicking")]
async fn work(process: Process, loads: Loads, operations: usize) {
    let cache = Cache::<u64>::builder(&process.client(), "numbers")
        .ttl(Duration::from_millis(50))
        .lease(Duration::from_secs(1))
        .redis_timeout(Duration::from_millis(600))
        .build();
    let cache = cache.unwrap_or_else(|error| panic!("{error}"));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let (process, loads, cache) = (process.clone(), Arc::clone(&loads), cache.clone());
        callers.spawn(async move {
            for _ in 0..operations / CALLERS {
                ask(&process, &loads, &cache).await;
                some_time(&process, 60).await;
            }
        });
    }
    while callers.join_next().await.is_some() {}
}

async fn ask(process: &Process, loads: &Loads, cache: &Cache<u64>) {
    let key = process.random_range(0..KEYS);
    let (loader, loads) = (process.clone(), Arc::clone(loads));
    let load = move || async move {
        let load = UnderWay::new(&loader, &loads, key);
        some_time(&loader, 80).await;
        drop(load);
        Ok::<_, io::Error>(1)
    };
    let got = cache.get_or_load(name(key), load).await;
    if let Ok(got) = got {
        process.note(|| format!("gets {}, {}", name(key), got.source()));
    }
}

/// A load under way. It ends with its process at the latest.
struct UnderWay {
    process: Process,
    loads: Loads,
    key: usize,
    from: Duration,
}

impl UnderWay {
    fn new(process: &Process, loads: &Loads, key: usize) -> Self {
        process.note(|| format!("loads k{key}"));
        Self {
            process: process.clone(),
            loads: Arc::clone(loads),
            key,
            from: process.now(),
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let until = self.process.now();
        let mut loads = self.loads.lock();
        loads.loaded(self.process.id(), &name(self.key), self.from, until);
    }
}
