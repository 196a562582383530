//! Reading entries, and judging what was read.

use std::any::type_name;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::{CallError, Command, Error as CoreError};
use serde::de::DeserializeOwned;

use super::find::Found;
use super::{Lookup, Reading, Store};
use crate::entry::{Entry, Head, Hit, Life};
use crate::id::Id;
use crate::names::EntryKeys;
use crate::scripts::Snapshot;

impl<V: DeserializeOwned> Store<V> {
    /// Reads the entry of a key. One round trip; one more when the entry has tags, or a grace period that
    /// the cache does not give.
    pub(crate) async fn look(&self, keys: &EntryKeys) -> Result<Lookup<V>, CoreError> {
        self.read(keys, false).await.map(|reading| reading.lookup)
    }

    /// The same with what tells whether a load in progress is obsolete; its lease only if asked for.
    pub(crate) async fn read(
        &self,
        keys: &EntryKeys,
        with_lease: bool,
    ) -> Result<Reading<V>, CoreError> {
        if with_lease || self.needs_left() {
            let mut readings = self.read_many(&[(keys, with_lease)]).await?;
            return readings.pop().unwrap_or(Ok(Reading::missing()));
        }
        let candidate = match self.find(keys).await {
            Ok(found) => self.validate_found(keys, found),
            Err(error) => Candidate {
                entry: Err(of_another_type::<V>(keys, error)?),
                ..Candidate::missing()
            },
        };
        if candidate.lacks_left() {
            let mut found = self.find_many(&[(keys, false)], true).await?;
            let found = found.pop().unwrap_or(Ok(Found::default()))?;
            let candidate = self.validate_found(keys, found);
            return self.judge_candidate(keys, candidate).await;
        }
        self.judge_candidate(keys, candidate).await
    }

    /// Reads the entries of several keys, in their order, each with its lease if asked for. One round trip; one
    /// more when entries have tags, and one when they have grace periods that the cache does not give.
    pub(crate) async fn read_many(
        &self,
        wanted: &[(&EntryKeys, bool)],
    ) -> Result<Vec<Result<Reading<V>, CoreError>>, CoreError> {
        let found = self.find_many(wanted, self.needs_left()).await?;
        let mut candidates = self.validate_all(wanted, found);
        let lacking: Vec<_> = wanted
            .iter()
            .zip(&mut candidates)
            .filter(|(_, candidate)| candidate.as_ref().is_ok_and(Candidate::lacks_left))
            .collect();
        if !lacking.is_empty() {
            let (wanted, candidates): (Vec<_>, Vec<_>) = lacking.into_iter().unzip();
            let wanted: Vec<_> = wanted.into_iter().copied().collect();
            let again = self.find_many(&wanted, true).await?;
            for (candidate, again) in candidates
                .into_iter()
                .zip(self.validate_all(&wanted, again))
            {
                *candidate = again;
            }
        }
        let mut tags: Vec<_> = candidates
            .iter()
            .flatten()
            .flat_map(Candidate::tags)
            .collect();
        tags.sort_unstable();
        tags.dedup();
        let stands: Vec<bool> = match tags.is_empty() {
            true => vec![true; candidates.len()],
            false => match self.tags_now(tags).await {
                Ok(now) => {
                    let stands = |candidate: &Candidate<V>| match &candidate.entry {
                        Ok(entry) => stand(&entry.head.tags, &now),
                        Err(_) => true,
                    };
                    candidates
                        .iter()
                        .map(|candidate| candidate.as_ref().is_ok_and(stands))
                        .collect()
                }
                Err(error) => {
                    // An entry without tags can be judged all the same.
                    for candidate in &mut candidates {
                        if candidate
                            .as_ref()
                            .is_ok_and(|one| one.tags().next().is_some())
                        {
                            *candidate = Err(error.clone());
                        }
                    }
                    vec![true; candidates.len()]
                }
            },
        };
        let judged = wanted.iter().zip(candidates).zip(stands);
        Ok(judged
            .map(|(((keys, _), candidate), stands)| {
                Ok(self.decode_candidate(keys, candidate?, stands))
            })
            .collect())
    }

    /// Judges an entry that a script gave. One round trip for its tags.
    pub(crate) async fn judge(
        &self,
        keys: &EntryKeys,
        raw: Bytes,
        left: i64,
        snapshot: &Snapshot,
    ) -> Result<Lookup<V>, CoreError> {
        let entry = match self.validate(keys, Some(raw), Some(snapshot.generation)) {
            Ok(entry) => entry,
            Err(lookup) => return Ok(lookup),
        };
        match self.tags_stand(&entry).await? {
            true => Ok(self.decode(keys, entry, Some(left))),
            false => Ok(Lookup::Invalidated(entry.head.id)),
        }
    }

    /// Whether a key holds something else than a string, which a read of several keys does not tell
    /// from nothing. One round trip.
    pub(crate) async fn is_of_another_type(
        &self,
        keys: &EntryKeys,
    ) -> Result<Option<CoreError>, CoreError> {
        // The error of a `GET` says so itself.
        let is_read_with_others = self.settings.clearable || self.needs_left();
        if self.is_cluster || !is_read_with_others {
            return Ok(None);
        }
        let ask = Command::new("TYPE").key(&keys.entry).idempotent(true);
        let found: String = self.hasty.call(ask).await?;
        Ok(match found.as_str() {
            "none" | "string" => None,
            _ => Some(undecodable::<V>(
                keys,
                Bytes::new(),
                Arc::new(OfAnotherType),
            )),
        })
    }

    fn validate_all(
        &self,
        wanted: &[(&EntryKeys, bool)],
        found: Vec<Result<Found, CoreError>>,
    ) -> Vec<Result<Candidate<V>, CoreError>> {
        let validate =
            |((keys, _), found): (&(&EntryKeys, bool), Result<Found, CoreError>)| match found {
                Ok(found) => Ok(self.validate_found(keys, found)),
                Err(error) => Ok(Candidate {
                    entry: Err(of_another_type::<V>(keys, error)?),
                    ..Candidate::missing()
                }),
            };
        wanted.iter().zip(found).map(validate).collect()
    }

    fn validate_found(&self, keys: &EntryKeys, found: Found) -> Candidate<V> {
        let Found {
            raw,
            lease,
            generation,
            left,
        } = found;
        let entry = match self.validate(keys, raw, generation) {
            // On a cluster the generation may have been read before the entry, so that it is the older
            // of the two. A load looks at both again.
            Err(Lookup::Invalidated(_)) => Err(Lookup::Missing),
            entry => entry,
        };
        Candidate {
            entry,
            lease,
            generation,
            left,
        }
    }

    /// An entry of the cache's present generation; otherwise what there is.
    fn validate(
        &self,
        keys: &EntryKeys,
        raw: Option<Bytes>,
        generation: Option<Id>,
    ) -> Result<Entry, Lookup<V>> {
        let Some(raw) = raw else {
            return Err(Lookup::Missing);
        };
        let entry = Entry::parse(raw)
            .map_err(|raw| Lookup::Undecodable(None, not_an_entry::<V>(keys, raw)))?;
        // Where the cache has lost its generation, no entry is valid.
        let is_valid = !self.settings.clearable
            || (generation.is_some() && entry.head.generation == generation);
        match is_valid {
            true => Ok(entry),
            false => Err(Lookup::Invalidated(entry.head.id)),
        }
    }

    async fn judge_candidate(
        &self,
        keys: &EntryKeys,
        candidate: Candidate<V>,
    ) -> Result<Reading<V>, CoreError> {
        let stands = match &candidate.entry {
            Ok(entry) => self.tags_stand(entry).await?,
            Err(_) => true,
        };
        Ok(self.decode_candidate(keys, candidate, stands))
    }

    async fn tags_stand(&self, entry: &Entry) -> Result<bool, CoreError> {
        if entry.head.tags.is_empty() {
            return Ok(true);
        }
        let tags = entry.head.tags.iter().map(|(tag, _)| &**tag).collect();
        let now = self.tags_now(tags).await?;
        Ok(stand(&entry.head.tags, &now))
    }

    /// The generations that tags have now. One round trip.
    async fn tags_now<'t>(&self, tags: Vec<&'t str>) -> Result<HashMap<&'t str, Id>, CoreError> {
        let keys: Vec<_> = tags.iter().map(|tag| self.names.of_tag(tag)).collect();
        let mut replies = self.hasty.pipeline(self.gets(&keys)).await?.into_iter();
        let mut now = HashMap::with_capacity(tags.len());
        for (tag, generation) in tags.into_iter().zip(self.got(keys.len(), &mut replies)) {
            if let Some(generation) = generation?.and_then(|text| Id::read(&text)) {
                now.insert(tag, generation);
            }
        }
        Ok(now)
    }

    fn decode_candidate(
        &self,
        keys: &EntryKeys,
        candidate: Candidate<V>,
        tags_stand: bool,
    ) -> Reading<V> {
        let Candidate {
            entry,
            lease,
            generation,
            left,
        } = candidate;
        let lookup = match entry {
            Ok(entry) if !tags_stand => Lookup::Invalidated(entry.head.id),
            Ok(entry) => self.decode(keys, entry, left),
            Err(lookup) => lookup,
        };
        Reading {
            lookup,
            generation,
            lease,
        }
    }

    /// The last step: the value, and how old it is.
    fn decode(&self, keys: &EntryKeys, entry: Entry, left: Option<i64>) -> Lookup<V> {
        let Entry { head, value } = entry;
        let value = match head.is_negative {
            true => None,
            false => match self.client.codec().decode(keys.entry.as_bytes(), value) {
                Ok(value) => Some(Arc::new(value)),
                Err(error) => return Lookup::Undecodable(Some(head.id), error),
            },
        };
        let left = time_left(&head, left);
        let hit = Hit {
            id: head.id,
            value,
            life: Life {
                ttl: head.ttl,
                left: left.unwrap_or_default(),
                cost: head.cost,
            },
            tags: head.tags,
        };
        match left {
            Some(_) => Lookup::Fresh(hit),
            None => Lookup::Stale(hit),
        }
    }
}

impl<V> Store<V> {
    /// Whether the time that an entry has left matters on a hit.
    fn needs_left(&self) -> bool {
        self.settings.needs_time_left() || self.local.is_some()
    }
}

/// An entry whose tags and value are still to be looked at, or what there is in place of a valid one.
struct Candidate<V> {
    entry: Result<Entry, Lookup<V>>,
    lease: Option<Bytes>,
    generation: Option<Id>,
    left: Option<i64>,
}

impl<V> Candidate<V> {
    fn missing() -> Self {
        Self {
            entry: Err(Lookup::Missing),
            lease: None,
            generation: None,
            left: None,
        }
    }

    /// Whether it depends on the time left, which was not asked for, if the entry is fresh.
    fn lacks_left(&self) -> bool {
        let has_grace = |entry: &Entry| !entry.head.grace.is_zero();
        self.left.is_none() && self.entry.as_ref().is_ok_and(has_grace)
    }

    fn tags(&self) -> impl Iterator<Item = &str> {
        let entry = self.entry.as_ref().ok();
        let tags = entry.into_iter().flat_map(|entry| &entry.head.tags);
        tags.map(|(tag, _)| &**tag)
    }
}

/// Whether no tag of an entry was invalidated. A tag that is gone was.
fn stand(tags: &[(Box<str>, Id)], now: &HashMap<&str, Id>) -> bool {
    tags.iter()
        .all(|(tag, written_with)| now.get(&**tag) == Some(written_with))
}

/// How long an entry stays fresh: `None` when it is not. The key's own expiry is the only clock:
/// the server's, and the same for everybody.
fn time_left(head: &Head, pttl: Option<i64>) -> Option<Duration> {
    match pttl {
        // It was not asked for, because nothing depends on it; or somebody took the expiry away.
        None | Some(-1) => Some(head.ttl),
        Some(ms) => {
            let left = Duration::from_millis(u64::try_from(ms).ok()?).checked_sub(head.grace)?;
            (!left.is_zero()).then_some(left.min(head.ttl))
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("it does not begin as entries do; see docs/keyspace.md")]
struct NotAnEntry;

#[derive(Debug, thiserror::Error)]
#[error("the key holds another type than a string, which is not an entry; see docs/keyspace.md")]
struct OfAnotherType;

fn not_an_entry<V>(keys: &EntryKeys, raw: Bytes) -> CoreError {
    undecodable::<V>(keys, raw, Arc::new(NotAnEntry))
}

/// A list, a hash or the like at an entry's key is an entry that cannot be decoded.
fn of_another_type<V>(keys: &EntryKeys, error: CoreError) -> Result<Lookup<V>, CoreError> {
    match error.call_error() {
        Some(CallError::Replied(reply)) if reply.code() == "WRONGTYPE" => {
            let error = undecodable::<V>(keys, Bytes::new(), Arc::new(OfAnotherType));
            Ok(Lookup::Undecodable(None, error))
        }
        _ => Err(error),
    }
}

fn undecodable<V>(
    keys: &EntryKeys,
    raw: Bytes,
    error: Arc<dyn std::error::Error + Send + Sync>,
) -> CoreError {
    CoreError::Decode {
        key: keys.entry.to_string().into(),
        type_name: type_name::<V>(),
        raw,
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_the_servers_without_the_grace_period() {
        let head = Head {
            id: Id::new(1),
            ttl: Duration::from_millis(100),
            grace: Duration::from_millis(50),
            cost: Duration::ZERO,
            version: None,
            is_negative: false,
            generation: None,
            tags: Vec::new(),
        };
        let left = |pttl| time_left(&head, pttl).map(|left| left.as_millis());
        assert_eq!(left(Some(150)), Some(100));
        assert_eq!(left(Some(51)), Some(1));
        assert_eq!(left(Some(50)), None);
        assert_eq!(left(Some(0)), None);
        assert_eq!(left(Some(-2)), None, "nothing was there");
        assert_eq!(
            left(Some(900)),
            Some(100),
            "it was another's, before it was replaced"
        );
        assert_eq!(left(Some(-1)), Some(100));
        assert_eq!(left(None), Some(100));
    }
}
