//! [`Node`]: one of the servers, and the scripts that it is sent.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::coordination::{LeaseRenewal, Token, lua};
use redkit_core::{Client, Error as CoreError, Invocation, Key, Keyspace, Script};
use tokio::time::Instant;

use crate::error::Error;
use crate::fence::Fence;
use crate::keys::keyspace;
use crate::time::millis;

static TAKE: Script = Script::of_parts(&[lua::CLOCK, include_str!("../scripts/redlock_take.lua")]);
static RAISE: Script = Script::new(include_str!("../scripts/redlock_raise.lua"));
static RENEW: Script = Script::new(include_str!("../scripts/redlock_renew.lua"));
static RELEASE: Script =
    Script::of_parts(&[lua::WAKE_UP, include_str!("../scripts/redlock_release.lua")]);

/// One of the servers.
pub(super) struct Node {
    pub(super) client: Client,
    pub(super) channel: Bytes,
    keyspace: Keyspace,
    fence_ttl: Duration,
}

/// A lock on one server, under one token.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) client: Client,
    channel: Bytes,
    name: Bytes,
    lock: Key,
    fence: Key,
    fence_ttl: Duration,
    token: Token,
}

/// How a lock on one server is renewed. Who watches the lease holds this, and no client open by it.
pub(super) struct Renewal {
    lock: Key,
    fence: Key,
    fence_ttl: Duration,
    token: Token,
}

/// What a server says to a caller that wants the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    Granted(Fence),
    /// Another holder has it, for so long if it does not renew it.
    Held(Duration),
}

impl Node {
    /// # Errors
    /// [`Error::Core`] for a name that cannot stand in keys.
    pub(super) fn new(client: &Client, name: &str, fence_ttl: Duration) -> Result<Self, Error> {
        let (keyspace, channel) = keyspace(client, "redlock", name)?;
        Ok(Self {
            client: client.clone(),
            channel,
            keyspace,
            fence_ttl,
        })
    }

    pub(super) fn claim(&self, key: &Bytes, token: Token) -> Claim {
        Claim {
            client: self.client.clone(),
            channel: self.channel.clone(),
            name: key.clone(),
            lock: self.keyspace.key(key),
            fence: self.keyspace.role_key(key, "fence"),
            fence_ttl: self.fence_ttl,
            token,
        }
    }
}

impl Claim {
    pub(super) async fn take(&self, ttl: Duration, until: Instant) -> Result<Take, CoreError> {
        let call = TAKE
            .invoke([&self.lock, &self.fence])
            .arg(self.token)
            .arg(millis(ttl))
            .arg(millis(self.fence_ttl));
        // By its token it is taken once.
        let call = call.idempotent(true).deadline(until);
        let reply: Vec<i64> = self.client.eval(call).await?;
        let (status, number) = match *reply.as_slice() {
            [status, number] => (status, u64::try_from(number).unwrap_or_default()),
            _ => (0, 0),
        };
        Ok(match status {
            1 => Take::Granted(Fence::new(number)),
            _ => Take::Held(Duration::from_millis(number)),
        })
    }

    /// Gives whether no lower fence is given from now on.
    pub(super) async fn raise(&self, fence: Fence, until: Instant) -> Result<bool, CoreError> {
        let call = RAISE
            .invoke([&self.lock, &self.fence])
            .arg(self.token)
            .arg(fence)
            .arg(millis(self.fence_ttl));
        let raised: i64 = self
            .client
            .eval(call.idempotent(true).deadline(until))
            .await?;
        Ok(raised == 1)
    }

    /// How the lock is renewed.
    pub(super) fn renewal(&self) -> Renewal {
        Renewal {
            lock: self.lock.clone(),
            fence: self.fence.clone(),
            fence_ttl: self.fence_ttl,
            token: self.token,
        }
    }

    /// Releases the lock; `wakes` the waiters when a majority held it.
    pub(super) fn release(&self, wakes: bool) -> Invocation {
        let channel: &[u8] = if wakes { &self.channel } else { b"" };
        RELEASE
            .invoke([&self.lock])
            .arg(self.token)
            .arg(channel)
            .arg(&self.name)
            .idempotent(true)
    }
}

impl LeaseRenewal for Renewal {
    fn renew(&self, ttl: Duration) -> Invocation {
        RENEW
            .invoke([&self.lock, &self.fence])
            .arg(self.token)
            .arg(millis(ttl))
            .arg(millis(self.fence_ttl))
    }
}
