//! The scripts of a semaphore: the only place that orders their arguments and reads their replies.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::coordination::{
    LeaseRenewal, QueueStatus, QueuedCaller, Release, Token, WAITER_ALIVE, WaitQueue, lua,
};
use redkit_core::{Client, Error as CoreError, Invocation, Key, Keyspace, Script, ToArg};
use tokio::time::Instant;

use super::SemaphoreState;
use crate::error::Error;
use crate::keys::keyspace;
use crate::time::micros;

const SEMAPHORE: &str = include_str!("../scripts/semaphore.lua");

static TAKE: Script = Script::of_parts(&[
    lua::CLOCK,
    lua::WAKE_UP,
    lua::WAIT_QUEUE,
    SEMAPHORE,
    include_str!("../scripts/semaphore_take.lua"),
]);
static RENEW: Script = Script::of_parts(&[
    lua::CLOCK,
    SEMAPHORE,
    include_str!("../scripts/semaphore_renew.lua"),
]);
static RELEASE: Script = Script::of_parts(&[
    lua::CLOCK,
    lua::WAKE_UP,
    lua::WAIT_QUEUE,
    SEMAPHORE,
    include_str!("../scripts/semaphore_release.lua"),
]);
static RESIZE: Script = Script::of_parts(&[
    lua::CLOCK,
    lua::WAKE_UP,
    lua::WAIT_QUEUE,
    include_str!("../scripts/semaphore_resize.lua"),
]);
static STATE: Script = Script::of_parts(&[
    lua::CLOCK,
    SEMAPHORE,
    include_str!("../scripts/semaphore_state.lua"),
]);

/// How a semaphore names its keys.
pub(super) struct Names {
    keyspace: Keyspace,
    channel: Bytes,
}

/// The keys of one user key.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    leases: Key,
    grants: Key,
    permits: Key,
    queue: WaitQueue,
}

impl Names {
    /// # Errors
    /// [`Error::Core`] for a name that cannot stand in keys.
    pub(super) fn new(client: &Client, name: &str) -> Result<Self, Error> {
        let (keyspace, channel) = keyspace(client, "semaphore", name)?;
        Ok(Self { keyspace, channel })
    }

    pub(super) fn keys(&self, key: &Bytes) -> Keys {
        let of = |role| self.keyspace.role_key(key, role);
        Keys {
            leases: self.keyspace.key(key),
            grants: of("grants"),
            permits: of("permits"),
            queue: WaitQueue {
                queue: of("queue"),
                heartbeats: of("heartbeats"),
                channel: self.channel.clone(),
            },
        }
    }
}

/// A caller that asks for permits.
pub(super) struct Take<'a> {
    pub(super) keys: Keys,
    pub(super) client: &'a Client,
    pub(super) token: Token,
    pub(super) permits: u32,
    pub(super) lease: Duration,
    /// How many permits there are, unless that was changed.
    pub(super) usual: u32,
    pub(super) max_waiters: u32,
}

/// What a caller got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Permits,
    None,
    QueueFull { waiters: u32 },
    Above { there_are: u32 },
}

impl QueuedCaller for Take<'_> {
    type Outcome = Taken;

    fn queue(&self) -> &WaitQueue {
        &self.keys.queue
    }

    fn id(&self) -> Bytes {
        self.token.to_bytes()
    }

    async fn visit(&self, max_wait: Duration) -> Result<QueueStatus<Taken>, CoreError> {
        let keys = &self.keys;
        let call = TAKE
            .invoke([
                &keys.leases,
                &keys.grants,
                &keys.permits,
                &keys.queue.queue,
                &keys.queue.heartbeats,
            ])
            .arg(self.token)
            .arg(self.permits)
            .arg(micros(self.lease))
            .arg(self.usual)
            .arg(u8::from(!max_wait.is_zero()))
            .arg(self.max_waiters)
            .arg(micros(WAITER_ALIVE))
            .arg(&keys.queue.channel);
        // By its token a grant is made once, and a place taken once.
        let numbers: Vec<u64> = self.client.eval(call.idempotent(true)).await?;
        let (status, number) = match *numbers.as_slice() {
            [status, number] => (status, number),
            _ => (0, 0),
        };
        let count = u32::try_from(number).unwrap_or(u32::MAX);
        Ok(match status {
            1 => QueueStatus::Served(Taken::Permits),
            2 => QueueStatus::Waiting {
                hint: Duration::from_micros(number),
                before: None,
            },
            3 => QueueStatus::Rejected(Taken::QueueFull { waiters: count }),
            4 => QueueStatus::Rejected(Taken::Above { there_are: count }),
            _ => QueueStatus::Rejected(Taken::None),
        })
    }

    /// A further visit finds the permits by their token, and lets their lease run anew.
    fn outlives_unknown(&self) -> bool {
        true
    }

    fn abandon(&self) -> Release {
        // The last visit may have been served.
        let calls = [
            self.queue().leave(&self.id()),
            release(&self.keys, self.token, 0),
        ];
        Release::new(calls).patiently_until(Instant::now() + self.lease.max(WAITER_ALIVE))
    }
}

/// Renews the lease of a grant.
pub(super) struct Renewal {
    leases: Key,
    grants: Key,
    token: Token,
}

impl Renewal {
    pub(super) fn new(keys: &Keys, token: Token) -> Self {
        Self {
            leases: keys.leases.clone(),
            grants: keys.grants.clone(),
            token,
        }
    }
}

impl LeaseRenewal for Renewal {
    fn renew(&self, ttl: Duration) -> Invocation {
        RENEW
            .invoke([&self.leases, &self.grants])
            .arg(self.token)
            .arg(micros(ttl))
    }
}

/// Gives back all permits of a grant but `kept`. The reply is how many.
pub(super) fn release(keys: &Keys, token: Token, kept: u32) -> Invocation {
    RELEASE
        .invoke([&keys.leases, &keys.grants, &keys.queue.queue])
        .arg(token)
        .arg(kept)
        .arg(&keys.queue.channel)
        .idempotent(true)
}

/// Changes how many permits there are.
pub(super) async fn resize(
    client: &Client,
    keys: &Keys,
    permits: Option<u32>,
) -> Result<(), Error> {
    let permits = permits.map(|permits| permits.to_string());
    let call = RESIZE
        .invoke([&keys.permits, &keys.queue.queue])
        .arg(permits.as_deref().unwrap_or_default())
        .arg(&keys.queue.channel);
    // Not idempotent: arriving late it would undo a later change.
    let _: i64 = client.eval(call).await?;
    Ok(())
}

/// How the permits stand.
pub(super) async fn state(
    client: &Client,
    keys: &Keys,
    usual: u32,
) -> Result<SemaphoreState, Error> {
    let call = STATE
        .invoke([
            &keys.leases,
            &keys.grants,
            &keys.permits,
            &keys.queue.heartbeats,
        ])
        .arg(usual)
        .idempotent(true);
    let numbers: Vec<u64> = client.eval(call).await?;
    let number = |at: usize| {
        let number = numbers.get(at).copied().unwrap_or_default();
        u32::try_from(number).unwrap_or(u32::MAX)
    };
    Ok(SemaphoreState {
        permits: number(0),
        taken: number(1),
        grants: number(2),
        waiters: number(3),
    })
}
