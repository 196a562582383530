//! Asking the source: under leases, whose values are written, or without, when Redis cannot be asked or others take too long.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::join_all;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use super::{LoadTask, Member};
use crate::error::Error;
use crate::fetched::{Loaded, Source};
use crate::fill::FillOutcome;
use crate::lease::Lease;
use crate::load_outcome::LoadOutcome;
use crate::scripts::{Broadcast, Snapshot};
use crate::store::Lookup;

/// A member that is to be loaded under a lease.
pub(super) struct Leased<V> {
    pub(super) member: Member<V>,
    pub(super) lease: Lease<V>,
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> LoadTask<V> {
    /// Loads members that have leases, and writes their values under these.
    pub(super) async fn load(&self, mut leased: Vec<Leased<V>>, snapshot: &Snapshot) {
        if leased.is_empty() {
            return;
        }
        let store = &*self.store;
        let begun = Instant::now();
        for Leased { member, .. } in &mut leased {
            store.metrics.misses.add_one();
            member.begin_reading();
        }
        let loaded = self.run_loader(leased.iter().map(|leased| &leased.member));
        let loaded = match loaded.await {
            Ok(loaded) => loaded,
            Err(error) => {
                let ends = leased.into_iter().map(|Leased { member, lease }| {
                    let error = error.clone();
                    async move {
                        lease.fail(&error).await;
                        member.end(LoadOutcome::Failed(error));
                    }
                });
                join_all(ends).await;
                return;
            }
        };
        let cost = begun.elapsed();
        let (mut members, mut fills) = (Vec::new(), Vec::new());
        for (Leased { member, lease }, loaded) in leased.into_iter().zip(loaded) {
            fills.push((lease, loaded));
            // If it is written, nothing has happened to the entry until then.
            let cutoff_if_written = member.leader.draw_cutoff();
            members.push((member, cutoff_if_written));
        }
        let outcomes = store.fill(fills, snapshot, cost, Broadcast::No).await;
        for ((mut member, cutoff_if_written), outcome) in members.into_iter().zip(outcomes) {
            match outcome {
                Err(error) => member.end(LoadOutcome::Failed(error)),
                Ok(FillOutcome::Written(hit)) => {
                    member.keep_in_process(store, &hit);
                    member.cutoff = cutoff_if_written;
                    member.give(hit.value, Source::Loaded, Some(hit.id));
                }
                Ok(FillOutcome::NotKept(value)) => member.give(value, Source::Loaded, None),
                Ok(FillOutcome::Newer(value)) => {
                    let newer = member.leader.draw_cutoff();
                    match store.look(&member.request.keys).await {
                        Ok(Lookup::Fresh(hit))
                            if hit.value.is_some() || member.request.takes_none =>
                        {
                            member.cutoff = newer;
                            // Where the source is behind the very entry that a reload has seen, that stays the answer, also for the
                            // other reloads: each of them would ask the source again.
                            member.give_at_last(hit);
                        }
                        _ => member.give(value, Source::Loaded, None),
                    }
                }
            }
        }
    }

    /// Redis cannot be asked: loads all the same, a bounded number at once.
    pub(super) async fn bypass(&self, members: Vec<Member<V>>) {
        if members.is_empty() {
            return;
        }
        let store = &*self.store;
        members
            .iter()
            .for_each(|_| store.metrics.bypasses.add_one());
        // However many keys they are, it is one load.
        let permit = timeout(store.settings.load_timeout, store.bypass.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            for member in members {
                store.metrics.overloads.add_one();
                member.end(LoadOutcome::Failed(Error::Overloaded));
            }
            return;
        };
        self.load_unleased(members, Source::Bypassed).await;
    }

    /// Loads values that cannot be kept.
    pub(super) async fn load_unleased(&self, mut members: Vec<Member<V>>, source: Source) {
        if members.is_empty() {
            return;
        }
        members.iter_mut().for_each(Member::begin_reading);
        match self.run_loader(members.iter()).await {
            Ok(loaded) => {
                for (member, loaded) in members.into_iter().zip(loaded) {
                    if source == Source::Bypassed {
                        self.store.metrics.dropped_writes.add_one();
                    }
                    member.give(loaded.value.map(Arc::new), source, None);
                }
            }
            Err(error) => {
                for member in members {
                    member.end(LoadOutcome::Failed(error.clone()));
                }
            }
        }
    }

    /// Runs the loader, bounded, and catches its panic.
    async fn run_loader<'m>(
        &self,
        members: impl Iterator<Item = &'m Member<V>>,
    ) -> Result<Vec<Loaded<Option<V>>>, Error> {
        let store = &*self.store;
        let indices: Vec<_> = members.map(|member| member.request.index).collect();
        let limit = store.settings.load_timeout;
        let load = AssertUnwindSafe((self.loader)(&indices)).catch_unwind();
        let outcome = match timeout(limit, load).await {
            Ok(Ok(outcome)) => outcome,
            // Its message went to the panic hook, and its payload may be anything.
            Ok(Err(_)) => Err(Error::LoaderPanicked),
            Err(_) => Err(Error::LoadTimeout(limit)),
        };
        for _ in indices {
            match &outcome {
                Ok(_) => store.metrics.loads.add_one(),
                Err(_) => store.metrics.load_failures.add_one(),
            }
        }
        outcome
    }
}
