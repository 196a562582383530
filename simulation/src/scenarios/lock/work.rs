//! What a holder of locks does: it takes some, writes under their fences, and gives them back in one way or another.

use std::time::Duration;

use rand::{Rng, RngExt};

use redkit_core::{Client, ClientConfig};
use redkit_lock::{Error, Fence, FencedRegister, Guard, LockManager};
use redkit_testkit::simulation::checkers::{FencedWrites, MutualExclusion, StaysTaken};
use redkit_testkit::simulation::history::{Outcome, Recorder};
use redkit_testkit::simulation::{Process, ServerId, Violation};
use tokio::time::sleep;

use crate::holds::{Hold, Holding, Holds, hold};

/// The keys that processes compete for.
pub(super) const KEYS: [&str; 2] = ["order-7", "order-8"];

/// The server of the registers beside one for locks, which no fault befalls.
const REGISTERS: ServerId = ServerId(1);

/// What holders of locks reach in some run.
pub(super) const MARKS: &[&str] = &[
    "held",
    "held after a wait",
    "held both",
    "held in a run",
    "extended",
    "written",
    "given back",
];

/// What locks are like in a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) ttl: Duration,
    pub(super) is_fair: bool,
    pub(super) hold_at_least: Duration,
    /// For how long a holder goes on, at most, before it extends or gives back.
    pub(super) holds_for: Duration,
    pub(super) operations: usize,
}

impl Settings {
    pub(super) fn draw(random: &mut impl Rng, operations: usize) -> Self {
        let rests = random.random_bool(0.2);
        Self {
            ttl: Duration::from_millis(random.random_range(300..=1_200)),
            is_fair: random.random_bool(0.3),
            hold_at_least: match rests {
                true => Duration::from_millis(random.random_range(50..=600)),
                false => Duration::ZERO,
            },
            holds_for: Duration::from_millis(900),
            operations,
        }
    }

    pub(super) fn locks(&self, client: &Client) -> Result<LockManager, Error> {
        LockManager::builder(client, "orders")
            .ttl(self.ttl)
            .fair(self.is_fair)
            .hold_at_least(self.hold_at_least)
            .build()
    }
}

/// A lock that was held, and its fence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lock {
    pub(super) key: &'static str,
    pub(super) fence: u64,
    /// When its holder asked for it.
    pub(super) asked: Duration,
    /// When the call was sent that took it, as far as that is known; when its holder asked for it otherwise.
    pub(super) sent: Duration,
}

/// A write to a register.
#[derive(Debug, Clone)]
pub(super) struct Write {
    key: &'static str,
    fence: u64,
}

/// What holders note.
#[derive(Clone, Default)]
pub(super) struct Notes {
    holds: Holds<Lock>,
    writes: Recorder<Write, bool>,
}

impl Notes {
    /// A process was told that it holds a lock.
    pub(super) fn begin(&self, process: &Process, lock: Lock) -> Holding<Lock> {
        let Lock { key, fence, .. } = lock;
        process.note(|| format!("holds {key} under fence {fence}"));
        self.holds.begin(process, lock)
    }

    /// A holder writes to the register of a lock's key under its fence.
    pub(super) async fn write(&self, process: &Process, registers: &FencedRegister, lock: Lock) {
        let Lock { key, fence, .. } = lock;
        let (id, start) = (process.id(), process.now());
        let write = self.writes.begin(id, start, Write { key, fence });
        let value = process.random_range(0..1_000_u32);
        let written = registers.write(key, Fence::new(fence), &value).await;
        let accepted = match written {
            Ok(()) => {
                process.reached("written");
                Outcome::Replied(true)
            }
            Err(Error::Fenced { .. }) => Outcome::Replied(false),
            Err(Error::Core(error)) if error.is_maybe() => Outcome::Maybe,
            Err(_) => Outcome::NotSent,
        };
        write.ended(process.now(), accepted);
    }

    /// # Errors
    /// The first time that two held a lock, for longer than `together` where a fault may have lost locks; or that a fence
    /// was not greater.
    pub(super) fn check(&self, together: Duration) -> Result<(), Violation> {
        let mut locks = MutualExclusion::new().together_for(together);
        let mut fences = MutualExclusion::new().fences_only();
        let loses_data = !together.is_zero();
        for hold in self.holds.all() {
            let Hold {
                process,
                what,
                from,
                until,
            } = hold;
            // A holder may be told late of what it was granted, when the server has lost that and another holder has
            // had the lock: its fence is of when it was granted.
            let fence = (!loses_data).then_some(what.fence);
            locks.held(process, what.key, fence, from, until);
            fences.held(process, what.key, Some(what.fence), what.sent, until);
        }
        locks.check()?;
        if loses_data {
            fences.check()?;
        }
        let mut writes = FencedWrites::new();
        for write in self.writes.history().operations() {
            let (start, end) = (write.start, write.end.unwrap_or(write.start));
            let Write { key, fence } = write.call;
            writes.written(write.process, key, fence, start, end, write.outcome);
        }
        writes.check()
    }

    /// # Errors
    /// The first holder that had a lock sooner than it may be had after it was taken.
    pub(super) fn check_rest(&self, hold_at_least: Duration) -> Result<(), Violation> {
        let mut taken = StaysTaken::new(hold_at_least);
        for hold in self.holds.all() {
            let Hold {
                process,
                what,
                from,
                until,
            } = hold;
            taken.held(process, what.key, what.asked, from, until);
        }
        taken.check()
    }
}

/// The guard of an acquisition that has succeeded. An error of the server or the connection is noted: without a fault there
/// is none.
pub(super) fn granted<T>(process: &Process, acquired: Result<T, Error>) -> Option<T> {
    match acquired {
        Ok(guard) => Some(guard),
        Err(error) => {
            if let Error::Core(error) = &error {
                process.fails("ask for a lock", error);
            }
            None
        }
    }
}

/// A caller that has what it asked for later than this had to wait.
pub(super) const LONGER_THAN_A_CALL: Duration = Duration::from_millis(20);

/// The body of a process.
pub(super) async fn work(process: Process, settings: Settings, notes: Notes) {
    let Ok(worker) = Worker::new(process, settings, notes) else {
        return;
    };
    for _ in 0..settings.operations {
        sleep(worker.time(0..=250)).await;
        worker.once().await;
    }
}

struct Worker {
    process: Process,
    locks: LockManager,
    registers: FencedRegister,
    notes: Notes,
    ttl: Duration,
    holds_for: Duration,
}

/// When the call was sent that took something with a lease of `ttl`, by what is left of it.
pub(super) fn sent(process: &Process, ttl: Duration, remaining: Duration) -> Duration {
    let used = (ttl - ttl / 100).saturating_sub(remaining);
    process.now().saturating_sub(used)
}

impl Worker {
    fn new(process: Process, settings: Settings, notes: Notes) -> Result<Self, Error> {
        let registers = process.client_with(REGISTERS, &ClientConfig::default());
        Ok(Self {
            locks: settings.locks(&process.client())?,
            registers: FencedRegister::new(&registers, "orders")?,
            process,
            notes,
            ttl: settings.ttl,
            holds_for: settings.holds_for,
        })
    }

    async fn once(&self) {
        let timeout = self.time(0..=1_500);
        let asked = self.process.now();
        let (first, second) = (KEYS[0], KEYS[1]);
        let key = if self.process.chance(0.5) {
            first
        } else {
            second
        };
        match self.process.random_range(0..10) {
            0 => {
                let acquired = self.locks.acquire_all([second, first], timeout).await;
                if let Some(guard) = granted(&self.process, acquired) {
                    self.process.reached("held both");
                    self.hold(guard, &[first, second], asked).await;
                }
            }
            1 | 2 => {
                let run = self
                    .locks
                    .run(key, timeout, |fence| self.hold_in_run(key, fence, asked));
                granted(&self.process, run.await);
            }
            3 => {
                let acquired = self.locks.try_acquire(key).await;
                if let Some(guard) = granted(&self.process, acquired) {
                    self.hold(guard, &[key], asked).await;
                }
            }
            // A caller that gives up while it waits.
            4 => {
                let acquired = tokio::time::timeout(timeout / 2, self.locks.acquire(key, timeout));
                if let Some(guard) = acquired
                    .await
                    .ok()
                    .and_then(|acquired| granted(&self.process, acquired))
                {
                    self.hold(guard, &[key], asked).await;
                }
            }
            _ => {
                let acquired = self.locks.acquire(key, timeout).await;
                if let Some(guard) = granted(&self.process, acquired) {
                    self.hold(guard, &[key], asked).await;
                }
            }
        }
    }

    async fn hold(&self, guard: Guard, keys: &[&'static str], asked: Duration) {
        self.process
            .reached(match self.process.now() > asked + LONGER_THAN_A_CALL {
                true => "held after a wait",
                false => "held",
            });
        let fences = keys
            .iter()
            .filter_map(|key| Some((*key, guard.fence_of(key)?.get())));
        // The first that was taken of several.
        let sent = sent(&self.process, self.ttl, guard.remaining()).max(asked);
        let held = fences.map(|(key, fence)| Lock {
            key,
            fence,
            asked,
            sent,
        });
        let held: Vec<Lock> = held.collect();
        let holdings: Vec<Holding<Lock>> = held
            .iter()
            .map(|lock| self.notes.begin(&self.process, *lock))
            .collect();
        let remaining = || (!guard.is_lost()).then(|| guard.remaining());
        let time = self.time_of_hold();
        if hold(&self.process, &holdings, time, remaining).await && self.process.chance(0.2) {
            match guard.extend().await {
                Ok(_) => self.process.reached("extended"),
                Err(error) => self.process.fails("extend a lock", &error),
            }
            hold(&self.process, &holdings, self.time(0..=600), remaining).await;
        }
        // Also after a loss: the holder does not look before it writes.
        for lock in &held {
            self.write(*lock).await;
        }
        if !guard.is_lost() {
            holdings.iter().for_each(Holding::is_held);
        }
        self.process.note(|| format!("gives {keys:?} back"));
        match self.process.chance(0.7) {
            true => match guard.release().await {
                Ok(_) => self.process.reached("given back"),
                Err(error) => self.process.fails("give a lock back", &error),
            },
            false => drop(guard),
        }
    }

    /// Work that is dropped when the lock is lost: while it is polled, the lock is held.
    async fn hold_in_run(&self, key: &'static str, fence: Fence, asked: Duration) {
        let lock = Lock {
            key,
            fence: fence.get(),
            asked,
            sent: asked,
        };
        let holding = [self.notes.holds.begin(&self.process, lock)];
        let remaining = || Some(Duration::from_millis(8));
        hold(&self.process, &holding, self.time_of_hold(), remaining).await;
        self.process.reached("held in a run");
        self.write(lock).await;
    }

    async fn write(&self, lock: Lock) {
        self.notes.write(&self.process, &self.registers, lock).await;
    }

    fn time_of_hold(&self) -> Duration {
        let longest = u64::try_from(self.holds_for.as_millis()).unwrap_or_default();
        self.time(0..=longest)
    }

    fn time(&self, millis: std::ops::RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.process.random_range(millis))
    }
}
