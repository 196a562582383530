//! The decision, for axum's handlers.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use crate::decision::Decision;

/// A handler takes a [`Decision`], and the request did not pass the layer: a mistake in how the
/// routes are put together, answered with 500. Take an `Option<Decision>` where requests may be
/// skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request was not limited: add a RateLimitLayer, or take an Option<Decision>")]
pub struct NotLimited;

impl IntoResponse for NotLimited {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

/// The decision about the request, for its handler: how much is left, or the receipt for a refund.
impl<S: Sync> FromRequestParts<S> for Decision {
    type Rejection = NotLimited;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NotLimited> {
        parts.extensions.get().cloned().ok_or(NotLimited)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Decision {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get().cloned())
    }
}
