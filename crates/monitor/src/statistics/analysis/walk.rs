//! The walk over the keys.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use redkit_core::{Client, Command, Error as CoreError, ServerNode};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::lane::{Lane, is_elsewhere, read};
use super::report::{Collector, Expiring, KeyspaceReport, Looked};
use super::{AnalysisConfig, Progress};
use crate::error::Error;
use crate::statistics::ServerInfo;

type SlotRange = RangeInclusive<u16>;

/// How many times in a second a server is asked for keys, when the pace allows it: it answers nobody else while it
/// looks for them, so that it is better asked often for few.
const PAGES_PER_SECOND: u32 = 100;

/// The fewest and the most keys that a server is asked for at once.
const PAGE: RangeInclusive<u32> = 50..=200;

/// Keys that are looked at at once: so few that other callers of the server do not wait long.
const TOGETHER: usize = 16;

pub(super) struct Walk {
    client: Client,
    config: AnalysisConfig,
    collector: Mutex<Option<Collector>>,
    progress: watch::Sender<Progress>,
    cancel: CancellationToken,
}

impl Walk {
    pub(super) fn new(
        client: Client,
        config: AnalysisConfig,
        progress: watch::Sender<Progress>,
        cancel: CancellationToken,
    ) -> Self {
        let expiring = match &config.expiring {
            Some(prefixes) => prefixes.iter().cloned().map(Expiring::all).collect(),
            None => ours(&client),
        };
        let collector = Mutex::new(Some(Collector::new(config.clone(), expiring)));
        Self {
            client,
            config,
            collector,
            progress,
            cancel,
        }
    }

    pub(super) async fn run(self: Arc<Self>) -> Result<KeyspaceReport, Error> {
        let start = Instant::now();
        if self.client.servers().is_empty() {
            // The client says best why it knows none.
            self.client
                .call::<redkit_core::Value>(Command::new("DBSIZE"))
                .await?;
        }
        let servers = self.client.servers();
        if servers.is_empty() {
            self.collect(Collector::incomplete);
        }
        let before = self.layout(&servers).await;
        let ends = join_all(servers.iter().map(|server| self.server(server))).await;
        // A cursor means nothing to another server, and keys of a slot that moves are seen by both or by none.
        if before != self.layout(&self.client.servers()).await {
            self.collect(Collector::incomplete);
        }
        let Some(mut collector) = self.collector.lock().take() else {
            return Ok(KeyspaceReport::default());
        };
        let failures: Vec<_> = ends.into_iter().filter_map(Result::err).collect();
        let has_failed = failures.len() == servers.len();
        if let (true, Some(first)) = (has_failed, failures.first()) {
            return Err(Error::NoServer {
                servers: servers.len(),
                first: first.1.clone(),
            });
        }
        for (server, error) in failures {
            collector.failed(server, error);
        }
        Ok(collector.finish(start.elapsed()))
    }

    /// Which processes serve which slots. A process is known by its run id; where that cannot be asked for, by its name.
    async fn layout(&self, servers: &[ServerNode]) -> BTreeMap<Arc<str>, (Vec<SlotRange>, String)> {
        let asked = servers.iter().map(async |server| {
            // A new connection, which is to whatever server has the place now.
            let mut lane = Lane::new(&self.client, server);
            let info = lane.ask::<String>(Command::new("INFO").arg("server"));
            let run_id = info.await.map(|text| ServerInfo::parse(&text).run_id);
            let slots = server.slots.clone();
            (
                Arc::clone(&server.name),
                (slots, run_id.unwrap_or_default()),
            )
        });
        join_all(asked).await.into_iter().collect()
    }

    async fn server(&self, server: &ServerNode) -> Result<(), (Arc<str>, CoreError)> {
        let walked = self.walk(&mut Lane::new(&self.client, server)).await;
        walked.map_err(|error| (Arc::clone(&server.name), error))
    }

    async fn walk(&self, lane: &mut Lane<'_>) -> Result<(), CoreError> {
        let total: u64 = lane.ask(Command::new("DBSIZE")).await?;
        self.progress
            .send_modify(|progress| progress.total += total.min(self.config.max_keys));
        let (least, most) = PAGE.into_inner();
        let page = (self.config.keys_per_second / PAGES_PER_SECOND).clamp(least, most);
        let (mut cursor, mut seen) = (0_u64, 0_u64);
        loop {
            let began = Instant::now();
            let scan = Command::new("SCAN").arg(cursor).arg("COUNT").arg(page);
            let (next, keys): (u64, Vec<Bytes>) = lane.ask(scan).await?;
            let count = u64::try_from(keys.len()).unwrap_or(u64::MAX);
            seen += count;
            self.page(lane, keys).await?;
            if next == 0 {
                return Ok(());
            }
            if seen >= self.config.max_keys || self.cancel.is_cancelled() {
                self.collect(Collector::incomplete);
                return Ok(());
            }
            cursor = next;
            // An empty page costs the server as much as a full one.
            let time = Duration::from_secs(1) * u32::try_from(count).unwrap_or(page).max(page);
            let pace = time / self.config.keys_per_second;
            tokio::select! {
                () = sleep(pace.saturating_sub(began.elapsed())) => {}
                () = self.cancel.cancelled() => {}
            }
        }
    }

    async fn page(&self, lane: &mut Lane<'_>, keys: Vec<Bytes>) -> Result<(), CoreError> {
        let every = u64::from(self.config.sample_every);
        let mut sampled = Vec::new();
        let count = keys.len();
        self.collect(|collector| {
            for key in keys {
                if collector.scanned(&key).is_multiple_of(every) {
                    sampled.push(key);
                }
            }
        });
        for some in sampled.chunks(TOGETHER) {
            let looked = look(lane, some).await?;
            for (key, looked) in some.iter().zip(looked) {
                // Gone in the meantime, or on its way to another server.
                let Some(looked) = looked else { continue };
                self.collect(|collector| collector.looked(key.clone(), looked));
            }
        }
        let count = u64::try_from(count).unwrap_or(0);
        self.progress
            .send_modify(|progress| progress.scanned += count);
        Ok(())
    }

    fn collect(&self, work: impl FnOnce(&mut Collector)) {
        if let Some(collector) = &mut *self.collector.lock() {
            work(collector);
        }
    }
}

/// Looks at some keys; `None` for one that is not there any more.
async fn look(lane: &mut Lane<'_>, keys: &[Bytes]) -> Result<Vec<Option<Looked>>, CoreError> {
    let mut commands = Vec::with_capacity(keys.len() * 3);
    for key in keys {
        commands.push(Command::new("MEMORY").arg("USAGE").key(key));
        commands.push(Command::new("PTTL").key(key));
        commands.push(Command::new("TYPE").key(key));
    }
    let mut replies = lane.ask_all(commands).await?.into_iter();
    let mut one = || {
        let (bytes, ttl, kind) = (replies.next(), replies.next(), replies.next());
        looked(read("MEMORY", bytes), read("PTTL", ttl), read("TYPE", kind))
    };
    keys.iter().map(|_| one()).collect()
}

fn looked(
    bytes: Result<Option<u64>, CoreError>,
    ttl: Result<i64, CoreError>,
    kind: Result<String, CoreError>,
) -> Result<Option<Looked>, CoreError> {
    let looked: Result<_, CoreError> = (|| {
        let (bytes, ttl, kind) = (bytes?, ttl?, kind?);
        let (Some(bytes), true) = (bytes, ttl != -2) else {
            return Ok(None);
        };
        let ttl = u64::try_from(ttl).ok().map(Duration::from_millis);
        Ok(Some(Looked { bytes, kind, ttl }))
    })();
    match looked {
        // Its slot is on its way to another server.
        Err(error) if error.call_error().is_some_and(is_elsewhere) => Ok(None),
        looked => looked,
    }
}

/// The prefixes of the patterns whose keys have a time to live: `docs/keyspace.md`.
fn ours(client: &Client) -> Vec<Expiring> {
    const PATTERNS: [&str; 14] = [
        "cache",
        "cache-tag",
        "cache-meta",
        "channel",
        "idempotent",
        "inbox",
        "latch",
        "lock",
        "monitor",
        "ratelimit",
        "redlock",
        "rwlock",
        "semaphore",
        "session",
    ];
    let of = |pattern: &&str| Expiring {
        prefix: client.key(format!("{pattern}:")).as_bytes().to_vec(),
        except: match *pattern {
            // How many permits there are stays until it is reset.
            "semaphore" => &[b"}:permits"],
            // The dashboard's audit is bounded by its length.
            "monitor" => &[b"}:audit", b"}:refusals"],
            _ => &[],
        },
    };
    PATTERNS.iter().map(of).collect()
}
