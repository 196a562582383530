//! Sessions as the server tells of them: replies of scripts, read.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::{Error as CoreError, Value, ValueError};

use crate::entry::Entry;
use crate::error::Error;

/// A session as the server has it. Times are µs since 1970 by the server's clock.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) now: u64,
    pub(crate) expires: u64,
    pub(crate) created: u64,
    pub(crate) absolute: u64,
    pub(crate) idle: Duration,
    pub(crate) updated: u64,
    pub(crate) revision: u64,
    pub(crate) user_hash: Box<str>,
    /// The user, encoded; empty for a session without.
    pub(crate) user: Bytes,
    pub(crate) device: Box<str>,
    /// A random name of the data: what encrypted values are bound to.
    pub(crate) lineage: Box<str>,
    /// Hashes of its named indexes, with a space between them.
    pub(crate) indexes: Box<str>,
    /// The generation of its user's sessions.
    pub(crate) generation: Box<str>,
    /// After a rotation the hash of the successor's id: see `x` in `scripts/bucket.lua`.
    pub(crate) successor: Box<str>,
    pub(crate) entries: BTreeMap<Box<str>, Entry>,
}

/// Why a session cannot be read or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Absent,
    PastDeadline,
    Revoked,
    Rotated,
}

impl From<Over> for Error {
    fn from(over: Over) -> Self {
        match over {
            Over::Rotated => Error::Rotated,
            Over::Absent | Over::PastDeadline | Over::Revoked => Error::Gone,
        }
    }
}

/// Takes the status off a reply.
pub(crate) fn status(reply: &mut Vec<Value>) -> Result<i64, Error> {
    if reply.is_empty() {
        return Err(unreadable(ValueError {
            expected: "a status",
            got: "an empty list",
        }));
    }
    reply.remove(0).to().map_err(unreadable)
}

pub(crate) fn over(status: i64) -> Result<Over, Error> {
    match status {
        0 => Ok(Over::Absent),
        2 => Ok(Over::PastDeadline),
        3 => Ok(Over::Revoked),
        4 => Ok(Over::Rotated),
        _ => Err(unreadable(ValueError {
            expected: "a known status",
            got: "another one",
        })),
    }
}

impl Record {
    pub(crate) fn is_rotated(&self) -> bool {
        !self.successor.is_empty()
    }

    pub(crate) fn read(reply: Vec<Value>) -> Result<Self, Error> {
        let mut fields = Fields::new(reply);
        let mut record = Self {
            now: fields.take()?,
            expires: fields.take()?,
            created: fields.take()?,
            absolute: fields.take()?,
            idle: Duration::from_micros(fields.take()?),
            updated: fields.take()?,
            revision: fields.take()?,
            user_hash: fields.take::<String>()?.into(),
            user: fields.take()?,
            device: fields.take::<String>()?.into(),
            lineage: fields.take::<String>()?.into(),
            successor: fields.take::<String>()?.into(),
            indexes: fields.take::<String>()?.into(),
            generation: fields.take::<String>()?.into(),
            entries: BTreeMap::new(),
        };
        while !fields.0.as_slice().is_empty() {
            let name: String = fields.take()?;
            let entry = Entry::read(&fields.take()?).ok_or_else(|| {
                unreadable(ValueError {
                    expected: "an entry",
                    got: "bytes that are none",
                })
            })?;
            record.entries.insert(name.into(), entry);
        }
        Ok(record)
    }
}

/// The fields of a reply, in their order.
pub(crate) struct Fields(std::vec::IntoIter<Value>);

impl Fields {
    pub(crate) fn new(reply: Vec<Value>) -> Self {
        Self(reply.into_iter())
    }

    pub(crate) fn take<T: redkit_core::FromValue>(&mut self) -> Result<T, Error> {
        self.0.next().unwrap_or_default().to().map_err(unreadable)
    }
}

pub(crate) fn number(value: Option<&Value>) -> Result<u64, Error> {
    value.cloned().unwrap_or_default().to().map_err(unreadable)
}

pub(crate) fn unreadable(error: ValueError) -> Error {
    Error::Core(CoreError::Reply {
        command: "EVALSHA".into(),
        error,
    })
}

/// The mark that a rotated session has of its successor.
pub(crate) fn successor_mark(hash: &str, is_same_user: bool) -> String {
    match is_same_user {
        true => hash.to_owned(),
        false => format!("!{hash}"),
    }
}

/// The hash of the successor's id, where the successor is the same user's.
pub(crate) fn followed(successor: &str) -> Option<&str> {
    (!successor.is_empty() && !successor.starts_with('!')).then_some(successor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_of_another_user_is_told_from_every_hash() {
        // Hashes are base64url, and may begin with a hyphen.
        for hash in ["-gGjRp1RYY", "_a", "abc"] {
            assert_eq!(followed(&successor_mark(hash, true)), Some(hash));
            assert_eq!(followed(&successor_mark(hash, false)), None);
        }
        assert_eq!(followed(""), None);
    }
}
