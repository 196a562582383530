//! Writing loaded values into the cache: for how long, with which tags, and under the lease only.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use redkit_core::random::random;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::entry::{Head, Hit, Life, millis};
use crate::error::Error;
use crate::fetched::{Keep, Loaded};
use crate::id::Id;
use crate::lease::Lease;
use crate::scripts::{Broadcast, Fill, Filled, Snapshot};
use crate::settings::{A_MOMENT, bounded};
use crate::store::Store;

/// How the writing of a loaded value ended.
pub(crate) enum FillOutcome<V> {
    Written(Hit<V>),
    /// It was not to be kept, something happened to the entry meanwhile, or Redis did not take it.
    NotKept(Option<Arc<V>>),
    /// An entry of a newer version is there.
    Newer(Option<Arc<V>>),
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Store<V> {
    /// Writes loaded values where the leases stand. One round trip; two more when there are tags.
    pub(crate) async fn fill(
        &self,
        leased: Vec<(Lease<V>, Loaded<Option<V>>)>,
        snapshot: &Snapshot,
        cost: Duration,
        broadcast: Broadcast,
    ) -> Vec<Result<FillOutcome<V>, Error>> {
        let lives: Vec<_> = leased
            .iter()
            .map(|(_, loaded)| self.lifetime(loaded.value.is_none(), &loaded.keep))
            .collect();
        let lifetime_ms = lives
            .iter()
            .flatten()
            .map(|(ttl, grace)| millis(*ttl).saturating_add(millis(*grace)))
            .max();
        let tags: BTreeSet<_> = leased
            .iter()
            .flat_map(|(_, loaded)| loaded.keep.tags.iter().cloned())
            .collect();
        let tags: Vec<_> = tags.into_iter().collect();
        let opened = self
            .open_tags(&tags, snapshot, lifetime_ms.unwrap_or(0))
            .await
            .inspect_err(|error| self.cannot_keep(error))
            .unwrap_or_default();

        let mut outcomes = Vec::with_capacity(leased.len());
        let (mut fills, mut released, mut emptied) = (Vec::new(), Vec::new(), Vec::new());
        for ((lease, Loaded { value, keep }), life) in leased.into_iter().zip(lives) {
            let tags: Option<Vec<_>> = keep
                .tags
                .iter()
                .map(|tag| opened.get_key_value(tag))
                .map(|open| open.map(|(tag, generation)| (tag.clone(), *generation)))
                .collect();
            let encoded = match &value {
                Some(value) => {
                    let key = lease.keys.entry.as_bytes();
                    self.client.codec().encode(key, value)
                }
                None => Ok(Bytes::new()),
            };
            let value = value.map(Arc::new);
            outcomes.push(match (life, tags, encoded) {
                (None, _, _) if value.is_none() && !keep.not => {
                    emptied.push(lease);
                    Ok(FillOutcome::NotKept(None))
                }
                (None, _, _) => {
                    released.push(lease);
                    Ok(FillOutcome::NotKept(value))
                }
                (Some(_), None, _) => {
                    self.metrics.fenced.add_one();
                    released.push(lease);
                    Ok(FillOutcome::NotKept(value))
                }
                (_, _, Err(error)) => {
                    released.push(lease);
                    Err(error.into())
                }
                (Some((ttl, grace)), Some(tags), Ok(raw)) => {
                    let head = Head {
                        id: Id::random(),
                        ttl,
                        grace,
                        cost,
                        version: keep.version,
                        is_negative: value.is_none(),
                        generation: self.settings.clearable.then_some(snapshot.generation),
                        tags,
                    };
                    let entry = head.encode(&raw);
                    // The outcome takes this place below.
                    fills.push((outcomes.len(), lease, head, entry));
                    Ok(FillOutcome::NotKept(value))
                }
            });
        }
        let under_leases: Vec<_> = fills
            .iter()
            .map(|(_, lease, head, entry)| Fill {
                keys: &lease.keys,
                token: lease.token,
                head,
                entry,
                obsolete: None,
            })
            .collect();
        let fill = self.write_fills(&under_leases, snapshot, broadcast);
        let release = join_all(released.into_iter().map(Lease::release));
        let empty = join_all(emptied.into_iter().map(Lease::release_without_value));
        let (filled, _, _) = tokio::join!(fill, release, empty);
        for ((at, _lease, head, _), filled) in fills.into_iter().zip(filled) {
            let Some(outcome) = outcomes.get_mut(at) else {
                continue;
            };
            let Ok(FillOutcome::NotKept(value)) = outcome else {
                continue;
            };
            let value = value.take();
            *outcome = Ok(match filled {
                Ok(Filled::Written) => FillOutcome::Written(Hit {
                    id: head.id,
                    value,
                    life: Life {
                        ttl: head.ttl,
                        left: head.ttl,
                        cost,
                    },
                    tags: head.tags,
                }),
                Ok(Filled::Fenced) => {
                    self.metrics.fenced.add_one();
                    FillOutcome::NotKept(value)
                }
                Ok(Filled::Newer(_)) => FillOutcome::Newer(value),
                Err(error) => {
                    self.cannot_keep(&error);
                    FillOutcome::NotKept(value)
                }
            });
        }
        outcomes
    }

    /// [`Store::fill`] for one value.
    ///
    /// # Errors
    /// When the value cannot be encoded.
    pub(crate) async fn fill_one(
        &self,
        lease: Lease<V>,
        snapshot: &Snapshot,
        loaded: Loaded<Option<V>>,
        cost: Duration,
        broadcast: Broadcast,
    ) -> Result<FillOutcome<V>, Error> {
        let fill = self.fill(vec![(lease, loaded)], snapshot, cost, broadcast);
        fill.await.pop().unwrap_or(Ok(FillOutcome::NotKept(None)))
    }

    pub(crate) fn cannot_keep(&self, error: &redkit_core::Error) {
        self.metrics.fill_failures.add_one();
        tracing::warn!(target: "redkit::cache", cache = %self.name, %error, "cannot keep a value");
    }

    /// For how long a value is kept, and for how long after that as a stale one; `None` when it is
    /// not kept.
    pub(crate) fn lifetime(&self, is_none: bool, keep: &Keep) -> Option<(Duration, Duration)> {
        let settings = &self.settings;
        let usual = match is_none {
            true => settings.negative_ttl,
            false => Some(settings.ttl),
        };
        let ttl = bounded(keep.ttl.or(usual)?);
        if keep.not || ttl < A_MOMENT {
            return None;
        }
        let ttl = match settings.ttl_jitter {
            jitter if jitter > 0.0 => ttl.mul_f64(1.0 - jitter * random::<f64>()).max(A_MOMENT),
            _ => ttl,
        };
        let grace = match is_none {
            true => Duration::ZERO,
            false => bounded(keep.stale_for.unwrap_or(settings.stale_for)),
        };
        Some((ttl, grace))
    }
}
