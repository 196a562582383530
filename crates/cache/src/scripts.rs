//! The scripts: the only place that orders their arguments and reads their replies. Each file
//! says in its header what it takes and gives.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::coordination::lua;
use redkit_core::{Invocation, Key, Script, ToArg, Value, ValueError};

use crate::entry::{Encoded, Head, generation_text, version_text};
use crate::id::{Id, LeaseToken};
use crate::names::{EntryKeys, Names};

macro_rules! script {
    ($name:ident, $file:literal) => {
        static $name: Script = Script::new(include_str!(concat!("scripts/", $file)));
    };
}

/// A script that wakes the callers that wait for an entry: `wake_up(channel, entry, payload)`, whose
/// payload begins with `f` filled, `r` released, or `e` and the loader's error.
macro_rules! waking_script {
    ($name:ident, $file:literal) => {
        static $name: Script =
            Script::of_parts(&[lua::WAKE_UP, include_str!(concat!("scripts/", $file))]);
    };
}

/// A waking script that knows which writes of a key are under way.
macro_rules! write_script {
    ($name:ident, $file:literal) => {
        static $name: Script = Script::of_parts(&[
            lua::WAKE_UP,
            include_str!("scripts/writes_under_way.lua"),
            include_str!(concat!("scripts/", $file)),
        ]);
    };
}

script!(LOOK_UP, "look_up.lua");
static RENEW: Script = Script::of_parts(&[
    include_str!("scripts/writes_under_way.lua"),
    include_str!("scripts/renew.lua"),
]);
waking_script!(FILL, "fill.lua");
waking_script!(RELEASE, "release.lua");
waking_script!(SET, "set.lua");
write_script!(INVALIDATE, "invalidate.lua");
script!(BROADCAST, "broadcast.lua");
script!(SNAPSHOT, "snapshot.lua");
script!(LOG_POSITION, "log_position.lua");
script!(TAG_OPEN, "tag_open.lua");
script!(TAG_MARK, "tag_mark.lua");
script!(CLEAR, "clear.lua");
write_script!(WRITE_BEGIN, "write_begin.lua");

/// The value that a caller already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Have {
    Nothing,
    /// A stale value.
    Stale,
    /// A fresh value that will not be fresh for long.
    Fresh,
    /// A fresh value that it does not take, and gives only when another cannot be had.
    Unwanted,
}

/// The entry that a caller does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejected {
    None,
    Entry(Id),
    /// Whatever is there: it cannot be named as the script names it.
    Any,
}

impl Rejected {
    /// Rejects an entry that a look-up has given as well. One that was given although it was rejected
    /// cannot be named.
    pub(crate) fn and(self, id: Option<Id>) -> Self {
        match id {
            Some(id) if self != Rejected::Entry(id) => Rejected::Entry(id),
            _ => Rejected::Any,
        }
    }
}

#[derive(Debug, PartialEq)]
pub(crate) enum LookUpReply {
    /// The entry, and the milliseconds it has left with its grace period.
    Fresh(Bytes, i64),
    /// The lease is ours.
    Leased,
    /// Another process has the lease, for so long if it does not prolong it: the owner of this token,
    /// if it is a load or a write that may be kept.
    Taken(Duration, Option<LeaseToken>),
    /// The source failed and is left alone for so long.
    Resting(Duration),
    /// The load that the caller has waited for has failed, with this error.
    Failed(Bytes),
}

/// The look-up of one caller.
pub(crate) struct LookUp<'k> {
    pub(crate) keys: &'k EntryKeys,
    pub(crate) rejected: Rejected,
    pub(crate) have: Have,
    /// The owner of the lease that the caller has waited for.
    pub(crate) awaited: Option<LeaseToken>,
}

/// Must not be repeated as it is: the first may arrive after the lease that it took was lost.
/// `unanswered` is the token of a look-up of which it is not known what has become.
pub(crate) fn look_up(
    look_up: &LookUp<'_>,
    token: LeaseToken,
    unanswered: Option<LeaseToken>,
    lease_ms: u64,
) -> Invocation {
    let have = match look_up.have {
        Have::Nothing => "nothing",
        Have::Stale => "stale",
        Have::Fresh => "fresh",
        Have::Unwanted => "unwanted",
    };
    let rejected = match look_up.rejected {
        Rejected::None => String::new(),
        Rejected::Entry(id) => id.to_string(),
        Rejected::Any => "*".to_owned(),
    };
    let or_empty = |token: Option<LeaseToken>| token.map_or_else(String::new, |t| t.to_string());
    LOOK_UP
        .invoke([&look_up.keys.entry, &look_up.keys.lease])
        .arg(token)
        .arg(lease_ms)
        .arg(rejected)
        .arg(have)
        .arg(or_empty(look_up.awaited))
        .arg(or_empty(unanswered))
}

pub(crate) fn looked_up(reply: Value) -> Result<LookUpReply, ValueError> {
    let mut items = reply.to::<Vec<Value>>()?.into_iter();
    let mut next = || items.next().unwrap_or_default();
    Ok(match next().to::<i64>()? {
        0 => LookUpReply::Fresh(next().to()?, next().to()?),
        1 => LookUpReply::Leased,
        2 => {
            let left = time(next().to()?);
            LookUpReply::Taken(left, LeaseToken::read(&next().to::<Bytes>()?))
        }
        3 => LookUpReply::Resting(time(next().to()?)),
        4 => LookUpReply::Failed(next().to()?),
        _ => return Err(unknown("a state of an entry")),
    })
}

pub(crate) fn renew(lease: &Key, token: LeaseToken, lease_ms: u64) -> Invocation {
    RENEW
        .invoke([lease])
        .arg(token)
        .arg(lease_ms)
        .idempotent(true)
}

/// The generation of an entry; nothing when no clearing invalidates it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(pub(crate) Option<Id>);

/// A value that a load or a write gave, to be written under its lease.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fill<'f> {
    pub(crate) keys: &'f EntryKeys,
    pub(crate) token: LeaseToken,
    pub(crate) head: &'f Head,
    pub(crate) entry: &'f Encoded,
    /// A generation that is known to be over: an entry of it keeps no other version away.
    pub(crate) obsolete: Option<Generation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    Written,
    /// The lease did not stand.
    Fenced,
    /// An entry of a newer version is there, of this generation.
    Newer(Generation),
}

pub(crate) fn fill(
    fill: &Fill<'_>,
    names: &Names,
    broadcast: Broadcast,
    meta_ms: u64,
) -> Invocation {
    let head = fill.head;
    let invocation = FILL
        .invoke(keys_with_meta(fill.keys, names, broadcast))
        .arg(fill.token)
        .arg(&fill.entry.head)
        .arg(&fill.entry.rest)
        .arg(head.lifetime_ms())
        .arg(version_text(head.version))
        .arg(generation_text(head.generation))
        .arg(obsolete_text(fill.obsolete))
        .arg(&names.wake);
    with_broadcast(invocation, names, broadcast, meta_ms)
        // The second time finds no lease, and says that it did not stand: no caller relies on less.
        .idempotent(true)
}

pub(crate) fn filled(reply: Value) -> Result<Filled, ValueError> {
    match reply {
        Value::Int(0) => Ok(Filled::Fenced),
        Value::Int(1) => Ok(Filled::Written),
        Value::Bulk(generation) => Ok(Filled::Newer(Generation(Id::read(&generation)))),
        _ => Err(unknown("the outcome of a fill")),
    }
}

pub(crate) fn release(
    keys: &EntryKeys,
    names: &Names,
    token: LeaseToken,
    rest_ms: u64,
    error: &[u8],
    stays_ms: u64,
) -> Invocation {
    RELEASE
        .invoke([&keys.lease])
        .arg(token)
        .arg(rest_ms)
        .arg(&names.wake)
        .arg(&keys.entry)
        .arg(error)
        .arg(stays_ms)
        .idempotent(true)
}

/// How a change is told to the other processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broadcast {
    /// The other processes need not be told.
    No,
    /// In the script that makes the change.
    WithinScript,
    /// By a script after it: on a cluster the two belong to different nodes.
    AfterScript,
}

pub(crate) fn set(
    keys: &EntryKeys,
    names: &Names,
    head: &Head,
    entry: &Encoded,
    obsolete: Option<Generation>,
    broadcast: Broadcast,
    meta_ms: u64,
) -> Invocation {
    let invocation = SET
        .invoke(keys_with_meta(keys, names, broadcast))
        .arg(&entry.head)
        .arg(&entry.rest)
        .arg(head.lifetime_ms())
        .arg(version_text(head.version))
        .arg(obsolete_text(obsolete))
        .arg(&names.wake);
    with_broadcast(invocation, names, broadcast, meta_ms)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    Yes,
    /// An entry of a newer version is there, of this generation.
    Newer(Generation),
}

pub(crate) fn written(reply: Value) -> Result<Written, ValueError> {
    match reply {
        Value::Int(1) => Ok(Written::Yes),
        Value::Bulk(generation) => Ok(Written::Newer(Generation(Id::read(&generation)))),
        _ => Err(unknown("the outcome of a write")),
    }
}

/// `ended` is the write that ends by this; with `only`, no other entry is removed.
pub(crate) fn invalidate(
    keys: &EntryKeys,
    names: &Names,
    ended: Option<LeaseToken>,
    only: Option<Id>,
    broadcast: Broadcast,
    meta_ms: u64,
) -> Invocation {
    let invocation = INVALIDATE
        .invoke(keys_with_meta(keys, names, broadcast))
        .arg(&names.wake)
        .arg(ended.map(|token| token.to_string()).unwrap_or_default())
        .arg(only.map(|id| id.to_string()).unwrap_or_default());
    // Removing twice is as good as once; only the answer may then be "there was none".
    with_broadcast(invocation, names, broadcast, meta_ms).idempotent(true)
}

/// The values that other processes are to forget.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Invalidation<'c> {
    Entry(&'c Key),
    Tag(&'c str),
}

pub(crate) fn broadcast(names: &Names, invalidation: Invalidation<'_>, meta_ms: u64) -> Invocation {
    let mut payload = Vec::new();
    match invalidation {
        Invalidation::Entry(key) => {
            payload.push(b'k');
            key.write_to(&mut payload);
        }
        Invalidation::Tag(tag) => {
            payload.push(b't');
            tag.write_to(&mut payload);
        }
    }
    BROADCAST
        .invoke([&names.meta])
        .arg(&names.changes)
        .arg(payload)
        .arg(Id::random())
        .arg(meta_ms)
        .idempotent(true)
}

/// The counts by which it is seen whether a load's tags were invalidated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    incarnation: Id,
    pub(crate) generation: Id,
    stripes: Vec<(String, String)>,
}

impl Snapshot {
    /// Whether no tag of this stripe was invalidated, and the cache not cleared, between the two.
    pub(crate) fn agrees(&self, later: &Self, stripe: &str) -> bool {
        self.incarnation == later.incarnation
            && self.generation == later.generation
            && self.count(stripe) == later.count(stripe)
    }

    fn count(&self, stripe: &str) -> Option<&str> {
        self.stripes
            .iter()
            .find(|(name, _)| name == stripe)
            .map(|(_, count)| count.as_str())
    }
}

pub(crate) fn snapshot(names: &Names, meta_ms: u64) -> Invocation {
    SNAPSHOT
        .invoke([&names.meta, &names.generation])
        .arg(Id::random())
        .arg(meta_ms)
        .idempotent(true)
}

pub(crate) fn snapshotted(reply: Value) -> Result<Snapshot, ValueError> {
    let mut items = reply.to::<Vec<String>>()?.into_iter();
    let mut id = || {
        let text = items.next()?;
        Id::parse(&text)
    };
    let (Some(incarnation), Some(generation)) = (id(), id()) else {
        return Err(unknown("two random numbers"));
    };
    let stripes = std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect();
    Ok(Snapshot {
        incarnation,
        generation,
        stripes,
    })
}

/// A position in the invalidation log: the numbered changes of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogPosition {
    /// Which log: another one after the server has lost its data.
    pub(crate) incarnation: Id,
    pub(crate) number: u64,
}

pub(crate) fn log_position(names: &Names, meta_ms: u64) -> Invocation {
    LOG_POSITION
        .invoke([&names.meta])
        .arg(Id::random())
        .arg(meta_ms)
        .idempotent(true)
}

pub(crate) fn log_position_reply(reply: Value) -> Result<LogPosition, ValueError> {
    let (incarnation, number) = reply.to::<(Bytes, u64)>()?;
    match Id::read(&incarnation) {
        Some(incarnation) => Ok(LogPosition {
            incarnation,
            number,
        }),
        None => Err(unknown("a random number")),
    }
}

pub(crate) fn open_tag(tag: &Key, ttl_ms: u64) -> Invocation {
    TAG_OPEN
        .invoke([tag])
        .arg(Id::random())
        .arg(ttl_ms)
        .idempotent(true)
}

pub(crate) fn mark_tags(names: &Names, stripes: &[String], meta_ms: u64) -> Invocation {
    let invocation = TAG_MARK
        .invoke([&names.meta])
        .arg(Id::random())
        .arg(meta_ms);
    stripes
        .iter()
        .fold(invocation, Invocation::arg)
        .idempotent(true)
}

pub(crate) fn clear(names: &Names, broadcast: Broadcast, meta_ms: u64) -> Invocation {
    let channel = match broadcast {
        Broadcast::No => &[][..],
        // It is the meta hash's own script, also on a cluster.
        Broadcast::WithinScript | Broadcast::AfterScript => &names.changes,
    };
    CLEAR
        .invoke([&names.meta, &names.generation])
        .arg(Id::random())
        .arg(meta_ms)
        .arg(channel)
        .idempotent(true)
}

pub(crate) fn begin_write(
    keys: &EntryKeys,
    names: &Names,
    token: LeaseToken,
    lease_ms: u64,
    broadcast: Broadcast,
    meta_ms: u64,
) -> Invocation {
    let invocation = WRITE_BEGIN
        .invoke(keys_with_meta(keys, names, broadcast))
        .arg(token)
        .arg(lease_ms)
        .arg(&names.wake);
    // A second one that arrives late would take a lease back that was lost.
    with_broadcast(invocation, names, broadcast, meta_ms)
}

fn keys_with_meta<'k>(keys: &'k EntryKeys, names: &'k Names, broadcast: Broadcast) -> Vec<&'k Key> {
    let mut all = vec![&keys.entry, &keys.lease];
    if broadcast == Broadcast::WithinScript {
        all.push(&names.meta);
    }
    all
}

fn with_broadcast(
    invocation: Invocation,
    names: &Names,
    broadcast: Broadcast,
    meta_ms: u64,
) -> Invocation {
    match broadcast {
        Broadcast::WithinScript => invocation
            .arg(&names.changes)
            .arg(Id::random())
            .arg(meta_ms),
        Broadcast::No | Broadcast::AfterScript => invocation,
    }
}

fn obsolete_text(obsolete: Option<Generation>) -> String {
    obsolete.map_or_else(String::new, |obsolete| generation_text(obsolete.0))
}

/// A lease without an expiry is none that this crate took; a second is as good as any time.
fn time(pttl: i64) -> Duration {
    Duration::from_millis(u64::try_from(pttl).unwrap_or(1000))
}

fn unknown(expected: &'static str) -> ValueError {
    ValueError {
        expected,
        got: "something that no script of this crate gives",
    }
}
