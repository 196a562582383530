//! Sorted sets by member. Ranges are [`super::sorted_set_ranges`]', several sets at once
//! [`super::sorted_set_algebra`]'s.

use bytes::Bytes;
use redkit_core::{ServerError, Value};

use super::random::{Picks, random_count, random_pairs};
use super::{Spec, int, read, write};
use crate::args::{float, is, owned, positive};
use crate::error::{self, Reply};
use crate::state::{Protocol, State};
use crate::value::sorted_set::SortedSet;

pub(super) const COMMANDS: &[Spec] = &[
    write("ZADD", -4, zadd),
    write("ZINCRBY", 4, zincr_by),
    write("ZREM", -3, zrem),
    read("ZSCORE", 3, zscore),
    read("ZMSCORE", -3, zmscore),
    read("ZCARD", 2, zcard),
    read("ZRANK", 3, |s, a| rank(s, a, false)),
    read("ZREVRANK", 3, |s, a| rank(s, a, true)),
    write("ZPOPMIN", -2, |s, a| zpop(s, a, false)),
    write("ZPOPMAX", -2, |s, a| zpop(s, a, true)),
    write("ZMPOP", -4, zmpop),
    read("ZRANDMEMBER", -2, zrand_member),
];

#[derive(Default)]
struct AddOptions {
    only_new: bool,
    only_present: bool,
    greater: bool,
    less: bool,
    count_changed: bool,
    increment: bool,
}

impl AddOptions {
    /// Reads the options; gives the arguments behind them.
    fn parse<'a, 'b>(mut args: &'a [&'b [u8]]) -> (Self, &'a [&'b [u8]]) {
        let mut options = Self::default();
        while let [option, rest @ ..] = args {
            let flag = if is(option, "NX") {
                &mut options.only_new
            } else if is(option, "XX") {
                &mut options.only_present
            } else if is(option, "GT") {
                &mut options.greater
            } else if is(option, "LT") {
                &mut options.less
            } else if is(option, "CH") {
                &mut options.count_changed
            } else if is(option, "INCR") {
                &mut options.increment
            } else {
                break;
            };
            *flag = true;
            args = rest;
        }
        (options, args)
    }

    fn check(&self, pairs: usize) -> Result<(), ServerError> {
        if self.only_new && self.only_present {
            return Err(error::err(
                "XX and NX options at the same time are not compatible",
            ));
        }
        if self.only_new && (self.greater || self.less) || self.greater && self.less {
            return Err(error::err(
                "GT, LT, and/or NX options at the same time are not compatible",
            ));
        }
        if self.increment && pairs > 1 {
            return Err(error::err(
                "INCR option supports a single increment-element pair",
            ));
        }
        Ok(())
    }
}

/// The outcome for one pair.
enum Added {
    New(f64),
    Updated(f64),
    Same(f64),
    Refused,
}

fn zadd(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, rest @ ..] = args else {
        return Err(error::syntax());
    };
    let (options, pairs) = AddOptions::parse(rest);
    add(state, key, pairs, &options)
}

fn zincr_by(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, pair @ ..] = args else {
        return Err(error::syntax());
    };
    let options = AddOptions {
        increment: true,
        ..AddOptions::default()
    };
    add(state, key, pair, &options)
}

fn add(state: &mut State, key: &[u8], pairs: &[&[u8]], options: &AddOptions) -> Reply {
    let (pairs, []) = pairs.as_chunks::<2>() else {
        return Err(error::syntax());
    };
    if pairs.is_empty() {
        return Err(error::syntax());
    }
    options.check(pairs.len())?;
    let scores = pairs
        .iter()
        .map(|[score, _]| float(score))
        .collect::<Result<Vec<f64>, _>>()?;
    if state.db.view::<SortedSet>(key)?.is_none() && options.only_present {
        return Ok(match options.increment {
            true => Value::Nil,
            false => Value::Int(0),
        });
    }
    let set = state.db.edit_or_new::<SortedSet>(key)?;
    let (mut new, mut updated) = (0, 0);
    let mut result = Ok(None);
    for ([_, member], score) in pairs.iter().zip(scores) {
        match add_one(set, member, score, options) {
            Ok(Added::New(score)) => {
                new += 1;
                result = Ok(Some(score));
            }
            Ok(Added::Updated(score)) => {
                updated += 1;
                result = Ok(Some(score));
            }
            Ok(Added::Same(score)) => result = Ok(Some(score)),
            Ok(Added::Refused) => result = Ok(None),
            Err(refused) => {
                // What was added before stays, as on the server.
                result = Err(refused);
                break;
            }
        }
    }
    if new + updated > 0 {
        state.db.changed(key);
    }
    let last = result?;
    Ok(match (options.increment, options.count_changed) {
        (true, _) => last.map_or(Value::Nil, Value::Double),
        (false, true) => int(new + updated),
        (false, false) => int(new),
    })
}

fn add_one(
    set: &mut SortedSet,
    member: &[u8],
    score: f64,
    options: &AddOptions,
) -> Result<Added, ServerError> {
    let Some(current) = set.score(member) else {
        if options.only_present {
            return Ok(Added::Refused);
        }
        set.insert(owned(member), score);
        return Ok(Added::New(score));
    };
    if options.only_new {
        return Ok(Added::Refused);
    }
    let score = match options.increment {
        true => current + score,
        false => score,
    };
    if score.is_nan() {
        return Err(error::score_nan());
    }
    if (options.less && score >= current) || (options.greater && score <= current) {
        return Ok(Added::Refused);
    }
    if score == current {
        return Ok(Added::Same(score));
    }
    set.insert(owned(member), score);
    Ok(Added::Updated(score))
}

fn zrem(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, members @ ..] = args else {
        return Err(error::syntax());
    };
    let Some(set) = state.db.edit::<SortedSet>(key)? else {
        return Ok(Value::Int(0));
    };
    let removed = members
        .iter()
        .filter(|member| set.remove(member).is_some())
        .count();
    if removed > 0 {
        state.db.shrunk(key);
    }
    Ok(int(removed))
}

fn zscore(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, member] = args else {
        return Err(error::syntax());
    };
    let score = state
        .db
        .view::<SortedSet>(key)?
        .and_then(|set| set.score(member));
    Ok(score.map_or(Value::Nil, Value::Double))
}

fn zmscore(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, members @ ..] = args else {
        return Err(error::syntax());
    };
    let set = state.db.view::<SortedSet>(key)?;
    let scores = members
        .iter()
        .map(|member| set.and_then(|set| set.score(member)))
        .map(|score| score.map_or(Value::Nil, Value::Double));
    Ok(Value::Array(scores.collect()))
}

fn zcard(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key] = args else {
        return Err(error::syntax());
    };
    let set = state.db.view::<SortedSet>(key)?;
    Ok(int(set.map_or(0, SortedSet::len)))
}

fn rank(state: &mut State, args: &[&[u8]], from_top: bool) -> Reply {
    let [key, member] = args else {
        return Err(error::syntax());
    };
    let Some(set) = state.db.view::<SortedSet>(key)? else {
        return Ok(Value::Nil);
    };
    Ok(match set.rank(member) {
        None => Value::Nil,
        Some(rank) if from_top => int(set.len() - 1 - rank),
        Some(rank) => int(rank),
    })
}

fn zpop(state: &mut State, args: &[&[u8]], from_top: bool) -> Reply {
    let (key, count) = match args {
        [key] => (key, None),
        [key, count] => (key, Some(positive(count)?)),
        _ => return Err(error::syntax()),
    };
    let popped = match state.db.edit::<SortedSet>(key)? {
        None => Vec::new(),
        Some(set) => pop_many(set, count.unwrap_or(1), from_top),
    };
    if !popped.is_empty() {
        state.db.shrunk(key);
    }
    let pairs = popped.into_iter().map(scored);
    Ok(match (count, state.protocol) {
        // One member and its score lie flat even in RESP3.
        (None, _) | (_, Protocol::Resp2) => Value::Array(pairs.flat_map(|(a, b)| [a, b]).collect()),
        (Some(_), Protocol::Resp3) => state.pairs(pairs),
    })
}

fn zmpop(state: &mut State, args: &[&[u8]]) -> Reply {
    let (keys, from_top, count) = parse_zmpop(args)?;
    for key in keys {
        if let Some(reply) = pop_from(state, key, from_top, count)? {
            return Ok(reply);
        }
    }
    Ok(Value::Nil)
}

/// `numkeys key [key …] MIN|MAX [COUNT count]`.
pub(super) fn parse_zmpop<'a, 'b>(
    args: &'a [&'b [u8]],
) -> Result<(&'a [&'b [u8]], bool, usize), ServerError> {
    let (keys, rest) = super::counted_keys(args)?;
    let from_top = match rest {
        [end, ..] if is(end, "MIN") => false,
        [end, ..] if is(end, "MAX") => true,
        _ => return Err(error::syntax()),
    };
    let count = super::pop_count(rest.get(1..).unwrap_or_default())?;
    Ok((keys, from_top, count))
}

/// Pops from a key that is not empty; the reply names the key.
pub(super) fn pop_from(
    state: &mut State,
    key: &[u8],
    from_top: bool,
    count: usize,
) -> Result<Option<Value>, ServerError> {
    let pairs = take_from(state, key, from_top, count)?.map(|popped| {
        let pairs = popped
            .into_iter()
            .map(scored)
            .map(|(member, score)| Value::Array(vec![member, score]));
        Value::Array(vec![Value::Bulk(owned(key)), Value::Array(pairs.collect())])
    });
    Ok(pairs)
}

/// Pops from a key that is not empty.
pub(super) fn take_from(
    state: &mut State,
    key: &[u8],
    from_top: bool,
    count: usize,
) -> Result<Option<Vec<(Bytes, f64)>>, ServerError> {
    let Some(set) = state.db.edit::<SortedSet>(key)? else {
        return Ok(None);
    };
    let popped = pop_many(set, count, from_top);
    state.db.shrunk(key);
    Ok(Some(popped))
}

fn pop_many(set: &mut SortedSet, count: usize, from_top: bool) -> Vec<(Bytes, f64)> {
    let own = |(member, score): (&Bytes, f64)| (member.clone(), score);
    let popped: Vec<(Bytes, f64)> = match from_top {
        true => set.iter().rev().take(count).map(own).collect(),
        false => set.iter().take(count).map(own).collect(),
    };
    for (member, _) in &popped {
        set.remove(member);
    }
    popped
}

fn scored((member, score): (Bytes, f64)) -> (Value, Value) {
    (Value::Bulk(member), Value::Double(score))
}

fn zrand_member(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, rest @ ..] = args else {
        return Err(error::syntax());
    };
    let (count, with_scores) = match rest {
        [] => (None, false),
        [count] => (Some(random_count(count)?), false),
        [count, option] if is(option, "WITHSCORES") => (Some(random_pairs(count)?), true),
        _ => return Err(error::syntax()),
    };
    let picked: Vec<(Value, Value)> = match state.db.view::<SortedSet>(key)? {
        None if count.is_none() => return Ok(Value::Nil),
        None => Vec::new(),
        Some(set) => Picks::new(count.unwrap_or(1), set.len())
            .filter_map(|slot| set.at_slot(slot))
            .map(|(member, score)| scored((member.clone(), score)))
            .collect(),
    };
    let mut members = picked.into_iter();
    Ok(match (count, with_scores) {
        (None, _) => members.next().map_or(Value::Nil, |(member, _)| member),
        (Some(_), false) => Value::Array(members.map(|(member, _)| member).collect()),
        (Some(_), true) => state.pairs(members),
    })
}
