//! [`Rules`]: the settings of a layer, as its requests need them.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderName, Uri};
use redkit_cache::Cache;

use crate::key;
use crate::metrics::Metrics;
use crate::revalidations::Revalidations;
use crate::stored::CachedResponse;

/// A function of a request's head.
pub(crate) type RequestFn<T> = Arc<dyn Fn(&Parts) -> T + Send + Sync>;

pub(crate) struct Rules {
    pub(crate) cache: Cache<CachedResponse>,
    pub(crate) key: Option<RequestFn<Option<Vec<u8>>>>,
    pub(crate) authority: Option<Authority>,
    pub(crate) skip: Option<RequestFn<bool>>,
    pub(crate) default_ttl: Option<Duration>,
    pub(crate) max_body: usize,
    pub(crate) max_variants: u64,
    pub(crate) hit_for_miss: Duration,
    pub(crate) tag_header: Option<HeaderName>,
    pub(crate) makes_etags: bool,
    /// Whether responses carry `Cache-Status`.
    pub(crate) adds_cache_status: bool,
    pub(crate) honours_requests: bool,
    /// How long the cache waits for a handler: shorter than the cache waits for a load.
    pub(crate) handler_timeout: Duration,
    pub(crate) revalidations: Arc<Revalidations>,
    pub(crate) metrics: Metrics,
}

/// Longer targets are not cached.
const LONGEST_TARGET: usize = 8 * 1024;

impl Rules {
    /// The resource that a request names; `None` when it is not to be cached.
    pub(crate) fn target(&self, request: &Parts) -> Option<Vec<u8>> {
        let target = match &self.key {
            Some(key) => key(request),
            None => key::target(request, self.authority.as_ref()),
        };
        target.filter(|target| target.len() <= LONGEST_TARGET)
    }

    /// The resource that a request for another URI of the same origin would name.
    pub(crate) fn target_at(&self, request: &Parts, uri: Uri) -> Option<Vec<u8>> {
        let mut request = request.clone();
        #[cfg(feature = "axum")]
        request.extensions.remove::<axum::extract::OriginalUri>();
        request.uri = uri;
        self.target(&request)
    }

    /// For how long a page with validators is kept after it may be given: as long as the cache keeps
    /// stale values.
    pub(crate) fn kept_for_validation(&self) -> Duration {
        self.cache.stale_for()
    }
}
