//! Conditional requests, answered from what is stored (RFC 9110, section 13).

use std::fmt::Write as _;

use http::header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue};
use sha1::{Digest, Sha1};

use crate::freshness::date;
use crate::list;

/// Whether the client has what is stored: by `If-None-Match`, compared weakly; without that by
/// `If-Modified-Since`.
pub(crate) fn is_unchanged(request: &HeaderMap, stored: &HeaderMap) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        let ours = stored.get(ETAG).map(|tag| opaque(tag.as_bytes()));
        return request.get_all(IF_NONE_MATCH).iter().any(|line| {
            let list = list::split(line.as_bytes());
            let mut tags = list.elements.iter();
            tags.any(|tag| *tag == b"*" || ours == Some(opaque(tag)))
        });
    }
    let (since, modified) = (
        date(request, &IF_MODIFIED_SINCE),
        date(stored, &LAST_MODIFIED),
    );
    matches!((since, modified), (Some(since), Some(modified)) if modified <= since)
}

/// Gives a response that has no `ETag` one: of its bytes, and weak, since a handler that is asked
/// for a part of it does not know it. Gives whether it did.
pub(crate) fn add_etag(headers: &mut HeaderMap, body: &[u8]) -> bool {
    if headers.contains_key(ETAG) {
        return false;
    }
    let mut tag = String::from("W/\"");
    for byte in Sha1::digest(body) {
        // Writing into a text cannot fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    match HeaderValue::from_str(&tag) {
        Ok(tag) => headers.insert(ETAG, tag).is_none(),
        Err(_) => false,
    }
}

/// A tag without the mark that it is weak.
pub(crate) fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn tags_are_compared_weakly_and_go_before_dates() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let stored = headers(&[("etag", "W/\"a,b\""), ("last-modified", date)]);
        let is = |lines: &[_]| is_unchanged(&headers(lines), &stored);
        assert!(is(&[("if-none-match", "\"x\", \"a,b\"")]));
        assert!(is(&[
            ("if-none-match", "\"x\""),
            ("if-none-match", "W/\"a,b\"")
        ]));
        assert!(is(&[("if-none-match", "*")]));
        assert!(!is(&[("if-none-match", "\"a\"")]));
        assert!(!is(&[
            ("if-none-match", "\"x\""),
            ("if-modified-since", date)
        ]));
        assert!(!is(&[]));
        assert!(!is_unchanged(
            &headers(&[("if-none-match", "\"x\"")]),
            &HeaderMap::new()
        ));
    }

    #[test]
    fn dates() {
        let stored = headers(&[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")]);
        let is = |date| is_unchanged(&headers(&[("if-modified-since", date)]), &stored);
        assert!(is("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert!(is("Sun, 06 Nov 1994 08:49:38 GMT"));
        assert!(!is("Sun, 06 Nov 1994 08:49:36 GMT"));
        assert!(!is("yesterday"));
    }

    #[test]
    fn a_tag_is_made_of_the_bytes_where_there_is_none() {
        let (mut one, mut other) = (HeaderMap::new(), HeaderMap::new());
        add_etag(&mut one, b"a");
        add_etag(&mut other, b"b");
        assert_ne!(one[ETAG], other[ETAG]);
        let mut own = headers(&[("etag", "\"mine\"")]);
        add_etag(&mut own, b"a");
        assert_eq!(own[ETAG], "\"mine\"");
    }
}
