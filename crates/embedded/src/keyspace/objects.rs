//! Facts about keys beside their values: size, idle time, and how often lookups found a key.

use super::Keyspace;
use crate::value::Data;

/// The memory of a key beside its name and its value, roughly, in bytes.
pub(crate) const ENTRY_BYTES: usize = 96;
/// How many keys are measured to estimate the size of all.
const SAMPLE: usize = 256;

/// Counts of lookups.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    /// Whether the running command reads, so that it counts.
    pub(crate) counting: bool,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) expired: u64,
}

/// A value as it is looked at from outside.
pub(crate) struct Object<'a> {
    pub(crate) data: &'a Data,
    pub(crate) expires: Option<i64>,
    /// Since it was last used.
    pub(crate) idle_millis: i64,
}

impl Keyspace {
    /// A value, without using it: it stays idle.
    pub(crate) fn peek(&mut self, key: &[u8]) -> Option<Object<'_>> {
        let index = self.find_untouched(key);
        self.count_lookup(index.is_some());
        let (_, entry) = self.entries.get_index(index?)?;
        Some(Object {
            data: &entry.data,
            expires: entry.expires,
            idle_millis: (self.now - entry.used_at).max(0),
        })
    }

    /// A rough number of bytes of all keys and values.
    pub(crate) fn weight(&self) -> usize {
        let len = self.entries.len();
        let step = (len / SAMPLE).max(1);
        let sample = self.entries.iter().step_by(step).take(SAMPLE);
        let bytes: usize = sample
            .map(|(key, entry)| key.len() + entry.data.weight() + ENTRY_BYTES)
            .sum();
        bytes.saturating_mul(len) / len.clamp(1, SAMPLE)
    }
}
