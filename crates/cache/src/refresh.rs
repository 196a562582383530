//! Loading anew before a value's time is up: when, and how one process does not do it twice.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_core::Key;
use redkit_core::random::random;
use tokio::time::sleep;

use crate::entry::Life;
use crate::load_outcome::LoadOutcome;
use crate::settings::Refresh;

/// Whether a fresh value is to be loaded anew now.
pub(crate) fn is_due(refresh: Refresh, life: &Life) -> bool {
    match refresh {
        Refresh::Never => false,
        Refresh::Ahead(threshold) => life.left <= life.ttl.mul_f64(1.0 - threshold),
        Refresh::Early(beta) => is_early(beta, life, random()),
    }
}

/// XFetch (Vattani, Chierichetti, Lowenstein: Optimal Probabilistic Cache Stampede Prevention,
/// 2015), with `u` at random from 0 to 1: now − cost · β · ln(u) ≥ expiry.
fn is_early(beta: f64, life: &Life, u: f64) -> bool {
    // 1 − u is never zero, whose logarithm is infinite.
    let ahead = -beta * (1.0 - u).ln() * life.cost.as_secs_f64();
    ahead >= life.left.as_secs_f64()
}

/// The keys that this process loads anew in the background.
#[derive(Debug, Default)]
pub(crate) struct Refreshes {
    keys: Mutex<HashSet<Key>>,
}

/// Keeps a key from being loaded anew a second time, until it is dropped.
#[derive(Debug)]
pub(crate) struct Refreshing {
    refreshes: Arc<Refreshes>,
    key: Key,
}

impl Refreshes {
    /// `None` when it is being done already.
    pub(crate) fn begin(self: &Arc<Self>, key: &Key) -> Option<Refreshing> {
        self.keys.lock().insert(key.clone()).then(|| Refreshing {
            refreshes: Arc::clone(self),
            key: key.clone(),
        })
    }
}

impl Refreshing {
    /// Stays while there is nothing to be done, because another process loads or the source rests.
    /// Otherwise every hit would ask again.
    pub(crate) async fn rest<V>(self, outcome: &LoadOutcome<V>) {
        if let LoadOutcome::Resting(left) = outcome {
            sleep((*left).min(LONGEST_REST)).await;
        }
    }
}

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.refreshes.keys.lock().remove(&self.key);
    }
}

const LONGEST_REST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn life(left: u64, cost: u64) -> Life {
        Life {
            ttl: Duration::from_secs(100),
            left: Duration::from_secs(left),
            cost: Duration::from_secs(cost),
        }
    }

    #[test]
    fn a_threshold_is_a_share_of_the_time() {
        let due = |left| is_due(Refresh::Ahead(0.8), &life(left, 1));
        assert!(!due(21));
        assert!(due(20));
        assert!(due(0));
        assert!(!is_due(Refresh::Never, &life(0, 1)));
    }

    #[test]
    fn xfetch_looks_ahead_by_the_cost_and_chance() {
        // ln(1 − 0.632…) = −1: as far ahead as one load takes.
        let u = 1.0 - (-1.0_f64).exp();
        assert!(is_early(1.0, &life(10, 11), u));
        assert!(!is_early(1.0, &life(12, 11), u));
        assert!(is_early(2.0, &life(12, 11), u));
        assert!(
            !is_early(1.0, &life(1, 11), 0.0),
            "no chance is no look ahead"
        );
    }
}
