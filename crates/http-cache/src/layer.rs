//! [`ResponseCacheLayer`]: a cache in front of a service.

use std::fmt;
use std::sync::Arc;

use futures_util::future::try_join_all;
use redkit_cache::Cache;
use tower_layer::Layer;

use crate::builder::ResponseCacheBuilder;
use crate::error::Error;
use crate::key::Audience;
use crate::rules::Rules;
use crate::service::ResponseCacheService;
use crate::stored::CachedResponse;

/// Answers requests to a service from a cache: see the [documentation of the crate](crate) for an example, and for
/// what it honours.
#[derive(Clone)]
pub struct ResponseCacheLayer {
    rules: Arc<Rules>,
}

impl ResponseCacheLayer {
    /// Starts a layer that keeps responses in `cache`.
    ///
    /// Of the cache's settings `ttl` does nothing here, since every response brings its own.
    /// `refresh_ahead`, `refresh_early` and `soft_timeout` are refused: a request can be loaded for
    /// only by itself. In their place are `stale-while-revalidate` and `stale-if-error`. Say
    /// [`stale_for`](redkit_cache::CacheBuilder::stale_for) where handlers allow stale answers or
    /// give validators: the time that a response has left is then read together with it, and not in
    /// a round trip of its own; and for so long a response with validators stays after its time, for
    /// its handler to be asked whether it has changed.
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
