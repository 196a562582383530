//! [`ServerInfo`]: the reply to `INFO`, in types.

use std::collections::BTreeMap;
use std::time::Duration;

/// What a server says of itself. Numbers are numbers: memory in bytes. What a server does not say (an older
/// one, another program) is zero, empty or `None`.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// `7.0.15`: of Redis, or the version of Redis that a Valkey is compatible with.
    pub redis_version: String,
    /// `8.1.1`, of a Valkey.
    pub valkey_version: Option<String>,
    /// `standalone`, `cluster`, `sentinel`.
    pub mode: String,
    /// A random name that changes with every start: counters begin anew then.
    pub run_id: String,
    /// For how long it has been up.
    pub uptime: Duration,

    /// Connections of clients.
    pub connected_clients: u64,
    /// Clients that wait in a blocking command.
    pub blocked_clients: u64,
    /// How many connections there may be.
    pub max_clients: u64,

    /// Bytes that the data and buffers take.
    pub used_memory: u64,
    /// Bytes that the process takes.
    pub used_memory_rss: u64,
    /// The most bytes that the data and buffers have taken.
    pub used_memory_peak: u64,
    /// The limit in bytes; 0 for none.
    pub maxmemory: u64,
    /// What happens at the limit: `noeviction`, `allkeys-lru`, …
    pub maxmemory_policy: String,
    /// The process's memory as a multiple of the data's.
    pub mem_fragmentation_ratio: f64,

    /// Connections accepted.
    pub connections_received: u64,
    /// Connections refused because there were `max_clients`.
    pub rejected_connections: u64,
    /// Commands carried out.
    pub commands_processed: u64,
    /// Commands in a second, lately.
    pub ops_per_second: u64,
    /// Bytes received.
    pub net_input_bytes: u64,
    /// Bytes sent.
    pub net_output_bytes: u64,
    /// Look-ups that found a key.
    pub keyspace_hits: u64,
    /// Look-ups that found none.
    pub keyspace_misses: u64,
    /// Keys that have expired.
    pub expired_keys: u64,
    /// Keys that were evicted for want of memory.
    pub evicted_keys: u64,
    /// Channels with subscribers.
    pub pubsub_channels: u64,
    /// Processor seconds in the system.
    pub cpu_sys_seconds: f64,
    /// Processor seconds of its own.
    pub cpu_user_seconds: f64,

    /// Whether it takes writes.
    pub role: Role,
    /// Its replicas, of a master.
    pub replicas: Vec<ReplicaInfo>,
    /// Whether a replica has its master.
    pub is_master_link_up: bool,
    /// How far the replication stream is.
    pub replication_offset: u64,

    /// Whether it loads its data.
    pub is_loading: bool,
    /// Whether the last attempts to save, as far as it saves, succeeded.
    pub is_persisting: bool,
    /// Of these: whether the last snapshot succeeded, the last write to the log, and its last rewriting.
    pub has_saved: bool,
    /// See [`has_saved`](Self::has_saved).
    pub has_written: bool,
    /// See [`has_saved`](Self::has_saved).
    pub has_rewritten: bool,
    /// Seconds since the last save, when it has saved.
    pub last_save: Option<Duration>,

    /// Keys in each database.
    pub databases: BTreeMap<u32, DatabaseInfo>,
    /// Calls by command in lower case, when the section `commandstats` was asked for.
    pub commands: BTreeMap<String, CommandInfo>,
}

/// Whether a server is a master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Role {
    /// It takes writes.
    Master,
    /// It follows a master.
    Replica,
    /// It did not say.
    #[default]
    Unknown,
}

/// A replica, as its master sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaInfo {
    /// Its address.
    pub address: String,
    /// Whether it is in sync, or nearly.
    pub is_online: bool,
    /// How far it has acknowledged.
    pub offset: u64,
    /// How long ago it has acknowledged.
    pub lag: Option<Duration>,
}

/// A database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseInfo {
    /// Keys.
    pub keys: u64,
    /// Keys with a time to live.
    pub expiring: u64,
    /// Their mean time to live.
    pub mean_ttl: Duration,
}

/// A command.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct CommandInfo {
    /// Calls.
    pub calls: u64,
    /// Time that they took on the server, in all.
    pub time: Duration,
    /// Calls refused before they were carried out.
    pub rejected: u64,
    /// Calls that failed.
    pub failed: u64,
}

impl ServerInfo {
    /// Reads the reply to `INFO`.
    pub fn parse(text: &str) -> Self {
        let mut info = Self {
            is_persisting: true,
            has_saved: true,
            has_written: true,
            has_rewritten: true,
            ..Self::default()
        };
        for (name, value) in text.lines().filter_map(|line| line.trim().split_once(':')) {
            info.take(name, value);
        }
        info
    }

    /// The part of `maxmemory` that is used; `None` without a limit.
    pub fn memory_share(&self) -> Option<f64> {
        (self.maxmemory > 0).then(|| ratio(self.used_memory, self.maxmemory))
    }

    /// All keys.
    pub fn keys(&self) -> u64 {
        self.databases.values().map(|database| database.keys).sum()
    }

    /// Whether keys may be deleted for want of memory.
    pub fn may_evict(&self) -> bool {
        self.maxmemory > 0 && !matches!(self.maxmemory_policy.as_str(), "" | "noeviction")
    }

    /// Adds another server's figures: counts and sizes are summed, states are the worse, the rest stays.
    pub fn add(&mut self, other: &Self) {
        let sums: [(&mut u64, u64); 17] = [
            (&mut self.connected_clients, other.connected_clients),
            (&mut self.blocked_clients, other.blocked_clients),
            (&mut self.max_clients, other.max_clients),
            (&mut self.used_memory, other.used_memory),
            (&mut self.used_memory_rss, other.used_memory_rss),
            (&mut self.used_memory_peak, other.used_memory_peak),
            (&mut self.maxmemory, other.maxmemory),
            (&mut self.connections_received, other.connections_received),
            (&mut self.rejected_connections, other.rejected_connections),
            (&mut self.commands_processed, other.commands_processed),
            (&mut self.ops_per_second, other.ops_per_second),
            (&mut self.net_input_bytes, other.net_input_bytes),
            (&mut self.net_output_bytes, other.net_output_bytes),
            (&mut self.keyspace_hits, other.keyspace_hits),
            (&mut self.keyspace_misses, other.keyspace_misses),
            (&mut self.expired_keys, other.expired_keys),
            (&mut self.evicted_keys, other.evicted_keys),
        ];
        for (sum, more) in sums {
            *sum = sum.saturating_add(more);
        }
        self.uptime = self.uptime.min(other.uptime);
        self.cpu_sys_seconds += other.cpu_sys_seconds;
        self.cpu_user_seconds += other.cpu_user_seconds;
        self.pubsub_channels = self.pubsub_channels.saturating_add(other.pubsub_channels);
        self.mem_fragmentation_ratio = ratio(self.used_memory_rss, self.used_memory);
        self.replicas.extend(other.replicas.iter().cloned());
        self.is_loading |= other.is_loading;
        self.is_persisting &= other.is_persisting;
        self.has_saved &= other.has_saved;
        self.has_written &= other.has_written;
        self.has_rewritten &= other.has_rewritten;
        for (number, database) in &other.databases {
            let sum = self.databases.entry(*number).or_default();
            sum.keys += database.keys;
            sum.expiring += database.expiring;
            sum.mean_ttl = sum.mean_ttl.max(database.mean_ttl);
        }
        for (name, command) in &other.commands {
            let sum = self.commands.entry(name.clone()).or_default();
            sum.calls += command.calls;
            sum.time += command.time;
            sum.rejected += command.rejected;
            sum.failed += command.failed;
        }
    }

    fn take(&mut self, name: &str, value: &str) {
        let count = || value.parse::<u64>().unwrap_or_default();
        let number = || {
            value
                .parse::<f64>()
                .ok()
                .filter(|n| n.is_finite())
                .unwrap_or_default()
        };
        match name {
            "redis_version" => self.redis_version = value.to_owned(),
            "valkey_version" => self.valkey_version = Some(value.to_owned()),
            "redis_mode" | "server_mode" => self.mode = value.to_owned(),
            "run_id" => self.run_id = value.to_owned(),
            "uptime_in_seconds" => self.uptime = Duration::from_secs(count()),
            "connected_clients" => self.connected_clients = count(),
            "blocked_clients" => self.blocked_clients = count(),
            "maxclients" => self.max_clients = count(),
            "used_memory" => self.used_memory = count(),
            "used_memory_rss" => self.used_memory_rss = count(),
            "used_memory_peak" => self.used_memory_peak = count(),
            "maxmemory" => self.maxmemory = count(),
            "maxmemory_policy" => self.maxmemory_policy = value.to_owned(),
            "mem_fragmentation_ratio" => self.mem_fragmentation_ratio = number(),
            "total_connections_received" => self.connections_received = count(),
            "rejected_connections" => self.rejected_connections = count(),
            "total_commands_processed" => self.commands_processed = count(),
            "instantaneous_ops_per_sec" => self.ops_per_second = count(),
            "total_net_input_bytes" => self.net_input_bytes = count(),
            "total_net_output_bytes" => self.net_output_bytes = count(),
            "keyspace_hits" => self.keyspace_hits = count(),
            "keyspace_misses" => self.keyspace_misses = count(),
            "expired_keys" => self.expired_keys = count(),
            "evicted_keys" => self.evicted_keys = count(),
            "pubsub_channels" => self.pubsub_channels = count(),
            "used_cpu_sys" => self.cpu_sys_seconds = number(),
            "used_cpu_user" => self.cpu_user_seconds = number(),
            "role" => {
                self.role = match value {
                    "master" => Role::Master,
                    "slave" | "replica" => Role::Replica,
                    _ => Role::Unknown,
                }
            }
            "master_link_status" => self.is_master_link_up = value == "up",
            "master_repl_offset" => self.replication_offset = count(),
            "loading" | "async_loading" => self.is_loading |= value == "1",
            "rdb_last_bgsave_status" | "aof_last_write_status" | "aof_last_bgrewrite_status" => {
                let is_ok = value == "ok";
                self.is_persisting &= is_ok;
                match name {
                    "rdb_last_bgsave_status" => self.has_saved = is_ok,
                    "aof_last_write_status" => self.has_written = is_ok,
                    _ => self.has_rewritten = is_ok,
                }
            }
            "rdb_last_save_time" => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                let ago = now
                    .unwrap_or_default()
                    .saturating_sub(Duration::from_secs(count()));
                self.last_save = (count() > 0).then_some(ago);
            }
            _ => self.take_numbered(name, value),
        }
    }

    /// `db0:keys=…`, `slave0:ip=…`, `cmdstat_get:calls=…`.
    fn take_numbered(&mut self, name: &str, value: &str) {
        let digits = |prefix: &str| name.strip_prefix(prefix)?.parse::<u32>().ok();
        if let Some(number) = digits("db") {
            self.databases.insert(
                number,
                DatabaseInfo {
                    keys: part(value, "keys"),
                    expiring: part(value, "expires"),
                    mean_ttl: Duration::from_millis(part(value, "avg_ttl")),
                },
            );
        } else if digits("slave").is_some() {
            let text = |wanted| text_part(value, wanted).unwrap_or_default();
            self.replicas.push(ReplicaInfo {
                address: format!("{}:{}", text("ip"), text("port")),
                is_online: text("state") == "online",
                offset: part(value, "offset"),
                lag: text("lag").parse().ok().map(Duration::from_secs),
            });
        } else if let Some(command) = name.strip_prefix("cmdstat_") {
            self.commands.insert(
                command.to_ascii_lowercase(),
                CommandInfo {
                    calls: part(value, "calls"),
                    time: Duration::from_micros(part(value, "usec")),
                    rejected: part(value, "rejected_calls"),
                    failed: part(value, "failed_calls"),
                },
            );
        }
    }
}

fn text_part<'v>(value: &'v str, wanted: &str) -> Option<&'v str> {
    let mut parts = value.split(',').filter_map(|part| part.split_once('='));
    parts
        .find(|(name, _)| *name == wanted)
        .map(|(_, value)| value)
}

fn part(value: &str, wanted: &str) -> u64 {
    text_part(value, wanted)
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        _ => part as f64 / whole as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\nuptime_in_seconds:60\r\n\
        used_memory:1610612736\r\nmaxmemory:2147483648\r\nmaxmemory_policy:allkeys-lru\r\n\
        keyspace_hits:80\r\nkeyspace_misses:20\r\nrole:master\r\n\
        slave0:ip=10.0.0.2,port=6379,state=online,offset=42,lag=3\r\n\
        db0:keys=10,expires=4,avg_ttl=1500\r\ncmdstat_get:calls=7,usec=21,usec_per_call=3.00,rejected_calls=1,failed_calls=2\r\n\
        rdb_last_bgsave_status:err\r\nodd line\r\n:\r\nused_memory_peak:much\r\n";

    #[test]
    fn memory_is_a_number_and_rows_are_typed() {
        let info = ServerInfo::parse(TEXT);
        assert_eq!(info.used_memory, 1_610_612_736);
        assert_eq!(info.memory_share(), Some(0.75));
        assert!(info.may_evict() && !info.is_persisting);
        assert!(!info.has_saved && info.has_written && info.has_rewritten);
        assert_eq!(info.role, Role::Master);
        assert_eq!(info.replicas[0].lag, Some(Duration::from_secs(3)));
        assert_eq!(info.databases[&0].mean_ttl, Duration::from_millis(1500));
        assert_eq!(info.commands["get"].time, Duration::from_micros(21));
        assert_eq!(info.used_memory_peak, 0, "what is no number is none");
    }

    #[test]
    fn servers_are_summed() {
        let mut sum = ServerInfo::parse(TEXT);
        sum.add(&ServerInfo::parse(TEXT));
        assert_eq!(
            (sum.used_memory, sum.keyspace_hits, sum.keys()),
            (3_221_225_472, 160, 20)
        );
        assert_eq!(sum.commands["get"].calls, 14);
        assert_eq!(sum.replicas.len(), 2);
    }
}
