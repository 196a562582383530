//! [`SessionId`]: the secret that a client holds.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redkit_core::random::fill_secret;
use secrecy::{ExposeSecret, ExposeSecretMut, SecretBox, SecretString};

use crate::error::Error;

/// Bits of a bucket tag, as many as a cluster's slots need.
const TAG_BITS: u32 = 14;
/// Random bytes: 264 bits, so that the text has no bits to spare.
const RANDOM: usize = 33;
const HEAD: usize = 3;
const LEN: usize = HEAD + RANDOM;
/// Characters of the text.
pub(crate) const TEXT: usize = LEN / 3 * 4;

/// The bucket whose slot holds all the sessions of a user, and those of other users too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BucketTag(u16);

impl BucketTag {
    /// From a user's hash.
    pub(crate) fn of_hash(hash: &[u8; 32]) -> Self {
        let [first, second, ..] = *hash;
        Self::from_bytes([first, second])
    }

    /// From its text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let tag: u16 = text.parse().ok()?;
        (u32::from(tag) < 1 << TAG_BITS).then_some(Self(tag))
    }

    fn from_bytes(bytes: [u8; 2]) -> Self {
        Self(u16::from_be_bytes(bytes) >> (u16::BITS - TAG_BITS))
    }
}

impl fmt::Display for BucketTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a session: a secret that only the client has. Redis stores a keyed hash of it.
///
/// 48 characters of base64url: the version of the pepper (a byte), the bucket tag (14 bits, a keyed hash
/// of the user, random while there is none), and 264 bits from the operating system. It is wiped from
/// memory on drop, and no `Debug` shows it.
#[derive(Clone)]
pub struct SessionId(Arc<SecretBox<[u8; LEN]>>);

impl SessionId {
    /// A new one, in a given bucket or a random one.
    pub(crate) fn generate(version: u8, tag: Option<BucketTag>) -> Result<Self, Error> {
        let mut id = SecretBox::new(Box::new([0; LEN]));
        let bytes = id.expose_secret_mut();
        fill_secret(bytes).map_err(|_| Error::NoRandomness)?;
        let random = BucketTag::from_bytes([bytes[1], bytes[2]]);
        let [high, low] = tag.unwrap_or(random).0.to_be_bytes();
        [bytes[0], bytes[1], bytes[2]] = [version, high, low];
        Ok(Self(Arc::new(id)))
    }

    /// Reads a text that a client sent; `None` for a text that is no id. Nothing is looked up.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != TEXT {
            return None;
        }
        let mut id = SecretBox::new(Box::new([0; LEN]));
        let read = URL_SAFE_NO_PAD.decode_slice(text, id.expose_secret_mut());
        let id = Self(Arc::new(id));
        (read == Ok(LEN) && u32::from(id.tag().0) < 1 << TAG_BITS).then_some(id)
    }

    /// The text for the client: in a cookie, or where your transport keeps it. Do not log it.
    pub fn expose(&self) -> SecretString {
        SecretString::from(URL_SAFE_NO_PAD.encode(self.0.expose_secret()))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.expose_secret()
    }

    pub(crate) fn version(&self) -> u8 {
        self.0.expose_secret()[0]
    }

    pub(crate) fn tag(&self) -> BucketTag {
        let bytes = self.0.expose_secret();
        BucketTag(u16::from_be_bytes([bytes[1], bytes[2]]))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(..)")
    }
}

/// A random name that nothing else has: 128 bits.
pub(crate) fn random_name() -> Result<String, Error> {
    let mut name = [0; 16];
    fill_secret(&mut name).map_err(|_| Error::NoRandomness)?;
    Ok(text(&name))
}

/// Bytes as text for keys and fields.
pub(crate) fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text_and_shows_nothing() {
        let tag = BucketTag::from_bytes([0xAB, 0xCD]);
        let id = SessionId::generate(7, Some(tag)).unwrap();
        let exposed = id.expose();
        let text = exposed.expose_secret();
        assert_eq!(text.len(), TEXT);
        let read = SessionId::parse(text).unwrap();
        assert_eq!(read.bytes(), id.bytes());
        assert_eq!((read.version(), read.tag()), (7, tag));
        assert_eq!(format!("{id:?} {exposed:?}").matches(text).count(), 0);
    }

    #[test]
    fn texts_that_are_no_ids_are_refused() {
        let id = SessionId::generate(1, None).unwrap();
        let text = id.expose().expose_secret().to_owned();
        let long = "A".repeat(10_240);
        // The tag in the second example has more than 14 bits.
        let wide = format!("AP__{}", "A".repeat(TEXT - 4));
        for wrong in [
            "",
            &wide,
            &text[1..],
            &format!("{text}A"),
            &text.replace(&text[5..6], "+"),
            &format!("{}=", &text[1..]),
            &long,
            &"ü".repeat(TEXT / 2),
        ] {
            assert!(SessionId::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn ids_and_random_tags_differ() {
        let ids: std::collections::HashSet<Vec<u8>> = (0..1_000)
            .map(|_| SessionId::generate(1, None).unwrap().bytes().to_vec())
            .collect();
        assert_eq!(ids.len(), 1_000);
        let tags: std::collections::HashSet<[u8; 2]> =
            ids.iter().map(|id| [id[1], id[2]]).collect();
        assert!(tags.len() > 900, "{}", tags.len());
    }
}
