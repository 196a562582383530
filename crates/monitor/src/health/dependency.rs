//! [`Dependency`]: a client by name and criticality, and the checks of readiness on its servers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redkit_core::breaker::BreakerState;
use redkit_core::coordination::Token;
use redkit_core::{Client, Command, Key, Keyspace, ServerNode, slot};
use tokio::time::Instant;

use super::cause::{Cause, CauseKind, Needs};
use super::report::{Check, Observed};
use crate::error::Error;

/// What a program depends on: a client, its name in answers and alerts, and what its failure means.
#[derive(Debug, Clone)]
#[must_use = "it does nothing until a builder takes it"]
pub struct Dependency {
    pub(crate) name: String,
    pub(crate) client: Client,
    pub(crate) is_hard: bool,
    pub(crate) writes: bool,
}

impl Dependency {
    /// Without it the program can serve nothing: when it is down, the program is not ready. Take care: all
    /// instances share it, so an outage takes *all* of them out of service.
    pub fn hard(name: &str, client: &Client) -> Self {
        Self {
            name: name.to_owned(),
            client: client.clone(),
            is_hard: true,
            writes: true,
        }
    }

    /// The program serves without it, worse or slower: when it is down, the program is ready with a warning.
    pub fn soft(name: &str, client: &Client) -> Self {
        Self {
            is_hard: false,
            ..Self::hard(name, client)
        }
    }

    /// The program only reads from it: it is well also when it takes no writes.
    pub fn without_writes(mut self) -> Self {
        self.writes = false;
        self
    }
}

/// A dependency that is looked at.
pub(super) struct Looked {
    pub(super) dependency: Dependency,
    pub(super) keyspace: Keyspace,
    pub(super) needs: Needs,
    /// What makes the keys and channels this instance's own.
    pub(super) instance: Token,
}

/// A probe's key outlives the instance by this at most.
const PROBE_TTL: Duration = Duration::from_secs(60);

impl Looked {
    pub(super) fn new(dependency: Dependency) -> Result<Self, Error> {
        let keyspace = dependency.client.keyspace("monitor", "health")?;
        let prefix = String::from_utf8_lossy(&keyspace.prefix()).into_owned();
        Ok(Self {
            needs: Needs {
                keys: format!("{}*", prefix.trim_end_matches('{')),
                channels: format!("{}*", prefix.trim_end_matches('{')),
            },
            dependency,
            keyspace,
            instance: Token::random(),
        })
    }

    /// Whether the servers answer and take writes, past the breaker; and what the breaker does.
    pub(super) async fn ready(&self, deadline: Instant) -> Vec<Check> {
        let mut checks = vec![self.breaker()];
        let servers = self.dependency.client.servers();
        if servers.is_empty() {
            let cause =
                Cause::detailed(CauseKind::ClusterDown, "no master of the cluster is known");
            checks.push(self.check("ping").failed(cause));
            return checks;
        }
        if let Some(gap) = self.uncovered(&servers) {
            checks.push(gap);
        }
        let looks = servers
            .iter()
            .map(|server| self.ready_server(server, deadline));
        checks.extend(join_all(looks).await.into_iter().flatten());
        checks
    }

    async fn ready_server(&self, server: &ServerNode, deadline: Instant) -> Vec<Check> {
        let mut checks = vec![self.ping(server, deadline).await];
        let answers = checks.iter().all(|check| check.cause.is_none());
        if answers && self.dependency.writes {
            checks.push(self.write(server, deadline).await);
        }
        checks
    }

    pub(super) async fn ping(&self, server: &ServerNode, deadline: Instant) -> Check {
        let call = self.timed(server, Command::new("PING"), deadline);
        let (check, reply) = (self.check("ping").on(&server.name), call.await);
        match reply {
            Ok(took) => check.observed(Observed::Time(took)),
            Err(cause) => check.failed(cause),
        }
    }

    /// A write to a key of this instance's own, which expires by itself.
    async fn write(&self, server: &ServerNode, deadline: Instant) -> Check {
        let check = self.check("write").on(&server.name);
        let Some(key) = self.key_on(server, "probe") else {
            let cause = Cause::detailed(CauseKind::CheckFailed, "no key lies on this server");
            return check.warned(cause);
        };
        let set = Command::new("SET")
            .key(&key)
            .arg(1)
            .arg("PX")
            .arg(PROBE_TTL.as_millis());
        match self.timed(server, set, deadline).await {
            Ok(took) => check.observed(Observed::Time(took)),
            Err(cause) => check.failed(cause),
        }
    }

    /// How the breaker stands. One that is open beside a server that answers closes by itself, and the
    /// program's calls are refused until then: a warning. One that was opened by hand stays open.
    pub(super) fn breaker(&self) -> Check {
        let state = self.dependency.client.breaker().status().state;
        let check = self
            .check("breaker")
            .observed(Observed::Text(state.as_str().into()));
        match state {
            BreakerState::ForcedOpen => {
                let detail = "it was opened by hand, and stays so until it is reset";
                check.failed(Cause::detailed(CauseKind::BreakerOpen, detail))
            }
            BreakerState::Open | BreakerState::HalfOpen => {
                check.warned(Cause::new(CauseKind::BreakerOpen))
            }
            _ => check,
        }
    }

    /// How many slots nobody serves.
    fn uncovered(&self, servers: &[ServerNode]) -> Option<Check> {
        let served: usize = servers
            .iter()
            .flat_map(|server| &server.slots)
            .map(ExactSizeIterator::len)
            .sum();
        (served < SLOTS).then(|| {
            let detail = format!("no server has {} of the {SLOTS} slots", SLOTS - served);
            self.check("slots")
                .failed(Cause::detailed(CauseKind::ClusterDown, detail))
        })
    }

    /// A key of this instance's own in a slot of this server, for one sort of check.
    pub(super) fn key_on(&self, server: &ServerNode, role: &'static str) -> Option<Key> {
        // A server with a single slot is found after 16,384 keys on average.
        (0..1_000_000_u32)
            .map(|number| {
                self.keyspace
                    .role_key(format!("{}-{number}", self.instance), role)
            })
            .find(|key| server.serves(slot(key.as_bytes())))
    }

    /// Sends a command to a server; gives how long the reply took.
    pub(super) async fn timed(
        &self,
        server: &ServerNode,
        command: Command,
        deadline: Instant,
    ) -> Result<Duration, Cause> {
        let start = Instant::now();
        self.asked::<redkit_core::Value>(server, command, deadline)
            .await?;
        Ok(start.elapsed())
    }

    /// Sends a command to a server.
    pub(super) async fn asked<T: redkit_core::FromValue>(
        &self,
        server: &ServerNode,
        command: Command,
        deadline: Instant,
    ) -> Result<T, Cause> {
        let client = &self.dependency.client;
        let reply = client.call_server(&server.name, command.deadline(deadline));
        reply.await.map_err(|error| Cause::of(&error, &self.needs))
    }

    pub(super) fn check(&self, measurement: &'static str) -> Check {
        Check::new(&self.dependency.name, measurement, self.dependency.is_hard)
    }

    /// When the deadline has passed and a check does not end.
    pub(super) fn overdue(&self, limit: Duration) -> Vec<Check> {
        let cause = Cause::detailed(CauseKind::Silent, format!("no end within {limit:?}"));
        vec![self.breaker(), self.check("ping").failed(cause)]
    }
}

const SLOTS: usize = 16_384;

/// The check of a dependency that panicked.
pub(super) fn all_failed<'l>(dependencies: impl Iterator<Item = &'l Arc<Looked>>) -> Vec<Check> {
    let failed = |looked: &Arc<Looked>| {
        looked
            .check("ping")
            .failed(Cause::new(CauseKind::CheckFailed))
    };
    dependencies.map(failed).collect()
}
