//! The scripts, and one typed call for each: nothing else orders their arguments or reads their
//! replies. `src/scripts/*.lua` says what each of them does.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::{Client, Error as CoreError, Invocation, Key, Script, Value, ValueError};

use crate::entry::{Change, Entry};
use crate::error::Error;
use crate::keys::SessionKeys;

macro_rules! script {
    ($name:ident, $file:literal) => {
        static $name: Script = Script::new(concat!(
            include_str!("scripts/bucket.lua"),
            include_str!(concat!("scripts/", $file))
        ));
    };
}
script!(LOAD, "load.lua");
script!(CREATE, "create.lua");
script!(COMMIT, "commit.lua");
script!(EXTEND, "extend.lua");
script!(END, "end.lua");
script!(RETIRE, "retire.lua");
script!(LIST, "list.lua");
script!(REVOKE_ALL, "revoke_all.lua");

/// A session as the server has it. Times are µs since 1970 by the server's clock.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) now: u64,
    pub(crate) expires: u64,
    pub(crate) created: u64,
    pub(crate) absolute: u64,
    pub(crate) idle: Duration,
    pub(crate) updated: u64,
    pub(crate) revision: u64,
    pub(crate) user_hash: Box<str>,
    /// The user, encoded; empty for a session without.
    pub(crate) user: Bytes,
    pub(crate) device: Box<str>,
    /// A random name of the data: what encrypted values are bound to.
    pub(crate) lineage: Box<str>,
    pub(crate) is_rotated: bool,
    pub(crate) entries: HashMap<Box<str>, Entry>,
}

/// Why a session cannot be read or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Absent,
    PastDeadline,
    Revoked,
    Rotated,
}

impl From<Over> for Error {
    fn from(over: Over) -> Self {
        match over {
            Over::Rotated => Error::Rotated,
            Over::Absent | Over::PastDeadline | Over::Revoked => Error::Gone,
        }
    }
}

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
    pub(crate) max_bytes: u64,
    /// Sessions that may be ended, with their hashes.
    pub(crate) endable: &'a [(String, Key)],
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
    Done(Record),
    /// Another session has this id.
    Taken,
    TooLarge(u64),
    TooMany(u64),
    /// The hashes of sessions that must be ended for it.
    MustEnd(Vec<String>),
}

/// Stores a new session.
pub(crate) async fn create(client: &Client, new: &NewSession<'_>) -> Result<Created, Error> {
    let keys = new.keys.all().into_iter();
    let keys: Vec<&Key> = keys.chain(new.endable.iter().map(|(_, key)| key)).collect();
    let (lifetime, absolute) = match new.deadline {
        Deadline::After(lifetime) => (micros(lifetime).to_string(), String::new()),
        Deadline::At(absolute) => (String::new(), absolute.to_string()),
    };
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
        .arg(new.endable.len());
    let call = new
        .endable
        .iter()
        .fold(call, |call, (hash, _)| call.arg(hash.as_str()));
    let call = new.entries.iter().fold(call, |call, (name, ttl, value)| {
        set(call, name, *ttl, value)
    });
    // A repetition finds the session by the name of its data.
    let mut reply: Vec<Value> = client.eval(call.idempotent(true)).await?;
    Ok(match status(&mut reply)? {
        1 => Created::Done(Record::read(reply)?),
        0 => Created::Taken,
        6 => Created::TooLarge(number(reply.first())?),
        7 => Created::TooMany(number(reply.first())?),
        8 => Created::MustEnd(
            reply
                .into_iter()
                .map(|hash| hash.to().map_err(unreadable))
                .collect::<Result<_, _>>()?,
        ),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Done,
    Absent,
    OtherUser,
}

/// Ends a session; with a user, only a session of that user.
pub(crate) async fn end(
    client: &Client,
    keys: &SessionKeys,
    user_hash: &str,
) -> Result<Ended, Error> {
    // Ended twice is as good as once.
    let call = invoke(&END, keys).arg(user_hash).idempotent(true);
    Ok(match client.eval::<i64>(call).await? {
        1 => Ended::Done,
        2 => Ended::OtherUser,
        _ => Ended::Absent,
    })
}

/// The outcome of [`retire`].
#[derive(Debug)]
pub(crate) enum Retired {
    Done,
    Changed(Box<Record>),
    Over(Over),
}

/// Leaves a rotated session to its grace, if nothing was changed since `revision`.
pub(crate) async fn retire(
    client: &Client,
    keys: &SessionKeys,
    revision: u64,
    grace: Duration,
    successor: &str,
) -> Result<Retired, Error> {
    let call = invoke(&RETIRE, keys)
        .arg(revision)
        .arg(micros(grace))
        .arg(successor);
    let mut reply: Vec<Value> = client.eval(call.idempotent(true)).await?;
    Ok(match status(&mut reply)? {
        1 => Retired::Done,
        5 => Retired::Changed(Box::new(Record::read(reply)?)),
        other => Retired::Over(over(other)?),
    })
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
            let mut fields = Fields(row.into_iter());
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

/// Gives a user's sessions a new generation, and spares one of them.
pub(crate) async fn revoke_all(
    client: &Client,
    keys: &SessionKeys,
    user_hash: &str,
    generation: &str,
    kept: Duration,
    spares: bool,
) -> Result<(), Error> {
    let call = REVOKE_ALL
        .invoke(keys.all())
        .arg(user_hash)
        .arg(generation)
        .arg(micros(kept))
        .arg(if spares { keys.hash() } else { "" })
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

/// Takes the status off a reply.
fn status(reply: &mut Vec<Value>) -> Result<i64, Error> {
    if reply.is_empty() {
        return Err(unreadable(ValueError {
            expected: "a status",
            got: "an empty list",
        }));
    }
    reply.remove(0).to().map_err(unreadable)
}

fn over(status: i64) -> Result<Over, Error> {
    match status {
        0 => Ok(Over::Absent),
        2 => Ok(Over::PastDeadline),
        3 => Ok(Over::Revoked),
        4 => Ok(Over::Rotated),
        _ => Err(unreadable(ValueError {
            expected: "a known status",
            got: "another one",
        })),
    }
}

impl Record {
    fn read(reply: Vec<Value>) -> Result<Self, Error> {
        let mut fields = Fields(reply.into_iter());
        let mut record = Self {
            now: fields.take()?,
            expires: fields.take()?,
            created: fields.take()?,
            absolute: fields.take()?,
            idle: Duration::from_micros(fields.take()?),
            updated: fields.take()?,
            revision: fields.take()?,
            user_hash: fields.take::<String>()?.into(),
            user: fields.take()?,
            device: fields.take::<String>()?.into(),
            lineage: fields.take::<String>()?.into(),
            is_rotated: !fields.take::<Bytes>()?.is_empty(),
            entries: HashMap::new(),
        };
        while !fields.0.as_slice().is_empty() {
            let name: String = fields.take()?;
            let entry = Entry::read(&fields.take()?).ok_or_else(|| {
                unreadable(ValueError {
                    expected: "an entry",
                    got: "bytes that are none",
                })
            })?;
            record.entries.insert(name.into(), entry);
        }
        Ok(record)
    }
}

/// The fields of a reply, in their order.
struct Fields(std::vec::IntoIter<Value>);

impl Fields {
    fn take<T: redkit_core::FromValue>(&mut self) -> Result<T, Error> {
        self.0.next().unwrap_or_default().to().map_err(unreadable)
    }
}

fn number(value: Option<&Value>) -> Result<u64, Error> {
    value.cloned().unwrap_or_default().to().map_err(unreadable)
}

fn unreadable(error: ValueError) -> Error {
    Error::Core(CoreError::Reply {
        command: "EVALSHA".into(),
        error,
    })
}

/// In µs, as far as scripts count exactly.
fn micros(duration: Duration) -> u64 {
    const MOST: u64 = 1 << 51;
    u64::try_from(duration.as_micros()).map_or(MOST, |micros| micros.min(MOST))
}
