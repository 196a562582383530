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

    /// From the server's time, when the session expires, and all that stands at its key: see `shown` in
    /// `scripts/bucket.lua`. Entries that have expired are left out.
    pub(crate) fn read(reply: Vec<Value>) -> Result<Self, Error> {
        let mut reply = Fields::new(reply);
        let (now, expires): (u64, u64) = (reply.take()?, reply.take()?);
        let mut stored = reply.take::<Vec<Value>>()?.into_iter();
        let mut fields: [Value; NAMES.len()] = Default::default();
        let mut entries = BTreeMap::new();
        while let (Some(name), Some(value)) = (stored.next(), stored.next()) {
            let name: Bytes = required(name)?;
            if name.starts_with(b".") {
                let entry = Entry::read(&required(value)?).ok_or_else(|| {
                    unreadable(ValueError {
                        expected: "an entry",
                        got: "bytes that are none",
                    })
                })?;
                if entry.expires.is_none_or(|at| at > now) {
                    let name: String = required(Value::Bulk(name.slice(1..)))?;
                    entries.insert(name.into(), entry);
                }
            } else if let Some(at) = NAMES.iter().position(|field| name == field.as_bytes()) {
                fields[at] = value;
            }
        }
        let [c, a, i, m, r, u, n, d, l, g, k, x] = fields;
        let absolute = required(a)?;
        Ok(Self {
            now,
            expires: expires.min(absolute),
            created: required(c)?,
            absolute,
            idle: Duration::from_micros(required(i)?),
            updated: required(m)?,
            revision: required(r)?,
            user_hash: required::<String>(u)?.into(),
            user: required(n)?,
            device: required::<String>(d)?.into(),
            lineage: required::<String>(l)?.into(),
            generation: required::<String>(g)?.into(),
            indexes: or_empty(k)?,
            successor: or_empty(x)?,
            entries,
        })
    }
}

/// The fields of a [`Record`] at the server; the last two may be missing.
const NAMES: [&str; 12] = ["c", "a", "i", "m", "r", "u", "n", "d", "l", "g", "k", "x"];

fn required<T: redkit_core::FromValue>(value: Value) -> Result<T, Error> {
    value.to().map_err(unreadable)
}

fn or_empty(value: Value) -> Result<Box<str>, Error> {
    let text: Option<String> = value.to().map_err(unreadable)?;
    Ok(text.unwrap_or_default().into())
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
    fn entries_that_have_expired_are_left_out_and_a_missing_field_is_an_error() {
        let stored = |without: &str| {
            let numbers = ["c", "a", "i", "m", "r"].map(|name| (name, "2000"));
            let texts = ["u", "n", "d", "l", "g", "z"].map(|name| (name, ""));
            let entries = [(".early", "E999:1"), (".late", "E1001:2"), (".kept", "=3")];
            let all = numbers.into_iter().chain(texts).chain(entries);
            let all = all.filter(|(name, _)| *name != without);
            let bulk = |text: &'static str| Value::Bulk(Bytes::from_static(text.as_bytes()));
            let flat = all.flat_map(|(name, value)| [bulk(name), bulk(value)]);
            vec![
                Value::Int(1000),
                Value::Int(3000),
                Value::Array(flat.collect()),
            ]
        };
        let record = Record::read(stored("")).unwrap();
        assert_eq!(
            (record.now, record.expires),
            (1000, 2000),
            "the absolute deadline is earlier"
        );
        let names: Vec<&str> = record.entries.keys().map(|name| &**name).collect();
        assert_eq!(names, ["kept", "late"]);
        for field in ["a", "l", "u"] {
            assert!(Record::read(stored(field)).is_err(), "{field}");
        }
    }

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
