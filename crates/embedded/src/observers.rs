//! Observers of keys: `WATCH`, callers that wait for a key, and near caches that are told which keys to
//! forget.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use indexmap::IndexSet;

/// The changes that observers have not seen yet. While nobody observes, a change costs three looks at empty tables.
#[derive(Debug, Default)]
pub(crate) struct Observers {
    watched: HashMap<Bytes, Watched>,
    changes: u64,
    /// How many callers wait for a key.
    awaited: HashMap<Bytes, usize>,
    /// Awaited keys that changed, in the order of their first change.
    ready: IndexSet<Bytes>,
    /// Prefixes of keys whose changes are told, and how often each is wanted.
    tracked: Vec<(Bytes, usize)>,
    stale: Stale,
}

#[derive(Debug, Default)]
struct Watched {
    watchers: usize,
    version: u64,
}

/// The keys that near caches must forget.
#[derive(Debug, Default)]
pub(crate) struct Stale {
    /// Everything, before the keys.
    pub(crate) all: bool,
    pub(crate) keys: IndexSet<Bytes>,
}

impl Observers {
    /// Notes that a key's value changed.
    pub(crate) fn changed(&mut self, key: &[u8]) {
        if !self.watched.is_empty() {
            self.changes += 1;
            if let Some(watched) = self.watched.get_mut(key) {
                watched.version = self.changes;
            }
        }
        self.ready(key);
        if self.tracked.iter().any(|(p, _)| key.starts_with(p)) && !self.stale.keys.contains(key) {
            self.stale.keys.insert(Bytes::copy_from_slice(key));
        }
    }

    /// Lets callers that wait for a key look at it. Part of every change; on its own when the value does
    /// not change.
    pub(crate) fn ready(&mut self, key: &[u8]) {
        if !self.awaited.is_empty()
            && let Some((key, _)) = self.awaited.get_key_value(key)
        {
            self.ready.insert(key.clone());
        }
    }

    /// Notes that all keys are gone.
    pub(crate) fn cleared(&mut self) {
        if !self.tracked.is_empty() {
            self.stale.all = true;
            self.stale.keys.clear();
        }
    }

    /// The keys that are watched or awaited, in an order that does not differ from run to run.
    pub(crate) fn observed(&self) -> BTreeSet<Bytes> {
        let keys = self.watched.keys().chain(self.awaited.keys());
        keys.cloned().collect()
    }

    /// Starts watching a key and gives its version.
    pub(crate) fn watch(&mut self, key: &[u8]) -> u64 {
        let watched = self.watched.entry(Bytes::copy_from_slice(key)).or_default();
        watched.watchers += 1;
        watched.version
    }

    pub(crate) fn unwatch(&mut self, key: &[u8]) {
        if let Some(watched) = self.watched.get_mut(key) {
            watched.watchers -= 1;
            if watched.watchers == 0 {
                self.watched.remove(key);
            }
        }
    }

    /// The version of a watched key now.
    pub(crate) fn version(&self, key: &[u8]) -> u64 {
        self.watched.get(key).map_or(0, |watched| watched.version)
    }

    pub(crate) fn wait_for(&mut self, key: &Bytes) {
        *self.awaited.entry(key.clone()).or_default() += 1;
    }

    pub(crate) fn stop_waiting_for(&mut self, key: &[u8]) {
        if let Some(waiters) = self.awaited.get_mut(key) {
            *waiters -= 1;
            if *waiters == 0 {
                self.awaited.remove(key);
            }
        }
    }

    /// The next awaited key that changed.
    pub(crate) fn next_ready(&mut self) -> Option<Bytes> {
        match self.ready.is_empty() {
            true => None,
            false => self.ready.shift_remove_index(0),
        }
    }

    pub(crate) fn track(&mut self, prefix: &Bytes) {
        match self
            .tracked
            .iter_mut()
            .find(|(present, _)| present == prefix)
        {
            Some((_, wanted)) => *wanted += 1,
            None => self.tracked.push((prefix.clone(), 1)),
        }
    }

    pub(crate) fn untrack(&mut self, prefix: &Bytes) {
        self.tracked.retain_mut(|(present, wanted)| {
            if present == prefix {
                *wanted -= 1;
            }
            *wanted > 0
        });
    }

    /// The keys that became stale since the last time.
    pub(crate) fn take_stale(&mut self) -> Option<Stale> {
        match self.stale.all || !self.stale.keys.is_empty() {
            true => Some(std::mem::take(&mut self.stale)),
            false => None,
        }
    }
}
