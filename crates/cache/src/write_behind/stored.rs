//! Changes as they are stored: `v` and a value by the client's codec, or `d`.

use bytes::Bytes;
use redkit_core::ToArg;
use serde::de::DeserializeOwned;

use super::queue::Queue;
use crate::error::Error;

/// The value of a stored change; `None` for a delete.
pub(super) fn decode<V: DeserializeOwned>(
    queue: &Queue,
    key: &[u8],
    change: &Bytes,
) -> Result<Option<V>, Error> {
    match change.first() {
        Some(b'v') => decode_value(queue, key, change.slice(1..)).map(Some),
        _ => Ok(None),
    }
}

pub(super) fn decode_value<V: DeserializeOwned>(
    queue: &Queue,
    key: &[u8],
    raw: Bytes,
) -> Result<V, Error> {
    let logical = queue.logical_key(key);
    Ok(queue.client.codec().decode(logical.as_bytes(), raw)?)
}

pub(super) fn bytes_of(key: &impl ToArg) -> Bytes {
    let mut bytes = Vec::new();
    key.write_to(&mut bytes);
    bytes.into()
}
