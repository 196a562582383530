//! What a server says of itself (`INFO`, and `CONFIG GET` where the user may), against what the patterns need.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use redkit_core::{CallError, Client, Command, ServerNode, Topology};
use redkit_monitor::{Role, ServerInfo};
use tokio::time::Instant;

use super::Need;
use super::finding::Finding;
use crate::format;

/// The versions that redkit is tested with begin here.
const REDIS: (u32, u32) = (7, 0);
const VALKEY: (u32, u32) = (8, 0);

/// From this part of `maxmemory`, or of the connections that there may be, on there is too little left.
const NEARLY: f64 = 0.9;

/// A round trip within a data centre takes a tenth of that.
const SLOW: Duration = Duration::from_millis(20);
const PINGS: usize = 5;

/// A server, as far as it answered.
struct Looked {
    info: ServerInfo,
    /// `INFO`, line by line.
    fields: BTreeMap<String, String>,
    /// `CONFIG GET`; `None` where the user may not.
    settings: Option<BTreeMap<String, String>>,
}

pub(super) async fn look(client: &Client, needs: &[Need], patience: Duration) -> Vec<Finding> {
    let servers = client.servers();
    let each = servers
        .iter()
        .map(|server| of_server(client, server, needs, patience));
    join_all(each).await.into_iter().flatten().collect()
}

async fn of_server(
    client: &Client,
    server: &ServerNode,
    needs: &[Need],
    patience: Duration,
) -> Vec<Finding> {
    let deadline = Instant::now() + patience;
    let info = Command::new("INFO").deadline(deadline);
    let settings = ["save", "appendonly"];
    let settings = Command::new("CONFIG")
        .arg("GET")
        .args(settings)
        .deadline(deadline);
    let (info, settings, latency, held_back) = tokio::join!(
        client.call_server::<String>(&server.name, info),
        client.call_server::<BTreeMap<String, String>>(&server.name, settings),
        latency(client, server, deadline),
        held_back(client, server, deadline),
    );
    let mut findings = match info {
        Ok(text) => {
            let lines = text.lines().filter_map(|line| line.trim().split_once(':'));
            let looked = Looked {
                info: ServerInfo::parse(&text),
                fields: lines
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
                settings: settings.ok(),
            };
            looked.findings(needs, client.topology())
        }
        Err(error) => vec![without_info(&error)],
    };
    findings.extend(latency);
    findings.extend(held_back);
    findings
        .into_iter()
        .map(|finding| finding.on(&server.name))
        .collect()
}

fn is_without_right(error: &redkit_core::Error) -> bool {
    matches!(error.call_error(), Some(CallError::Replied(reply)) if reply.code() == "NOPERM")
}

/// Whether a client may ask what the server does with a connection, as it does before it gives up a silent one. A server
/// that answers with another error is old, which another check says.
async fn held_back(client: &Client, server: &ServerNode, deadline: Instant) -> Option<Finding> {
    let list = Command::new("CLIENT").args(["LIST", "ID", "1"]);
    let list = list.deadline(deadline);
    match client.call_server::<String>(&server.name, list).await {
        Ok(_) => Some(Finding::ok("client_list", "")),
        Err(error) if is_without_right(&error) => Some(Finding::warning(
            "client_list",
            "the user may not ask CLIENT LIST, so that a connection whose command the server holds back, as while a \
             planned failover pauses writes, is taken for dead",
            "grant the user `+client|list`",
        )),
        Err(_) => None,
    }
}

fn without_info(error: &redkit_core::Error) -> Finding {
    match is_without_right(error) {
        true => Finding::warning(
            "info",
            "the user may not ask INFO, so that memory, eviction, persistence and replicas are not known",
            "grant the user `+info`, or run this as a user with more rights",
        ),
        false => Finding::warning("info", error.to_string(), crate::failure::remedy_of(error)),
    }
}

/// The median of a few round trips.
async fn latency(client: &Client, server: &ServerNode, deadline: Instant) -> Option<Finding> {
    let mut times = Vec::new();
    for _ in 0..PINGS {
        let ping = Command::new("PING").deadline(deadline);
        let start = Instant::now();
        client
            .call_server::<redkit_core::Value>(&server.name, ping)
            .await
            .ok()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let median = *times.get(PINGS / 2)?;
    Some(match median >= SLOW {
        true => Finding::warning(
            "latency",
            format!("a round trip takes {}", format::duration(median)),
            "run programs and server in one data centre; every decision of a limit or a lock is a round trip",
        ),
        false => Finding::ok("latency", format::duration(median)),
    })
}

impl Looked {
    fn findings(&self, needs: &[Need], topology: Topology) -> Vec<Finding> {
        let checks = [
            self.version(),
            self.maxmemory(needs),
            self.eviction(needs),
            self.durability(needs),
            self.replicas(topology),
            self.clients(),
        ];
        checks.into()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.fields.get(name)?.parse().ok()
    }

    fn version(&self) -> Finding {
        let (program, version, least) = match &self.info.valkey_version {
            Some(version) => ("Valkey", version, VALKEY),
            None => ("Redis", &self.info.redis_version, REDIS),
        };
        let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
        let (Some(Some(major)), Some(minor)) =
            (parts.next(), parts.next().map(Option::unwrap_or_default))
        else {
            return Finding::info("version", "the server does not say its version");
        };
        match (major, minor) < least {
            true => Finding::error(
                "version",
                format!(
                    "{program} {version} is older than {}.{}, with which redkit is tested",
                    least.0, least.1
                ),
                format!("run {program} {}.{} or later", least.0, least.1),
            ),
            false => Finding::ok("version", format!("{program} {version}")),
        }
    }

    /// Whether memory has a limit, and how near that is.
    fn maxmemory(&self, needs: &[Need]) -> Finding {
        let used = format::bytes(self.info.used_memory);
        let Some(share) = self.info.memory_share() else {
            return Finding::warning(
                "maxmemory",
                format!(
                    "there is no limit ({used} are used): when the machine has no more, the system kills the server"
                ),
                "set maxmemory to what the machine can spare, a good part less than it has",
            );
        };
        let limit = format::bytes(self.info.maxmemory);
        let found = format!("{used} of {limit} are used");
        let evicts = self.info.may_evict();
        match (share >= NEARLY, evicts) {
            (false, _) => Finding::ok("maxmemory", found),
            // A cache is full all the time.
            (true, true) if !needs.iter().any(|need| need.promises_its_keys()) => {
                Finding::ok("maxmemory", found)
            }
            (true, true) => Finding::warning(
                "maxmemory",
                format!("{found}: keys are being deleted for want of memory"),
                "raise maxmemory, or find what takes it (`redkit keys`)",
            ),
            (true, false) => Finding::warning(
                "maxmemory",
                format!("{found}: at the limit the server refuses writes (OOM)"),
                "raise maxmemory, or find what takes it (`redkit keys`)",
            ),
        }
    }

    fn eviction(&self, needs: &[Need]) -> Finding {
        let policy = self.info.maxmemory_policy.as_str();
        let words = |wanted: fn(Need) -> bool| {
            let wanted = needs.iter().copied().filter(move |need| wanted(*need));
            wanted.map(Need::word).collect::<Vec<_>>()
        };
        let (durable, promising) = (words(Need::is_durable), words(Need::promises_its_keys));
        let takes_all = policy.starts_with("allkeys-");
        let remedy = "set maxmemory-policy to noeviction, and keep caches on a server of their own \
                      (`redkit::clients!`), where allkeys-lru is right";
        let is_limited = self.info.maxmemory > 0;
        if policy.is_empty() {
            return Finding::info("eviction", "the server does not say what it evicts");
        }
        if policy == "noeviction" {
            return match promising.is_empty() && is_limited {
                true => Finding::warning(
                    "eviction",
                    "maxmemory-policy is noeviction: a full cache refuses every new entry",
                    "set maxmemory-policy to allkeys-lru or allkeys-lfu",
                ),
                false => Finding::ok("eviction", policy),
            };
        }
        if takes_all && !durable.is_empty() {
            let found = format!(
                "maxmemory-policy is {policy}: at the limit the server deletes keys that must never go, such as \
                 messages and queued changes"
            );
            return match is_limited {
                true => Finding::error("eviction", found, remedy).of(durable),
                false => Finding::warning(
                    "eviction",
                    format!("{found}. There is no limit yet"),
                    remedy,
                )
                .of(durable),
            };
        }
        if !promising.is_empty() {
            let found = format!(
                "maxmemory-policy is {policy}: at the limit the server deletes locks, sessions, limits and \
                 deduplication records before their time"
            );
            return match is_limited {
                true => Finding::warning("eviction", found, remedy).of(promising),
                false => Finding::info("eviction", format!("{found}. There is no limit yet"))
                    .of(promising),
            };
        }
        Finding::ok("eviction", policy)
    }

    /// What a restart loses.
    fn durability(&self, needs: &[Need]) -> Finding {
        let has_log = self.number("aof_enabled") == Some(1);
        let save = self
            .settings
            .as_ref()
            .and_then(|settings| settings.get("save"));
        if has_log {
            return Finding::ok("durability", "an append-only file");
        }
        let durable: Vec<_> = needs
            .iter()
            .filter(|need| need.is_durable())
            .map(|need| need.word())
            .collect();
        match save.map(String::as_str) {
            Some("") if !durable.is_empty() => Finding::warning(
                "durability",
                "nothing is written to disk: a restart loses everything, messages and queued changes too",
                "set appendonly to yes (and appendfsync to everysec)",
            )
            .of(durable),
            Some("") => Finding::info("durability", "nothing is written to disk: a restart loses everything"),
            Some(_) if !durable.is_empty() => Finding::info(
                "durability",
                "snapshots only: a crash loses the writes since the last one, which may be minutes",
            )
            .of(durable),
            Some(_) => Finding::ok("durability", "snapshots"),
            None => Finding::info(
                "durability",
                "no append-only file; whether snapshots are taken is not known (the user may not ask CONFIG)",
            ),
        }
    }

    fn replicas(&self, topology: Topology) -> Finding {
        let count = self.info.replicas.len();
        if self.info.role == Role::Replica {
            return Finding::info("replicas", "it is a replica itself");
        }
        if count == 0 {
            let found = match topology {
                Topology::Cluster => {
                    "this master has no replica: when it is lost, its slots are, and the data in them"
                }
                _ => "there is no replica: when this server is lost, its data are",
            };
            return Finding::info("replicas", found);
        }
        let fresh = self.number("min_slaves_good_slaves");
        let found = match fresh {
            Some(good) => format!("{count}, {good} of them near enough for min-replicas-to-write"),
            None => format!("{count}"),
        };
        Finding::ok("replicas", found)
    }

    fn clients(&self) -> Finding {
        let (there, most) = (self.info.connected_clients, self.info.max_clients);
        let found = format!("{there} of {most} connections");
        let is_near = most > 0 && u128::from(there) * 10 >= u128::from(most) * 9;
        let refused = self.info.rejected_connections;
        match (is_near, refused) {
            (true, _) => Finding::warning(
                "clients",
                format!("{found}: further programs will be refused"),
                "raise maxclients, or find out which program opens so many (`CLIENT LIST`)",
            ),
            (false, 0) => Finding::ok("clients", found),
            (false, refused) => Finding::info(
                "clients",
                format!("{found}; {refused} were refused since the server started"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;
    use crate::doctor::finding::Severity;

    fn looked(text: &str, save: Option<&str>) -> Looked {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        Looked {
            info: ServerInfo::parse(text),
            fields: lines
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            settings: save.map(|save| [("save".to_owned(), save.to_owned())].into()),
        }
    }

    #[test]
    fn eviction_is_judged_by_what_the_server_is_for() {
        let all = Need::value_variants();
        let cache = &[Need::Cache][..];
        let locks = &[Need::Lock, Need::Cache][..];
        for (policy, limit, needs, severity) in [
            ("allkeys-lru", 100, all, Severity::Error),
            ("allkeys-lru", 0, all, Severity::Warning),
            ("allkeys-lru", 100, cache, Severity::Ok),
            ("allkeys-lru", 100, locks, Severity::Warning),
            ("volatile-ttl", 100, all, Severity::Warning),
            ("volatile-ttl", 0, all, Severity::Info),
            ("noeviction", 100, all, Severity::Ok),
            ("noeviction", 100, cache, Severity::Warning),
            ("noeviction", 0, cache, Severity::Ok),
        ] {
            let text = format!("maxmemory:{limit}\nmaxmemory_policy:{policy}");
            let finding = looked(&text, None).eviction(needs);
            assert_eq!(
                finding.severity, severity,
                "{policy} {limit} {needs:?}: {finding:?}"
            );
        }
    }

    #[test]
    fn an_old_version_is_named_and_valkey_goes_by_its_own() {
        let severity = |text: &str| looked(text, None).version().severity;
        assert_eq!(severity("redis_version:6.2.14"), Severity::Error);
        assert_eq!(severity("redis_version:7.0.0"), Severity::Ok);
        assert_eq!(
            severity("redis_version:7.2.4\nvalkey_version:7.2.9"),
            Severity::Error
        );
        assert_eq!(
            severity("redis_version:7.2.4\nvalkey_version:8.1.1"),
            Severity::Ok
        );
        assert_eq!(severity("uptime_in_seconds:1"), Severity::Info);
    }

    #[test]
    fn what_a_restart_loses_is_a_warning_where_it_matters() {
        let all = Need::value_variants();
        let severity = |text: &str, save, needs| looked(text, save).durability(needs).severity;
        assert_eq!(severity("aof_enabled:1", None, all), Severity::Ok);
        assert_eq!(severity("aof_enabled:0", Some(""), all), Severity::Warning);
        assert_eq!(
            severity("aof_enabled:0", Some(""), &[Need::Cache]),
            Severity::Info
        );
        assert_eq!(
            severity("aof_enabled:0", Some("3600 1"), all),
            Severity::Info
        );
        assert_eq!(severity("aof_enabled:0", None, all), Severity::Info);
    }

    #[test]
    fn full_memory_and_too_many_clients_are_warnings() {
        let all = Need::value_variants();
        let memory = |used: u64, policy: &str, needs| {
            let text = format!("used_memory:{used}\nmaxmemory:100\nmaxmemory_policy:{policy}");
            looked(&text, None).maxmemory(needs).severity
        };
        assert_eq!(memory(50, "noeviction", all), Severity::Ok);
        assert_eq!(memory(95, "noeviction", all), Severity::Warning);
        assert_eq!(memory(95, "allkeys-lru", all), Severity::Warning);
        assert_eq!(memory(95, "allkeys-lru", &[Need::Cache]), Severity::Ok);
        let clients = |there: u64, refused: u64| {
            let text = format!(
                "connected_clients:{there}\nmaxclients:100\nrejected_connections:{refused}"
            );
            looked(&text, None).clients().severity
        };
        assert_eq!(clients(90, 0), Severity::Warning);
        assert_eq!(clients(10, 3), Severity::Info);
        assert_eq!(clients(10, 0), Severity::Ok);
    }
}
