//! The names under which locks are stored.

use bytes::Bytes;
use redkit_core::{Client, Keyspace, ToArg};

use crate::error::Error;

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

/// The channel on which the waiters of a keyspace are woken: `namespace:pattern:name:wake`.
pub(crate) fn wake_channel(client: &Client, pattern: &str, name: &str) -> Bytes {
    client.key(format!("{pattern}:{name}:wake")).to_bytes()
}

/// The keyspace of a pattern of this crate and its channel of wake-ups.
///
/// # Errors
/// [`Error::Core`] for a name that holds something else than letters, digits, `-`, `_` and `.`.
pub(crate) fn keyspace(
    client: &Client,
    pattern: &str,
    name: &str,
) -> Result<(Keyspace, Bytes), Error> {
    let keyspace = client.keyspace(pattern, name)?;
    Ok((keyspace, wake_channel(client, pattern, name)))
}
