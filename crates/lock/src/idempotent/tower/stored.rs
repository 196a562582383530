//! [`StoredResponse`]: an answer as it is kept.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, PROXY_AUTHENTICATE, SET_COOKIE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::body::IdempotencyBody;

/// An answer that is kept, readable where it is text.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredResponse {
    status: u16,
    /// Values as ISO 8859-1, which every byte is.
    headers: Vec<(String, String)>,
    body: StoredBody,
}

/// A body. No field is left out: not every format has names for them.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredBody {
    /// Where it is UTF-8.
    Text(String),
    Base64(String),
}

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

impl StoredResponse {
    pub(super) fn new(head: &Parts, body: &Bytes, keeps_cookies: bool) -> Self {
        let headers = head
            .headers
            .iter()
            .filter(|(name, _)| is_kept(name, &head.headers, keeps_cookies));
        let headers = headers.map(|(name, value)| {
            let value = value.as_bytes().iter().map(|&byte| char::from(byte));
            (name.as_str().to_owned(), value.collect())
        });
        let body = match std::str::from_utf8(body) {
            Ok(text) => StoredBody::Text(text.to_owned()),
            Err(_) => StoredBody::Base64(STANDARD.encode(body)),
        };
        Self {
            status: head.status.as_u16(),
            headers: headers.collect(),
            body,
        }
    }

    /// The answer to a later request; `None` when what is stored is no answer.
    pub(super) fn replay<B>(self) -> Option<Response<IdempotencyBody<B>>> {
        let body = match self.body {
            StoredBody::Text(text) => Bytes::from(text),
            StoredBody::Base64(base64) => STANDARD.decode(base64).ok()?.into(),
        };
        let mut response = Response::new(IdempotencyBody::of_layer(body));
        *response.status_mut() = StatusCode::from_u16(self.status).ok()?;
        let headers = response.headers_mut();
        for (name, value) in self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let value: Option<Vec<u8>> = value.chars().map(|c| u8::try_from(c).ok()).collect();
            headers.append(name, HeaderValue::from_bytes(&value?).ok()?);
        }
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
        Some(response)
    }
}

/// Whether a header is the answer's, and not that of one connection or one moment.
fn is_kept(name: &HeaderName, headers: &HeaderMap, keeps_cookies: bool) -> bool {
    let of_the_connection = [
        CONNECTION,
        CONTENT_LENGTH,
        DATE,
        PROXY_AUTHENTICATE,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        REPLAYED,
    ];
    let named_by_connection = headers.get_all(CONNECTION).iter().any(|value| {
        let names = value.to_str().unwrap_or_default().split(',');
        names
            .map(str::trim)
            .any(|other| name.as_str().eq_ignore_ascii_case(other))
    });
    !of_the_connection.contains(name)
        && !named_by_connection
        && (keeps_cookies || name != SET_COOKIE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(body: &'static [u8], keeps_cookies: bool) -> StoredResponse {
        let response = Response::builder()
            .status(201)
            .header("x-a", &b"\xe4"[..])
            .header("x-a", "2")
            .header("connection", "x-hop, close")
            .header("x-hop", "1")
            .header("set-cookie", "s=1")
            .header("content-length", "5")
            .body(())
            .unwrap();
        let (head, ()) = response.into_parts();
        StoredResponse::new(&head, &Bytes::from_static(body), keeps_cookies)
    }

    #[test]
    fn an_answer_comes_back_without_what_was_its_connections() {
        for body in [&b"hello"[..], b"\xff\x00", b""] {
            let json = serde_json::to_vec(&stored(body, false)).unwrap();
            let read: StoredResponse = serde_json::from_slice(&json).unwrap();
            let response = read.replay::<IdempotencyBody<()>>().unwrap();
            assert_eq!(response.status(), 201);
            let names: Vec<&str> = response.headers().keys().map(HeaderName::as_str).collect();
            assert_eq!(names, ["x-a", "idempotent-replayed"]);
            let values: Vec<&[u8]> = response
                .headers()
                .get_all("x-a")
                .iter()
                .map(HeaderValue::as_bytes)
                .collect();
            assert_eq!(values, [&b"\xe4"[..], b"2"]);
        }
        let with_cookies = stored(b"", true).replay::<IdempotencyBody<()>>().unwrap();
        assert_eq!(with_cookies.headers()["set-cookie"], "s=1");
    }

    /// Formats without names of fields, as the user may choose them.
    #[test]
    fn an_answer_comes_back_through_every_format() {
        for body in [&b"hello"[..], b"\xff\x00", b""] {
            let stored = stored(body, false);
            let postcard = postcard::to_stdvec(&stored).unwrap();
            let message_pack = rmp_serde::to_vec_named(&stored).unwrap();
            for read in [
                postcard::from_bytes::<StoredResponse>(&postcard).unwrap(),
                rmp_serde::from_slice(&message_pack).unwrap(),
            ] {
                let again = serde_json::to_vec(&read).unwrap();
                assert_eq!(again, serde_json::to_vec(&stored).unwrap());
                assert!(read.replay::<IdempotencyBody<()>>().is_some());
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_not_replayed() {
        for json in [
            r#"{"status":99999,"headers":[],"body":{"text":""}}"#,
            r#"{"status":200,"headers":[]}"#,
            r#"{"status":200,"headers":[],"body":{"base64":"!"}}"#,
            r#"{"status":200,"headers":[["a b","1"]],"body":{"text":""}}"#,
            r#"{"status":200,"headers":[["a","€"]],"body":{"text":""}}"#,
        ] {
            let read = serde_json::from_str::<StoredResponse>(json);
            let replayed = read
                .ok()
                .and_then(StoredResponse::replay::<IdempotencyBody<()>>);
            assert!(replayed.is_none(), "{json}");
        }
    }
}
