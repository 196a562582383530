//! [`Member`]: a key of a task, from the wish of its caller to its outcome.

use std::sync::Arc;

use redkit_core::coordination::Waiter;

use crate::entry::Hit;
use crate::fetched::Source;
use crate::id::{Id, LeaseToken};
use crate::load_outcome::LoadOutcome;
use crate::local_cache::Ticket;
use crate::names::EntryKeys;
use crate::scripts::{Have, Rejected};
use crate::single_flight::{Cutoff, Leader};
use crate::store::Store;

/// A key that a caller needs to be loaded, with the caller's knowledge and wishes.
#[derive(Clone)]
pub(crate) struct LoadRequest {
    /// Which of the loader's keys it is.
    pub(crate) index: usize,
    /// As the user wrote it.
    pub(crate) key: Box<[u8]>,
    pub(crate) keys: EntryKeys,
    pub(crate) have: Have,
    /// The entry that the caller has seen and does not take.
    pub(crate) rejected: Rejected,
    /// The cache's generation when the caller looked.
    pub(crate) generation: Option<Id>,
    /// Redis was asked a moment ago and did not answer: an outage costs a caller one timeout.
    pub(crate) is_unreachable: bool,
    /// Whether "the source has no value" is an answer.
    pub(crate) takes_none: bool,
}

impl LoadRequest {
    /// Whether this entry is the one that the caller does not take.
    pub(crate) fn rejects(&self, entry: Option<Id>) -> bool {
        entry.is_some_and(|entry| self.rejected == Rejected::Entry(entry))
    }
}

/// One key of a task, which the task leads.
pub(crate) struct Member<V> {
    pub(super) request: LoadRequest,
    pub(super) leader: Leader<LoadOutcome<V>>,
    /// The last follower for whom the value that the loader reads now is young enough.
    pub(super) cutoff: Cutoff,
    /// By which the process keeps what was looked up or written, unless it was changed meanwhile.
    ticket: Option<Ticket>,
    /// The load of another process that it has waited for.
    pub(super) awaited: Option<LeaseToken>,
    pub(super) waiter: Option<Waiter>,
}

impl<V> Member<V> {
    pub(crate) fn new(request: LoadRequest, leader: Leader<LoadOutcome<V>>) -> Self {
        Self {
            request,
            leader,
            cutoff: Cutoff::NONE,
            ticket: None,
            awaited: None,
            waiter: None,
        }
    }

    /// Followers that join from now on may know of a change that is not in what is read now.
    pub(super) fn begin_reading(&mut self) {
        self.cutoff = self.leader.draw_cutoff();
    }

    /// Ends with a value, for the followers for which it is young enough.
    pub(super) fn give(self, value: Option<Arc<V>>, source: Source, entry: Option<Id>) {
        let outcome = LoadOutcome::Value {
            value,
            source,
            entry,
            is_final: false,
        };
        self.leader.complete(outcome, self.cutoff);
    }

    /// Ends with an entry that is newer than what the source gives, also for followers that have seen it.
    pub(super) fn give_at_last(self, hit: Hit<V>) {
        let outcome = LoadOutcome::Value {
            value: hit.value,
            source: Source::Shared,
            entry: Some(hit.id),
            is_final: true,
        };
        self.leader.complete(outcome, self.cutoff);
    }

    /// Ends without a value, which is young enough for all.
    pub(super) fn end(self, outcome: LoadOutcome<V>) {
        self.leader.complete(outcome, Cutoff::NONE);
    }
}

impl<V: Send + Sync + 'static> Member<V> {
    /// Begins to read the cache's entry, which the process may keep.
    pub(super) fn begin_look_up(&mut self, store: &Store<V>) {
        let local = store.local.as_ref();
        self.ticket = local.map(|local| local.ticket(&self.request.key));
        self.begin_reading();
    }

    pub(super) fn keep_in_process(&mut self, store: &Store<V>, hit: &Hit<V>) {
        if let (Some(local), Some(ticket)) = (&store.local, self.ticket.take()) {
            local.put(&self.request.key, ticket, hit);
        }
    }
}
