//! Reading new entries: `XREAD` and `XREADGROUP`, which may wait for them.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::{ServerError, Value};

use super::super::blocking_pops::milliseconds;
use super::super::{Access, Run, Spec};
use super::text;
use crate::args::{integer, is, owned};
use crate::blocking::{Attempt, Wait};
use crate::error;
use crate::state::{Protocol, State};
use crate::value::stream::Stream;
use crate::value::stream::id::StreamId;

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "XREAD",
        arity: -4,
        subcommands: &[],
        access: Access::Read,
        run: Run::Blocking {
            handler: xread,
            in_scripts: true,
        },
    },
    Spec {
        name: "XREADGROUP",
        arity: -7,
        subcommands: &[],
        access: Access::Write,
        run: Run::Blocking {
            handler: xread_group,
            in_scripts: true,
        },
    },
];

/// Entries that a reader gets at most per stream when it had to wait and named no count.
const COUNT_AFTER_WAITING: usize = 1_000;

/// The arguments of both commands.
struct Read<'a, 'b> {
    /// `None` without `BLOCK`, `Some(None)` to wait for ever.
    block: Option<Option<Duration>>,
    count: Option<usize>,
    group: Option<(&'b [u8], &'b [u8])>,
    no_ack: bool,
    keys: &'a [&'b [u8]],
    ids: &'a [&'b [u8]],
}

/// From where on a group's consumer reads.
#[derive(Clone, Copy)]
enum From {
    /// `>`: entries that the group has not read.
    New,
    /// Its own entries after this one.
    History(StreamId),
}

impl<'a, 'b> Read<'a, 'b> {
    fn parse(state: &State, args: &'a [&'b [u8]], for_group: bool) -> Result<Self, ServerError> {
        let mut read = Read {
            block: None,
            count: None,
            group: None,
            no_ack: false,
            keys: &[],
            ids: &[],
        };
        let only_for_groups = |option: &str| {
            error::err(format!(
                "The {option} option is only supported by XREADGROUP. You called XREAD instead."
            ))
        };
        let mut rest = args;
        loop {
            rest = match rest {
                [option, amount, rest @ ..] if is(option, "BLOCK") => {
                    if let Some(name) = &state.waiting_refused {
                        return Err(error::err(format!(
                            "{name} command is not allowed with BLOCK option from scripts"
                        )));
                    }
                    read.block = Some(milliseconds(amount)?);
                    rest
                }
                [option, amount, rest @ ..] if is(option, "COUNT") => {
                    let count = usize::try_from(integer(amount)?).unwrap_or(0);
                    read.count = Some(count).filter(|&count| count > 0);
                    rest
                }
                [option, streams @ ..] if is(option, "STREAMS") && !streams.is_empty() => {
                    if streams.len() % 2 == 1 {
                        return Err(error::err(
                            "Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.",
                        ));
                    }
                    (read.keys, read.ids) = streams.split_at(streams.len() / 2);
                    break;
                }
                [option, group, consumer, rest @ ..] if is(option, "GROUP") => {
                    if !for_group {
                        return Err(only_for_groups("GROUP"));
                    }
                    read.group = Some((group, consumer));
                    rest
                }
                [option, rest @ ..] if is(option, "NOACK") => {
                    if !for_group {
                        return Err(only_for_groups("NOACK"));
                    }
                    read.no_ack = true;
                    rest
                }
                _ => return Err(error::syntax()),
            };
        }
        Ok(read)
    }

    fn count(&self) -> usize {
        self.count.unwrap_or(usize::MAX)
    }

    fn count_after_waiting(&self) -> usize {
        self.count.unwrap_or(COUNT_AFTER_WAITING)
    }

    fn owned_keys(&self) -> Vec<Bytes> {
        self.keys.iter().map(|key| owned(key)).collect()
    }
}

fn xread(state: &mut State, args: &[&[u8]]) -> Result<Attempt, ServerError> {
    let read = Read::parse(state, args, false)?;
    let mut after = Vec::with_capacity(read.keys.len());
    for (key, id) in read.keys.iter().zip(read.ids) {
        let stream = state.db.view::<Stream>(key)?;
        after.push(match *id {
            b"$" => stream.map(Stream::last_id).unwrap_or_default(),
            b">" => {
                return Err(error::err(
                    "The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
                ));
            }
            id => StreamId::parse(id, 0)?,
        });
    }
    let mut found = Vec::new();
    for (key, after) in read.keys.iter().zip(&after) {
        if let Some(entries) = entries_after(state, key, *after, read.count())? {
            found.push((owned(key), entries));
        }
    }
    if !found.is_empty() {
        return Ok(Attempt::Done(Ok(by_stream(state.protocol, found))));
    }
    let Some(timeout) = read.block else {
        return Ok(Attempt::Done(Ok(Value::Nil)));
    };
    let keys = read.owned_keys();
    let count = read.count_after_waiting();
    // The last id counts for a stream that is named twice, as on the server.
    let after: Vec<(Bytes, StreamId)> = keys.iter().cloned().zip(after).collect();
    Ok(Attempt::Wait(Wait {
        keys,
        timeout,
        serve: Box::new(move |state, key| {
            let (key, after) = after.iter().rev().find(|(present, _)| present == key)?;
            let entries = entries_after(state, key, *after, count).ok()??;
            Some(Ok(by_stream(state.protocol, vec![(key.clone(), entries)])))
        }),
        hears_of_absence: false,
    }))
}

/// The entries after an id, if there are any.
fn entries_after(
    state: &mut State,
    key: &[u8],
    after: StreamId,
    count: usize,
) -> Result<Option<Vec<Value>>, ServerError> {
    let Some(stream) = state.db.view::<Stream>(key)? else {
        return Ok(None);
    };
    let Some(from) = after.next() else {
        return Ok(None);
    };
    let entries: Vec<Value> = stream.range(from, StreamId::MAX).take(count).collect();
    Ok(Some(entries).filter(|entries| !entries.is_empty()))
}

fn xread_group(state: &mut State, args: &[&[u8]]) -> Result<Attempt, ServerError> {
    let read = Read::parse(state, args, true)?;
    let Some((group, consumer)) = read.group else {
        return Err(error::err("Missing GROUP option for XREADGROUP"));
    };
    let mut from = Vec::with_capacity(read.keys.len());
    for (key, id) in read.keys.iter().zip(read.ids) {
        let stream = state.db.view::<Stream>(key)?;
        if !stream.is_some_and(|stream| stream.groups.contains_key(group)) {
            return Err(ServerError::new(
                "NOGROUP",
                format!(
                    "No such key '{}' or consumer group '{}' in XREADGROUP with GROUP option",
                    text(key),
                    text(group)
                ),
            ));
        }
        from.push(match *id {
            b"$" => {
                return Err(error::err(
                    "The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.",
                ));
            }
            b">" => From::New,
            id => match StreamId::parse(id, 0)? {
                StreamId::MAX => From::New,
                id => From::History(id),
            },
        });
    }
    let (group, consumer) = (owned(group), owned(consumer));
    let mut found = Vec::new();
    for (key, from) in read.keys.iter().zip(from) {
        let entries = match from {
            From::New => new_entries(state, key, &group, &consumer, read.count(), read.no_ack),
            From::History(after) => {
                let now = state.db.now();
                let stream = state.db.edit::<Stream>(key)?;
                stream.map(|s| s.history(&group, &consumer, after, read.count(), now))
            }
        };
        if let Some(entries) = entries {
            found.push((owned(key), entries));
        }
    }
    if !found.is_empty() {
        return Ok(Attempt::Done(Ok(by_stream(state.protocol, found))));
    }
    let Some(timeout) = read.block else {
        return Ok(Attempt::Done(Ok(Value::Nil)));
    };
    let (count, no_ack) = (read.count_after_waiting(), read.no_ack);
    Ok(Attempt::Wait(Wait {
        keys: read.owned_keys(),
        timeout,
        serve: Box::new(move |state, key| {
            if let Some(gone) = gone(state, key, &group) {
                return Some(Err(gone));
            }
            let entries = new_entries(state, key, &group, &consumer, count, no_ack)?;
            Some(Ok(by_stream(state.protocol, vec![(owned(key), entries)])))
        }),
        // The group goes with its stream.
        hears_of_absence: true,
    }))
}

/// What a group has not read, if there is anything.
fn new_entries(
    state: &mut State,
    key: &[u8],
    group: &Bytes,
    consumer: &Bytes,
    count: usize,
    no_ack: bool,
) -> Option<Vec<Value>> {
    let now = state.db.now();
    let stream = state.db.edit::<Stream>(key).ok()??;
    let last = stream.groups.get(group)?.last_id;
    if stream.top()? <= last {
        return None;
    }
    Some(stream.deliver(group, consumer, count, no_ack, now))
}

/// The error for a reader whose stream or group went away while it waited.
fn gone(state: &mut State, key: &[u8], group: &[u8]) -> Option<ServerError> {
    match state.db.view::<Stream>(key) {
        Ok(Some(stream)) if stream.groups.contains_key(group) => None,
        Ok(Some(_)) => Some(ServerError::new(
            "NOGROUP",
            "the consumer group this client was blocked on no longer exists",
        )),
        _ => Some(ServerError::new(
            "UNBLOCKED",
            "the stream key no longer exists",
        )),
    }
}

/// Entries under the names of their streams: a map, or pairs in RESP2.
fn by_stream(protocol: Protocol, found: Vec<(Bytes, Vec<Value>)>) -> Value {
    let pairs = found
        .into_iter()
        .map(|(key, entries)| (Value::Bulk(key), Value::Array(entries)));
    match protocol {
        Protocol::Resp3 => Value::Map(pairs.collect()),
        Protocol::Resp2 => Value::Array(pairs.map(|(a, b)| Value::Array(vec![a, b])).collect()),
    }
}
