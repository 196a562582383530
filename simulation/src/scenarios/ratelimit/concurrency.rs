//! [`Concurrency`]: permits of a concurrency limit are never more than the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt;
use redkit_ratelimit::ConcurrencyLimiter;
use redkit_testkit::simulation::checkers::Permits;
use redkit_testkit::simulation::{
    FaultMenu, Process, Scenario, ScenarioContext, Violation, World, WorldOptions,
};
use tokio::time::sleep;

use crate::holds::{Hold, Holds, hold};
use crate::scenarios::faults;

/// Processes hold permits past their leases, and are paused, killed and cut off. The permits that are held together
/// are never more than the limit, and all are free when all is over.
pub(super) struct Concurrency;

const PROCESSES: [&str; 4] = ["ann", "bob", "cem", "dot"];
const KEY: &str = "alice";
/// A caller that has a permit later than this had to wait.
const LONGER_THAN_A_CALL: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(240);

#[derive(Clone, Copy)]
struct Settings {
    limit: u64,
    lease: Duration,
    operations: usize,
}

impl Settings {
    fn limiter(&self, process: &Process) -> Option<ConcurrencyLimiter> {
        let limiter = ConcurrencyLimiter::builder(&process.client(), "exports");
        limiter.limit(self.limit).lease(self.lease).build().ok()
    }
}

impl Scenario for Concurrency {
    fn name(&self) -> &'static str {
        "ratelimit-concurrency"
    }

    fn pattern(&self) -> &'static str {
        "ratelimit"
    }

    fn processes(&self) -> usize {
        PROCESSES.len()
    }

    fn faults(&self) -> FaultMenu {
        faults::that_keep_data()
    }

    fn marks(&self) -> &'static [&'static str] {
        &["had", "had after a wait", "refused"]
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let settings = Settings {
            operations: context.operations(12),
            limit: context.random().random_range(1..=2),
            lease: Duration::from_millis(context.random().random_range(300..=1_200)),
        };
        let holds: Holds<()> = Holds::default();
        let mut world = context.world(WorldOptions::default());
        for name in PROCESSES {
            let holds = holds.clone();
            world.process(name, move |process| work(process, settings, holds.clone()));
        }
        let is_done = world.run_until_done(LIMIT);
        world.heal();
        let mut permits = Permits::new(settings.limit);
        for Hold {
            process,
            from,
            until,
            ..
        } in holds.all()
        {
            permits.held(process, KEY, 1, from, until);
        }
        permits.check()?;
        faults::ends(is_done, &world)?;
        free_again(&mut world, settings)
    }
}

async fn work(process: Process, settings: Settings, holds: Holds<()>) {
    let Some(limiter) = settings.limiter(&process) else {
        return;
    };
    let time = |millis: u64| Duration::from_millis(process.random_range(0..=millis));
    for _ in 0..settings.operations {
        sleep(time(200)).await;
        let began = process.now();
        let acquired = match process.chance(0.7) {
            true => limiter.acquire(KEY, time(1_500)).await,
            false => limiter.try_acquire(KEY).await,
        };
        let permit = match acquired {
            Ok(Some(permit)) => permit,
            Ok(None) => {
                process.reached("refused");
                continue;
            }
            Err(error) => {
                process.fails("ask for a permit", &error);
                continue;
            }
        };
        process.reached(match process.now() > began + LONGER_THAN_A_CALL {
            true => "had after a wait",
            false => "had",
        });
        process.note(|| "has a permit".to_owned());
        let holding = [holds.begin(&process, ())];
        let remaining = || (!permit.is_lost()).then_some(Duration::from_millis(12));
        hold(&process, &holding, time(900), remaining).await;
        match process.chance(0.7) {
            true => drop(permit.release().await),
            false => drop(permit),
        }
    }
}

/// # Errors
/// Permits that are not free though nobody holds them any more.
fn free_again(world: &mut World, settings: Settings) -> Result<(), Violation> {
    let had: Arc<AtomicU64> = Arc::default();
    let counted = Arc::clone(&had);
    world.process("auditor", move |process| {
        let had = Arc::clone(&counted);
        async move {
            let Some(limiter) = settings.limiter(&process) else {
                return;
            };
            // A waiter that died is skipped after three seconds.
            let longest = settings.lease + Duration::from_millis(3_500);
            let mut permits = Vec::new();
            for _ in 0..settings.limit {
                if let Ok(Some(permit)) = limiter.acquire(KEY, longest).await {
                    had.fetch_add(1, Ordering::Relaxed);
                    permits.push(permit);
                }
            }
        }
    });
    world.run_until_done(LIMIT);
    let had = had.load(Ordering::Relaxed);
    if had == settings.limit {
        return Ok(());
    }
    let text = format!(
        "{had} of {} permits are to be had, though nobody holds them",
        settings.limit
    );
    Err(Violation::new("permits are free again", world.now()).fact(world.now(), text))
}
