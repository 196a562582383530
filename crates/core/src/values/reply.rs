//! Replies into values.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::codec::Codec;
use crate::error::Error;
use crate::value::{FromValue, Value, ValueError};

/// A value of the codec's; `None` when there is no key.
pub(super) fn decoded<T: DeserializeOwned>(
    codec: &Codec,
    command: &str,
    key: &[u8],
    reply: Value,
) -> Result<Option<T>, Error> {
    match converted::<Option<Bytes>>(command, reply)? {
        None => Ok(None),
        Some(raw) => codec.decode(key, raw).map(Some),
    }
}

pub(super) fn converted<T: FromValue>(command: &str, reply: Value) -> Result<T, Error> {
    reply.to().map_err(|error| wrong_reply(command, error))
}

pub(super) fn wrong_reply(command: &str, error: ValueError) -> Error {
    Error::Reply {
        command: command.into(),
        error,
    }
}
