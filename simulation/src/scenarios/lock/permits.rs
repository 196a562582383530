//! [`SemaphorePermits`]: permits of a semaphore are never more than there are.

use std::time::Duration;

use rand::RngExt;
use redkit_lock::Semaphore;
use redkit_testkit::simulation::checkers::Permits;
use redkit_testkit::simulation::{
    FaultMenu, Process, Scenario, ScenarioContext, Violation, World, WorldOptions,
};
use tokio::time::sleep;

use super::exclusion::LIMIT;
use super::work::{LONGER_THAN_A_CALL, granted};
use crate::holds::{Hold, Holds, hold};
use crate::scenarios::faults;

/// Processes take one permit or several, give some or all of them back, and are paused, killed and cut off. The
/// permits that are held together are never more than the limit, and all of them are free when all is over.
pub(super) struct SemaphorePermits;

const PROCESSES: [&str; 4] = ["ann", "bob", "cem", "dot"];
const KEY: &str = "exports";
const LIMIT_OF_PERMITS: u32 = 3;

#[derive(Clone, Copy)]
struct Settings {
    lease: Duration,
    operations: usize,
}

impl Scenario for SemaphorePermits {
    fn name(&self) -> &'static str {
        "lock-semaphore"
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
        &["held", "held after a wait", "refused", "some given back"]
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let settings = Settings {
            operations: context.operations(12),
            lease: Duration::from_millis(context.random().random_range(300..=1_200)),
        };
        let holds: Holds<u32> = Holds::default();
        let mut world = context.world(WorldOptions::default());
        for name in PROCESSES {
            let holds = holds.clone();
            world.process(name, move |process| work(process, settings, holds.clone()));
        }
        let is_done = world.run_until_done(LIMIT);
        world.heal();
        let mut permits = Permits::new(LIMIT_OF_PERMITS.into());
        for hold in holds.all() {
            let Hold {
                process,
                from,
                until,
                ..
            } = hold;
            permits.held(process, KEY, hold.what.into(), from, until);
        }
        permits.check()?;
        faults::ends(is_done, &world)?;
        free_again(&mut world, settings)
    }
}

fn semaphore(process: &Process, settings: Settings) -> Option<Semaphore> {
    let semaphore = Semaphore::builder(&process.client(), "exports");
    let semaphore = semaphore.permits(LIMIT_OF_PERMITS).lease(settings.lease);
    semaphore.build().ok()
}

async fn work(process: Process, settings: Settings, holds: Holds<u32>) {
    let Some(semaphore) = semaphore(&process, settings) else {
        return;
    };
    let time = |millis: u64| Duration::from_millis(process.random_range(0..=millis));
    for _ in 0..settings.operations {
        sleep(time(200)).await;
        let count = process.random_range(1..=LIMIT_OF_PERMITS);
        let began = process.now();
        let acquired = semaphore.acquire(KEY, count, time(1_500)).await;
        let Some(acquired) = granted(&process, acquired) else {
            continue;
        };
        let Some(mut permits) = acquired else {
            process.reached("refused");
            continue;
        };
        process.reached(match process.now() > began + LONGER_THAN_A_CALL {
            true => "held after a wait",
            false => "held",
        });
        process.note(|| format!("has {count} permits"));
        let holding = [holds.begin(&process, count)];
        let remaining =
            |permits: &redkit_lock::Permits| (!permits.is_lost()).then(|| permits.remaining());
        hold(&process, &holding, time(900), || remaining(&permits)).await;
        if count > 1 && !permits.is_lost() && process.chance(0.4) {
            // From the call on the caller holds no more than the rest.
            let rest = [holds.begin(&process, count - 1)];
            match permits.release_some(1).await {
                Ok(_) => process.reached("some given back"),
                Err(error) => process.fails("give some permits back", &error),
            }
            hold(&process, &rest, time(600), || remaining(&permits)).await;
        }
        match process.chance(0.7) {
            true => drop(permits.release().await),
            false => drop(permits),
        }
    }
}

/// # Errors
/// Permits that are not free though nobody holds them any more.
fn free_again(world: &mut World, settings: Settings) -> Result<(), Violation> {
    let holds: Holds<u32> = Holds::default();
    let noted = holds.clone();
    world.process("auditor", move |process| {
        let noted = noted.clone();
        async move {
            let Some(semaphore) = semaphore(&process, settings) else {
                return;
            };
            // A waiter that died is skipped after three seconds.
            let longest = settings.lease + Duration::from_millis(3_500);
            if let Ok(Some(permits)) = semaphore.acquire(KEY, LIMIT_OF_PERMITS, longest).await {
                noted.begin(&process, LIMIT_OF_PERMITS);
                drop(permits.release().await);
            }
        }
    });
    world.run_until_done(LIMIT);
    match holds.all().is_empty() {
        false => Ok(()),
        true => {
            let text = "permits are not to be had, though nobody holds them";
            Err(Violation::new("permits are free again", world.now()).fact(world.now(), text))
        }
    }
}
