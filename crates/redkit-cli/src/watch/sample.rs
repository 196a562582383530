//! [`Sample`]: the servers' figures at one moment, and how they change.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use redkit_core::{Client, Command};
use redkit_monitor::{Role, ServerInfo, ServerStatistics, Statistics};
use serde::Serialize;
use tokio::time::Instant;

use super::instances::{Instance, Instances};
use crate::connect::without_secrets;
use crate::format;

/// The figures at one moment. The fields are those of `--json`: see `docs/cli.md`.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Sample {
    pub(super) at: String,
    pub(super) total: Figures,
    pub(super) servers: Vec<Node>,
    pub(super) failed: Vec<Failed>,
    pub(super) programs: Vec<Instance>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) role: &'static str,
    pub(super) replicas: usize,
    #[serde(flatten)]
    pub(super) figures: Figures,
}

#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Failed {
    pub(super) name: String,
    pub(super) error: String,
}

/// Rates are those since the sample before; in the first what the server says.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) ops_per_second: f64,
    pub(super) used_memory_bytes: u64,
    /// 0 without a limit.
    pub(super) maxmemory_bytes: u64,
    pub(super) connected_clients: u64,
    pub(super) blocked_clients: u64,
    /// The round trip of a PING; of several servers the longest.
    pub(super) latency_seconds: Option<f64>,
    /// Absent when nothing was looked up.
    pub(super) hit_rate: Option<f64>,
    pub(super) keys: u64,
    pub(super) evicted_per_second: f64,
    pub(super) expired_per_second: f64,
    pub(super) input_bytes_per_second: f64,
    pub(super) output_bytes_per_second: f64,
}

/// Takes samples.
pub(super) struct Sampler {
    client: Client,
    statistics: Statistics,
    instances: Instances,
    before: Option<ServerStatistics>,
}

impl Sampler {
    pub(super) fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            statistics: Statistics::new(client),
            instances: Instances::new(client),
            before: None,
        }
    }

    /// Asks the servers, for no longer than `patience` (at least a second).
    pub(super) async fn next(&mut self, patience: Duration) -> Sample {
        let patience = patience.max(Duration::from_secs(1));
        let statistics = self.statistics.clone().timeout(patience);
        let (now, latencies, programs) = tokio::join!(
            statistics.servers(),
            latencies(&self.client, patience),
            self.instances.read(patience),
        );
        let mut sample = Sample {
            at: format::time(SystemTime::now()),
            programs,
            ..Sample::default()
        };
        match now {
            Ok(now) => {
                self.fill(&mut sample, &now, &latencies);
                self.before = Some(now);
            }
            Err(error) => sample.failed.push(Failed {
                name: "all".to_owned(),
                error: without_secrets(&error.to_string()),
            }),
        }
        sample
    }

    fn fill(
        &self,
        sample: &mut Sample,
        now: &ServerStatistics,
        latencies: &BTreeMap<String, Duration>,
    ) {
        let before = self.before.as_ref();
        for (name, info) in &now.servers {
            let earlier = before.and_then(|before| {
                let found = before.servers.iter().find(|(other, _)| other == name)?;
                let time = now.at.saturating_duration_since(before.at);
                (found.1.run_id == info.run_id).then_some((&found.1, time))
            });
            let figures = Figures::of(info, earlier, latencies.get(&**name).copied());
            sample.servers.push(Node {
                name: name.to_string(),
                version: info
                    .valkey_version
                    .as_ref()
                    .unwrap_or(&info.redis_version)
                    .clone(),
                role: match info.role {
                    Role::Master => "master",
                    Role::Replica => "replica",
                    _ => "",
                },
                replicas: info.replicas.len(),
                figures,
            });
        }
        for (name, error) in &now.failed {
            sample.failed.push(Failed {
                name: name.to_string(),
                error: without_secrets(&error.to_string()),
            });
        }
        sample.total = Figures::sum(sample.servers.iter().map(|node| &node.figures));
        sample.total.hit_rate = before.and_then(|before| now.hit_rate_since(before).rate());
    }
}

/// How long each server takes to answer.
async fn latencies(client: &Client, patience: Duration) -> BTreeMap<String, Duration> {
    let deadline = Instant::now() + patience;
    let asked = client.servers().into_iter().map(async |server| {
        let start = Instant::now();
        let ping = Command::new("PING").deadline(deadline);
        let reply = client
            .call_server::<redkit_core::Value>(&server.name, ping)
            .await;
        reply
            .ok()
            .map(|_| (server.name.to_string(), start.elapsed()))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

impl Figures {
    fn of(
        info: &ServerInfo,
        earlier: Option<(&ServerInfo, Duration)>,
        latency: Option<Duration>,
    ) -> Self {
        let rate = |counter: fn(&ServerInfo) -> u64| {
            let (before, time) = earlier?;
            per_second(counter(info).saturating_sub(counter(before)), time)
        };
        let grown = |counter: fn(&ServerInfo) -> u64| {
            let (before, _) = earlier?;
            Some(counter(info).saturating_sub(counter(before)))
        };
        let hits = grown(|info| info.keyspace_hits).zip(grown(|info| info.keyspace_misses));
        Self {
            ops_per_second: rate(|info| info.commands_processed)
                .unwrap_or_else(|| number(info.ops_per_second)),
            used_memory_bytes: info.used_memory,
            maxmemory_bytes: info.maxmemory,
            connected_clients: info.connected_clients,
            blocked_clients: info.blocked_clients,
            latency_seconds: latency.map(format::seconds),
            hit_rate: hits
                .filter(|(hits, misses)| hits + misses > 0)
                .map(|(hits, misses)| number(hits) / number(hits + misses)),
            keys: info.keys(),
            evicted_per_second: rate(|info| info.evicted_keys).unwrap_or_default(),
            expired_per_second: rate(|info| info.expired_keys).unwrap_or_default(),
            input_bytes_per_second: rate(|info| info.net_input_bytes).unwrap_or_default(),
            output_bytes_per_second: rate(|info| info.net_output_bytes).unwrap_or_default(),
        }
    }

    fn sum<'f>(all: impl Iterator<Item = &'f Self>) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            ops_per_second: sum.ops_per_second + one.ops_per_second,
            used_memory_bytes: sum.used_memory_bytes + one.used_memory_bytes,
            maxmemory_bytes: sum.maxmemory_bytes + one.maxmemory_bytes,
            connected_clients: sum.connected_clients + one.connected_clients,
            blocked_clients: sum.blocked_clients + one.blocked_clients,
            latency_seconds: match (sum.latency_seconds, one.latency_seconds) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => a.or(b),
            },
            hit_rate: None,
            keys: sum.keys + one.keys,
            evicted_per_second: sum.evicted_per_second + one.evicted_per_second,
            expired_per_second: sum.expired_per_second + one.expired_per_second,
            input_bytes_per_second: sum.input_bytes_per_second + one.input_bytes_per_second,
            output_bytes_per_second: sum.output_bytes_per_second + one.output_bytes_per_second,
        })
    }
}

fn per_second(count: u64, time: Duration) -> Option<f64> {
    (!time.is_zero()).then(|| number(count) / time.as_secs_f64())
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more digits")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_since_the_sample_before() {
        let at = |commands: u64, hits: u64, misses: u64| {
            ServerInfo::parse(&format!(
                "total_commands_processed:{commands}\nkeyspace_hits:{hits}\nkeyspace_misses:{misses}\n\
                 instantaneous_ops_per_sec:7"
            ))
        };
        let (before, now) = (at(100, 10, 0), at(300, 19, 1));
        let first = Figures::of(&before, None, None);
        assert_eq!((first.ops_per_second, first.hit_rate), (7.0, None));
        let time = Duration::from_secs(2);
        let latency = Some(Duration::from_millis(3));
        let figures = Figures::of(&now, Some((&before, time)), latency);
        assert_eq!(
            (figures.ops_per_second, figures.hit_rate),
            (100.0, Some(0.9))
        );
        let none = Figures::of(&now, Some((&now, time)), None);
        let sum = Figures::sum([&figures, &none].into_iter());
        assert_eq!(
            (sum.ops_per_second, sum.latency_seconds),
            (100.0, Some(0.003))
        );
        // Counters begin anew after a restart.
        assert_eq!(
            Figures::of(&before, Some((&now, time)), None).ops_per_second,
            0.0
        );
    }
}
