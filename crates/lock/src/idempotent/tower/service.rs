//! [`IdempotencyService`]: asks whether a request was carried out, then the service.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::request::Parts;
use http::{Request, Response, StatusCode, Uri};
use http_body::Body;
use redkit_core::http_layer::{
    BeforeKept, LayerBody, Layered, NotToBeKept, NotWhole, ResponseFuture, read_whole,
};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tower_service::Service;
use tracing::Instrument;

use super::answer;
use super::key::{self, Key};
use super::layer::{OnOutage, Rules};
use super::stored::StoredResponse;
use crate::error::Error;
use crate::idempotent::execution::{Begun, Execution};
use crate::idempotent::{Fingerprint, LONGEST};

/// A service behind an [`IdempotencyLayer`](crate::tower::IdempotencyLayer).
#[derive(Clone, Debug)]
pub struct IdempotencyService<S>(Layered<S, Rules>);

type Answer<B> = Response<LayerBody<B>>;

/// How long the body of a request may take to arrive.
const READ_BODY: Duration = Duration::from_secs(60);

impl<S> IdempotencyService<S> {
    pub(super) fn new(service: S, rules: Arc<Rules>) -> Self {
        Self(Layered::new(service, rules))
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
    type Future = ResponseFuture<ResBody, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let (service, rules) = self.0.take_ready();
        Box::pin(respond(service, rules, request))
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
        Plan::Refuse(status, detail) => return Ok(refused(status, detail)),
        Plan::Pass => {
            let response = service.call(Request::from_parts(head, body)).await?;
            return Ok(response.map(LayerBody::of_service));
        }
    };
    let deadline = Instant::now() + READ_BODY;
    let body = match read_whole(body, rules.max_body_bytes, Some(deadline)).await {
        Ok(body) => body,
        Err((why, _)) => {
            let (status, detail) = unreadable(why);
            return Ok(refused(status, detail));
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
        Ok(Begun::Ended(stored)) => Ok(stored.replay().map(|answer| answer.map(LayerBody::of_layer)).unwrap_or_else(|| {
            tracing::error!(target: "redkit::lock", execution = rules.execution.name(), "what is stored is no answer");
            not_executed(&Error::NotKept)
        })),
        Err(Error::Core(error)) if error.is_retryable() && rules.on_outage == OnOutage::Pass => {
            tracing::warn!(target: "redkit::lock", execution = rules.execution.name(), %error, "a request goes without protection");
            let response = service.call(request).await?;
            Ok(response.map(LayerBody::of_service))
        }
        Err(error) => {
            if let Error::Core(error) = &error {
                tracing::warn!(target: "redkit::lock", execution = rules.execution.name(), %error, "a request is turned away");
            }
            Ok(not_executed(&error))
        }
    }
}

fn refused<B: Body>(status: StatusCode, detail: &'static str) -> Answer<B> {
    answer::refused(status, detail).map(LayerBody::of_layer)
}

fn not_executed<B: Body>(error: &Error) -> Answer<B> {
    answer::not_executed(error).map(LayerBody::of_layer)
}

/// The answer to a request whose body was not read.
fn unreadable(why: NotWhole) -> (StatusCode, &'static str) {
    match why {
        NotWhole::TooLong | NotWhole::Trailers => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is too large for a request with a key, or has trailers",
        ),
        NotWhole::TooSlow => (
            StatusCode::REQUEST_TIMEOUT,
            "the body of the request took too long to arrive",
        ),
        NotWhole::Failed => (
            StatusCode::BAD_REQUEST,
            "the body of the request could not be read",
        ),
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
        let answering = async move {
            let run = run(service, request, execution, &*is_kept, cookies);
            let caught = AssertUnwindSafe(run).catch_unwind().await;
            // The client may have gone away.
            drop(answered.send(caught));
        };
        // What the service notes belongs to the request, as where it is called without a key.
        tasks.spawn(answering.in_current_span());
    }
    match answer.await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => resume_unwind(panic),
        // The layer was dropped.
        Err(_) => Ok(not_executed(&Error::Lost)),
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
    let before_kept = BeforeKept::of(request.extensions());
    let handled = async {
        let response = service.call(request).await?;
        let (status, extensions) = (response.status(), response.extensions());
        if !is_kept(status) || extensions.get::<NotToBeKept>().is_some() {
            return Ok(Handled::NotToBeKept(response.map(LayerBody::of_service)));
        }
        let (head, body) = response.into_parts();
        // Until the execution is lost.
        let handled = match read_whole(body, limit, None).await {
            Ok(body) => Handled::Whole(head, body),
            Err((NotWhole::Failed, _)) => return Ok(Handled::Broken),
            Err((_, body)) => Handled::TooLarge(Response::from_parts(head, body)),
        };
        // What outer layers have yet to do, such as to save the session, has to be done by then.
        Ok(match (before_kept.is_done(status).await, handled) {
            (false, Handled::Whole(head, body)) => {
                Handled::NotToBeKept(Response::from_parts(head, LayerBody::of_layer(body)))
            }
            (false, Handled::TooLarge(response)) => Handled::NotToBeKept(response),
            (_, handled) => handled,
        })
    };
    let handled = tokio::select! {
        biased;
        // First: a process that was stopped for long does no further step when it goes on.
        () = execution.lost() => return Ok(not_executed(&Error::Lost)),
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
                Err(Error::Lost) => not_executed(&Error::Lost),
                _ => Response::from_parts(head, LayerBody::of_layer(body)),
            }
        }
        Handled::TooLarge(response) => match execution.finish_without_result().await {
            Err(Error::Lost) => not_executed(&Error::Lost),
            _ => response,
        },
        Handled::NotToBeKept(response) => {
            execution.forget().await;
            response
        }
        // The service has done what was asked, and says so: it is not to do it again.
        Handled::Broken => match execution.finish_without_result().await {
            Err(Error::Lost) => not_executed(&Error::Lost),
            _ => {
                let detail =
                    "the request was carried out, and its answer could not be read to its end";
                refused(StatusCode::BAD_GATEWAY, detail)
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
