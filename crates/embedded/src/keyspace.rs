//! The keys: lookup by type, expiry, scan order.

mod contents;
mod objects;

use std::collections::BTreeSet;

use bytes::Bytes;
use indexmap::IndexMap;
use redkit_core::ServerError;
use redkit_core::random::random_range;

pub(crate) use self::contents::Contents;
pub(crate) use self::objects::ENTRY_BYTES;
use self::objects::Lookups;
use crate::error;
use crate::observers::Observers;
use crate::value::{Data, Kind};

/// Expired keys that one command removes at most beyond the keys that it touches, so that no command
/// pays for all of a mass expiry.
const SWEEP: usize = 16;

/// All keys of an engine.
#[derive(Debug, Default)]
pub(crate) struct Keyspace {
    /// Removal swaps the last key into the gap: positions only ever shrink, which is what makes
    /// the positions usable as scan cursors (see the module of the `SCAN` commands).
    entries: IndexMap<Bytes, Entry>,
    expiries: BTreeSet<(i64, Bytes)>,
    /// Hashes by when the first of their fields expires.
    field_expiries: BTreeSet<(i64, Bytes)>,
    pub(crate) observers: Observers,
    pub(crate) lookups: Lookups,
    now: i64,
}

#[derive(Debug, Clone)]
struct Entry {
    data: Data,
    expires: Option<i64>,
    /// Under which time the key stands in `field_expiries`.
    fields_due: Option<i64>,
    used_at: i64,
}

impl Entry {
    fn new(data: Data, expires: Option<i64>, now: i64) -> Self {
        Self {
            data,
            expires,
            fields_due: None,
            used_at: now,
        }
    }
}

impl Keyspace {
    /// Sets the time at which everything until the next call happens, and removes a few of the
    /// keys that have expired by then.
    pub(crate) fn set_now(&mut self, millis: i64) {
        self.now = millis;
        self.sweep(SWEEP);
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    pub(crate) fn contains(&mut self, key: &[u8]) -> bool {
        self.position(key).is_some()
    }

    pub(crate) fn data(&mut self, key: &[u8]) -> Option<&Data> {
        let index = self.position(key)?;
        self.entries.get_index(index).map(|(_, entry)| &entry.data)
    }

    /// The value under a key that must be of one type.
    pub(crate) fn view<K: Kind>(&mut self, key: &[u8]) -> Result<Option<&K>, ServerError> {
        match self.data(key) {
            None => Ok(None),
            Some(data) => K::of(data).map(Some).ok_or_else(error::wrong_type),
        }
    }

    /// Like [`Keyspace::view`], to be changed. Afterwards call [`Keyspace::changed`] or
    /// [`Keyspace::shrunk`].
    pub(crate) fn edit<K: Kind>(&mut self, key: &[u8]) -> Result<Option<&mut K>, ServerError> {
        let Some(index) = self.position(key) else {
            return Ok(None);
        };
        match self.entries.get_index_mut(index) {
            None => Ok(None),
            Some((_, entry)) => K::of_mut(&mut entry.data)
                .map(Some)
                .ok_or_else(error::wrong_type),
        }
    }

    /// Like [`Keyspace::edit`], and creates what is missing.
    pub(crate) fn edit_or_new<K: Kind + Default>(
        &mut self,
        key: &[u8],
    ) -> Result<&mut K, ServerError> {
        let index = match self.position(key) {
            Some(index) => index,
            None => {
                let entry = Entry::new(K::default().into_data(), None, self.now);
                self.entries
                    .insert_full(Bytes::copy_from_slice(key), entry)
                    .0
            }
        };
        self.entries
            .get_index_mut(index)
            .and_then(|(_, entry)| K::of_mut(&mut entry.data))
            .ok_or_else(error::wrong_type)
    }

    /// Sets a key to a value, whatever it was, with no expiry.
    pub(crate) fn put(&mut self, key: &[u8], data: impl Kind) {
        self.put_expiring(key, data.into_data(), None);
    }

    /// Sets a key to a value and keeps its expiry.
    pub(crate) fn put_keeping_expiry(&mut self, key: &[u8], data: impl Kind) {
        let expires = self.expiry(key).flatten();
        self.put_expiring(key, data.into_data(), expires);
    }

    /// Sets a key to a value that expires at a time.
    pub(crate) fn put_expiring(&mut self, key: &[u8], data: Data, expires: Option<i64>) {
        self.changed(key);
        let has_field_expiries = data.next_field_expiry().is_some();
        let entry = Entry::new(data, expires, self.now);
        let (previous, fields_due) = match self.entries.get_mut(key) {
            Some(present) => {
                let present = std::mem::replace(present, entry);
                (present.expires, present.fields_due)
            }
            None => {
                self.entries.insert(Bytes::copy_from_slice(key), entry);
                (None, None)
            }
        };
        reschedule(&mut self.expiries, key, previous, expires);
        reschedule(&mut self.field_expiries, key, fields_due, None);
        if has_field_expiries {
            self.fields_changed(key);
        }
    }

    /// Notes that fields of a hash may expire at other times than before.
    pub(crate) fn fields_changed(&mut self, key: &[u8]) {
        if let Some(entry) = self.entries.get_mut(key) {
            let due = entry.data.next_field_expiry();
            let previous = std::mem::replace(&mut entry.fields_due, due);
            reschedule(&mut self.field_expiries, key, previous, due);
        }
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Data> {
        let index = self.position(key)?;
        self.remove_at(index).map(|entry| entry.data)
    }

    /// Takes a key away with its expiry, to put it elsewhere.
    pub(crate) fn take(&mut self, key: &[u8]) -> Option<(Data, Option<i64>)> {
        let index = self.position(key)?;
        self.remove_at(index)
            .map(|entry| (entry.data, entry.expires))
    }

    /// When a key expires: `None` without the key, `Some(None)` for a key that stays.
    pub(crate) fn expiry(&mut self, key: &[u8]) -> Option<Option<i64>> {
        let index = self.position(key)?;
        self.entries.get_index(index).map(|(_, e)| e.expires)
    }

    /// Sets or clears the expiry of a key that exists.
    pub(crate) fn set_expiry(&mut self, key: &[u8], expires: Option<i64>) {
        if let Some(entry) = self.entries.get_mut(key) {
            let previous = std::mem::replace(&mut entry.expires, expires);
            reschedule(&mut self.expiries, key, previous, expires);
            self.changed(key);
        }
    }

    /// Notes that a key's value changed.
    pub(crate) fn changed(&mut self, key: &[u8]) {
        self.observers.changed(key);
    }

    /// Notes that items went away, and the key with the last of them.
    pub(crate) fn shrunk(&mut self, key: &[u8]) {
        match self.entries.get_full(key) {
            Some((index, _, entry)) if entry.data.is_empty_aggregate() => {
                self.remove_at(index);
            }
            _ => self.changed(key),
        }
    }

    /// The number of keys, after removing all that have expired.
    pub(crate) fn len(&mut self) -> usize {
        self.sweep(usize::MAX);
        self.entries.len()
    }

    /// When the next key, or field of a hash, expires.
    pub(crate) fn next_expiry(&self) -> Option<i64> {
        let first = |set: &BTreeSet<(i64, Bytes)>| set.first().map(|(at, _)| *at);
        match (first(&self.expiries), first(&self.field_expiries)) {
            (Some(key), Some(field)) => Some(key.min(field)),
            (one, other) => one.or(other),
        }
    }

    /// The number of keys that will expire, after removing all that have expired.
    pub(crate) fn expiring(&mut self) -> usize {
        self.sweep(usize::MAX);
        self.expiries.len()
    }

    /// Any key.
    pub(crate) fn random(&mut self) -> Option<&Bytes> {
        let len = self.len();
        if len == 0 {
            return None;
        }
        let index = random_range(0..len);
        self.entries.get_index(index).map(|(key, _)| key)
    }

    /// The key at a position below [`Keyspace::len`].
    pub(crate) fn at_slot(&self, index: usize) -> Option<(&Bytes, &Data)> {
        self.entries
            .get_index(index)
            .map(|(key, entry)| (key, &entry.data))
    }

    pub(crate) fn clear(&mut self) {
        for key in self.observers.observed() {
            if self.contains(&key) {
                self.changed(&key);
            }
        }
        self.observers.cleared();
        self.entries = IndexMap::new();
        self.expiries = BTreeSet::new();
        self.field_expiries = BTreeSet::new();
    }

    /// Starts watching a key and gives its version.
    pub(crate) fn watch(&mut self, key: &[u8]) -> u64 {
        // A key that is expired already is watched as absent.
        self.find_untouched(key);
        self.observers.watch(key)
    }

    /// The version of a watched key now.
    pub(crate) fn version(&mut self, key: &[u8]) -> u64 {
        self.find_untouched(key);
        self.observers.version(key)
    }

    fn position(&mut self, key: &[u8]) -> Option<usize> {
        let position = self.find_untouched(key);
        self.count_lookup(position.is_some());
        if let Some((_, entry)) = position.and_then(|index| self.entries.get_index_mut(index)) {
            entry.used_at = self.now;
        }
        position
    }

    fn count_lookup(&mut self, found: bool) {
        match (self.lookups.counting, found) {
            (false, _) => {}
            (true, true) => self.lookups.hits += 1,
            (true, false) => self.lookups.misses += 1,
        }
    }

    /// Where a key is that has not expired. It stays as idle as it was.
    fn find_untouched(&mut self, key: &[u8]) -> Option<usize> {
        let (index, _, entry) = self.entries.get_full(key)?;
        if entry.expires.is_some_and(|at| at < self.now) {
            self.lookups.expired += 1;
            self.remove_at(index);
            return None;
        }
        match entry.fields_due {
            Some(due) if due < self.now => self.remove_expired_fields(index, key),
            _ => Some(index),
        }
    }

    /// Removes the fields of a hash that have expired, and the hash with the last of them.
    fn remove_expired_fields(&mut self, index: usize, key: &[u8]) -> Option<usize> {
        if let Some((_, entry)) = self.entries.get_index_mut(index)
            && let Data::Hash(hash) = &mut entry.data
            && hash.remove_expired(self.now)
        {
            self.fields_changed(key);
            self.shrunk(key);
        }
        self.entries.get_index_of(key)
    }

    fn remove_at(&mut self, index: usize) -> Option<Entry> {
        let (key, entry) = self.entries.swap_remove_index(index)?;
        self.changed(&key);
        reschedule(&mut self.expiries, &key, entry.expires, None);
        reschedule(&mut self.field_expiries, &key, entry.fields_due, None);
        Some(entry)
    }

    fn sweep(&mut self, limit: usize) {
        for _ in 0..limit {
            let due =
                |set: &BTreeSet<(i64, Bytes)>| set.first().filter(|d| d.0 < self.now).cloned();
            let Some(due) = due(&self.expiries).or_else(|| due(&self.field_expiries)) else {
                return;
            };
            // Looking at the key is enough; but whatever happens, the sweep must go on.
            self.find_untouched(&due.1);
            self.expiries.remove(&due);
            self.field_expiries.remove(&due);
        }
    }
}

/// Moves a key to another time.
fn reschedule(
    schedule: &mut BTreeSet<(i64, Bytes)>,
    key: &[u8],
    previous: Option<i64>,
    next: Option<i64>,
) {
    if previous == next {
        return;
    }
    let key = Bytes::copy_from_slice(key);
    if let Some(at) = next {
        schedule.insert((at, key.clone()));
    }
    if let Some(at) = previous {
        schedule.remove(&(at, key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expired_keys_are_removed_whether_touched_or_not() {
        let mut keys = Keyspace::default();
        keys.set_now(1_000);
        for n in 0..100 {
            keys.put_expiring(
                n.to_string().as_bytes(),
                Bytes::from("v").into_data(),
                Some(2_000),
            );
        }
        keys.set_now(2_000);
        assert!(keys.contains(b"7"));
        keys.set_now(2_001);
        assert!(!keys.contains(b"7"));
        // A few with every command, and all of them for a count.
        assert!(keys.entries.len() < 100 && !keys.entries.is_empty());
        assert_eq!(keys.len(), 0);
        assert!(keys.expiries.is_empty());
    }

    #[test]
    fn a_new_expiry_replaces_the_old_one() {
        let mut keys = Keyspace::default();
        keys.set_now(1);
        keys.put(b"k", Bytes::from("v"));
        keys.set_expiry(b"k", Some(10));
        keys.set_expiry(b"k", Some(20));
        assert_eq!(keys.expiries.len(), 1);
        keys.set_now(11);
        assert!(keys.contains(b"k"));
        keys.set_expiry(b"k", None);
        keys.set_now(100);
        assert_eq!((keys.len(), keys.expiring()), (1, 0));
    }
}
