//! [`ServerLatency`]: how long commands take at the servers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::{Command, Value};

use super::Statistics;
use crate::error::Error;

/// How long commands took at the servers (`LATENCY HISTOGRAM` of Redis 7 and later), all commands and servers
/// together, since the servers' start. The buckets are the servers': each is twice as wide as the one before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerLatency {
    /// Calls of each server by the longest time of their bucket in µs.
    servers: BTreeMap<Arc<str>, BTreeMap<u64, u64>>,
}

impl ServerLatency {
    /// How many calls were counted.
    pub fn count(&self) -> u64 {
        self.servers.values().flat_map(BTreeMap::values).sum()
    }

    /// What was counted after `earlier`. A server that has started anew meanwhile counts for nothing, and neither
    /// does one that was not looked at `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let servers = self.servers.iter().filter_map(|(server, counts)| {
            let before = earlier.servers.get(server)?;
            if counts.values().sum::<u64>() < before.values().sum::<u64>() {
                return None;
            }
            let counts = counts.iter().map(|(bucket, count)| {
                let before = before.get(bucket).copied().unwrap_or_default();
                (*bucket, count.saturating_sub(before))
            });
            Some((Arc::clone(server), counts.collect()))
        });
        Self {
            servers: servers.collect(),
        }
    }

    /// The longest time of the bucket in which the share `q` (0 to 1) of the calls is reached; `None` when there were
    /// no calls.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of a count, rounded"
        )]
        let wanted = ((total as f64 * q.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut together: BTreeMap<u64, u64> = BTreeMap::new();
        for (bucket, count) in self.servers.values().flatten() {
            *together.entry(*bucket).or_default() += count;
        }
        let mut seen = 0;
        for (bucket, count) in together {
            seen += count;
            if seen >= wanted {
                return Some(Duration::from_micros(bucket));
            }
        }
        None
    }

    /// Adds a server's reply: by command, calls and cumulative counts by bucket.
    fn add(&mut self, server: Arc<str>, reply: Value) {
        let counts = self.servers.entry(server).or_default();
        let Ok(commands) = reply.to::<Vec<(String, Value)>>() else {
            return;
        };
        for (_, command) in commands {
            let Ok(fields) = command.to::<Vec<(String, Value)>>() else {
                continue;
            };
            let mut fields = fields.into_iter();
            let Some((_, histogram)) = fields.find(|(name, _)| name == "histogram_usec") else {
                continue;
            };
            let mut before = 0;
            for (bucket, count) in histogram.to::<Vec<(u64, u64)>>().unwrap_or_default() {
                *counts.entry(bucket).or_default() += count.saturating_sub(before);
                before = count;
            }
        }
    }
}

impl Statistics {
    /// How long commands took at the servers; `None` when no server says so.
    ///
    /// # Errors
    /// [`Error::NoServer`] when no server answered.
    pub async fn latency(&self) -> Result<Option<ServerLatency>, Error> {
        let command = || Command::new("LATENCY").arg("HISTOGRAM");
        let Some(replies) = self.ask_those_that_can::<Value>(command).await? else {
            return Ok(None);
        };
        let replies: Vec<(Arc<str>, Value)> = replies;
        let mut latency = ServerLatency::default();
        for (server, reply) in replies {
            latency.add(server, reply);
        }
        Ok(Some(latency))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cumulative_counts_become_counts_by_bucket() {
        let histogram = |pairs: &[(i64, i64)]| {
            let pairs = pairs.iter();
            Value::Map(
                pairs
                    .map(|(a, b)| (Value::Int(*a), Value::Int(*b)))
                    .collect(),
            )
        };
        let command = |pairs| {
            Value::Map(vec![
                (Value::bulk("calls"), Value::Int(9)),
                (Value::bulk("histogram_usec"), histogram(pairs)),
            ])
        };
        let mut earlier = ServerLatency::default();
        earlier.add(
            "a".into(),
            Value::Map(vec![(Value::bulk("get"), command(&[(1, 10)]))]),
        );
        let mut now = ServerLatency::default();
        now.add(
            "a".into(),
            Value::Map(vec![
                (Value::bulk("get"), command(&[(1, 60), (2, 90)])),
                (Value::bulk("set"), command(&[(2, 9), (1024, 10)])),
            ]),
        );
        let since = now.since(&earlier);
        assert_eq!(since.count(), 90);
        let micros = |q| since.quantile(q).map(|time| time.as_micros());
        assert_eq!(
            (micros(0.5), micros(0.98), micros(1.0)),
            (Some(1), Some(2), Some(1024))
        );
        assert_eq!(ServerLatency::default().quantile(0.5), None);
    }
    /// One that did not answer in time is back: its calls since its start are no peak.
    #[test]
    fn a_server_that_misses_a_look_is_left_out_until_the_next() {
        let of = |servers: &[(&str, &[(u64, u64)])]| ServerLatency {
            servers: servers
                .iter()
                .map(|(name, counts)| ((*name).into(), counts.iter().copied().collect()))
                .collect(),
        };
        let slow = (1 << 20, 1_000_000);
        let earlier = of(&[("a", &[slow]), ("b", &[(1, 10)])]);
        let middle = of(&[("b", &[(1, 20)])]);
        let later = of(&[("a", &[slow]), ("b", &[(1, 30)])]);
        for (now, before) in [(&middle, &earlier), (&later, &middle), (&later, &earlier)] {
            let since = now.since(before);
            assert_eq!(since.quantile(0.99), Some(Duration::from_micros(1)));
        }
        assert_eq!(
            (middle.since(&earlier).count(), later.since(&middle).count()),
            (10, 10)
        );
        let anew = of(&[("a", &[(1, 5)]), ("b", &[(1, 40)])]);
        assert_eq!(anew.since(&later).count(), 10, "it has started anew");
    }
}
