//! [`ResponseCacheLayer`]: a cache in front of a service.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderName, Uri};
use redkit_cache::Cache;
use tower_layer::Layer;

use crate::builder::ResponseCacheBuilder;
use crate::error::Error;
use crate::key::{self, Audience};
use crate::numbers::Numbers;
use crate::revalidations::Revalidations;
use crate::service::ResponseCacheService;
use crate::stored::CachedResponse;

/// Answers requests to a service from a cache: see the [crate](crate) for an example, and for
/// what it honours.
#[derive(Clone)]
pub struct ResponseCacheLayer {
    rules: Arc<Rules>,
}

/// A function of a request's head.
pub(crate) type Of<T> = Arc<dyn Fn(&Parts) -> T + Send + Sync>;

pub(crate) struct Rules {
    pub(crate) cache: Cache<CachedResponse>,
    pub(crate) key: Option<Of<Option<Vec<u8>>>>,
    pub(crate) authority: Option<Authority>,
    pub(crate) skip: Option<Of<bool>>,
    pub(crate) default_ttl: Option<Duration>,
    pub(crate) max_body: usize,
    pub(crate) max_variants: u64,
    pub(crate) hit_for_miss: Duration,
    pub(crate) tag_header: Option<HeaderName>,
    pub(crate) makes_etags: bool,
    pub(crate) tells: bool,
    pub(crate) honours_requests: bool,
    /// How long the cache waits for a handler: shorter than the cache waits for a load.
    pub(crate) patience: Duration,
    pub(crate) revalidations: Arc<Revalidations>,
    pub(crate) numbers: Numbers,
}

impl ResponseCacheLayer {
    /// Starts a layer that keeps responses in `cache`.
    ///
    /// Of the cache's settings `ttl` does nothing here, since every response brings its own.
    /// `refresh_ahead`, `refresh_early` and `soft_timeout` are refused: a request can be loaded for
    /// only by itself. In their place are `stale-while-revalidate` and `stale-if-error`. Say
    /// [`stale_for`](redkit_cache::CacheBuilder::stale_for) where handlers allow stale answers: the time that
    /// a response has left is then read together with it, and not in a round trip of its own.
    pub fn builder(cache: &Cache<CachedResponse>) -> ResponseCacheBuilder {
        ResponseCacheBuilder::new(cache)
    }

    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules: Arc::new(rules),
        }
    }

    /// Removes what is stored of a target: the authority in lower case, the path and the query
    /// (`shop.test/products?page=2`), or what the layer's own
    /// [`key`](ResponseCacheBuilder::key) makes. One round trip; on a cluster two.
    ///
    /// # Errors
    /// As [`Cache::invalidate`].
    pub async fn invalidate(&self, target: impl AsRef<[u8]>) -> Result<(), Error> {
        let keys = Audience::ALL.map(|audience| audience.primary_key(target.as_ref()));
        let removals = keys.iter().map(|key| self.rules.cache.invalidate(&key[..]));
        try_join_all(removals).await?;
        Ok(())
    }
}

impl Rules {
    /// What a request is for; `None` when it is not to be cached.
    pub(crate) fn target(&self, request: &Parts) -> Option<Vec<u8>> {
        let target = match &self.key {
            Some(key) => key(request),
            None => key::target(request, self.authority.as_ref()),
        };
        target.filter(|target| target.len() <= LONGEST_TARGET)
    }

    /// What a request for another URI of the same origin would be for.
    pub(crate) fn target_at(&self, request: &Parts, uri: Uri) -> Option<Vec<u8>> {
        let mut request = request.clone();
        #[cfg(feature = "axum")]
        request.extensions.remove::<axum::extract::OriginalUri>();
        request.uri = uri;
        self.target(&request)
    }
}

/// Longer ones are not cached.
const LONGEST_TARGET: usize = 8 * 1024;

impl<S> Layer<S> for ResponseCacheLayer {
    type Service = ResponseCacheService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ResponseCacheService::new(inner, Arc::clone(&self.rules))
    }
}

impl fmt::Debug for ResponseCacheLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseCacheLayer")
            .field("cache", &self.rules.cache)
            .finish_non_exhaustive()
    }
}
