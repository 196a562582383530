//! [`Problem`]: the answer of a layer in place of the service's.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;

/// An answer of `application/problem+json` (RFC 9457), which tells the client why its request did not get
/// to the service.
#[derive(Debug, Clone)]
#[must_use = "it is an answer only with `into_response`"]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: Cow<'static, str>,
    members: BTreeMap<&'static str, serde_json::Value>,
    headers: HeaderMap,
}

impl Problem {
    /// A problem of no further type, with the reason in words.
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            kind: "about:blank",
            detail: detail.into(),
            members: BTreeMap::new(),
            headers: HeaderMap::new(),
        }
    }

    /// The URI of its type.
    pub fn kind(mut self, uri: &'static str) -> Self {
        self.kind = uri;
        self
    }

    /// A member besides those that every problem has.
    pub fn member(mut self, name: &'static str, value: impl Into<serde_json::Value>) -> Self {
        self.members.insert(name, value.into());
        self
    }

    /// `Retry-After`: whole seconds, rounded up, and never 0.
    pub fn retry_after(mut self, time: Duration) -> Self {
        let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        self.headers.insert(RETRY_AFTER, seconds.max(1).into());
        self
    }

    /// More headers of the answer.
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }

    /// The reason in words.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The answer's headers, but for its type of content: for another form of the same answer.
    pub fn into_headers(self) -> HeaderMap {
        self.headers
    }

    /// The answer.
    pub fn into_response(self) -> Response<Bytes> {
        let document = Document {
            kind: self.kind,
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: &self.detail,
            members: &self.members,
        };
        // Texts and values of JSON can always be written; an answer without a body says the status.
        let mut response = Response::new(serde_json::to_vec(&document).unwrap_or_default().into());
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}

#[derive(Serialize)]
struct Document<'p> {
    #[serde(rename = "type")]
    kind: &'p str,
    title: &'p str,
    status: u16,
    detail: &'p str,
    #[serde(flatten)]
    members: &'p BTreeMap<&'static str, serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_a_document_with_its_status_and_headers() {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "say \"later\"")
            .retry_after(Duration::from_millis(1001))
            .member("names", vec!["a", "b"]);
        let response = problem.into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        let text = r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"say \"later\"","names":["a","b"]}"#;
        assert_eq!(response.body(), text);
        let at_once = Problem::new(StatusCode::CONFLICT, "").retry_after(Duration::ZERO);
        assert_eq!(at_once.into_response().headers()["retry-after"], "1");
    }
}
