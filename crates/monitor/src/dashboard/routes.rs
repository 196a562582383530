//! The routes: the page, its stream of updates, and what its buttons ask for. Each request is held to the viewer's
//! rights here, whatever the page shows.

mod guard;
mod requests;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{OriginalUri, Path, Request, State};
use axum::http::{Method, Response, StatusCode};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use self::guard::{Seen, refusal};
use super::{Inner, assets, servers};
use crate::statistics::Statistics;

/// After this time a page connects anew, so that a viewer who has lost the right to look sees no more.
const LONGEST_STREAM: Duration = Duration::from_secs(300);
/// The largest body of a request.
const MOST_BYTES: usize = 16 * 1024;

pub(super) fn router(inner: &Arc<Inner>) -> Router {
    let api = Router::new()
        .route("/me", get(me))
        .route("/logs", get(logs))
        .route("/audit", get(audit))
        .route("/analysis", get(analysis))
        .route("/analysis/begin", post(requests::begin_analysis))
        .route("/analysis/cancel", post(requests::cancel_analysis))
        .route("/act", post(requests::act))
        .route("/list", post(requests::list))
        .route("/objects", post(requests::objects));
    Router::new()
        .route("/", get(index))
        .route("/assets/{name}", get(asset))
        .route("/events", get(events))
        .nest("/api", api)
        .fallback(fallback)
        .layer(axum::extract::DefaultBodyLimit::max(MOST_BYTES))
        .layer(middleware::from_fn_with_state(
            Arc::clone(inner),
            guard::check,
        ))
        .with_state(Arc::clone(inner))
}

/// The page. Its links are relative to where it was found: `/admin` or `/admin/`.
async fn index(OriginalUri(uri): OriginalUri) -> Response<Body> {
    let last = uri.path().rsplit('/').next().unwrap_or_default();
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~%".contains(&b);
    match last.bytes().all(is_plain) {
        true => assets::index(last),
        false => refusal(StatusCode::NOT_FOUND, "there is nothing here"),
    }
}

/// A router that is mounted as a service is asked for the empty path.
async fn fallback(uri: OriginalUri, request: Request) -> Response<Body> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "" | "/") => index(uri).await,
        _ => refusal(StatusCode::NOT_FOUND, "there is nothing here"),
    }
}

async fn asset(Path(name): Path<String>, request: Request) -> Response<Body> {
    let found = assets::asset(&name, request.headers());
    found.unwrap_or_else(|| refusal(StatusCode::NOT_FOUND, "there is no such file"))
}

async fn me(State(inner): State<Arc<Inner>>, Seen(viewer): Seen) -> Json<Value> {
    Json(json!({
        "name": viewer.name,
        "rights": viewer.rights.to_json(),
        "instance": inner.instance.id,
        "isObserver": inner.instance.is_observer,
        "canOrder": inner.instance.seal.is_some(),
        "namespace": inner.instance.client.namespace(),
    }))
}

async fn logs(State(inner): State<Arc<Inner>>, Seen(viewer): Seen) -> Response<Body> {
    let statistics = Statistics::new(&inner.instance.client);
    let payloads = viewer.rights.may_see_payloads();
    match servers::logs(&statistics, payloads, &inner.instance.redaction).await {
        Ok(logs) => Json(logs).into_response(),
        Err(error) => refusal(StatusCode::BAD_GATEWAY, &error.to_string()),
    }
}

async fn audit(State(inner): State<Arc<Inner>>) -> Response<Body> {
    match inner.audit.latest().await {
        Ok(entries) => Json(entries).into_response(),
        Err(error) => refusal(StatusCode::BAD_GATEWAY, &error.to_string()),
    }
}

async fn analysis(State(inner): State<Arc<Inner>>, Seen(viewer): Seen) -> Response<Body> {
    match viewer.rights.may_analyze() {
        true => Json(inner.keyspace.read().await).into_response(),
        false => refusal(
            StatusCode::FORBIDDEN,
            "you have no right to analyze the key space",
        ),
    }
}

/// First what the charts show so far, and then everything whenever it changes.
async fn events(State(inner): State<Arc<Inner>>) -> Response<Body> {
    if inner.ended.is_cancelled() {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "this process is ending");
    }
    let Some(page) = inner.collector.open() else {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "too many pages are open");
    };
    let end = Instant::now() + LONGEST_STREAM;
    let history = Some(page.history);
    let events = stream::unfold(
        (page.shown, history, inner.ended.clone()),
        move |(mut shown, history, ended)| async move {
            if let Some(history) = history {
                let event = Event::default().event("history").data(history.to_string());
                return Some((Ok::<_, Infallible>(event), (shown, None, ended)));
            }
            loop {
                tokio::select! {
                    biased;
                    () = ended.cancelled() => return None,
                    changed = timeout_at(end, shown.changed()) => changed.ok()?.ok()?,
                }
                let text = shown.borrow_and_update().0.clone();
                if let Some(text) = text {
                    let event = Event::default().event("state").data(text);
                    return Some((Ok(event), (shown, None, ended)));
                }
            }
        },
    );
    let alive = KeepAlive::new().interval(Duration::from_secs(15));
    Sse::new(events).keep_alive(alive).into_response()
}
