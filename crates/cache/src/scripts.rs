//! The scripts: the only place that orders their arguments and reads their replies. Each file
//! says in its header what it takes and gives.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::{
    CallError, Error as CoreError, FaultKind, Invocation, Key, Script, ToArg, Value, ValueError,
};

use crate::entry::{Encoded, Head, generation_text, version_text};
use crate::id::Id;
use crate::names::{EntryKeys, Names};

macro_rules! script {
    ($name:ident, $file:literal) => {
        static $name: Script = Script::new(include_str!(concat!("scripts/", $file)));
    };
}
script!(LOOK_UP, "look_up.lua");
script!(RENEW, "renew.lua");
script!(FILL, "fill.lua");
script!(RELEASE, "release.lua");
script!(SET, "set.lua");
script!(INVALIDATE, "invalidate.lua");
script!(ANNOUNCE, "announce.lua");
script!(SNAPSHOT, "snapshot.lua");
script!(PLACE, "place.lua");
script!(TAG_OPEN, "tag_open.lua");
script!(TAG_MARK, "tag_mark.lua");
script!(CLEAR, "clear.lua");
script!(WRITE_BEGIN, "write_begin.lua");

/// What a caller already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing.
    All,
    /// A stale value.
    Better,
    /// A fresh value that will not be fresh for long.
    Refresh,
}

/// The entry that a caller will not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Nothing,
    This(Id),
    /// Whatever is there: it cannot be named as the script names it.
    Any,
}

impl Refused {
    /// Refuses an entry as well. One that came although it was refused cannot be named.
    pub(crate) fn and(self, id: Option<Id>) -> Self {
        match id {
            Some(id) if self != Refused::This(id) => Refused::This(id),
            _ => Refused::Any,
        }
    }
}

#[derive(Debug, PartialEq)]
pub(crate) enum LookedUp {
    /// The entry, and the milliseconds it has left with its grace period.
    Fresh(Bytes, i64),
    /// The lease is ours.
    Leased,
    /// Another has it, for so long if it does not prolong it: the one with this token, if it is a
    /// load or a write that may be kept.
    Taken(Duration, Option<Id>),
    /// The source failed and is left alone for so long.
    Resting(Duration),
    /// The load that was waited for has failed, with this error.
    Failed(Bytes),
}

/// With which token a lease is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) token: Id,
    /// The one that was used before, when it is not known what has become of the question: it is
    /// answered by nobody any more, and may still arrive.
    pub(crate) before: Option<Id>,
}

impl Asker {
    pub(crate) fn new() -> Self {
        let (token, before) = (Id::random(), None);
        Self { token, before }
    }

    /// To ask once more after this error, if that is worth it. Under another token: what was sent
    /// before may arrive when the lease it then takes has long been lost, and a load must not be kept
    /// under that one.
    pub(crate) fn again(self, error: &CoreError) -> Option<Self> {
        let CoreError::Call { error, .. } = error else {
            return None;
        };
        match error {
            CallError::Maybe(fault)
                if self.before.is_none() && fault.kind() == FaultKind::Disconnected =>
            {
                Some(Self {
                    token: Id::random(),
                    before: Some(self.token),
                })
            }
            _ => None,
        }
    }
}

/// Not to be repeated as it is: see [`Asker::again`].
pub(crate) fn look_up(
    keys: &EntryKeys,
    asker: Asker,
    lease_ms: u64,
    not_this: Refused,
    need: Need,
    awaited: Option<Id>,
) -> Invocation {
    let need = match need {
        Need::All => "all",
        Need::Better => "better",
        Need::Refresh => "refresh",
    };
    let not_this = match not_this {
        Refused::Nothing => String::new(),
        Refused::This(id) => id.to_string(),
        Refused::Any => "*".to_owned(),
    };
    LOOK_UP
        .invoke([&keys.entry, &keys.lease])
        .arg(asker.token)
        .arg(lease_ms)
        .arg(not_this)
        .arg(need)
        .arg(awaited.map_or_else(String::new, |token| token.to_string()))
        .arg(
            asker
                .before
                .map_or_else(String::new, |token| token.to_string()),
        )
}

pub(crate) fn looked_up(reply: Value) -> Result<LookedUp, ValueError> {
    let mut items = reply.to::<Vec<Value>>()?.into_iter();
    let mut next = || items.next().unwrap_or_default();
    Ok(match next().to::<i64>()? {
        0 => LookedUp::Fresh(next().to()?, next().to()?),
        1 => LookedUp::Leased,
        2 => {
            let left = time(next().to()?);
            LookedUp::Taken(left, Id::read(&next().to::<Bytes>()?))
        }
        3 => LookedUp::Resting(time(next().to()?)),
        4 => LookedUp::Failed(next().to()?),
        _ => return Err(unknown("a state of an entry")),
    })
}

pub(crate) fn renew(lease: &Key, token: Id, lease_ms: u64) -> Invocation {
    RENEW
        .invoke([lease])
        .arg(token)
        .arg(lease_ms)
        .idempotent(true)
}

/// The generation of an entry; nothing for one that no clearing makes void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(pub(crate) Option<Id>);

/// What a load or a write gave, to be written under its lease.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fill<'f> {
    pub(crate) keys: &'f EntryKeys,
    pub(crate) token: Id,
    pub(crate) head: &'f Head,
    pub(crate) entry: &'f Encoded,
    /// A generation that is known to be over: what was written with it keeps no other version away.
    pub(crate) void: Option<Generation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    Written,
    /// The lease did not stand.
    Fenced,
    /// An entry of a newer version is there, of this generation.
    Newer(Generation),
}

pub(crate) fn fill(fill: &Fill<'_>, names: &Names, announce: Announce, meta_ms: u64) -> Invocation {
    let head = fill.head;
    let invocation = FILL
        .invoke(keys_with_meta(fill.keys, names, announce))
        .arg(fill.token)
        .arg(&fill.entry.head)
        .arg(&fill.entry.rest)
        .arg(head.lifetime_ms())
        .arg(version_text(head.version))
        .arg(generation_text(head.generation))
        .arg(void_text(fill.void))
        .arg(&names.wake);
    announced(invocation, names, announce, meta_ms)
        // The second time finds no lease, and says that it did not stand: nobody relies on less.
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
    token: Id,
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
pub(crate) enum Announce {
    /// It need not be told.
    Not,
    /// In the script that makes it.
    Within,
    /// By a script after it: on a cluster the two belong to different nodes.
    After,
}

pub(crate) fn set(
    keys: &EntryKeys,
    names: &Names,
    head: &Head,
    entry: &Encoded,
    void: Option<Generation>,
    announce: Announce,
    meta_ms: u64,
) -> Invocation {
    let invocation = SET
        .invoke(keys_with_meta(keys, names, announce))
        .arg(&entry.head)
        .arg(&entry.rest)
        .arg(head.lifetime_ms())
        .arg(version_text(head.version))
        .arg(void_text(void))
        .arg(&names.wake);
    announced(invocation, names, announce, meta_ms)
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

pub(crate) fn invalidate(
    keys: &EntryKeys,
    names: &Names,
    announce: Announce,
    meta_ms: u64,
) -> Invocation {
    let invocation = INVALIDATE
        .invoke(keys_with_meta(keys, names, announce))
        .arg(&names.wake);
    // Removing twice is as good as once; only the answer may then be "there was none".
    announced(invocation, names, announce, meta_ms).idempotent(true)
}

/// What other processes are told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change<'c> {
    Entry(&'c Key),
    Tag(&'c str),
}

pub(crate) fn announce(names: &Names, change: Change<'_>, meta_ms: u64) -> Invocation {
    let mut what = Vec::new();
    match change {
        Change::Entry(key) => {
            what.push(b'k');
            key.write_to(&mut what);
        }
        Change::Tag(tag) => {
            what.push(b't');
            tag.write_to(&mut what);
        }
    }
    ANNOUNCE
        .invoke([&names.meta])
        .arg(&names.changes)
        .arg(what)
        .arg(Id::random())
        .arg(meta_ms)
        .idempotent(true)
}

/// What a load's tags are judged by.
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

/// Where in the row of changes a cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which row: another one after the server has lost its data.
    pub(crate) incarnation: Id,
    pub(crate) number: u64,
}

pub(crate) fn place(names: &Names, meta_ms: u64) -> Invocation {
    PLACE
        .invoke([&names.meta])
        .arg(Id::random())
        .arg(meta_ms)
        .idempotent(true)
}

pub(crate) fn placed(reply: Value) -> Result<Place, ValueError> {
    let (incarnation, number) = reply.to::<(Bytes, u64)>()?;
    match Id::read(&incarnation) {
        Some(incarnation) => Ok(Place {
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

pub(crate) fn clear(names: &Names, announce: Announce, meta_ms: u64) -> Invocation {
    let channel = match announce {
        Announce::Not => &[][..],
        // It is the meta hash's own script, also on a cluster.
        Announce::Within | Announce::After => &names.changes,
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
    token: Id,
    lease_ms: u64,
    announce: Announce,
    meta_ms: u64,
) -> Invocation {
    let invocation = WRITE_BEGIN
        .invoke(keys_with_meta(keys, names, announce))
        .arg(token)
        .arg(lease_ms)
        .arg(&names.wake);
    // A second one that arrives late would take a lease back that was lost.
    announced(invocation, names, announce, meta_ms)
}

fn keys_with_meta<'k>(keys: &'k EntryKeys, names: &'k Names, announce: Announce) -> Vec<&'k Key> {
    let mut all = vec![&keys.entry, &keys.lease];
    if announce == Announce::Within {
        all.push(&names.meta);
    }
    all
}

fn announced(
    invocation: Invocation,
    names: &Names,
    announce: Announce,
    meta_ms: u64,
) -> Invocation {
    match announce {
        Announce::Within => invocation
            .arg(&names.changes)
            .arg(Id::random())
            .arg(meta_ms),
        Announce::Not | Announce::After => invocation,
    }
}

fn void_text(void: Option<Generation>) -> String {
    void.map_or_else(String::new, |void| generation_text(void.0))
}

/// A lease without an expiry is nobody's of ours; a second is as good as any.
fn time(pttl: i64) -> Duration {
    Duration::from_millis(u64::try_from(pttl).unwrap_or(1000))
}

fn unknown(expected: &'static str) -> ValueError {
    ValueError {
        expected,
        got: "something that no script of this crate gives",
    }
}
