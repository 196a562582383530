//! [`L1`]: the settings of the local cache.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::ConfigError;

/// A local cache, in the process and before Redis: values as they are, shared and not decoded again. For
/// [`CacheBuilder::l1`](crate::CacheBuilder::l1).
///
/// All processes hear of each other's changes, mostly within a millisecond. What they could not
/// hear of ends within [`bound`](Self::bound).
pub struct L1<V> {
    pub(crate) capacity: u64,
    pub(crate) weigher: Option<Arc<Weigh<V>>>,
    pub(crate) ttl: Duration,
    pub(crate) bound: Duration,
    pub(crate) is_tracked: bool,
}

pub(crate) type Weigh<V> = dyn Fn(&[u8], &V) -> u32 + Send + Sync;

impl<V> L1<V> {
    /// Room for so many values.
    pub fn entries(number: u64) -> Self {
        Self {
            capacity: number,
            weigher: None,
            ttl: Duration::from_secs(60),
            bound: Duration::from_secs(2),
            is_tracked: false,
        }
    }

    /// Room for values that weigh so much together, by `weigh`, which is given a key and its value.
    pub fn weighted(
        capacity: u64,
        weigh: impl Fn(&[u8], &V) -> u32 + Send + Sync + 'static,
    ) -> Self {
        Self {
            weigher: Some(Arc::new(weigh)),
            ..Self::entries(capacity)
        }
    }

    /// How long a value is kept in the process at most, if its own time does not end before.
    /// Default: 60 s.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How old an acknowledged invalidation may be, at most, of which this process has not heard.
    /// Four times in this time the process compares its place among the changes with Redis; when
    /// it cannot, it serves nothing from this cache. Default: 2 s.
    #[must_use]
    pub fn bound(mut self, bound: Duration) -> Self {
        self.bound = bound;
        self
    }

    /// Has the servers tell of every key of this cache that changes, by whatever program: one
    /// that writes, removes or expires entries by commands of its own, or empties
    /// the server (`CLIENT TRACKING`, by prefixes of keys). Default: no.
    ///
    /// Changes by this library are announced besides, and holds the [`bound`](Self::bound) as ever.
    /// Of what others change, a process hears as soon as the server tells it, mostly within a
    /// millisecond. While it is known that a server does not tell (the connection was lost; on a
    /// cluster, to any of the masters), nothing is served from this cache; a connection that dies in
    /// silence is known after the client's `probe_interval` and the time of a probe.
    ///
    /// When all programs that use the cache are tracked, they need not
    /// [announce](crate::CacheBuilder::announce_changes); then all changes hold what is said of
    /// others', and no [`bound`](Self::bound).
    ///
    /// Redis tells every process of every change, of leases that come and go with loads as well: for
    /// each load some three messages to each process. And a value that this process loads comes into
    /// this cache when it is next read. The `fred` driver cannot track: building the cache fails.
    #[must_use]
    pub fn tracked(mut self) -> Self {
        self.is_tracked = true;
        self
    }

    pub(crate) fn check(self) -> Result<Self, ConfigError> {
        let wrong = |field, problem, fix| Err(ConfigError::new(field, problem, fix));
        if self.capacity == 0 {
            return wrong("l1", "it has no room", "give the number of values to keep");
        }
        if self.ttl.is_zero() {
            return wrong("l1.ttl", "it is zero", "give a time such as 60s");
        }
        if self.bound < Duration::from_millis(20) || self.bound > Duration::from_secs(3600) {
            let problem = "it is under 20 ms or over an hour";
            return wrong("l1.bound", problem, "2s is usual");
        }
        Ok(self)
    }
}

impl<V> Clone for L1<V> {
    fn clone(&self) -> Self {
        Self {
            weigher: self.weigher.clone(),
            ..*self
        }
    }
}

impl<V> fmt::Debug for L1<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("L1")
            .field("capacity", &self.capacity)
            .field("ttl", &self.ttl)
            .field("bound", &self.bound)
            .field("tracked", &self.is_tracked)
            .finish_non_exhaustive()
    }
}
