//! [`Names`]: the keys and channels of one cache. `docs/keyspace.md` lists them.

use bytes::Bytes;
use redkit_core::{Client, Key, Keyspace, ToArg};

use crate::error::Error;

/// Into how many groups the invalidations of tags are counted: a load is not kept when a tag of the
/// same group as one of its own is invalidated while it runs.
const TAG_STRIPES: u16 = 64;

/// What a server takes as a key at most.
const MAX_KEY: usize = 512 * 1024 * 1024;

#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) entries: Keyspace,
    tags: Keyspace,
    /// The hash with what concerns the whole cache.
    pub(crate) meta: Key,
    /// Who waits for another process's load listens here.
    pub(crate) wake: Bytes,
    /// Levels in the processes listen here.
    pub(crate) changes: Bytes,
}

/// The keys of one entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct EntryKeys {
    pub(crate) entry: Key,
    pub(crate) lease: Key,
}

impl Names {
    pub(crate) fn new(client: &Client, name: &str) -> Result<Self, Error> {
        let channel = |role: &str| {
            let key = client.key(format!("cache:{name}:{role}"));
            Bytes::copy_from_slice(key.as_bytes())
        };
        Ok(Self {
            entries: client.keyspace("cache", name)?,
            tags: client.keyspace("cache-tag", name)?,
            meta: client.keyspace("cache-meta", name)?.key(name),
            wake: channel("wake"),
            changes: channel("changes"),
        })
    }

    /// # Errors
    /// [`Error::KeyTooLong`]
    pub(crate) fn of_entry(&self, key: impl ToArg) -> Result<EntryKeys, Error> {
        let keys = EntryKeys {
            entry: self.entries.key(&key),
            lease: self.entries.role_key(&key, "lease"),
        };
        check_length(keys.lease.as_bytes().len())?;
        Ok(keys)
    }

    pub(crate) fn of_tag(&self, tag: &str) -> Key {
        self.tags.key(tag)
    }
}

/// The field of the meta hash that counts the invalidations of this tag and its like. Every
/// process must come to the same result.
pub(crate) fn stripe(tag: &str) -> String {
    // The CRC is the same in every version of every program.
    format!("e{}", redkit_core::slot(tag.as_bytes()) % TAG_STRIPES)
}

fn check_length(length: usize) -> Result<(), Error> {
    match length > MAX_KEY {
        true => Err(Error::KeyTooLong(length)),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_no_server_takes_is_refused() {
        assert!(check_length(MAX_KEY).is_ok());
        assert!(matches!(
            check_length(MAX_KEY + 1),
            Err(Error::KeyTooLong(_))
        ));
    }
}
