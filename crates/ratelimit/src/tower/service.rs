//! [`RateLimitService`]: asks the limiter, then the service.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use redkit_core::http_layer::{LayerBody, Layered, ResponseFuture};
use tower_service::Service;

use super::answer::{self, Protocol};
use super::layer::{OnMissingKey, Rules};

/// A service behind a [`RateLimitLayer`](crate::tower::RateLimitLayer).
#[derive(Clone, Debug)]
pub struct RateLimitService<S>(Layered<S, Rules>);

impl<S> RateLimitService<S> {
    pub(super) fn new(service: S, rules: Arc<Rules>) -> Self {
        Self(Layered::new(service, rules))
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for RateLimitService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    ReqBody: Send + 'static,
    ResBody: http_body::Body<Data = Bytes> + 'static,
{
    type Response = Response<LayerBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<ResBody, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let (service, rules) = self.0.take_ready();
        Box::pin(limit(service, rules, request))
    }
}

async fn limit<S, ReqBody, ResBody>(
    mut service: S,
    rules: Arc<Rules>,
    request: Request<ReqBody>,
) -> Result<Response<LayerBody<ResBody>>, S::Error>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: http_body::Body,
{
    let (mut parts, body) = request.into_parts();
    let protocol = Protocol::of(&parts);
    let refuse = |answer: Response<Bytes>| Ok(answer.map(LayerBody::of_layer));
    let cost = rules.cost(&parts);
    let key = if cost == 0 { None } else { rules.key(&parts) };
    let Some(key) = key else {
        let is_set_up_wrongly = cost > 0 && rules.finds_setup_mistake(&parts);
        if cost > 0 && rules.on_missing_key == OnMissingKey::Reject {
            if is_set_up_wrongly {
                return refuse(answer::set_up_wrongly(protocol));
            }
            tracing::debug!(target: "redkit::ratelimit", "a request without a key is turned away");
            return refuse(answer::without_key(protocol));
        }
        let response = service.call(Request::from_parts(parts, body)).await?;
        return Ok(response.map(LayerBody::of_service));
    };
    let limiter = rules.limiter(&parts);
    let decision = match limiter.check_n(key, cost).await {
        Ok(decision) if decision.is_allowed() => decision,
        Ok(decision) => return refuse(answer::denied(&decision, protocol, rules.headers)),
        Err(error) => {
            tracing::debug!(target: "redkit::ratelimit", limiter = limiter.name(), %error, "cannot decide");
            return refuse(answer::undecided(&error, protocol));
        }
    };
    if !decision.delay().is_zero() {
        tokio::time::sleep(decision.delay()).await;
    }
    parts.extensions.insert(decision.clone());
    let mut response = service.call(Request::from_parts(parts, body)).await?;
    rules.headers.add(&decision, response.headers_mut());
    Ok(response.map(LayerBody::of_service))
}
