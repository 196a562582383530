//! Values on their way into a cache and out of it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::id::Id;

/// A value from a cache, and where it came from. It dereferences to the value.
#[derive(Debug)]
pub struct Fetched<V> {
    value: Arc<V>,
    source: Source,
    /// The entry that it was read from, or written as; `None` when it was not kept.
    entry: Option<Id>,
}

impl<V> Fetched<V> {
    pub(crate) fn new(value: Arc<V>, source: Source, entry: Option<Id>) -> Self {
        Self {
            value,
            source,
            entry,
        }
    }

    pub(crate) fn entry(&self) -> Option<Id> {
        self.entry
    }

    /// Where the value came from.
    pub fn source(&self) -> Source {
        self.source
    }

    /// The value, shared with every caller that waited for the same load.
    pub fn into_arc(self) -> Arc<V> {
        self.value
    }

    /// The value; a clone of it when others hold it too.
    pub fn into_value(self) -> V
    where
        V: Clone,
    {
        Arc::unwrap_or_clone(self.value)
    }
}

impl<V> Clone for Fetched<V> {
    fn clone(&self) -> Self {
        Self {
            value: Arc::clone(&self.value),
            source: self.source,
            entry: self.entry,
        }
    }
}

impl<V> Deref for Fetched<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.value
    }
}

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The cache had it in this process: see [`L1`](crate::L1).
    Local,
    /// The cache had it in Redis.
    Redis,
    /// The cache had it, and its time is up or the caller [did not take it](crate::Cache::reload); loading it anew failed, or takes longer than
    /// [`soft_timeout`](crate::CacheBuilder::soft_timeout).
    Stale,
    /// This call loaded it.
    Loaded,
    /// Another call was loading it, and this one waited for that.
    Shared,
    /// This call wrote it: see [`write_through`](crate::Cache::write_through).
    Written,
    /// The cache could not be asked, so it was loaded, by this call or by one it waited for.
    Bypassed,
}

impl Source {
    /// Whether the cache had a fresh value, in this process or in Redis.
    pub fn is_hit(self) -> bool {
        matches!(self, Source::Local | Source::Redis)
    }

    /// The name in lower case, as it is displayed.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Local => "local",
            Source::Redis => "redis",
            Source::Stale => "stale",
            Source::Loaded => "loaded",
            Source::Shared => "shared",
            Source::Written => "written",
            Source::Bypassed => "bypassed",
        }
    }
}

/// One word: `local`, `redis`, `stale`, `loaded`, `shared`, `written` or `bypassed`.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The result of a loader: a value, and how to keep it if not as the cache usually does.
///
/// A loader may give a plain `V`; it gives a `Loaded<V>` to say more:
///
/// ```
/// use std::time::Duration;
/// use redkit_cache::Loaded;
///
/// let loaded = Loaded::new("sold out")
///     .ttl(Duration::from_secs(5))
///     .tags(["teapots", "category:7"])
///     .version(12);
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Loaded<V> {
    pub(crate) value: V,
    pub(crate) keep: Keep,
}

/// How a value is kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keep {
    pub(crate) ttl: Option<Duration>,
    pub(crate) stale_for: Option<Duration>,
    pub(crate) tags: Vec<Box<str>>,
    pub(crate) version: Option<u64>,
    pub(crate) not: bool,
}

impl<V> Loaded<V> {
    /// A value to be kept as the cache usually does.
    pub fn new(value: V) -> Self {
        Self {
            value,
            keep: Keep::default(),
        }
    }

    /// Keeps this value for another time than the cache's. Less than a millisecond means that it
    /// is not kept at all.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.keep.ttl = Some(ttl);
        self
    }

    /// Keeps it for another time to be served stale than the cache's
    /// [`stale_for`](crate::CacheBuilder::stale_for).
    pub fn stale_for(mut self, time: Duration) -> Self {
        self.keep.stale_for = Some(time);
        self
    }

    /// Marks the value, to be removed by
    /// [`invalidate_tag`](crate::Cache::invalidate_tag). Reading a value with tags from Redis
    /// takes a second round trip, for the tags.
    pub fn tags<T: Into<Box<str>>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.keep.tags.extend(tags.into_iter().map(Into::into));
        self.keep.tags.sort_unstable();
        self.keep.tags.dedup();
        self
    }

    /// The version of what was read at the source: a row's revision, say. A value never replaces
    /// one of a higher version while that is in the cache.
    pub fn version(mut self, version: u64) -> Self {
        self.keep.version = Some(version);
        self
    }

    /// Gives the value to the callers that wait for it, and does not keep it.
    pub fn do_not_cache(mut self) -> Self {
        self.keep.not = true;
        self
    }
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_displays_itself_and_tells_the_local_cache_from_redis() {
        assert_eq!(Source::Local.to_string(), "local");
        assert_eq!(format!("{:>6}|", Source::Redis), " redis|");
        assert!(Source::Local.is_hit() && Source::Redis.is_hit() && !Source::Shared.is_hit());
    }
}
