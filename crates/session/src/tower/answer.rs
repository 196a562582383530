//! What the layer itself answers.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use redkit_core::ErrorKind;

use super::body::SessionBody;
use crate::error::Error;

/// Why a request does not reach the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejected {
    CrossSite,
    WithoutToken,
}

pub(super) fn rejected<B>(reason: Rejected) -> Response<SessionBody<B>> {
    let detail = match reason {
        Rejected::CrossSite => "the request was made by a page of another origin",
        Rejected::WithoutToken => "the request has no valid X-CSRF-Token",
    };
    problem(StatusCode::FORBIDDEN, detail).map(SessionBody::of_layer)
}

/// The answer where the session failed.
pub(super) fn failed<B>(error: &Error) -> Response<SessionBody<B>> {
    of_error(error).map(SessionBody::of_layer)
}

/// The answer to a request that came to this.
pub(crate) fn of_error(error: &Error) -> Response<Bytes> {
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
    let mut response = problem(status, detail);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let second = HeaderValue::from_static("1");
        response.headers_mut().insert(RETRY_AFTER, second);
    }
    response
}

/// RFC 9457. No text in it needs to be escaped.
fn problem(status: StatusCode, detail: &str) -> Response<Bytes> {
    let text = format!(
        "{{\"type\":\"about:blank\",\"title\":\"{}\",\"status\":{},\"detail\":\"{detail}\"}}",
        status.canonical_reason().unwrap_or_default(),
        status.as_u16(),
    );
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
