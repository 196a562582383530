//! Answers to requests that do not reach the service.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use redkit_core::http_layer::Problem;

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

    /// The answer in this protocol; over gRPC the status is `grpc`.
    fn answer(self, problem: Problem, grpc: u16) -> Response<Bytes> {
        let kind = match self {
            Protocol::Http => return problem.into_response(),
            Protocol::Grpc(kind) => kind,
        };
        // All details are plain text without percent signs.
        let message = HeaderValue::from_str(problem.detail());
        // Headers that are trailers at the same time: nothing follows them.
        let mut headers = problem.into_headers();
        headers.insert(CONTENT_TYPE, kind);
        headers.insert("grpc-status", grpc.into());
        if let Ok(message) = message {
            headers.insert("grpc-message", message);
        }
        let mut response = Response::new(Bytes::new());
        *response.headers_mut() = headers;
        response
    }
}

/// The answer to a request that a limit denied.
pub(super) fn denied(decision: &Decision, protocol: Protocol, add: Headers) -> Response<Bytes> {
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
    let violated: Vec<_> = denying.map(|verdict| verdict.policy()).collect();
    let detail = format!(
        "rate limit reached; try again in {} s",
        retry_after(decision)
    );
    let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
        .kind(QUOTA_EXCEEDED)
        .member("violated-policies", violated)
        .headers(headers);
    protocol.answer(problem, 8)
}

/// The answer to a request about which nothing could be decided.
pub(super) fn undecided(error: &Error, protocol: Protocol) -> Response<Bytes> {
    match error {
        Error::Core(error) if error.is_retryable() => {
            let detail = "the rate limit cannot be checked just now";
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
            protocol.answer(problem.retry_after(Duration::from_secs(1)), 14)
        }
        Error::CostAboveLimit { .. } => {
            let detail = "the request costs more than the rate limit ever allows";
            protocol.answer(Problem::new(StatusCode::BAD_REQUEST, detail), 3)
        }
        _ => set_up_wrongly(protocol),
    }
}

/// The answer to a request that nobody can be charged for.
pub(super) fn without_key(protocol: Protocol) -> Response<Bytes> {
    let detail = "the request does not say whose rate limit it counts against";
    protocol.answer(Problem::new(StatusCode::BAD_REQUEST, detail), 3)
}

/// The answer where the service was put together so that no request can be decided.
pub(super) fn set_up_wrongly(protocol: Protocol) -> Response<Bytes> {
    let detail = "the rate limit cannot be checked";
    let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail);
    protocol.answer(problem, 13)
}
