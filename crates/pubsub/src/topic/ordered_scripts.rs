//! The scripts of ordered groups, whose partitions have an owner each. `src/scripts/topic_*.lua` says what each does.

use std::time::Duration;

use redkit_core::coordination::{Token, lua};
use redkit_core::{Client, Error, Invocation, Key, Script, Value};

use super::builder::Retention;
use super::entry::{HandledEntry, RawEntry};
use super::keys::Partition;
use super::scripts::{ACK_FAST, ACK_TEXT, BURY_TEXT, Burial, DELAYED, ENTRY, FINISH, Seat, Tick};
use crate::scripts::millis;

const FENCE: &str = include_str!("../scripts/topic_fence.lua");

static ACK: Script = Script::of_parts(&[FENCE, ACK_FAST, ENTRY, FINISH, ACK_TEXT]);
static BURY: Script = Script::of_parts(&[FENCE, lua::CLOCK, ENTRY, FINISH, BURY_TEXT]);
static OWN: Script = Script::new(include_str!("../scripts/topic_own.lua"));
static MEMBERS: Script =
    Script::of_parts(&[lua::CLOCK, include_str!("../scripts/topic_members.lua")]);
static TAKE: Script = Script::of_parts(&[
    lua::CLOCK,
    ENTRY,
    DELAYED,
    include_str!("../scripts/topic_take.lua"),
]);
static ATTEMPT: Script = Script::of_parts(&[FENCE, include_str!("../scripts/topic_attempt.lua")]);
static DISOWN: Script = Script::of_parts(&[FENCE, include_str!("../scripts/topic_disown.lua")]);

/// Takes a partition that nobody owns.
pub(crate) fn take_ownership(owner: &Key, token: Token, lease: Duration) -> Invocation {
    let call = OWN.invoke([owner]).arg(token).arg(millis(lease));
    call.arg(1).idempotent(true)
}

/// Prolongs the lease of the partition's owner.
pub(crate) fn own(owner: &Key, token: Token, lease: Duration) -> Invocation {
    let call = OWN.invoke([owner]).arg(token).arg(millis(lease));
    call.arg(0).idempotent(true)
}

/// Replies with the number of members, and of those before this one.
pub(crate) fn members(members: &Key, member: &str, lease: Duration) -> Invocation {
    let call = MEMBERS.invoke([members]).arg(member).arg(millis(lease));
    call.idempotent(true)
}

/// The next entries of an owner; `None` when the caller is none.
pub(crate) async fn take(
    seat: &Seat,
    client: &Client,
    count: usize,
    is_first: bool,
    token: Token,
) -> Result<Option<Tick>, Error> {
    let Partition {
        stream,
        delayed,
        bodies,
        state,
        ..
    } = &seat.partition;
    let call = TAKE
        .invoke([stream, delayed, bodies, state, &seat.keys.owner])
        .arg(&*seat.group)
        .arg(&*seat.consumer)
        .arg(count)
        .arg(u8::from(is_first))
        .arg(token);
    // The server gives an owner again what it has not acknowledged, and counts it as new once.
    let reply: Value = client.eval(call.idempotent(true)).await?;
    match &reply {
        Value::Array(items) if items.first() == Some(&Value::Int(-2)) => Ok(None),
        _ => reply.to().map(Some).map_err(|error| Error::Reply {
            command: "EVALSHA".into(),
            error,
        }),
    }
}

pub(crate) fn attempt(seat: &Seat, entry: &RawEntry, token: Token) -> Invocation {
    ATTEMPT
        .invoke([&seat.partition.stream, &seat.keys.owner])
        .arg(&*seat.group)
        .arg(&*seat.consumer)
        .arg(entry.entry.to_string())
        .arg(entry.deliveries)
        .arg(token)
        .idempotent(true)
}

pub(crate) fn disown(seat: &Seat, token: Token) -> Invocation {
    DISOWN
        .invoke([&seat.partition.stream, &seat.keys.owner])
        .arg(&*seat.group)
        .arg(&*seat.consumer)
        .arg(token)
        .idempotent(true)
}

pub(crate) fn ack(seat: &Seat, entry: &RawEntry, retention: Retention, token: Token) -> Invocation {
    let owner = Some((&seat.keys.owner, token));
    seat.ack_by(&ACK, &[&HandledEntry::from(entry)], retention, owner)
}

pub(crate) fn bury(seat: &Seat, entry: &RawEntry, letter: &Burial<'_>, token: Token) -> Invocation {
    let record = seat.partition.record(&entry.id);
    let (stream, keys) = (&seat.partition.stream, &seat.keys);
    let call = BURY.invoke([stream, &keys.dead, &record, &keys.owner]);
    seat.bury_args(call, entry, letter).arg(token)
}
