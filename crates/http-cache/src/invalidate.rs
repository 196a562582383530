//! The pages that a request which changes something makes out of date (RFC 9111, section 4.4).

use futures_util::future::join_all;
use http::header::{CONTENT_LOCATION, LOCATION};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};

use crate::key::{Audience, same_origin};
use crate::rules::Rules;

/// Whether a request with this method may change something: all that are not known not to.
pub(crate) fn is_unsafe(method: &Method) -> bool {
    ![Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method)
}

/// Removes what is stored of the target, and of where `Location` and `Content-Location` point on the
/// same origin. All variants go with their list.
pub(crate) async fn after(rules: &Rules, request: &Parts, status: StatusCode, answer: &HeaderMap) {
    if !(status.is_success() || status.is_redirection()) {
        return;
    }
    let mut targets = Vec::new();
    targets.extend(rules.target(request));
    for name in [LOCATION, CONTENT_LOCATION] {
        let Some(reference) = answer.get(name) else {
            continue;
        };
        if let Some(uri) = same_origin(request, reference.as_bytes(), rules.authority.as_ref()) {
            targets.extend(rules.target_at(request, uri));
        }
    }
    targets.sort_unstable();
    targets.dedup();
    let keys: Vec<_> = targets
        .iter()
        .flat_map(|target| Audience::ALL.map(|audience| audience.primary_key(target)))
        .collect();
    let removals = keys.iter().map(|key| rules.cache.invalidate(&key[..]));
    for removed in join_all(removals).await {
        match removed {
            Ok(true) => rules.metrics.invalidations.increment(1),
            Ok(false) => {}
            Err(error) => {
                rules.metrics.failed_invalidations.increment(1);
                tracing::warn!(target: "redkit::http_cache", cache = %rules.cache.name(), %error, "a response stays that is out of date");
            }
        }
    }
}
