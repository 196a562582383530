//! The scripts, and one typed call for each: nothing else orders their arguments or reads their
//! replies. `src/scripts/*.lua` says what each of them does.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::coordination::lua;
use redkit_core::{Client, Invocation, Key, Script, Value};

use crate::entry::Change;
use crate::error::Error;
use crate::keys::SessionKeys;
use crate::record::{Fields, Over, Record, number, over, status, unreadable};

macro_rules! script {
    ($name:ident, $file:literal) => {
        static $name: Script = Script::of_parts(&[
            lua::CLOCK,
            lua::WAKE_UP,
            include_str!("scripts/bucket.lua"),
            include_str!(concat!("scripts/", $file)),
        ]);
    };
    // Its common case comes first: what all share are functions, which the server makes anew for each call.
    ($name:ident, $common:literal, $rest:literal) => {
        static $name: Script = Script::of_parts(&[
            lua::CLOCK,
            include_str!(concat!("scripts/", $common)),
            lua::WAKE_UP,
            include_str!("scripts/bucket.lua"),
            include_str!(concat!("scripts/", $rest)),
        ]);
    };
}
script!(LOAD, "load.lua", "touch.lua");
script!(CREATE, "create.lua");
script!(COMMIT, "commit.lua", "refuse.lua");
script!(EXTEND, "extend.lua");
script!(END, "end.lua");
script!(RETIRE, "retire.lua");
script!(GIVE_BACK, "give_back.lua");
script!(LIST, "list.lua");
script!(REVOKE_ALL, "revoke_all.lua");
script!(SETTLE, "settle.lua");
script!(WATCH, "watch.lua");
script!(LOOK, "look.lua");
script!(REENCODE, "reencode.lua");

/// Reads a session and touches it.
pub(crate) async fn load(
    client: &Client,
    keys: &SessionKeys,
    granularity: Duration,
) -> Result<Result<Record, Over>, Error> {
    let call = invoke(&LOAD, keys).arg(micros(granularity));
    // Touched twice is as good as once.
    let mut reply: Vec<Value> = client.eval(call.idempotent(true)).await?;
    match status(&mut reply)? {
        1 => Ok(Ok(Record::read(reply)?)),
        other => Ok(Err(over(other)?)),
    }
}

/// A session to be stored.
#[derive(Debug)]
pub(crate) struct NewSession<'a> {
    pub(crate) keys: &'a SessionKeys,
    pub(crate) idle: Duration,
    pub(crate) deadline: Deadline,
    pub(crate) user_hash: &'a str,
    pub(crate) user: &'a [u8],
    pub(crate) device: &'a str,
    pub(crate) lineage: &'a str,
    pub(crate) max_sessions: u32,
    pub(crate) ends_oldest: bool,
    /// A session of the user that does not count, because this one takes its place.
    pub(crate) replaces: Option<&'a str>,
    /// The session of the same user whose place it takes, in the same bucket, and its generation.
    pub(crate) taken: Option<(&'a SessionKeys, &'a str)>,
    pub(crate) max_bytes: u64,
    /// See [`Record::indexes`].
    pub(crate) indexes: &'a str,
    pub(crate) entries: &'a [(Box<str>, Option<Duration>, Bytes)],
}

/// When a session ends however much it is used.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deadline {
    /// So long after its creation.
    After(Duration),
    /// At this time (µs): that of the session whose place it takes.
    At(u64),
}

/// The outcome of [`create`].
#[derive(Debug)]
pub(crate) enum Created {
    /// With the hashes of the sessions that are to end for it.
    Done(Box<Record>, Vec<String>),
    /// Another session has this id.
    Taken,
    TooLarge(u64),
    TooMany(u64),
}

/// Stores a new session.
pub(crate) async fn create(client: &Client, new: &NewSession<'_>) -> Result<Created, Error> {
    let (lifetime, absolute) = match new.deadline {
        Deadline::After(lifetime) => (micros(lifetime).to_string(), String::new()),
        Deadline::At(absolute) => (String::new(), absolute.to_string()),
    };
    let generation = new.taken.map(|(_, generation)| format!("={generation}"));
    let taken = new.taken.map(|(keys, _)| keys.session());
    let keys: Vec<&Key> = new.keys.all().into_iter().chain(taken).collect();
    let call = CREATE
        .invoke(keys)
        .arg(new.keys.hash())
        .arg(micros(new.idle))
        .arg(lifetime)
        .arg(absolute)
        .arg(new.user_hash)
        .arg(new.user)
        .arg(new.device)
        .arg(new.lineage)
        .arg(new.max_sessions)
        .arg(if new.ends_oldest { "oldest" } else { "refuse" })
        .arg(new.replaces.unwrap_or_default())
        .arg(new.max_bytes)
        .arg(new.indexes)
        .arg(generation.unwrap_or_default());
    let call = new.entries.iter().fold(call, |call, (name, ttl, value)| {
        set(call, name, *ttl, value)
    });
    // A repetition finds the session by the name of its data.
    let mut reply: Vec<Value> = client.eval(call.idempotent(true)).await?;
    Ok(match status(&mut reply)? {
        1 => {
            let excess: String = reply.remove(0).to().map_err(unreadable)?;
            let excess = excess.split_whitespace().map(str::to_owned).collect();
            Created::Done(Box::new(Record::read(reply)?), excess)
        }
        0 => Created::Taken,
        6 => Created::TooLarge(number(reply.first())?),
        7 => Created::TooMany(number(reply.first())?),
        other => return Err(over(other)?.into()),
    })
}

/// The outcome of [`commit`].
#[derive(Debug)]
pub(crate) enum Committed {
    Done { now: u64, revision: u64 },
    Conflict(u64),
    TooLarge(u64),
    Over(Over),
}

/// Changes entries.
pub(crate) async fn commit(
    client: &Client,
    keys: &SessionKeys,
    expected: Option<u64>,
    max_bytes: u64,
    changes: &[(Box<str>, Change)],
) -> Result<Committed, Error> {
    let expected = expected.map(|revision| revision.to_string());
    let removed: Vec<&str> = changes
        .iter()
        .filter(|(_, change)| matches!(change, Change::Remove))
        .map(|(name, _)| &**name)
        .collect();
    let call = invoke(&COMMIT, keys)
        .arg(expected.unwrap_or_default())
        .arg(max_bytes)
        .arg(removed.len());
    let call = removed.into_iter().fold(call, Invocation::arg);
    let call = changes
        .iter()
        .fold(call, |call, (name, change)| match change {
            Change::Remove => call,
            Change::Set { value, ttl } => set(call, name, *ttl, value),
        });
    let mut reply: Vec<Value> = client.eval(call).await?;
    Ok(match status(&mut reply)? {
        1 => Committed::Done {
            now: number(reply.first())?,
            revision: number(reply.get(1))?,
        },
        5 => Committed::Conflict(number(reply.first())?),
        6 => Committed::TooLarge(number(reply.first())?),
        other => Committed::Over(over(other)?),
    })
}

/// Moves the expiry away; gives the server's time and the new expiry.
pub(crate) async fn extend(
    client: &Client,
    keys: &SessionKeys,
    by: Duration,
) -> Result<(u64, u64), Error> {
    let mut reply: Vec<Value> = client.eval(invoke(&EXTEND, keys).arg(micros(by))).await?;
    match status(&mut reply)? {
        1 => Ok((number(reply.first())?, number(reply.get(1))?)),
        other => Err(over(other)?.into()),
    }
}

/// The outcome of [`end`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    Done {
        /// See [`Record::successor`].
        successor: String,
        /// See [`Record::indexes`].
        indexes: String,
        kin: Vec<String>,
    },
    Absent {
        kin: Vec<String>,
    },
    OtherUser,
}

impl Ended {
    /// The hashes of the other ids that the session has.
    pub(crate) fn kin(&self) -> &[String] {
        match self {
            Ended::Done { kin, .. } | Ended::Absent { kin } => kin,
            Ended::OtherUser => &[],
        }
    }
}

/// Ends an id of a session; with a user, only of that user. The lineage may be empty: see `end.lua`. With it, the id
/// is not stored any more by a call that arrives late, also where there is no session of it.
pub(crate) async fn end(
    client: &Client,
    keys: &SessionKeys,
    user_hash: &str,
    lineage: &str,
) -> Result<Ended, Error> {
    let mut reply: Vec<Value> = client.eval(end_call(keys, user_hash, lineage)).await?;
    let status = status(&mut reply)?;
    if status == 2 {
        return Ok(Ended::OtherUser);
    }
    let mut reply = reply
        .into_iter()
        .map(|value| value.to().map_err(unreadable));
    let successor = reply.next().unwrap_or_else(|| Ok(String::new()))?;
    let indexes = reply.next().unwrap_or_else(|| Ok(String::new()))?;
    let kin = reply.collect::<Result<_, Error>>()?;
    Ok(match status {
        1 => Ended::Done {
            successor,
            indexes,
            kin,
        },
        _ => Ended::Absent { kin },
    })
}

/// The call of [`end`], for the release queue.
pub(crate) fn end_call(keys: &SessionKeys, user_hash: &str, lineage: &str) -> Invocation {
    // Ended twice is as good as once.
    invoke(&END, keys)
        .arg(user_hash)
        .arg(keys.channel())
        .arg(lineage)
        .idempotent(true)
}

/// The outcome of [`retire`].
#[derive(Debug)]
pub(crate) enum Retired {
    Done,
    /// The session was changed since it was copied, and is as it was.
    Changed(Box<Record>),
    /// The session, or the one that was to take its place, is over.
    Over(Over),
}

/// Sends the last step of a rotation: the call of [`retire_call`], or of [`settle_call`].
pub(crate) async fn retire(client: &Client, call: Invocation) -> Result<Retired, Error> {
    let mut reply: Vec<Value> = client.eval(call).await?;
    Ok(match status(&mut reply)? {
        1 => Retired::Done,
        5 => Retired::Changed(Box::new(Record::read(reply)?)),
        other => Retired::Over(over(other)?),
    })
}

/// Leaves a rotated session to its grace, if it stands as it was copied: at this revision, and of this generation
/// of its user's sessions. Without a copy it is left to it as it stands, for the release queue.
pub(crate) fn retire_call(
    keys: &SessionKeys,
    copied: Option<(u64, &str)>,
    grace: Duration,
    successor: &str,
) -> Invocation {
    let (revision, generation) = revision_and_generation(copied);
    invoke(&RETIRE, keys)
        .arg(revision)
        .arg(micros(grace))
        .arg(successor)
        .arg(keys.channel())
        .arg(generation)
        .idempotent(true)
}

/// Takes back that a session was left to its grace for a successor that nobody has the id of. It was copied at this
/// revision.
pub(crate) fn give_back_call(keys: &SessionKeys, successor: &str, copied: u64) -> Invocation {
    // A repetition finds a further revision.
    invoke(&GIVE_BACK, keys)
        .arg(successor)
        .arg(copied)
        .idempotent(true)
}

/// Ends a rotation whose last step was not answered; `copied` is as in [`retire_call`]. Both sessions are in one
/// bucket.
pub(crate) fn settle_call(
    old: &SessionKeys,
    new: &SessionKeys,
    copied: Option<(u64, &str)>,
    grace: Duration,
) -> Invocation {
    let (revision, generation) = revision_and_generation(copied);
    let [session, generations, index, rows, deadlines] = old.all();
    let keys = [session, generations, index, rows, deadlines, new.session()];
    SETTLE
        .invoke(keys)
        .arg(old.hash())
        .arg(new.hash())
        .arg(micros(grace))
        .arg(old.channel())
        .arg(revision)
        .arg(generation)
        .idempotent(true)
}

/// What the last step of a rotation asks for, as scripts have it.
fn revision_and_generation(copied: Option<(u64, &str)>) -> (String, &str) {
    let (revision, generation) = copied.unzip();
    let revision = revision.map(|revision| revision.to_string());
    (revision.unwrap_or_default(), generation.unwrap_or_default())
}

/// How a session stands.
#[derive(Debug)]
pub(crate) struct Watched {
    /// How long it lives if it is not used.
    pub(crate) left: Duration,
    /// See [`Record::successor`].
    pub(crate) successor: String,
}

/// Tells how a session stands, and does not use it.
pub(crate) async fn watch(
    client: &Client,
    keys: &SessionKeys,
) -> Result<Result<Watched, Over>, Error> {
    let call = invoke(&WATCH, keys).idempotent(true);
    let mut reply: Vec<Value> = client.eval(call).await?;
    match status(&mut reply)? {
        1 => {
            let mut fields = Fields::new(reply);
            let (now, expires): (u64, u64) = (fields.take()?, fields.take()?);
            Ok(Ok(Watched {
                left: Duration::from_micros(expires.saturating_sub(now)),
                successor: fields.take()?,
            }))
        }
        other => Ok(Err(over(other)?)),
    }
}

/// A session as an administrator sees it: the fields are those of [`Record`].
#[derive(Debug)]
pub(crate) struct Sight {
    pub(crate) expires: u64,
    pub(crate) created: u64,
    pub(crate) absolute: u64,
    pub(crate) seen: u64,
    pub(crate) bytes: u64,
    pub(crate) user_hash: String,
    pub(crate) user: Bytes,
    pub(crate) device: String,
    pub(crate) lineage: String,
    pub(crate) successor: String,
}

/// The call that tells of a session; [`read_sight`] reads the reply.
pub(crate) fn look(keys: &SessionKeys) -> Invocation {
    // What is over is ended once.
    invoke(&LOOK, keys).idempotent(true)
}

/// Reads the reply to [`look`]; `None` when the session is over.
pub(crate) fn read_sight(reply: Value) -> Result<Option<Sight>, Error> {
    let mut reply: Vec<Value> = reply.to().map_err(unreadable)?;
    if status(&mut reply)? != 1 {
        return Ok(None);
    }
    let mut fields = Fields::new(reply);
    Ok(Some(Sight {
        expires: fields.take()?,
        created: fields.take()?,
        absolute: fields.take()?,
        seen: fields.take()?,
        bytes: fields.take()?,
        user_hash: fields.take()?,
        user: fields.take()?,
        device: fields.take()?,
        lineage: fields.take()?,
        successor: fields.take()?,
    }))
}

/// Replaces the bytes of the user and of entries (name, old, new) that nobody has changed meanwhile.
pub(crate) async fn reencode(
    client: &Client,
    keys: &SessionKeys,
    user: (&Bytes, &Bytes),
    entries: &[(Box<str>, Bytes, Bytes)],
) -> Result<u64, Error> {
    let call = invoke(&REENCODE, keys).arg(&user.0[..]).arg(&user.1[..]);
    let call = entries.iter().fold(call, |call, (name, old, new)| {
        call.arg(&**name).arg(&old[..]).arg(&new[..])
    });
    // A repetition finds other bytes than the old ones.
    Ok(client.eval(call.idempotent(true)).await?)
}

/// A row of a user's sessions.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) hash: String,
    pub(crate) created: u64,
    pub(crate) seen: u64,
    pub(crate) absolute: u64,
    pub(crate) expires: u64,
    pub(crate) device: String,
}

/// The sessions of a user.
pub(crate) async fn list(
    client: &Client,
    keys: &SessionKeys,
    user_hash: &str,
) -> Result<Vec<Row>, Error> {
    // Pruned twice is as good as once.
    let call = LIST.invoke(keys.all()).arg(user_hash).idempotent(true);
    let rows: Vec<Vec<Value>> = client.eval(call).await?;
    rows.into_iter()
        .map(|row| {
            let mut fields = Fields::new(row);
            Ok(Row {
                hash: fields.take()?,
                created: fields.take()?,
                seen: fields.take()?,
                absolute: fields.take()?,
                expires: fields.take()?,
                device: fields.take()?,
            })
        })
        .collect()
}

/// Gives a user's sessions a new generation, and spares one of them. A random name tells the call from others.
pub(crate) async fn revoke_all(
    client: &Client,
    keys: &SessionKeys,
    user_hash: &str,
    name: &str,
    kept: Duration,
    spares: bool,
) -> Result<(), Error> {
    let call = REVOKE_ALL
        .invoke(keys.all())
        .arg(user_hash)
        .arg(name)
        .arg(micros(kept))
        .arg(if spares { keys.hash() } else { "" })
        .arg(keys.channel())
        .idempotent(true);
    let mut reply: Vec<Value> = client.eval(call).await?;
    match status(&mut reply)? {
        1 => Ok(()),
        other => Err(over(other)?.into()),
    }
}

/// A script on a session, which begins with the hash of its id.
fn invoke(script: &'static Script, keys: &SessionKeys) -> Invocation {
    script.invoke(keys.all()).arg(keys.hash())
}

/// An entry to set: name, time to live, value.
fn set(call: Invocation, name: &str, ttl: Option<Duration>, value: &[u8]) -> Invocation {
    let ttl = ttl.map(|ttl| micros(ttl).to_string());
    call.arg(name).arg(ttl.unwrap_or_default()).arg(value)
}

/// In µs, as far as scripts count exactly.
pub(crate) fn micros(duration: Duration) -> u64 {
    const MOST: u64 = 1 << 51;
    u64::try_from(duration.as_micros()).map_or(MOST, |micros| micros.min(MOST))
}
