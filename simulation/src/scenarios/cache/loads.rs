//! [`SingleLoads`]: in the whole fleet a key is loaded once at a time, and callers have the value when it is loaded.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_cache::Cache;
use redkit_testkit::simulation::checkers::{Promptness, SingleLoad};
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

/// In a second a caller looks by itself: one that no message woke is seen before.
const LEASE: Duration = Duration::from_secs(1);
/// A caller has the value, or loads it, as soon as nobody else loads it: some messages, each of them late perhaps.
const AT_ONCE: Duration = Duration::from_millis(500);

#[derive(Clone)]
struct Seen {
    loads: Arc<Mutex<SingleLoad>>,
    waits: Arc<Mutex<Promptness>>,
}

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

    fn marks(&self) -> &'static [&'static str] {
        &["redis", "loaded", "shared"]
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let operations = context.operations(60);
        let seen = Seen {
            loads: Arc::default(),
            waits: Arc::new(Mutex::new(Promptness::new(1, AT_ONCE))),
        };
        let mut world = context.world(WorldOptions::new());
        for name in PROCESSES {
            let seen = seen.clone();
            world.process(name, move |process| work(process, seen.clone(), operations));
        }
        let is_done = world.run_until_done(Duration::from_secs(300));
        seen.loads.lock().check()?;
        seen.waits.lock().check()?;
        match is_done {
            true => Ok(()),
            false => Err(Violation::new("every call ends", world.now())),
        }
    }
}

#[expect(clippy::panic, reason = "a scenario fails by panicking")]
async fn work(process: Process, seen: Seen, operations: usize) {
    let cache = Cache::<u64>::builder(&process.client(), "numbers")
        .ttl(Duration::from_millis(50))
        .lease(LEASE)
        .redis_timeout(Duration::from_millis(600))
        .build();
    let cache = cache.unwrap_or_else(|error| panic!("{error}"));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let (process, seen, cache) = (process.clone(), seen.clone(), cache.clone());
        callers.spawn(async move {
            for _ in 0..operations / CALLERS {
                ask(&process, &seen, &cache).await;
                some_time(&process, 60).await;
            }
        });
    }
    while callers.join_next().await.is_some() {}
}

async fn ask(process: &Process, seen: &Seen, cache: &Cache<u64>) {
    let key = process.random_range(0..KEYS);
    let (loader, loads) = (process.clone(), seen.clone());
    let load = move || async move {
        let load = UnderWay::new(&loader, &loads, key);
        // Now and then longer than a lease that is not renewed.
        let longest = if loader.chance(0.03) { 2_500 } else { 80 };
        some_time(&loader, longest).await;
        drop(load);
        Ok::<_, io::Error>(1)
    };
    let mut call = Call {
        process,
        seen,
        key,
        from: process.now(),
        has_ended: false,
    };
    let got = cache.get_or_load(name(key), load).await;
    call.has_ended = true;
    drop(call);
    match &got {
        Ok(got) => process.reached(got.source().as_str()),
        Err(error) => process.fails("read", error),
    }
    if let Ok(got) = got {
        process.note(|| format!("gets {}, {}", name(key), got.source()));
    }
}

/// A call under way. It ends with its process at the latest.
struct Call<'a> {
    process: &'a Process,
    seen: &'a Seen,
    key: usize,
    from: Duration,
    has_ended: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let (id, key, now) = (self.process.id(), name(self.key), self.process.now());
        let mut waits = self.seen.waits.lock();
        waits.waited(id, &key, self.from, now);
        if !self.has_ended {
            // It may have had the lease, and the others find out when that has run out.
            waits.held(id, &key, self.from, now + LEASE);
        }
    }
}

/// A load under way. It ends with its process at the latest.
struct UnderWay {
    process: Process,
    seen: Seen,
    key: usize,
    from: Duration,
}

impl UnderWay {
    fn new(process: &Process, seen: &Seen, key: usize) -> Self {
        process.note(|| format!("loads k{key}"));
        Self {
            process: process.clone(),
            seen: seen.clone(),
            key,
            from: process.now(),
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let (id, key, until) = (self.process.id(), name(self.key), self.process.now());
        let mut loads = self.seen.loads.lock();
        loads.loaded(id, &key, self.from, until);
        let mut waits = self.seen.waits.lock();
        waits.held(id, &key, self.from, until);
    }
}
