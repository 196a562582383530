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
    /// Calls by the longest time of their bucket in µs.
    counts: BTreeMap<u64, u64>,
}

impl ServerLatency {
    /// How many calls were counted.
    pub fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// What was counted after `earlier`. A server that has started anew meanwhile counts for nothing.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self.counts.iter().map(|(bucket, count)| {
            let before = earlier.counts.get(bucket).copied().unwrap_or_default();
            (*bucket, count.saturating_sub(before))
        });
        Self {
            counts: counts.collect(),
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
        let mut seen = 0;
        for (bucket, count) in &self.counts {
            seen += count;
            if seen >= wanted {
                return Some(Duration::from_micros(*bucket));
            }
        }
        None
    }

    /// Adds a server's reply: by command, calls and cumulative counts by bucket.
    fn add(&mut self, reply: Value) {
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
                *self.counts.entry(bucket).or_default() += count.saturating_sub(before);
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
        for (_, reply) in replies {
            latency.add(reply);
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
        earlier.add(Value::Map(vec![(Value::bulk("get"), command(&[(1, 10)]))]));
        let mut now = ServerLatency::default();
        now.add(Value::Map(vec![
            (Value::bulk("get"), command(&[(1, 60), (2, 90)])),
            (Value::bulk("set"), command(&[(2, 9), (1024, 10)])),
        ]));
        let since = now.since(&earlier);
        assert_eq!(since.count(), 90);
        let micros = |q| since.quantile(q).map(|time| time.as_micros());
        assert_eq!(
            (micros(0.5), micros(0.98), micros(1.0)),
            (Some(1), Some(2), Some(1024))
        );
        assert_eq!(ServerLatency::default().quantile(0.5), None);
    }
}
