//! [`HitRate`]: hits as a share of look-ups, over a window that is said.

use std::time::Duration;

use super::info::ratio;
use super::{ServerInfo, ServerStatistics};

/// How many look-ups found a key, between two moments. A rate without its window says nothing: a server's own
/// counters go back to its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HitRate {
    /// Look-ups that found a key.
    pub hits: u64,
    /// Look-ups that found none.
    pub misses: u64,
    /// Between which moments they were counted.
    pub window: Duration,
}

impl HitRate {
    pub(crate) fn new(hits: u64, misses: u64, window: Duration) -> Self {
        Self {
            hits,
            misses,
            window,
        }
    }

    /// All look-ups.
    pub fn lookups(&self) -> u64 {
        self.hits.saturating_add(self.misses)
    }

    /// The share, from 0 to 1; `None` when there was no look-up.
    pub fn rate(&self) -> Option<f64> {
        match self.lookups() {
            0 => None,
            lookups => Some(ratio(self.hits, lookups)),
        }
    }
}

impl ServerStatistics {
    /// The hit rate of all servers since an earlier moment. A server that was started in between counts from its
    /// start; one that was up already, but did not answer then, is left out.
    pub fn hit_rate_since(&self, earlier: &Self) -> HitRate {
        let mut rate = HitRate::new(0, 0, self.at.saturating_duration_since(earlier.at));
        for (name, now) in &self.servers {
            let before = earlier.servers.iter().find(|(other, _)| other == name);
            let before = before.map(|(_, info)| info);
            let is_the_same = before.is_some_and(|before| before.run_id == now.run_id);
            // Uptime is in whole seconds.
            if !is_the_same && now.uptime > rate.window + Duration::from_secs(1) {
                continue;
            }
            rate.hits += since(now, before, |info| info.keyspace_hits);
            rate.misses += since(now, before, |info| info.keyspace_misses);
        }
        rate
    }
}

/// By how much a counter has grown.
fn since(
    now: &ServerInfo,
    before: Option<&ServerInfo>,
    counter: impl Fn(&ServerInfo) -> u64,
) -> u64 {
    match before {
        Some(before) if before.run_id == now.run_id && counter(before) <= counter(now) => {
            counter(now) - counter(before)
        }
        _ => counter(now),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn at(run_id: &str, hits: u64, misses: u64, at: Instant) -> ServerStatistics {
        let info = ServerInfo {
            run_id: run_id.to_owned(),
            keyspace_hits: hits,
            keyspace_misses: misses,
            ..ServerInfo::default()
        };
        ServerStatistics {
            servers: vec![("a".into(), info.clone())],
            failed: Vec::new(),
            total: info,
            at,
        }
    }

    #[test]
    fn a_rate_is_that_of_its_window_and_a_restart_begins_anew() {
        let start = Instant::now();
        let later = start + Duration::from_secs(60);
        let rate = at("x", 190, 30, later).hit_rate_since(&at("x", 100, 20, start));
        assert_eq!(rate, HitRate::new(90, 10, Duration::from_secs(60)));
        assert_eq!(rate.rate(), Some(0.9));
        // One that has been up for long, and was not asked before, has counted before the window.
        let mut other = at("z", 1_000_000, 0, later);
        for (_, info) in &mut other.servers {
            info.uptime = Duration::from_secs(3_600);
        }
        assert_eq!(other.hit_rate_since(&at("x", 2, 0, start)).rate(), None);
        let mut nobody = at("z", 0, 0, start);
        nobody.servers.clear();
        assert_eq!(other.hit_rate_since(&nobody).rate(), None);
        let rate = at("y", 3, 1, later).hit_rate_since(&at("x", 2, 0, start));
        assert_eq!(rate.rate(), Some(0.75));
        assert_eq!(
            at("x", 2, 0, later)
                .hit_rate_since(&at("x", 2, 0, start))
                .rate(),
            None
        );
    }
}
