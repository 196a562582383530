//! The names under which locks are stored.

use bytes::Bytes;
use redkit_core::{Client, Key, Keyspace, ToArg};

use crate::error::Error;

/// The keys of one lock, which share a slot.
#[derive(Debug, Clone)]
pub(crate) struct LockKeys {
    /// What the user calls it.
    pub(crate) user: Bytes,
    pub(crate) lock: Key,
    /// The record of its last fence.
    pub(crate) fence: Key,
    /// The waiters of the fair mode.
    pub(crate) queue: Key,
    pub(crate) heartbeats: Key,
}

impl LockKeys {
    pub(crate) fn new(keyspace: &Keyspace, user: Bytes) -> Self {
        Self {
            lock: keyspace.key(&user),
            fence: keyspace.role_key(&user, "fence"),
            queue: keyspace.role_key(&user, "queue"),
            heartbeats: keyspace.role_key(&user, "heartbeats"),
            user,
        }
    }
}

/// The bytes of a user's key.
///
/// # Errors
/// [`Error::EmptyKey`].
pub(crate) fn user_key(key: impl ToArg) -> Result<Bytes, Error> {
    let mut bytes = Vec::new();
    key.write_to(&mut bytes);
    match bytes.is_empty() {
        true => Err(Error::EmptyKey),
        false => Ok(bytes.into()),
    }
}

/// The keyspace of a pattern of this crate, and the channel on which its waiters are woken:
/// `namespace:pattern:name:wake`.
///
/// # Errors
/// [`Error::Core`] for a name that holds something else than letters, digits, `-`, `_` and `.`.
pub(crate) fn keyspace(
    client: &Client,
    pattern: &str,
    name: &str,
) -> Result<(Keyspace, Bytes), Error> {
    let keyspace = client.keyspace(pattern, name)?;
    let channel = client.key(format!("{pattern}:{name}:wake")).to_bytes();
    Ok((keyspace, channel))
}
