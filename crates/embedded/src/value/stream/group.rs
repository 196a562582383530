//! A consumer group: how far it has read, and the entries that its consumers have not acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::id::StreamId;
use super::progress::Progress;

/// A group of consumers that share the entries of a stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    pub(crate) last_id: StreamId,
    /// How many entries it has read, where that is known.
    pub(crate) entries_read: Option<u64>,
    pending: BTreeMap<StreamId, Pending>,
    consumers: BTreeMap<Bytes, Consumer>,
}

/// An entry that was delivered and not acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) consumer: Bytes,
    /// Milliseconds since the Unix epoch.
    pub(crate) delivered_at: i64,
    pub(crate) deliveries: u64,
}

/// Who reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Consumer {
    /// When it last called.
    pub(crate) seen_at: i64,
    pub(crate) pending: BTreeSet<StreamId>,
}

/// What a claim sets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) delivered_at: i64,
    /// Overrides the count of deliveries.
    pub(crate) deliveries: Option<u64>,
    /// Otherwise: whether this is another delivery.
    pub(crate) counts: bool,
}

impl Group {
    pub(crate) fn new(last_id: StreamId, entries_read: Option<u64>) -> Self {
        Self {
            last_id,
            entries_read,
            ..Self::default()
        }
    }

    pub(crate) fn pending(&self) -> &BTreeMap<StreamId, Pending> {
        &self.pending
    }

    pub(crate) fn consumers(&self) -> &BTreeMap<Bytes, Consumer> {
        &self.consumers
    }

    /// How many entries are still to be read, where that can be told.
    pub(crate) fn lag(&self, progress: Progress) -> Option<i64> {
        if !progress.is_used() {
            return Some(0);
        }
        let read = match self.entries_read {
            Some(read) if !progress.has_gaps_from(self.last_id) => read,
            _ => progress.number_of(self.last_id)?,
        };
        Some(signed(progress.added) - signed(read))
    }

    /// Moves on to an entry.
    pub(super) fn advance(&mut self, id: StreamId, progress: Progress) {
        match &mut self.entries_read {
            Some(read) if !progress.has_gaps_from(id) => *read += 1,
            read if progress.is_used() => *read = progress.number_of(id),
            _ => {}
        }
        self.last_id = id;
    }

    /// Notes that a consumer called; says whether it is new.
    pub(crate) fn seen(&mut self, consumer: &Bytes, now: i64) -> bool {
        let known = self.consumers.contains_key(consumer);
        self.consumers.entry(consumer.clone()).or_default().seen_at = now;
        !known
    }

    /// Adds a consumer, if it is new.
    pub(crate) fn add_consumer(&mut self, consumer: &Bytes, now: i64) -> bool {
        !self.consumers.contains_key(consumer) && self.seen(consumer, now)
    }

    /// Removes a consumer with its pending entries; gives their number.
    pub(crate) fn remove_consumer(&mut self, consumer: &[u8]) -> usize {
        let Some(removed) = self.consumers.remove(consumer) else {
            return 0;
        };
        for id in &removed.pending {
            self.pending.remove(id);
        }
        removed.pending.len()
    }

    /// Delivers an entry, also one that another consumer has.
    pub(super) fn deliver(&mut self, id: StreamId, consumer: &Bytes, now: i64) {
        let claim = Claim {
            delivered_at: now,
            deliveries: Some(1),
            counts: true,
        };
        self.claim(id, consumer, claim);
    }

    /// Delivers a pending entry to its consumer once more.
    pub(super) fn redeliver(&mut self, id: StreamId, now: i64) {
        if let Some(pending) = self.pending.get_mut(&id) {
            pending.delivered_at = now;
            pending.deliveries += 1;
        }
    }

    /// Gives an entry to a consumer, which must exist.
    pub(crate) fn claim(&mut self, id: StreamId, consumer: &Bytes, claim: Claim) {
        let pending = self.pending.entry(id).or_insert_with(|| Pending {
            consumer: consumer.clone(),
            delivered_at: 0,
            // One that is claimed without having been delivered counts as delivered.
            deliveries: 1,
        });
        pending.delivered_at = claim.delivered_at;
        pending.deliveries = match claim.deliveries {
            Some(deliveries) => deliveries,
            None => pending.deliveries + u64::from(claim.counts),
        };
        let previous = std::mem::replace(&mut pending.consumer, consumer.clone());
        if previous != consumer
            && let Some(previous) = self.consumers.get_mut(&previous)
        {
            previous.pending.remove(&id);
        }
        if let Some(consumer) = self.consumers.get_mut(consumer) {
            consumer.pending.insert(id);
        }
    }

    /// Acknowledges an entry; says whether it was pending.
    pub(crate) fn acknowledge(&mut self, id: StreamId) -> bool {
        let Some(pending) = self.pending.remove(&id) else {
            return false;
        };
        if let Some(consumer) = self.consumers.get_mut(&pending.consumer) {
            consumer.pending.remove(&id);
        }
        true
    }

    /// What a consumer has pending, from an id on.
    pub(super) fn pending_of(
        &self,
        consumer: &[u8],
        from: StreamId,
        count: usize,
    ) -> Vec<StreamId> {
        let pending = self
            .consumers
            .get(consumer)
            .map(|c| c.pending.range(from..));
        pending.into_iter().flatten().take(count).copied().collect()
    }

    /// A rough number of bytes.
    pub(super) fn weight(&self) -> usize {
        self.pending.len() * 96 + self.consumers.len() * 64
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
