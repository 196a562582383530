//! [`Held`]: the entries that a worker has.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::worker::Which;
use crate::inbox::ItemId;

/// The entries of one partition that are in this process: waiting, or being handled.
#[derive(Default)]
pub(super) struct Held {
    entries: Mutex<BTreeMap<ItemId, HeldEntry>>,
}

struct HeldEntry {
    deliveries: u32,
    /// It is being handled, or its outcome is on its way to the server.
    is_busy: bool,
    lost: CancellationToken,
    /// When the last call was sent that showed that the worker owns it.
    owned: Instant,
}

impl Held {
    /// An entry has come by a call that was sent then. Gives the token of this delivery, by which it is known from another one
    /// of the same entry.
    pub(super) fn insert(&self, id: ItemId, deliveries: u32, sent: Instant) -> CancellationToken {
        let lost = CancellationToken::new();
        let entry = HeldEntry {
            deliveries,
            is_busy: false,
            lost: lost.clone(),
            owned: sent,
        };
        // It was another's, or forgotten, before it came again.
        let mut entries = self.entries.lock();
        if let Some(before) = entries.insert(id, entry) {
            before.lost.cancel();
        }
        lost
    }

    /// Whether it was still there: not lost.
    pub(super) fn remove(&self, id: ItemId, lost: &CancellationToken) -> bool {
        let mut entries = self.entries.lock();
        let is_there = of_delivery(&mut entries, id, lost).is_some();
        if is_there {
            entries.remove(&id);
        }
        is_there
    }

    /// Marks an entry as being handled, if it is still there, no handler has it, and the worker was known to own it within that
    /// time. Nobody takes it from then on without what becomes of it: whether a handler has an outcome cannot be seen from
    /// outside. An entry that may be another worker's is let go of.
    pub(super) fn begins(&self, id: ItemId, lost: &CancellationToken, within: Duration) -> bool {
        let mut entries = self.entries.lock();
        let entry = of_delivery(&mut entries, id, lost);
        let Some(entry) = entry.filter(|entry| !entry.is_busy) else {
            return false;
        };
        entry.is_busy = entry.owned.elapsed() < within;
        let begins = entry.is_busy;
        if !begins {
            entries.remove(&id);
        }
        begins
    }

    /// The handler of an entry was dropped, without an outcome.
    pub(super) fn is_cut(&self, id: ItemId, lost: &CancellationToken) {
        self.mark(id, lost, false);
    }

    /// When the worker was last known to own it.
    pub(super) fn owned(&self, id: ItemId) -> Option<Instant> {
        self.entries.lock().get(&id).map(|entry| entry.owned)
    }

    pub(super) fn ids(&self) -> Vec<ItemId> {
        self.entries.lock().keys().copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.lock().len()
    }

    /// A heartbeat that was sent then for these ids said that some are another's now.
    pub(super) fn kept(&self, ids: &[ItemId], lost: &[ItemId], sent: Instant) {
        let mut entries = self.entries.lock();
        for id in ids {
            if lost.contains(id) {
                // One that came after the heartbeat was sent is owned.
                if entries.get(id).is_some_and(|entry| entry.owned <= sent)
                    && let Some(entry) = entries.remove(id)
                {
                    entry.lost.cancel();
                }
            } else if let Some(entry) = entries.get_mut(id) {
                entry.owned = entry.owned.max(sent);
            }
        }
    }

    /// The outcome of an entry is on its way to the server.
    pub(super) fn tells(&self, id: ItemId, lost: &CancellationToken) {
        self.mark(id, lost, true);
    }

    fn mark(&self, id: ItemId, lost: &CancellationToken, is_busy: bool) {
        if let Some(entry) = of_delivery(&mut self.entries.lock(), id, lost) {
            entry.is_busy = is_busy;
        }
    }

    /// Takes what is left, each with the number of its deliveries.
    pub(super) fn take(&self, which: Which) -> Vec<(ItemId, u32)> {
        let mut entries = self.entries.lock();
        let taken = entries.extract_if(.., |_, entry| which == Which::All || !entry.is_busy);
        taken
            .map(|(id, entry)| {
                entry.lost.cancel();
                (id, entry.deliveries)
            })
            .collect()
    }
}

/// The entry, unless it is lost: it may have come again since.
fn of_delivery<'e>(
    entries: &'e mut BTreeMap<ItemId, HeldEntry>,
    id: ItemId,
    lost: &CancellationToken,
) -> Option<&'e mut HeldEntry> {
    let entry = entries.get_mut(&id)?;
    // The earlier one is lost under the lock.
    (entry.lost == *lost && !lost.is_cancelled()).then_some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(1);

    fn id() -> ItemId {
        "1-0".parse().unwrap()
    }

    #[test]
    fn an_entry_is_begun_once() {
        let held = Held::default();
        let lost = held.insert(id(), 1, Instant::now());
        assert!(held.begins(id(), &lost, LEASE));
        assert!(!held.begins(id(), &lost, LEASE));
        assert_eq!(held.len(), 1, "its handler has it");
    }

    #[test]
    fn an_earlier_delivery_neither_begins_nor_removes_a_later_one() {
        let held = Held::default();
        let earlier = held.insert(id(), 1, Instant::now());
        assert!(held.remove(id(), &earlier));
        let later = held.insert(id(), 2, Instant::now());
        assert!(!earlier.is_cancelled());
        assert!(!held.begins(id(), &earlier, LEASE));
        assert!(!held.remove(id(), &earlier));
        assert!(held.begins(id(), &later, LEASE));
    }
}
