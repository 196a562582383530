//! [`Codec`]: how values become bytes and come back. Decoding never guesses: bytes that are not a
//! value of the type are an error that keeps them.

use std::any::type_name;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// Turns values into bytes and back. JSON, stored plain, so that programs in other languages and
/// people with `redis-cli` can read it.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Codec {}

impl Codec {
    /// JSON.
    pub fn json() -> Self {
        Self::default()
    }

    /// Encodes a value that will be stored at `key`.
    ///
    /// # Errors
    /// [`Error::Encode`] when the value's `Serialize` refuses.
    pub fn encode<T: Serialize + ?Sized>(&self, _key: &[u8], value: &T) -> Result<Bytes, Error> {
        serde_json::to_vec(value)
            .map(Bytes::from)
            .map_err(|error| Error::Encode {
                type_name: type_name::<T>(),
                error: Arc::new(error),
            })
    }

    /// Decodes what was stored at `key`.
    ///
    /// # Errors
    /// [`Error::Decode`], which keeps the bytes, when they are not a `T`.
    pub fn decode<T: DeserializeOwned>(&self, key: &[u8], raw: Bytes) -> Result<T, Error> {
        serde_json::from_slice(&raw).map_err(|error| Error::Decode {
            key: key.escape_ascii().to_string().into(),
            type_name: type_name::<T>(),
            raw,
            // serde_json's messages quote values; the bytes are in `raw` for who wants them.
            error: Arc::new(JsonError::from(&error)),
        })
    }
}

/// Where JSON stopped making sense, without quoting the data.
#[derive(Debug, thiserror::Error)]
#[error("{what} at line {line}, column {column}")]
struct JsonError {
    what: &'static str,
    line: usize,
    column: usize,
}

impl From<&serde_json::Error> for JsonError {
    fn from(error: &serde_json::Error) -> Self {
        use serde_json::error::Category;
        let what = match error.classify() {
            Category::Syntax => "not JSON",
            Category::Eof => "JSON that ends too early",
            Category::Data => "JSON of another shape",
            Category::Io => "unreadable",
        };
        Self {
            what,
            line: error.line(),
            column: error.column(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_guessed_or_trimmed() {
        let codec = Codec::json();
        let round = |text: &str| {
            let raw = codec.encode(b"k", text).unwrap();
            codec.decode::<String>(b"k", raw).unwrap()
        };
        assert_eq!(round("123"), "123");
        assert_eq!(round(" padded "), " padded ");
        assert!(
            codec
                .decode::<String>(b"k", Bytes::from_static(b"123"))
                .is_err()
        );
        assert_eq!(
            codec
                .decode::<Option<i64>>(b"k", Bytes::from_static(b"null"))
                .unwrap(),
            None
        );
    }

    #[test]
    fn a_failure_names_key_and_type_and_keeps_the_bytes() {
        let raw = Bytes::from_static(b"\"secret\"");
        let error = Codec::json()
            .decode::<i64>(b"app:\xff", raw.clone())
            .unwrap_err();
        let shown = error.to_string();
        assert!(
            shown.contains("app:\\xff") && shown.contains("i64"),
            "{shown}"
        );
        assert!(!shown.contains("secret"), "{shown}");
        assert!(matches!(error, Error::Decode { raw: kept, .. } if kept == raw));
    }
}
