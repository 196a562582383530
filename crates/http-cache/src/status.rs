//! [`CacheStatus`]: how a request was handled, for its client: `Cache-Status` (RFC 9211).

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::storable::Reason;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// How a response came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheStatus {
    /// From the cache; the seconds for which it stays fresh.
    Hit(i64),
    /// The same, because the handler failed, or was slow.
    HitInNeed(i64),
    Forwarded {
        why: Forward,
        /// Another request's answer.
        collapsed: bool,
        detail: Option<Reason>,
    },
    /// It may only come from the cache, and is not there.
    NotCached,
}

/// Why a handler was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forward {
    Bypass,
    Method,
    Miss,
    VaryMiss,
    Stale,
    Request,
}

impl CacheStatus {
    /// The handler was asked by this request, and its answer not kept.
    pub(crate) fn passed(why: Forward, detail: Reason) -> Self {
        Self::Forwarded {
            why,
            collapsed: false,
            detail: Some(detail),
        }
    }

    /// The handler's answer to this very request.
    pub(crate) fn is_own_answer(self) -> bool {
        matches!(
            self,
            Self::Forwarded {
                collapsed: false,
                ..
            }
        )
    }

    /// Adds a member, behind those of caches that are nearer to the handler.
    pub(crate) fn add(self, cache: &str, headers: &mut HeaderMap) {
        // Names hold letters, digits, `-`, `_` and `.`; a token begins with a letter.
        let mut text = match cache.starts_with(|first: char| first.is_ascii_alphabetic()) {
            true => cache.to_owned(),
            false => format!("\"{cache}\""),
        };
        // Writing into a text cannot fail.
        let _ = match self {
            Self::Hit(left) => write!(text, "; hit; ttl={left}"),
            Self::HitInNeed(left) => write!(text, "; hit; ttl={left}; detail=handler-failed"),
            Self::NotCached => write!(text, "; detail=only-if-cached"),
            Self::Forwarded {
                why,
                collapsed,
                detail,
            } => {
                let why = match why {
                    Forward::Bypass => "bypass",
                    Forward::Method => "method",
                    Forward::Miss => "uri-miss",
                    Forward::VaryMiss => "vary-miss",
                    Forward::Stale => "stale",
                    Forward::Request => "request",
                };
                let collapsed = if collapsed { "; collapsed" } else { "" };
                match detail {
                    Some(detail) => write!(text, "; fwd={why}{collapsed}; detail={detail}"),
                    None => write!(text, "; fwd={why}{collapsed}"),
                }
            }
        };
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.append(CACHE_STATUS, value);
        }
    }
}
