//! [`DenyCache`]: what was denied a moment ago is denied again without asking.
//!
//! Units only come back with time. So a denial of some units holds until the server's `retry_after`
//! has passed. For more units the server is asked, since they would have to wait longer, and nothing
//! here knows by how much; so it is once this limiter has taken units of the key, after which a denied
//! call would have to wait longer as well. The local clock, which never goes back, measures only that.
//! Units that come back sooner (by a refund, a reset, a larger quota) are seen at once when it happens
//! through the same limiter, and when the denial runs out otherwise.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::quota::Quota;
use crate::verdict::{Verdict, Verdicts};

/// A power of two, so that many threads seldom meet.
const SHARDS: usize = 64;
/// Denials of different costs that are remembered of one key.
const PER_KEY: usize = 4;
/// Longer keys are not remembered, so that the memory is bounded.
const LONGEST_KEY: usize = 256;

pub(crate) struct DenyCache {
    shards: Box<[Mutex<Shard>]>,
    per_shard: usize,
}

/// Keys leave in the order in which they came.
#[derive(Default)]
struct Shard {
    denials: HashMap<Arc<[u8]>, SmallVec<[Denial; 1]>>,
    order: VecDeque<Arc<[u8]>>,
    /// When units of one of its keys last came back. A call that was sent before may have been denied
    /// before, though its reply comes later.
    came_back: Option<Instant>,
}

struct Denial {
    cost: u64,
    /// The quota that the call named itself.
    quota: Option<Quota>,
    /// When the server had certainly decided.
    decided: Instant,
    until: Instant,
    verdicts: Verdicts,
}

impl DenyCache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            per_shard: capacity.div_ceil(SHARDS),
        }
    }

    /// The denial that still holds for so many units of `key`.
    pub(crate) fn look_up(&self, key: &[u8], cost: u64, quota: Option<Quota>) -> Option<Verdicts> {
        let shard = self.shard(key).lock();
        let denials = shard.denials.get(key)?;
        // Most keys were not denied: only then the clock is read.
        let now = Instant::now();
        let denial = denials
            .iter()
            .find(|denial| denial.cost == cost && denial.quota == quota && now < denial.until)?;
        Some(denial.at(now))
    }

    /// Remembers a denial by the server of a call that was sent at `since`.
    pub(crate) fn remember(
        &self,
        key: &[u8],
        cost: u64,
        quota: Option<Quota>,
        since: Instant,
        verdicts: &[Verdict],
    ) {
        let wait = verdicts.iter().map(Verdict::retry_after).max();
        // A wait for more than that is of a quota that was another before: the server is asked again.
        let longest = verdicts.iter().map(longest_wait).max();
        let wait = wait.min(longest).unwrap_or_default();
        // The server's clock ran from a later moment on, so this ends no later than it said.
        let Some(until) = since.checked_add(wait) else {
            return;
        };
        if key.len() > LONGEST_KEY {
            return;
        }
        let denial = Denial {
            cost,
            quota,
            decided: Instant::now(),
            until,
            verdicts: verdicts.into(),
        };
        let mut shard = self.shard(key).lock();
        if shard.came_back.is_some_and(|at| since <= at) {
            return;
        }
        if let Some(denials) = shard.denials.get_mut(key) {
            // The newer denial of the same units is the one that holds.
            denials.retain(|old| old.until > since && (old.cost, old.quota) != (cost, quota));
            if denials.len() < PER_KEY {
                denials.push(denial);
            }
            return;
        }
        if shard.order.len() >= self.per_shard
            && let Some(oldest) = shard.order.pop_front()
        {
            shard.denials.remove(&oldest);
        }
        let key: Arc<[u8]> = key.into();
        shard.order.push_back(Arc::clone(&key));
        shard.denials.insert(key, SmallVec::from([denial]));
    }

    /// Forgets what was denied of a key, because units were taken.
    pub(crate) fn forget(&self, key: &[u8]) {
        self.shard(key).lock().forget(key);
    }

    /// Forgets what was denied of a key, because units came back, and what the server denies to calls
    /// that are under way.
    pub(crate) fn units_came_back(&self, key: &[u8]) {
        let mut shard = self.shard(key).lock();
        shard.came_back = Some(Instant::now());
        shard.forget(key);
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the index is taken modulo the length"
    )]
    fn shard(&self, key: &[u8]) -> &Mutex<Shard> {
        // Only to spread threads; the map below has a hash that nobody can aim at.
        let spread = key.iter().rev().take(8).fold(key.len(), |hash, byte| {
            hash.wrapping_mul(31) ^ usize::from(*byte)
        });
        &self.shards[spread % self.shards.len()]
    }
}

/// Twice the time in which a limit of this quota has all its units back.
fn longest_wait(verdict: &Verdict) -> Duration {
    let windows = verdict.limit.div_ceil(verdict.quota.limit().max(1));
    let windows = u32::try_from(windows).unwrap_or(u32::MAX);
    let window = verdict.quota.window();
    window.saturating_mul(windows.max(1)).saturating_mul(2)
}

impl Shard {
    fn forget(&mut self, key: &[u8]) {
        // The key keeps its place in the order, so that there is one for each.
        if let Some(denials) = self.denials.get_mut(key) {
            denials.clear();
        }
    }
}

impl Denial {
    /// The limits' verdicts at `now`.
    fn at(&self, now: Instant) -> Verdicts {
        // Counted from a later moment than the server's, so that waiting as long as this is enough.
        let passed = now.saturating_duration_since(self.decided);
        let mut verdicts = self.verdicts.clone();
        for verdict in &mut verdicts {
            verdict.reset_after = verdict.reset_after.saturating_sub(passed);
            verdict.retry_after = verdict.retry_after.saturating_sub(passed);
        }
        verdicts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(wait: u64) -> Verdicts {
        SmallVec::from([Verdict {
            policy: "p".into(),
            quota: Quota::per_minute(10),
            allowed: false,
            limit: 10,
            remaining: 3,
            reset_after: Duration::from_secs(60),
            retry_after: Duration::from_secs(wait),
            unit_after: None,
        }])
    }

    #[tokio::test(start_paused = true)]
    async fn a_denial_that_was_under_way_when_units_came_back_is_not_remembered() {
        let cache = DenyCache::new(100);
        let sent = Instant::now();
        tokio::time::advance(Duration::from_millis(5)).await;
        cache.units_came_back(b"k");
        cache.remember(b"k", 1, None, sent, &denied(30));
        assert!(cache.look_up(b"k", 1, None).is_none());
        tokio::time::advance(Duration::from_millis(5)).await;
        cache.remember(b"k", 1, None, Instant::now(), &denied(30));
        assert!(cache.look_up(b"k", 1, None).is_some());
        cache.units_came_back(b"k");
        assert!(cache.look_up(b"k", 1, None).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_denial_holds_for_as_many_units_until_its_time_is_up() {
        let cache = DenyCache::new(100);
        let start = Instant::now();
        cache.remember(b"k", 10, None, start, &denied(30));
        assert!(cache.look_up(b"k", 1, None).is_none(), "fewer units");
        assert!(cache.look_up(b"other", 10, None).is_none());
        let other = Some(Quota::per_second(1));
        assert!(cache.look_up(b"k", 10, other).is_none(), "another quota");
        assert!(cache.look_up(b"k", 11, None).is_none(), "more units");
        let known = cache.look_up(b"k", 10, None).unwrap();
        assert_eq!(known[0].retry_after(), Duration::from_secs(30));

        // A denial of one unit for a shorter time stands beside it.
        cache.remember(b"k", 1, None, start, &denied(5));
        assert_eq!(
            cache.look_up(b"k", 1, None).unwrap()[0].retry_after(),
            Duration::from_secs(5)
        );
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(cache.look_up(b"k", 1, None).is_none());
        let known = cache.look_up(b"k", 10, None).unwrap();
        assert_eq!(known[0].retry_after(), Duration::from_secs(25));
        assert_eq!(known[0].reset_after(), Duration::from_secs(55));
        cache.forget(b"k");
        assert!(cache.look_up(b"k", 10, None).is_none());
    }

    /// Ten a minute: two minutes, whatever the server says.
    #[tokio::test(start_paused = true)]
    async fn no_denial_holds_for_longer_than_its_quota_needs() {
        let cache = DenyCache::new(100);
        cache.remember(b"k", 1, None, Instant::now(), &denied(100_000_000_000));
        tokio::time::advance(Duration::from_secs(119)).await;
        assert!(cache.look_up(b"k", 1, None).is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(cache.look_up(b"k", 1, None).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_whatever_the_keys() {
        let cache = DenyCache::new(SHARDS * 4);
        for n in 0..10_000_u32 {
            cache.remember(&n.to_be_bytes(), 1, None, Instant::now(), &denied(5));
            cache.forget(&n.to_be_bytes());
            cache.remember(&n.to_be_bytes(), 1, None, Instant::now(), &denied(5));
        }
        cache.remember(&[b'x'; 1000], 1, None, Instant::now(), &denied(5));
        for cost in (1..100).rev() {
            cache.remember(b"k", cost, None, Instant::now(), &denied(cost));
        }
        for shard in &cache.shards {
            let shard = shard.lock();
            assert!(shard.denials.len() <= 4);
            assert_eq!(shard.denials.len(), shard.order.len());
            assert!(
                shard
                    .denials
                    .values()
                    .all(|denials| denials.len() <= PER_KEY)
            );
        }
    }
}
