//! [`Validators`]: asking the handler whether a stale page has changed (RFC 9111, section 4.3).

use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use http::{HeaderMap, HeaderValue};

use crate::conditional::opaque;

/// By which a handler tells whether a page has changed; those that it gave itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Validators {
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
}

impl Validators {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self {
            etag: headers.get(ETAG).cloned(),
            last_modified: headers.get(LAST_MODIFIED).cloned(),
        }
    }

    /// Without the tag, because the layer made it and the handler does not know it.
    pub(crate) fn without_etag(self) -> Self {
        Self { etag: None, ..self }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// Makes a request conditional by these, and by nothing else.
    pub(crate) fn apply(self, request: &mut HeaderMap) {
        request.remove(IF_NONE_MATCH);
        request.remove(IF_MODIFIED_SINCE);
        if let Some(etag) = self.etag {
            request.insert(IF_NONE_MATCH, etag);
        }
        if let Some(date) = self.last_modified {
            request.insert(IF_MODIFIED_SINCE, date);
        }
    }

    /// Whether a 304 with these headers is about the page with these validators: one with another
    /// tag updates nothing (4.3.4).
    pub(crate) fn are_confirmed_by(&self, answer: &HeaderMap) -> bool {
        match (&self.etag, answer.get(ETAG)) {
            (Some(ours), Some(theirs)) => opaque(ours.as_bytes()) == opaque(theirs.as_bytes()),
            _ => true,
        }
    }
}

/// The headers of a page after a 304: each field of the answer takes the place of the stored one, but
/// for those that describe the stored body (3.2). The age counts anew.
pub(crate) fn refresh(stored: &mut HeaderMap, answer: &HeaderMap) {
    stored.remove(AGE);
    stored.remove(DATE);
    let of_the_body = [
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
    ];
    for name in answer.keys().filter(|name| !of_the_body.contains(name)) {
        stored.remove(name);
        for value in answer.get_all(name) {
            stored.append(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn newer_fields_replace_stored_ones_and_the_body_keeps_its_own() {
        let mut stored = headers(&[
            ("age", "50"),
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("link", "<a>"),
            ("link", "<b>"),
            ("content-type", "text/x"),
            ("x-kept", "1"),
        ]);
        let answer = headers(&[
            ("link", "<c>"),
            ("content-type", "text/y"),
            ("content-length", "0"),
            ("x-new", "1"),
        ]);
        refresh(&mut stored, &answer);
        let expected = headers(&[
            ("link", "<c>"),
            ("content-type", "text/x"),
            ("x-kept", "1"),
            ("x-new", "1"),
        ]);
        assert_eq!(stored, expected);
    }

    #[test]
    fn an_answer_with_another_tag_confirms_nothing() {
        let stored = Validators::of(&headers(&[("etag", "\"one\"")]));
        assert!(stored.are_confirmed_by(&headers(&[])));
        assert!(stored.are_confirmed_by(&headers(&[("etag", "W/\"one\"")])));
        assert!(!stored.are_confirmed_by(&headers(&[("etag", "\"two\"")])));
    }

    #[test]
    fn a_request_has_the_conditions_of_the_stored_page_alone() {
        let mut request = headers(&[
            ("if-none-match", "\"theirs\""),
            ("if-modified-since", "then"),
        ]);
        Validators::of(&headers(&[("etag", "\"ours\"")])).apply(&mut request);
        assert_eq!(request, headers(&[("if-none-match", "\"ours\"")]));
        Validators::default().apply(&mut request);
        assert!(request.is_empty());
    }
}
