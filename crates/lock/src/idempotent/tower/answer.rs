//! What is answered to a request that the service does not see.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::body::IdempotencyBody;
use crate::error::Error;

/// The key, the scope or the body cannot be used.
pub(super) fn refused<B>(status: StatusCode, detail: &'static str) -> Response<IdempotencyBody<B>> {
    problem(status, detail, None)
}

/// The execution was not begun, or its result cannot be given.
pub(super) fn not_executed<B>(error: &Error) -> Response<IdempotencyBody<B>> {
    match error {
        Error::InFlight { retry_after } => problem(
            StatusCode::CONFLICT,
            "a request with this key is under way; try again later",
            Some(*retry_after),
        ),
        Error::OtherFingerprint => problem(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the key was used for another request; use a new key",
            None,
        ),
        Error::NotKept => problem(
            StatusCode::CONFLICT,
            "the request was carried out already, and its answer could not be kept",
            None,
        ),
        Error::Lost => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "the request took too long: it may have been carried out in part, to its end, or not at all",
            Some(Duration::from_secs(1)),
        ),
        error if error.is_retryable() => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "it cannot be found out just now whether the request was carried out already",
            Some(Duration::from_secs(1)),
        ),
        _ => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "it cannot be found out whether the request was carried out already",
            None,
        ),
    }
}

/// RFC 9457. No detail needs to be escaped.
fn problem<B>(
    status: StatusCode,
    detail: &'static str,
    retry_after: Option<Duration>,
) -> Response<IdempotencyBody<B>> {
    let text = format!(
        "{{\"type\":\"about:blank\",\"title\":\"{}\",\"status\":{},\"detail\":\"{detail}\"}}",
        status.canonical_reason().unwrap_or_default(),
        status.as_u16(),
    );
    let mut response = Response::new(IdempotencyBody::of_layer(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    if let Some(time) = retry_after {
        // Whole seconds, rounded up, never 0.
        let seconds = u64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
        response
            .headers_mut()
            .insert(RETRY_AFTER, seconds.max(1).into());
    }
    response
}
