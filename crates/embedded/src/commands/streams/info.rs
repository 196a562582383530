//! `XINFO`.

use redkit_core::{ServerError, Value};

use super::super::{Spec, int, read};
use super::groups::no_such_group;
use crate::args::{integer, is};
use crate::error::{self, Reply};
use crate::state::State;
use crate::value::stream::Stream;
use crate::value::stream::group::{Consumer, Group, Pending};
use crate::value::stream::id::StreamId;

pub(super) const COMMANDS: &[Spec] =
    &[read("XINFO", -2, xinfo).with(&[("STREAM", -3), ("GROUPS", 3), ("CONSUMERS", 4)])];

/// Entries of each list in the full form when nothing is said.
const COUNT: usize = 10;

fn xinfo(state: &mut State, args: &[&[u8]]) -> Reply {
    let [subcommand, key, rest @ ..] = args else {
        return Err(error::syntax());
    };
    let now = state.db.now();
    let stream = state.db.view::<Stream>(key)?;
    let stream = stream.ok_or_else(error::no_such_key)?;
    match rest {
        [] if is(subcommand, "GROUPS") => Ok(groups(stream)),
        [group] if is(subcommand, "CONSUMERS") => stream
            .groups
            .get(*group)
            .map(|group| consumers(group, now))
            .ok_or_else(|| no_such_group(key, group)),
        options if is(subcommand, "STREAM") => match full(options, subcommand)? {
            None => Ok(overview(stream)),
            Some(count) => Ok(in_full(stream, count)),
        },
        _ => Err(error::subcommand_syntax("xinfo", subcommand)),
    }
}

/// Of `FULL [COUNT count]` the count, if it is there.
fn full(options: &[&[u8]], subcommand: &[u8]) -> Result<Option<usize>, ServerError> {
    match options {
        [] => Ok(None),
        [full] if is(full, "FULL") => Ok(Some(COUNT)),
        [full, option, count] if is(full, "FULL") && is(option, "COUNT") => {
            Ok(Some(match usize::try_from(integer(count)?) {
                Err(_) => COUNT,
                Ok(0) => usize::MAX,
                Ok(count) => count,
            }))
        }
        _ => Err(error::subcommand_syntax("xinfo", subcommand)),
    }
}

fn name(text: &'static str) -> Value {
    Value::bulk(text)
}

fn number(count: u64) -> Value {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

/// What both forms begin with.
fn head(stream: &Stream) -> Vec<(Value, Value)> {
    vec![
        (name("length"), int(stream.len())),
        (name("radix-tree-keys"), int(stream.nodes())),
        // There is no such tree; it has a root at least.
        (name("radix-tree-nodes"), int(stream.nodes() + 1)),
        (name("last-generated-id"), stream.last_id().to_value()),
        (
            name("max-deleted-entry-id"),
            stream.max_deleted_id().to_value(),
        ),
        (name("entries-added"), number(stream.added())),
        (
            name("recorded-first-entry-id"),
            stream.first_id().to_value(),
        ),
    ]
}

fn overview(stream: &Stream) -> Value {
    let mut pairs = head(stream);
    let entry = |entry: Option<Value>| entry.unwrap_or_default();
    pairs.push((name("groups"), int(stream.groups.len())));
    let mut entries = stream.range(StreamId::MIN, StreamId::MAX);
    let first = entries.next();
    let last = entries.next_back().or_else(|| first.clone());
    pairs.push((name("first-entry"), entry(first)));
    pairs.push((name("last-entry"), entry(last)));
    Value::Map(pairs)
}

fn in_full(stream: &Stream, count: usize) -> Value {
    let mut pairs = head(stream);
    let entries = stream.range(StreamId::MIN, StreamId::MAX).take(count);
    pairs.push((name("entries"), Value::Array(entries.collect())));
    let groups = stream.groups.iter().map(|(group_name, group)| {
        let pending = group.pending().iter().take(count);
        let pending = pending.map(|(id, entry)| {
            let [at, deliveries] = delivery(entry);
            let consumer = Value::Bulk(entry.consumer.clone());
            Value::Array(vec![id.to_value(), consumer, at, deliveries])
        });
        let consumers = group.consumers().iter().map(|(consumer_name, consumer)| {
            Value::Map(vec![
                (name("name"), Value::Bulk(consumer_name.clone())),
                (name("seen-time"), Value::Int(consumer.seen_at)),
                (name("pel-count"), int(consumer.pending.len())),
                (name("pending"), pending_of(group, consumer, count)),
            ])
        });
        Value::Map(vec![
            (name("name"), Value::Bulk(group_name.clone())),
            (name("last-delivered-id"), group.last_id.to_value()),
            (
                name("entries-read"),
                group.entries_read.map_or(Value::Nil, number),
            ),
            (name("lag"), lag(stream, group)),
            (name("pel-count"), int(group.pending().len())),
            (name("pending"), Value::Array(pending.collect())),
            (name("consumers"), Value::Array(consumers.collect())),
        ])
    });
    pairs.push((name("groups"), Value::Array(groups.collect())));
    Value::Map(pairs)
}

fn delivery(entry: &Pending) -> [Value; 2] {
    [Value::Int(entry.delivered_at), number(entry.deliveries)]
}

fn pending_of(group: &Group, consumer: &Consumer, count: usize) -> Value {
    let rows = consumer.pending.iter().take(count).filter_map(|id| {
        let [at, deliveries] = delivery(group.pending().get(id)?);
        Some(Value::Array(vec![id.to_value(), at, deliveries]))
    });
    Value::Array(rows.collect())
}

fn lag(stream: &Stream, group: &Group) -> Value {
    group.lag(stream.progress()).map_or(Value::Nil, Value::Int)
}

fn groups(stream: &Stream) -> Value {
    let groups = stream.groups.iter().map(|(group_name, group)| {
        Value::Map(vec![
            (name("name"), Value::Bulk(group_name.clone())),
            (name("consumers"), int(group.consumers().len())),
            (name("pending"), int(group.pending().len())),
            (name("last-delivered-id"), group.last_id.to_value()),
            (
                name("entries-read"),
                group.entries_read.map_or(Value::Nil, number),
            ),
            (name("lag"), lag(stream, group)),
        ])
    });
    Value::Array(groups.collect())
}

fn consumers(group: &Group, now: i64) -> Value {
    let consumers = group.consumers().iter().map(|(consumer_name, consumer)| {
        Value::Map(vec![
            (name("name"), Value::Bulk(consumer_name.clone())),
            (name("pending"), int(consumer.pending.len())),
            (name("idle"), Value::Int((now - consumer.seen_at).max(0))),
        ])
    });
    Value::Array(consumers.collect())
}
