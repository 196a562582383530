//! The deep check: everything that a program uses of its servers, in parallel and bounded.

use std::time::Duration;

use futures_util::future::join_all;
use redkit_core::{CallError, Command, Interest, Push, ServerNode, Topology};
use tokio::time::{Instant, timeout_at};

use super::cause::{Cause, CauseKind};
use super::dependency::Looked;
use super::report::{Check, Observed};
use crate::statistics::{Role, ServerInfo};

const ECHO: &str = include_str!("../scripts/echo.lua");

/// From this part of `maxmemory` on memory is nearly full.
const NEARLY_FULL: f64 = 0.9;

/// A replica that has not acknowledged for this long is behind.
const LAG: Duration = Duration::from_secs(10);

impl Looked {
    pub(super) async fn deep(&self, deadline: Instant) -> Vec<Check> {
        let servers = self.dependency.client.servers();
        if servers.is_empty() {
            return self.ready(deadline).await;
        }
        let of_servers = join_all(
            servers
                .iter()
                .map(|server| self.deep_server(server, deadline)),
        );
        let (of_servers, pubsub, quorum) =
            tokio::join!(of_servers, self.pubsub(deadline), self.quorum(deadline));
        let mut checks = vec![self.breaker(), pubsub];
        checks.extend(quorum);
        checks.extend(of_servers.into_iter().flatten());
        checks
    }

    async fn deep_server(&self, server: &ServerNode, deadline: Instant) -> Vec<Check> {
        let (ping, keys, script, info, cluster) = tokio::join!(
            self.ping(server, deadline),
            self.keys(server, deadline),
            self.script(server, deadline),
            self.info(server, deadline),
            self.cluster(server, deadline),
        );
        let mut checks = vec![ping, script];
        checks.extend(keys);
        checks.extend(info);
        checks.extend(cluster);
        checks
    }

    /// Sets, reads and deletes a key of this instance's own.
    async fn keys(&self, server: &ServerNode, deadline: Instant) -> Option<Check> {
        if !self.dependency.writes {
            return None;
        }
        let check = self.check("set_get_delete").on(&server.name);
        // Not that of readiness, which other callers ask meanwhile.
        let Some(key) = self.key_on(server, "deep") else {
            let cause = Cause::detailed(CauseKind::CheckFailed, "no key lies on this server");
            return Some(check.warned(cause));
        };
        let start = Instant::now();
        let value = format!("{:?}", start);
        let round = async {
            let set = Command::new("SET")
                .key(&key)
                .arg(&value)
                .arg("PX")
                .arg(60_000);
            self.timed(server, set, deadline).await?;
            let get = Command::new("GET").key(&key);
            let got: Option<String> = self.asked(server, get, deadline).await?;
            let delete = Command::new("DEL").key(&key);
            self.timed(server, delete, deadline).await?;
            match got {
                Some(got) if got == value => Ok(start.elapsed()),
                _ => Err(Cause::detailed(
                    CauseKind::CheckFailed,
                    "another value came back than was set",
                )),
            }
        };
        Some(match round.await {
            Ok(took) => check.observed(Observed::Time(took)),
            Err(cause) => check.failed(cause),
        })
    }

    async fn script(&self, server: &ServerNode, deadline: Instant) -> Check {
        let check = self.check("script").on(&server.name);
        let start = Instant::now();
        let eval = Command::new("EVAL").arg(ECHO).arg(0).arg("here");
        match self.asked::<String>(server, eval, deadline).await {
            Ok(_) => check.observed(Observed::Time(start.elapsed())),
            Err(cause) => unless_a_right(check, cause),
        }
    }

    /// A message to oneself.
    async fn pubsub(&self, deadline: Instant) -> Check {
        let check = self.check("pubsub");
        let channel = self.keyspace.role_key(self.instance, "echo");
        let client = &self.dependency.client;
        let start = Instant::now();
        let round = async {
            let interest = Interest::Channels(vec![channel.to_bytes()]);
            let mut stream = client.subscribe(interest).await?;
            let publish = Command::new("PUBLISH")
                .arg(&channel)
                .arg("here")
                .deadline(deadline);
            // Past the breaker, as all of this; on a cluster a message reaches every node.
            match client.servers().first() {
                Some(server) => client.call_server::<i64>(&server.name, publish).await?,
                None => client.call::<i64>(publish).await?,
            };
            while let Some(push) = stream.next().await {
                if matches!(push, Push::Message { .. }) {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        match timeout_at(deadline, round).await {
            Ok(Ok(true)) => check.observed(Observed::Time(start.elapsed())),
            Ok(Err(error)) => unless_a_right(check, Cause::of(&error, &self.needs)),
            Ok(Ok(false)) | Err(_) => check.failed(Cause::new(CauseKind::NotDelivered)),
        }
    }

    /// Whether the sentinels could agree on a failover: as long as one of them says so, they can.
    async fn quorum(&self, deadline: Instant) -> Option<Check> {
        let client = &self.dependency.client;
        if client.topology() != Topology::Sentinel {
            return None;
        }
        let check = self.check("quorum");
        let limit = deadline.saturating_duration_since(Instant::now());
        let said = client.check_quorum(limit).await;
        let agree = said.iter().filter(|(_, said)| said.is_ok()).count();
        let share = format!("{agree} of {} sentinels", said.len());
        if agree > 0 {
            return Some(check.observed(Observed::Text(share.into())));
        }
        let no_quorum = said.iter().find_map(|(_, said)| said.as_ref().err());
        let cause = match no_quorum {
            Some(error) if is_no_quorum(error) => Cause {
                error: Some(error.to_string().into()),
                ..Cause::detailed(
                    CauseKind::OutOfBounds,
                    "too few sentinels see each other: a master that is lost is not replaced",
                )
            },
            Some(error) => Cause::of(error, &self.needs),
            None => Cause::detailed(CauseKind::CheckFailed, "no sentinel was asked"),
        };
        Some(check.warned(cause))
    }

    /// Memory, persistence and replication.
    async fn info(&self, server: &ServerNode, deadline: Instant) -> Vec<Check> {
        let reply = self
            .asked::<String>(server, Command::new("INFO"), deadline)
            .await;
        match reply {
            Ok(text) => {
                let info = ServerInfo::parse(&text);
                let checks = [
                    self.memory(&info),
                    self.persistence(&info),
                    self.replication(&info),
                ];
                checks.map(|check| check.on(&server.name)).into()
            }
            Err(cause) => vec![unless_a_right(self.check("memory").on(&server.name), cause)],
        }
    }

    fn memory(&self, info: &ServerInfo) -> Check {
        let check = self.check("memory");
        let Some(share) = info.memory_share() else {
            return check.observed(Observed::Number(as_number(info.used_memory), "bytes"));
        };
        let check = check.observed(Observed::Number(share, "share of maxmemory"));
        match share >= NEARLY_FULL && info.maxmemory_policy == "noeviction" {
            true => check.warned(Cause::detailed(
                CauseKind::OutOfBounds,
                "memory is nearly full, and nothing is evicted: writes will be refused",
            )),
            false => check,
        }
    }

    fn persistence(&self, info: &ServerInfo) -> Check {
        let check = self.check("persistence");
        match info.is_persisting {
            true => check,
            false => check.warned(Cause::new(CauseKind::NotPersisting)),
        }
    }

    fn replication(&self, info: &ServerInfo) -> Check {
        let check = self.check("replication");
        if info.role == Role::Replica {
            return match info.is_master_link_up {
                true => check.observed(Observed::Text("replica".into())),
                false => check.failed(Cause::new(CauseKind::MasterDown)),
            };
        }
        let worst = info.replicas.iter().filter_map(|replica| replica.lag).max();
        let check = match worst {
            Some(lag) => check.observed(Observed::Time(lag)),
            None => check,
        };
        let behind = info
            .replicas
            .iter()
            .filter(|replica| !replica.is_online || replica.lag > Some(LAG))
            .count();
        match behind {
            0 => check,
            behind => check.warned(Cause::detailed(
                CauseKind::OutOfBounds,
                format!("{behind} of {} replicas are behind", info.replicas.len()),
            )),
        }
    }

    async fn cluster(&self, server: &ServerNode, deadline: Instant) -> Option<Check> {
        if self.dependency.client.topology() != Topology::Cluster {
            return None;
        }
        let check = self.check("cluster").on(&server.name);
        let reply = self
            .asked::<String>(server, Command::new("CLUSTER").arg("INFO"), deadline)
            .await;
        Some(match reply {
            Ok(text) => {
                let state = text
                    .lines()
                    .find_map(|line| line.trim().strip_prefix("cluster_state:"));
                let state = state.unwrap_or("unknown");
                let check = check.observed(Observed::Text(state.into()));
                match state {
                    "ok" => check,
                    _ => check.failed(Cause::new(CauseKind::ClusterDown)),
                }
            }
            Err(cause) => unless_a_right(check, cause),
        })
    }
}

fn is_no_quorum(error: &redkit_core::Error) -> bool {
    let reply = error.call_error().and_then(CallError::server_error);
    reply.is_some_and(|reply| reply.code() == "NOQUORUM")
}

/// A program that runs no scripts, or sends no messages, needs no right to: a warning that names it.
fn unless_a_right(check: Check, cause: Cause) -> Check {
    match cause.kind {
        CauseKind::MissingRight => check.warned(cause),
        _ => check.failed(cause),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes beyond 2^53 need not be exact"
)]
fn as_number(count: u64) -> f64 {
    count as f64
}
