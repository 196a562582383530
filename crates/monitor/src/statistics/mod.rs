//! Statistics: [`Statistics`], of this process's patterns and of the servers.

mod analysis;
mod clients;
mod hit_rate;
mod info;
mod latency;
mod logs;
mod slots;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redkit_core::inspection::Snapshot;
use redkit_core::{Client, Command};
use tokio::time::Instant;

pub use self::analysis::{
    Analysis, AnalysisConfig, BigKey, KeyspaceReport, PrefixStats, Progress, TTL_BOUNDS,
};
pub use self::clients::ClientConnection;
pub use self::hit_rate::HitRate;
pub use self::info::{CommandInfo, DatabaseInfo, ReplicaInfo, Role, ServerInfo};
pub use self::latency::ServerLatency;
pub use self::logs::{HotKey, LogEntry, LogKind};
pub use self::slots::SlotStats;
use crate::error::Error;

/// Statistics of a client: of the patterns that use it in this process, and of the servers behind it.
///
/// What is asked of the servers goes past the circuit breaker, to each server at once, and ends within the
/// timeout. [`patterns`](Self::patterns) asks nobody.
///
/// ```
/// use redkit_monitor::Statistics;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = redkit_core::ClientConfig::from_url("embedded://")?;
/// # let client = redkit_core::Client::from_backend(std::sync::Arc::new(redkit_embedded::Embedded::new()), &config)?;
/// let statistics = Statistics::new(&client);
/// let earlier = statistics.servers().await?;
/// // … some time later
/// let now = statistics.servers().await?;
/// let rate = now.hit_rate_since(&earlier);
/// println!("{} bytes; {:?} of {} look-ups found a key", now.total.used_memory, rate.rate(), rate.lookups());
///
/// for object in statistics.patterns() {
///     println!("{} {}: {:?}", object.kind, object.name, object.snapshot.facts);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Statistics {
    client: Client,
    timeout: Duration,
}

/// A pattern object of this process, as it stands: a cache, a limiter, the breaker, the client itself.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PatternStats {
    /// `cache`, `limiter`, `breaker`, `client`, …
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its facts and some of its items.
    pub snapshot: Snapshot,
}

/// The servers' figures at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerStatistics {
    /// Each server that answered.
    pub servers: Vec<(Arc<str>, ServerInfo)>,
    /// Each server that did not, and why.
    pub failed: Vec<(Arc<str>, redkit_core::Error)>,
    /// The sum of those that answered.
    pub total: ServerInfo,
    /// When they were asked.
    pub at: Instant,
}

impl Statistics {
    /// Of this client. Answers take a second at most.
    pub fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            timeout: Duration::from_secs(1),
        }
    }

    /// How long the servers have to answer.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What uses the client in this process. Asks no server and is cheap; each snapshot is bounded. An object
    /// whose snapshot panics is left out, and logged.
    pub fn patterns(&self) -> Vec<PatternStats> {
        self.read_patterns().0
    }

    /// The same, and kind and name of the objects whose snapshots have panicked.
    pub(crate) fn read_patterns(&self) -> (Vec<PatternStats>, Vec<String>) {
        let (mut patterns, mut panicked) = (Vec::new(), Vec::new());
        for object in self.client.inspect() {
            let named = catch_unwind(AssertUnwindSafe(|| (object.kind(), object.name())));
            let (kind, name) = named.unwrap_or(("object", "unnamed".to_owned()));
            match catch_unwind(AssertUnwindSafe(|| object.snapshot())) {
                Ok(snapshot) => patterns.push(PatternStats {
                    kind,
                    name,
                    snapshot,
                }),
                Err(_) => {
                    tracing::error!(target: "redkit::monitor", kind, name, "a snapshot panicked");
                    panicked.push(format!("{kind}/{name}"));
                }
            }
        }
        (patterns, panicked)
    }

    /// What the servers say of themselves (`INFO`), each and summed.
    ///
    /// # Errors
    /// [`Error::NoServer`] when none of them answered. When some did, the others stand in
    /// [`failed`](ServerStatistics::failed).
    pub async fn servers(&self) -> Result<ServerStatistics, Error> {
        let at = Instant::now();
        // `everything` holds modules' sections too, which nothing here reads.
        let ask = || Command::new("INFO").arg("default").arg("commandstats");
        let mut statistics = ServerStatistics {
            servers: Vec::new(),
            failed: Vec::new(),
            total: ServerInfo {
                is_persisting: true,
                has_saved: true,
                has_written: true,
                has_rewritten: true,
                ..ServerInfo::default()
            },
            at,
        };
        for (name, reply) in self.ask_all::<String>(ask).await? {
            match reply {
                Ok(text) => statistics.servers.push((name, ServerInfo::parse(&text))),
                Err(error) => statistics.failed.push((name, error)),
            }
        }
        let mut infos = statistics.servers.iter().map(|(_, info)| info);
        if let Some(first) = infos.next() {
            statistics.total = first.clone();
            infos.for_each(|info| statistics.total.add(info));
        }
        Ok(statistics)
    }

    /// Asks every server the same at once.
    async fn ask_all<T: redkit_core::FromValue>(
        &self,
        command: impl Fn() -> Command,
    ) -> Result<Vec<(Arc<str>, Result<T, redkit_core::Error>)>, Error> {
        let deadline = Instant::now() + self.timeout;
        let servers = self.client.servers();
        if servers.is_empty() {
            // The client says best why it knows none.
            self.client.call::<T>(command().deadline(deadline)).await?;
        }
        let count = servers.len();
        let asked = servers.into_iter().map(async |server| {
            let command = command().deadline(deadline);
            let reply = self.client.call_server::<T>(&server.name, command).await;
            (server.name, reply)
        });
        let replies = join_all(asked).await;
        match replies.iter().all(|(_, reply)| reply.is_err()) {
            true => match replies.into_iter().find_map(|(_, reply)| reply.err()) {
                Some(first) => Err(Error::NoServer {
                    servers: count,
                    first,
                }),
                None => Ok(Vec::new()),
            },
            false => Ok(replies),
        }
    }
}

/// Whether a server does not know the command or its subcommand.
fn is_unknown(error: &redkit_core::Error) -> bool {
    let redkit_core::Error::Call {
        error: redkit_core::CallError::Replied(error),
        ..
    } = error
    else {
        return false;
    };
    let message = error.message().to_ascii_lowercase();
    [
        "unknown command",
        "unknown subcommand",
        "cluster support disabled",
    ]
    .iter()
    .any(|part| message.contains(part))
}
