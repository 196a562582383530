//! Headers of an answer that is stored: [`StoredHeaders`], and those that are left out.

use http::header::{
    CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::octets::Octets;

/// Headers as they are stored, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoredHeaders(Vec<(String, Octets)>);

impl StoredHeaders {
    /// These.
    pub fn new(headers: &HeaderMap) -> Self {
        let headers = headers.iter().map(|(name, value)| {
            let value = bytes::Bytes::copy_from_slice(value.as_bytes());
            (name.as_str().to_owned(), Octets::new(value))
        });
        Self(headers.collect())
    }

    /// The headers; `None` when what was stored is none.
    pub fn header_map(&self) -> Option<HeaderMap> {
        let mut headers = HeaderMap::try_with_capacity(self.0.len()).ok()?;
        for (name, value) in &self.0 {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let value = HeaderValue::from_maybe_shared(value.bytes().clone()).ok()?;
            headers.try_append(name, value).ok()?;
        }
        Some(headers)
    }

    /// Whether there is one with this name.
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|(stored, _)| *stored == name.as_str())
    }

    /// The bytes of each name and value together.
    pub fn sizes(&self) -> impl Iterator<Item = usize> {
        self.0
            .iter()
            .map(|(name, value)| name.len() + value.bytes().len())
    }
}

/// Removes the headers that belong to one connection and not to the message (RFC 9110, section 7.6.1).
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    let known = [
        CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        HeaderName::from_static("proxy-authentication-info"),
    ];
    for name in known.iter().chain(&named) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn headers_of_the_connection_are_removed() {
        let mut all = headers(&[
            ("connection", b"close, X-Hop ,,\xff"),
            ("connection", b"x-other"),
            ("x-hop", b"1"),
            ("x-other", b"1"),
            ("keep-alive", b"timeout=5"),
            ("transfer-encoding", b"chunked"),
            ("content-length", b"7"),
            ("x-odd", b"\xff\xfe"),
        ]);
        remove_hop_by_hop(&mut all);
        let mut left: Vec<_> = all.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "x-odd"]);
    }

    #[test]
    fn stored_headers_come_back_as_they_were() {
        let given = headers(&[("link", b"<a>"), ("x-odd", b"\xe4\xff"), ("link", b"<b>")]);
        let stored = StoredHeaders::new(&given);
        assert!(stored.contains(&HeaderName::from_static("link")));
        assert!(!stored.contains(&HeaderName::from_static("date")));
        let json = serde_json::to_string(&stored).unwrap();
        let read: StoredHeaders = serde_json::from_str(&json).unwrap();
        assert_eq!(read.header_map().unwrap(), given);
        for json in [r#"[["a b","1"]]"#, "[[\"a\",\"1\\n\"]]"] {
            let read: StoredHeaders = serde_json::from_str(json).unwrap();
            assert!(read.header_map().is_none(), "{json}");
        }
        let more_than_a_map_holds = vec![stored.0[0].clone(); 40_000];
        assert!(StoredHeaders(more_than_a_map_holds).header_map().is_none());
    }
}
