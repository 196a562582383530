//! What the layer itself answers.

use std::time::Duration;

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, Response, StatusCode};
use redkit_core::ErrorKind;
use redkit_core::http_layer::{NotToBeKept, Problem};

use crate::error::Error;

/// Why a request does not reach the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejected {
    CrossSite,
    WithoutToken,
}

pub(super) fn rejected(reason: Rejected) -> Response<Bytes> {
    let detail = match reason {
        Rejected::CrossSite => "the request was made by a page of another origin",
        Rejected::WithoutToken => "the request has no valid X-CSRF-Token",
    };
    for_one_client(Problem::new(StatusCode::FORBIDDEN, detail))
}

/// The answer where the session failed.
pub(super) fn failed(error: &Error) -> Response<Bytes> {
    let (status, detail) = match error {
        Error::Gone => (
            StatusCode::CONFLICT,
            "the session has ended; nothing was changed",
        ),
        Error::Rotated => (
            StatusCode::CONFLICT,
            "the session has another id by now; nothing was changed",
        ),
        Error::Conflict { .. } => (
            StatusCode::CONFLICT,
            "another request has changed the session; nothing was changed",
        ),
        Error::TooManySessions { .. } => (
            StatusCode::CONFLICT,
            "there are too many sessions; end one of them",
        ),
        Error::Core(error) if error.is_retryable() || error.kind() != ErrorKind::Usage => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the session cannot be reached just now",
        ),
        _ => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "the session cannot be used",
        ),
    };
    let problem = Problem::new(status, detail);
    let mut response = for_one_client(match status {
        StatusCode::SERVICE_UNAVAILABLE => problem.retry_after(Duration::from_secs(1)),
        _ => problem,
    });
    // With its new id the client tries the same once more.
    response.extensions_mut().insert(NotToBeKept);
    response
}

/// No cache keeps it for others.
fn for_one_client(problem: Problem) -> Response<Bytes> {
    let mut response = problem.into_response();
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    response
}
