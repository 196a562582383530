//! The servers' figures, and their logs, as pages are sent them.

use std::time::Duration;

use redkit_core::{Client, Topology};
use serde_json::{Value, json};

use super::published::millis;
use super::redaction::Redaction;
use crate::error::Error;
use crate::statistics::{LogKind, ServerInfo, ServerStatistics, SlotStats, Statistics};

/// How many rows of a log, and hot keys, are shown.
const MOST_ROWS: usize = 50;
/// How many of a cluster's slots.
const MOST_SLOTS: u16 = 10;
/// The longest text of a command's arguments.
const LONGEST: usize = 200;

pub(super) fn to_json(servers: &Result<ServerStatistics, String>) -> Value {
    match servers {
        Ok(servers) => {
            let list: Vec<_> = servers
                .servers
                .iter()
                .map(|(name, info)| server(name, info))
                .collect();
            let failed = servers.failed.iter();
            let failed: Vec<_> = failed
                .map(|(name, error)| json!({ "name": &**name, "error": error.to_string() }))
                .collect();
            json!({ "servers": list, "failed": failed })
        }
        Err(error) => json!({ "servers": [], "failed": [], "error": error }),
    }
}

fn server(name: &str, info: &ServerInfo) -> Value {
    let replicas: Vec<_> = info
        .replicas
        .iter()
        .map(|replica| {
            let behind = info.replication_offset.saturating_sub(replica.offset);
            json!({
                "address": replica.address, "isOnline": replica.is_online, "behind": behind,
                "lag": replica.lag.map(|lag| lag.as_secs_f64()),
            })
        })
        .collect();
    let lookups = info.keyspace_hits + info.keyspace_misses;
    json!({
        "name": name,
        "version": info.valkey_version.as_ref().map_or_else(|| format!("Redis {}", info.redis_version), |version| format!("Valkey {version}")),
        "mode": info.mode, "role": format!("{:?}", info.role).to_lowercase(),
        "uptime": info.uptime.as_secs_f64(), "ops": info.ops_per_second,
        "clients": info.connected_clients, "blocked": info.blocked_clients, "maxClients": info.max_clients,
        "memory": info.used_memory, "rss": info.used_memory_rss, "peak": info.used_memory_peak,
        "maxmemory": info.maxmemory, "policy": info.maxmemory_policy, "fragmentation": info.mem_fragmentation_ratio,
        "keys": info.keys(), "expired": info.expired_keys, "evicted": info.evicted_keys,
        "hits": info.keyspace_hits, "lookups": lookups,
        "netIn": info.net_input_bytes, "netOut": info.net_output_bytes,
        "replicas": replicas, "isMasterLinkUp": info.is_master_link_up,
        "isLoading": info.is_loading, "isPersisting": info.is_persisting,
        "lastSave": info.last_save.map(|ago| ago.as_secs_f64()),
    })
}

/// Which servers of a cluster have which slots; nothing elsewhere.
pub(super) fn slots_json(client: &Client) -> Value {
    if client.topology() != Topology::Cluster {
        return Value::Null;
    }
    let servers = client.servers();
    let map = servers.iter().map(|server| {
        let ranges: Vec<_> = server
            .slots
            .iter()
            .map(|range| (range.start(), range.end()))
            .collect();
        json!({ "server": &*server.name, "ranges": ranges })
    });
    Value::Array(map.collect())
}

/// The slow log, the hot keys and a cluster's busiest slots. Arguments may be personal: they are
/// only for readers who may see such, as the program's hook shows them.
///
/// # Errors
/// [`Error::NoServer`] when no server answered.
pub(super) async fn logs(
    statistics: &Statistics,
    payloads: bool,
    redaction: &Redaction,
) -> Result<Value, Error> {
    let (slow, hot, slots) = tokio::join!(
        statistics.log(LogKind::Slow, MOST_ROWS),
        statistics.hot_keys(),
        statistics.slots(MOST_SLOTS),
    );
    let mut rows = Vec::new();
    for (server, entries) in slow?.unwrap_or_default() {
        rows.extend(entries.into_iter().map(|entry| {
            let arguments = entry.arguments().iter().map(|argument| argument.escape_ascii().to_string());
            let arguments = arguments.collect::<Vec<_>>().join(" ");
            let arguments = payloads.then(|| redaction.shown("arguments", arguments));
            json!({
                "server": &*server, "id": entry.id, "at": millis(entry.at),
                "micros": u64::try_from(entry.took().as_micros()).unwrap_or(u64::MAX), "command": entry.command,
                "client": entry.client, "address": if payloads { entry.address.as_str() } else { "" },
                "arguments": arguments.map(|arguments| arguments.chars().take(LONGEST).collect::<String>()),
            })
        }));
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row["at"].as_u64()));
    rows.truncate(MOST_ROWS);
    let hot = hot.ok().flatten().map(|servers| {
        let all = servers.into_iter().flat_map(|(server, keys)| {
            keys.into_iter().map(move |key| json!({ "server": &*server, "key": key.key.escape_ascii().to_string(), "amount": key.amount }))
        });
        all.take(MOST_ROWS).collect::<Vec<_>>()
    });
    let slots = slots.ok().flatten().map(|slots| {
        let row = |slot: SlotStats| json!({ "slot": slot.slot, "keys": slot.keys, "micros": slot.cpu_micros });
        slots.into_iter().map(row).collect::<Vec<_>>()
    });
    Ok(json!({ "slow": rows, "hot": hot, "slots": slots, "hidden": !payloads }))
}

/// A time of a report in seconds.
pub(super) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}
