//! [`Codec`]: how values become bytes and come back. Decoding never guesses: bytes that are not a
//! value of the type are an error that keeps them.

mod compression;
#[cfg(feature = "encryption")]
mod encryption;
mod envelope;
mod error;
mod format;

use std::any::type_name;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::compression::{Compression, CompressionAlgorithm};
#[cfg(feature = "encryption")]
pub use self::encryption::{EncryptionKey, KeyRing};
use self::envelope::{Envelope, Header};
pub use self::error::CodecError;
pub use self::format::Format;
use crate::error::Error;

/// Turns values into bytes and back.
///
/// By default JSON, stored plain, so that programs in other languages and people with `redis-cli`
/// can read it. Other formats, compression and encryption put an envelope before the bytes, which
/// begins with a byte that no JSON begins with (`docs/keyspace.md` describes it).
///
/// What is read back is what the *envelope* says, so a codec reads what one with another format,
/// compression or current key has written, as long as the features are there: settings can be
/// changed while old values are about. There is one exception. **A codec that encrypts refuses
/// values that are not encrypted**, or every writer at the server could put forged values in
/// their place; [`accept_plain`](Self::accept_plain) lifts that for the time of a migration. The same goes
/// for *bytes* ([`encode_bytes`](Self::encode_bytes)) that were stored without an envelope, for a
/// codec that compresses as well: without one, nothing tells whether they stand for themselves.
///
/// ```
/// use redkit_core::Codec;
///
/// let codec = Codec::json();
/// let raw = codec.encode(b"app:greeting", &"hello")?;
/// assert_eq!(&raw[..], b"\"hello\"");
/// assert_eq!(codec.decode::<String>(b"app:greeting", raw)?, "hello");
/// # Ok::<(), redkit_core::Error>(())
/// ```
///
/// Cost: see `docs/benchmarks.md`. Nothing here talks to a server.
#[derive(Debug, Clone)]
pub struct Codec {
    format: Format,
    compression: Option<Compression>,
    limit: usize,
    #[cfg(feature = "encryption")]
    keys: Option<KeyRing>,
    accepts_plain: bool,
}

/// What a value may at most become when it is decompressed, unless said otherwise.
const LIMIT: usize = 64 * 1024 * 1024;

impl Default for Codec {
    fn default() -> Self {
        Self::json()
    }
}

impl Codec {
    /// JSON. It has no word for a float that is no number or is infinite, nor for `Some(None)`: such a value is written as
    /// `null`, and is then not what it was, or cannot be read. The other formats keep it.
    pub fn json() -> Self {
        Self::of(Format::Json)
    }

    /// MessagePack: smaller than JSON, and fields may come and go as in JSON.
    #[cfg(feature = "messagepack")]
    pub fn message_pack() -> Self {
        Self::of(Format::MessagePack)
    }

    /// postcard: the smallest and fastest. Values hold no names, so a type must not be changed
    /// while values of it are stored, and types that need to look at the data before they know
    /// its shape (`serde_json::Value`, untagged enums) do not work. Do not use it for types that
    /// contain themselves: how deep a value nests is not limited. Nor for lists of what takes no
    /// bytes (`Vec<()>`): ten bytes can claim 2^64 of them, and reading them takes as long.
    #[cfg(feature = "postcard")]
    pub fn postcard() -> Self {
        Self::of(Format::Postcard)
    }

    /// Compresses what is worth it.
    #[must_use]
    pub fn compress(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// What a value may at most be after decompression, in bytes; 64 MiB at first. Larger ones are
    /// refused before anything is decompressed, and stored uncompressed by this codec itself.
    #[must_use]
    pub fn decompression_limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Encrypts, with the current key of the ring. See `docs/security.md` for what that protects
    /// from, and what not.
    #[cfg(feature = "encryption")]
    #[must_use]
    pub fn encrypt(mut self, keys: KeyRing) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Reads what this codec would have wrapped and what is not, for the time in which old values are
    /// migrated: values that are not encrypted although it encrypts, and bytes that have no envelope
    /// although it compresses or encrypts. While it lasts, every writer at the server can forge
    /// values of a codec that encrypts. Bytes that begin with `C1` and are no envelope stay an error:
    /// they may be a damaged one.
    #[must_use]
    pub fn accept_plain(mut self) -> Self {
        self.accepts_plain = true;
        self
    }

    /// Whether it encrypts.
    pub fn is_encrypting(&self) -> bool {
        #[cfg(feature = "encryption")]
        return self.keys.is_some();
        #[cfg(not(feature = "encryption"))]
        return false;
    }

    /// Whether a value always becomes the same bytes, in every process: what members of sets and
    /// sorted sets need. Encrypted values never do, and compressed ones only with the same version
    /// of the compressor. (A `HashMap` does not either, whatever the codec.)
    pub fn is_deterministic(&self) -> bool {
        !self.is_encrypting() && self.compression.is_none()
    }

    /// Encodes a value that will be stored at `key`, the full name. When it is encrypted, it opens
    /// under that name only.
    ///
    /// # Errors
    /// [`Error::Encode`] when the value's `Serialize` refuses.
    pub fn encode<T: Serialize + ?Sized>(&self, key: &[u8], value: &T) -> Result<Bytes, Error> {
        self.format
            .write(value)
            .and_then(|payload| self.wrap(key, self.format, payload))
            .map_err(|error| Error::Encode {
                type_name: type_name::<T>(),
                error: Arc::new(error),
            })
    }

    /// Decodes what was stored at `key`.
    ///
    /// # Errors
    /// [`Error::Decode`], which keeps the bytes, when they are not a `T`. Its source is a
    /// [`CodecError`].
    pub fn decode<T: DeserializeOwned>(&self, key: &[u8], raw: Bytes) -> Result<T, Error> {
        let decoded = match self.unwrap(key, &raw) {
            Ok(None) => Format::Json.read(&raw),
            Ok(Some((format, Opened::Borrowed(payload)))) => format.read(payload),
            Ok(Some((format, Opened::Owned(payload)))) => format.read(&payload),
            Err(error) => Err(error),
        };
        decoded.map_err(|error| not_decoded::<T>(key, raw, error))
    }

    /// Encodes bytes. A codec that neither compresses nor encrypts stores them as they are, for
    /// anybody to read, unless they look like an envelope; others put them into an envelope.
    ///
    /// # Errors
    /// [`Error::Encode`] when there is no randomness for a nonce.
    pub fn encode_bytes(&self, key: &[u8], bytes: impl Into<Bytes>) -> Result<Bytes, Error> {
        let bytes = bytes.into();
        // What would be read as an envelope becomes the content of one.
        if !self.wraps_bytes() && !matches!(Envelope::read(&bytes), Ok(Some(_))) {
            return Ok(bytes);
        }
        self.wrap(key, Format::Raw, bytes.into())
            .map_err(|error| Error::Encode {
                type_name: "bytes",
                error: Arc::new(error),
            })
    }

    /// Decodes what [`encode_bytes`](Self::encode_bytes) made, of this codec or another. A codec that
    /// neither compresses nor encrypts takes what is no envelope as it is; others insist on an
    /// envelope, unless they [accept plain](Self::accept_plain) bytes.
    ///
    /// # Errors
    /// [`Error::Decode`], which keeps the bytes.
    pub fn decode_bytes(&self, key: &[u8], raw: Bytes) -> Result<Bytes, Error> {
        if !self.wraps_bytes() && !matches!(Envelope::read(&raw), Ok(Some(_))) {
            return Ok(raw);
        }
        let opened = match self.unwrap(key, &raw) {
            // The caller of `accept_plain` has said that it may be.
            Ok(None) if self.accepts_plain => Ok(raw.clone()),
            Ok(None) => Err(CodecError::Damaged("it has none")),
            Ok(Some((Format::Raw, Opened::Borrowed(bytes)))) => Ok(raw.slice_ref(bytes)),
            Ok(Some((Format::Raw, Opened::Owned(bytes)))) => Ok(bytes.into()),
            Ok(Some((found, _))) => Err(CodecError::Kind {
                found,
                wanted: "raw bytes",
            }),
            Err(error) => Err(error),
        };
        opened.map_err(|error| not_decoded::<Bytes>(key, raw, error))
    }

    /// What stored bytes say about themselves, without opening them: for diagnosis and migration.
    ///
    /// # Errors
    /// [`CodecError`] for an envelope that is damaged or of a newer version.
    pub fn inspect(raw: &[u8]) -> Result<StoredForm, CodecError> {
        Ok(match Envelope::read(raw)? {
            None => StoredForm::Plain,
            Some(envelope) => StoredForm::Envelope {
                format: envelope.header().format,
                compression: envelope.header().compression,
                key: match envelope {
                    Envelope::Sealed { key, .. } => Some(key),
                    Envelope::Open { .. } => None,
                },
            },
        })
    }

    /// Whether stored bytes have the format and the encryption that this codec gives to what it
    /// writes now: `false` for an older key of the ring, another format, plain in place of
    /// encrypted or the reverse. Compression does not matter. Nothing is opened.
    ///
    /// What is encrypted cannot be [renewed](crate::Client::renew) as plain: a codec without the key cannot open it. A
    /// program that leaves encryption reads with one client and writes with another.
    pub fn is_current(&self, raw: &[u8]) -> bool {
        match Self::inspect(raw) {
            Ok(StoredForm::Plain) => self.format == Format::Json && !self.is_encrypting(),
            Ok(StoredForm::Envelope { format, key, .. }) => {
                (format == self.format || format == Format::Raw) && key == self.current_key()
            }
            Err(_) => false,
        }
    }

    /// [`is_current`](Self::is_current) for bytes: `false` as well for bytes without an envelope when
    /// this codec gives them one, and the reverse.
    pub fn is_current_bytes(&self, raw: &[u8]) -> bool {
        match Self::inspect(raw) {
            Ok(StoredForm::Envelope { format, key, .. }) => {
                format == Format::Raw && key == self.current_key() && self.wraps_bytes()
            }
            // A damaged envelope is bytes like any other to a codec that has none.
            Ok(StoredForm::Plain) | Err(_) => !self.wraps_bytes(),
        }
    }

    /// The same value under the current key, without knowing its type: its format stays. For patterns that
    /// keep values elsewhere than at a key of their own; values at keys have
    /// [`Client::renew`](crate::Client::renew).
    ///
    /// # Errors
    /// [`Error::Decode`] for bytes that do not open.
    pub fn rewrap(&self, key: &[u8], raw: &Bytes) -> Result<Bytes, Error> {
        let rewrapped = match self.unwrap(key, raw) {
            Ok(None) => self.wrap(key, Format::Json, raw.to_vec()),
            Ok(Some((format, opened))) => self.wrap(key, format, opened.into_vec()),
            Err(error) => Err(error),
        };
        rewrapped.map_err(|error| not_decoded::<Bytes>(key, raw.clone(), error))
    }

    /// The format that values of this codec have.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    fn of(format: Format) -> Self {
        Self {
            format,
            compression: None,
            limit: LIMIT,
            #[cfg(feature = "encryption")]
            keys: None,
            accepts_plain: false,
        }
    }

    fn wraps_bytes(&self) -> bool {
        self.compression.is_some() || self.is_encrypting()
    }

    fn current_key(&self) -> Option<u32> {
        #[cfg(feature = "encryption")]
        return self.keys.as_ref().map(KeyRing::current_id);
        #[cfg(not(feature = "encryption"))]
        return None;
    }

    fn wrap(&self, key: &[u8], format: Format, payload: Vec<u8>) -> Result<Bytes, CodecError> {
        let packed = self
            .compression
            .filter(|one| payload.len() > one.above && payload.len() <= self.limit)
            .and_then(|compression| Some((compression.algorithm, compression.compress(&payload)?)));
        let (compression, body) = match packed {
            Some((algorithm, body)) => (Some(algorithm), body),
            None => (None, payload),
        };
        let header = Header {
            format,
            compression,
            is_encrypted: self.is_encrypting(),
        };
        #[cfg(feature = "encryption")]
        if let Some(keys) = &self.keys {
            return keys.seal(header, key, &body).map(Bytes::from);
        }
        // The name is only bound to what is encrypted.
        let _ = key;
        if format == Format::Json && compression.is_none() {
            return Ok(body.into());
        }
        Ok(envelope::write_open(header, &body).into())
    }

    /// The format and the payload in an envelope; `None` for bytes without one.
    fn unwrap<'r>(
        &self,
        key: &[u8],
        raw: &'r [u8],
    ) -> Result<Option<(Format, Opened<'r>)>, CodecError> {
        let (header, body) = match Envelope::read(raw)? {
            None => {
                self.check_plain()?;
                return Ok(None);
            }
            Some(Envelope::Open { header, body }) => {
                self.check_plain()?;
                (header, Opened::Borrowed(body))
            }
            #[cfg(feature = "encryption")]
            Some(Envelope::Sealed {
                header,
                key: id,
                sealed,
            }) => {
                let keys = self.keys.as_ref().ok_or(CodecError::NoKeyRing { id })?;
                (header, Opened::Owned(keys.open(header, id, key, sealed)?))
            }
            #[cfg(not(feature = "encryption"))]
            Some(Envelope::Sealed { .. }) => {
                let _ = key;
                return Err(CodecError::Feature("encryption"));
            }
        };
        let payload = match header.compression {
            None => body,
            Some(algorithm) => Opened::Owned(algorithm.decompress(body.as_slice(), self.limit)?),
        };
        Ok(Some((header.format, payload)))
    }

    fn check_plain(&self) -> Result<(), CodecError> {
        #[cfg(feature = "encryption")]
        if self.keys.is_some() && !self.accepts_plain {
            return Err(CodecError::NotEncrypted);
        }
        Ok(())
    }
}

/// What stored bytes say about themselves: see [`Codec::inspect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoredForm {
    /// No envelope: JSON, or bytes that stand for themselves.
    Plain,
    /// An envelope.
    #[non_exhaustive]
    Envelope {
        /// The format of what is in it.
        format: Format,
        /// How it is compressed.
        compression: Option<CompressionAlgorithm>,
        /// The id of the key with which it is encrypted.
        key: Option<u32>,
    },
}

/// A payload, in the stored bytes or in a buffer of its own.
enum Opened<'r> {
    Borrowed(&'r [u8]),
    Owned(Vec<u8>),
}

impl Opened<'_> {
    fn as_slice(&self) -> &[u8] {
        match self {
            Opened::Borrowed(bytes) => bytes,
            Opened::Owned(bytes) => bytes,
        }
    }

    fn into_vec(self) -> Vec<u8> {
        match self {
            Opened::Borrowed(bytes) => bytes.to_vec(),
            Opened::Owned(bytes) => bytes,
        }
    }
}

fn not_decoded<T: ?Sized>(key: &[u8], raw: Bytes, error: CodecError) -> Error {
    Error::Decode {
        key: key.escape_ascii().to_string().into(),
        type_name: type_name::<T>(),
        raw,
        error: Arc::new(error),
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

    #[test]
    fn a_value_of_a_missing_feature_is_an_error_that_names_the_feature() {
        let header = Header {
            format: Format::Json,
            compression: Some(CompressionAlgorithm::Zstd),
            is_encrypted: false,
        };
        let raw = Bytes::from(envelope::write_open(header, b"\0\0\0\x01?"));
        let error = Codec::json()
            .decode::<i64>(b"k", raw)
            .unwrap_err()
            .to_string();
        #[cfg(not(feature = "zstd"))]
        assert!(error.contains("feature `zstd`"), "{error}");
        #[cfg(feature = "zstd")]
        assert!(error.contains("damaged"), "{error}");
    }
}
