//! The promises of a queue, without how they are kept: for its property test.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::time::Instant;

use super::super::write_id::WriteId;
use super::Item;

/// The newest accepted change of a key, and where it is by now.
#[derive(Debug, Clone)]
pub(super) struct Newest {
    pub(super) version: u64,
    pub(super) change: Bytes,
    pub(super) place: Place,
    /// When the oldest change of the key came that has not ended, and its version.
    pub(super) since: (Instant, u64),
    /// The same of the first change that came while an older one was being written.
    pub(super) behind: Option<(Instant, u64)>,
    pub(super) own: u32,
    pub(super) shared: u32,
    pub(super) rests_until: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place {
    Pending,
    Written,
    Dead,
    Discarded,
}

#[derive(Default)]
pub(super) struct Model {
    pub(super) newest: BTreeMap<u8, Newest>,
    /// Keys with a letter, and its version.
    pub(super) letters: BTreeMap<u8, u64>,
    /// The newest version of each key that a worker was given.
    pub(super) given: BTreeMap<u8, u64>,
    pub(super) writes: Vec<(WriteId, u8, Bytes, u64)>,
    pub(super) batches: BTreeMap<u8, (String, Vec<Item>)>,
    pub(super) lease: Option<(u8, Instant)>,
    pub(super) flushed: u64,
    pub(super) last: u64,
}

impl Model {
    pub(super) fn pending(&self) -> usize {
        let is_pending = |newest: &&Newest| newest.place == Place::Pending;
        self.newest.values().filter(is_pending).count()
    }

    /// How many keys have a change that has not ended and is no newer than this.
    pub(super) fn older(&self, version: u64) -> usize {
        let is_older =
            |newest: &&Newest| newest.place == Place::Pending && newest.since.1 <= version;
        self.newest.values().filter(is_older).count()
    }

    pub(super) fn in_flight(&self) -> Vec<Item> {
        self.lease
            .and_then(|(worker, _)| Some(self.batches.get(&worker)?.1.clone()))
            .unwrap_or_default()
    }

    pub(super) fn accepted(&mut self, key: u8, change: Bytes, version: u64) {
        assert!(version > self.last, "versions grow");
        self.last = version;
        let now = Instant::now();
        let old = self.newest.remove(&key);
        let pending = old.filter(|old| old.place == Place::Pending);
        let in_flight = self.in_flight().iter().any(|item| item.key[..] == [key]);
        let behind = pending.as_ref().and_then(|old| old.behind);
        let newest = Newest {
            version,
            change,
            place: Place::Pending,
            since: pending.as_ref().map_or((now, version), |old| old.since),
            behind: behind.or(in_flight.then_some((now, version))),
            own: 0,
            shared: 0,
            rests_until: pending.and_then(|old| old.rests_until),
        };
        self.newest.insert(key, newest);
    }
}
