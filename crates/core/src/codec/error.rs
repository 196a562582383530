//! [`CodecError`]: why bytes are not a value. Its messages name keys of the ring, formats and
//! positions, and never quote the data.

use super::format::Format;

/// Why a value could not be encoded or its bytes not decoded: the source of
/// [`Error::Encode`](crate::Error::Encode) and [`Error::Decode`](crate::Error::Decode).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Cause: the key was taken out of the ring too early, or another program writes with a key
    /// that this one was not given. Remedy: add it with `KeyRing::with_older`.
    #[error("it is encrypted with key {id}, which is not in the key ring; add it as an older key")]
    UnknownKey {
        /// The id that the envelope names.
        id: u32,
    },

    /// Cause: the codec encrypts and the value is not encrypted: it was written before encryption
    /// was switched on, or by a writer without a key. Remedy, while old values are migrated:
    /// `Codec::accept_plain`.
    #[error("it is not encrypted, and this codec opens encrypted values only")]
    NotEncrypted,

    /// Cause: the value is encrypted and the codec has no keys. Remedy: `Codec::encrypt`.
    #[error("it is encrypted with key {id}, and this codec has no key ring")]
    NoKeyRing {
        /// The id that the envelope names.
        id: u32,
    },

    /// Cause: the bytes were changed, or moved here from another key, or the key of this id is
    /// another one. Nothing of it was used.
    #[error(
        "it does not open with key {id} under this name: it was changed, moved from another name, \
         or written with another key of that id"
    )]
    Sealed {
        /// The id that the envelope names.
        id: u32,
    },

    /// Cause: the bytes end too early, or were changed.
    #[error("its envelope is damaged: {0}")]
    Damaged(&'static str),

    /// Cause: a newer version of this library wrote it. Remedy: update the readers first.
    #[error("its envelope says {what} {number}, which this version does not know")]
    Unknown {
        /// Which part of the envelope.
        what: &'static str,
        /// What stands there.
        number: u8,
    },

    /// Cause: the program was built without the feature that this value needs. Remedy: enable it.
    #[error("it needs the feature `{0}`, which this program was built without")]
    Feature(&'static str),

    /// Cause: a decompression bomb, or a limit that is too low for your values. Remedy for the
    /// latter: `Codec::decompression_limit`. Nothing was decompressed.
    #[error("it would be {length} bytes, more than the limit of {limit}")]
    TooLarge {
        /// What the envelope says, or the length of the value to encode.
        length: u64,
        /// The limit.
        limit: u64,
    },

    /// Cause: bytes that were stored as they are read as a value, or the reverse.
    #[error("it holds {found}, not {wanted}")]
    Kind {
        /// What the envelope says.
        found: Format,
        /// What was asked for.
        wanted: &'static str,
    },

    /// Cause: the bytes are not of the format, or of another type's shape.
    #[error("{what} at line {line}, column {column}")]
    Json {
        /// What is wrong with it.
        what: &'static str,
        /// Where JSON stopped making sense.
        line: usize,
        /// The same.
        column: usize,
    },

    /// The same for the other formats.
    #[error("{format}: {what}")]
    Shape {
        /// The format.
        format: Format,
        /// What is wrong with it.
        what: &'static str,
    },

    /// Cause: the type's `Serialize` refuses.
    #[error("{format}: the type cannot be written")]
    Refused {
        /// The format.
        format: Format,
    },

    /// Cause: the operating system gave no random bytes.
    #[error("no random bytes for a nonce")]
    NoRandomness,
}
