//! [`CrossSiteCheck`]: requests that pages of other origins make a browser send.
//!
//! The rules are those of Go's `http.CrossOriginProtection` (Filippo Valsorda, 2025), and of OWASP's
//! cross-site request forgery prevention cheat sheet, "Fetch Metadata headers".

use std::fmt;
use std::sync::Arc;

use http::header::{HOST, ORIGIN, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Method, Uri};
use redkit_core::ConfigError;

type RequestFn = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;

/// Which unsafe requests are let through.
#[derive(Clone, Default)]
pub(super) struct CrossSiteCheck {
    /// `scheme://host[:port]`, in lower case and without the scheme's own port.
    pub(super) trusted: Vec<String>,
    pub(super) exempt: Option<RequestFn>,
    /// Refuses requests with neither header, which no browser of today sends.
    pub(super) needs_origin: bool,
}

impl CrossSiteCheck {
    /// Whether a request may go on.
    pub(super) fn allows(&self, request: &Parts) -> bool {
        if !is_unsafe(request) || self.exempts(request) {
            return true;
        }
        let origin = request.headers.get_all(ORIGIN);
        let origins: Vec<Option<String>> = origin.iter().map(normal).collect();
        let is_trusted = match &origins[..] {
            [Some(origin)] => self.trusted.contains(origin),
            _ => false,
        };
        if is_trusted {
            return true;
        }
        let mut sites = request.headers.get_all("sec-fetch-site").iter();
        match (sites.next(), sites.next()) {
            (Some(site), None) => return site == "same-origin" || site == "none",
            (Some(_), Some(_)) => return false,
            (None, _) => {}
        }
        match &origins[..] {
            [] => !self.needs_origin,
            [Some(origin)] => is_host(origin, request),
            _ => false,
        }
    }

    pub(super) fn exempts(&self, request: &Parts) -> bool {
        self.exempt.as_ref().is_some_and(|exempt| exempt(request))
    }
}

/// Whether a request may change something. A WebSocket's handshake is a `GET`, or over HTTP/2 a `CONNECT`, and no
/// browser keeps other origins from making it.
fn is_unsafe(request: &Parts) -> bool {
    let upgrades = || request.headers.get_all(UPGRADE).iter();
    has_unsafe_method(request)
        || request.method == Method::CONNECT
        || upgrades().any(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Without WebSockets, whose handshakes carry no header of a page's own.
pub(super) fn has_unsafe_method(request: &Parts) -> bool {
    !matches!(
        request.method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::CONNECT
    )
}

/// An origin as it is compared.
///
/// # Errors
/// [`ConfigError`] for a text that is no origin.
pub(super) fn origin(text: &str) -> Result<String, ConfigError> {
    let origin = HeaderValue::from_str(text)
        .ok()
        .and_then(|value| normal(&value));
    origin.ok_or_else(|| {
        ConfigError::new(
            "trust_origin",
            "it is no origin",
            "write scheme, host and port, such as `https://app.example.com`, without a path",
        )
    })
}

/// `None` for `null` and for what is no origin.
fn normal(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?;
    let uri: Uri = text.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?.as_str());
    let is_bare = text.len() == scheme.len() + 3 + authority.len() && !authority.contains('@');
    let own_port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return None,
    };
    let host = authority.strip_suffix(own_port).unwrap_or(authority);
    is_bare.then(|| format!("{scheme}://{}", host.to_ascii_lowercase()))
}

/// Whether an origin is the host that the request was sent to. The scheme is not known behind a proxy that
/// ends TLS, and is not compared.
fn is_host(origin: &str, request: &Parts) -> bool {
    let mut hosts = request.headers.get_all(HOST).iter();
    let host = match (request.uri.authority(), hosts.next(), hosts.next()) {
        (Some(authority), _, None) => Some(authority.as_str()),
        (None, Some(host), None) => host.to_str().ok(),
        _ => None,
    };
    let (Some(host), Some((scheme, own))) = (host, origin.split_once("://")) else {
        return false;
    };
    let own_port = match scheme {
        "https" => ":443",
        _ => ":80",
    };
    let host = host.strip_suffix(own_port).unwrap_or(host);
    host.eq_ignore_ascii_case(own)
}

impl fmt::Debug for CrossSiteCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrossSiteCheck")
            .field("trusted", &self.trusted)
            .field("exempts", &self.exempt.is_some())
            .field("needs_origin", &self.needs_origin)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Headers<'a> = &'a [(&'a str, &'a str)];

    fn allows(check: &CrossSiteCheck, method: &str, headers: Headers<'_>) -> bool {
        let mut request = http::Request::builder().method(method).uri("/transfer");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check.allows(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn unsafe_requests_of_other_origins_are_refused() {
        let check = CrossSiteCheck {
            trusted: vec![origin("https://App.example.com:443").unwrap()],
            ..CrossSiteCheck::default()
        };
        let host = ("host", "shop.example.com");
        let cases: &[(bool, &str, Headers<'_>)] = &[
            (true, "GET", &[("sec-fetch-site", "cross-site")]),
            (true, "POST", &[("sec-fetch-site", "same-origin")]),
            (true, "POST", &[("sec-fetch-site", "none")]),
            (false, "POST", &[("sec-fetch-site", "same-site")]),
            (false, "POST", &[("sec-fetch-site", "cross-site")]),
            (false, "DELETE", &[("sec-fetch-site", "Same-Origin")]),
            (
                false,
                "PUT",
                &[
                    ("sec-fetch-site", "same-origin"),
                    ("sec-fetch-site", "none"),
                ],
            ),
            // What the browser says of the site counts more than an origin that agrees with the host.
            (
                false,
                "POST",
                &[
                    host,
                    ("origin", "https://shop.example.com"),
                    ("sec-fetch-site", "cross-site"),
                ],
            ),
            (
                true,
                "POST",
                &[host, ("origin", "https://shop.example.com")],
            ),
            (
                true,
                "POST",
                &[
                    ("host", "Shop.example.com:443"),
                    ("origin", "https://shop.example.com"),
                ],
            ),
            (
                true,
                "POST",
                &[
                    ("host", "localhost:3000"),
                    ("origin", "http://localhost:3000"),
                ],
            ),
            (
                false,
                "POST",
                &[
                    ("host", "localhost:3000"),
                    ("origin", "http://localhost:3001"),
                ],
            ),
            (
                false,
                "POST",
                &[host, ("origin", "https://shop.example.com.evil.org")],
            ),
            (false, "POST", &[host, ("origin", "https://evil.org")]),
            (false, "POST", &[host, ("origin", "null")]),
            (
                false,
                "POST",
                &[host, ("origin", "https://x@shop.example.com")],
            ),
            (
                false,
                "POST",
                &[host, ("origin", "https://shop.example.com/path")],
            ),
            (
                false,
                "POST",
                &[
                    host,
                    ("origin", "https://shop.example.com"),
                    ("origin", "https://evil.org"),
                ],
            ),
            (
                false,
                "POST",
                &[host, ("host", "evil.org"), ("origin", "https://evil.org")],
            ),
            (
                true,
                "POST",
                &[
                    ("origin", "https://app.example.com"),
                    ("sec-fetch-site", "same-site"),
                ],
            ),
            (
                false,
                "POST",
                &[
                    ("origin", "http://app.example.com"),
                    ("sec-fetch-site", "same-site"),
                ],
            ),
            // No browser.
            (true, "POST", &[host]),
            (
                false,
                "GET",
                &[
                    host,
                    ("upgrade", "WebSocket"),
                    ("origin", "https://evil.org"),
                ],
            ),
            (
                true,
                "GET",
                &[host, ("upgrade", "h2c"), ("origin", "https://evil.org")],
            ),
            (false, "CONNECT", &[host, ("sec-fetch-site", "cross-site")]),
        ];
        for (expected, method, headers) in cases {
            assert_eq!(
                allows(&check, method, headers),
                *expected,
                "{method} {headers:?}"
            );
        }
        let strict = CrossSiteCheck {
            needs_origin: true,
            exempt: Some(Arc::new(|request| request.headers.contains_key("x-hook"))),
            ..CrossSiteCheck::default()
        };
        assert!(!allows(&strict, "POST", &[host]));
        assert!(allows(
            &strict,
            "POST",
            &[host, ("x-hook", "1"), ("sec-fetch-site", "cross-site")]
        ));
    }

    #[test]
    fn texts_that_are_no_origins_are_refused() {
        for wrong in [
            "",
            "null",
            "example.com",
            "https://",
            "https://a.b/",
            "https://a.b/c",
            "ftp://a.b",
            "https://u@a.b",
        ] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
        assert_eq!(origin("http://[::1]:80").unwrap(), "http://[::1]");
    }
}
