//! [`Names`]: the keys and channels of one cache. `docs/keyspace.md` lists them.

use bytes::Bytes;
use redkit_core::{Client, Key, Keyspace, ToArg};

use crate::error::Error;

/// Into how many groups the invalidations of tags are counted: a load is not kept when a tag of the
/// same group as one of its own is invalidated while it runs.
const TAG_STRIPES: u16 = 64;

/// The longest key that a server takes.
const MAX_KEY: usize = 512 * 1024 * 1024;

#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) entries: Keyspace,
    tags: Keyspace,
    /// The hash with what concerns the whole cache.
    pub(crate) meta: Key,
    /// The generation of the whole cache: apart from the hash, so that one `MGET` reads it with an
    /// entry, and in its slot, so that one script changes both.
    pub(crate) generation: Key,
    /// Callers that wait for another process's load listen here.
    pub(crate) wake: Bytes,
    /// Local caches listen here.
    pub(crate) changes: Bytes,
}

/// The keys of one entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct EntryKeys {
    pub(crate) entry: Key,
    pub(crate) lease: Key,
}

/// The meaning of a change of a key for the values that a process keeps.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The entry of this user key is another, or none.
    Entry(Vec<u8>),
    Tag(String),
    /// Anything may have changed.
    All,
    Nothing,
}

impl Names {
    pub(crate) fn new(client: &Client, name: &str) -> Result<Self, Error> {
        let channel = |role: &str| {
            let key = client.key(format!("cache:{name}:{role}"));
            Bytes::copy_from_slice(key.as_bytes())
        };
        let meta = client.keyspace("cache-meta", name)?;
        Ok(Self {
            entries: client.keyspace("cache", name)?,
            tags: client.keyspace("cache-tag", name)?,
            meta: meta.key(name),
            generation: meta.role_key(name, "generation"),
            wake: channel("wake"),
            changes: channel("changes"),
        })
    }

    /// # Errors
    /// [`Error::KeyTooLong`]
    pub(crate) fn of_entry(&self, key: impl ToArg) -> Result<EntryKeys, Error> {
        // The entry's key is the beginning of its lease's: both in one buffer.
        let lease = self.entries.role_key(&key, "lease");
        let bytes = lease.to_bytes();
        check_length(bytes.len())?;
        Ok(EntryKeys {
            entry: Key::from_raw(bytes.slice(..bytes.len().saturating_sub(":lease".len()))),
            lease,
        })
    }

    pub(crate) fn of_tag(&self, tag: &str) -> Key {
        self.tags.key(tag)
    }

    /// The beginnings of the keys whose changes concern the values that processes keep. None is the
    /// beginning of another.
    pub(crate) fn tracked(&self) -> Vec<Bytes> {
        let (entries, tags) = (self.entries.prefix(), self.tags.prefix());
        vec![entries, tags, self.generation.to_bytes()]
    }

    /// The meaning of a change of a key that begins as [`Names::tracked`] says.
    pub(crate) fn meaning(&self, key: &[u8]) -> Meaning {
        match self.entries.parse(key) {
            Some((key, None)) => return Meaning::Entry(key),
            // Leases come and go with every load.
            Some((_, Some("lease"))) => return Meaning::Nothing,
            _ => {}
        }
        match self.tags.parse(key) {
            Some((tag, None)) => String::from_utf8(tag).map_or(Meaning::All, Meaning::Tag),
            _ => Meaning::All,
        }
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
    use redkit_core::ClientConfig;
    use redkit_embedded::Embedded;

    use super::*;

    #[test]
    fn an_entrys_keys_are_built_by_its_keyspace() {
        let engine = std::sync::Arc::new(Embedded::new());
        let client = Client::from_backend(engine, &ClientConfig::default()).unwrap();
        let names = Names::new(&client, "numbers").unwrap();
        for key in ["", "42", "}{%", ":lease"] {
            let keys = names.of_entry(key).unwrap();
            assert_eq!(keys.entry, names.entries.key(key));
            assert_eq!(keys.lease, names.entries.role_key(key, "lease"));
        }
        assert_eq!(names.generation.slot(), names.meta.slot());
    }

    #[test]
    fn each_tracked_key_is_told_apart() {
        let engine = std::sync::Arc::new(Embedded::new());
        let client = Client::from_backend(engine, &ClientConfig::default()).unwrap();
        let names = Names::new(&client, "numbers").unwrap();
        let keys = names.of_entry("a}b").unwrap();
        let of = |key: &Key| {
            let tracked = names.tracked();
            let is_tracked = tracked.iter().any(|t| key.as_bytes().starts_with(t));
            is_tracked.then(|| names.meaning(key.as_bytes()))
        };
        assert_eq!(of(&keys.entry), Some(Meaning::Entry(b"a}b".to_vec())));
        assert_eq!(of(&keys.lease), Some(Meaning::Nothing));
        assert_eq!(of(&names.of_tag("t")), Some(Meaning::Tag("t".to_owned())));
        assert_eq!(of(&names.generation), Some(Meaning::All));
        // It changes with every change that is announced.
        assert_eq!(of(&names.meta), None);
    }

    #[test]
    fn a_key_that_no_server_takes_is_refused() {
        assert!(check_length(MAX_KEY).is_ok());
        assert!(matches!(
            check_length(MAX_KEY + 1),
            Err(Error::KeyTooLong(_))
        ));
    }
}
