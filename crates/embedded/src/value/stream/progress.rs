//! How far a group has come, as the server reckons it: entries carry no numbers, so the count is
//! known only where nothing in between was deleted.

use super::id::StreamId;

/// What the reckoning starts from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    pub(super) added: u64,
    pub(super) len: u64,
    pub(super) first: StreamId,
    pub(super) last: StreamId,
    pub(super) max_deleted: StreamId,
}

impl Progress {
    /// Whether anything was ever added.
    pub(super) fn is_used(self) -> bool {
        self.added > 0
    }

    /// Whether an entry from this one on was deleted.
    pub(super) fn has_gaps_from(self, id: StreamId) -> bool {
        self.len > 0
            && self.max_deleted != StreamId::MIN
            && self.first <= self.max_deleted
            && id <= self.max_deleted
    }

    /// How many entries were ever added up to this one, where that can be told.
    pub(super) fn number_of(self, id: StreamId) -> Option<u64> {
        if !self.is_used() {
            return Some(0);
        }
        if id == self.last || (self.len == 0 && id < self.last) {
            return Some(self.added);
        }
        if id > self.last {
            return None;
        }
        let unbroken = self.max_deleted == StreamId::MIN || self.max_deleted < self.first;
        let before = self.added.saturating_sub(self.len);
        match id.cmp(&self.first) {
            std::cmp::Ordering::Less if unbroken => Some(before),
            std::cmp::Ordering::Equal if unbroken => Some(before + 1),
            _ => None,
        }
    }
}
