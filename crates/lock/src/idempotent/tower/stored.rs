//! [`StoredResponse`]: an answer as it is kept.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, DATE, SET_COOKIE};
use http::response::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use redkit_core::http_layer::{Octets, StoredHeaders, remove_hop_by_hop};
use serde::{Deserialize, Serialize};

/// An answer that is kept, readable where it is text. No field is left out: not every format has names for
/// them.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredResponse {
    status: u16,
    headers: StoredHeaders,
    body: Octets,
}

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

impl StoredResponse {
    /// The answer without the headers that belong to one connection or one moment.
    pub(super) fn new(head: &Parts, body: &Bytes, keeps_cookies: bool) -> Self {
        let mut headers = head.headers.clone();
        remove_hop_by_hop(&mut headers);
        for name in [CONTENT_LENGTH, DATE, REPLAYED] {
            headers.remove(name);
        }
        if !keeps_cookies {
            headers.remove(SET_COOKIE);
        }
        Self {
            status: head.status.as_u16(),
            headers: StoredHeaders::new(&headers),
            body: Octets::new(body.clone()),
        }
    }

    /// The answer to a later request; `None` when what is stored is no answer.
    pub(super) fn replay(self) -> Option<Response<Bytes>> {
        let mut response = Response::new(self.body.bytes().clone());
        *response.status_mut() = StatusCode::from_u16(self.status).ok()?;
        *response.headers_mut() = self.headers.header_map()?;
        let replayed = HeaderValue::from_static("true");
        response.headers_mut().insert(REPLAYED, replayed);
        Some(response)
    }
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
            let response = read.replay().unwrap();
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
        let with_cookies = stored(b"", true).replay().unwrap();
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
                assert!(read.replay().is_some());
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_not_replayed() {
        for json in [
            r#"{"status":99999,"headers":[],"body":""}"#,
            r#"{"status":200,"headers":[]}"#,
            r#"{"status":200,"headers":[],"body":{"base64":"!"}}"#,
            r#"{"status":200,"headers":[["a b","1"]],"body":""}"#,
            "{\"status\":200,\"headers\":[[\"a\",\"1\\n\"]],\"body\":\"\"}",
        ] {
            let read = serde_json::from_str::<StoredResponse>(json);
            let replayed = read.ok().and_then(StoredResponse::replay);
            assert!(replayed.is_none(), "{json}");
        }
    }
}
