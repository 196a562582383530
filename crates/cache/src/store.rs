//! [`Store`]: what a cache has in Redis, read and written. What it means for a caller is decided
//! elsewhere.

use std::any::type_name;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use redkit_core::{CallError, Client, Command, Error as CoreError, Invocation, Topology, Value};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::entry::{Encoded, Entry, Head, millis};
use crate::id::Id;
use crate::level::Level;
use crate::names::{EntryKeys, Names, stripe};
use crate::scripts::{self, Announce, Change, Filled, LookedUp, Need, Snapshot};
use crate::settings::Settings;
use crate::share::ErrorCodec;
use crate::stats::Numbers;
use crate::wake::Wakes;

/// What a load needs after its callers are gone.
pub(crate) struct Store<V> {
    pub(crate) client: Client,
    pub(crate) names: Names,
    pub(crate) name: Box<str>,
    pub(crate) settings: Settings,
    pub(crate) numbers: Numbers,
    pub(crate) wakes: Wakes,
    pub(crate) level: Option<Level<V>>,
    pub(crate) errors: Option<ErrorCodec>,
    /// Loads that may run past a Redis that cannot be asked.
    pub(crate) bypass: Semaphore,
    pub(crate) generation: Mutex<Option<Id>>,
}

/// A value that was read.
#[derive(Debug)]
pub(crate) struct Hit<V> {
    pub(crate) id: Id,
    /// `None` when the source is known to have no value.
    pub(crate) value: Option<Arc<V>>,
    pub(crate) life: Life,
    pub(crate) tags: Vec<(Box<str>, Id)>,
}

/// How old a value is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) ttl: Duration,
    /// How long it stays fresh; the whole of its time when that is not known and does not matter.
    pub(crate) left: Duration,
    pub(crate) cost: Duration,
}

/// What was found at a key.
#[derive(Debug)]
pub(crate) enum Seen<V> {
    Fresh(Hit<V>),
    Stale(Hit<V>),
    /// An entry that must not be served.
    Void(Id),
    Missing,
}

/// Why nothing could be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// What is stored is not a value of the cache's type. The id is there when it is an entry.
    Undecodable(Option<Id>, CoreError),
    Unreachable(CoreError),
}

impl From<CoreError> for ReadError {
    fn from(error: CoreError) -> Self {
        ReadError::Unreachable(error)
    }
}

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
            .map(|(tag, _)| tag);
        let void: Vec<bool> = match tags.clone().next() {
            None => vec![false; found.len()],
            Some(_) => {
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
            let tags = entry.head.tags.iter().map(|(tag, _)| tag);
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
        tags: impl Iterator<Item = &'t Box<str>> + Clone,
    ) -> Result<HashMap<&'t str, Id>, CoreError> {
        let gets = tags
            .clone()
            .map(|tag| Command::new("GET").key(self.names.of_tag(tag)))
            .collect();
        let mut replies = self.client.pipeline(gets).await?.into_iter();
        let mut now = HashMap::new();
        for tag in tags {
            let generation = next::<Option<String>>("GET", &mut replies)?;
            if let Some(generation) = generation.and_then(|text| Id::parse(&text)) {
                now.insert(&**tag, generation);
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
    /// Looks a key up and takes its lease if that is free; and reads what a load will be judged by,
    /// on the same way. One round trip.
    pub(crate) async fn look_up(
        &self,
        keys: &EntryKeys,
        token: Id,
        not_this: Option<Id>,
        need: Need,
    ) -> Result<(LookedUp, Snapshot), CoreError> {
        let lease_ms = millis(self.settings.lease);
        let look = scripts::look_up(keys, token, lease_ms, not_this, need);
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
        looks: impl Iterator<Item = (&'k EntryKeys, Option<Id>, Need)>,
        token: Id,
    ) -> Result<(Snapshot, Vec<Result<LookedUp, CoreError>>), CoreError> {
        let lease_ms = millis(self.settings.lease);
        let meta_ms = self.settings.meta_ms(0);
        let mut steps = vec![scripts::snapshot(&self.names, meta_ms).into()];
        steps.extend(looks.map(|(keys, not_this, need)| {
            scripts::look_up(keys, token, lease_ms, not_this, need).into()
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

    fn know_generation(&self, generation: Option<Id>) {
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

    /// Writes entries where the leases stand. One round trip.
    pub(crate) async fn fill<'e>(
        &self,
        fills: impl ExactSizeIterator<Item = (&'e EntryKeys, Id, &'e Head, &'e Encoded)> + Clone,
        snapshot: &Snapshot,
        announce: Announce,
    ) -> Vec<Result<Filled, CoreError>> {
        let number = fills.len();
        if number == 0 {
            return Vec::new();
        }
        let mut steps: Vec<Step> = fills
            .clone()
            .map(|(keys, token, head, entry)| {
                let (lifetime_ms, version) = (head.lifetime_ms(), head.version);
                let meta_ms = self.settings.meta_ms(0);
                scripts::fill(
                    keys,
                    &self.names,
                    token,
                    entry,
                    lifetime_ms,
                    version,
                    announce,
                    meta_ms,
                )
                .into()
            })
            .collect();
        if self.settings.clearable {
            steps.push(Step::Plain(self.ask_generation()));
        }
        let mut replies = match self.run_all(steps).await {
            Ok(replies) => replies.into_iter(),
            Err(error) => return vec![Err(error); number],
        };
        let mut filled: Vec<_> = replies
            .by_ref()
            .take(number)
            .map(|reply| {
                let value = next_value(&mut std::iter::once(reply))?;
                scripts::filled(value).map_err(odd)
            })
            .collect();
        for ((keys, ..), filled) in fills.zip(&mut filled) {
            if let Ok(Filled::Written) = filled
                && let Err(error) = self
                    .announce_after(announce, Change::Entry(&keys.entry))
                    .await
            {
                *filled = Err(error);
            }
        }
        if self.settings.clearable {
            // What was cleared meanwhile is void whatever the lease says.
            let now = next::<Option<String>>("HGET", &mut replies);
            let stands =
                matches!(&now, Ok(Some(now)) if Id::parse(now) == Some(snapshot.generation));
            if !stands {
                for filled in filled.iter_mut().filter(|filled| filled.is_ok()) {
                    *filled = Ok(Filled::Fenced);
                }
            }
        }
        filled
    }

    pub(crate) async fn release(
        &self,
        keys: &EntryKeys,
        token: Id,
        rest: Duration,
        error: &[u8],
    ) -> Result<(), CoreError> {
        let rest_ms = millis(rest);
        let release = scripts::release(keys, &self.names, token, rest_ms, error);
        self.client.eval::<i64>(release).await.map(drop)
    }

    /// Gives `None` when the cache has another generation than the entry by now, so that it is
    /// void, and `false` when an entry of a newer version is there.
    pub(crate) async fn set(
        &self,
        keys: &EntryKeys,
        head: &Head,
        entry: &Encoded,
    ) -> Result<Option<bool>, CoreError> {
        let announce = self.announce();
        let set = scripts::set(
            keys,
            &self.names,
            entry,
            head.lifetime_ms(),
            head.version,
            announce,
            self.settings.meta_ms(0),
        );
        let mut steps = vec![set.into()];
        if head.generation.is_some() {
            steps.push(Step::Plain(self.ask_generation()));
        }
        let mut replies = self.run_all(steps).await?.into_iter();
        let written = next::<bool>("EVALSHA", &mut replies)?;
        if written {
            self.announce_after(announce, Change::Entry(&keys.entry))
                .await?;
        }
        if head.generation.is_none() {
            return Ok(Some(written));
        }
        let now = next::<Option<String>>("HGET", &mut replies)?;
        let now = now.and_then(|now| Id::parse(&now));
        self.know_generation(now);
        Ok((now == head.generation).then_some(written))
    }

    pub(crate) async fn invalidate(&self, keys: &EntryKeys) -> Result<bool, CoreError> {
        let announce = self.announce();
        let meta_ms = self.settings.meta_ms(0);
        let invalidate = scripts::invalidate(keys, &self.names, announce, meta_ms);
        let removed = self.client.eval(invalidate).await?;
        self.announce_after(announce, Change::Entry(&keys.entry))
            .await?;
        Ok(removed)
    }

    /// First the count, then the generations, then the news: see docs/decisions/0023.
    pub(crate) async fn invalidate_tags(&self, tags: &[Box<str>]) -> Result<(), CoreError> {
        if tags.is_empty() {
            return Ok(());
        }
        let meta_ms = self.settings.meta_ms(0);
        let mut stripes: Vec<_> = tags.iter().map(|tag| stripe(tag)).collect();
        stripes.sort_unstable();
        stripes.dedup();
        let mark = scripts::mark_tags(&self.names, &stripes, meta_ms);
        self.client.eval::<()>(mark).await?;
        let removals = tags
            .iter()
            .map(|tag| {
                Command::new("UNLINK")
                    .key(self.names.of_tag(tag))
                    .idempotent(true)
            })
            .collect();
        let mut replies = self.client.pipeline(removals).await?.into_iter();
        for _ in tags {
            next::<i64>("UNLINK", &mut replies)?;
        }
        if self.announce() != Announce::Not {
            let news = tags
                .iter()
                .map(|tag| scripts::announce(&self.names, Change::Tag(tag), meta_ms).into())
                .collect();
            let mut replies = self.run_all(news).await?.into_iter();
            for _ in tags {
                next_value(&mut replies)?;
            }
        }
        Ok(())
    }

    pub(crate) async fn clear(&self) -> Result<(), CoreError> {
        let meta_ms = self.settings.meta_ms(0);
        let clear = scripts::clear(&self.names, self.announce(), meta_ms);
        self.client.eval(clear).await
    }

    /// Takes the lease for a write, and reads what its tags will be judged by. `None` when another
    /// write of the same key is in progress. One round trip.
    pub(crate) async fn begin_write(
        &self,
        keys: &EntryKeys,
        token: Id,
    ) -> Result<Option<Snapshot>, CoreError> {
        let lease_ms = millis(self.settings.lease);
        let begin = scripts::begin_write(keys, &self.names, token, lease_ms);
        let snapshot = scripts::snapshot(&self.names, self.settings.meta_ms(0));
        let steps = vec![snapshot.into(), begin.into()];
        let mut replies = self.run_all(steps).await?.into_iter();
        let snapshot = scripts::snapshotted(next_value(&mut replies)?).map_err(odd)?;
        let begun = next::<bool>("EVALSHA", &mut replies)?;
        Ok(begun.then_some(snapshot))
    }

    /// Whether the time that an entry has left matters on a hit.
    fn needs_left(&self) -> bool {
        self.settings.needs_time_left() || self.level.is_some()
    }

    /// How a change is told.
    pub(crate) fn announce(&self) -> Announce {
        match self.client.topology() {
            _ if !self.settings.announces => Announce::Not,
            Topology::Cluster => Announce::After,
            _ => Announce::Within,
        }
    }

    async fn announce_after(
        &self,
        announce: Announce,
        change: Change<'_>,
    ) -> Result<(), CoreError> {
        if announce == Announce::After {
            let meta_ms = self.settings.meta_ms(0);
            let news = scripts::announce(&self.names, change, meta_ms);
            self.client.eval::<i64>(news).await?;
        }
        Ok(())
    }

    /// Runs scripts and commands in one round trip.
    pub(crate) async fn run_all(
        &self,
        steps: Vec<Step>,
    ) -> Result<Vec<Result<Value, CallError>>, CoreError> {
        let commands = steps.iter().map(Step::command).collect();
        let mut replies = self.client.pipeline(commands).await?;
        // A server that does not have a script ran nothing: once more is no repetition. Each turn
        // gives a script to a server, so there are as many as servers and scripts at most.
        loop {
            let missing: Vec<_> = (0..replies.len())
                .filter(|&at| replies.get(at).is_some_and(is_missing_script))
                .collect();
            let Some((&first, rest)) = missing.split_first() else {
                return Ok(replies);
            };
            let Some(Step::Script(script)) = steps.get(first) else {
                return Ok(replies);
            };
            let reply = match self.client.eval(script.clone()).await {
                Ok(value) => Ok(value),
                Err(CoreError::Call { error, .. }) => Err(error),
                Err(error) => return Err(error),
            };
            let again = rest.iter().filter_map(|&at| steps.get(at));
            let again: Vec<_> = again.map(Step::command).collect();
            let again = match again.is_empty() {
                true => Vec::new(),
                false => self.client.pipeline(again).await?,
            };
            let answered = rest.iter().copied().zip(again);
            for (at, reply) in std::iter::once((first, reply)).chain(answered) {
                if let Some(place) = replies.get_mut(at) {
                    *place = reply;
                }
            }
            if replies.get(first).is_some_and(is_missing_script) {
                return Ok(replies);
            }
        }
    }

    /// The question which generation the cache has.
    fn ask_generation(&self) -> Command {
        Command::new("HGET").key(&self.names.meta).arg("g")
    }
}

fn is_missing_script(reply: &Result<Value, CallError>) -> bool {
    matches!(reply, Err(CallError::Replied(error)) if error.code() == "NOSCRIPT")
}

/// What goes into one round trip with others.
pub(crate) enum Step {
    Script(Invocation),
    Plain(Command),
}

impl Step {
    fn command(&self) -> Command {
        match self {
            Step::Script(script) => script.by_hash().clone(),
            Step::Plain(command) => command.clone(),
        }
    }
}

impl From<Invocation> for Step {
    fn from(script: Invocation) -> Self {
        Step::Script(script)
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

/// The next reply of a pipeline.
pub(crate) fn next<T: redkit_core::FromValue>(
    command: &'static str,
    replies: &mut impl Iterator<Item = Result<Value, CallError>>,
) -> Result<T, CoreError> {
    let call = |error| CoreError::Call {
        command: command.into(),
        error,
    };
    let value = replies.next().unwrap_or(Ok(Value::Nil)).map_err(call)?;
    value.to().map_err(|error| CoreError::Reply {
        command: command.into(),
        error,
    })
}

pub(crate) fn next_value(
    replies: &mut impl Iterator<Item = Result<Value, CallError>>,
) -> Result<Value, CoreError> {
    next("EVALSHA", replies)
}

pub(crate) fn odd(error: redkit_core::ValueError) -> CoreError {
    CoreError::Reply {
        command: "EVALSHA".into(),
        error,
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
