//! [`IdempotencyService`]: asks whether a request was carried out, then the service.

use std::fmt;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::request::Parts;
use http::{Request, Response, StatusCode, Uri};
use http_body::Body;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tower_service::Service;

use super::answer;
use super::body::{self, IdempotencyBody, Read};
use super::key::{self, Key};
use super::layer::{OnOutage, Rules};
use super::stored::StoredResponse;
use crate::error::Error;
use crate::idempotent::execution::{Begun, Execution};
use crate::idempotent::{Fingerprint, LONGEST};

/// A service behind an [`IdempotencyLayer`](crate::tower::IdempotencyLayer).
pub struct IdempotencyService<S> {
    inner: S,
    rules: Arc<Rules>,
}

type Answer<B> = Response<IdempotencyBody<B>>;

/// How long the body of a request may take to arrive.
const READ_BODY: Duration = Duration::from_secs(60);

impl<S> IdempotencyService<S> {
    pub(super) fn new(inner: S, rules: Arc<Rules>) -> Self {
        Self { inner, rules }
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for IdempotencyService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    ReqBody: Body<Data = Bytes, Error: Send> + From<Bytes> + Send + 'static,
    ResBody: Body<Data = Bytes, Error: Send> + Send + 'static,
{
    type Response = Answer<ResBody>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // Whether the service is needed depends on the request, so its readiness is ours. A request that
        // is answered without it gives it back.
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        // The service that was polled ready goes with the request, and a clone, which is not ready,
        // takes its place: see `tower::Service`, "be careful when cloning inner services".
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        Box::pin(respond(ready, Arc::clone(&self.rules), request))
    }
}

/// What is to be done with a request, by its head.
enum Plan {
    Pass,
    Refuse(StatusCode, &'static str),
    Once { scope: String, key: String },
}

fn plan(rules: &Rules, head: &Parts) -> Plan {
    if !rules.methods.contains(&head.method) {
        return Plan::Pass;
    }
    let bad = |detail| Plan::Refuse(StatusCode::BAD_REQUEST, detail);
    let key = match key::of(&head.headers) {
        Key::Given(key) => key,
        Key::Absent if rules.required => {
            return bad("the request needs a header `Idempotency-Key`");
        }
        Key::Absent => return Plan::Pass,
        Key::Wrong(detail) => return bad(detail),
    };
    match (rules.scope)(head) {
        Some(scope) if scope.len() > LONGEST => bad("the caller's name is longer than 255 bytes"),
        Some(scope) if !scope.is_empty() => Plan::Once { scope, key },
        _ => bad("the request does not say whose key it has"),
    }
}

async fn respond<S, ReqBody, ResBody>(
    mut service: S,
    rules: Arc<Rules>,
    request: Request<ReqBody>,
) -> Result<Answer<ResBody>, S::Error>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    ReqBody: Body<Data = Bytes> + From<Bytes> + Send + 'static,
    ResBody: Body<Data = Bytes, Error: Send> + Send + 'static,
{
    let (head, body) = request.into_parts();
    let (scope, key) = match plan(&rules, &head) {
        Plan::Once { scope, key } => (scope, key),
        Plan::Refuse(status, detail) => return Ok(answer::refused(status, detail)),
        Plan::Pass => {
            let response = service.call(Request::from_parts(head, body)).await?;
            return Ok(response.map(IdempotencyBody::of_service));
        }
    };
    let read = timeout(READ_BODY, body::read(body, rules.max_body_bytes)).await;
    let body = match read {
        Ok(Read::Whole(body)) => body,
        Ok(Read::NotWhole(_)) => {
            let detail = "the body is too large for a request with a key, or has trailers";
            return Ok(answer::refused(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        Ok(Read::Failed(_)) => {
            let detail = "the body of the request could not be read";
            return Ok(answer::refused(StatusCode::BAD_REQUEST, detail));
        }
        Err(_) => {
            let detail = "the body of the request took too long to arrive";
            return Ok(answer::refused(StatusCode::REQUEST_TIMEOUT, detail));
        }
    };
    let fingerprint = fingerprint(&head, &body);
    let request = Request::from_parts(head, ReqBody::from(body));
    let begun = rules
        .execution
        .begin::<StoredResponse>(&scope, &key, &fingerprint)
        .await;
    match begun {
        Ok(Begun::Execution(execution)) => in_a_task(service, rules, request, execution).await,
        Ok(Begun::Ended(stored)) => Ok(stored.replay().unwrap_or_else(|| {
            tracing::error!(target: "redkit::lock", execution = rules.execution.name(), "what is stored is no answer");
            answer::not_executed(&Error::NotKept)
        })),
        Err(Error::Core(error)) if error.is_retryable() && rules.on_outage == OnOutage::Pass => {
            tracing::warn!(target: "redkit::lock", execution = rules.execution.name(), %error, "a request goes without protection");
            let response = service.call(request).await?;
            Ok(response.map(IdempotencyBody::of_service))
        }
        Err(error) => {
            if let Error::Core(error) = &error {
                tracing::warn!(target: "redkit::lock", execution = rules.execution.name(), %error, "a request is turned away");
            }
            Ok(answer::not_executed(&error))
        }
    }
}

fn fingerprint(head: &Parts, body: &Bytes) -> Fingerprint {
    let path = requested_uri(head)
        .path_and_query()
        .map_or("", |path_and_query| path_and_query.as_str());
    Fingerprint::of([head.method.as_str().as_bytes(), path.as_bytes(), body])
}

/// What the client asked for. Nested routers of axum cut their own part off the URI.
fn requested_uri(head: &Parts) -> &Uri {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::OriginalUri(uri)) = head.extensions.get() {
        return uri;
    }
    &head.uri
}

/// Runs the service in a task of the layer: a client that goes away does not end it.
async fn in_a_task<S, ReqBody, ResBody>(
    service: S,
    rules: Arc<Rules>,
    request: Request<ReqBody>,
    execution: Execution,
) -> Result<Answer<ResBody>, S::Error>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    ReqBody: Send + 'static,
    ResBody: Body<Data = Bytes, Error: Send> + Send + 'static,
{
    let (answered, answer) = oneshot::channel();
    {
        let mut tasks = rules.tasks.lock();
        while tasks.try_join_next().is_some() {}
        let (is_kept, cookies) = (Arc::clone(&rules.is_kept), rules.replays_cookies);
        tasks.spawn(async move {
            let run = run(service, request, execution, &*is_kept, cookies);
            let caught = AssertUnwindSafe(run).catch_unwind().await;
            // The client may have gone away.
            drop(answered.send(caught));
        });
    }
    match answer.await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => resume_unwind(panic),
        // The layer was dropped.
        Err(_) => Ok(answer::not_executed(&Error::Lost)),
    }
}

async fn run<S, ReqBody, ResBody>(
    mut service: S,
    request: Request<ReqBody>,
    execution: Execution,
    is_kept: &(dyn Fn(StatusCode) -> bool + Send + Sync),
    keeps_cookies: bool,
) -> Result<Answer<ResBody>, S::Error>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Body<Data = Bytes>,
{
    let limit = execution.max_result_bytes();
    let handled = async {
        let response = service.call(request).await?;
        if !is_kept(response.status()) {
            return Ok(Handled::NotToBeKept(
                response.map(IdempotencyBody::of_service),
            ));
        }
        let (head, body) = response.into_parts();
        Ok(match body::read(body, limit).await {
            Read::Whole(body) => Handled::Whole(head, body),
            Read::NotWhole(body) => Handled::TooLarge(Response::from_parts(head, body)),
            Read::Failed(_) => Handled::Broken,
        })
    };
    let handled = tokio::select! {
        biased;
        // First: a process that was stopped for long does no further step when it goes on.
        () = execution.lost() => return Ok(answer::not_executed(&Error::Lost)),
        handled = handled => handled,
    };
    let handled = match handled {
        Ok(handled) => handled,
        Err(error) => {
            // The next request is carried out.
            execution.forget().await;
            return Err(error);
        }
    };
    Ok(match handled {
        Handled::Whole(head, body) => {
            let stored = StoredResponse::new(&head, &body, keeps_cookies);
            match execution.finish(&stored).await {
                Err(Error::Lost) => answer::not_executed(&Error::Lost),
                _ => Response::from_parts(head, IdempotencyBody::of_layer(body)),
            }
        }
        Handled::TooLarge(response) => match execution.finish_without_result().await {
            Err(Error::Lost) => answer::not_executed(&Error::Lost),
            _ => response,
        },
        Handled::NotToBeKept(response) => {
            execution.forget().await;
            response
        }
        // The service has done what was asked, and says so: it is not to do it again.
        Handled::Broken => match execution.finish_without_result().await {
            Err(Error::Lost) => answer::not_executed(&Error::Lost),
            _ => {
                let detail =
                    "the request was carried out, and its answer could not be read to its end";
                answer::refused(StatusCode::BAD_GATEWAY, detail)
            }
        },
    })
}

/// What the service has answered.
enum Handled<B: Body> {
    Whole(http::response::Parts, Bytes),
    TooLarge(Answer<B>),
    NotToBeKept(Answer<B>),
    /// Its body broke.
    Broken,
}

/// A clone is not ready until it is polled, whatever the original is.
impl<S: Clone> Clone for IdempotencyService<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            rules: Arc::clone(&self.rules),
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for IdempotencyService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
