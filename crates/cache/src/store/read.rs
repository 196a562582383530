//! Reading entries, and judging what was read.

use std::any::type_name;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::{Command, Error as CoreError};
use serde::de::DeserializeOwned;

use super::trip::next;
use super::{Hit, Life, ReadError, Seen, Store};
use crate::entry::{Entry, Head};
use crate::id::Id;
use crate::names::EntryKeys;
use crate::scripts::Snapshot;

impl<V: DeserializeOwned> Store<V> {
    /// What is at a key. One round trip; one more when the entry has tags, or a grace period that
    /// the cache does not give.
    pub(crate) async fn read(&self, keys: &EntryKeys) -> Result<Seen<V>, ReadError> {
        let mut with_left = self.needs_left();
        loop {
            let Found {
                raw,
                generation,
                left,
            } = match with_left {
                true => self.find_with_left(keys).await?,
                false => self.find(keys).await?,
            };
            let examined = self.examine(keys, raw, generation)?;
            match &examined {
                Examined::Entry(entry) if is_left_wanting(entry, left) => with_left = true,
                _ => return self.judge(keys, examined, left).await,
            }
        }
    }

    /// What an entry is judged by comes with it, in one command where one server has both: what is
    /// read by two costs both sides almost twice as much.
    async fn find(&self, keys: &EntryKeys) -> Result<Found, CoreError> {
        let (entry, generation) = (&keys.entry, &self.names.generation);
        if !self.settings.clearable {
            let raw = self.client.call(Command::new("GET").key(entry)).await?;
            return Ok(Found {
                raw,
                ..Found::default()
            });
        }
        let (raw, generation): (Option<Bytes>, Option<Bytes>) = match self.is_cluster {
            false => {
                let bytes = entry.as_bytes().len() + generation.as_bytes().len();
                let both = Command::with_capacity("MGET", bytes);
                self.client.call(both.key(entry).key(generation)).await?
            }
            true => {
                let both = self.gets([entry, generation]);
                let mut replies = self.client.pipeline(both).await?.into_iter();
                (next("GET", &mut replies)?, next("GET", &mut replies)?)
            }
        };
        Ok(Found {
            raw,
            generation: generation.and_then(|text| Id::read(&text)),
            left: None,
        })
    }

    /// The time left comes first. If the entry is replaced in between, it is cut to the new one's
    /// own; the other way round the old one would be given the new one's time.
    async fn find_with_left(&self, keys: &EntryKeys) -> Result<Found, CoreError> {
        let mut found = self.find_many(&[keys], true).await?;
        found.pop().unwrap_or(Ok(Found::default()))
    }

    /// What is at several keys, in their order. One round trip; one more when entries have tags, and
    /// one when they have grace periods that the cache does not give.
    pub(crate) async fn read_many(
        &self,
        keys: &[&EntryKeys],
    ) -> Result<Vec<Result<Seen<V>, ReadError>>, CoreError> {
        let with_left = self.needs_left();
        let found = self.find_many(keys, with_left).await?;
        let mut found = self.examine_all(keys, found);
        let is_wanting = |found: &Result<(Examined, _), _>| match found {
            Ok((Examined::Entry(entry), left)) => is_left_wanting(entry, *left),
            _ => false,
        };
        let wanting: Vec<_> = keys
            .iter()
            .zip(&mut found)
            .filter(|(_, found)| is_wanting(found))
            .collect();
        if !wanting.is_empty() {
            let (keys, places): (Vec<_>, Vec<_>) = wanting.into_iter().unzip();
            let keys: Vec<_> = keys.into_iter().copied().collect();
            let again = self.find_many(&keys, true).await?;
            for (place, again) in places.into_iter().zip(self.examine_all(&keys, again)) {
                *place = again;
            }
        }
        let mut tags = found
            .iter()
            .filter_map(|found| match found {
                Ok((Examined::Entry(entry), _)) => Some(&entry.head.tags),
                _ => None,
            })
            .flatten()
            .map(|(tag, _)| &**tag)
            .collect::<Vec<_>>();
        tags.sort_unstable();
        tags.dedup();
        let void: Vec<bool> = match tags.is_empty() {
            true => vec![false; found.len()],
            false => {
                let now = self.tags_now(tags).await?;
                let is_void = |found: &Result<(Examined, _), _>| match found {
                    Ok((Examined::Entry(entry), _)) => !stand(&entry.head.tags, &now),
                    _ => false,
                };
                found.iter().map(is_void).collect()
            }
        };
        let judged = keys.iter().zip(found).zip(void);
        Ok(judged
            .map(|((keys, found), is_void)| match found? {
                (Examined::Missing | Examined::Void(_), _) => Ok(Seen::Missing),
                (Examined::Entry(entry), _) if is_void => Ok(Seen::Void(entry.head.id)),
                (Examined::Entry(entry), left) => self.decode(keys, entry, left),
            })
            .collect())
    }

    async fn find_many(
        &self,
        keys: &[&EntryKeys],
        with_left: bool,
    ) -> Result<Vec<Result<Found, CoreError>>, CoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let entries = keys.iter().map(|keys| &keys.entry);
        // After the entries: a cache that is cleared in between shows the new generation.
        let generation = self.settings.clearable.then_some(&self.names.generation);
        let mut commands = match with_left {
            true => entries
                .clone()
                .map(|entry| Command::new("PTTL").key(entry))
                .collect(),
            false => Vec::new(),
        };
        commands.extend(self.gets(entries.chain(generation)));
        let mut replies = self.client.pipeline(commands).await?.into_iter();
        let left: Vec<_> = keys
            .iter()
            .map(|_| match with_left {
                true => next("PTTL", &mut replies).map(Some),
                false => Ok(None),
            })
            .collect();
        let asked = keys.len() + usize::from(generation.is_some());
        let mut values = self.got(asked, &mut replies);
        let generation = match generation {
            Some(_) => values.pop().unwrap_or(Ok(None))?,
            None => None,
        };
        let generation = generation.and_then(|text| Id::read(&text));
        let found = values.into_iter().zip(left).map(|(raw, left)| {
            let left = left?;
            Ok(Found {
                // What came in between has a time that is not known: who loads finds it.
                raw: raw?.filter(|_| left != Some(-2)),
                generation,
                left,
            })
        });
        Ok(found.collect())
    }

    fn examine_all(
        &self,
        keys: &[&EntryKeys],
        found: Vec<Result<Found, CoreError>>,
    ) -> Vec<Result<(Examined, Option<i64>), ReadError>> {
        let examine = |(keys, found): (&&EntryKeys, Result<Found, CoreError>)| {
            let found = found?;
            let examined = self.examine(keys, found.raw, found.generation)?;
            Ok((examined, found.left))
        };
        keys.iter().zip(found).map(examine).collect()
    }

    /// What an entry that came from elsewhere is worth: from a script, say. One round trip for
    /// what it is judged by.
    pub(crate) async fn judge_again(
        &self,
        keys: &EntryKeys,
        raw: Bytes,
        left: i64,
        snapshot: &Snapshot,
    ) -> Result<Seen<V>, ReadError> {
        let generation = Some(snapshot.generation);
        match self.examine(keys, Some(raw), generation)? {
            Examined::Void(id) => Ok(Seen::Void(id)),
            examined => self.judge(keys, examined, Some(left)).await,
        }
    }

    async fn judge(
        &self,
        keys: &EntryKeys,
        examined: Examined,
        left: Option<i64>,
    ) -> Result<Seen<V>, ReadError> {
        let Examined::Entry(entry) = examined else {
            return Ok(Seen::Missing);
        };
        if !entry.head.tags.is_empty() {
            let tags = entry.head.tags.iter().map(|(tag, _)| &**tag).collect();
            let now = self.tags_now(tags).await?;
            if !stand(&entry.head.tags, &now) {
                return Ok(Seen::Void(entry.head.id));
            }
        }
        self.decode(keys, entry, left)
    }

    /// The first look at what was read.
    pub(crate) fn examine(
        &self,
        keys: &EntryKeys,
        raw: Option<Bytes>,
        generation: Option<Id>,
    ) -> Result<Examined, ReadError> {
        let Some(raw) = raw else {
            return Ok(Examined::Missing);
        };
        let entry = Entry::parse(raw)
            .map_err(|raw| ReadError::Undecodable(None, not_an_entry::<V>(keys, raw)))?;
        // One that was lost is nobody's.
        let stands = !self.settings.clearable
            || (generation.is_some() && entry.head.generation == generation);
        Ok(match stands {
            true => Examined::Entry(entry),
            false => Examined::Void(entry.head.id),
        })
    }

    /// The generations that tags have now. One round trip.
    pub(crate) async fn tags_now<'t>(
        &self,
        tags: Vec<&'t str>,
    ) -> Result<HashMap<&'t str, Id>, CoreError> {
        let keys: Vec<_> = tags.iter().map(|tag| self.names.of_tag(tag)).collect();
        let mut replies = self.client.pipeline(self.gets(&keys)).await?.into_iter();
        let mut now = HashMap::with_capacity(tags.len());
        for (tag, generation) in tags.into_iter().zip(self.got(keys.len(), &mut replies)) {
            if let Some(generation) = generation?.and_then(|text| Id::read(&text)) {
                now.insert(tag, generation);
            }
        }
        Ok(now)
    }

    /// The last look: the value, and how old it is.
    pub(crate) fn decode(
        &self,
        keys: &EntryKeys,
        entry: Entry,
        left: Option<i64>,
    ) -> Result<Seen<V>, ReadError> {
        let Entry { head, value } = entry;
        let value = match head.is_negative {
            true => None,
            false => match self.client.codec().decode(keys.entry.as_bytes(), value) {
                Ok(value) => Some(Arc::new(value)),
                Err(error) => return Err(ReadError::Undecodable(Some(head.id), error)),
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
        Ok(match left {
            Some(_) => Seen::Fresh(hit),
            None => Seen::Stale(hit),
        })
    }
}

/// What was read of an entry.
#[derive(Debug, Default)]
struct Found {
    raw: Option<Bytes>,
    /// The cache's.
    generation: Option<Id>,
    /// What `PTTL` said, when it was asked.
    left: Option<i64>,
}

/// What the first look at an entry gives.
pub(crate) enum Examined {
    Entry(Entry),
    Missing,
    /// It was written with another generation of the cache than the one that was read: mostly
    /// because the cache was cleared since. On a cluster the generation may have been read before
    /// the entry, so that it is the older of the two: who loads looks at both again.
    Void(Id),
}

/// Whether no tag of an entry was invalidated. A tag that is gone was.
pub(crate) fn stand(tags: &[(Box<str>, Id)], now: &HashMap<&str, Id>) -> bool {
    tags.iter()
        .all(|(tag, written_with)| now.get(&**tag) == Some(written_with))
}

impl<V> Store<V> {
    /// Whether the time that an entry has left matters on a hit.
    fn needs_left(&self) -> bool {
        self.settings.needs_time_left() || self.level.is_some()
    }
}

/// Whether it depends on the time left, for which nobody asked, if an entry is fresh.
fn is_left_wanting(entry: &Entry, left: Option<i64>) -> bool {
    left.is_none() && !entry.head.grace.is_zero()
}

/// How long an entry stays fresh: `None` when it is not. The key's own expiry is the only clock:
/// the server's, and the same for everybody.
fn time_left(head: &Head, pttl: Option<i64>) -> Option<Duration> {
    match pttl {
        // Nobody asked, because nothing depends on it; or somebody took the expiry away.
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

fn not_an_entry<V>(keys: &EntryKeys, raw: Bytes) -> CoreError {
    CoreError::Decode {
        key: keys.entry.to_string().into(),
        type_name: type_name::<V>(),
        raw,
        error: Arc::new(NotAnEntry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_what_the_server_says_without_the_grace() {
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
