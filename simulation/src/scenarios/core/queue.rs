//! [`Queue`]: whoever stands in a wait queue is served when there is something to have, first come, first served.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::RngExt;
use redkit_core::coordination::{
    QueueStatus, QueuedCaller, Release, Token, WAITER_ALIVE, WaitQueue, lua,
};
use redkit_core::{Client, Error, Invocation, Key, Script, ToArg};
use redkit_testkit::simulation::checkers::{Permits, Promptness};
use redkit_testkit::simulation::{
    FaultMenu, Process, Scenario, ScenarioContext, Violation, WorldOptions,
};
use tokio::time::{Instant, sleep, timeout};

use crate::scenarios::faults;

/// Processes stand in a queue for a few places, hold them for a while, and are killed while they wait and while they
/// hold.
pub(super) struct Queue;

const PROCESSES: [&str; 4] = ["ann", "bob", "cem", "dot"];
const KEY: &str = "tables";
const CHANNEL: &str = "wake-ups";
/// For so long a place is held that nobody gives back.
const LEASE: Duration = Duration::from_secs(4);
/// Clocks leap farther than that: nothing on the server goes by them.
const CLOCK_LEAP: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A call that was given up reaches the server no later than this.
const IN_FLIGHT: Duration = Duration::from_secs(6);
/// A caller that is served later than this had to wait.
const LONGER_THAN_A_CALL: Duration = Duration::from_millis(20);
/// Until a waiter knows, when nothing goes wrong.
const AT_ONCE: Duration = Duration::from_millis(150);
/// The same when waiters that died stand before it, and connections break.
const IN_TIME: Duration = Duration::from_secs(14);

/// KEYS: the places (a sorted set of owners by the time when they run out), the queue, its heartbeats. ARGV: the
/// caller, how many places there are, the lease in µs, the caller's longest wait in µs, for how long a visit is a sign
/// of life in µs, the channel of wake-ups. Gives {0, 0, 0} served, {1, µs until a place runs out, how many stand
/// before}, or {2, 0, 0} not queued.
static VISIT: Script = Script::of_parts(&[
    lua::CLOCK,
    lua::WAKE_UP,
    lua::WAIT_QUEUE,
    "local id, places, wait = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])
     local alive, channel = tonumber(ARGV[5]), ARGV[6]
     redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
     local before, has_place = queue_look(KEYS[2], KEYS[3], channel, id, alive)
     local free = places - redis.call('ZCARD', KEYS[1])
     local is_owner = redis.call('ZSCORE', KEYS[1], id)
     if is_owner or (free > 0 and before == 0) then
         queue_leave(KEYS[2], KEYS[3], id)
         redis.call('ZADD', KEYS[1], now + ARGV[3], id)
         if free > 1 then queue_wake(KEYS[2], channel, id) end
         return {0, 0, 0}
     end
     if wait == 0 then
         queue_leave(KEYS[2], KEYS[3], id)
         if before == 0 then queue_wake(KEYS[2], channel, id) end
         return {2, 0, 0}
     end
     queue_join(KEYS[2], KEYS[3], id, alive)
     local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
     return {1, first[2] and first[2] - now or 1000000, before}",
]);

/// KEYS: the places, the queue. ARGV: the owner, the channel of wake-ups.
static GIVE_BACK: Script = Script::of_parts(&[
    lua::WAKE_UP,
    "local channel, id = ARGV[2], ARGV[1]
     if redis.call('ZREM', KEYS[1], id) == 1 then
         local head = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
         if head then wake_up(channel, head) end
     end
     return 0",
]);

#[derive(Clone)]
struct Notes {
    held: Arc<Mutex<Permits>>,
    waited: Arc<Mutex<Promptness>>,
    /// For how long a place may be held of which its process knows nothing.
    unknown: Duration,
}

#[derive(Clone, Copy)]
struct Settings {
    places: u64,
    operations: usize,
}

impl Scenario for Queue {
    fn name(&self) -> &'static str {
        "core-queue"
    }

    fn pattern(&self) -> &'static str {
        "core"
    }

    fn processes(&self) -> usize {
        PROCESSES.len()
    }

    fn faults(&self) -> FaultMenu {
        faults::that_keep_data()
            .at_most(8)
            .within(Duration::from_secs(3))
            .clock_leaps(CLOCK_LEAP)
    }

    fn marks(&self) -> &'static [&'static str] {
        &["served", "served in line"]
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let settings = Settings {
            places: context.random().random_range(1..=2),
            operations: context.operations(8),
        };
        let bound = match context.schedule().faults.is_empty() {
            true => AT_ONCE,
            false => IN_TIME,
        };
        let notes = Notes {
            held: Arc::new(Mutex::new(Permits::new(settings.places))),
            waited: Arc::new(Mutex::new(Promptness::new(settings.places, bound))),
            // What was not answered may be carried out yet.
            unknown: match context.schedule().faults.is_empty() {
                true => AT_ONCE,
                false => IN_FLIGHT + LEASE,
            },
        };
        let mut world = context.world(WorldOptions::new());
        for name in PROCESSES {
            let notes = notes.clone();
            world.process(name, move |process| work(process, notes.clone(), settings));
        }
        let is_done = world.run_until_done(Duration::from_secs(600));
        notes.held.lock().check()?;
        notes.waited.lock().check()?;
        faults::ends(is_done, &world)
    }
}

async fn work(process: Process, notes: Notes, settings: Settings) {
    let client = process.client();
    let time = |millis: u64| Duration::from_micros(process.random_range(0..=millis * 1_000));
    for _ in 0..settings.operations {
        // Now and then nobody else comes who would wake a waiter that was forgotten.
        let longest = if process.chance(0.1) { 2_000 } else { 60 };
        sleep(time(longest)).await;
        let guest = Guest::new(&client, settings.places);
        let asked = process.now();
        let wait = Wait {
            process: &process,
            notes: &notes,
            asked,
        };
        let patience = process.chance(0.2).then(|| time(80));
        let served = client.wait_in_queue(&guest, Instant::now() + LONGEST_WAIT);
        // One who gives up leaves the queue in the background.
        let served = timeout(patience.unwrap_or(Duration::MAX), served).await;
        drop(wait);
        let mut place = Place {
            process: &process,
            notes: &notes,
            asked,
            held: None,
            is_free: false,
        };
        let served = match served {
            Ok(Ok(served)) => served,
            Ok(Err(error)) => {
                process.fails("be served", &error);
                continue;
            }
            Err(_) => continue,
        };
        if !served.is_served {
            continue;
        }
        process.reached(match process.now() > asked + LONGER_THAN_A_CALL {
            true => "served in line",
            false => "served",
        });
        process.note(|| "has a table".to_owned());
        let age = served.sent.elapsed();
        place.asked = process.now().saturating_sub(age);
        let left = LEASE.saturating_sub(age);
        place.held = Some((process.now(), process.now() + left));
        sleep(time(60)).await;
        place.leaves();
        guest.give_back().await;
        place.is_free = true;
        process.note(|| "has given the table back".to_owned());
    }
}

/// A caller that wants a place.
struct Guest {
    client: Client,
    tables: Key,
    places: u64,
    queue: WaitQueue,
    token: Token,
}

impl Guest {
    fn new(client: &Client, places: u64) -> Self {
        Self {
            client: client.clone(),
            tables: client.key("tables"),
            places,
            queue: WaitQueue {
                queue: client.key("queue"),
                heartbeats: client.key("heartbeats"),
                channel: Bytes::from_static(CHANNEL.as_bytes()),
            },
            token: Token::random(),
        }
    }

    fn give_back_call(&self) -> Invocation {
        let call = GIVE_BACK.invoke([&self.tables, &self.queue.queue]);
        call.arg(self.token).arg(CHANNEL).idempotent(true)
    }

    async fn give_back(&self) {
        loop {
            match self.client.eval::<i64>(self.give_back_call()).await {
                Ok(_) => return,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

impl QueuedCaller for Guest {
    type Outcome = ();

    fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn id(&self) -> Bytes {
        self.token.to_bytes()
    }

    async fn visit(&self, max_wait: Duration) -> Result<QueueStatus<()>, Error> {
        let WaitQueue {
            queue, heartbeats, ..
        } = &self.queue;
        let call = VISIT
            .invoke([&self.tables, queue, heartbeats])
            .arg(self.token)
            .arg(self.places)
            .arg(micros(LEASE))
            .arg(micros(max_wait))
            .arg(micros(WAITER_ALIVE))
            .arg(CHANNEL);
        let reply: (u64, u64, u64) = self.client.eval(call.idempotent(true)).await?;
        Ok(match reply {
            (0, ..) => QueueStatus::Served(()),
            (1, hint, before) => QueueStatus::Waiting {
                hint: Duration::from_micros(hint),
                before: Some(before),
            },
            _ => QueueStatus::Rejected(()),
        })
    }

    /// A further visit finds what an earlier one took.
    fn outlives_unknown(&self) -> bool {
        true
    }

    fn abandon(&self) -> Release {
        // The last visit may have been served.
        let calls = [self.queue.leave(&self.id()), self.give_back_call()];
        Release::new(calls).until(Instant::now() + LEASE)
    }
}

/// A wait, which ends with its process at the latest.
struct Wait<'a> {
    process: &'a Process,
    notes: &'a Notes,
    asked: Duration,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let (id, now) = (self.process.id(), self.process.now());
        let mut waited = self.notes.waited.lock();
        waited.waited(id, KEY, self.asked, now);
    }
}

/// A place that a process has, or may have.
struct Place<'a> {
    process: &'a Process,
    notes: &'a Notes,
    asked: Duration,
    /// Since when the process believes that it has the place, and until when at the latest.
    held: Option<(Duration, Duration)>,
    /// The server knows that it is given back.
    is_free: bool,
}

impl Place<'_> {
    /// The process gives its place up.
    fn leaves(&mut self) {
        if let Some((from, latest)) = self.held.take() {
            let until = self.process.now().min(latest);
            let mut held = self.notes.held.lock();
            held.held(self.process.id(), KEY, 1, from, until);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.leaves();
        let now = self.process.now();
        let until = match self.is_free {
            true => now,
            false => now + self.notes.unknown,
        };
        let mut waited = self.notes.waited.lock();
        waited.held(self.process.id(), KEY, self.asked, until);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
