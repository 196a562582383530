//! [`ReadWrite`]: many readers, or one writer.

use std::time::Duration;

use rand::RngExt;
use redkit_lock::{LockManager, ReadWriteLocks};
use redkit_testkit::simulation::checkers::{MutualExclusion, ReadersAndWriters};
use redkit_testkit::simulation::{
    FaultMenu, Process, Scenario, ScenarioContext, Violation, WorldOptions,
};
use tokio::time::sleep;

use super::exclusion::LIMIT;
use super::work::granted;
use crate::holds::{Hold, Holds, hold};
use crate::scenarios::faults;

/// Processes read and write, make readers of writers, and are paused, killed and cut off. A writer meets neither
/// another writer nor a reader, and the fences of writers grow.
pub(super) struct ReadWrite;

const PROCESSES: [&str; 4] = ["ann", "bob", "cem", "dot"];
const KEY: &str = "document";

#[derive(Debug, Clone, Copy)]
enum Held {
    ToRead,
    ToWrite { fence: u64 },
}

#[derive(Clone, Copy)]
struct Settings {
    ttl: Duration,
    operations: usize,
}

impl Scenario for ReadWrite {
    fn name(&self) -> &'static str {
        "lock-read-write"
    }

    fn pattern(&self) -> &'static str {
        "lock"
    }

    fn processes(&self) -> usize {
        PROCESSES.len()
    }

    fn faults(&self) -> FaultMenu {
        faults::that_keep_data()
    }

    fn marks(&self) -> &'static [&'static str] {
        &["read", "written", "made a reader of a writer"]
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let settings = Settings {
            operations: context.operations(12),
            ttl: Duration::from_millis(context.random().random_range(300..=1_200)),
        };
        let holds: Holds<Held> = Holds::default();
        let mut world = context.world(WorldOptions::default());
        for name in PROCESSES {
            let holds = holds.clone();
            world.process(name, move |process| work(process, settings, holds.clone()));
        }
        let is_done = world.run_until_done(LIMIT);
        let (mut locks, mut writers) = (ReadersAndWriters::new(), MutualExclusion::new());
        for hold in holds.all() {
            let Hold {
                process,
                from,
                until,
                ..
            } = hold;
            match hold.what {
                Held::ToRead => locks.read(process, KEY, from, until),
                Held::ToWrite { fence } => {
                    locks.wrote(process, KEY, from, until);
                    writers.held(process, KEY, Some(fence), from, until);
                }
            }
        }
        locks.check()?;
        writers.check()?;
        faults::ends(is_done, &world)
    }
}

fn locks(process: &Process, settings: Settings) -> Option<ReadWriteLocks> {
    let locks = LockManager::builder(&process.client(), "documents").ttl(settings.ttl);
    locks.build_read_write().ok()
}

async fn work(process: Process, settings: Settings, holds: Holds<Held>) {
    let Some(locks) = locks(&process, settings) else {
        return;
    };
    let time = |millis: u64| Duration::from_millis(process.random_range(0..=millis));
    for _ in 0..settings.operations {
        sleep(time(200)).await;
        if process.chance(0.6) {
            let acquired = locks.read(KEY, time(1_500)).await;
            let Some(guard) = granted(&process, acquired) else {
                continue;
            };
            process.reached("read");
            let holding = [holds.begin(&process, Held::ToRead)];
            let remaining = || (!guard.is_lost()).then(|| guard.remaining());
            hold(&process, &holding, time(700), remaining).await;
            match process.chance(0.7) {
                true => drop(guard.release().await),
                false => drop(guard),
            }
            continue;
        }
        let acquired = locks.write(KEY, time(1_500)).await;
        let Some(guard) = granted(&process, acquired) else {
            continue;
        };
        process.reached("written");
        let fence = guard.fence().get();
        process.note(|| format!("writes under fence {fence}"));
        let holding = [holds.begin(&process, Held::ToWrite { fence })];
        let remaining = || (!guard.is_lost()).then(|| guard.remaining());
        hold(&process, &holding, time(700), remaining).await;
        if process.chance(0.3) {
            let Some(reader) = granted(&process, guard.downgrade().await) else {
                continue;
            };
            process.reached("made a reader of a writer");
            let holding = [holds.begin(&process, Held::ToRead)];
            let remaining = || (!reader.is_lost()).then(|| reader.remaining());
            hold(&process, &holding, time(500), remaining).await;
        } else {
            match process.chance(0.7) {
                true => drop(guard.release().await),
                false => drop(guard),
            }
        }
    }
}
