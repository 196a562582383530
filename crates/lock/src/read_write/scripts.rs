//! The scripts of read/write locks, and one typed call for each.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::coordination::{Token, lua};
use redkit_core::{Client, Error as CoreError, Invocation, Key, Keyspace, Script, Value};

use crate::error::Error;
use crate::fence::Fence;
use crate::holder::Holder;
use crate::scripts::{FENCE, RECORD, expiry};
use crate::time::millis;

const STATE: &str = include_str!("../scripts/rw.lua");

macro_rules! script {
    ($name:ident, $file:literal) => {
        static $name: Script = Script::of_parts(&[
            lua::CLOCK,
            lua::WAKE_UP,
            FENCE,
            RECORD,
            STATE,
            include_str!(concat!("../scripts/", $file)),
        ]);
    };
}
script!(READ, "rw_read.lua");
script!(WRITE, "rw_write.lua");
script!(RENEW_READ, "rw_renew_read.lua");
script!(RELEASE, "rw_release.lua");
script!(DOWNGRADE, "rw_downgrade.lua");
script!(INSPECT, "rw_inspect.lua");
script!(FORCE_RELEASE, "rw_force_release.lua");

/// The keys of one read/write lock, which share a slot.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// What the user calls it.
    pub(super) user: Bytes,
    /// The writer that holds it. Waiting readers are woken by its name.
    pub(super) lock: Key,
    readers: Key,
    /// The writers that wait. They are woken by its name.
    pub(super) writers: Key,
    fence: Key,
}

/// A caller of a read/write lock.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) token: Token,
    /// Process, host and label.
    pub(super) owner: Box<str>,
}

/// What an attempt gave.
#[derive(Debug)]
pub(super) enum Attempt {
    Acquired,
    AcquiredAs(Fence),
    Taken {
        expires_in: Option<Duration>,
        holder: Option<Holder>,
    },
}

/// How a read/write lock stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadWriteState {
    /// The writer that has it.
    pub writer: Option<Holder>,
    /// How many readers have it.
    pub readers: u64,
    /// How many writers wait for it.
    pub waiting_writers: u64,
}

impl Keys {
    pub(super) fn new(keyspace: &Keyspace, user: &Bytes) -> Self {
        Self {
            user: user.clone(),
            lock: keyspace.key(user),
            readers: keyspace.role_key(user, "readers"),
            writers: keyspace.role_key(user, "writers"),
            fence: keyspace.role_key(user, "fence"),
        }
    }

    fn state(&self) -> [&Key; 3] {
        [&self.lock, &self.readers, &self.writers]
    }
}

impl Caller {
    /// What stands for it among the readers.
    fn reader(&self) -> String {
        format!("{} {}", self.token, self.owner)
    }
}

/// The call that takes a lock for reading. The same reader may repeat it.
pub(super) fn read(keys: &Keys, caller: &Caller, ttl: Duration) -> Invocation {
    let call = READ.invoke(keys.state()).arg(caller.reader());
    call.arg(millis(ttl)).idempotent(true)
}

/// The call that takes a lock for writing, or is a sign of life of a writer that waits. The same writer may repeat it.
pub(super) fn write(
    keys: &Keys,
    caller: &Caller,
    ttl: Duration,
    fence_ttl: Duration,
    alive: Duration,
) -> Invocation {
    WRITE
        .invoke([&keys.lock, &keys.readers, &keys.writers, &keys.fence])
        .arg(caller.token)
        .arg(millis(ttl))
        .arg(millis(fence_ttl))
        .arg(&caller.owner)
        .arg(millis(alive))
        .idempotent(true)
}

pub(super) fn renew_read(keys: &Keys, caller: &Caller, ttl: Duration) -> Invocation {
    let call = RENEW_READ.invoke(keys.state()).arg(caller.reader());
    call.arg(millis(ttl))
}

/// The call that gives back whatever the caller has, its place among the waiting writers too.
pub(super) fn release(keys: &Keys, caller: &Caller, channel: &Bytes) -> Invocation {
    let call = RELEASE.invoke(keys.state()).arg(caller.token);
    call.arg(caller.reader()).arg(channel)
}

/// Makes a reader of a writer. Gives whether it still had the lock.
pub(super) async fn downgrade(
    client: &Client,
    keys: &Keys,
    caller: &Caller,
    ttl: Duration,
    channel: &Bytes,
) -> Result<bool, CoreError> {
    let call = DOWNGRADE.invoke(keys.state()).arg(caller.token);
    let call = call.arg(caller.reader()).arg(millis(ttl)).arg(channel);
    client.eval(call.idempotent(true)).await
}

/// Takes the lock away from the writer with this fence, or from all readers. Gives from how many.
pub(super) async fn force_release(
    client: &Client,
    keys: &Keys,
    writer: Option<Fence>,
    channel: &Bytes,
) -> Result<u64, Error> {
    let writer = writer.map_or_else(String::new, |fence| fence.to_string());
    let call = FORCE_RELEASE.invoke(keys.state()).arg(writer).arg(channel);
    Ok(client.eval(call).await?)
}

pub(super) async fn inspect(client: &Client, keys: &Keys) -> Result<ReadWriteState, Error> {
    let call = INSPECT.invoke(keys.state()).idempotent(true);
    let reply: Vec<Value> = client.eval(call).await?;
    let mut items = reply.into_iter();
    let mut next = || items.next().unwrap_or_default();
    let (left, held) = (to::<i64>(next())?, to::<Option<Bytes>>(next())?);
    Ok(ReadWriteState {
        writer: held.and_then(|held| Holder::read(&held, expiry(left))),
        readers: to(next())?,
        waiting_writers: to(next())?,
    })
}

pub(super) fn read_attempt(reply: Vec<Value>) -> Result<Attempt, CoreError> {
    let mut items = reply.into_iter();
    let mut next = || items.next().unwrap_or_default();
    if to::<i64>(next())? == 1 {
        let fence: Option<u64> = to(next())?;
        return Ok(match fence {
            Some(fence) => Attempt::AcquiredAs(Fence::new(fence)),
            None => Attempt::Acquired,
        });
    }
    let (left, held) = (to::<i64>(next())?, to::<Option<Bytes>>(next())?);
    let expires_in = expiry(left);
    Ok(Attempt::Taken {
        expires_in,
        holder: held.and_then(|held| Holder::read(&held, expires_in)),
    })
}

fn to<T: redkit_core::FromValue>(value: Value) -> Result<T, CoreError> {
    value.to().map_err(|error| CoreError::Reply {
        command: "EVALSHA".into(),
        error,
    })
}

#[cfg(test)]
mod tests {
    use redkit_core::coordination::WAITER_ALIVE;

    #[test]
    fn scripts_believe_a_waiting_writer_for_as_long_as_it_says() {
        let constant = format!("local RW_ALIVE = {}\n", WAITER_ALIVE.as_micros());
        assert!(super::STATE.contains(&constant));
    }
}
