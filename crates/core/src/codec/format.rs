//! [`Format`]: how a value becomes bytes, before compression and encryption.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::CodecError;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Bytes as they were given.
    Raw,
    /// JSON.
    Json,
    /// MessagePack, structs as maps from their fields' names, so that fields may come and go.
    MessagePack,
    /// [postcard](https://postcard.jamesmunns.com): the smallest, but readers need the very type.
    Postcard,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Raw => "raw bytes",
            Format::Json => "JSON",
            Format::MessagePack => "MessagePack",
            Format::Postcard => "postcard",
        })
    }
}

impl Format {
    pub(super) fn write<T: Serialize + ?Sized>(self, value: &T) -> Result<Vec<u8>, CodecError> {
        let refused = CodecError::Refused { format: self };
        match self {
            Format::Json => serde_json::to_vec(value).map_err(|_| refused),
            #[cfg(feature = "messagepack")]
            Format::MessagePack => rmp_serde::to_vec_named(value).map_err(|_| refused),
            #[cfg(not(feature = "messagepack"))]
            Format::MessagePack => Err(CodecError::Feature("messagepack")),
            #[cfg(feature = "postcard")]
            Format::Postcard => postcard::to_stdvec(value).map_err(|_| refused),
            #[cfg(not(feature = "postcard"))]
            Format::Postcard => Err(CodecError::Feature("postcard")),
            Format::Raw => Err(refused),
        }
    }

    pub(super) fn read<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, CodecError> {
        match self {
            Format::Json => serde_json::from_slice(bytes).map_err(|error| json_error(&error)),
            #[cfg(feature = "messagepack")]
            Format::MessagePack => read_message_pack(bytes),
            #[cfg(not(feature = "messagepack"))]
            Format::MessagePack => Err(CodecError::Feature("messagepack")),
            #[cfg(feature = "postcard")]
            Format::Postcard => read_postcard(bytes),
            #[cfg(not(feature = "postcard"))]
            Format::Postcard => Err(CodecError::Feature("postcard")),
            Format::Raw => Err(CodecError::Kind {
                found: self,
                wanted: "a value",
            }),
        }
    }
}

/// serde_json's messages quote values, so only the class and the place are kept.
fn json_error(error: &serde_json::Error) -> CodecError {
    use serde_json::error::Category;
    CodecError::Json {
        what: match error.classify() {
            Category::Syntax => "not JSON",
            Category::Eof => "JSON that ends too early",
            Category::Data => "JSON of another shape",
            Category::Io => "unreadable",
        },
        line: error.line(),
        column: error.column(),
    }
}

/// As deep as serde_json goes: deeper values would overflow the stack.
#[cfg(feature = "messagepack")]
const DEEPEST: usize = 128;

#[cfg(feature = "messagepack")]
fn read_message_pack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    use rmp_serde::decode::Error;
    let shape = |what| CodecError::Shape {
        format: Format::MessagePack,
        what,
    };
    let mut rest = bytes;
    let mut reader = rmp_serde::Deserializer::new(&mut rest);
    reader.set_max_depth(DEEPEST);
    let value = T::deserialize(&mut reader).map_err(|error| {
        shape(match error {
            Error::InvalidMarkerRead(_) | Error::InvalidDataRead(_) => "it ends too early",
            Error::DepthLimitExceeded => "nested too deeply",
            Error::Utf8Error(_) => "text that is not UTF-8",
            _ => "another shape",
        })
    })?;
    match rest {
        [] => Ok(value),
        _ => Err(shape("bytes after the value")),
    }
}

#[cfg(feature = "postcard")]
fn read_postcard<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    use postcard::Error;
    let shape = |what| CodecError::Shape {
        format: Format::Postcard,
        what,
    };
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(shape("bytes after the value")),
        Err(Error::DeserializeUnexpectedEnd) => Err(shape("it ends too early")),
        Err(Error::DeserializeBadUtf8) => Err(shape("text that is not UTF-8")),
        Err(_) => Err(shape("another shape")),
    }
}
