//! [`OnSeveral`]: locks that a majority of independent servers grants.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::{Rng, RngExt};
use redkit_core::breaker::BreakerConfig;
use redkit_core::{Client, ClientConfig};
use redkit_lock::{Error, FencedRegister, Redlock, RedlockGuard};
use redkit_testkit::simulation::{
    Fault, FaultKind, FaultMenu, Process, ProcessOptions, Scenario, ScenarioContext, Schedule,
    ServerId, Violation, World, WorldOptions,
};
use tokio::time::{sleep, timeout};

use super::callers::{Callers, calm_until, cut_holders_off, run_and_look};
use super::exclusion::{DRIFT, LIMIT, is_free, nothing_is_left};
use super::work::{KEYS, Lock, Notes};
use crate::holds::{Holding, hold};
use crate::scenarios::faults;

/// Processes take locks on three or five servers, extend them, and are paused, killed and cut off from some of the
/// servers. No two hold a lock at the same time, fences grow, and when all is over every lock is free again and nothing
/// is left on any server.
pub(super) struct OnSeveral {
    /// Servers start again without their data, and are kept away for a TTL then, as the documentation demands; their
    /// clocks show the same. Otherwise they keep their data, and their clocks differ and leap within the allowance.
    pub(super) loses_data: bool,
}

const PROCESSES: [&str; 3] = ["ann", "bob", "cem"];
/// Faults befall these; the registers are on the one after them.
const SERVERS: usize = 5;
const LONGEST_TTL: u64 = 1_200;
const MEETING: Duration = Duration::from_millis(400);
/// By how much the clock of a server leaps at a time.
const LEAP: Duration = Duration::from_millis(3);
/// By how much the clocks of two servers differ at the start, at most twice this.
pub(super) const APART: i64 = 2_000_000;

#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    servers: usize,
    pub(super) ttl: Duration,
    pub(super) node_timeout: Duration,
    hold_at_most: Option<Duration>,
    /// By how much clocks may differ within a TTL: the drift of a process, and all leaps of a server.
    drift: Duration,
    /// Callers turn to a lock at the same time, again and again.
    meets: bool,
    /// Holders are cut off from a majority as soon as they have the lock.
    cuts: bool,
    operations: usize,
}

impl Scenario for OnSeveral {
    fn name(&self) -> &'static str {
        match self.loses_data {
            true => "lock-redlock-restarts",
            false => "lock-redlock",
        }
    }

    fn pattern(&self) -> &'static str {
        "lock"
    }

    fn processes(&self) -> usize {
        PROCESSES.len()
    }

    fn servers(&self) -> usize {
        SERVERS
    }

    fn faults(&self) -> FaultMenu {
        let menu = faults::that_keep_data().with(&[FaultKind::RestartServer]);
        match self.loses_data {
            true => menu
                .with(&[FaultKind::RestartServer])
                .kept_away(Duration::from_millis(LONGEST_TTL)),
            false => menu
                .with(&[FaultKind::JumpServerClock])
                .server_leaps(LEAP)
                .keeping_data(),
        }
    }

    fn marks(&self) -> &'static [&'static str] {
        &["held", "held after a wait", "extended", "written"]
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let operations = context.operations(8);
        let drift = drift(context.schedule());
        let settings = Settings::draw(context.random(), drift, operations);
        let (notes, callers) = (Notes::default(), Callers::default());
        let calm_until = calm_until(context.schedule());
        let drifts = PROCESSES.map(|_| context.random().random_range(-DRIFT..=DRIFT));
        let mut world = context.world(WorldOptions::default().servers(SERVERS + 1));
        if !self.loses_data {
            for server in settings.nodes() {
                let by_micros = context.random().random_range(-APART..=APART);
                world.inject(Fault::JumpServerClock { server, by_micros });
            }
        }
        for (name, drift) in PROCESSES.iter().zip(drifts) {
            let (notes, callers) = (notes.clone(), callers.clone());
            let options = ProcessOptions::new(name).drift(drift);
            world.process_with(options, move |process| {
                work(process, settings, notes.clone(), callers.clone())
            });
        }
        let is_done = match settings.cuts {
            true => {
                cut_holders_off(&mut world, context.random(), settings, &callers);
                world.run_until_done(LIMIT)
            }
            false => run_and_look(&mut world, settings, &callers, calm_until)?,
        };
        world.heal();
        notes.check(Duration::ZERO)?;
        faults::ends(is_done, &world)?;
        free_again(&mut world, settings)?;
        world.run_for(settings.ttl + Duration::from_secs(4));
        let mut nodes = settings.nodes();
        nodes.try_for_each(|server| nothing_is_left(&mut world, server))
    }
}

/// How far the leaps of the clock of one server come to, at most.
fn drift(schedule: &Schedule) -> Duration {
    let mut of_servers = [Duration::ZERO; SERVERS];
    for planned in &schedule.faults {
        if let Fault::JumpServerClock { server, by_micros } = planned.fault
            && let Some(drift) = of_servers.get_mut(server.0)
        {
            *drift += Duration::from_micros(by_micros.unsigned_abs());
        }
    }
    of_servers.into_iter().max().unwrap_or_default()
}

impl Settings {
    fn draw(random: &mut impl Rng, drift: Duration, operations: usize) -> Self {
        let ttl = Duration::from_millis(random.random_range(300..=LONGEST_TTL));
        let has_limit = random.random_bool(0.2);
        Self {
            servers: if random.random_bool(0.5) { 3 } else { SERVERS },
            ttl,
            node_timeout: (ttl / 4).min(Duration::from_millis(random.random_range(20..=150))),
            hold_at_most: has_limit.then(|| ttl.mul_f64(random.random_range(1.0..=2.0))),
            drift: ttl / 100 + Duration::from_millis(2) + drift,
            meets: random.random_bool(0.4),
            cuts: random.random_bool(0.3),
            operations,
        }
    }

    pub(super) fn nodes(self) -> impl Iterator<Item = ServerId> {
        (0..self.servers).map(ServerId)
    }

    fn locks(self, process: &Process) -> Result<Redlock, Error> {
        let mut breaker = BreakerConfig::default();
        breaker.enabled = false;
        let config = ClientConfig::default().breaker(breaker);
        let clients = self.nodes().map(|node| process.client_with(node, &config));
        let clients: Vec<Client> = clients.collect();
        let mut locks = Redlock::builder(&clients, "orders")
            .ttl(self.ttl)
            .node_timeout(self.node_timeout)
            .drift(self.drift);
        if let Some(limit) = self.hold_at_most {
            locks = locks.hold_at_most(limit);
        }
        locks.build()
    }
}

async fn work(process: Process, settings: Settings, notes: Notes, callers: Callers) {
    let registers = process.client_with(ServerId(SERVERS), &ClientConfig::default());
    let registers = FencedRegister::new(&registers, "orders");
    let (Ok(locks), Ok(registers)) = (settings.locks(&process), registers) else {
        return;
    };
    let worker = Worker {
        process,
        registers,
        notes,
        callers,
        settings,
    };
    for _ in 0..settings.operations {
        sleep(worker.time(250)).await;
        if settings.meets {
            worker.meet().await;
        }
        let key = KEYS[usize::from(worker.process.chance(0.3))];
        let asked = worker.process.now();
        let call = worker.callers.begin(&worker.process, key);
        let longest = worker.time(1_500);
        let acquired = match worker.process.random_range(0..10) {
            0 => locks.try_acquire(key).await.ok(),
            // A caller that gives up while it asks or waits.
            1 | 2 => {
                let acquired = timeout(longest / 2, locks.acquire(key, longest)).await;
                acquired.ok().and_then(Result::ok)
            }
            _ => locks.acquire(key, longest).await.ok(),
        };
        if let Some(guard) = acquired {
            call.holds();
            let process = &worker.process;
            process.reached(match process.now() > asked + settings.node_timeout {
                true => "held after a wait",
                false => "held",
            });
            worker.hold(guard, key, asked).await;
        }
    }
}

/// A process that takes locks.
struct Worker {
    process: Process,
    registers: FencedRegister,
    notes: Notes,
    callers: Callers,
    settings: Settings,
}

impl Worker {
    /// Waits for the next moment at which all of them turn to a lock.
    async fn meet(&self) {
        let now = self.process.now();
        let past = now.as_nanos() % MEETING.as_nanos();
        let past = Duration::from_nanos(u64::try_from(past).unwrap_or_default());
        sleep(MEETING - past).await;
    }

    async fn hold(&self, guard: RedlockGuard, key: &'static str, asked: Duration) {
        let fence = guard.fence().get();
        let lock = Lock {
            key,
            fence,
            asked,
            sent: asked,
        };
        let holding = [self.notes.begin(&self.process, lock)];
        let remaining = || (!guard.is_lost()).then(|| guard.remaining());
        // One that is cut off is to be there when its lease ends.
        let longest = match self.settings.cuts {
            true => 2 * u64::try_from(self.settings.ttl.as_millis()).unwrap_or_default(),
            false => 700,
        };
        let mut is_held = hold(&self.process, &holding, self.time(longest), remaining).await;
        while is_held && self.process.chance(0.4) {
            // On servers that have lost it, or were away, it is taken again.
            if guard.extend().await.is_ok() {
                self.process.reached("extended");
            }
            is_held = hold(&self.process, &holding, self.time(900), remaining).await;
        }
        // Also after a loss: the holder does not look before it writes.
        self.notes.write(&self.process, &self.registers, lock).await;
        if !guard.is_lost() {
            holding.iter().for_each(Holding::is_held);
        }
        self.process.note(|| format!("gives {key} back"));
        match self.process.chance(0.7) {
            true => {
                guard.release().await;
            }
            false => drop(guard),
        }
    }

    fn time(&self, most_millis: u64) -> Duration {
        Duration::from_millis(self.process.random_range(0..=most_millis))
    }
}

/// # Errors
/// A lock that a majority does not grant, though all servers are well and nobody holds it.
fn free_again(world: &mut World, settings: Settings) -> Result<(), Violation> {
    let taken: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let noted = Arc::clone(&taken);
    world.process("auditor", move |process| {
        let noted = Arc::clone(&noted);
        async move {
            let Ok(locks) = settings.locks(&process) else {
                return;
            };
            // What arrives late is taken for a TTL, and a waiter that nobody wakes tries once a second.
            let longest = settings.ttl + Duration::from_secs(2);
            for key in KEYS {
                if let Ok(guard) = locks.acquire(key, longest).await {
                    noted.lock().push(key);
                    guard.release().await;
                }
            }
        }
    });
    world.run_until_done(LIMIT);
    is_free(&taken.lock(), world)
}
