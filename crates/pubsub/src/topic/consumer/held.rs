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
    /// An entry has come by a call that was sent then.
    pub(super) fn insert(&self, id: ItemId, deliveries: u32, sent: Instant) {
        let entry = HeldEntry {
            deliveries,
            is_busy: false,
            lost: CancellationToken::new(),
            owned: sent,
        };
        // It was another's, or forgotten, before it came again.
        let mut entries = self.entries.lock();
        if let Some(before) = entries.insert(id, entry) {
            before.lost.cancel();
        }
    }

    /// Whether it was still there: not lost.
    pub(super) fn remove(&self, id: ItemId, lost: &CancellationToken) -> bool {
        let mut entries = self.entries.lock();
        // The same entry may have come again meanwhile.
        let is_there = !lost.is_cancelled() && entries.contains_key(&id);
        if is_there {
            entries.remove(&id);
        }
        is_there
    }

    pub(super) fn token(&self, id: ItemId) -> Option<CancellationToken> {
        self.entries.lock().get(&id).map(|entry| entry.lost.clone())
    }

    /// Marks an entry as being handled, if it is still there and the worker was known to own it within that time. Nobody
    /// takes it from then on without what becomes of it: whether a handler has an outcome cannot be seen from outside.
    pub(super) fn begins(&self, id: ItemId, lost: &CancellationToken, within: Duration) -> bool {
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(&id).filter(|_| !lost.is_cancelled());
        let Some(entry) = entry.filter(|entry| entry.owned.elapsed() < within) else {
            return false;
        };
        entry.is_busy = true;
        true
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
        let mut entries = self.entries.lock();
        // The same entry may have come again meanwhile. The earlier one is lost under the lock.
        if !lost.is_cancelled()
            && let Some(entry) = entries.get_mut(&id)
        {
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
