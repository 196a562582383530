//! The part of a caller on a miss: it joins the loads of its keys, starts one task for those that it
//! leads, and waits for all of them, each key until its own outcome.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use redkit_core::{Error as CoreError, ToArg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use crate::cache::Cache;
use crate::entry::Hit;
use crate::error::Error;
use crate::fetched::{Fetched, Source};
use crate::id::Id;
use crate::load_outcome::LoadOutcome;
use crate::load_task::{LoadRequest, LoadTask, Loader, Member};
use crate::local_cache::with_bytes;
use crate::names::EntryKeys;
use crate::scripts::{Have, Rejected};
use crate::single_flight::{Completion, Follower, Join};
use crate::store::{Lookup, Reading};

/// How often a caller joins loads of others in vain before it starts one of its own. Each time the
/// leader went away, or had another answer than this caller can use.
const MAX_JOINS: u32 = 4;

/// The value of one key, or that the source has none.
pub(crate) type Outcome<V> = Result<Option<Fetched<V>>, Error>;

/// A caller that needs the value of a key to be loaded.
pub(crate) struct Missing<V> {
    pub(crate) request: LoadRequest,
    /// Given where nothing better is to be had, with its entry.
    stale: Option<(Arc<V>, Id)>,
    /// How often it has joined in vain.
    joins: u32,
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Cache<V> {
    /// Tells a caller the meaning of its read: a value that it takes, or a key to be loaded. `seen` is an entry that it
    /// does not take.
    #[expect(
        clippy::result_large_err,
        reason = "a miss is no failure, and goes on by value"
    )]
    pub(crate) fn hit_or_missing(
        &self,
        (index, key, keys): (usize, &impl ToArg, &EntryKeys),
        reading: Result<Reading<V>, CoreError>,
        takes_none: bool,
        seen: Option<Id>,
    ) -> Result<Hit<V>, Missing<V>> {
        let store = &self.inner.store;
        let generation = reading.as_ref().ok().and_then(|reading| reading.generation);
        let (mut rejected, mut have) = (Rejected::None, Have::Nothing);
        let (mut stale, mut is_unreachable) = (None, false);
        match reading.map(|reading| reading.lookup) {
            Ok(Lookup::Fresh(hit))
                if seen != Some(hit.id) && (takes_none || hit.value.is_some()) =>
            {
                return Ok(hit);
            }
            Ok(Lookup::Stale(Hit {
                id,
                value: Some(value),
                ..
            })) => {
                (rejected, have) = (Rejected::Entry(id), Have::Stale);
                stale = Some((value, id));
            }
            // The caller has seen it and does not take it.
            Ok(Lookup::Fresh(Hit {
                id,
                value: Some(value),
                ..
            })) => {
                (rejected, have) = (Rejected::Entry(id), Have::Unwanted);
                stale = Some((value, id));
            }
            Ok(
                Lookup::Fresh(Hit { id, .. })
                | Lookup::Stale(Hit { id, .. })
                | Lookup::Invalidated(id),
            ) => {
                rejected = Rejected::Entry(id);
            }
            Ok(Lookup::Undecodable(id, error)) => {
                store.metrics.decode_failures.add_one();
                tracing::warn!(target: "redkit::cache", cache = %store.name, %error, "loading anew");
                rejected = id.map_or(Rejected::None, Rejected::Entry);
            }
            Ok(Lookup::Missing) => {}
            Err(error) => {
                tracing::debug!(target: "redkit::cache", cache = %store.name, %error, "read failed");
                is_unreachable = true;
            }
        }
        let request = LoadRequest {
            index,
            key: with_bytes(key, |key| key.into()),
            keys: keys.clone(),
            have,
            rejected,
            generation,
            is_unreachable,
            takes_none,
        };
        Err(Missing {
            request,
            stale,
            joins: 0,
        })
    }

    /// Gives the values of keys that are not in the cache, by index. `loader` is asked for one for each
    /// task that this caller starts.
    pub(crate) async fn load_missing(
        &self,
        missing: Vec<Missing<V>>,
        mut loader: impl FnMut() -> Option<Loader<V>>,
    ) -> Vec<(usize, Outcome<V>)> {
        let store = &self.inner.store;
        let mut outcomes = Vec::with_capacity(missing.len());
        // For all keys together: a caller with several stale values does not wait once for each.
        let soft_deadline = store
            .settings
            .soft_timeout
            .map(|soft| Instant::now() + soft);
        let join = |missing: Missing<V>| (self.join(&missing), missing);
        let mut joined: Vec<_> = missing.into_iter().map(join).collect();
        let mut waiting = FuturesUnordered::new();
        loop {
            // At once: other callers wait for the loads that are led here.
            let mut led = Vec::new();
            for (join, missing) in joined.drain(..) {
                let (follower, leads) = match join {
                    Join::Leader(leader, follower) => {
                        led.push(Member::new(missing.request.clone(), leader));
                        (follower, true)
                    }
                    Join::Follower(follower) => {
                        store.metrics.shared.add_one();
                        (follower, false)
                    }
                };
                waiting.push(wait(missing, follower, leads, soft_deadline));
            }
            if !led.is_empty() {
                match loader() {
                    Some(loader) => {
                        let task = LoadTask::new(Arc::clone(store), loader);
                        self.inner.tasks.spawn(task.run(led));
                    }
                    // They end without an outcome.
                    None => drop(led),
                }
            }
            // One that has ended, and all that have ended by now, which then share the next task.
            let Some(ended) = waiting.next().await else {
                return outcomes;
            };
            let mut ended = vec![ended];
            while let Some(Some(more)) = waiting.next().now_or_never() {
                ended.push(more);
            }
            for (missing, completion, leads) in ended {
                let index = missing.request.index;
                match self.settle(missing, completion, leads) {
                    Ok(outcome) => outcomes.push((index, outcome)),
                    Err(again) => joined.push(*again),
                }
            }
        }
    }

    /// Turns the end of a load into the next step of one caller: its outcome, or another load to wait for.
    fn settle(
        &self,
        mut missing: Missing<V>,
        completion: Option<Completion<LoadOutcome<V>>>,
        leads: bool,
    ) -> Result<Outcome<V>, Box<Joined<V>>> {
        let give_stale = |(stale, entry)| {
            self.inner.store.metrics.stale.add_one();
            Ok(Ok(Some(Fetched::new(stale, Source::Stale, Some(entry)))))
        };
        match (completion, missing.stale.take()) {
            (Some(Completion::TooOld(next)), stale) => {
                missing.stale = stale;
                Err(Box::new((next, missing)))
            }
            // The load of a caller that had not seen what this one does not take may find that.
            (
                Some(Completion::Outcome(LoadOutcome::Value {
                    value,
                    source,
                    entry,
                    is_final,
                })),
                _,
            ) if (value.is_some() || missing.request.takes_none)
                && (leads || is_final || !missing.request.rejects(entry)) =>
            {
                let source = match source {
                    Source::Loaded if !leads => Source::Shared,
                    source => source,
                };
                Ok(Ok(value.map(|value| Fetched::new(value, source, entry))))
            }
            // It takes too long for a caller that has a value to give; the load goes on.
            (None, Some(stale)) => give_stale(stale),
            (
                Some(Completion::Outcome(LoadOutcome::Failed(_) | LoadOutcome::GivenUp)),
                Some(stale),
            ) => give_stale(stale),
            // It was the load of another caller, who has a value that it takes.
            (Some(Completion::Outcome(LoadOutcome::Resting(_))), Some(stale))
                if missing.request.have != Have::Unwanted =>
            {
                give_stale(stale)
            }
            (Some(Completion::Outcome(LoadOutcome::Failed(error))), None) => Ok(Err(error)),
            (Some(Completion::Abandoned), Some(stale)) if leads => give_stale(stale),
            (Some(Completion::Abandoned), None) if leads => Ok(Err(Error::LoaderPanicked)),
            // The leader went away, or had an answer that this caller cannot use: a refresh that had
            // nothing to do, or "there is none".
            (_, stale) => {
                missing.stale = stale;
                missing.joins += 1;
                Err(Box::new((self.join(&missing), missing)))
            }
        }
    }

    fn join(&self, missing: &Missing<V>) -> Join<LoadOutcome<V>> {
        match missing.joins < MAX_JOINS {
            true => self.inner.loads.join(&missing.request.keys.entry),
            false => self.inner.loads.start(&missing.request.keys.entry),
        }
    }

    /// Loads fresh values anew in the background, by one task, but for those for which that is being
    /// done. Each comes with the loader's index of its key and the id of its entry.
    #[cold]
    pub(crate) fn refresh<'k, K: ToArg + 'k>(
        &self,
        due: impl IntoIterator<Item = (usize, &'k K, Id)>,
        loader: impl FnOnce() -> Option<Loader<V>>,
    ) {
        let store = &self.inner.store;
        let begin = |(index, key, id)| {
            let keys = store.names.of_entry(key).ok()?;
            let refreshing = self.inner.refreshes.begin(&keys.entry)?;
            let Join::Leader(leader, follower) = self.inner.loads.join(&keys.entry) else {
                return None;
            };
            let request = LoadRequest {
                index,
                key: with_bytes(key, |key| key.into()),
                keys,
                have: Have::Fresh,
                rejected: Rejected::Entry(id),
                generation: None,
                is_unreachable: false,
                // A source that has lost the value is an answer, too.
                takes_none: true,
            };
            Some((Member::new(request, leader), (follower, refreshing)))
        };
        let (members, begun): (Vec<_>, Vec<_>) = due.into_iter().filter_map(begin).unzip();
        if members.is_empty() {
            return;
        }
        let Some(loader) = loader() else {
            return;
        };
        members
            .iter()
            .for_each(|_| store.metrics.refreshes.add_one());
        let task = LoadTask::new(Arc::clone(store), loader);
        self.inner.tasks.spawn(async move {
            task.run(members).await;
            let ends = begun
                .into_iter()
                .map(|(mut follower, refreshing)| async move {
                    if let Completion::Outcome(outcome) = follower.wait().await {
                        refreshing.rest(&outcome).await;
                    }
                });
            join_all(ends).await;
        });
    }
}

/// A load that a caller has joined for a key.
type Joined<V> = (Join<LoadOutcome<V>>, Missing<V>);

/// Waits for the end of a load; not longer than to the deadline where there is a stale value.
async fn wait<V>(
    missing: Missing<V>,
    mut follower: Follower<LoadOutcome<V>>,
    leads: bool,
    soft_deadline: Option<Instant>,
) -> (Missing<V>, Option<Completion<LoadOutcome<V>>>, bool) {
    let completion = match (&missing.stale, soft_deadline) {
        (Some(_), Some(deadline)) => timeout_at(deadline, follower.wait()).await.ok(),
        _ => Some(follower.wait().await),
    };
    (missing, completion, leads)
}
