//! How many sessions there are, about: a look at some keys, now and then, while a page is open.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use redkit_core::{Client, Command, Error};
use serde_json::{Value, json};
use tokio::time::Instant;

/// How old a count may be.
const FRESH_FOR: Duration = Duration::from_secs(15);
/// How many keys of each server are looked at, and how many in one step.
const MOST_KEYS: u64 = 5_000;
const STEP: u64 = 1_000;
/// How many steps at most: a table that has been emptied gives few keys a step.
const MOST_STEPS: usize = 10;
/// How long a step may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// What was counted last.
#[derive(Debug, Default)]
pub(super) struct Census {
    at: Option<Instant>,
    sessions: BTreeMap<String, Count>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Count {
    sessions: f64,
    /// Whether a part of the keys stands for all of them.
    is_estimate: bool,
}

impl Census {
    pub(super) fn is_due(&self) -> bool {
        self.at.is_none_or(|at| at.elapsed() >= FRESH_FOR)
    }

    /// By the stores' names.
    pub(super) fn to_json(&self) -> Value {
        let stores = self.sessions.iter().map(|(store, count)| {
            let Count {
                sessions,
                is_estimate,
            } = count;
            (
                store.clone(),
                json!({ "count": sessions.round(), "isEstimate": is_estimate }),
            )
        });
        Value::Object(stores.collect())
    }
}

/// Counts the sessions of all stores in the client's namespace. What cannot be read is left out.
pub(super) async fn count(client: &Client) -> Census {
    let servers = client.servers();
    let counted = join_all(servers.iter().map(|server| of_server(client, &server.name))).await;
    let mut sessions: BTreeMap<String, Count> = BTreeMap::new();
    for of_server in counted.into_iter().flatten() {
        for (store, count) in of_server {
            let sum = sessions.entry(store).or_default();
            sum.sessions += count.sessions;
            sum.is_estimate |= count.is_estimate;
        }
    }
    Census {
        at: Some(Instant::now()),
        sessions,
    }
}

async fn of_server(client: &Client, server: &str) -> Result<BTreeMap<String, Count>, Error> {
    let prefix = client.key("session:");
    let (mut cursor, mut seen) = (0_u64, 0_u64);
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..MOST_STEPS {
        let scan = Command::new("SCAN").arg(cursor).arg("COUNT").arg(STEP);
        let scan = scan.deadline(Instant::now() + PATIENCE);
        let (next, keys): (u64, Vec<Bytes>) = client.call_server(server, scan).await?;
        seen += u64::try_from(keys.len()).unwrap_or_default();
        for key in &keys {
            if let Some(store) = store_of(key, prefix.as_bytes()) {
                *found.entry(store).or_default() += 1;
            }
        }
        cursor = next;
        if next == 0 || seen >= MOST_KEYS {
            break;
        }
    }
    let is_estimate = cursor != 0;
    let size = Command::new("DBSIZE").deadline(Instant::now() + PATIENCE);
    let all: u64 = client.call_server(server, size).await?;
    let factor = match is_estimate {
        // `SCAN` gives keys in no order: a part of them is a fair sample.
        true => number(all) / number(seen.max(1)),
        false => 1.0,
    };
    let counts = found.into_iter().map(|(store, sessions)| {
        let sessions = number(sessions) * factor;
        (
            store,
            Count {
                sessions,
                is_estimate,
            },
        )
    });
    Ok(counts.collect())
}

/// The store of a key that is a session: `ns:session:<store>:{tag}:session:<hash>`, or `…:{hash}:record`.
fn store_of(key: &[u8], prefix: &[u8]) -> Option<String> {
    let key = std::str::from_utf8(key.strip_prefix(prefix)?).ok()?;
    let (store, rest) = key.split_once(":{")?;
    let (_, role) = rest.split_once('}')?;
    (role.starts_with(":session:") || role == ":record").then(|| store.to_owned())
}

#[allow(clippy::cast_precision_loss, reason = "shown to people")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_of_sessions_are_counted() {
        let of = |key: &str| store_of(key.as_bytes(), b"shop:session:");
        assert_eq!(
            of("shop:session:web:{ab}:session:0f").as_deref(),
            Some("web")
        );
        assert_eq!(
            of("shop:session:admin:{ab}:record").as_deref(),
            Some("admin")
        );
        for other in [
            "shop:session:web:{ab}:index",
            "shop:session:web:{ab}:rows",
            "shop:lock:a:{b}",
            "session:web:{ab}:session:0f",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
