//! [`Octets`]: bytes that stay readable where they are text.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes of a stored answer. In formats that people read (JSON) they are a text where they are UTF-8,
/// otherwise `{"base64": "…"}`; in others, bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Octets(Bytes);

impl Octets {
    /// These.
    pub fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

/// Its contents may be anybody's.
impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_bytes(&self.0);
        }
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_map([(BASE64, STANDARD.encode(&self.0))]),
        }
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.is_human_readable() {
            true => deserializer.deserialize_any(Readable),
            false => deserializer.deserialize_byte_buf(Raw),
        }
    }
}

struct Readable;

impl<'de> Visitor<'de> for Readable {
    type Value = Octets;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or its base64")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Octets, E> {
        Ok(Octets(Bytes::copy_from_slice(text.as_bytes())))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Octets, E> {
        Ok(Octets(text.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Octets, A::Error> {
        let (name, text) = map
            .next_entry::<String, String>()?
            .ok_or_else(|| de::Error::missing_field(BASE64))?;
        if name != BASE64 || map.next_key::<String>()?.is_some() {
            return Err(de::Error::custom("expected nothing but base64"));
        }
        let bytes = STANDARD.decode(text).map_err(de::Error::custom)?;
        Ok(Octets(bytes.into()))
    }
}

struct Raw;

impl<'de> Visitor<'de> for Raw {
    type Value = Octets;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Octets, E> {
        Ok(Octets(Bytes::copy_from_slice(bytes)))
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Octets, E> {
        Ok(Octets(bytes.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Octets, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        Ok(Octets(bytes.into()))
    }
}

const BASE64: &str = "base64";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_text_and_the_rest_is_base64() {
        let json = |bytes: &'static [u8]| {
            serde_json::to_string(&Octets(Bytes::from_static(bytes))).unwrap()
        };
        assert_eq!(json("h\u{e4}\"".as_bytes()), "\"h\u{e4}\\\"\"");
        assert_eq!(json(b"\xff\x00"), "{\"base64\":\"/wA=\"}");
        for bytes in [&b""[..], b"text", b"\xff\x00\xfe"] {
            let octets = Octets(Bytes::from_static(bytes));
            let json = serde_json::to_string(&octets).unwrap();
            assert_eq!(serde_json::from_str::<Octets>(&json).unwrap(), octets);
        }
        for bad in ["{}", "{\"base64\":\"!\"}", "{\"hex\":\"00\"}", "7"] {
            assert!(serde_json::from_str::<Octets>(bad).is_err(), "{bad}");
        }
    }
}
