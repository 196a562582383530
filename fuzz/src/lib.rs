//! What the fuzz targets share: the codecs, and the types that are decoded.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use bytes::Bytes;
use redkit_core::{Codec, Compression, EncryptionKey, Error, KeyRing};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A type with some of everything.
#[derive(Debug, Deserialize)]
pub struct Record {
    _id: u64,
    _name: String,
    _tags: Vec<String>,
    _choice: Choice,
    _scores: BTreeMap<String, i32>,
    _maybe: Option<Box<[u8]>>,
    _float: f64,
    _letter: char,
}

/// An enum of every shape.
#[derive(Debug, Deserialize)]
pub enum Choice {
    /// No data.
    Unit,
    /// One.
    One(i64),
    /// Several.
    Tuple(u8, u16),
    /// With names.
    Struct {
        /// One.
        field: bool,
    },
}

/// A type that contains itself.
#[derive(Debug, Deserialize)]
pub struct Nest {
    _inner: Vec<Nest>,
}

/// Codecs of every kind. All of them read whatever an envelope says, so few are enough.
pub static CODECS: LazyLock<[Codec; 3]> = LazyLock::new(|| {
    let ring = || KeyRing::new(1, EncryptionKey::from_bytes([7; 32]));
    let limited = Codec::json()
        .compress(Compression::zstd())
        .decompression_limit(1 << 20);
    [
        limited.clone(),
        limited.clone().encrypt(ring()),
        limited.encrypt(ring()).accept_plain(),
    ]
});

/// Decodes `raw` into every type.
pub fn decode_all(codec: &Codec, raw: &Bytes) {
    decode::<Record>(codec, raw);
    decode::<Choice>(codec, raw);
    decode::<String>(codec, raw);
    decode::<Vec<Option<u32>>>(codec, raw);
    decode::<HashMap<String, (f32, i128)>>(codec, raw);
    decode::<serde_json::Value>(codec, raw);
    // postcard is documented not to bound how deep a value nests.
    if !is_postcard(raw) {
        decode::<Nest>(codec, raw);
    }
    if let Err(error) = codec.decode_bytes(b"name", raw.clone()) {
        check(&error, raw);
    }
}

fn decode<T: DeserializeOwned>(codec: &Codec, raw: &Bytes) {
    if let Err(error) = codec.decode::<T>(b"name", raw.clone()) {
        check(&error, raw);
    }
}

/// The bytes are kept, whatever is wrong with them.
fn check(error: &Error, raw: &Bytes) {
    match error {
        Error::Decode { raw: kept, key, .. } => assert!(kept == raw && &**key == "name"),
        other => panic!("{other}"),
    }
    let _ = error.to_string();
}

fn is_postcard(raw: &[u8]) -> bool {
    raw.get(2) == Some(&3)
}
