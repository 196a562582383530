//! What stands before every route: the viewer, the origin of unsafe requests, and the headers of every answer.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::middleware::Next;
use axum::response::IntoResponse;
use serde_json::json;

use crate::dashboard::Inner;
use crate::dashboard::access::Viewer;

/// Nothing but the page's own files, and nothing around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The viewer of a request that came through [`check`].
pub(super) struct Seen(pub(super) Viewer);

impl<S: Send + Sync> FromRequestParts<S> for Seen {
    type Rejection = Response<Body>;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let viewer = parts.extensions.get::<Viewer>().cloned();
        viewer
            .map(Self)
            .ok_or_else(|| refusal(StatusCode::FORBIDDEN, "you may not look"))
    }
}

/// Lets a request through whose viewer may look, and whose origin, if it may change something, is this page.
pub(super) async fn check(
    State(inner): State<Arc<Inner>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    let mut response = match inner.access.viewer(&parts).await {
        Some(viewer) if viewer.rights.may_look() => {
            match parts.method.is_safe() || is_of_this_page(&parts.headers) {
                true => {
                    parts.extensions.insert(viewer);
                    next.run(Request::from_parts(parts, body)).await
                }
                false => refusal(StatusCode::FORBIDDEN, "the request comes from another site"),
            }
        }
        _ => refusal(StatusCode::FORBIDDEN, "you may not look"),
    };
    let headers = response.headers_mut();
    let mut put = |name, value| headers.insert(name, HeaderValue::from_static(value));
    put(header::CONTENT_SECURITY_POLICY, POLICY);
    put(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(header::REFERRER_POLICY, "no-referrer");
    put(header::X_FRAME_OPTIONS, "DENY");
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Browsers say where a request comes from: by `Sec-Fetch-Site`, older ones by `Origin` alone. A request that says
/// nothing is refused, and so is one whose body a form could send.
fn is_of_this_page(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_json = text("content-type").is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("application/json")
    });
    let is_same = match (text("sec-fetch-site"), text("origin"), text("host")) {
        (Some(site), ..) => site == "same-origin",
        (None, Some(origin), Some(host)) => origin
            .split_once("://")
            .is_some_and(|(_, of)| of.eq_ignore_ascii_case(host)),
        _ => false,
    };
    is_json && is_same
}

pub(super) fn refusal(status: StatusCode, why: &str) -> Response<Body> {
    (status, Json(json!({ "error": why }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_page_itself_may_change_something() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs.iter().map(|(name, value)| {
                (
                    header::HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            });
            pairs.collect::<HeaderMap>()
        };
        let json = ("content-type", "application/json; charset=utf-8");
        let (host, own) = (("host", "a.example:80"), ("origin", "http://a.example:80"));
        assert!(is_of_this_page(&of(&[
            json,
            ("sec-fetch-site", "same-origin")
        ])));
        assert!(is_of_this_page(&of(&[json, host, own])));
        for refused in [
            of(&[json]),
            of(&[json, host]),
            of(&[json, ("sec-fetch-site", "none")]),
            of(&[json, ("sec-fetch-site", "same-site")]),
            of(&[json, ("sec-fetch-site", "cross-site"), host, own]),
            of(&[json, host, ("origin", "http://b.example")]),
            of(&[json, host, ("origin", "null")]),
            of(&[("sec-fetch-site", "same-origin")]),
            of(&[
                ("content-type", "text/plain"),
                ("sec-fetch-site", "same-origin"),
            ]),
        ] {
            assert!(!is_of_this_page(&refused), "{refused:?}");
        }
    }
}
