//! Requests that are not fulfilled: every reason with its status, told as a page or as a problem
//! document (RFC 9457), whichever the client reads.

use std::error::Error;
use std::time::Duration;

use axum::Json;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
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
    /// Whole seconds.
    retry_after: Option<u64>,
}

/// Marks an answer with a page of its own, such as a form that says what is wrong with what was entered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rendered;

impl Refusal {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            retry_after: None,
        }
    }

    /// Says when the same request may be fulfilled.
    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        // Rounded up, or a client that comes at the second comes too early.
        self.retry_after = Some(
            wait.as_millis()
                .div_ceil(1000)
                .max(1)
                .try_into()
                .unwrap_or(u64::MAX),
        );
        self
    }

    /// Redis is needed, and cannot be asked.
    pub(crate) fn unavailable(error: &(dyn Error + 'static), detail: &'static str) -> Self {
        tracing::error!(
            error,
            "a request needs Redis or the database, and got no answer"
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(Duration::from_secs(1))
    }

    /// The request is malformed.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// There is no such thing.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// What a person reads above the detail, which is not the name that programs know the status by.
    fn heading(&self) -> &'static str {
        match self.status {
            StatusCode::CONFLICT => "That did not work out",
            StatusCode::TOO_MANY_REQUESTS => "Please wait a little",
            StatusCode::SERVICE_UNAVAILABLE => "Not just now",
            _ => self.title(),
        }
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
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
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
    let has_page = response.extensions().get::<Rendered>().is_some();
    if has_page || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    let refusal = parts.extensions.remove::<Refusal>().unwrap_or_else(|| {
        let detail = match status {
            StatusCode::METHOD_NOT_ALLOWED => "This address does not take that method.",
            StatusCode::TOO_MANY_REQUESTS => {
                "Too many changes came from this address. Please wait as long as Retry-After says."
            }
            StatusCode::FORBIDDEN => "Another site's page has sent this, or you may not do it.",
            StatusCode::CONFLICT => {
                "Your session has ended, or went on under another id, before this was done. Please try again."
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                "Your session cannot be reached just now. Please try again in a moment."
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
            pages::refusal(status.as_u16(), refusal.heading(), &refusal.detail).into_response()
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
