//! The servers' figures under the names that `redis_exporter` uses, so that its dashboards and rules work.

use std::fmt::Write;

use crate::health::{Dependency, Report, Status};
use crate::statistics::{Role, ServerInfo, Statistics};

/// A metric of a server, as the exporter shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerMetric {
    /// Its name, which is that of `redis_exporter`.
    pub name: &'static str,
    /// `gauge` or `counter`.
    pub kind: &'static str,
    /// Labels beside `dependency` and `server`.
    pub labels: &'static [&'static str],
    /// What it is.
    pub help: &'static str,
}

/// A server's value of a metric, when it has no labels of its own.
type Value = fn(&ServerInfo) -> f64;

macro_rules! metrics {
    ($($name:literal $kind:ident [$($label:literal)*] $help:literal $value:expr;)*) => {
        /// Every metric of the servers.
        pub const SERVER_METRICS: &[ServerMetric] = &[$(ServerMetric {
            name: $name,
            kind: stringify!($kind),
            labels: &[$($label),*],
            help: $help,
        },)*];

        const VALUES: &[Option<Value>] = &[$($value,)*];
    };
}

metrics! {
    "redis_up" gauge [] "Whether the server answers (0 or 1)." None;
    "redis_instance_info" gauge ["redis_version" "redis_mode" "role" "maxmemory_policy"] "What the server is; always 1." None;
    "redis_uptime_in_seconds" gauge [] "Seconds since the server's start." Some(|info| info.uptime.as_secs_f64());
    "redis_connected_clients" gauge [] "Connections of clients." Some(|info| number(info.connected_clients));
    "redis_blocked_clients" gauge [] "Clients in a blocking command." Some(|info| number(info.blocked_clients));
    "redis_config_maxclients" gauge [] "How many connections there may be." Some(|info| number(info.max_clients));
    "redis_memory_used_bytes" gauge [] "Bytes of the data and buffers." Some(|info| number(info.used_memory));
    "redis_memory_used_rss_bytes" gauge [] "Bytes of the process." Some(|info| number(info.used_memory_rss));
    "redis_memory_used_peak_bytes" gauge [] "The most bytes of the data and buffers." Some(|info| number(info.used_memory_peak));
    "redis_memory_max_bytes" gauge [] "maxmemory; 0 for no limit." Some(|info| number(info.maxmemory));
    "redis_mem_fragmentation_ratio" gauge [] "The process's memory as a multiple of the data's." Some(|info| info.mem_fragmentation_ratio);
    "redis_connections_received_total" counter [] "Connections accepted." Some(|info| number(info.connections_received));
    "redis_rejected_connections_total" counter [] "Connections refused because of maxclients." Some(|info| number(info.rejected_connections));
    "redis_commands_processed_total" counter [] "Commands carried out." Some(|info| number(info.commands_processed));
    "redis_net_input_bytes_total" counter [] "Bytes received." Some(|info| number(info.net_input_bytes));
    "redis_net_output_bytes_total" counter [] "Bytes sent." Some(|info| number(info.net_output_bytes));
    "redis_keyspace_hits_total" counter [] "Look-ups that found a key." Some(|info| number(info.keyspace_hits));
    "redis_keyspace_misses_total" counter [] "Look-ups that found none." Some(|info| number(info.keyspace_misses));
    "redis_expired_keys_total" counter [] "Keys that expired." Some(|info| number(info.expired_keys));
    "redis_evicted_keys_total" counter [] "Keys deleted for want of memory." Some(|info| number(info.evicted_keys));
    "redis_pubsub_channels" gauge [] "Channels with subscribers." Some(|info| number(info.pubsub_channels));
    "redis_cpu_sys_seconds_total" counter [] "Processor seconds in the system." Some(|info| info.cpu_sys_seconds);
    "redis_cpu_user_seconds_total" counter [] "Processor seconds of the server's own." Some(|info| info.cpu_user_seconds);
    "redis_connected_slaves" gauge [] "Replicas." Some(|info| number(info.replicas.len() as u64));
    "redis_connected_slave_lag_seconds" gauge ["slave_ip" "slave_port" "slave_state"] "Seconds since the replica has acknowledged." None;
    "redis_master_link_up" gauge [] "Of a replica: whether it has its master (0 or 1); 1 for a master." Some(|info| flag(info.role != Role::Replica || info.is_master_link_up));
    "redis_master_repl_offset" gauge [] "How far the replication stream is." Some(|info| number(info.replication_offset));
    "redis_loading_dump_file" gauge [] "Whether the server loads its data (0 or 1)." Some(|info| flag(info.is_loading));
    "redis_rdb_last_bgsave_status" gauge [] "Whether the last snapshot succeeded (0 or 1)." Some(|info| flag(info.has_saved));
    "redis_aof_last_write_status" gauge [] "Whether the last write to the log succeeded (0 or 1)." Some(|info| flag(info.has_written));
    "redis_aof_last_bgrewrite_status" gauge [] "Whether the last rewriting of the log succeeded (0 or 1)." Some(|info| flag(info.has_rewritten));
    "redis_db_keys" gauge ["db"] "Keys." None;
    "redis_db_keys_expiring" gauge ["db"] "Keys with a time to live." None;
    "redis_db_avg_ttl_seconds" gauge ["db"] "Their mean time to live." None;
    "redis_commands_total" counter ["cmd"] "Calls of a command." None;
    "redis_commands_duration_seconds_total" counter ["cmd"] "Seconds that they took on the server." None;
    "redis_commands_rejected_calls_total" counter ["cmd"] "Calls refused before they were carried out." None;
    "redis_commands_failed_calls_total" counter ["cmd"] "Calls that failed." None;
    "redkit_health_status" gauge [] "How the dependency is, by the readiness check: 0 pass, 1 warn, 2 fail." None;
}

/// What is known of a dependency.
pub(super) struct Scraped {
    name: String,
    /// Each server and its figures; none for one that did not answer.
    servers: Vec<(String, Option<ServerInfo>)>,
}

pub(super) async fn scrape(dependency: &Dependency) -> Scraped {
    let mut servers: Vec<_> = match Statistics::new(&dependency.client).servers().await {
        Ok(statistics) => {
            let answered = statistics
                .servers
                .into_iter()
                .map(|(name, info)| (name.to_string(), Some(info)));
            let failed = statistics
                .failed
                .into_iter()
                .map(|(name, _)| (name.to_string(), None));
            answered.chain(failed).collect()
        }
        Err(_) => {
            let known = dependency.client.servers().into_iter();
            known
                .map(|server| (server.name.to_string(), None))
                .collect()
        }
    };
    // A cluster of which no server is known is down as well.
    if servers.is_empty() {
        servers.push((String::new(), None));
    }
    Scraped {
        name: dependency.name.clone(),
        servers,
    }
}

/// Writes everything in Prometheus' text format, metric by metric as the format demands.
pub(super) fn write(all: &[Scraped], report: &Report) -> String {
    let mut text = String::new();
    for (metric, value) in SERVER_METRICS.iter().zip(VALUES) {
        let mut rows = String::new();
        for dependency in all {
            if metric.name == "redkit_health_status" {
                row(
                    &mut rows,
                    metric.name,
                    &[("dependency", &dependency.name)],
                    health(dependency, report),
                );
                continue;
            }
            for (server, info) in &dependency.servers {
                let mut put = |more: &[(&str, &str)], value: f64| {
                    let labels = [
                        &[
                            ("dependency", dependency.name.as_str()),
                            ("server", server.as_str()),
                        ],
                        more,
                    ]
                    .concat();
                    row(&mut rows, metric.name, &labels, value);
                };
                match (info, value) {
                    (Some(info), Some(value)) => put(&[], value(info)),
                    (Some(info), None) => several(metric.name, info, &mut put),
                    (None, _) if metric.name == "redis_up" => put(&[], 0.0),
                    (None, _) => {}
                }
            }
        }
        if !rows.is_empty() {
            // Writing to a String does not fail.
            let _ = write!(
                text,
                "# HELP {0} {1}\n# TYPE {0} {2}\n{rows}",
                metric.name, metric.help, metric.kind
            );
        }
    }
    text
}

/// Metrics with labels of their own.
fn several(name: &str, info: &ServerInfo, put: &mut impl FnMut(&[(&str, &str)], f64)) {
    match name {
        "redis_up" => put(&[], 1.0),
        "redis_instance_info" => {
            let role = match info.role {
                Role::Master => "master",
                Role::Replica => "slave",
                Role::Unknown => "unknown",
            };
            let labels = [
                (
                    "redis_version",
                    info.valkey_version
                        .as_deref()
                        .unwrap_or(&info.redis_version),
                ),
                ("redis_mode", &info.mode),
                ("role", role),
                ("maxmemory_policy", &info.maxmemory_policy),
            ];
            put(&labels, 1.0);
        }
        "redis_connected_slave_lag_seconds" => {
            for replica in &info.replicas {
                if let Some(lag) = replica.lag {
                    let (ip, port) = replica.address.rsplit_once(':').unwrap_or_default();
                    let state = if replica.is_online {
                        "online"
                    } else {
                        "offline"
                    };
                    let labels = [
                        ("slave_ip", ip),
                        ("slave_port", port),
                        ("slave_state", state),
                    ];
                    put(&labels, lag.as_secs_f64());
                }
            }
        }
        "redis_db_keys" | "redis_db_keys_expiring" | "redis_db_avg_ttl_seconds" => {
            for (db, figures) in &info.databases {
                let value = match name {
                    "redis_db_keys" => number(figures.keys),
                    "redis_db_keys_expiring" => number(figures.expiring),
                    _ => figures.mean_ttl.as_secs_f64(),
                };
                put(&[("db", &format!("db{db}"))], value);
            }
        }
        _ => {
            for (command, figures) in &info.commands {
                let value = match name {
                    "redis_commands_total" => number(figures.calls),
                    "redis_commands_duration_seconds_total" => figures.time.as_secs_f64(),
                    "redis_commands_rejected_calls_total" => number(figures.rejected),
                    _ => number(figures.failed),
                };
                put(&[("cmd", command)], value);
            }
        }
    }
}

fn health(dependency: &Scraped, report: &Report) -> f64 {
    match report.of(&dependency.name).map(|check| check.status).max() {
        Some(Status::Pass) => 0.0,
        Some(Status::Warn) => 1.0,
        Some(Status::Fail) | None => 2.0,
    }
}

fn row(rows: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    let labels: Vec<_> = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .collect();
    let _ = writeln!(rows, "{name}{{{}}} {value}", labels.join(","));
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn flag(flag: bool) -> f64 {
    f64::from(u8::from(flag))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus' numbers are floating-point"
)]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_value_and_counters_are_named_so() {
        assert_eq!(SERVER_METRICS.len(), VALUES.len());
        for metric in SERVER_METRICS {
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == "counter",
                "{}",
                metric.name
            );
        }
    }

    #[test]
    fn labels_are_escaped() {
        let mut rows = String::new();
        row(&mut rows, "m", &[("a", "x\"\\\n")], 1.5);
        assert_eq!(rows, "m{a=\"x\\\"\\\\\\n\"} 1.5\n");
    }
}
