//! [`SessionService`]: checks a request, hands it its session, and sends what it changed.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response};
use redkit_core::http_layer::{BeforeKept, LayerBody, Layered, ResponseFuture};
use secrecy::ExposeSecret;
use tower_service::Service;

use super::answer::{self, Rejected};
use super::cross_site::has_unsafe_method;
use super::current::{CurrentSession, Finished, ForClient};
use super::layer::Rules;
use super::transport::Presented;
use crate::id::SessionId;

/// A service behind a [`SessionLayer`](crate::tower::SessionLayer).
#[derive(Clone, Debug)]
pub struct SessionService<S>(Layered<S, Rules>);

impl<S> SessionService<S> {
    pub(super) fn new(service: S, rules: Arc<Rules>) -> Self {
        Self(Layered::new(service, rules))
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for SessionService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    ReqBody: Send + 'static,
    ResBody: http_body::Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<LayerBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<ResBody, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let (service, rules) = self.0.take_ready();
        Box::pin(serve(service, rules, request))
    }
}

async fn serve<S, ReqBody, ResBody>(
    mut service: S,
    rules: Arc<Rules>,
    request: Request<ReqBody>,
) -> Result<Response<LayerBody<ResBody>>, S::Error>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: http_body::Body,
{
    let (mut parts, body) = request.into_parts();
    let presented = rules.transport.read(&parts.headers);
    if let Err(reason) = rules.check(&parts, &presented) {
        tracing::debug!(target: "redkit::session", ?reason, "a request is rejected");
        return Ok(answer::rejected(reason).map(LayerBody::of_layer));
    }
    let session = CurrentSession::new(&rules.store, presented, rules.on_outage);
    parts.extensions.insert(session.clone());
    let kept = session.clone();
    BeforeKept::add(&mut parts.extensions, move |status| {
        let session = kept.clone();
        async move { session.may_be_kept(!status.is_server_error()).await }
    });
    // Also where the client goes away, and the service goes on in a task of another layer.
    let _answered = Answered(session.clone());
    let response = service.call(Request::from_parts(parts, body)).await?;
    let finished = session.finish(!response.status().is_server_error()).await;
    let mut response = match &finished.failure {
        Some(error) => {
            tracing::debug!(target: "redkit::session", %error, "the session of a request failed");
            answer::failed(error).map(LayerBody::of_layer)
        }
        None => response.map(LayerBody::of_service),
    };
    rules.mark(response.headers_mut(), finished);
    Ok(response)
}

/// The end of a request: no id is made for its client after it.
struct Answered(CurrentSession);

impl Drop for Answered {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Rules {
    /// Whether a request may reach the service.
    fn check(&self, request: &Parts, presented: &Presented) -> Result<(), Rejected> {
        if !self.transport.is_sent_by_itself() {
            return Ok(());
        }
        if !self.check.allows(request) {
            self.metrics.cross_site.increment(1);
            return Err(Rejected::CrossSite);
        }
        let needs_token =
            self.needs_token && has_unsafe_method(request) && !self.check.exempts(request);
        if needs_token && !self.has_token(request, presented) {
            self.metrics.without_token.increment(1);
            return Err(Rejected::WithoutToken);
        }
        Ok(())
    }

    fn has_token(&self, request: &Parts, presented: &Presented) -> bool {
        let id = match presented {
            Presented::Id(id) => SessionId::parse(id.expose_secret()),
            Presented::Nothing | Presented::Unusable => None,
        };
        let mut tokens = request.headers.get_all("x-csrf-token").iter();
        let (Some(id), Some(token), None) = (id, tokens.next(), tokens.next()) else {
            return false;
        };
        let secrets = &self.store.inner().names.secrets;
        secrets.is_csrf_token(id.bytes(), token.as_bytes())
    }

    /// What an answer says of the session.
    fn mark(&self, headers: &mut HeaderMap, finished: Finished) {
        if finished.was_used {
            headers.append(VARY, HeaderValue::from(self.transport.varies_by()));
        }
        match finished.for_client {
            ForClient::Nothing => return,
            ForClient::Id(id, max_age) => self.transport.give(headers, &id, max_age),
            ForClient::TakeBack => self.transport.take_back(headers),
        }
        // What a cache kept it would give to others.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
