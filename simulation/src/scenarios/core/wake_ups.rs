//! [`WakeUps`]: a waiter sleeps no longer than what it waits for is held.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::RngExt;
use redkit_core::coordination::{Token, Waiter, Wake, WakeUp, lua};
use redkit_core::{Client, Error, Script};
use redkit_testkit::simulation::checkers::{MutualExclusion, Promptness};
use redkit_testkit::simulation::{
    Fault, FaultKind, FaultMenu, Process, ProcessId, Scenario, ScenarioContext, ServerId,
    Violation, WorldOptions,
};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::scenarios::faults;

/// Processes take what only one of them may have, and wait for each other: they try, subscribe, and try again. What
/// a holder forgets ends so late that a message which is missed is seen.
pub(super) struct WakeUps;

const PROCESSES: [&str; 3] = ["ann", "bob", "cem"];
/// Tasks of each process.
const TASKS: usize = 2;
const KEYS: [&str; 2] = ["oven", "sink"];
const CHANNEL: &str = "wake-ups";
/// In some runs all tasks come at the same time, this far apart, and nobody in between who would wake a waiter that was
/// forgotten.
const BURSTS: Duration = Duration::from_secs(1);
/// Without a message a waiter looks again when this has passed.
const TTL: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(600);
/// A call that was given up reaches the server no later than this.
const IN_FLIGHT: Duration = Duration::from_secs(6);
/// Until a waiter knows, when nothing goes wrong: a message, a visit and their delays.
const AT_ONCE: Duration = Duration::from_millis(100);
/// The same where messages are not heard: a waiter tries to subscribe for half a second and asks then, and the waiters
/// of a name ask 20 times a second together.
const WHILE_DEAF: Duration = Duration::from_millis(600);
/// The same while connections break, and everybody has to find that out.
const IN_TIME: Duration = Duration::from_secs(12);

/// KEYS: what is taken. ARGV: its owner, its time in milliseconds. Gives 0 when it is the owner's, and
/// the milliseconds for which it is another's.
static TAKE: Script = Script::new(
    "local owner = redis.call('GET', KEYS[1])
     if owner and owner ~= ARGV[1] then return math.max(redis.call('PTTL', KEYS[1]), 1) end
     redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
     return 0",
);

/// KEYS: what is given back. ARGV: its owner, the channel of wake-ups, the name under which waiters wait.
static GIVE_BACK: Script = Script::of_parts(&[
    lua::WAKE_UP,
    "if redis.call('GET', KEYS[1]) == ARGV[1] then
         redis.call('DEL', KEYS[1])
         wake_up(ARGV[2], ARGV[3])
     end
     return 0",
]);

#[derive(Clone)]
struct Notes {
    held: Arc<Mutex<MutualExclusion>>,
    waited: Arc<Mutex<Promptness>>,
}

impl Scenario for WakeUps {
    fn name(&self) -> &'static str {
        "core-wake-ups"
    }

    fn pattern(&self) -> &'static str {
        "core"
    }

    fn processes(&self) -> usize {
        PROCESSES.len()
    }

    fn faults(&self) -> FaultMenu {
        // Nobody gives back what a killed process has, and a clock that leaps wakes every waiter.
        faults::that_keep_data()
            .without(&[FaultKind::KillProcess, FaultKind::JumpClock])
            .at_most(6)
            .within(Duration::from_secs(3))
    }

    fn marks(&self) -> &'static [&'static str] {
        &["had at once", "had after a wait", "given up"]
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let operations = context.operations(16);
        // As for a user who may not subscribe.
        let is_deaf = context.random().random_bool(0.25);
        // A user who may not subscribe finds that out anew with each burst, in up to half a second.
        let has_bursts = context.random().random_bool(0.3) && !is_deaf;
        let bound = match (context.schedule().faults.is_empty(), is_deaf) {
            (true, false) => AT_ONCE,
            (true, true) => WHILE_DEAF,
            (false, _) => IN_TIME,
        };
        let notes = Notes {
            held: Arc::default(),
            waited: Arc::new(Mutex::new(Promptness::new(1, bound))),
        };
        let mut world = context.world(WorldOptions::new());
        for name in PROCESSES {
            let notes = notes.clone();
            world.process(name, move |process| {
                work(process, notes.clone(), operations, has_bursts)
            });
        }
        for process in (0..)
            .map(ProcessId)
            .take(PROCESSES.len())
            .filter(|_| is_deaf)
        {
            world.inject(Fault::MutePushes {
                process,
                server: ServerId(0),
                lasts: LIMIT,
            });
        }
        let is_done = world.run_until_done(LIMIT);
        notes.held.lock().check()?;
        notes.waited.lock().check()?;
        faults::ends(is_done, &world)
    }
}

async fn work(process: Process, notes: Notes, operations: usize, has_bursts: bool) {
    let client = process.client();
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let call = Caller {
            process: process.clone(),
            client: client.clone(),
            notes: notes.clone(),
            has_bursts,
        };
        tasks.spawn(async move {
            for _ in 0..operations / TASKS {
                call.cook().await;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// A task that has something to do with one of the keys.
struct Caller {
    process: Process,
    client: Client,
    notes: Notes,
    has_bursts: bool,
}

impl Caller {
    fn time(&self, millis: u64) -> Duration {
        Duration::from_micros(self.process.random_range(0..=millis * 1_000))
    }

    /// Waits until the task has something to do.
    async fn rest(&self) {
        if self.has_bursts {
            let now = self.process.now().as_nanos();
            let since = u64::try_from(now % BURSTS.as_nanos()).unwrap_or_default();
            sleep(BURSTS - Duration::from_nanos(since) + self.time(10)).await;
            return;
        }
        // Now and then nobody else comes who would wake a waiter that was forgotten.
        let longest = if self.process.chance(0.1) { 2_000 } else { 40 };
        sleep(self.time(longest)).await;
    }

    async fn cook(&self) {
        let process = &self.process;
        self.rest().await;
        let key = KEYS[process.random_range(0..KEYS.len())];
        let patience = process.chance(0.3).then(|| self.time(40));
        let began = process.now();
        let taken = self.acquire(key, patience.unwrap_or(Duration::MAX)).await;
        let from = process.now();
        self.notes
            .waited
            .lock()
            .waited(process.id(), key, began, from);
        let Some((token, sent)) = taken else {
            process.reached("given up");
            process.note(|| format!("does without the {key}"));
            return;
        };
        process.note(|| format!("has the {key}"));
        sleep(self.time(20)).await;
        let until = process.now();
        self.give_back(key, token).await;
        process.note(|| format!("has given the {key} back"));
        let now = process.now();
        self.notes
            .held
            .lock()
            .held(process.id(), key, None, from, until);
        self.notes.waited.lock().held(process.id(), key, sent, now);
    }

    /// Tries, subscribes, tries again, and then waits and tries in turn. Gives the token, and when the call was sent that
    /// took the key; `None` when a wait lasts too long.
    async fn acquire(&self, key: &'static str, patience: Duration) -> Option<(Token, Duration)> {
        let mut waiter: Option<Waiter> = None;
        loop {
            let token = Token::random();
            let sent = self.process.now();
            let left = match self.take(key, token).await {
                Ok(0) => {
                    self.process.reached(match waiter {
                        Some(_) => "had after a wait",
                        None => "had at once",
                    });
                    waiter.into_iter().for_each(Waiter::done);
                    return Some((token, sent));
                }
                Ok(left) => Duration::from_millis(left),
                Err(error) => {
                    self.process.fails("take a key", &error);
                    // It may be carried out yet, and then nobody gives it back.
                    let until = self.process.now() + IN_FLIGHT + TTL;
                    let mut waited = self.notes.waited.lock();
                    waited.held(self.process.id(), key, sent, until);
                    continue;
                }
            };
            match &mut waiter {
                Some(waiter) => {
                    let woken = timeout(patience, waiter.wait(left)).await.ok()?;
                    // It gives up as it is woken: the message is the next one's.
                    if woken != WakeUp::Look && self.process.chance(0.1) {
                        return None;
                    }
                }
                none => {
                    let made = self.client.waiter(CHANNEL, key, Wake::One);
                    *none = Some(made.await);
                }
            }
        }
    }

    async fn take(&self, key: &str, token: Token) -> Result<u64, Error> {
        let key = self.client.key(key);
        let ttl = u64::try_from(TTL.as_millis()).unwrap_or(u64::MAX);
        let take = TAKE.invoke([&key]).arg(token).arg(ttl);
        // Repeated, the first attempt could arrive when it was given back.
        self.client.eval(take.idempotent(false)).await
    }

    async fn give_back(&self, key: &'static str, token: Token) {
        let full = self.client.key(key);
        loop {
            let call = GIVE_BACK.invoke([&full]).arg(token).arg(CHANNEL).arg(key);
            match self.client.eval::<i64>(call.idempotent(true)).await {
                Ok(_) => return,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }
}
