//! A hash: fields with values, some of which expire by themselves.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use indexmap::IndexMap;

/// Fields and their values. Indexed, so that a random field and a scan position cost nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hash {
    fields: IndexMap<Bytes, Bytes>,
    /// Most hashes have none.
    expiries: Option<Box<Expiries>>,
}

/// When fields expire, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Default)]
struct Expiries {
    at: HashMap<Bytes, i64>,
    order: BTreeSet<(i64, Bytes)>,
}

impl Hash {
    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub(crate) fn get(&self, field: &[u8]) -> Option<&Bytes> {
        self.fields.get(field)
    }

    pub(crate) fn contains(&self, field: &[u8]) -> bool {
        self.fields.contains_key(field)
    }

    /// The `index`th field in no particular order that stays stable for scans: removals move
    /// fields only towards the front.
    pub(crate) fn at_slot(&self, index: usize) -> Option<(&Bytes, &Bytes)> {
        self.fields.get_index(index)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.fields.iter()
    }

    /// Sets a field, which then stays; says whether it is new.
    pub(crate) fn set(&mut self, field: &[u8], value: Bytes) -> bool {
        let new = self.set_keeping_expiry(field, value);
        if !new {
            self.expire_at(field, None);
        }
        new
    }

    /// Sets a field and leaves its expiry as it is; says whether it is new.
    pub(crate) fn set_keeping_expiry(&mut self, field: &[u8], value: Bytes) -> bool {
        match self.fields.get_mut(field) {
            Some(present) => {
                *present = value;
                false
            }
            None => {
                self.fields.insert(Bytes::copy_from_slice(field), value);
                true
            }
        }
    }

    pub(crate) fn remove(&mut self, field: &[u8]) -> Option<Bytes> {
        let removed = self.fields.swap_remove(field)?;
        self.expire_at(field, None);
        Some(removed)
    }

    /// When a field expires, if it does.
    pub(crate) fn expiry(&self, field: &[u8]) -> Option<i64> {
        self.expiries.as_ref()?.at.get(field).copied()
    }

    /// Sets or clears when a field expires; gives when it would have before.
    pub(crate) fn expire_at(&mut self, field: &[u8], at: Option<i64>) -> Option<i64> {
        if self.expiries.is_none() && at.is_none() {
            return None;
        }
        let expiries = self.expiries.get_or_insert_default();
        let previous = expiries.at.remove_entry(field).map(|(field, at)| {
            let entry = (at, field);
            expiries.order.remove(&entry);
            at
        });
        if let Some(at) = at {
            let field = Bytes::copy_from_slice(field);
            expiries.at.insert(field.clone(), at);
            expiries.order.insert((at, field));
        } else if expiries.at.is_empty() {
            self.expiries = None;
        }
        previous
    }

    /// When the first field expires.
    pub(crate) fn next_expiry(&self) -> Option<i64> {
        self.expiries.as_ref()?.order.first().map(|(at, _)| *at)
    }

    /// Removes the fields that have expired; says whether there were any.
    pub(crate) fn remove_expired(&mut self, now: i64) -> bool {
        let mut removed = false;
        while let Some(expiries) = &mut self.expiries {
            match expiries.order.first() {
                Some((at, _)) if *at < now => {}
                _ => break,
            }
            if let Some((_, field)) = expiries.order.pop_first() {
                expiries.at.remove(&field);
                self.fields.swap_remove(&field);
                removed = true;
            }
            if expiries.at.is_empty() {
                self.expiries = None;
            }
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_expires_once_and_setting_it_anew_lets_it_stay() {
        let mut hash = Hash::default();
        for field in ["a", "b", "c"] {
            assert!(hash.set(field.as_bytes(), Bytes::from("v")));
            assert_eq!(hash.expire_at(field.as_bytes(), Some(10)), None);
        }
        assert_eq!(hash.expire_at(b"a", Some(20)), Some(10));
        assert!(!hash.set(b"b", Bytes::from("w")));
        assert!(!hash.set_keeping_expiry(b"c", Bytes::from("w")));
        assert_eq!((hash.expiry(b"b"), hash.expiry(b"c")), (None, Some(10)));
        assert_eq!(hash.next_expiry(), Some(10));
        assert!(!hash.remove_expired(10));
        assert!(hash.remove_expired(11));
        assert!(!hash.contains(b"c") && hash.contains(b"a") && hash.contains(b"b"));
        assert!(hash.remove(b"a").is_some());
        assert_eq!(hash.next_expiry(), None);
        assert!(hash.expiries.is_none());
    }
}
