//! The scripts of locks, and one typed call for each: nothing else orders their arguments or reads their
//! replies. `src/scripts/*.lua` says what each of them does.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::coordination::{Token, WAITER_ALIVE, lua};
use redkit_core::{Client, Error as CoreError, Invocation, Key, Script, Value, ValueError};

use crate::error::Error;
use crate::fence::Fence;
use crate::holder::Holder;
use crate::keys::LockKeys;
use crate::time::{micros, millis};

/// `next_fence`, and what stands at the key of a lock: also for scripts of other modules.
pub(crate) const FENCE: &str = include_str!("scripts/fence.lua");
pub(crate) const RECORD: &str = include_str!("scripts/record.lua");

// Where a script's common case comes first, it costs a fraction: functions are made anew with each call.
static ACQUIRE: Script = Script::of_parts(&[
    lua::CLOCK,
    FENCE,
    include_str!("scripts/acquire.lua"),
    RECORD,
    include_str!("scripts/acquire_all.lua"),
]);
static ACQUIRE_FAIR: Script = Script::of_parts(&[
    lua::CLOCK,
    FENCE,
    include_str!("scripts/acquire_fair.lua"),
    lua::WAKE_UP,
    lua::WAIT_QUEUE,
    RECORD,
    include_str!("scripts/acquire_queued.lua"),
]);
static RENEW: Script = Script::of_parts(&[RECORD, include_str!("scripts/renew.lua")]);
static RELEASE: Script = Script::of_parts(&[
    include_str!("scripts/release.lua"),
    lua::CLOCK,
    lua::WAKE_UP,
    lua::WAIT_QUEUE,
    RECORD,
    include_str!("scripts/release_all.lua"),
]);
static FORCE_RELEASE: Script = Script::of_parts(&[
    lua::CLOCK,
    lua::WAKE_UP,
    lua::WAIT_QUEUE,
    RECORD,
    include_str!("scripts/force_release.lua"),
]);
static INSPECT: Script = Script::new(include_str!("scripts/inspect.lua"));

/// What an attempt to take locks gave.
#[derive(Debug, Clone)]
pub(crate) enum Attempt {
    /// The fences, in the order of the locks.
    Acquired(Vec<Fence>),
    Taken(Taken),
}

/// Why locks could not be taken.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    /// Which of the locks is taken.
    pub(crate) index: usize,
    /// When it runs out if it is not renewed; `None` when it never does, or is free and others wait for it.
    pub(crate) expires_in: Option<Duration>,
    /// Its holder; `None` when it is free and others wait for it, or something else stands at its key.
    pub(crate) holder: Option<Holder>,
}

/// Who asks for locks, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bid<'a> {
    pub(crate) token: Token,
    pub(crate) ttl: Duration,
    pub(crate) fence_ttl: Duration,
    /// Process, host and label.
    pub(crate) owner: &'a str,
    /// The caller waits when a lock is taken.
    pub(crate) waits: bool,
    /// Others of the caller's process may wait, too.
    pub(crate) has_waited: bool,
}

/// The call that takes locks, all or none. The owner of the token may repeat it: what a first attempt took
/// is the second's. One that arrives after the release leaves a lock that runs out by itself.
pub(crate) fn acquire(locks: &[LockKeys], bid: &Bid<'_>) -> Invocation {
    let keys = flat(locks, |lock| [&lock.lock, &lock.fence]);
    with_bid(ACQUIRE.invoke(keys), bid)
        .arg(if bid.has_waited { "w" } else { "h" })
        .idempotent(true)
}

/// The call of a caller that has, or takes, a place in the lock's queue.
pub(crate) fn acquire_fair(lock: &LockKeys, channel: &Bytes, bid: &Bid<'_>) -> Invocation {
    let keys = [&lock.lock, &lock.fence, &lock.queue, &lock.heartbeats];
    with_bid(ACQUIRE_FAIR.invoke(keys), bid)
        .arg(channel)
        .arg(micros(WAITER_ALIVE))
        .idempotent(true)
}

/// The call that lets locks of this owner run on. With `never_shorter` one that runs for longer already does so.
pub(crate) fn renew(keys: &[Key], token: Token, ttl: Duration, never_shorter: bool) -> Invocation {
    RENEW
        .invoke(keys)
        .arg(token)
        .arg(millis(ttl))
        .arg(if never_shorter { "GT" } else { "" })
}

/// The call that gives locks back. Repeating it is safe, but only the first that arrives finds them held.
pub(crate) fn release(
    locks: &[LockKeys],
    token: Token,
    channel: &Bytes,
    hold_at_least: Duration,
) -> Invocation {
    let keys = flat(locks, |lock| [&lock.lock, &lock.queue]);
    RELEASE
        .invoke(keys)
        .arg(token)
        .arg(channel)
        .arg(micros(hold_at_least))
}

/// Takes a lock away from the holder with this fence. Gives whether it had the lock.
pub(crate) async fn force_release(
    client: &Client,
    lock: &LockKeys,
    fence: Fence,
    channel: &Bytes,
) -> Result<bool, Error> {
    let call = FORCE_RELEASE
        .invoke([&lock.lock, &lock.queue])
        .arg(fence)
        .arg(channel);
    Ok(client.eval(call).await?)
}

/// Looks at a lock. Gives nothing for one that is free.
pub(crate) async fn inspect(client: &Client, lock: &Key) -> Result<Option<Holder>, Error> {
    let (left, held): (i64, Option<Bytes>) = client.eval(inspect_call(lock)).await?;
    Ok(held.and_then(|held| Holder::read(&held, expiry(left))))
}

/// The call of [`inspect`], to be sent with others.
pub(crate) fn inspect_call(lock: &Key) -> Invocation {
    INSPECT.invoke([lock]).idempotent(true)
}

/// Reads the reply to [`inspect_call`].
pub(crate) fn read_inspected(reply: Value) -> Result<Option<Holder>, CoreError> {
    let (left, held): (i64, Option<Bytes>) = to(reply)?;
    Ok(held.and_then(|held| Holder::read(&held, expiry(left))))
}

/// Reads the reply of [`acquire`] and [`acquire_fair`].
pub(crate) fn read_attempt(reply: Value, locks: usize) -> Result<Attempt, CoreError> {
    let items = match reply {
        Value::Array(items) => items,
        // One lock, which was free: the common case has the shortest reply.
        fence => return Ok(Attempt::Acquired(vec![Fence::new(to(fence)?)])),
    };
    let mut items = items.into_iter();
    let mut next = || items.next().unwrap_or_default();
    if to::<i64>(next())? == 1 {
        let fences = (0..locks).map(|_| to(next()).map(Fence::new));
        return Ok(Attempt::Acquired(fences.collect::<Result<_, _>>()?));
    }
    let (which, left) = (to::<usize>(next())?, to::<i64>(next())?);
    let held: Option<Bytes> = to(next())?;
    let expires_in = expiry(left);
    Ok(Attempt::Taken(Taken {
        index: which.saturating_sub(1).min(locks.saturating_sub(1)),
        expires_in,
        holder: held.and_then(|held| Holder::read(&held, expires_in)),
    }))
}

fn with_bid(call: Invocation, bid: &Bid<'_>) -> Invocation {
    call.arg(bid.token)
        .arg(millis(bid.ttl))
        .arg(millis(bid.fence_ttl))
        .arg(bid.owner)
        .arg(u64::from(bid.waits))
}

fn flat(locks: &[LockKeys], keys: impl Fn(&LockKeys) -> [&Key; 2]) -> Vec<&Key> {
    locks.iter().flat_map(keys).collect()
}

/// From a PTTL.
pub(crate) fn expiry(left: i64) -> Option<Duration> {
    u64::try_from(left).ok().map(Duration::from_millis)
}

fn to<T: redkit_core::FromValue>(value: Value) -> Result<T, CoreError> {
    value.to().map_err(of_reply)
}

fn of_reply(error: ValueError) -> CoreError {
    CoreError::Reply {
        command: "EVALSHA".into(),
        error,
    }
}
