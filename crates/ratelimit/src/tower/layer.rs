//! [`RateLimitLayer`]: which requests are limited, by whom, and by how much.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::request::Parts;
use tower_layer::Layer;

use super::headers::Headers;
use super::key::KeyExtractor;
use super::service::RateLimitService;
use crate::limiter::RateLimiter;

/// Limits the requests to a service: see the [module](crate::tower) for an example.
#[derive(Clone)]
pub struct RateLimitLayer {
    /// Shared by all services that it makes; copied when it is changed.
    rules: Arc<Rules>,
}

/// A function of a request's head.
type Of<T> = Arc<dyn Fn(&Parts) -> T + Send + Sync>;

#[derive(Clone)]
pub(super) struct Rules {
    limiter: RateLimiter,
    key: Arc<dyn KeyExtractor>,
    /// By path, the longest first.
    routes: Vec<(String, RateLimiter)>,
    choose: Option<Of<Option<RateLimiter>>>,
    skip: Option<Of<bool>>,
    cost: Option<Of<u64>>,
    pub(super) on_missing_key: OnMissingKey,
    pub(super) headers: Headers,
    /// Requests that could have no key because of how the service was put together.
    set_up_wrongly: Arc<AtomicU64>,
}

/// The treatment of a request that has no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnMissingKey {
    /// Turn it away with 400, or `INVALID_ARGUMENT` over gRPC.
    #[default]
    Reject,
    /// Let it through, uncounted; also where no request can have a key because of how the service
    /// was put together, which is then only logged.
    Allow,
}

impl RateLimitLayer {
    /// Limits all requests by `limiter`, each by the key that `key` finds in it.
    pub fn new(limiter: &RateLimiter, key: impl KeyExtractor) -> Self {
        Self {
            rules: Arc::new(Rules {
                limiter: limiter.clone(),
                key: Arc::new(key),
                routes: Vec::new(),
                choose: None,
                skip: None,
                cost: None,
                on_missing_key: OnMissingKey::default(),
                headers: Headers {
                    standard: true,
                    x_ratelimit: true,
                },
                set_up_wrongly: Arc::default(),
            }),
        }
    }

    /// Limits requests to `path` and everything below it by another limiter. Of several that fit
    /// the longest path counts; `/a` and `a` fit `/a` and `/a/b`, not `/ab`.
    ///
    /// A path is text: there are no patterns in it, and one that looks like a pattern (`/users/{id}`,
    /// `/files/*`) is logged as a mistake; [`limiter_by`](Self::limiter_by) is for these. Requests have the
    /// path that the layer sees: in a router that another one nests under `/api`, without `/api`.
    #[must_use]
    pub fn route(self, path: impl Into<String>, limiter: &RateLimiter) -> Self {
        let (mut path, limiter) = (path.into(), limiter.clone());
        if !path.starts_with('/') {
            path.insert(0, '/');
        }
        if path.contains(['{', '*', '?']) {
            tracing::error!(
                target: "redkit::ratelimit",
                limiter = limiter.name(), path,
                "a route's path is text and no pattern: no request may ever have it"
            );
        }
        self.with(|rules| {
            rules.routes.push((path, limiter));
            rules
                .routes
                .sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        })
    }

    /// Lets a function choose the limiter for each request, before all routes; `None` leaves it to
    /// them.
    #[must_use]
    pub fn limiter_by(
        self,
        choose: impl Fn(&Parts) -> Option<RateLimiter> + Send + Sync + 'static,
    ) -> Self {
        self.with(|rules| rules.choose = Some(Arc::new(choose)))
    }

    /// Lets requests through, uncounted, for which `skip` says so.
    #[must_use]
    pub fn skip(self, skip: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.with(|rules| rules.skip = Some(Arc::new(skip)))
    }

    /// How many units a request costs; 0 lets it through, uncounted. Default: 1.
    #[must_use]
    pub fn cost(self, cost: impl Fn(&Parts) -> u64 + Send + Sync + 'static) -> Self {
        self.with(|rules| rules.cost = Some(Arc::new(cost)))
    }

    /// The treatment of a request that has no key. Default: [`OnMissingKey::Reject`].
    #[must_use]
    pub fn on_missing_key(self, on_missing_key: OnMissingKey) -> Self {
        self.with(|rules| rules.on_missing_key = on_missing_key)
    }

    /// Whether answers carry `RateLimit` and `RateLimit-Policy`. Default: yes.
    #[must_use]
    pub fn standard_headers(self, add: bool) -> Self {
        self.with(|rules| rules.headers.standard = add)
    }

    /// Whether answers carry `X-RateLimit-Limit`, `-Remaining` and `-Reset`. Default: yes.
    #[must_use]
    pub fn x_ratelimit_headers(self, add: bool) -> Self {
        self.with(|rules| rules.headers.x_ratelimit = add)
    }

    fn with(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(Arc::make_mut(&mut self.rules));
        self
    }
}

impl Rules {
    pub(super) fn limiter(&self, request: &Parts) -> RateLimiter {
        if let Some(chosen) = self.choose.as_ref().and_then(|choose| choose(request)) {
            return chosen;
        }
        let path = request.uri.path();
        let fits = |route: &str| {
            let rest = path.strip_prefix(route.strip_suffix('/').unwrap_or(route));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let route = self.routes.iter().find(|(route, _)| fits(route));
        route.map_or(&self.limiter, |(_, limiter)| limiter).clone()
    }

    pub(super) fn key(&self, request: &Parts) -> Option<Vec<u8>> {
        self.key.key(request).filter(|key| !key.is_empty())
    }

    /// Whether a request without a key could have had none; logged as an error, the first time and
    /// then ever more seldom.
    pub(super) fn finds_setup_mistake(&self, request: &Parts) -> bool {
        let Some(mistake) = self.key.setup_mistake(request) else {
            return false;
        };
        let requests = self.set_up_wrongly.fetch_add(1, Ordering::Relaxed) + 1;
        if requests.is_power_of_two() {
            tracing::error!(target: "redkit::ratelimit", limiter = self.limiter.name(), requests, "{mistake}");
        }
        true
    }

    /// The units that a request costs; 0 when it is not counted.
    pub(super) fn cost(&self, request: &Parts) -> u64 {
        match &self.skip {
            Some(skip) if skip(request) => 0,
            _ => self.cost.as_ref().map_or(1, |cost| cost(request)),
        }
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimitService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimitService::new(inner, Arc::clone(&self.rules))
    }
}

impl fmt::Debug for RateLimitLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer")
            .field("limiter", &self.rules.limiter)
            .field("routes", &self.rules.routes.len())
            .finish_non_exhaustive()
    }
}
