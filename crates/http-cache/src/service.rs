//! [`ResponseCacheService`]: asks the cache, then the service.

use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use http::header::{IF_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE, UPGRADE};
use http::request::Parts;
use http::{Method, Request, Response};
use http_body::Body;
use redkit_core::http_layer::{LayerBody, Layered, ResponseFuture};
use tokio::sync::oneshot;
use tower_service::Service;

use crate::context::Context;
use crate::directives::Directives;
use crate::exchange::{AskedFor, Exchange};
use crate::invalidate;
use crate::key::Audience;
use crate::lookup::respond;
use crate::rules::Rules;
use crate::status::{CacheStatus, Forward};
use crate::storable::Reason;

/// A service behind a [`ResponseCacheLayer`](crate::ResponseCacheLayer).
#[derive(Clone, Debug)]
pub struct ResponseCacheService<S>(Layered<S, Rules>);

impl<S> ResponseCacheService<S> {
    pub(crate) fn new(service: S, rules: Arc<Rules>) -> Self {
        Self(Layered::new(service, rules))
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for ResponseCacheService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    ReqBody: Body + Send + 'static,
    ResBody: Body<Data = Bytes, Error: Send> + Send + 'static,
{
    type Response = Response<LayerBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<ResBody, S::Error>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let (ready, rules) = self.0.take_ready();
        match plan(&rules, &request) {
            Plan::Cache(context) => {
                let exchange = Exchange::new(move |asked_for| ask(ready, request, asked_for));
                Box::pin(respond(context, exchange))
            }
            Plan::Pass(forward, why) => Box::pin(pass(ready, rules, request, forward, why)),
        }
    }
}

enum Plan {
    Cache(Context),
    Pass(Forward, Reason),
}

/// Whether a request may be answered from the cache.
fn plan<B: Body>(rules: &Arc<Rules>, request: &Request<B>) -> Plan {
    let headers = request.headers();
    let bypass = |why| Plan::Pass(Forward::Bypass, why);
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return Plan::Pass(Forward::Method, Reason::Method);
    }
    if headers.contains_key(RANGE) {
        return bypass(Reason::Range);
    }
    if [IF_MATCH, IF_UNMODIFIED_SINCE, IF_RANGE]
        .iter()
        .any(|name| headers.contains_key(name))
    {
        return bypass(Reason::Precondition);
    }
    if headers.contains_key(UPGRADE) {
        return bypass(Reason::Upgrade);
    }
    if !request.body().is_end_stream() {
        return bypass(Reason::RequestBody);
    }
    let head = head(request);
    if rules.skip.as_ref().is_some_and(|skip| skip(&head)) {
        return bypass(Reason::Skipped);
    }
    let Some(target) = rules.target(&head) else {
        return bypass(Reason::NoKey);
    };
    let said = Directives::of_request(headers);
    let directives = match rules.honours_requests {
        true => said,
        false => Directives {
            only_if_cached: said.only_if_cached,
            ..Directives::default()
        },
    };
    Plan::Cache(Context {
        audience: Audience::of(headers, rules.default_ttl.is_some()),
        rules: Arc::clone(rules),
        request: Arc::new(head),
        target: target.into(),
        directives,
    })
}

/// The handler's answer; for the cache, under its conditions and not those of this client.
async fn ask<S, ReqBody, ResBody>(
    mut service: S,
    mut request: Request<ReqBody>,
    asked_for: AskedFor,
) -> Result<Response<ResBody>, S::Error>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    if let AskedFor::Cache(validators) = asked_for {
        validators.apply(request.headers_mut());
    }
    service.call(request).await
}

async fn pass<S, ReqBody, ResBody>(
    mut service: S,
    rules: Arc<Rules>,
    request: Request<ReqBody>,
    forward: Forward,
    why: Reason,
) -> Result<Response<LayerBody<ResBody>>, S::Error>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Body<Data = Bytes>,
{
    let changing = invalidate::is_unsafe(request.method()).then(|| head(&request));
    let mut response = service.call(request).await?;
    if let Some(request) = changing {
        // In a task of the cache: a client that goes away does not keep the change from counting.
        let (status, headers) = (response.status(), response.headers().clone());
        let (rules, (ended, done)) = (Arc::clone(&rules), oneshot::channel::<()>());
        let cache = rules.cache.clone();
        cache.spawn(async move {
            invalidate::after(&rules, &request, status, &headers).await;
            drop(ended);
        });
        // Both ends say the same: it has ended.
        let _ = done.await;
    }
    rules.metrics.passed.increment(1);
    if rules.adds_cache_status {
        CacheStatus::passed(forward, why).add(rules.cache.name(), response.headers_mut());
    }
    Ok(response.map(LayerBody::of_service))
}

fn head<B>(request: &Request<B>) -> Parts {
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = request.method().clone();
    head.uri = request.uri().clone();
    head.version = request.version();
    head.headers = request.headers().clone();
    head.extensions = request.extensions().clone();
    head
}
