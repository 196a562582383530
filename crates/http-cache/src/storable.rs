//! Whether a response may be stored for everybody (RFC 9111, section 3).

use std::time::{Duration, SystemTime};

use http::header::{CONTENT_TYPE, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use redkit_core::http_layer::NotWhole;

use crate::directives::Directives;
use crate::freshness::{Lifetime, is_explicit};
use crate::key::Audience;

/// Why a response was not stored, or a request not answered from the cache: the `detail` of
/// `Cache-Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reason {
    #[error("method")]
    Method,
    #[error("status")]
    Status,
    #[error("no-store")]
    NoStore,
    #[error("private")]
    Private,
    #[error("no-cache")]
    NoCache,
    #[error("authorization")]
    Authorization,
    #[error("set-cookie")]
    SetCookie,
    #[error("event-stream")]
    EventStream,
    #[error("no-freshness")]
    NoFreshness,
    #[error("not-fresh")]
    NotFresh,
    #[error("vary")]
    Vary,
    #[error("vary-secret")]
    VarySecret,
    #[error("vary-too-long")]
    VaryTooLong,
    #[error("vary-full")]
    VaryFull,
    #[error("tags")]
    Tags,
    #[error("too-long")]
    TooLong,
    #[error("trailers")]
    Trailers,
    #[error("body-failed")]
    BodyFailed,
    #[error("too-slow")]
    TooSlow,
    #[error("range")]
    Range,
    #[error("precondition")]
    Precondition,
    #[error("upgrade")]
    Upgrade,
    #[error("request-body")]
    RequestBody,
    #[error("no-key")]
    NoKey,
    #[error("skipped")]
    Skipped,
    #[error("unreachable")]
    Unreachable,
    #[error("failed")]
    Failed,
    #[error("hit-for-miss")]
    HitForMiss,
}

impl From<NotWhole> for Reason {
    fn from(why: NotWhole) -> Self {
        match why {
            NotWhole::TooLong => Self::TooLong,
            NotWhole::TooSlow => Self::TooSlow,
            NotWhole::Trailers => Self::Trailers,
            NotWhole::Failed => Self::BodyFailed,
        }
    }
}

/// For how long the response may be kept; or why not at all.
pub(crate) fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    audience: Audience,
    default_ttl: Option<Duration>,
    now: SystemTime,
) -> Result<Lifetime, Reason> {
    let directives = Directives::of_response(headers);
    let is_explicit = is_explicit(&directives, headers);
    match status {
        StatusCode::OK => {}
        status if is_explicit && BY_DEFAULT.contains(&status.as_u16()) => {}
        _ => return Err(Reason::Status),
    }
    if directives.no_store {
        return Err(Reason::NoStore);
    }
    if directives.private {
        return Err(Reason::Private);
    }
    if directives.no_cache {
        // It could be kept to be validated each time; handlers are not asked to validate.
        return Err(Reason::NoCache);
    }
    if headers.contains_key(SET_COOKIE) {
        return Err(Reason::SetCookie);
    }
    if audience == Audience::Authorized && !directives.allow_sharing_what_is_authorized() {
        return Err(Reason::Authorization);
    }
    if is_event_stream(headers) {
        return Err(Reason::EventStream);
    }
    // A client that sent credentials of any kind may have got an answer of its own: the handler has to say
    // that it may be shared.
    let default_ttl = default_ttl.filter(|_| audience == Audience::Anyone);
    let lifetime =
        Lifetime::of(&directives, headers, default_ttl, now).ok_or(Reason::NoFreshness)?;
    match lifetime.is_over() {
        true => Err(Reason::NotFresh),
        false => Ok(lifetime),
    }
}

/// A stream without an end would be waited for in vain.
fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes();
        kind.len() >= EVENT_STREAM.len()
            && kind[..EVENT_STREAM.len()].eq_ignore_ascii_case(EVENT_STREAM)
    })
}

const EVENT_STREAM: &[u8] = b"text/event-stream";

/// Besides 200, what RFC 9110 (section 15.1) calls heuristically cacheable, but for 206.
const BY_DEFAULT: [u16; 10] = [203, 204, 300, 301, 308, 404, 405, 410, 414, 501];

#[cfg(test)]
mod tests {
    use super::*;

    fn why(status: u16, lines: &[(&'static str, &str)], audience: Audience) -> Option<Reason> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        let default = Some(Duration::from_secs(60));
        judge(status, &headers, audience, default, SystemTime::now()).err()
    }

    #[test]
    fn statuses() {
        let fresh = [("cache-control", "max-age=60")];
        let of = |status, lines: &[_]| why(status, lines, Audience::Anyone);
        assert_eq!(of(200, &[]), None);
        for status in BY_DEFAULT {
            assert_eq!(of(status, &fresh), None, "{status}");
            assert_eq!(
                of(status, &[]),
                Some(Reason::Status),
                "{status} without explicit freshness"
            );
        }
        for status in [100, 206, 302, 304, 307, 400, 401, 403, 429, 500, 503] {
            assert_eq!(of(status, &fresh), Some(Reason::Status), "{status}");
        }
    }

    #[test]
    fn what_is_somebodys_own_is_not_shared() {
        let of = |line: &str, audience| why(200, &[("cache-control", line)], audience);
        use Audience::{Anyone, Authorized, WithCookies};
        assert_eq!(of("max-age=9, private", Anyone), Some(Reason::Private));
        assert_eq!(
            of("max-age=9, Private=\"x\"", Anyone),
            Some(Reason::Private)
        );
        assert_eq!(of("max-age=9, no-store", Anyone), Some(Reason::NoStore));
        assert_eq!(of("max-age=9, no-cache", Anyone), Some(Reason::NoCache));
        assert_eq!(of("max-age=9", Authorized), Some(Reason::Authorization));
        assert_eq!(of("max-age=9, public", Authorized), None);
        assert_eq!(of("s-maxage=9", Authorized), None);
        assert_eq!(of("max-age=9, must-revalidate", Authorized), None);
        assert_eq!(of("public", Authorized), Some(Reason::NoFreshness));
        assert_eq!(of("max-age=9", WithCookies), None);
        assert_eq!(of("public", WithCookies), Some(Reason::NoFreshness));
        assert_eq!(of("max-age=0", Anyone), Some(Reason::NotFresh));
        assert_eq!(of("max-age=0, stale-while-revalidate=9", Anyone), None);
        let cookie = [
            ("cache-control", "public, max-age=9"),
            ("set-cookie", "id=1"),
        ];
        assert_eq!(why(200, &cookie, Anyone), Some(Reason::SetCookie));
        let stream = [("content-type", "Text/Event-Stream; charset=utf-8")];
        assert_eq!(why(200, &stream, Anyone), Some(Reason::EventStream));
    }
}
