//! Between values and bytes: to which place a value is bound, and what becomes of bytes that are
//! not a value.

use bytes::Bytes;
use redkit_core::{Client, Codec, Error as CoreError, Key};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// Refuses a codec that may encode equal values to different bytes, where items are found by their
/// bytes.
pub(crate) fn require_equality(codec: &Codec, what: &'static str) -> Result<(), Error> {
    match codec.is_deterministic() {
        true => Ok(()),
        false => Err(Error::NotComparable { what }),
    }
}

/// The places of a hash's fields, to which a codec that encrypts binds their values: a value that
/// is moved to another field or another hash does not open.
///
/// A place is the key, two zero bytes and the field; a zero byte in the key is followed by a one,
/// so that no key and field have the place of another key and field.
pub(crate) struct FieldPlaces {
    buffer: Vec<u8>,
    prefix: usize,
}

impl FieldPlaces {
    pub(crate) fn new(key: &Key) -> Self {
        let mut buffer = Vec::with_capacity(key.as_bytes().len() + 32);
        for &byte in key.as_bytes() {
            buffer.push(byte);
            if byte == 0 {
                buffer.push(1);
            }
        }
        buffer.extend_from_slice(&[0, 0]);
        Self {
            prefix: buffer.len(),
            buffer,
        }
    }

    pub(crate) fn of(&mut self, field: &[u8]) -> &[u8] {
        self.buffer.truncate(self.prefix);
        self.buffer.extend_from_slice(field);
        &self.buffer
    }
}

pub(crate) fn encode<T: Serialize + ?Sized>(
    client: &Client,
    place: &[u8],
    value: &T,
) -> Result<Bytes, Error> {
    Ok(client.codec().encode(place, value)?)
}

pub(crate) fn decode<T: DeserializeOwned>(
    client: &Client,
    place: &[u8],
    raw: Bytes,
) -> Result<T, Error> {
    Ok(client.codec().decode(place, raw)?)
}

/// Decodes items that are no longer in the collection; a failure keeps all of them.
pub(crate) fn decode_taken<T: DeserializeOwned>(
    client: &Client,
    place: &[u8],
    taken: Vec<Bytes>,
) -> Result<Vec<T>, Error> {
    let decoded: Result<Vec<T>, CoreError> = taken
        .iter()
        .map(|raw| client.codec().decode(place, raw.clone()))
        .collect();
    decoded.map_err(|error| Error::Undecodable {
        taken,
        scores: Vec::new(),
        error: Box::new(error),
    })
}

/// The same for one item at most.
pub(crate) fn decode_taken_one<T: DeserializeOwned>(
    client: &Client,
    place: &[u8],
    taken: Option<Bytes>,
) -> Result<Option<T>, Error> {
    Ok(decode_taken(client, place, taken.into_iter().collect())?.pop())
}

/// A key and a field, for messages.
pub(crate) fn field_name(key: &Key, field: &[u8]) -> Box<str> {
    format!("{key}[{}]", field.escape_ascii()).into()
}

/// Lets a failure to decode name the field in place of the codec's place.
pub(crate) fn name_field(error: Error, key: &Key, field: &[u8]) -> Error {
    match error {
        Error::Core(CoreError::Decode {
            type_name,
            raw,
            error,
            ..
        }) => Error::Core(CoreError::Decode {
            key: field_name(key, field),
            type_name,
            raw,
            error,
        }),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(key: &[u8], field: &[u8]) -> Vec<u8> {
        let key = Key::from_raw(key.to_vec());
        FieldPlaces::new(&key).of(field).to_vec()
    }

    proptest! {
        #[test]
        fn no_two_fields_share_a_place(
            a in "[\0\u{1}a]{0,4}", b in "[\0\u{1}a]{0,4}",
            c in "[\0\u{1}a]{0,4}", d in "[\0\u{1}a]{0,4}",
        ) {
            let same = (&a, &b) == (&c, &d);
            prop_assert_eq!(
                same,
                place(a.as_bytes(), b.as_bytes()) == place(c.as_bytes(), d.as_bytes())
            );
        }
    }

    #[test]
    fn a_place_is_used_again() {
        let mut places = FieldPlaces::new(&Key::from_raw("k"));
        assert_eq!(places.of(b"long field"), b"k\0\0long field");
        assert_eq!(places.of(b"f"), b"k\0\0f");
    }
}
