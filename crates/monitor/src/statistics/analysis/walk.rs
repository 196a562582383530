//! The walk over the keys.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use redkit_core::coordination::Backoff;
use redkit_core::{CallError, Client, Command, Error as CoreError, FromValue, ServerNode};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::report::{Collector, Expiring, KeyspaceReport, Looked};
use super::{AnalysisConfig, PATIENCE, Progress};
use crate::error::Error;
use crate::statistics::ServerInfo;

type SlotRange = RangeInclusive<u16>;

/// Keys that the server is asked for at once.
const PAGE: u32 = 200;

/// Keys that are looked at at once: so few that other callers of the connection do not wait long.
const TOGETHER: usize = 32;

/// How often a command is tried.
const ATTEMPTS: u32 = 4;

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
            let info = self.ask::<String>(server, || Command::new("INFO").arg("server"));
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
        let failed = |error| (Arc::clone(&server.name), error);
        let total: u64 = self
            .ask(server, || Command::new("DBSIZE"))
            .await
            .map_err(failed)?;
        self.progress
            .send_modify(|progress| progress.total += total.min(self.config.max_keys));
        let (mut cursor, mut seen) = (0_u64, 0_u64);
        loop {
            let began = Instant::now();
            let scan = || Command::new("SCAN").arg(cursor).arg("COUNT").arg(PAGE);
            let (next, keys): (u64, Vec<Bytes>) = self.ask(server, scan).await.map_err(failed)?;
            let count = u64::try_from(keys.len()).unwrap_or(u64::MAX);
            seen += count;
            self.page(server, keys).await.map_err(failed)?;
            if next == 0 {
                return Ok(());
            }
            if seen >= self.config.max_keys || self.cancel.is_cancelled() {
                self.collect(Collector::incomplete);
                return Ok(());
            }
            cursor = next;
            // An empty page costs the server as much as a full one.
            let page = Duration::from_secs(1) * u32::try_from(count).unwrap_or(PAGE).max(PAGE);
            let pace = page / self.config.keys_per_second;
            tokio::select! {
                () = sleep(pace.saturating_sub(began.elapsed())) => {}
                () = self.cancel.cancelled() => {}
            }
        }
    }

    async fn page(&self, server: &ServerNode, keys: Vec<Bytes>) -> Result<(), CoreError> {
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
            let looked = join_all(some.iter().map(|key| self.look(server, key))).await;
            for (key, looked) in some.iter().zip(looked) {
                // Gone in the meantime.
                let Some(looked) = looked? else { continue };
                self.collect(|collector| collector.looked(key.clone(), looked));
            }
        }
        let count = u64::try_from(count).unwrap_or(0);
        self.progress
            .send_modify(|progress| progress.scanned += count);
        Ok(())
    }

    async fn look(&self, server: &ServerNode, key: &Bytes) -> Result<Option<Looked>, CoreError> {
        let (bytes, ttl, kind) = tokio::join!(
            self.ask::<Option<u64>>(server, || Command::new("MEMORY").arg("USAGE").key(key)),
            self.ask::<i64>(server, || Command::new("PTTL").key(key)),
            self.ask::<String>(server, || Command::new("TYPE").key(key)),
        );
        let looked = (|| {
            let (bytes, ttl, kind) = (bytes?, ttl?, kind?);
            let (Some(bytes), true) = (bytes, ttl != -2) else {
                return Ok(None);
            };
            let ttl = u64::try_from(ttl).ok().map(Duration::from_millis);
            Ok(Some(Looked { bytes, kind, ttl }))
        })();
        match looked {
            // Its slot is on its way to another server.
            Err(error) if is_elsewhere(&error) => Ok(None),
            looked => looked,
        }
    }

    /// Reads something; a few times when the server does not answer.
    async fn ask<T: FromValue>(
        &self,
        server: &ServerNode,
        command: impl Fn() -> Command,
    ) -> Result<T, CoreError> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let mut attempt = 1;
        loop {
            let command = command().deadline(Instant::now() + PATIENCE);
            match self.client.call_server(&server.name, command).await {
                Err(error)
                    if error.is_retryable() && attempt < ATTEMPTS && !is_elsewhere(&error) =>
                {
                    attempt += 1;
                    sleep(backoff.next_pause()).await;
                }
                reply => return reply,
            }
        }
    }

    fn collect(&self, work: impl FnOnce(&mut Collector)) {
        if let Some(collector) = &mut *self.collector.lock() {
            work(collector);
        }
    }
}

fn is_elsewhere(error: &CoreError) -> bool {
    let CoreError::Call {
        error: CallError::Replied(error),
        ..
    } = error
    else {
        return false;
    };
    matches!(error.code(), "MOVED" | "ASK" | "TRYAGAIN")
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
        // How many permits there are stays until it is reset.
        except: (*pattern == "semaphore").then_some(b"}:permits"),
    };
    PATTERNS.iter().map(of).collect()
}
