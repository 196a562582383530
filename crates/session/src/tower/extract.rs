//! What axum's handlers get.

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use super::answer;
use super::current::CurrentSession;
use crate::error::Error;

/// A handler takes a [`CurrentSession`], and the request did not pass the layer: a mistake in how the
/// routes are put together, answered with 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request has no session: add a SessionLayer")]
pub struct NoSessionLayer;

impl IntoResponse for NoSessionLayer {
    fn into_response(self) -> Response {
        tracing::error!(target: "redkit::session", "{self}");
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

/// The session of the request, which is loaded when it is first asked for something.
impl<S: Sync> FromRequestParts<S> for CurrentSession {
    type Rejection = NoSessionLayer;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NoSessionLayer> {
        parts.extensions.get().cloned().ok_or(NoSessionLayer)
    }
}

/// As the layer answers: 503 when Redis cannot be asked, 409 when the session ended or changed meanwhile,
/// 500 for mistakes. It shows nothing of the session.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        tracing::debug!(target: "redkit::session", error = %self, "a handler's session failed");
        answer::failed(&self).map(Body::from)
    }
}
