//! Pops that wait: from lists and from sorted sets.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::{ServerError, Value};

use super::lists::{self, End, move_item};
use super::{Spec, blocking, sorted_sets};
use crate::args::{owned, parse_integer};
use crate::blocking::{Attempt, Serve, Wait};
use crate::error;
use crate::number::Extended;
use crate::state::State;
use crate::value::sorted_set::SortedSet;
use crate::value::{Kind, List};

pub(super) const COMMANDS: &[Spec] = &[
    blocking("BLPOP", -3, |s, a| pop(s, a, End::Left)),
    blocking("BRPOP", -3, |s, a| pop(s, a, End::Right)),
    blocking("BLMOVE", 6, blmove),
    blocking("BRPOPLPUSH", 4, brpop_lpush),
    blocking("BLMPOP", -5, blmpop),
    blocking("BZPOPMIN", -3, |s, a| zpop(s, a, false)),
    blocking("BZPOPMAX", -3, |s, a| zpop(s, a, true)),
    blocking("BZMPOP", -5, bzmpop),
];

type Attempted = Result<Attempt, ServerError>;

fn pop(state: &mut State, args: &[&[u8]], end: End) -> Attempted {
    let (timeout, keys) = args.split_last().ok_or_else(error::syntax)?;
    let timeout = seconds(timeout)?;
    attempt::<List>(
        state,
        keys,
        timeout,
        Box::new(move |state, key| {
            let popped = lists::pop_from(state, key, end, 1).ok()??;
            Some(Ok(flat(popped)))
        }),
    )
}

/// `[key, item]` from `[key, [item]]`.
fn flat(popped: Value) -> Value {
    match popped {
        Value::Array(mut pair) => {
            if let Some(Value::Array(items)) = pair.pop() {
                pair.extend(items);
            }
            Value::Array(pair)
        }
        other => other,
    }
}

fn blmpop(state: &mut State, args: &[&[u8]]) -> Attempted {
    let (timeout, rest) = args.split_first().ok_or_else(error::syntax)?;
    let timeout = seconds(timeout)?;
    let (keys, end, count) = lists::parse_lmpop(rest)?;
    attempt::<List>(
        state,
        keys,
        timeout,
        Box::new(move |state, key| lists::pop_from(state, key, end, count).ok()?.map(Ok)),
    )
}

fn blmove(state: &mut State, args: &[&[u8]]) -> Attempted {
    let [source, target, from, to, timeout] = args else {
        return Err(error::syntax());
    };
    let (from, to) = (End::parse(from)?, End::parse(to)?);
    moved(state, source, target, (from, to), seconds(timeout)?)
}

fn brpop_lpush(state: &mut State, args: &[&[u8]]) -> Attempted {
    let [source, target, timeout] = args else {
        return Err(error::syntax());
    };
    let ends = (End::Right, End::Left);
    moved(state, source, target, ends, seconds(timeout)?)
}

fn moved(
    state: &mut State,
    source: &[u8],
    target: &[u8],
    (from, to): (End, End),
    timeout: Option<Duration>,
) -> Attempted {
    let target = owned(target);
    attempt::<List>(
        state,
        &[source],
        timeout,
        Box::new(move |state, source| {
            // The target may have another type: that ends the waiting, and nothing is taken.
            state.db.view::<List>(source).ok()??;
            Some(move_item(state, source, &target, from, to))
        }),
    )
}

fn zpop(state: &mut State, args: &[&[u8]], from_top: bool) -> Attempted {
    let (timeout, keys) = args.split_last().ok_or_else(error::syntax)?;
    let timeout = seconds(timeout)?;
    attempt::<SortedSet>(
        state,
        keys,
        timeout,
        Box::new(move |state, key| {
            let popped = sorted_sets::take_from(state, key, from_top, 1).ok()??;
            let (member, score) = popped.into_iter().next()?;
            Some(Ok(Value::Array(vec![
                Value::Bulk(owned(key)),
                Value::Bulk(member),
                Value::Double(score),
            ])))
        }),
    )
}

fn bzmpop(state: &mut State, args: &[&[u8]]) -> Attempted {
    let (timeout, rest) = args.split_first().ok_or_else(error::syntax)?;
    let timeout = seconds(timeout)?;
    let (keys, from_top, count) = sorted_sets::parse_zmpop(rest)?;
    attempt::<SortedSet>(
        state,
        keys,
        timeout,
        Box::new(move |state, key| {
            sorted_sets::pop_from(state, key, from_top, count)
                .ok()?
                .map(Ok)
        }),
    )
}

/// Serves from the first key that has something. Keys of another type are refused now, and passed
/// over while waiting.
fn attempt<K: Kind>(
    state: &mut State,
    keys: &[&[u8]],
    timeout: Option<Duration>,
    serve: Serve,
) -> Attempted {
    for key in keys {
        if state.db.view::<K>(key)?.is_some()
            && let Some(reply) = serve(state, key)
        {
            return Ok(Attempt::Done(reply));
        }
    }
    Ok(Attempt::Wait(Wait {
        keys: keys.iter().map(|key| owned(key)).collect::<Vec<Bytes>>(),
        timeout,
        serve,
        hears_of_absence: false,
    }))
}

/// A timeout in seconds, which may be a fraction; 0 is for ever.
fn seconds(arg: &[u8]) -> Result<Option<Duration>, ServerError> {
    let out_of_range = || error::err("timeout is out of range");
    let number =
        Extended::parse(arg).ok_or_else(|| error::err("timeout is not a float or out of range"))?;
    let Extended::Finite(number) = number else {
        return Err(match arg.first() {
            Some(b'-') => error::err("timeout is negative"),
            _ => out_of_range(),
        });
    };
    let seconds: f64 = number.to_text().parse().map_err(|_| out_of_range())?;
    // What lies between two milliseconds is rounded up, so that no wait becomes one for ever.
    let millis = (seconds * 1_000.0).ceil();
    #[expect(clippy::cast_precision_loss, reason = "the bound is a power of two")]
    let limit = i64::MAX as f64;
    if millis > limit {
        return Err(out_of_range());
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    let millis = millis as i64;
    wait_of(millis)
}

/// A timeout in milliseconds; 0 is for ever.
pub(super) fn milliseconds(arg: &[u8]) -> Result<Option<Duration>, ServerError> {
    let millis = parse_integer(arg)
        .ok_or_else(|| error::err("timeout is not an integer or out of range"))?;
    wait_of(millis)
}

/// Beyond this the server's clock would overflow.
const LONGEST: i64 = i64::MAX - 4_102_444_800_000;

fn wait_of(millis: i64) -> Result<Option<Duration>, ServerError> {
    match u64::try_from(millis) {
        Err(_) => Err(error::err("timeout is negative")),
        Ok(0) => Ok(None),
        Ok(_) if millis > LONGEST => Err(error::err("timeout is out of range")),
        Ok(millis) => Ok(Some(Duration::from_millis(millis))),
    }
}
