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
    /// What is at a key. One round trip; one more when the entry has tags.
    pub(crate) async fn read(&self, keys: &EntryKeys) -> Result<Seen<V>, ReadError> {
        let get = Command::new("GET").key(&keys.entry);
        let (needs_left, clearable) = (self.needs_left(), self.settings.clearable);
        if !needs_left && !clearable {
            let raw = self.client.call(get).await?;
            return self.judge(keys, self.examine(keys, raw, None)?, None).await;
        }
        let mut commands = Vec::with_capacity(3);
        commands.push(get);
        if needs_left {
            commands.push(Command::new("PTTL").key(&keys.entry));
        }
        if clearable {
            // After the entry: a cache that is cleared in between shows the new generation.
            commands.push(self.ask_generation());
        }
        let mut replies = self.client.pipeline(commands).await?.into_iter();
        let raw = next("GET", &mut replies)?;
        let left = match needs_left {
            true => Some(next("PTTL", &mut replies)?),
            false => None,
        };
        let generation = match clearable {
            true => next::<Option<String>>("HGET", &mut replies)?,
            false => None,
        };
        let generation = generation.and_then(|text| Id::parse(&text));
        let examined = self.examine(keys, raw, generation)?;
        self.judge(keys, examined, left).await
    }

    /// What is at several keys, in their order. One round trip; one more when entries have tags.
    pub(crate) async fn read_many(
        &self,
        keys: &[&EntryKeys],
    ) -> Result<Vec<Result<Seen<V>, ReadError>>, CoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut commands = Vec::with_capacity(keys.len() * 2 + 1);
        for keys in keys {
            commands.push(Command::new("GET").key(&keys.entry));
            commands.push(Command::new("PTTL").key(&keys.entry));
        }
        commands.push(self.ask_generation());
        let mut replies = self.client.pipeline(commands).await?;
        let generation = replies.pop().into_iter();
        let generation = next::<Option<String>>("HGET", &mut generation.into_iter())?;
        let generation = generation.and_then(|text| Id::parse(&text));
        let mut replies = replies.into_iter();
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys {
            let raw = next::<Option<Bytes>>("GET", &mut replies);
            let left = next::<i64>("PTTL", &mut replies);
            found.push(match (raw, left) {
                (Ok(raw), Ok(left)) => self
                    .examine(keys, raw, generation)
                    .map(|examined| (examined, left)),
                (Err(error), _) | (_, Err(error)) => Err(error.into()),
            });
        }
        let tags = found
            .iter()
            .filter_map(|found| match found {
                Ok((Examined::Entry(entry), _)) => Some(&entry.head.tags),
                _ => None,
            })
            .flatten()
            .map(|(tag, _)| &**tag)
            .collect::<Vec<_>>();
        let void: Vec<bool> = match tags.is_empty() {
            true => vec![false; found.len()],
            false => {
                let now = self.tags_now(tags).await?;
                let is_void = |found: &Result<(Examined, i64), _>| match found {
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
                (Examined::Entry(entry), left) => self.decode(keys, entry, Some(left)),
            })
            .collect())
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
        let left = match left {
            None if !entry.head.grace.is_zero() => {
                let ask = Command::new("PTTL").key(&keys.entry);
                Some(self.client.call::<i64>(ask).await?)
            }
            left => left,
        };
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
        let Some(entry) = Entry::parse(&raw) else {
            let error = not_an_entry::<V>(keys, raw);
            return Err(ReadError::Undecodable(None, error));
        };
        Ok(
            match self.settings.clearable && entry.head.generation != generation {
                true => Examined::Void(entry.head.id),
                false => Examined::Entry(entry),
            },
        )
    }

    /// The generations that tags have now. One round trip.
    pub(crate) async fn tags_now<'t>(
        &self,
        tags: Vec<&'t str>,
    ) -> Result<HashMap<&'t str, Id>, CoreError> {
        let gets = tags
            .iter()
            .map(|tag| Command::new("GET").key(self.names.of_tag(tag)))
            .collect();
        let mut replies = self.client.pipeline(gets).await?.into_iter();
        let mut now = HashMap::new();
        for tag in tags {
            let generation = next::<Option<String>>("GET", &mut replies)?;
            if let Some(generation) = generation.and_then(|text| Id::parse(&text)) {
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

/// How long an entry stays fresh: `None` when it is not. The key's own expiry is the only clock:
/// the server's, and the same for everybody.
fn time_left(head: &Head, pttl: Option<i64>) -> Option<Duration> {
    match pttl {
        // Nobody asked, because nothing depends on it; or somebody took the expiry away.
        None | Some(-1) => Some(head.ttl),
        Some(ms) => {
            let left = Duration::from_millis(u64::try_from(ms).ok()?).checked_sub(head.grace)?;
            (!left.is_zero()).then_some(left)
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
        assert_eq!(left(Some(-2)), None, "it expired between the two commands");
        assert_eq!(left(Some(-1)), Some(100));
        assert_eq!(left(None), Some(100));
    }
}
