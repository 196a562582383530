//! [`Exclusion`]: one holder of a lock at a time, whatever befalls processes and network.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::RngExt;
use redkit_core::{Command, FromValue, Value};
use redkit_testkit::simulation::{
    FaultMenu, Process, ProcessOptions, Scenario, ScenarioContext, ServerId, Violation, World,
    WorldOptions,
};

use super::work::{KEYS, MARKS, Notes, Settings, work};
use crate::scenarios::faults;

/// Processes take locks, hold them past their leases, and are paused, killed and cut off, with clocks that drift
/// within the allowance. Between two of them there is never a third: no two hold a lock at the same time; fences
/// grow; a lock that is to stay taken for a time does so; and when all is over, every lock is free again and nothing is left.
pub(super) struct Exclusion;

/// By how much the clock of a process is fast or slow, in parts per million: leases allow for a hundredth.
pub(super) const DRIFT: i32 = 9_000;

const PROCESSES: [&str; 4] = ["ann", "bob", "cem", "dot"];

impl Scenario for Exclusion {
    fn name(&self) -> &'static str {
        "lock-exclusion"
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
        MARKS
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let operations = context.operations(10);
        let settings = Settings::draw(context.random(), operations);
        let notes = Notes::default();
        let drifts: Vec<i32> = PROCESSES
            .iter()
            .map(|_| context.random().random_range(-DRIFT..=DRIFT))
            .collect();
        let mut world = context.world(WorldOptions::default().servers(2));
        for (name, drift) in PROCESSES.iter().zip(drifts) {
            let notes = notes.clone();
            let options = ProcessOptions::new(name).drift(drift);
            world.process_with(options, move |process| {
                work(process, settings, notes.clone())
            });
        }
        let is_done = world.run_until_done(LIMIT);
        world.heal();
        notes.check(Duration::ZERO)?;
        notes.check_rest(settings.hold_at_least)?;
        faults::ends(is_done, &world)?;
        free_again(&mut world, settings, Duration::ZERO)?;
        world.run_for(settings.ttl.max(settings.hold_at_least) + Duration::from_secs(4));
        nothing_is_left(&mut world, ServerId(0))
    }
}

/// A process that works for its operations is done long before.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

/// # Errors
/// A lock that cannot be taken within the TTL of a holder that died, and `longer`.
pub(super) fn free_again(
    world: &mut World,
    settings: Settings,
    longer: Duration,
) -> Result<(), Violation> {
    let taken: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let noted = Arc::clone(&taken);
    let audit = move |process: Process| {
        let noted = Arc::clone(&noted);
        async move {
            let Ok(locks) = settings.locks(&process.client()) else {
                return;
            };
            let longest = settings.ttl.max(settings.hold_at_least) + Duration::from_millis(500);
            let longest = longest + longer;
            for key in KEYS {
                if let Ok(guard) = locks.acquire(key, longest).await {
                    noted.lock().push(key);
                    drop(guard.release().await);
                }
            }
        }
    };
    world.process("auditor", audit);
    world.run_until_done(LIMIT);
    is_free(&taken.lock(), world)
}

/// # Errors
/// A key that is not among the taken.
pub(super) fn is_free(taken: &[&'static str], world: &World) -> Result<(), Violation> {
    match KEYS.iter().find(|key| !taken.contains(key)) {
        None => Ok(()),
        Some(key) => {
            let text = format!("`{key}` is not to be had, though nobody holds it");
            Err(Violation::new("a lock is free again", world.now()).fact(world.now(), text))
        }
    }
}

/// # Errors
/// A key of a server that is no record of a fence.
pub(super) fn nothing_is_left(world: &mut World, server: ServerId) -> Result<(), Violation> {
    let keys = world.ask(server, Command::new("KEYS").arg("*"));
    let keys = keys.unwrap_or(Value::Array(Vec::new()));
    let keys: Vec<String> = FromValue::from_value(keys).unwrap_or_default();
    match keys.iter().find(|key| !key.ends_with(":fence")) {
        None => Ok(()),
        Some(key) => {
            let text = format!("the server still has `{key}`");
            Err(Violation::new("nothing is left behind", world.now()).fact(world.now(), text))
        }
    }
}
