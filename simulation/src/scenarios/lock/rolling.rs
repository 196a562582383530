//! [`Rolling`]: a lock on several servers outlives that one after the other loses its data.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::RngExt;
use redkit_core::breaker::BreakerConfig;
use redkit_core::{Client, ClientConfig};
use redkit_lock::{Error, FencedRegister, Redlock, RedlockGuard};
use redkit_testkit::simulation::{
    Data, Fault, FaultKind, FaultMenu, Process, Scenario, ScenarioContext, ServerId, Violation,
    World, WorldOptions,
};
use tokio::time::sleep;

use super::exclusion::LIMIT;
use super::redlock::APART;
use super::work::{Lock, Notes};
use crate::holds::{Holding, hold};
use crate::scenarios::faults;

/// While a process holds a lock on all servers, one server after the other starts again without its data, and the
/// holder extends the lock to it before the next one does. The servers' clocks differ by seconds. Fences grow all the
/// same: whoever comes next has a greater one, also where the server whose clock is ahead is away.
pub(super) struct Rolling;

const PROCESSES: [&str; 2] = ["ann", "bob"];
const SERVERS: usize = 3;
const KEY: &str = "order-7";
/// Faults wait no longer than this to happen.
const STEP: Duration = Duration::from_millis(4);

#[derive(Debug, Clone, Copy)]
struct Settings {
    ttl: Duration,
    operations: usize,
}

/// Faults that a holder wants to happen now.
type Wanted = Arc<Mutex<Vec<Fault>>>;

impl Scenario for Rolling {
    fn name(&self) -> &'static str {
        "lock-redlock-rolling"
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
        use FaultKind::{
            Cut, DelayReply, DelayRequest, ForgetScripts, KillProcess, LoseReply, LoseRequest,
        };
        FaultMenu::only(&[
            Cut,
            DelayReply,
            DelayRequest,
            ForgetScripts,
            KillProcess,
            LoseReply,
            LoseRequest,
        ])
        .at_most(6)
        .longest(Duration::from_millis(60))
    }

    fn marks(&self) -> &'static [&'static str] {
        &[
            "held",
            "taken again by an extension",
            "taken again by two",
            "written",
        ]
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let settings = Settings {
            operations: context.operations(5),
            ttl: Duration::from_millis(context.random().random_range(600..=1_200)),
        };
        let (notes, wanted) = (Notes::default(), Wanted::default());
        let mut world = context.world(WorldOptions::default().servers(SERVERS + 1));
        for server in nodes() {
            let by_micros = context.random().random_range(-APART..=APART);
            world.inject(Fault::JumpServerClock { server, by_micros });
        }
        for name in PROCESSES {
            let (notes, wanted) = (notes.clone(), Arc::clone(&wanted));
            world.process(name, move |process| {
                work(process, settings, notes.clone(), Arc::clone(&wanted))
            });
        }
        let is_done = run(&mut world, &wanted);
        notes.check(Duration::ZERO)?;
        faults::ends(is_done, &world)
    }
}

fn nodes() -> impl Iterator<Item = ServerId> {
    (0..SERVERS).map(ServerId)
}

/// Lets happen what holders want. Gives whether all processes have ended.
fn run(world: &mut World, wanted: &Wanted) -> bool {
    let end = world.now() + LIMIT;
    while world.now() < end {
        if world.run_until_done(STEP) {
            return true;
        }
        let faults = std::mem::take(&mut *wanted.lock());
        faults.into_iter().for_each(|fault| world.inject(fault));
    }
    false
}

async fn work(process: Process, settings: Settings, notes: Notes, wanted: Wanted) {
    let registers = process.client_with(ServerId(SERVERS), &ClientConfig::default());
    let registers = FencedRegister::new(&registers, "orders");
    let (Ok(locks), Ok(registers)) = (locks(&process, settings), registers) else {
        return;
    };
    let holder = Holder {
        process,
        settings,
        wanted,
    };
    for _ in 0..settings.operations {
        sleep(holder.time(150)).await;
        let asked = holder.process.now();
        let Ok(guard) = locks.acquire(KEY, Duration::from_secs(20)).await else {
            continue;
        };
        let lock = Lock {
            key: KEY,
            fence: guard.fence().get(),
            asked,
            sent: asked,
        };
        holder.process.reached("held");
        let holding = [notes.begin(&holder.process, lock)];
        holder.roll(&guard, &holding).await;
        notes.write(&holder.process, &registers, lock).await;
        if !guard.is_lost() {
            holding.iter().for_each(Holding::is_held);
        }
        holder.process.note(|| "gives the lock back".to_owned());
        guard.release().await;
    }
}

fn locks(process: &Process, settings: Settings) -> Result<Redlock, Error> {
    let mut breaker = BreakerConfig::default();
    breaker.enabled = false;
    let config = ClientConfig::default().breaker(breaker);
    let clients = nodes().map(|node| process.client_with(node, &config));
    let clients: Vec<Client> = clients.collect();
    Redlock::builder(&clients, "orders")
        .ttl(settings.ttl)
        .node_timeout(Duration::from_millis(80))
        .build()
}

struct Holder {
    process: Process,
    settings: Settings,
    wanted: Wanted,
}

impl Holder {
    /// Servers lose their data, one after the other, and are given the lock again.
    async fn roll(&self, guard: &RedlockGuard, holding: &[Holding<Lock>]) {
        let mut servers: Vec<ServerId> = nodes().collect();
        while !servers.is_empty() && self.process.chance(0.9) {
            if !self.is_on_all(guard, holding).await {
                return;
            }
            self.reaches(SERVERS - servers.len());
            let server = servers.swap_remove(self.process.random_range(0..servers.len()));
            self.restarts(server, Data::Lost);
            // A lease that stands after this was renewed by a server that has answered since.
            self.hold(guard, holding, self.settings.ttl).await;
        }
        if !self.is_on_all(guard, holding).await {
            return;
        }
        self.reaches(SERVERS - servers.len());
        // The others know the fence as well.
        if let Some(server) = servers.first() {
            self.restarts(*server, Data::Kept);
        }
        self.hold(guard, holding, self.time(20)).await;
    }

    /// All servers hold the lock, of which some had lost it.
    fn reaches(&self, lost: usize) {
        match lost {
            0 => {}
            1 => self.process.reached("taken again by an extension"),
            _ => self.process.reached("taken again by two"),
        }
    }

    /// Extends the lock until all servers hold it for a while yet; gives whether they do.
    async fn is_on_all(&self, guard: &RedlockGuard, holding: &[Holding<Lock>]) -> bool {
        const TRIES: usize = 40;
        for _ in 0..TRIES {
            drop(guard.extend().await);
            if guard.is_lost() {
                return false;
            }
            if guard.held_on() == SERVERS && guard.remaining() > self.settings.ttl / 2 {
                return true;
            }
            self.hold(guard, holding, self.time(50)).await;
        }
        false
    }

    fn restarts(&self, server: ServerId, data: Data) {
        let down = self.time(if data == Data::Kept { 400 } else { 60 });
        let fault = Fault::RestartServer { server, down, data };
        self.wanted.lock().push(fault);
    }

    /// Goes on holding until faults that are wanted have happened, and so much longer.
    async fn hold(&self, guard: &RedlockGuard, holding: &[Holding<Lock>], time: Duration) {
        let remaining = || (!guard.is_lost()).then(|| guard.remaining());
        hold(&self.process, holding, 2 * STEP + time, remaining).await;
    }

    fn time(&self, most_millis: u64) -> Duration {
        Duration::from_millis(self.process.random_range(0..=most_millis))
    }
}
