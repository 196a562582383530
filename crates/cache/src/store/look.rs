//! Looking up with a lease, and what a load will be judged by.

use std::collections::HashMap;

use redkit_core::{Error as CoreError, Value};

use super::Store;
use super::trip::{next, next_value, odd};
use crate::entry::millis;
use crate::id::Id;
use crate::names::{EntryKeys, stripe};
use crate::scripts::{self, Asker, LookedUp, Need, Refused, Snapshot};

impl<V> Store<V> {
    /// Looks a key up and takes its lease if that is free; and reads what a load will be judged by,
    /// on the same way. One round trip.
    pub(crate) async fn look_up(
        &self,
        keys: &EntryKeys,
        asker: Asker,
        not_this: Refused,
        need: Need,
        awaited: Option<Id>,
    ) -> Result<(LookedUp, Snapshot), CoreError> {
        let lease_ms = millis(self.settings.lease);
        let look = scripts::look_up(keys, asker, lease_ms, not_this, need, awaited);
        let meta_ms = self.settings.meta_ms(0);
        // The snapshot may be older than the lease, never younger than the load.
        let all = vec![scripts::snapshot(&self.names, meta_ms).into(), look.into()];
        let mut replies = self.run_all(all).await?.into_iter();
        let snapshot = scripts::snapshotted(next_value(&mut replies)?).map_err(odd)?;
        let looked_up = scripts::looked_up(next_value(&mut replies)?).map_err(odd)?;
        Ok((looked_up, snapshot))
    }

    /// [`Store::look_up`] for several keys, each with its own outcome. One round trip.
    pub(crate) async fn look_up_all<'k>(
        &self,
        looks: impl Iterator<Item = (&'k EntryKeys, Refused, Need)>,
        asker: Asker,
    ) -> Result<(Snapshot, Vec<Result<LookedUp, CoreError>>), CoreError> {
        let lease_ms = millis(self.settings.lease);
        let meta_ms = self.settings.meta_ms(0);
        let mut steps = vec![scripts::snapshot(&self.names, meta_ms).into()];
        steps.extend(looks.map(|(keys, not_this, need)| {
            scripts::look_up(keys, asker, lease_ms, not_this, need, None).into()
        }));
        let mut replies = self.run_all(steps).await?.into_iter();
        let snapshot = scripts::snapshotted(next_value(&mut replies)?).map_err(odd)?;
        let found = replies
            .map(|reply| {
                let value = next_value(&mut std::iter::once(reply))?;
                scripts::looked_up(value).map_err(odd)
            })
            .collect();
        Ok((snapshot, found))
    }

    pub(crate) async fn snapshot(&self) -> Result<Snapshot, CoreError> {
        let meta_ms = self.settings.meta_ms(0);
        let reply: Value = self
            .client
            .eval(scripts::snapshot(&self.names, meta_ms))
            .await?;
        let snapshot = scripts::snapshotted(reply).map_err(odd)?;
        self.know_generation(Some(snapshot.generation));
        Ok(snapshot)
    }

    /// The generation as it was when it was last seen: an entry that is written with an older one
    /// is void, which is safe.
    pub(crate) fn known_generation(&self) -> Option<Id> {
        *self.generation.lock()
    }

    pub(super) fn know_generation(&self, generation: Option<Id>) {
        *self.generation.lock() = generation;
    }

    /// The generations of tags for entries that live so long; without those tags that, or whose
    /// like, were invalidated since `before`. Two round trips.
    pub(crate) async fn open_tags(
        &self,
        tags: &[Box<str>],
        before: &Snapshot,
        lifetime_ms: u64,
    ) -> Result<HashMap<Box<str>, Id>, CoreError> {
        if tags.is_empty() {
            return Ok(HashMap::new());
        }
        let meta_ms = self.settings.meta_ms(lifetime_ms);
        let opens = tags
            .iter()
            .map(|tag| scripts::open_tag(&self.names.of_tag(tag), meta_ms).into())
            .collect();
        let mut replies = self.run_all(opens).await?.into_iter();
        let mut opened = HashMap::with_capacity(tags.len());
        for tag in tags {
            let generation: String = next("EVALSHA", &mut replies)?;
            // Another text is not of our making: no entry can be judged by it.
            if let Some(generation) = Id::parse(&generation) {
                opened.insert(tag.clone(), generation);
            }
        }
        // Only now: whoever invalidates counts first and removes the generation then.
        let after = scripts::snapshot(&self.names, meta_ms);
        let after = scripts::snapshotted(self.client.eval(after).await?).map_err(odd)?;
        opened.retain(|tag, _| before.agrees(&after, &stripe(tag)));
        Ok(opened)
    }
}
