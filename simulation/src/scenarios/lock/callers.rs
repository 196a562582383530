//! [`Callers`]: which processes ask for locks on several servers and hold them now, so that a scenario can look for what
//! they have left behind, and cut them off at the worst moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use redkit_core::{Command, FromValue, Value};
use redkit_testkit::simulation::{
    Direction, Fault, Process, ProcessId, Schedule, ServerId, Violation, World,
};

use super::exclusion::LIMIT;
use super::redlock::Settings;

/// Which processes ask for locks, and hold them. Clones are of the same run.
#[derive(Clone, Default)]
pub(super) struct Callers(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// For each process the key that it asks for or holds.
    calls: BTreeMap<ProcessId, (&'static str, Step)>,
    /// When the last process was done with a key.
    done: BTreeMap<&'static str, Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Asks,
    Holds,
}

/// A call of a process, and what it holds then.
pub(super) struct Call {
    callers: Callers,
    process: Process,
    key: &'static str,
}

/// The time within which what is given back, or taken back, is gone from the servers when nothing goes wrong.
const GONE_WITHIN: Duration = Duration::from_millis(100);
/// How often a scenario looks.
const LOOK: Duration = Duration::from_millis(20);

impl Callers {
    /// A process asks for a lock.
    pub(super) fn begin(&self, process: &Process, key: &'static str) -> Call {
        let mut state = self.0.lock();
        state.calls.insert(process.id(), (key, Step::Asks));
        Call {
            callers: self.clone(),
            process: process.clone(),
            key,
        }
    }

    /// The processes that are at this step.
    fn at(&self, step: Step) -> Vec<ProcessId> {
        let state = self.0.lock();
        let at = state.calls.iter().filter(|(_, call)| call.1 == step);
        at.map(|(process, _)| *process).collect()
    }

    /// The keys that some process had, or wanted, and that nobody wants since the time within which they are free.
    fn left_alone(&self, now: Duration) -> Vec<&'static str> {
        let state = self.0.lock();
        let wanted = |key| state.calls.values().any(|(other, _)| *other == key);
        let alone = state.done.iter().filter(|(key, done)| {
            let for_how_long = now.saturating_sub(**done);
            !wanted(**key) && (GONE_WITHIN..GONE_WITHIN + 2 * LOOK).contains(&for_how_long)
        });
        alone.map(|(key, _)| *key).collect()
    }
}

impl Call {
    /// The process was told that it holds the lock.
    pub(super) fn holds(&self) {
        let mut state = self.callers.0.lock();
        let call = (self.key, Step::Holds);
        state.calls.insert(self.process.id(), call);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut state = self.callers.0.lock();
        state.calls.remove(&self.process.id());
        state.done.insert(self.key, self.process.now());
    }
}

/// Until when nothing happens that keeps a caller from giving back what it took.
pub(super) fn calm_until(schedule: &Schedule) -> Duration {
    let harmless = |fault: &Fault| {
        matches!(
            fault,
            Fault::JumpServerClock { .. } | Fault::ForgetScripts { .. }
        )
    };
    let mut harmful = schedule
        .faults
        .iter()
        .filter(|planned| !harmless(&planned.fault));
    harmful.next().map_or(LIMIT, |planned| planned.at)
}

/// Lets all processes work until they have ended, and gives whether they have. As long as nothing goes wrong it looks
/// whether anything is left of a lock that nobody holds or wants.
///
/// # Errors
/// What an attempt, or a holder, has left on a server.
pub(super) fn run_and_look(
    world: &mut World,
    settings: Settings,
    callers: &Callers,
    calm_until: Duration,
) -> Result<bool, Violation> {
    while world.now() + LOOK < calm_until.min(LIMIT) {
        if world.run_until_done(LOOK) {
            return Ok(true);
        }
        for key in callers.left_alone(world.now()) {
            let mut nodes = settings.nodes();
            nodes.try_for_each(|server| is_gone(world, server, key))?;
        }
    }
    Ok(world.run_until_done(LIMIT))
}

fn is_gone(world: &mut World, server: ServerId, key: &str) -> Result<(), Violation> {
    let keys = world.ask(server, Command::new("KEYS").arg(format!("*{key}*")));
    let keys = keys.unwrap_or(Value::Array(Vec::new()));
    let keys: Vec<String> = FromValue::from_value(keys).unwrap_or_default();
    match keys.iter().find(|key| !key.ends_with(":fence")) {
        None => Ok(()),
        Some(left) => {
            let text = format!("server {} still has `{left}`", server.0);
            let violation = Violation::new("what was not granted is given back", world.now());
            Err(violation.fact(world.now(), text))
        }
    }
}

/// Holds up one answer of servers that are asked for a lock, and cuts the process that is granted it off from a
/// majority at once, for longer than its lease: it cannot renew it, and another takes the lock as soon as it ends there.
pub(super) fn cut_holders_off(
    world: &mut World,
    random: &mut impl Rng,
    settings: Settings,
    callers: &Callers,
) {
    const TIMES: usize = 6;
    const LOOKS: usize = 100;
    const PAUSE: Duration = Duration::from_millis(2);
    for _ in 0..TIMES {
        world.run_for(Duration::from_millis(random.random_range(20..400)));
        let asking = (0..LOOKS).find_map(|_| {
            world.run_for(PAUSE);
            callers.at(Step::Asks).first().copied()
        });
        let Some(process) = asking else { return };
        let mut servers: Vec<ServerId> = settings.nodes().collect();
        servers.shuffle(random);
        let majority = servers.len() / 2 + 1;
        for server in servers.iter().take(majority) {
            world.inject(Fault::DelayReply {
                process,
                server: *server,
                by: settings
                    .node_timeout
                    .mul_f64(random.random_range(0.3..0.95)),
            });
        }
        let is_granted = (0..2 * LOOKS).any(|_| {
            world.run_for(PAUSE);
            callers.at(Step::Holds).contains(&process)
        });
        if !is_granted {
            continue;
        }
        servers.shuffle(random);
        for server in servers.into_iter().take(majority) {
            world.inject(Fault::Partition {
                process,
                server,
                direction: Direction::Both,
                lasts: settings.ttl.mul_f64(1.5),
            });
        }
        world.run_for(settings.ttl);
    }
}
