//! Looking up with a lease, and the counts by which a load is judged.

use std::collections::BTreeMap;

use redkit_core::{CallError, Error as CoreError, Value};

use super::Store;
use super::trip::{next, next_value, odd};
use crate::entry::millis;
use crate::id::{Id, LeaseToken};
use crate::names::stripe;
use crate::scripts::{self, LookUp, LookUpReply, Snapshot};

/// A look-up of which nothing can be used.
#[derive(Debug)]
pub(crate) struct LookUpFailure {
    pub(crate) error: CoreError,
    /// Of each key, whether its lease may have been taken, or may be yet.
    pub(crate) may_hold: Vec<bool>,
}

/// Whether a key's lease was taken, or may have been.
fn may_hold(reply: &Result<LookUpReply, CoreError>) -> bool {
    match reply {
        Ok(reply) => *reply == LookUpReply::Leased,
        Err(error) => error.is_maybe(),
    }
}

impl<V> Store<V> {
    /// Looks keys up, each with its own outcome, and takes their leases if they are free; and reads
    /// what the loads will be judged by, on the same way. One round trip.
    pub(crate) async fn look_up<'k>(
        &self,
        look_ups: impl Iterator<Item = LookUp<'k>>,
        token: LeaseToken,
        unanswered: Option<LeaseToken>,
    ) -> Result<(Snapshot, Vec<Result<LookUpReply, CoreError>>), LookUpFailure> {
        let lease_ms = millis(self.settings.lease);
        let meta_ms = self.settings.meta_ms(0);
        // The snapshot may be older than the lease, never younger than the load.
        let mut steps = vec![scripts::snapshot(&self.names, meta_ms)];
        steps.extend(
            look_ups.map(|look_up| scripts::look_up(&look_up, token, unanswered, lease_ms)),
        );
        let keys = steps.len() - 1;
        let replies = self.run_all_in_time(steps).await;
        let mut replies = replies
            .map_err(|error| LookUpFailure {
                may_hold: vec![error.is_maybe(); keys],
                error,
            })?
            .into_iter();
        let snapshot =
            next_value(&mut replies).and_then(|reply| scripts::snapshotted(reply).map_err(odd));
        let found: Vec<_> = replies
            .map(|reply| {
                let value = next_value(&mut std::iter::once(reply))?;
                scripts::looked_up(value).map_err(odd)
            })
            .collect();
        match snapshot {
            Ok(snapshot) => {
                self.know_generation(snapshot.generation);
                Ok((snapshot, found))
            }
            // The look-ups were sent as well, on a cluster perhaps to other nodes.
            Err(error) => Err(LookUpFailure {
                error,
                may_hold: found.iter().map(may_hold).collect(),
            }),
        }
    }

    pub(crate) async fn snapshot(&self) -> Result<Snapshot, CoreError> {
        let meta_ms = self.settings.meta_ms(0);
        let snapshot = scripts::snapshot(&self.names, meta_ms);
        self.snapshotted(self.run_all(vec![snapshot]).await?)
    }

    /// The same for a look-up, which does not wait longer than its budget.
    pub(crate) async fn snapshot_in_time(&self) -> Result<Snapshot, CoreError> {
        let meta_ms = self.settings.meta_ms(0);
        let snapshot = scripts::snapshot(&self.names, meta_ms);
        self.snapshotted(self.run_all_in_time(vec![snapshot]).await?)
    }

    fn snapshotted(&self, replies: Vec<Result<Value, CallError>>) -> Result<Snapshot, CoreError> {
        let reply = next_value(&mut replies.into_iter())?;
        let snapshot = scripts::snapshotted(reply).map_err(odd)?;
        self.know_generation(snapshot.generation);
        Ok(snapshot)
    }

    /// The generation as it was when it was last seen: an entry that is written with an older one
    /// is not valid, which is safe.
    pub(crate) fn known_generation(&self) -> Option<Id> {
        *self.generation.lock()
    }

    pub(super) fn know_generation(&self, generation: Id) {
        *self.generation.lock() = Some(generation);
    }

    /// The generations of tags for entries that live so long; without the tags of which one, or one
    /// counted with it, was invalidated since `before`. Two round trips.
    pub(crate) async fn open_tags(
        &self,
        tags: &[Box<str>],
        before: &Snapshot,
        lifetime_ms: u64,
    ) -> Result<BTreeMap<Box<str>, Id>, CoreError> {
        if tags.is_empty() {
            return Ok(BTreeMap::new());
        }
        let meta_ms = self.settings.meta_ms(lifetime_ms);
        let opens = tags
            .iter()
            .map(|tag| scripts::open_tag(&self.names.of_tag(tag), meta_ms))
            .collect();
        let mut replies = self.run_all(opens).await?.into_iter();
        let mut opened = BTreeMap::new();
        for tag in tags {
            let generation: String = next("EVALSHA", &mut replies)?;
            // Another text is not of our making: no entry can be judged by it.
            if let Some(generation) = Id::parse(&generation) {
                opened.insert(tag.clone(), generation);
            }
        }
        // Only now: an invalidation counts first and removes the generation then.
        let after = scripts::snapshot(&self.names, meta_ms);
        let after = scripts::snapshotted(self.client.eval(after).await?).map_err(odd)?;
        opened.retain(|tag, _| before.agrees(&after, &stripe(tag)));
        Ok(opened)
    }
}
