//! The programs that publish how they stand, for redkit-monitor's dashboard: see `docs/keyspace.md`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use redkit_core::{Client, Command, Keyspace};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use crate::format::printable;

/// A program's process.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Instance {
    pub(super) program: String,
    pub(super) host: String,
    pub(super) process: u32,
    pub(super) seen_seconds_ago: f64,
    pub(super) up_seconds: f64,
    pub(super) calls: u64,
    pub(super) errors: u64,
    /// Since the sample before; absent in the first.
    pub(super) calls_per_second: Option<f64>,
    /// The worst of its dependencies: `pass`, `warn`, `fail`; empty without any.
    pub(super) status: String,
    /// Breakers that are not closed.
    pub(super) breakers: Vec<String>,
    pub(super) objects: usize,
}

/// What stands in Redis, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Published {
    id: String,
    program: String,
    host: String,
    process: u32,
    started: u64,
    at: u64,
    dependencies: Vec<Dependency>,
    clients: Vec<Connection>,
    objects: Vec<serde::de::IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Dependency {
    status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Connection {
    name: String,
    breaker: String,
    calls: u64,
    errors: u64,
}

/// A screen shows no more.
const MOST: usize = 100;

/// Reads the instances.
pub(super) struct Instances {
    client: Client,
    keyspace: Option<Keyspace>,
    /// Calls of each instance at the sample before.
    before: Vec<(String, u64)>,
    at: Instant,
}

impl Instances {
    pub(super) fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            keyspace: client.keyspace("monitor", "dashboard").ok(),
            before: Vec::new(),
            at: Instant::now(),
        }
    }

    /// The instances, the first by program and host. None when they cannot be read: the servers' figures are shown
    /// all the same.
    pub(super) async fn read(&mut self, patience: Duration) -> Vec<Instance> {
        let published = timeout(patience, self.published()).await;
        let published = published.ok().flatten().unwrap_or_default();
        let (now, passed) = (Instant::now(), self.at.elapsed());
        let calls = |one: &Published| one.clients.iter().map(|client| client.calls).sum::<u64>();
        let mut instances: Vec<_> = published
            .iter()
            .map(|one| {
                let before = self.before.iter().find(|(id, _)| *id == one.id);
                one.instance(
                    before.map(|(_, before)| calls(one).saturating_sub(*before)),
                    passed,
                )
            })
            .collect();
        self.before = published
            .iter()
            .map(|one| (one.id.clone(), calls(one)))
            .collect();
        self.at = now;
        instances.sort_by(|a, b| {
            (&a.program, &a.host, a.process).cmp(&(&b.program, &b.host, b.process))
        });
        instances
    }

    async fn published(&self) -> Option<Vec<Published>> {
        let keyspace = self.keyspace.as_ref()?;
        let list = Command::new("ZREVRANGE").key(keyspace.role_key("fleet", "instances"));
        let ids: Vec<String> = self.client.call(list.arg(0).arg(MOST - 1)).await.ok()?;
        if ids.is_empty() {
            return None;
        }
        let read = ids.iter().fold(Command::new("MGET"), |read, id| {
            read.key(keyspace.tagged_key("fleet", "at", id.as_str()))
        });
        let texts: Vec<Option<Bytes>> = self.client.call(read).await.ok()?;
        let texts = texts.into_iter().flatten();
        Some(
            texts
                .filter_map(|text| serde_json::from_slice(&text).ok())
                .collect(),
        )
    }
}

impl Published {
    fn instance(&self, new_calls: Option<u64>, passed: Duration) -> Instance {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let since = |millis: u64| {
            now.saturating_sub(Duration::from_millis(millis))
                .as_secs_f64()
        };
        let rank = |status: &str| {
            ["pass", "warn", "fail"]
                .iter()
                .position(|word| *word == status)
        };
        let statuses = self
            .dependencies
            .iter()
            .map(|dependency| dependency.status.as_str());
        let open = self
            .clients
            .iter()
            .filter(|client| !client.breaker.is_empty() && client.breaker != "closed");
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more digits")]
        let rate = |count: u64| count as f64 / passed.as_secs_f64().max(0.001);
        Instance {
            program: printable(&self.program),
            host: printable(&self.host),
            process: self.process,
            seen_seconds_ago: since(self.at),
            up_seconds: since(self.started),
            calls: self.clients.iter().map(|client| client.calls).sum(),
            errors: self.clients.iter().map(|client| client.errors).sum(),
            calls_per_second: new_calls.map(rate),
            status: statuses
                .max_by_key(|status| rank(status))
                .map(printable)
                .unwrap_or_default(),
            breakers: open
                .map(|client| printable(&format!("{} {}", client.name, client.breaker)))
                .collect(),
            objects: self.objects.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_instance_publishes_is_read_and_more_does_not_matter() {
        let text = r#"{"id":"a","program":"shop","host":"web-1","process":7,"started":0,"at":0,"new":1,
            "dependencies":[{"name":"x","status":"pass"},{"name":"y","status":"fail"}],
            "clients":[{"name":"default","breaker":"open","calls":5,"errors":2},{"breaker":"closed","calls":1}],
            "objects":[{"kind":"cache"},{}]}"#;
        let published: Published = serde_json::from_str(text).unwrap();
        let instance = published.instance(Some(4), Duration::from_secs(2));
        assert_eq!(
            (instance.calls, instance.errors, instance.objects),
            (6, 2, 2)
        );
        assert_eq!(instance.status, "fail");
        assert_eq!(instance.breakers, ["default open"]);
        assert_eq!(instance.calls_per_second, Some(2.0));
    }
}
