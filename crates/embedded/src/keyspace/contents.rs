//! A copy of all keys, to be taken up later, or elsewhere.

use std::collections::BTreeSet;

use bytes::Bytes;
use indexmap::IndexMap;

use super::{Entry, Keyspace};

/// All keys as they were at one moment. Values share their bytes with those that are still there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contents {
    entries: IndexMap<Bytes, Entry>,
    expiries: BTreeSet<(i64, Bytes)>,
    field_expiries: BTreeSet<(i64, Bytes)>,
}

impl Keyspace {
    /// A copy of all keys.
    pub(crate) fn contents(&self) -> Contents {
        Contents {
            entries: self.entries.clone(),
            expiries: self.expiries.clone(),
            field_expiries: self.field_expiries.clone(),
        }
    }

    /// Replaces all keys. Observers are told that everything has changed.
    pub(crate) fn replace(&mut self, contents: Contents) {
        self.clear();
        let Contents {
            entries,
            expiries,
            field_expiries,
        } = contents;
        self.entries = entries;
        self.expiries = expiries;
        self.field_expiries = field_expiries;
        for key in self.observers.observed() {
            if self.contains(&key) {
                self.changed(&key);
            }
        }
    }
}
