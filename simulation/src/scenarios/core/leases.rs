//! [`Leases`]: by the local clocks of its holders a lease is held by one at a time, and it is kept while nothing
//! goes wrong.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::{Rng, RngExt};
use redkit_core::coordination::{Lease, LeaseConfig, LeaseRenewal, Release, Token};
use redkit_core::{Client, Command, Invocation, Key, Script};
use redkit_testkit::simulation::checkers::{MutualExclusion, Promptness};
use redkit_testkit::simulation::{
    Direction, Fault, FaultKind, FaultMenu, PlannedFault, Process, ProcessId, ProcessOptions,
    Scenario, ScenarioContext, Schedule, ServerId, Violation, World, WorldOptions,
};
use tokio::time::{Instant, sleep};

/// Processes take a lease, hold it for longer than it runs without being renewed, and give it back, or drop
/// it and leave that to the release queue.
pub(super) struct Leases;

const PROCESSES: [&str; 3] = ["ann", "bob", "cem"];
const KEY: &str = "lease";
/// A call that was given up reaches the server no later than this.
const IN_FLIGHT: Duration = Duration::from_secs(6);
/// A lease allows for a hundredth between two clocks.
const DRIFT: i32 = 4_500;

/// KEYS: the lease. ARGV: its owner, its time in milliseconds. Gives 1 when it is the owner's now.
static TAKE: Script = Script::new(
    "local owner = redis.call('GET', KEYS[1])
     if owner and owner ~= ARGV[1] then return 0 end
     redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
     return 1",
);

/// The same arguments. Gives 1 when it was the owner's, and runs anew.
static RENEW: Script = Script::new(
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
     redis.call('PEXPIRE', KEYS[1], ARGV[2])
     return 1",
);

/// KEYS: the lease. ARGV: its owner.
static GIVE_BACK: Script = Script::new(
    "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
     return 0",
);

struct Owned {
    key: Key,
    token: Token,
}

impl Owned {
    fn call(&self, script: &'static Script) -> Invocation {
        script.invoke([&self.key]).arg(self.token).idempotent(true)
    }
}

impl LeaseRenewal for Owned {
    fn renew(&self, ttl: Duration) -> Invocation {
        self.call(&RENEW).arg(millis(ttl))
    }
}

#[derive(Clone)]
struct Notes {
    held: Arc<Mutex<MutualExclusion>>,
    refused: Arc<Mutex<Promptness>>,
    lost: Arc<Mutex<Vec<(String, Duration)>>>,
}

impl Scenario for Leases {
    fn name(&self) -> &'static str {
        "core-leases"
    }

    fn pattern(&self) -> &'static str {
        "core"
    }

    fn processes(&self) -> usize {
        PROCESSES.len()
    }

    fn faults(&self) -> FaultMenu {
        FaultMenu::all()
            .without(&[
                FaultKind::Failover,
                FaultKind::FlushAll,
                FaultKind::RestartServer,
                FaultKind::JumpServerClock,
            ])
            .at_most(10)
    }

    fn marks(&self) -> &'static [&'static str] {
        &["held", "refused", "kept to the end", "given back"]
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let operations = context.operations(12);
        let ttl = Duration::from_millis(context.random().random_range(200..1_500));
        let drifts = PROCESSES.map(|_| context.random().random_range(-DRIFT..=DRIFT));
        let notes = Notes {
            held: Arc::default(),
            refused: Arc::new(Mutex::new(Promptness::new(1, Duration::ZERO))),
            lost: Arc::default(),
        };
        let mut world = context.world(WorldOptions::new());
        for (name, drift) in PROCESSES.iter().zip(drifts) {
            let notes = notes.clone();
            let options = ProcessOptions::new(name).drift(drift);
            world.process_with(options, move |process| {
                work(process, notes.clone(), ttl, operations)
            });
        }
        let falls_silent = context.random().random_bool(0.4);
        if falls_silent {
            fall_silent(&mut world, context.random(), ttl);
        }
        let is_done = world.run_until_done(Duration::from_secs(600));
        notes.held.lock().check()?;
        if nothing_is_late(context.schedule()) && !falls_silent {
            notes.refused.lock().check()?;
        }
        if !is_done {
            return Err(Violation::new("every call ends", world.now()));
        }
        let nothing_happened = context.schedule().faults.is_empty() && !falls_silent;
        if let Some((process, at)) = notes.lost.lock().first().filter(|_| nothing_happened) {
            let text = format!("{process} lost it though nothing went wrong");
            return Err(Violation::new("a lease is kept", *at).fact(*at, text));
        }
        given_back(&mut world, ttl)
    }
}

/// The answer to a process's next call is late, though not too late to count, and then nothing gets through for longer
/// than a lease runs.
fn fall_silent(world: &mut World, random: &mut impl Rng, ttl: Duration) {
    let process = ProcessId(random.random_range(0..3));
    let server = ServerId(0);
    world.run_for(Duration::from_secs(1).mul_f64(random.random()));
    let by = ttl.mul_f64(random.random_range(0.04..0.16));
    world.inject(Fault::DelayReply {
        process,
        server,
        by,
    });
    world.run_for(by + ttl.mul_f64(random.random_range(0.0..0.35)));
    world.inject(Fault::Partition {
        process,
        server,
        direction: Direction::Both,
        lasts: ttl * 2,
    });
}

/// Whether no call can reach the server after it was given up, and take what its caller knows nothing of.
fn nothing_is_late(schedule: &Schedule) -> bool {
    let is_late = |planned: &PlannedFault| {
        use FaultKind::{DelayReply, DelayRequest, Partition, PauseServer};
        let kind = planned.fault.kind();
        matches!(kind, DelayReply | DelayRequest | Partition | PauseServer)
    };
    !schedule.faults.iter().any(is_late)
}

/// # Errors
/// A lease that is still there, after all were given back or have run out.
fn given_back(world: &mut World, ttl: Duration) -> Result<(), Violation> {
    world.heal();
    // For so long a partition may have held what took the lease.
    world.run_for(ttl + Duration::from_secs(5));
    let left = world.ask(ServerId(0), Command::new("EXISTS").key(KEY));
    match left.ok().and_then(|left| left.to::<i64>().ok()) {
        Some(0) => Ok(()),
        left => {
            let text = format!("`{KEY}` is still there: {left:?}");
            Err(Violation::new("what is held is given back", world.now()).fact(world.now(), text))
        }
    }
}

async fn work(process: Process, notes: Notes, ttl: Duration, operations: usize) {
    let client = process.client();
    for _ in 0..operations {
        sleep(Duration::from_micros(process.random_range(0..200_000))).await;
        let owned = Owned {
            key: client.key(KEY),
            token: Token::random(),
        };
        let sent = Instant::now();
        let asked = process.now();
        let mut taking = Taking {
            process: &process,
            notes: &notes,
            asked,
            // It may be carried out yet, and runs from then.
            runs: Some(IN_FLIGHT + ttl),
        };
        let take = owned.call(&TAKE).arg(millis(ttl));
        match client.eval::<i64>(take).await {
            Ok(1) => {}
            Ok(_) => {
                process.reached("refused");
                taking.runs = None;
                let mut refused = notes.refused.lock();
                refused.refused(process.id(), KEY, asked, process.now());
                continue;
            }
            Err(error) => {
                process.fails("take the lease", &error);
                // It may have been taken, or may yet be.
                give_back_later(&client, &owned, ttl);
                continue;
            }
        }
        let (key, token) = (owned.key.clone(), owned.token);
        let lease = client.lease(owned, LeaseConfig::new(ttl), sent);
        process.reached("held");
        process.note(|| "holds the lease".to_owned());
        hold(&process, &notes, &lease, ttl).await;
        let owned = Owned { key, token };
        if lease.end() && process.chance(0.5) {
            let given_back = client.eval::<i64>(owned.call(&GIVE_BACK)).await;
            process.note(|| format!("gives the lease back: {}", given_back.is_ok()));
            if given_back.is_ok() {
                process.reached("given back");
                taking.runs = Some(Duration::ZERO);
            }
            if given_back.is_err() {
                give_back_later(&client, &owned, ttl);
            }
        } else {
            process.note(|| "drops the lease".to_owned());
            give_back_later(&client, &owned, ttl);
        }
    }
}

/// A lease that was asked for, until nothing is left of it: its process may be killed before.
struct Taking<'a> {
    process: &'a Process,
    notes: &'a Notes,
    asked: Duration,
    /// For how long something may be left of it; `None` when another process has the lease.
    runs: Option<Duration>,
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        if let Some(runs) = self.runs {
            let until = self.process.now() + runs;
            let mut refused = self.notes.refused.lock();
            refused.held(self.process.id(), KEY, self.asked, until);
        }
    }
}

/// Holds the lease for a while, and notes from when until when it believes that it does.
async fn hold(process: &Process, notes: &Notes, lease: &Lease, ttl: Duration) {
    let from = process.now();
    let mut until = from;
    let end = Instant::now() + ttl.mul_f64(process.random_range(0.0..3.0));
    while !lease.is_lost() {
        until = process.now();
        if Instant::now() >= end {
            break;
        }
        let left = lease.remaining().max(Duration::from_millis(1));
        sleep(left.min(Duration::from_millis(10))).await;
    }
    notes.held.lock().held(process.id(), KEY, None, from, until);
    if lease.is_lost() {
        process.note(|| "has lost the lease".to_owned());
        let name = process.name().to_owned();
        notes.lost.lock().push((name, process.now()));
    } else if until > from + ttl {
        process.reached("kept to the end");
    }
}

fn give_back_later(client: &Client, owned: &Owned, ttl: Duration) {
    let release = Release::new([owned.call(&GIVE_BACK)]);
    client.release_later(release.until(Instant::now() + ttl));
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
