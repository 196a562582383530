//! A process that reads and writes, and notes what it sees.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redkit_cache::{Cache, L1, Loaded};
use redkit_core::{Client, ClientConfig, Driver};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::record::{Log, What, now};
use super::source::{SHARED, Source, found, is_gone, kept, may_be_gone, tag};
use super::{BOUND, WORKERS};

/// What a process is to do, in its environment.
pub(super) const ORDER: &str = "REDKIT_CACHE_TEST_HISTORY";

/// Longer than a write can be under way after its caller has given it up.
const AFTERMATH: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) id: u64,
    pub(super) url: String,
    pub(super) fred: bool,
    pub(super) namespace: String,
    pub(super) source: String,
    pub(super) folder: PathBuf,
    pub(super) with_level: bool,
    /// It takes the place of one that was killed.
    pub(super) is_successor: bool,
}

/// What a worker's cache has done.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) l1_hits: u64,
    pub(super) hits: u64,
    pub(super) loads: u64,
    pub(super) fenced: u64,
    pub(super) bypasses: u64,
    pub(super) refused: u64,
}

/// Not a test: a process of the tests beside it.
#[test]
#[ignore = "it is a child of the tests beside it"]
fn child() {
    let order: Order = serde_json::from_str(&std::env::var(ORDER).unwrap()).unwrap();
    let stop = CancellationToken::new();
    std::thread::spawn({
        let stop = stop.clone();
        move || {
            // Until the parent says so, or is gone.
            let _ = io::stdin().read_line(&mut String::new());
            stop.cancel();
        }
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        // Nothing breaks the source, but all may be slow.
        let source = ClientConfig::from_url(&order.source).unwrap();
        let source = source.connect_timeout(crate::PATIENT);
        let source = source.command_timeout(crate::PATIENT);
        let source = Client::connect(source).await.unwrap();
        let Some(client) = connect(&order, &stop).await else {
            return;
        };
        say("ready");
        let worker = Worker::new(&order, &client, Source(source));
        let seen = worker.live(stop).await;
        say(&format!("seen {}", serde_json::to_string(&seen).unwrap()));
    });
}

/// Something may be broken just now.
async fn connect(order: &Order, stop: &CancellationToken) -> Option<Client> {
    while !stop.is_cancelled() {
        let config = ClientConfig::from_url(&order.url)
            .unwrap()
            .driver(if order.fred {
                Driver::Fred
            } else {
                Driver::Native
            })
            .namespace(&order.namespace)
            .command_timeout(Duration::from_millis(250));
        if let Ok(client) = Client::connect(config).await {
            return Some(client);
        }
    }
    None
}

/// A line for the parent, apart from what the test harness prints.
fn say(what: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "\n> {what}").unwrap();
    out.flush().unwrap();
}

pub(super) struct Worker {
    cache: Cache<u64>,
    source: Source,
    log: Log,
    /// The key that nobody else writes.
    own: u64,
    /// Nothing is promised of the own key before.
    settled: Mutex<Instant>,
    /// Between two changes, in milliseconds.
    pause: u64,
    /// The key that was changed last.
    last: Mutex<u64>,
    refused: Mutex<u64>,
}

impl Worker {
    pub(super) fn new(order: &Order, client: &Client, source: Source) -> Arc<Self> {
        // With a level nothing may end by itself before the bound has been put to the test.
        let ttl = Duration::from_millis(if order.with_level { 60_000 } else { 40 });
        let builder = Cache::builder(client, "numbers")
            .redis_timeout(crate::PATIENT)
            .ttl(ttl)
            .negative_ttl(ttl)
            .stale_for(Duration::from_secs(2))
            .soft_timeout(Duration::from_millis(3))
            .refresh_ahead(0.7)
            .lease(Duration::from_millis(500))
            .load_timeout(Duration::from_secs(5))
            .retry_after(Duration::from_millis(50));
        let builder = match order.with_level {
            true => builder.l1(L1::entries(1000).bound(BOUND)),
            false => builder,
        };
        let settled = Instant::now()
            + match order.is_successor {
                true => AFTERMATH,
                false => Duration::ZERO,
            };
        Arc::new(Self {
            cache: builder.build().unwrap(),
            source,
            log: Log::open(&order.folder.join(format!("worker-{}", order.id))),
            own: SHARED + order.id,
            settled: Mutex::new(settled),
            pause: if order.with_level { 500 } else { 12 },
            last: Mutex::new(0),
            refused: Mutex::new(0),
        })
    }

    /// Reads and writes until it is told to stop.
    pub(super) async fn live(self: &Arc<Self>, stop: CancellationToken) -> Seen {
        let mut tasks = JoinSet::new();
        for _ in 0..3 {
            let (worker, stop) = (Arc::clone(self), stop.clone());
            tasks.spawn(async move {
                while !stop.is_cancelled() {
                    worker.read().await;
                    if chance(4) {
                        sleep(some_time(2)).await;
                    }
                }
            });
        }
        let (worker, stop) = (Arc::clone(self), stop.clone());
        tasks.spawn(async move {
            while !stop.is_cancelled() {
                if worker.write().await.is_err() {
                    *worker.refused.lock() += 1;
                }
                // What is changed again soon is not old for long; and what is changed twice at
                // once can be read in between.
                let pause = if chance(2) {
                    60.min(worker.pause)
                } else {
                    worker.pause
                };
                sleep(some_time(pause)).await;
            }
        });
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
        let stats = self.cache.stats();
        Seen {
            l1_hits: stats.l1_hits,
            hits: stats.hits,
            loads: stats.loads,
            fenced: stats.fenced,
            bypasses: stats.bypasses,
            refused: *self.refused.lock(),
        }
    }

    /// A reading that fails says nothing, and is none.
    async fn read(&self) {
        let key = some_key();
        let (log, began) = (&self.log, now());
        match rand::random_range(0..8) {
            0 => {
                if let Ok(Some(got)) = self.cache.get(key).await {
                    log.note(What::Got, key, *got, began);
                }
            }
            1 => {
                let keys = [some_key(), some_key(), some_key()];
                let source = self.source.clone();
                let load = move |keys: Vec<u64>| read_many(source.clone(), keys);
                let all = self.cache.get_many_or_load(keys, load).await;
                for (key, got) in keys.into_iter().zip(all) {
                    match got {
                        Ok(Some(got)) => log.note(What::GotOfMany, key, *got, began),
                        Ok(None) => self.found_none(key, began).await,
                        Err(_) => {}
                    }
                }
            }
            _ if may_be_gone(key) => {
                let number = read(self.source.clone(), key);
                let load = async move { Ok::<_, io::Error>(found(key, number.await?)) };
                match self.cache.find_or_load(key, || load).await {
                    Ok(Some(got)) => log.note(What::Found, key, *got, began),
                    Ok(None) => self.found_none(key, began).await,
                    Err(_) => {}
                }
            }
            _ => {
                let number = read(self.source.clone(), key);
                let load = async move { Ok::<_, io::Error>(kept(key, number.await?)) };
                if let Ok(got) = self.cache.get_or_load(key, || load).await {
                    log.note(What::GotOrLoaded, key, *got, began);
                }
            }
        }
    }

    async fn found_none(&self, key: u64, began: u64) {
        // Of a key that always has a value nothing allows it.
        let highest = match may_be_gone(key) {
            true => self.source.read(key).await.unwrap(),
            false => 0,
        };
        self.log.note(What::FoundNone, key, highest, began);
    }

    /// Changes the source and the cache. Only what is acknowledged is noted.
    async fn write(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let key = match chance(2) {
            true => *self.last.lock(),
            false => rand::random_range(0..SHARED),
        };
        *self.last.lock() = key;
        let began = now();
        match rand::random_range(0..15) {
            0..4 => {
                let seen = match chance(4) {
                    true => self.cache.peek(key).await?,
                    false => None,
                };
                let number = self.source.raise(key).await?;
                match seen {
                    // That it is not there any more says nothing of what is there.
                    Some(seen) if !self.cache.invalidate_seen(key, &seen).await? => return Ok(()),
                    Some(_) => {}
                    None => drop(self.cache.invalidate(key).await?),
                }
                let what = match may_be_gone(key) && is_gone(number) {
                    true => What::Deleted,
                    false => What::Invalidated,
                };
                self.log.note(what, key, number, began);
            }
            4..6 => {
                let mut raised = Vec::new();
                // That there is none has no tag where it comes from a call for many.
                for key in (key % 2..SHARED - 2).step_by(2) {
                    raised.push((key, self.source.raise(key).await?));
                }
                self.cache.invalidate_tag(&tag(key)).await?;
                for (key, number) in raised {
                    self.log.note(What::TagInvalidated, key, number, began);
                }
            }
            6..9 => {
                let key = key % (SHARED - 2);
                let source = self.source.clone();
                let write = async move {
                    sleep(some_time(2)).await;
                    let number = source.raise(key).await?;
                    sleep(some_time(2)).await;
                    Ok::<_, io::Error>(kept(key, number))
                };
                let written = self.cache.write_through(key, || write).await?;
                self.log.note(What::WrittenThrough, key, *written, began);
            }
            9 => {
                let mut raised = Vec::new();
                for key in 0..SHARED {
                    raised.push((key, self.source.raise(key).await?));
                }
                self.cache.clear().await?;
                for (key, number) in raised {
                    self.log.note(What::Cleared, key, number, began);
                }
            }
            _ if Instant::now() < *self.settled.lock() => {}
            choice => {
                let number = self.source.raise(self.own).await?;
                let result = match choice {
                    10 => self.cache.invalidate(self.own).await.map(drop),
                    _ => {
                        let value = kept(self.own, number);
                        self.cache.set_with(self.own, value).await.map(drop)
                    }
                };
                if let Err(error) = result {
                    // It may yet be carried out, after others that are acknowledged.
                    *self.settled.lock() = Instant::now() + AFTERMATH;
                    return Err(error.into());
                }
                let what = match choice {
                    10 => What::Invalidated,
                    _ => What::Set,
                };
                self.log.note(what, self.own, number, began);
            }
        }
        Ok(())
    }
}

/// The longer a load holds what it has read, the more can overtake it.
async fn hold() {
    sleep(some_time(if chance(10) { 60 } else { 4 })).await;
}

async fn read(source: Source, key: u64) -> io::Result<u64> {
    sleep(some_time(2)).await;
    let number = source.read(key).await?;
    hold().await;
    Ok(number)
}

async fn read_many(source: Source, keys: Vec<u64>) -> io::Result<HashMap<u64, Loaded<u64>>> {
    sleep(some_time(2)).await;
    let mut found = HashMap::new();
    for key in keys {
        let number = source.read(key).await?;
        if !(may_be_gone(key) && is_gone(number)) {
            found.insert(key, kept(key, number));
        }
    }
    hold().await;
    Ok(found)
}

fn chance(one_in: u32) -> bool {
    rand::random_range(0..one_in) == 0
}

pub(super) fn some_time(millis: u64) -> Duration {
    Duration::from_micros(rand::random_range(0..=millis * 1000))
}

fn some_key() -> u64 {
    rand::random_range(0..SHARED + WORKERS)
}
