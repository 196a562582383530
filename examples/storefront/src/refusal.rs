//! Requests that are not fulfilled: every reason with its status, told as a page or as a problem
//! document (RFC 9457), whichever the client reads.

use axum::Json;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::format::Format;
use crate::pages;

/// Why a request is not fulfilled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: StatusCode,
    detail: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
        }
    }

    /// The request is malformed.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// There is no such thing.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    fn title(&self) -> &'static str {
        self.status.canonical_reason().unwrap_or("Error")
    }
}

/// A bare response that carries the refusal along: [`render`], which knows what the client reads,
/// gives it its body.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Middleware: gives every refused request its page or problem document, also those that were
/// refused by the router.
pub(crate) async fn render(request: Request, next: Next) -> Response {
    let format = Format::of(request.headers());
    let response = next.run(request).await;
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    let refusal = parts.extensions.remove::<Refusal>().unwrap_or_else(|| {
        let detail = match status {
            StatusCode::METHOD_NOT_ALLOWED => "This address does not take that method.",
            StatusCode::TOO_MANY_REQUESTS => {
                "Too many changes came from this address. Please wait as long as Retry-After says."
            }
            _ => "The request could not be fulfilled.",
        };
        Refusal::new(status, detail)
    });
    // What the router said besides its body stays: a 405 must name the methods that are allowed.
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.remove(CONTENT_TYPE);
    let mut rendered = match format {
        Format::Html => {
            pages::refusal(status.as_u16(), refusal.title(), &refusal.detail).into_response()
        }
        Format::Json => problem(&refusal),
    };
    *rendered.status_mut() = status;
    rendered.headers_mut().extend(parts.headers);
    rendered
}

fn problem(refusal: &Refusal) -> Response {
    #[derive(Serialize)]
    struct Problem<'a> {
        status: u16,
        title: &'a str,
        detail: &'a str,
    }
    let body = Json(Problem {
        status: refusal.status.as_u16(),
        title: refusal.title(),
        detail: &refusal.detail,
    });
    let kind = HeaderValue::from_static("application/problem+json");
    ([(CONTENT_TYPE, kind)], body).into_response()
}
