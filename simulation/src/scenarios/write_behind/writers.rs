//! [`work`]: a process that writes keys of its own, reads those of all, and runs a worker of the queue.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_cache::write_behind::{Current, WriteBehind, WriteId};
use redkit_cache::{Cache, Error};
use redkit_core::Client;
use redkit_testkit::simulation::Process;
use redkit_testkit::simulation::checkers::Freshness;
use redkit_testkit::simulation::history::Outcome;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::database::{Database, Way};

/// Keys of each process, and of each that takes its place.
const KEYS: usize = 3;

/// How long the queue remembers the ids of writes.
pub(super) const ID_WINDOW: Duration = Duration::from_secs(30);
/// For so long a write may be repeated: what is held up on its way arrives within the window yet.
const REPEATED_WITHIN: Duration = Duration::from_secs(15);

/// What the processes of a run share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) database: Database,
    /// What readers of the queue have seen.
    pub(super) read: Arc<Mutex<Freshness>>,
    /// The numbers that were given out.
    pub(super) numbers: Arc<Mutex<u64>>,
    pub(super) processes: usize,
    pub(super) lease: Duration,
}

impl Shared {
    fn next_number(&self) -> u64 {
        let mut numbers = self.numbers.lock();
        *numbers += 1;
        *numbers
    }
}

/// Opens the queue, however often that takes.
pub(super) async fn open(client: &Client, lease: Duration) -> WriteBehind<u64> {
    loop {
        let cache = Cache::builder(client, "stock")
            .ttl(Duration::from_secs(60))
            .lease(Duration::from_secs(1))
            .build();
        if let Ok(cache) = cache {
            let queue = WriteBehind::builder(client, "stock")
                .cache(&cache)
                .partitions(2)
                .max_age(Duration::from_millis(60))
                .max_batch(4)
                .max_attempts(1_000)
                .write_id_window(ID_WINDOW)
                .backoff(Duration::from_millis(5), Duration::from_millis(100))
                .lease(lease);
            if let Ok(queue) = queue.open().await {
                return queue;
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
}

pub(super) async fn work(process: Process, shared: Shared, operations: usize) {
    let queue = open(&process.client(), shared.lease).await;
    let worker = queue.start(Way {
        database: shared.database.clone(),
        process: process.clone(),
    });
    let mut tasks = JoinSet::new();
    // What a process that was killed has written may yet arrive: its successor has keys of its own.
    let first = KEYS * usize::try_from(process.incarnation()).unwrap_or_default();
    for key in first..first + KEYS {
        let (process, shared, queue) = (process.clone(), shared.clone(), queue.clone());
        tasks.spawn(async move {
            let key = name(process.id().index(), key);
            let mut accepted = Vec::new();
            for _ in 0..operations / KEYS {
                match process.random_range(0..10) {
                    0..6 => match put(&process, &shared, &queue, &key).await {
                        Some(write) => accepted.push(write),
                        // It may yet arrive, after whatever was written behind it.
                        None => break,
                    },
                    6 => repeat(&process, &queue, &key, &accepted).await,
                    _ => read(&process, &shared, &queue).await,
                }
                sleep(Duration::from_micros(process.random_range(0..60_000))).await;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    // A process that has nothing more to write goes on writing for the others, for a while.
    sleep(Duration::from_secs(2)).await;
    drop(worker);
}

/// A write that was accepted.
struct Accepted {
    id: WriteId,
    number: u64,
    /// When it was sent for the first time.
    since: Duration,
}

/// Writes once more what was accepted before, as a queue of messages does that delivers one twice: nothing comes of it.
async fn repeat(process: &Process, queue: &WriteBehind<u64>, key: &str, accepted: &[Accepted]) {
    let oldest = process.now().saturating_sub(REPEATED_WITHIN);
    let young = accepted.iter().filter(|write| write.since >= oldest);
    let young: Vec<_> = young.collect();
    if young.is_empty() {
        return;
    }
    let Accepted { id, number, .. } = *young[process.random_range(0..young.len())];
    let repeated = queue.put_as(id, key, &number).await;
    match &repeated {
        Ok(_) => process.reached("repeated"),
        Err(error) => process.fails("write once more", error),
    }
    process.note(|| format!("repeats {key} = {number}: {}", repeated.is_ok()));
}

/// Writes, and repeats with the same id what may have been accepted, a few times. A task that gives up writes its key
/// no more: the write may yet arrive. Gives the write if it was accepted.
async fn put(
    process: &Process,
    shared: &Shared,
    queue: &WriteBehind<u64>,
    key: &str,
) -> Option<Accepted> {
    let (number, id, start) = (shared.next_number(), WriteId::random(), process.now());
    let note = |outcome| {
        let mut seen = shared.database.seen.lock();
        seen.accepted(process.id(), key, number, start, process.now(), outcome);
    };
    // Should the process be killed in the middle.
    note(Outcome::Maybe);
    let mut attempts = 0;
    let outcome = loop {
        attempts += 1;
        match queue.put_as(id, key, &number).await {
            Ok(_) => {
                process.reached("accepted");
                break Outcome::Replied(());
            }
            Err(error)
                if attempts < 20
                    && error.is_retryable()
                    && process.now() < start + REPEATED_WITHIN => {}
            Err(error) => {
                process.fails("write", &error);
                process.note(|| format!("gives up writing {key} = {number}: {error}"));
                break Outcome::Maybe;
            }
        }
    };
    process.note(|| format!("has written {key} = {number} in {attempts} attempts: {outcome:?}"));
    note(outcome);
    if outcome == Outcome::Replied(()) {
        let mut read = shared.read.lock();
        read.invalidated(process.id(), key, number, process.now());
    }
    (outcome == Outcome::Replied(())).then_some(Accepted {
        id,
        number,
        since: start,
    })
}

async fn read(process: &Process, shared: &Shared, queue: &WriteBehind<u64>) {
    let owner = process.random_range(0..shared.processes);
    let key = name(owner, process.random_range(0..2 * KEYS));
    let began = process.now();
    let (database, loader, asked) = (shared.database.clone(), process.clone(), key.clone());
    let load = move || async move {
        sleep(Duration::from_micros(loader.random_range(0..5_000))).await;
        let number = database.number(&asked);
        sleep(Duration::from_micros(loader.random_range(0..5_000))).await;
        Ok::<_, io::Error>(number)
    };
    let got: Result<Current<u64>, Error> = queue.get_or_load(&key, load).await;
    let got = match got {
        Ok(got) => got,
        Err(error) => {
            process.fails("read", &error);
            return;
        }
    };
    process.reached(match &got {
        Current::Fetched(_) => "read from the cache",
        _ => "read while pending",
    });
    let how = match &got {
        Current::Fetched(fetched) => fetched.source().as_str(),
        _ => "pending",
    };
    let number = got.into_value().unwrap_or_default();
    process.note(|| format!("reads {key} = {number}, {how}"));
    let mut read = shared.read.lock();
    read.read(process.id(), &key, number, began, process.now());
}

fn name(owner: usize, key: usize) -> String {
    format!("k{owner}.{key}")
}
