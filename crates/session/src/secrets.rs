//! [`SessionSecrets`]: the keys with which ids become names of keys.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use redkit_core::ConfigError;
use secrecy::{ExposeSecret, SecretSlice};
use sha2::Sha256;

/// Bytes of a secret at least: as many as its hash has.
const LEAST: usize = 32;

/// The secrets of a store: a key for bucket tags, and one or more *peppers*.
///
/// A session's key in Redis is the HMAC-SHA-256 of its id under a pepper, so that a dump of Redis
/// opens no session. An id names the version of its pepper, so that a load tries one only.
///
/// **Rotation of a pepper:** give every process the new one as [older](Self::with_older); then make it
/// the current one everywhere; take the old one out when the longest absolute timeout has passed since.
/// Taken out earlier, it ends the sessions that it named. **The key for bucket tags never changes**: it
/// decides where the sessions of a user are found, so with another one users lose the lists of their
/// sessions, and [revoking all of them](crate::SessionStore::revoke_all) reaches none of the older ones.
///
/// Secrets are wiped from memory on drop, and no `Debug` shows them.
///
/// ```
/// use redkit_session::SessionSecrets;
///
/// // In production from a secret store, 32 random bytes each: `openssl rand -hex 32`.
/// let (bucket_key, pepper, older) = ("01".repeat(32), "02".repeat(32), "03".repeat(32));
/// let secrets = SessionSecrets::from_hex(&bucket_key, 2, &pepper)?.with_older_hex(1, &older)?;
///
/// // Where the secrets are bytes already:
/// let secrets = SessionSecrets::new(vec![1; 32], 2, vec![2; 32])?.with_older(1, vec![3; 32])?;
/// # Ok::<(), redkit_core::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct SessionSecrets {
    bucket_key: Arc<SecretSlice<u8>>,
    current: u8,
    peppers: Arc<[(u8, SecretSlice<u8>)]>,
}

impl SessionSecrets {
    /// From a key for bucket tags, and the current pepper with its version.
    ///
    /// # Errors
    /// [`ConfigError`] for a secret with less than 32 bytes, or when both are the same.
    pub fn new(
        bucket_key: impl Into<SecretSlice<u8>>,
        version: u8,
        pepper: impl Into<SecretSlice<u8>>,
    ) -> Result<Self, ConfigError> {
        let bucket_key = long_enough("bucket_key", bucket_key.into())?;
        let pepper = long_enough("pepper", pepper.into())?;
        if bucket_key.expose_secret() == pepper.expose_secret() {
            return Err(ConfigError::new(
                "pepper",
                "it is the same as `bucket_key`",
                "make each of them with `openssl rand -hex 32`, for `SessionSecrets::from_hex`",
            ));
        }
        Ok(Self {
            bucket_key: Arc::new(bucket_key),
            current: version,
            peppers: Arc::new([(version, pepper)]),
        })
    }

    /// As [`new`](Self::new), from texts of hexadecimal digits, as `openssl rand -hex 32` makes them: 64 digits or
    /// more each. Spaces around them are ignored.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`ConfigError`] for a text that is no such digits; it does not quote what it was
    /// given.
    pub fn from_hex(bucket_key: &str, version: u8, pepper: &str) -> Result<Self, ConfigError> {
        let bucket_key = of_hex("bucket_key", bucket_key)?;
        Self::new(bucket_key, version, of_hex("pepper", pepper)?)
    }

    /// As [`with_older`](Self::with_older), from a text as [`from_hex`](Self::from_hex) reads it.
    ///
    /// # Errors
    /// As [`with_older`](Self::with_older), and [`ConfigError`] for a text that is no hexadecimal digits.
    pub fn with_older_hex(self, version: u8, pepper: &str) -> Result<Self, ConfigError> {
        self.with_older(version, of_hex("pepper", pepper)?)
    }

    /// Adds a pepper under which existing sessions are still found.
    ///
    /// # Errors
    /// [`ConfigError`] for a pepper with less than 32 bytes, or a version that is there already.
    pub fn with_older(
        self,
        version: u8,
        pepper: impl Into<SecretSlice<u8>>,
    ) -> Result<Self, ConfigError> {
        if self.pepper(version).is_some() {
            return Err(ConfigError::new(
                "pepper",
                format!("version {version} is there already"),
                "give every pepper a version of its own",
            ));
        }
        let older = long_enough("pepper", pepper.into())?;
        let peppers = self.peppers.iter().cloned().chain([(version, older)]);
        Ok(Self {
            peppers: peppers.collect(),
            ..self
        })
    }

    /// The version of the pepper that new ids have.
    pub(crate) fn current(&self) -> u8 {
        self.current
    }

    /// The hash of an id under a pepper; `None` for a version that is not known.
    pub(crate) fn hash_id(&self, version: u8, id: &[u8]) -> Option<[u8; 32]> {
        Some(keyed_hash(self.pepper(version)?, b"id", id))
    }

    /// The hash of a user: its first bits are the bucket tag.
    pub(crate) fn hash_user(&self, user: &[u8]) -> [u8; 32] {
        keyed_hash(&self.bucket_key, b"user", user)
    }

    /// The hash of an id for logs: nobody can compute it, or try ids, without the secret.
    pub(crate) fn hash_for_log(&self, id: &[u8]) -> [u8; 32] {
        keyed_hash(&self.bucket_key, b"log", id)
    }

    /// The hash of a value of a named index.
    pub(crate) fn hash_index(&self, name: &str, value: &str) -> [u8; 32] {
        // Names have no zero byte, so that no two pairs are alike.
        let pair = [name.as_bytes(), &[0], value.as_bytes()].concat();
        keyed_hash(&self.bucket_key, b"index", &pair)
    }

    /// The hash of the id of a record of `tower-sessions`.
    #[cfg(feature = "tower-sessions")]
    pub(crate) fn hash_record(&self, id: &[u8]) -> [u8; 32] {
        keyed_hash(&self.bucket_key, b"record", id)
    }

    /// The token that pages of a session send with their requests.
    #[cfg(feature = "tower")]
    pub(crate) fn csrf_token(&self, id: &[u8]) -> String {
        crate::id::text(&keyed_hash(&self.bucket_key, b"csrf", id))
    }

    /// Whether a text is the token of a session. It takes as long whatever the text is.
    #[cfg(feature = "tower")]
    pub(crate) fn is_csrf_token(&self, id: &[u8], token: &[u8]) -> bool {
        use base64::Engine;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;

        let Ok(token) = URL_SAFE_NO_PAD.decode(token) else {
            return false;
        };
        let mac = mac_of(&self.bucket_key, b"csrf", id);
        mac.is_some_and(|mac| mac.verify_slice(&token).is_ok())
    }

    fn pepper(&self, version: u8) -> Option<&SecretSlice<u8>> {
        let found = self.peppers.iter().find(|(known, _)| *known == version);
        found.map(|(_, pepper)| pepper)
    }
}

impl fmt::Debug for SessionSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions: Vec<u8> = self.peppers.iter().map(|(version, _)| *version).collect();
        f.debug_struct("SessionSecrets")
            .field("current", &self.current)
            .field("versions", &versions)
            .finish_non_exhaustive()
    }
}

fn long_enough(
    field: &'static str,
    secret: SecretSlice<u8>,
) -> Result<SecretSlice<u8>, ConfigError> {
    match secret.expose_secret().len() {
        LEAST.. => Ok(secret),
        len => Err(ConfigError::new(
            field,
            format!("it has {len} bytes"),
            "make it with `openssl rand -hex 32`, for `SessionSecrets::from_hex`",
        )),
    }
}

fn of_hex(field: &'static str, text: &str) -> Result<SecretSlice<u8>, ConfigError> {
    let digits = text.trim().as_bytes();
    let value = |digit: u8| char::from(digit).to_digit(16);
    let byte = |pair: &[u8]| match *pair {
        [high, low] => u8::try_from(value(high)? << 4 | value(low)?).ok(),
        _ => None,
    };
    // As large as it becomes at once: no copy of it is left behind.
    let mut bytes = Vec::with_capacity(digits.len().div_ceil(2));
    for pair in digits.chunks(2) {
        match byte(pair) {
            Some(byte) => bytes.push(byte),
            None => {
                // Wiped, too.
                drop(SecretSlice::from(bytes));
                return Err(ConfigError::new(
                    field,
                    "it is not pairs of hexadecimal digits",
                    "make it with `openssl rand -hex 32`",
                ));
            }
        }
    }
    Ok(bytes.into())
}

/// HMAC-SHA-256 of a value for a purpose: hashes of different purposes have nothing in common.
fn keyed_hash(key: &SecretSlice<u8>, purpose: &[u8], value: &[u8]) -> [u8; 32] {
    match mac_of(key, purpose, value) {
        Some(mac) => mac.finalize().into_bytes().into(),
        // A key of any length is taken.
        None => [0; 32],
    }
}

fn mac_of(key: &SecretSlice<u8>, purpose: &[u8], value: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose_secret()).ok()?;
    mac.update(purpose);
    mac.update(&[0]);
    mac.update(value);
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_secrets_are_refused_and_none_is_shown() {
        let refused = |result: Result<SessionSecrets, ConfigError>| result.unwrap_err().to_string();
        assert!(refused(SessionSecrets::new(vec![1; 31], 1, vec![2; 32])).contains("31 bytes"));
        assert!(refused(SessionSecrets::new(vec![1; 32], 1, vec![])).contains("0 bytes"));
        assert!(refused(SessionSecrets::new(vec![1; 32], 1, vec![1; 32])).contains("same"));
        let secrets = SessionSecrets::new(vec![171; 32], 1, vec![205; 32]).unwrap();
        assert!(refused(secrets.clone().with_older(1, vec![3; 32])).contains("already"));
        let shown = format!("{secrets:?}");
        assert_eq!(shown, "SessionSecrets { current: 1, versions: [1], .. }");
    }

    #[test]
    fn secrets_in_hexadecimal_digits_are_those_in_bytes() {
        let (one, two) = (
            " 0aFf".to_owned() + &"01".repeat(30) + "\n",
            "02".repeat(40),
        );
        let read = SessionSecrets::from_hex(&one, 1, &two).unwrap();
        let read = read.with_older_hex(3, &"03".repeat(32)).unwrap();
        let bytes = [vec![0x0a, 0xff], vec![1; 30]].concat();
        let made = SessionSecrets::new(bytes, 1, vec![2; 40]).unwrap();
        assert_eq!(read.hash_user(b"u"), made.hash_user(b"u"));
        assert_eq!(read.hash_id(1, b"i"), made.hash_id(1, b"i"));
        let older = made.with_older(3, vec![3; 32]).unwrap();
        assert_eq!(read.hash_id(3, b"i"), older.hash_id(3, b"i"));
        for wrong in ["", "0a", &"0".repeat(65), &"g".repeat(64), &"é".repeat(32)] {
            let error = SessionSecrets::from_hex(wrong, 1, &two).unwrap_err();
            assert_eq!(error.field(), "bucket_key");
            let error = error.to_string();
            assert!(error.contains("openssl rand -hex 32"), "{error}");
            assert!(!error.contains("gg"), "{error}");
        }
    }

    #[test]
    fn the_hash_is_hmac_sha_256() {
        // The key and the message of RFC 4231, test case 1, with the purpose in front of it.
        let key = SecretSlice::from(vec![0x0b; 20]);
        let hash = keyed_hash(&key, b"id", b"Hi There");
        let mut mac = Hmac::<Sha256>::new_from_slice(&[0x0b; 20]).unwrap();
        mac.update(b"id\0Hi There");
        assert_eq!(hash, <[u8; 32]>::from(mac.finalize().into_bytes()));
    }
}
