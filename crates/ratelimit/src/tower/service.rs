//! [`RateLimitService`]: asks the limiter, then the service.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use tower_service::Service;

use super::answer::{self, Protocol};
use super::body::LimitBody;
use super::layer::{OnMissingKey, Rules};

/// A service behind a [`RateLimitLayer`](crate::tower::RateLimitLayer).
pub struct RateLimitService<S> {
    inner: S,
    rules: Arc<Rules>,
}

impl<S> RateLimitService<S> {
    pub(super) fn new(inner: S, rules: Arc<Rules>) -> Self {
        Self { inner, rules }
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for RateLimitService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    ReqBody: Send + 'static,
    ResBody: http_body::Body<Data = Bytes> + 'static,
{
    type Response = Response<LimitBody<ResBody>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // The limiter is always ready: whether a request may go on depends on the request. So the
        // service's readiness is ours. It is reserved before the limit is checked; a request that
        // is denied gives it back when the service below is dropped.
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        // The service that was polled ready goes with the request, and a clone, which is not ready,
        // takes its place: see `tower::Service`, "be careful when cloning inner services".
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        Box::pin(limit(ready, Arc::clone(&self.rules), request))
    }
}

async fn limit<S, ReqBody, ResBody>(
    mut service: S,
    rules: Arc<Rules>,
    request: Request<ReqBody>,
) -> Result<Response<LimitBody<ResBody>>, S::Error>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    let (mut parts, body) = request.into_parts();
    let protocol = Protocol::of(&parts);
    let cost = rules.cost(&parts);
    let key = if cost == 0 { None } else { rules.key(&parts) };
    let Some(key) = key else {
        let is_set_up_wrongly = cost > 0 && rules.finds_setup_mistake(&parts);
        if cost > 0 && rules.on_missing_key == OnMissingKey::Reject {
            if is_set_up_wrongly {
                return Ok(answer::set_up_wrongly(protocol));
            }
            tracing::debug!(target: "redkit::ratelimit", "a request without a key is turned away");
            return Ok(answer::without_key(protocol));
        }
        let response = service.call(Request::from_parts(parts, body)).await?;
        return Ok(response.map(LimitBody::of_service));
    };
    let limiter = rules.limiter(&parts);
    let decision = match limiter.check_n(key, cost).await {
        Ok(decision) if decision.is_allowed() => decision,
        Ok(decision) => return Ok(answer::denied(&decision, protocol, rules.headers)),
        Err(error) => {
            tracing::debug!(target: "redkit::ratelimit", limiter = limiter.name(), %error, "cannot decide");
            return Ok(answer::undecided(&error, protocol));
        }
    };
    if !decision.delay().is_zero() {
        tokio::time::sleep(decision.delay()).await;
    }
    parts.extensions.insert(decision.clone());
    let mut response = service.call(Request::from_parts(parts, body)).await?;
    rules.headers.add(&decision, response.headers_mut());
    Ok(response.map(LimitBody::of_service))
}

/// A clone is not ready until it is polled, whatever the original is.
impl<S: Clone> Clone for RateLimitService<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            rules: Arc::clone(&self.rules),
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for RateLimitService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
