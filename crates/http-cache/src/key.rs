//! Under which key a response is kept.

use http::header::{AUTHORIZATION, COOKIE, HOST};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Uri};
use redkit_core::random::random;

/// The requests that a stored response serves. They do not share: what one of them gets does not decide whether
/// others are served from the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    Anyone,
    /// They sent a cookie. Told apart only where responses that do not say how long they are fresh
    /// are kept as well.
    WithCookies,
    /// They sent `Authorization`.
    Authorized,
}

impl Audience {
    pub(crate) const ALL: [Self; 3] = [Self::Anyone, Self::WithCookies, Self::Authorized];

    pub(crate) fn of(headers: &HeaderMap, are_cookies_told_apart: bool) -> Self {
        if headers.contains_key(AUTHORIZATION) {
            return Self::Authorized;
        }
        match are_cookies_told_apart && headers.contains_key(COOKIE) {
            true => Self::WithCookies,
            false => Self::Anyone,
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Anyone => 'p',
            Self::WithCookies => 'c',
            Self::Authorized => 'a',
        }
    }

    /// The first thing that is looked up. The letter in front keeps it apart from variants, whatever
    /// the rest is.
    pub(crate) fn primary_key(self, target: &[u8]) -> Vec<u8> {
        [format!("{}:", self.letter()).as_bytes(), target].concat()
    }
}

/// Another for every list of fields: a variant of another list is out of date.
pub(crate) fn random_id() -> String {
    format!("{:x}", random::<u64>())
}

/// The key of a variant. The list that names the fields is none of it: however often that is made anew, there are no
/// more variants than places. What lies there names its list.
pub(crate) fn variant_key(audience: Audience, slot: u64, target: &[u8]) -> Vec<u8> {
    [
        format!("v:{}:{slot}:", audience.letter()).as_bytes(),
        target,
    ]
    .concat()
}

/// The resource that a request names, unless the program has a function of its own: the authority, the path
/// and the query. `None` when the request does not say plainly.
pub(crate) fn target(request: &Parts, authority: Option<&Authority>) -> Option<Vec<u8>> {
    let uri = uri(request);
    let authority = match authority {
        Some(authority) => authority.as_str().to_ascii_lowercase(),
        None => self::authority(uri, &request.headers)?,
    };
    Some([authority.as_bytes(), path(uri).as_bytes()].concat())
}

/// The target in a key of another URI, which may be relative; `None` when that is
/// of another origin.
pub(crate) fn same_origin(
    request: &Parts,
    reference: &[u8],
    configured: Option<&Authority>,
) -> Option<Uri> {
    let reference: Uri = std::str::from_utf8(reference).ok()?.parse().ok()?;
    let base = uri(request);
    if let Some(authority) = reference.authority() {
        let is = |ours: &str| authority.as_str().eq_ignore_ascii_case(ours);
        // Behind a proxy the request may have one name, and the answer the configured one.
        let is_ours = configured.is_some_and(|ours| is(ours.as_str()))
            || self::authority(base, &request.headers).is_some_and(|ours| is(&ours));
        return is_ours.then_some(reference);
    }
    // `Uri` takes `name` for an authority, and nothing else that is relative to the path.
    reference.path().starts_with('/').then_some(reference)
}

/// The URI as the client sent it: a router of axum that is nested in another cuts off a part.
pub(crate) fn uri(request: &Parts) -> &Uri {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::OriginalUri(uri)) = request.extensions.get() {
        return uri;
    }
    &request.uri
}

fn path(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |path| path.as_str())
}

/// The authority in lower case. A `Host` that is none, or that is there twice, is refused: with
/// the path behind it, it could be made to read like another's. So is one that says something else
/// than the URI: handlers may look at either.
fn authority(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return None;
    }
    let authority = match (uri.authority(), host) {
        (Some(authority), None) => authority.clone(),
        (Some(authority), Some(host)) => {
            let ours = authority.as_str().as_bytes();
            let is_same = host.as_bytes().eq_ignore_ascii_case(ours);
            is_same.then(|| authority.clone())?
        }
        (None, host) => Authority::try_from(host?.as_bytes()).ok()?,
    };
    let text = authority.as_str().to_ascii_lowercase();
    (!text.contains('@')).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, hosts: &[&str]) -> Parts {
        let mut request = http::Request::builder().uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn key(uri: &str, hosts: &[&str]) -> Option<String> {
        let key = target(&request(uri, hosts), None)?;
        Some(String::from_utf8(key).unwrap())
    }

    #[test]
    fn a_target_is_authority_path_and_query() {
        assert_eq!(
            key("/a?b=c", &["Shop.test:80"]).unwrap(),
            "shop.test:80/a?b=c"
        );
        assert_eq!(key("/", &["h"]).unwrap(), "h/");
        assert_eq!(key("http://X.test/a", &[]).unwrap(), "x.test/a");
        assert_eq!(key("http://X.test/a", &["x.TEST"]).unwrap(), "x.test/a");
        let fixed = Authority::from_static("Fixed");
        let parts = request("/a", &["evil"]);
        assert_eq!(target(&parts, Some(&fixed)).unwrap(), b"fixed/a");
        let parts = request("http://x.test/a", &["evil"]);
        assert_eq!(target(&parts, Some(&fixed)).unwrap(), b"fixed/a");
    }

    #[test]
    fn a_host_that_is_not_the_uris_has_no_key() {
        assert_eq!(key("http://X.test/a", &["y"]), None);
        assert_eq!(key("http://x.test/a", &["x.test:80"]), None);
        assert_eq!(key("http://x.test/a", &["x.test", "x.test"]), None);
    }

    #[test]
    fn a_host_that_is_none_has_no_key() {
        assert_eq!(
            key("/c", &["a/b"]),
            None,
            "it would read like a/b/c of host a"
        );
        for host in ["a?b", "a#b", "u@a", "a b", ""] {
            assert_eq!(key("/", &[host]), None, "{host}");
        }
        assert_eq!(key("/", &[]), None);
        assert_eq!(key("/", &["a", "b"]), None);
    }

    #[test]
    fn other_origins_are_told_from_our_own() {
        let parts = request("/orders", &["Shop.test"]);
        let path = |reference: &str| {
            let uri = same_origin(&parts, reference.as_bytes(), None)?;
            Some(uri.path_and_query()?.to_string())
        };
        assert_eq!(path("/orders/7?x=1").unwrap(), "/orders/7?x=1");
        assert_eq!(path("http://shop.TEST/orders/7").unwrap(), "/orders/7");
        assert_eq!(path("http://evil.test/orders/7"), None);
        assert_eq!(path("\u{e4}"), None);
        let fixed = Authority::from_static("fixed.test");
        let at = |reference: &str| same_origin(&parts, reference.as_bytes(), Some(&fixed));
        assert!(at("http://Fixed.test/orders/7").is_some());
        assert!(at("http://shop.test/orders/7").is_some());
        assert!(at("http://evil.test/orders/7").is_none());
    }

    #[test]
    fn keys_of_different_kinds_are_never_the_same() {
        let keys: std::collections::HashSet<_> = Audience::ALL
            .iter()
            .map(|audience| audience.primary_key(b"x"))
            .chain(Audience::ALL.map(|audience| variant_key(audience, 2, b"x")))
            .collect();
        assert_eq!(keys.len(), 6);
    }
}
