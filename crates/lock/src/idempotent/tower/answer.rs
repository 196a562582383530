//! What is answered to a request that the service does not see.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use redkit_core::http_layer::Problem;

use crate::error::Error;

/// The key, the scope or the body cannot be used.
pub(super) fn refused(status: StatusCode, detail: &'static str) -> Response<Bytes> {
    Problem::new(status, detail).into_response()
}

/// The execution was not begun, or its result cannot be given.
pub(super) fn not_executed(error: &Error) -> Response<Bytes> {
    let (status, detail, retry_after) = match error {
        Error::InFlight { retry_after } => (
            StatusCode::CONFLICT,
            "a request with this key is under way; try again later",
            Some(*retry_after),
        ),
        Error::OtherFingerprint => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "the key was used for another request; use a new key",
            None,
        ),
        Error::NotKept => (
            StatusCode::CONFLICT,
            "the request was carried out already, and its answer could not be kept",
            None,
        ),
        Error::Lost => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the request took too long: it may have been carried out in part, to its end, or not at all",
            Some(Duration::from_secs(1)),
        ),
        error if error.is_retryable() => (
            StatusCode::SERVICE_UNAVAILABLE,
            "it cannot be found out just now whether the request was carried out already",
            Some(Duration::from_secs(1)),
        ),
        _ => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "it cannot be found out whether the request was carried out already",
            None,
        ),
    };
    let problem = Problem::new(status, detail);
    let problem = match retry_after {
        Some(time) => problem.retry_after(time),
        None => problem,
    };
    problem.into_response()
}
