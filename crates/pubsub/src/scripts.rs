//! The scripts, and one typed call for each: nothing else orders their arguments or reads their
//! replies. `src/scripts/*.lua` says what each does.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::{Client, Error, FromValue, Invocation, Key, Script, Value, ValueError};

use crate::inbox::ItemId;

static PUBLISH: Script = Script::new(include_str!("scripts/publish.lua"));
static INBOX_PUSH: Script = Script::new(include_str!("scripts/inbox_push.lua"));
static INBOX_PAGE: Script = Script::new(include_str!("scripts/inbox_page.lua"));
static INBOX_READ: Script = Script::new(include_str!("scripts/inbox_read.lua"));

/// What is published on a channel with replay.
pub(crate) struct Publish<'a> {
    pub(crate) log: &'a Key,
    pub(crate) last: &'a Key,
    pub(crate) channel: &'a Key,
    pub(crate) is_sharded: bool,
    pub(crate) most: u32,
    pub(crate) keep: Duration,
    pub(crate) last_ttl: Duration,
    pub(crate) message: Bytes,
}

/// Replies with the message's number and how many subscribers the server told.
pub(crate) fn publish(publish: Publish<'_>) -> Invocation {
    let (log, last, channel) = (publish.log, publish.last, publish.channel);
    let (call, command) = match publish.is_sharded {
        true => (PUBLISH.invoke([log, last, channel]), "SPUBLISH"),
        false => (PUBLISH.invoke([log, last]), "PUBLISH"),
    };
    call.arg(channel)
        .arg(command)
        .arg(publish.most)
        .arg(micros(publish.keep))
        .arg(millis(publish.last_ttl))
        .arg(publish.message)
}

/// Replies with the item's id, how many items were dropped, and whether the push's id was known. `record` is the key of
/// the push's id, and for how long it is known: with one the push can be repeated.
pub(crate) fn inbox_push(
    keys: &InboxKeys,
    most: u32,
    ttl: Duration,
    item: Bytes,
    record: Option<(&Key, Duration)>,
) -> Invocation {
    let call = match record {
        Some((record, _)) => INBOX_PUSH.invoke([&keys.items, &keys.state, record]),
        None => INBOX_PUSH.invoke([&keys.items, &keys.state]),
    };
    let call = call.arg(&keys.live).arg(most).arg(millis(ttl)).arg(item);
    match record {
        Some((_, known_for)) => call.arg(millis(known_for)).idempotent(true),
        None => call,
    }
}

/// The names of one user's inbox.
pub(crate) struct InboxKeys {
    pub(crate) items: Key,
    pub(crate) state: Key,
    /// The channel of those who are connected.
    pub(crate) live: Key,
}

/// What a reading gave.
pub(crate) struct Reading {
    pub(crate) confirmed: u64,
    pub(crate) items: Vec<RawItem>,
}

/// An item as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawItem {
    pub(crate) id: ItemId,
    pub(crate) epoch: u64,
    pub(crate) number: u64,
    pub(crate) raw: Bytes,
}

/// Confirms `confirm` and reads for `token`; either may be empty. A repetition with the same token
/// gives the same items, and a confirmation removes nothing twice.
pub(crate) async fn inbox_read(
    client: &Client,
    keys: &InboxKeys,
    confirm: &str,
    token: &str,
    kept_from_others: Duration,
    most: u32,
) -> Result<Reading, Error> {
    let call = INBOX_READ
        .invoke([&keys.items, &keys.state])
        .arg(confirm)
        .arg(token)
        .arg(micros(kept_from_others))
        .arg(most);
    let (confirmed, _, Entries(items)): (u64, u64, Entries<RawItem>) =
        client.eval(call.idempotent(true)).await?;
    Ok(Reading { confirmed, items })
}

/// A page of a user's items, and how the inbox stood at that moment.
pub(crate) struct InboxPage {
    pub(crate) epoch: Option<u64>,
    /// The last item that was dropped for want of room.
    pub(crate) dropped: Option<ItemId>,
    /// The last item that there ever was.
    pub(crate) last: Option<ItemId>,
    pub(crate) items: Vec<RawItem>,
    /// The item behind which the page was to begin is of an inbox that was lost: it begins with the first item.
    pub(crate) is_of_another: bool,
}

/// Reads a page behind an item, for a subscription that knows this epoch.
pub(crate) async fn inbox_page(
    client: &Client,
    keys: &InboxKeys,
    after: Option<ItemId>,
    epoch: Option<u64>,
    most: u32,
) -> Result<InboxPage, Error> {
    let call = INBOX_PAGE
        .invoke([&keys.items, &keys.state])
        .arg(after.map_or_else(String::new, |after| after.to_string()))
        .arg(epoch.map_or_else(String::new, |epoch| epoch.to_string()))
        .arg(most);
    type Reply = (Entries<RawItem>, u64, (String, String, String));
    let (Entries(items), is_of_another, (epoch, dropped, last)): Reply =
        client.eval(call.idempotent(true)).await?;
    Ok(InboxPage {
        epoch: epoch.parse().ok(),
        dropped: dropped.parse().ok(),
        last: last.parse().ok(),
        items,
        is_of_another: is_of_another == 1,
    })
}

/// What `XRANGE` gives.
pub(crate) struct Entries<I>(pub(crate) Vec<I>);

impl<I: FromValue> FromValue for Entries<I> {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        match value {
            Value::Array(entries) => {
                let entries = entries.into_iter().map(Value::to);
                Ok(Self(entries.collect::<Result<_, _>>()?))
            }
            // What a script gives for an empty table.
            Value::Nil => Ok(Self(Vec::new())),
            other => Err(ValueError {
                expected: "entries of a stream",
                got: other.kind(),
            }),
        }
    }
}

/// An entry of a stream: its id and the values of its fields, in the order in which they were given.
pub(crate) struct Entry<const N: usize> {
    pub(crate) id: ItemId,
    pub(crate) values: [Bytes; N],
}

impl<const N: usize> FromValue for Entry<N> {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        let (id, fields): (String, Vec<Bytes>) = value.to()?;
        let wrong = ValueError {
            expected: "an entry of this crate's streams",
            got: "another one",
        };
        let id = id.parse().map_err(|_| wrong.clone())?;
        let values: Vec<Bytes> = fields
            .chunks_exact(2)
            .filter_map(|pair| pair.get(1))
            .cloned()
            .collect();
        let values = values.try_into().map_err(|_| wrong)?;
        Ok(Self { id, values })
    }
}

impl FromValue for RawItem {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        let Entry {
            id,
            values: [epoch, number, raw],
        } = value.to()?;
        Ok(Self {
            id,
            epoch: Value::Bulk(epoch).to()?,
            number: Value::Bulk(number).to()?,
            raw,
        })
    }
}

/// In µs, as far as scripts count exactly.
pub(crate) fn micros(duration: Duration) -> u64 {
    const MOST: u64 = 1 << 51;
    u64::try_from(duration.as_micros()).map_or(MOST, |micros| micros.min(MOST))
}

/// In ms, at least one.
pub(crate) fn millis(duration: Duration) -> u64 {
    (micros(duration) / 1000).max(1)
}
