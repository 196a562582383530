//! Keys looked at from outside: how large they are, since when nobody used them, how often one was
//! looked for.

use super::Keyspace;
use crate::value::Data;

/// What a key costs beside its name and its value, roughly.
pub(crate) const ENTRY_BYTES: usize = 96;
/// Keys that are looked at for the size of all.
const SAMPLE: usize = 256;

/// What became of looking for keys.
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
    /// Since it was last used.
    pub(crate) idle_millis: i64,
}

impl Keyspace {
    /// A value, without using it.
    pub(crate) fn peek(&mut self, key: &[u8]) -> Option<Object<'_>> {
        let used_at = self.entries.get(key)?.used_at;
        let index = self.position(key)?;
        let (_, entry) = self.entries.get_index_mut(index)?;
        entry.used_at = used_at;
        Some(Object {
            data: &entry.data,
            idle_millis: (self.now - used_at).max(0),
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
