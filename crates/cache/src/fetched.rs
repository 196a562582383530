//! What goes into a cache and what comes out of it.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// A value from [`get_or_load`](crate::Cache::get_or_load), and where it came from. It
/// dereferences to the value.
#[derive(Debug)]
pub struct Fetched<V> {
    value: Arc<V>,
    source: Source,
}

impl<V> Fetched<V> {
    pub(crate) fn new(value: Arc<V>, source: Source) -> Self {
        Self { value, source }
    }

    /// Where the value came from.
    pub fn source(&self) -> Source {
        self.source
    }

    /// The value, shared with everybody who waited for the same load.
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
    /// The cache had it.
    Hit,
    /// This call loaded it.
    Loaded,
    /// Another call was loading it, and this one waited for that.
    Shared,
    /// The cache could not be asked, so it was loaded, by this call or by one it waited for.
    Bypassed,
}

/// What a loader gives: a value, and how to keep it if not as the cache usually does.
///
/// A loader may give a plain `V`; it gives a `Loaded<V>` to say more:
///
/// ```
/// use std::time::Duration;
/// use redkit_cache::Loaded;
///
/// let loaded = Loaded::new("sold out").ttl(Duration::from_secs(5));
/// ```
#[derive(Debug, Clone)]
pub struct Loaded<V> {
    pub(crate) value: V,
    pub(crate) ttl: Option<Duration>,
}

impl<V> Loaded<V> {
    /// A value to be kept as the cache usually does.
    pub fn new(value: V) -> Self {
        Self { value, ttl: None }
    }

    /// Keeps this value for another time than the cache's. Less than a millisecond means that it
    /// is not kept at all.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}
