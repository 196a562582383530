//! What was delivered and not acknowledged: `XPENDING`, `XCLAIM`, `XAUTOCLAIM`.

use bytes::Bytes;
use redkit_core::{ServerError, Value};

use super::super::{Spec, int, read, write};
use super::{group_of, no_such_group, text};
use crate::args::{integer, is, owned, parse_integer};
use crate::error::{self, Reply};
use crate::state::State;
use crate::value::stream::Stream;
use crate::value::stream::group::{Claim, Group};
use crate::value::stream::id::{End, StreamId};

pub(super) const COMMANDS: &[Spec] = &[
    read("XPENDING", -3, xpending),
    write("XCLAIM", -6, xclaim),
    write("XAUTOCLAIM", -6, xauto_claim),
];

/// Entries that `XAUTOCLAIM` looks at for each that it may claim.
const LOOKS_PER_CLAIM: usize = 10;
/// The largest `COUNT` of `XAUTOCLAIM`.
const MOST_CLAIMS: i64 = i64::MAX / 16;

/// The extended form of `XPENDING`.
struct Range<'a> {
    min_idle: i64,
    start: StreamId,
    stop: StreamId,
    count: usize,
    consumer: Option<&'a [u8]>,
}

fn xpending(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, group, rest @ ..] = args else {
        return Err(error::syntax());
    };
    let range = parse_range(rest)?;
    let now = state.db.now();
    let group = group_of(state, key, group)?;
    Ok(match range {
        None => summary(group),
        Some(range) => extended(group, &range, now),
    })
}

fn parse_range<'a>(args: &[&'a [u8]]) -> Result<Option<Range<'a>>, ServerError> {
    let (min_idle, rest) = match args {
        [] => return Ok(None),
        [option, min_idle, rest @ ..] if args.len() >= 3 && is(option, "IDLE") => {
            (integer(min_idle)?, rest)
        }
        all => (0, all),
    };
    // One more is accepted and ignored, as on the server.
    let ([start, stop, count], consumer) = match rest {
        [start, stop, count, rest @ ..] if args.len() <= 6 => ([start, stop, count], rest.first()),
        _ => return Err(error::syntax()),
    };
    let count = usize::try_from(integer(count)?).unwrap_or(0);
    Ok(Some(Range {
        min_idle,
        start: StreamId::bound(start, End::Start)?,
        stop: StreamId::bound(stop, End::Stop)?,
        count,
        consumer: consumer.copied(),
    }))
}

fn summary(group: &Group) -> Value {
    let pending = group.pending();
    let (Some((first, _)), Some((last, _))) = (pending.first_key_value(), pending.last_key_value())
    else {
        return Value::Array(vec![Value::Int(0), Value::Nil, Value::Nil, Value::Nil]);
    };
    let consumers = group.consumers().iter();
    let consumers = consumers.filter(|(_, consumer)| !consumer.pending.is_empty());
    let consumers = consumers.map(|(name, consumer)| {
        let count = consumer.pending.len().to_string();
        Value::Array(vec![Value::Bulk(name.clone()), Value::bulk(count)])
    });
    Value::Array(vec![
        int(pending.len()),
        first.to_value(),
        last.to_value(),
        Value::Array(consumers.collect()),
    ])
}

fn extended(group: &Group, range: &Range<'_>, now: i64) -> Value {
    if range.start > range.stop {
        return Value::Array(Vec::new());
    }
    let pending = group.pending().range(range.start..=range.stop);
    let rows = pending
        .filter(|(_, entry)| range.consumer.is_none_or(|wanted| entry.consumer == wanted))
        .map(|(id, entry)| (id, entry, (now - entry.delivered_at).max(0)))
        .filter(|(_, entry, _)| now - entry.delivered_at >= range.min_idle)
        .take(range.count)
        .map(|(id, entry, idle)| {
            Value::Array(vec![
                id.to_value(),
                Value::Bulk(entry.consumer.clone()),
                Value::Int(idle),
                Value::Int(i64::try_from(entry.deliveries).unwrap_or(i64::MAX)),
            ])
        });
    Value::Array(rows.collect())
}

/// The options of `XCLAIM`.
#[derive(Default)]
struct Options {
    force: bool,
    just_ids: bool,
    delivered_at: Option<i64>,
    deliveries: Option<u64>,
    last_id: StreamId,
}

impl Options {
    fn parse(args: &[&[u8]], now: i64) -> Result<Self, ServerError> {
        let mut options = Self::default();
        let mut rest = args;
        loop {
            rest = match rest {
                [] => return Ok(options),
                [option, rest @ ..] if is(option, "FORCE") => {
                    options.force = true;
                    rest
                }
                [option, rest @ ..] if is(option, "JUSTID") => {
                    options.just_ids = true;
                    rest
                }
                [option, amount, rest @ ..] if is(option, "IDLE") => {
                    options.delivered_at = Some(now.wrapping_sub(number(amount, "IDLE")?));
                    rest
                }
                [option, amount, rest @ ..] if is(option, "TIME") => {
                    options.delivered_at = Some(number(amount, "TIME")?);
                    rest
                }
                [option, amount, rest @ ..] if is(option, "RETRYCOUNT") => {
                    options.deliveries = u64::try_from(number(amount, "RETRYCOUNT")?).ok();
                    rest
                }
                [option, id, rest @ ..] if is(option, "LASTID") => {
                    options.last_id = StreamId::parse(id, 0)?;
                    rest
                }
                [option, ..] => {
                    return Err(error::err(format!(
                        "Unrecognized XCLAIM option '{}'",
                        text(option)
                    )));
                }
            };
        }
    }

    fn claim(&self, now: i64) -> Claim {
        Claim {
            // What makes no sense is now, as on the server.
            delivered_at: match self.delivered_at {
                Some(at) if (0..=now).contains(&at) => at,
                _ => now,
            },
            deliveries: self.deliveries,
            counts: !self.just_ids,
        }
    }
}

fn number(arg: &[u8], option: &str) -> Result<i64, ServerError> {
    parse_integer(arg)
        .ok_or_else(|| error::err(format!("Invalid {option} option argument for XCLAIM")))
}

fn xclaim(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, group_name, consumer, min_idle, rest @ ..] = args else {
        return Err(error::syntax());
    };
    let now = state.db.now();
    group_of(state, key, group_name)?;
    let min_idle = parse_integer(min_idle)
        .ok_or_else(|| error::err("Invalid min-idle-time argument for XCLAIM"))?;
    let ids: Vec<StreamId> = rest
        .iter()
        .map_while(|id| StreamId::parse(id, 0).ok())
        .collect();
    let options = Options::parse(rest.get(ids.len()..).unwrap_or_default(), now)?;
    let consumer = owned(consumer);
    let Some(mut stream) = Open::find(state, key, group_name)? else {
        return Err(no_such_group(key, group_name));
    };
    let group = stream.group();
    group.last_id = group.last_id.max(options.last_id);
    let mut claimed = Vec::new();
    for id in ids {
        if !stream.exists_or_forget(id) {
            continue;
        }
        let pending = stream.group().pending().get(&id);
        let free = match pending {
            Some(pending) => min_idle <= 0 || now - pending.delivered_at >= min_idle,
            None => options.force,
        };
        if free {
            stream.group().seen(&consumer, now);
            stream.group().claim(id, &consumer, options.claim(now));
            claimed.extend(stream.show(id, options.just_ids));
        }
    }
    Ok(Value::Array(claimed))
}

fn xauto_claim(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, group_name, consumer, min_idle, start, rest @ ..] = args else {
        return Err(error::syntax());
    };
    let min_idle = parse_integer(min_idle)
        .ok_or_else(|| error::err("Invalid min-idle-time argument for XAUTOCLAIM"))?;
    let start = StreamId::bound(start, End::Start)?;
    let (mut count, mut just_ids) = (100, false);
    let mut rest = rest;
    loop {
        rest = match rest {
            [] => break,
            [option, amount, rest @ ..] if is(option, "COUNT") => {
                count = parse_integer(amount)
                    .filter(|count| (1..=MOST_CLAIMS).contains(count))
                    .and_then(|count| usize::try_from(count).ok())
                    .ok_or_else(|| error::err("COUNT must be > 0"))?;
                rest
            }
            [option, rest @ ..] if is(option, "JUSTID") => {
                just_ids = true;
                rest
            }
            _ => return Err(error::syntax()),
        };
    }
    let now = state.db.now();
    let consumer = owned(consumer);
    let Some(mut stream) = Open::find(state, key, group_name)? else {
        return Err(no_such_group(key, group_name));
    };
    let claim = Claim {
        delivered_at: now,
        deliveries: None,
        counts: !just_ids,
    };
    let (mut claimed, mut deleted) = (Vec::new(), Vec::new());
    let mut looks = count.saturating_mul(LOOKS_PER_CLAIM);
    let mut next = Some(start);
    while let Some(id) = next.and_then(|from| stream.pending_from(from)) {
        if looks == 0 || claimed.len() + deleted.len() >= count {
            next = Some(id);
            break;
        }
        looks -= 1;
        next = id.next();
        if !stream.exists_or_forget(id) {
            deleted.push(id.to_value());
            continue;
        }
        let delivered_at = stream.group().pending().get(&id).map(|p| p.delivered_at);
        if min_idle <= 0 || delivered_at.is_some_and(|at| now - at >= min_idle) {
            stream.group().seen(&consumer, now);
            stream.group().claim(id, &consumer, claim);
            claimed.extend(stream.show(id, just_ids));
        }
    }
    let cursor = next.and_then(|from| stream.pending_from(from));
    Ok(Value::Array(vec![
        cursor.unwrap_or_default().to_value(),
        Value::Array(claimed),
        Value::Array(deleted),
    ]))
}

/// A stream and the name of a group in it, which exists.
struct Open<'s> {
    stream: &'s mut Stream,
    name: Bytes,
    /// Stands in for the group, which nobody can remove meanwhile.
    missing: Group,
}

impl<'s> Open<'s> {
    fn find(state: &'s mut State, key: &[u8], group: &[u8]) -> Result<Option<Self>, ServerError> {
        let stream = state.db.edit::<Stream>(key)?;
        let stream = stream.filter(|stream| stream.groups.contains_key(group));
        Ok(stream.map(|stream| Self {
            stream,
            name: owned(group),
            missing: Group::default(),
        }))
    }

    fn group(&mut self) -> &mut Group {
        match self.stream.groups.get_mut(&self.name) {
            Some(group) => group,
            None => &mut self.missing,
        }
    }

    /// Whether an entry is there; a pending entry that was deleted is dropped.
    fn exists_or_forget(&mut self, id: StreamId) -> bool {
        let exists = self.stream.contains(id);
        if !exists {
            self.group().acknowledge(id);
        }
        exists
    }

    fn pending_from(&mut self, from: StreamId) -> Option<StreamId> {
        let mut pending = self.group().pending().range(from..);
        pending.next().map(|(id, _)| *id)
    }

    fn show(&self, id: StreamId, just_id: bool) -> Option<Value> {
        match just_id {
            true => Some(id.to_value()),
            false => self.stream.show(id),
        }
    }
}
