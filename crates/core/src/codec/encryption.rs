//! Encryption: keys, and sealing and opening with them.
//!
//! XChaCha20-Poly1305, with a random nonce of 192 bits for every value: so long that random ones
//! do not repeat in any number of values that one can write. What is authenticated beside the
//! value is the envelope's header, the key's id and the name under which the value is stored, so
//! that neither can be exchanged.

use std::fmt;
use std::sync::Arc;

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use rand::TryRng;
use rand::rngs::SysRng;
use secrecy::{ExposeSecret, SecretBox};

use super::envelope::{HEADER, Header, KEY_ID};
use super::error::CodecError;
use crate::config::ConfigError;

const NONCE: usize = 24;
const TAG: usize = 16;
const KEY: usize = 32;

/// A secret key of 256 bits. It is wiped from memory on drop, and no `Debug` shows it.
#[derive(Clone)]
pub struct EncryptionKey(Arc<SecretBox<[u8; KEY]>>);

impl EncryptionKey {
    /// From 32 bytes that a random generator made, not a password.
    pub fn from_bytes(bytes: [u8; KEY]) -> Self {
        Self(Arc::new(SecretBox::new(Box::new(bytes))))
    }

    /// From 64 hexadecimal digits, as `openssl rand -hex 32` prints them. White space around them
    /// does not count.
    ///
    /// # Errors
    /// [`ConfigError`] for anything else; it does not quote what it was given.
    pub fn from_hex(hex: &str) -> Result<Self, ConfigError> {
        let wrong = || {
            ConfigError::new(
                "encryption_key",
                "it is not 64 hexadecimal digits",
                "make one with `openssl rand -hex 32`",
            )
        };
        let digits = hex.trim().as_bytes();
        let mut key = SecretBox::new(Box::new([0_u8; KEY]));
        if digits.len() != 2 * KEY {
            return Err(wrong());
        }
        let bytes = secrecy::ExposeSecretMut::expose_secret_mut(&mut key);
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let mut value = 0;
            for &digit in pair {
                let digit = char::from(digit).to_digit(16).ok_or_else(wrong)?;
                value = value << 4 | digit;
            }
            *byte = u8::try_from(value).map_err(|_| wrong())?;
        }
        Ok(Self(Arc::new(key)))
    }

    /// A new key from the operating system's random numbers. Store it before you write with it.
    ///
    /// # Errors
    /// [`CodecError::NoRandomness`].
    pub fn generate() -> Result<Self, CodecError> {
        let mut key = SecretBox::new(Box::new([0_u8; KEY]));
        let bytes = secrecy::ExposeSecretMut::expose_secret_mut(&mut key);
        SysRng
            .try_fill_bytes(bytes)
            .map_err(|_| CodecError::NoRandomness)?;
        Ok(Self(Arc::new(key)))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.0.expose_secret().into())
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionKey(..)")
    }
}

/// The keys of a program by their ids: one writes, all read.
///
/// To rotate: give every reader the new key as an older one; then make it the current one
/// everywhere; then rewrite what the old key wrote ([`Client::renew`](crate::Client::renew)), or
/// wait until it has expired; then take the old one out. A key is never used again under another
/// id, and an id never for another key.
#[derive(Clone)]
pub struct KeyRing {
    current: u32,
    keys: Arc<[(u32, EncryptionKey)]>,
}

impl KeyRing {
    /// A ring whose current key, with which is written, has this id.
    pub fn new(id: u32, key: EncryptionKey) -> Self {
        Self {
            current: id,
            keys: Arc::new([(id, key)]),
        }
    }

    /// Adds a key that is only read with.
    ///
    /// # Errors
    /// [`ConfigError`] when the id is taken.
    pub fn with_older(self, id: u32, key: EncryptionKey) -> Result<Self, ConfigError> {
        if self.key(id).is_some() {
            return Err(ConfigError::new(
                "key_ring",
                format!("the id {id} is there already"),
                "give every key an id of its own",
            ));
        }
        let keys = self.keys.iter().cloned().chain([(id, key)]).collect();
        Ok(Self { keys, ..self })
    }

    /// The id of the key that is written with.
    pub fn current_id(&self) -> u32 {
        self.current
    }

    /// The ids of all keys, the current one first.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.keys.iter().map(|(id, _)| *id)
    }

    /// Encrypts `body` into a whole envelope that opens under `name` only.
    pub(super) fn seal(
        &self,
        header: Header,
        name: &[u8],
        body: &[u8],
    ) -> Result<Vec<u8>, CodecError> {
        let id = self.current;
        let key = self.key(id).ok_or(CodecError::UnknownKey { id })?;
        let mut nonce = [0; NONCE];
        SysRng
            .try_fill_bytes(&mut nonce)
            .map_err(|_| CodecError::NoRandomness)?;
        let mut envelope = Vec::with_capacity(HEADER + KEY_ID + NONCE + body.len() + TAG);
        envelope.extend_from_slice(&header.bytes());
        envelope.extend_from_slice(&id.to_be_bytes());
        envelope.extend_from_slice(&nonce);
        let start = envelope.len();
        envelope.extend_from_slice(body);
        let text = envelope.get_mut(start..).unwrap_or_default();
        let tag = key
            .cipher()
            .encrypt_inout_detached(
                &XNonce::from(nonce),
                &associated(header, id, name),
                text.into(),
            )
            .map_err(|_| CodecError::TooLarge {
                length: body.len() as u64,
                limit: u64::from(u32::MAX),
            })?;
        envelope.extend_from_slice(&tag);
        Ok(envelope)
    }

    /// Undoes [`seal`](Self::seal) for what follows the key's id.
    pub(super) fn open(
        &self,
        header: Header,
        id: u32,
        name: &[u8],
        sealed: &[u8],
    ) -> Result<Vec<u8>, CodecError> {
        let key = self.key(id).ok_or(CodecError::UnknownKey { id })?;
        let short = CodecError::Damaged("it ends within nonce or tag");
        let Some((nonce, rest)) = sealed.split_first_chunk::<NONCE>() else {
            return Err(short);
        };
        let Some((text, tag)) = rest.split_last_chunk::<TAG>() else {
            return Err(short);
        };
        let mut body = text.to_vec();
        key.cipher()
            .decrypt_inout_detached(
                &XNonce::from(*nonce),
                &associated(header, id, name),
                body.as_mut_slice().into(),
                &Tag::from(*tag),
            )
            .map_err(|_| CodecError::Sealed { id })?;
        Ok(body)
    }

    fn key(&self, id: u32) -> Option<&EncryptionKey> {
        self.keys
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, key)| key)
    }
}

/// Shows the ids.
impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("current", &self.current)
            .field("ids", &self.ids().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// What is authenticated beside the value. Header and id have fixed lengths, so that no two
/// triples give the same bytes.
fn associated(header: Header, id: u32, name: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + KEY_ID + name.len());
    bytes.extend_from_slice(&header.bytes());
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(name);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_never_shown() {
        let hex = "00".repeat(31) + "fF";
        let key = EncryptionKey::from_hex(&format!(" {hex}\n")).unwrap();
        assert_eq!(key.0.expose_secret()[31], 255);
        for wrong in ["", "00", &"0".repeat(63), &"g".repeat(64), &"é".repeat(32)] {
            let error = EncryptionKey::from_hex(wrong).unwrap_err().to_string();
            assert!(error.contains("openssl"), "{error}");
            assert!(
                wrong.is_empty() || !error.contains(&"g".repeat(8)),
                "{error}"
            );
        }
        let ring = KeyRing::new(7, key).with_older(6, EncryptionKey::from_bytes([1; 32]));
        let shown = format!("{:?}", ring.unwrap());
        assert_eq!(shown, "KeyRing { current: 7, ids: [7, 6], .. }");
    }

    #[test]
    fn an_id_is_given_once() {
        let key = || EncryptionKey::generate().unwrap();
        let error = KeyRing::new(1, key()).with_older(1, key()).unwrap_err();
        assert_eq!(error.field(), "key_ring");
    }

    #[test]
    fn nothing_opens_under_another_header_id_or_name() {
        let ring = KeyRing::new(1, EncryptionKey::from_bytes([7; 32]));
        let same = ring
            .clone()
            .with_older(2, EncryptionKey::from_bytes([7; 32]))
            .unwrap();
        let header = Header {
            format: super::super::format::Format::Json,
            compression: None,
            is_encrypted: true,
        };
        let envelope = ring.seal(header, b"name", b"secret").unwrap();
        let sealed = &envelope[HEADER + KEY_ID..];
        assert_eq!(same.open(header, 1, b"name", sealed).unwrap(), b"secret");
        let other = Header {
            format: super::super::format::Format::Raw,
            ..header
        };
        assert!(same.open(other, 1, b"name", sealed).is_err());
        assert!(same.open(header, 2, b"name", sealed).is_err());
        assert!(same.open(header, 1, b"names", sealed).is_err());
        assert!(same.open(header, 1, b"nam", sealed).is_err());
        assert!(!envelope.windows(6).any(|bytes| bytes == b"secret"));
    }
}
