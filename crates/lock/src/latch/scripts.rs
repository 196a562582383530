//! The scripts of a latch: the only place that orders their arguments and reads their replies.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::coordination::{Token, lua};
use redkit_core::{Client, Command, Key, Keyspace, Script};

use crate::error::Error;
use crate::keys::keyspace;

static SET: Script = Script::new(include_str!("../scripts/latch_set.lua"));
static COUNT_DOWN: Script = Script::of_parts(&[
    lua::WAKE_UP,
    include_str!("../scripts/latch_count_down.lua"),
]);

/// How the latches of a manager are named.
pub(super) struct Names {
    keyspace: Keyspace,
    channel: Bytes,
}

#[derive(Debug, Clone)]
pub(super) struct Keys {
    latch: Key,
    counted: Key,
}

impl Names {
    /// # Errors
    /// [`Error::Core`] for a name that cannot stand in keys.
    pub(super) fn new(client: &Client, name: &str) -> Result<Self, Error> {
        let (keyspace, channel) = keyspace(client, "latch", name)?;
        Ok(Self { keyspace, channel })
    }

    pub(super) fn keys(&self, key: &Bytes) -> Keys {
        Keys {
            latch: self.keyspace.key(key),
            counted: self.keyspace.role_key(key, "counted"),
        }
    }

    /// Where waiters are woken.
    pub(super) fn channel(&self) -> &Bytes {
        &self.channel
    }
}

/// Gives whether it was set by this call.
pub(super) async fn set(
    client: &Client,
    keys: &Keys,
    count: u32,
    ttl: Duration,
) -> Result<bool, Error> {
    let call = SET
        .invoke([&keys.latch, &keys.counted])
        .arg(Token::random())
        .arg(count)
        .arg(millis(ttl))
        .idempotent(true);
    let reply: i64 = client.eval(call).await?;
    Ok(reply == 1)
}

/// One count.
pub(super) struct CountDown<'a> {
    pub(super) keys: &'a Keys,
    pub(super) token: &'a Bytes,
    pub(super) count: u32,
    pub(super) ttl: Duration,
    pub(super) channel: &'a Bytes,
    pub(super) name: &'a Bytes,
}

impl CountDown<'_> {
    /// Gives what is left; `None` when there is no latch.
    pub(super) async fn run(&self, client: &Client) -> Result<Option<u32>, Error> {
        let call = COUNT_DOWN
            .invoke([&self.keys.latch, &self.keys.counted])
            .arg(self.token)
            .arg(self.count)
            .arg(millis(self.ttl))
            .arg(self.channel)
            .arg(self.name)
            // By its token it counts once.
            .idempotent(true);
        let left: i64 = client.eval(call).await?;
        Ok(u32::try_from(left).ok())
    }
}

/// What is left; `None` when there is no latch.
pub(super) async fn remaining(client: &Client, keys: &Keys) -> Result<Option<u32>, Error> {
    // A replica may not know yet of the count that woke the waiter.
    let call = Command::new("HGET").key(&keys.latch).arg("n").from_master();
    Ok(client.call(call).await?)
}

/// Gives whether there was one.
pub(super) async fn delete(client: &Client, keys: &Keys) -> Result<bool, Error> {
    // Not idempotent: arriving late it would take away the next.
    let call = Command::new("DEL").key(&keys.latch).key(&keys.counted);
    let deleted: i64 = client.call(call).await?;
    Ok(deleted > 0)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
