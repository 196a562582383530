//! Answers to requests that do not reach the service.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::body::LimitBody;
use super::headers::{Headers, retry_after};
use crate::decision::Decision;
use crate::error::Error;

/// The draft's type of problem for a limit that was reached.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

const GRPC: &[u8] = b"application/grpc";

/// Which protocol a request speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    /// With the request's type of content, which is the answer's: `application/grpc`, `…+proto`,
    /// `application/grpc-web`.
    Grpc(HeaderValue),
}

impl Protocol {
    pub(super) fn of(request: &Parts) -> Self {
        let kind = request.headers.get(CONTENT_TYPE);
        match kind.and_then(|kind| Some((kind, kind.as_bytes().strip_prefix(GRPC)?))) {
            Some((kind, [] | [b'+' | b'-' | b';' | b' ', ..])) => Protocol::Grpc(kind.clone()),
            _ => Protocol::Http,
        }
    }
}

/// Why a request is turned away, in both protocols.
struct Answer {
    status: StatusCode,
    /// gRPC's number for it.
    grpc: u16,
    kind: &'static str,
    detail: String,
    /// Names of the policies that denied it.
    violated: Vec<String>,
    headers: HeaderMap,
}

/// The answer to a request that a limit denied.
pub(super) fn denied<B>(
    decision: &Decision,
    protocol: Protocol,
    add: Headers,
) -> Response<LimitBody<B>> {
    let mut headers = HeaderMap::new();
    add.add(decision, &mut headers);
    if matches!(protocol, Protocol::Grpc(_)) {
        let millis = decision.retry_after().as_micros().div_ceil(1000).max(1);
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        headers.insert("grpc-retry-pushback-ms", millis.into());
    }
    let denying = decision
        .verdicts()
        .iter()
        .filter(|verdict| !verdict.is_allowed());
    let answer = Answer {
        status: StatusCode::TOO_MANY_REQUESTS,
        grpc: 8,
        kind: QUOTA_EXCEEDED,
        detail: format!(
            "rate limit reached; try again in {} s",
            retry_after(decision)
        ),
        violated: denying.map(|verdict| verdict.policy().to_owned()).collect(),
        headers,
    };
    answer.response(protocol)
}

/// The answer to a request about which nothing could be decided.
pub(super) fn undecided<B>(error: &Error, protocol: Protocol) -> Response<LimitBody<B>> {
    let mut headers = HeaderMap::new();
    let (status, grpc, detail) = match error {
        Error::Core(error) if error.is_retryable() => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            let detail = "the rate limit cannot be checked just now";
            (StatusCode::SERVICE_UNAVAILABLE, 14, detail)
        }
        Error::CostAboveLimit { .. } => {
            let detail = "the request costs more than the rate limit ever allows";
            (StatusCode::BAD_REQUEST, 3, detail)
        }
        _ => {
            let detail = "the rate limit cannot be checked";
            (StatusCode::INTERNAL_SERVER_ERROR, 13, detail)
        }
    };
    let answer = Answer {
        status,
        grpc,
        kind: "about:blank",
        detail: detail.to_owned(),
        violated: Vec::new(),
        headers,
    };
    answer.response(protocol)
}

/// The answer to a request that nobody can be charged for.
pub(super) fn without_key<B>(protocol: Protocol) -> Response<LimitBody<B>> {
    let answer = Answer {
        status: StatusCode::BAD_REQUEST,
        grpc: 3,
        kind: "about:blank",
        detail: "the request does not say whose rate limit it counts against".to_owned(),
        violated: Vec::new(),
        headers: HeaderMap::new(),
    };
    answer.response(protocol)
}

/// The answer where the service was put together so that no request can have a key.
pub(super) fn set_up_wrongly<B>(protocol: Protocol) -> Response<LimitBody<B>> {
    let answer = Answer {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        grpc: 13,
        kind: "about:blank",
        detail: "the rate limit cannot be checked".to_owned(),
        violated: Vec::new(),
        headers: HeaderMap::new(),
    };
    answer.response(protocol)
}

impl Answer {
    fn response<B>(mut self, protocol: Protocol) -> Response<LimitBody<B>> {
        let text = match protocol {
            Protocol::Http => {
                let kind = HeaderValue::from_static("application/problem+json");
                self.headers.insert(CONTENT_TYPE, kind);
                Bytes::from(self.problem())
            }
            Protocol::Grpc(kind) => {
                // Headers that are trailers at the same time: nothing follows them.
                self.headers.insert(CONTENT_TYPE, kind);
                self.headers.insert("grpc-status", self.grpc.into());
                // All details are plain text without percent signs.
                if let Ok(message) = HeaderValue::from_str(&self.detail) {
                    self.headers.insert("grpc-message", message);
                }
                self.status = StatusCode::OK;
                Bytes::new()
            }
        };
        let mut response = Response::new(LimitBody::of_layer(text));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }

    /// RFC 9457. No text in it needs to be escaped: names hold letters, digits, `-`, `_` and `.`.
    fn problem(&self) -> String {
        let violated = match self.violated.as_slice() {
            [] => String::new(),
            names => format!(",\"violated-policies\":[\"{}\"]", names.join("\",\"")),
        };
        format!(
            "{{\"type\":\"{}\",\"title\":\"{}\",\"status\":{},\"detail\":\"{}\"{violated}}}",
            self.kind,
            self.status.canonical_reason().unwrap_or_default(),
            self.status.as_u16(),
            self.detail,
        )
    }
}
