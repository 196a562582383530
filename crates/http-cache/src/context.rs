//! [`Context`]: a request that may be answered from the cache, and what it wants.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::request::Parts;
use http::{HeaderMap, Method};
use redkit_cache::Error as CacheError;

use crate::directives::Directives;
use crate::key::Audience;
use crate::rules::Rules;
use crate::status::CacheStatus;
use crate::stored::{CachedResponse, Kind};

#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) rules: Arc<Rules>,
    /// The request's head.
    pub(crate) request: Arc<Parts>,
    pub(crate) target: Arc<[u8]>,
    pub(crate) audience: Audience,
    pub(crate) directives: Directives,
}

impl Context {
    pub(crate) fn is_head(&self) -> bool {
        self.request.method == Method::HEAD
    }

    pub(crate) fn add_cache_status(&self, status: CacheStatus, headers: &mut HeaderMap) {
        if self.rules.adds_cache_status {
            status.add(self.rules.cache.name(), headers);
        }
    }

    /// The cache is an optimisation: a failure in it is counted, and the request goes on.
    pub(crate) fn count_failure(&self, what: &'static str, error: &CacheError) {
        self.rules.metrics.errors.increment(1);
        tracing::debug!(target: "redkit::http_cache", cache = %self.rules.cache.name(), %error, "{what}");
    }

    /// Whether the handler may be asked for the cache.
    pub(crate) fn may_load(&self) -> bool {
        !(self.is_head() || self.directives.only_if_cached || self.directives.no_store)
    }

    /// Whether the client wants something newer (RFC 9111, section 5.2.1).
    pub(crate) fn wants_newer(&self, cached: &CachedResponse) -> bool {
        let Kind::Page(page) = &cached.0 else {
            return false;
        };
        let (asked, now) = (&self.directives, SystemTime::now());
        let too_old = |limit: u64| page.age(now) > Duration::from_secs(limit);
        let too_short =
            |least: u64| page.seconds_left(now) < i64::try_from(least).unwrap_or(i64::MAX);
        asked.no_cache
            || asked.max_age == Some(0)
            || asked.max_age.is_some_and(too_old)
            || asked.min_fresh.is_some_and(too_short)
    }
}
