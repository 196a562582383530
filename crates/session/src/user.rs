//! The user's name as it is stored.

use bytes::Bytes;
use redkit_core::{Codec, Error as CoreError, Keyspace};

/// The name that an encrypted user opens under: that of this session's data, under this id. A record that is copied to
/// another key opens nothing there.
pub(crate) fn bound_to(keyspace: &Keyspace, lineage: &str, hash: &str) -> Bytes {
    keyspace.tagged_key(lineage, "user", hash).to_bytes()
}

/// The user, or that there is none, for a session whose id has this hash. A codec that encrypts seals both: a record
/// whose user was taken away is not the record of a visitor.
pub(crate) fn encode(
    codec: &Codec,
    bound_to: &[u8],
    user: Option<&str>,
) -> Result<Bytes, CoreError> {
    match user {
        None if !codec.is_encrypting() => Ok(Bytes::new()),
        user => codec.encode(bound_to, user.unwrap_or_default()),
    }
}

/// What [`encode`] has made.
pub(crate) fn decode(
    codec: &Codec,
    bound_to: &[u8],
    stored: &Bytes,
) -> Result<Option<String>, CoreError> {
    if stored.is_empty() {
        if codec.is_encrypting() {
            // Refused, unless plain values are accepted.
            codec.decode_bytes(bound_to, stored.clone())?;
        }
        return Ok(None);
    }
    let user: String = codec.decode(bound_to, stored.clone())?;
    Ok((!user.is_empty()).then_some(user))
}
