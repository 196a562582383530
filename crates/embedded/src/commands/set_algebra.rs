//! Unions, intersections and differences of sets.

use redkit_core::{ServerError, Value};

use super::{Spec, int, read, write};
use crate::args::{is, parse_integer};
use crate::error::{self, Reply};
use crate::state::State;
use crate::value::Set;

pub(super) const COMMANDS: &[Spec] = &[
    read("SUNION", -2, |s, a| show(s, a, union)),
    read("SINTER", -2, |s, a| show(s, a, intersection)),
    read("SDIFF", -2, |s, a| show(s, a, difference)),
    write("SUNIONSTORE", -3, |s, a| store(s, a, union)),
    write("SINTERSTORE", -3, |s, a| store(s, a, intersection)),
    write("SDIFFSTORE", -3, |s, a| store(s, a, difference)),
    read("SINTERCARD", -3, sinter_card),
];

type Combine = fn(&mut State, &[&[u8]]) -> Result<Set, ServerError>;

fn show(state: &mut State, keys: &[&[u8]], combine: Combine) -> Reply {
    let members = combine(state, keys)?;
    Ok(Value::Set(members.into_iter().map(Value::Bulk).collect()))
}

fn store(state: &mut State, args: &[&[u8]], combine: Combine) -> Reply {
    let [target, keys @ ..] = args else {
        return Err(error::syntax());
    };
    let members = combine(state, keys)?;
    let len = members.len();
    match len {
        0 => {
            state.db.remove(target);
        }
        _ => state.db.put(target, members),
    }
    Ok(int(len))
}

fn union(state: &mut State, keys: &[&[u8]]) -> Result<Set, ServerError> {
    let mut all = Set::new();
    for key in keys {
        all.extend(state.db.view::<Set>(key)?.into_iter().flatten().cloned());
    }
    Ok(all)
}

fn difference(state: &mut State, keys: &[&[u8]]) -> Result<Set, ServerError> {
    let mut keys = keys.iter();
    let first = keys.next().copied().unwrap_or_default();
    let mut left = state.db.view::<Set>(first)?.cloned().unwrap_or_default();
    for key in keys {
        if let Some(set) = state.db.view::<Set>(key)? {
            left.retain(|member| !set.contains(member));
        }
    }
    Ok(left)
}

fn intersection(state: &mut State, keys: &[&[u8]]) -> Result<Set, ServerError> {
    let mut smallest: Option<(usize, &[u8])> = None;
    for &key in keys {
        let len = state.db.view::<Set>(key)?.map_or(0, Set::len);
        if smallest.is_none_or(|(least, _)| len < least) {
            smallest = Some((len, key));
        }
    }
    let smallest = smallest.map(|(_, key)| key).unwrap_or_default();
    let mut common = state.db.view::<Set>(smallest)?.cloned().unwrap_or_default();
    for key in keys {
        match state.db.view::<Set>(key)? {
            Some(set) => common.retain(|member| set.contains(member)),
            None => common.clear(),
        }
    }
    Ok(common)
}

fn sinter_card(state: &mut State, args: &[&[u8]]) -> Reply {
    let (number, rest) = args.split_first().ok_or_else(error::syntax)?;
    let number = parse_integer(number)
        .filter(|&n| n > 0)
        .and_then(|n| usize::try_from(n).ok())
        .ok_or_else(|| error::err("numkeys should be greater than 0"))?;
    let (keys, rest) = rest
        .split_at_checked(number)
        .ok_or_else(|| error::err("Number of keys can't be greater than number of args"))?;
    let limit = limit(rest)?;
    let common = intersection(state, keys)?.len();
    Ok(int(common.min(limit)))
}

/// `[LIMIT limit]`, of which zero is none.
pub(super) fn limit(args: &[&[u8]]) -> Result<usize, ServerError> {
    let mut limit = 0;
    let (options, []) = args.as_chunks::<2>() else {
        return Err(error::syntax());
    };
    for [option, amount] in options {
        if !is(option, "LIMIT") {
            return Err(error::syntax());
        }
        limit = parse_integer(amount)
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| error::err("LIMIT can't be negative"))?;
    }
    Ok(if limit == 0 { usize::MAX } else { limit })
}
