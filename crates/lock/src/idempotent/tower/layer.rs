//! [`IdempotencyLayer`]: which requests are carried out once, and for whom.

use std::fmt;
use std::sync::Arc;

use http::request::Parts;
use http::{Method, StatusCode};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tower_layer::Layer;

use super::service::IdempotencyService;
use crate::idempotent::IdempotentExecution;

/// Carries out requests with an `Idempotency-Key` once: see the [module](crate::tower) for an example and for
/// what is answered when.
#[derive(Clone)]
pub struct IdempotencyLayer {
    rules: Rules,
}

/// What to do with requests with a key while Redis cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnOutage {
    /// Turn them away with 503: nothing is carried out twice.
    #[default]
    Refuse,
    /// Let them through, without protection.
    Pass,
}

/// Names the caller to whom a request's key belongs.
type Scope = dyn Fn(&Parts) -> Option<String> + Send + Sync;

/// Shared by all services that the layer makes; copied when it is changed.
#[derive(Clone)]
pub(super) struct Rules {
    pub(super) execution: IdempotentExecution,
    pub(super) scope: Arc<Scope>,
    pub(super) methods: Arc<[Method]>,
    pub(super) required: bool,
    pub(super) on_outage: OnOutage,
    pub(super) max_body_bytes: usize,
    pub(super) is_kept: Arc<dyn Fn(StatusCode) -> bool + Send + Sync>,
    pub(super) replays_cookies: bool,
    /// The services that run; they end with the last of these rules.
    pub(super) tasks: Arc<Mutex<JoinSet<()>>>,
}

impl IdempotencyLayer {
    /// Carries out requests once by `execution`. `scope` names the caller to whom a request's key belongs,
    /// such as the id of the account, not its password: a caller without a name is turned away with 400.
    pub fn new(
        execution: &IdempotentExecution,
        scope: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            rules: Rules {
                execution: execution.clone(),
                scope: Arc::new(scope),
                methods: Arc::new([Method::POST, Method::PATCH]),
                required: false,
                on_outage: OnOutage::default(),
                max_body_bytes: 1024 * 1024,
                is_kept: Arc::new(is_final),
                replays_cookies: false,
                tasks: Arc::default(),
            },
        }
    }

    /// Which methods may have a key; others go to the service. Default: POST and PATCH, of which HTTP does
    /// not say that repeating them does no harm.
    #[must_use]
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.rules.methods = methods.into_iter().collect();
        self
    }

    /// Whether requests of these methods must have a key: those without are turned away with 400. Default:
    /// they go to the service.
    #[must_use]
    pub fn required(mut self, required: bool) -> Self {
        self.rules.required = required;
        self
    }

    /// What to do while Redis cannot be asked. Default: [`OnOutage::Refuse`].
    #[must_use]
    pub fn on_outage(mut self, on_outage: OnOutage) -> Self {
        self.rules.on_outage = on_outage;
        self
    }

    /// How many bytes the body of a request with a key may have. Default: 1 MiB.
    #[must_use]
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.rules.max_body_bytes = bytes;
        self
    }

    /// Which answers are kept, by status. Default: all but 5xx, 408, 425 and 429, which say that the request
    /// was not carried out, or should be tried again.
    #[must_use]
    pub fn keep_if(mut self, is_kept: impl Fn(StatusCode) -> bool + Send + Sync + 'static) -> Self {
        self.rules.is_kept = Arc::new(is_kept);
        self
    }

    /// Whether `Set-Cookie` is kept and replayed. Default: it is not, since cookies are secrets that would
    /// lie in Redis.
    #[must_use]
    pub fn replay_cookies(mut self, replay: bool) -> Self {
        self.rules.replays_cookies = replay;
        self
    }
}

fn is_final(status: StatusCode) -> bool {
    let is_to_be_repeated = [
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_EARLY,
        StatusCode::TOO_MANY_REQUESTS,
    ]
    .contains(&status);
    !status.is_server_error() && !is_to_be_repeated
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = IdempotencyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        IdempotencyService::new(inner, Arc::new(self.rules.clone()))
    }
}

impl fmt::Debug for IdempotencyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyLayer")
            .field("execution", &self.rules.execution)
            .field("required", &self.rules.required)
            .finish_non_exhaustive()
    }
}
