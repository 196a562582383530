//! Counters: strings that are numbers.

use bytes::Bytes;
use redkit_core::{ServerError, Value};

use super::{Spec, write};
use crate::args::{integer, parse_integer};
use crate::error::{self, Reply};
use crate::number::Extended;
use crate::state::State;

pub(super) const COMMANDS: &[Spec] = &[
    write("INCR", 2, incr),
    write("DECR", 2, decr),
    write("INCRBY", 3, incr_by),
    write("DECRBY", 3, decr_by),
    write("INCRBYFLOAT", 3, incr_by_float),
];

fn incr(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key] = args else {
        return Err(error::syntax());
    };
    add(state, key, 1)
}

fn decr(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key] = args else {
        return Err(error::syntax());
    };
    add(state, key, -1)
}

fn incr_by(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, amount] = args else {
        return Err(error::syntax());
    };
    add(state, key, integer(amount)?)
}

fn decr_by(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, amount] = args else {
        return Err(error::syntax());
    };
    let amount = integer(amount)?
        .checked_neg()
        .ok_or_else(|| error::err("decrement would overflow"))?;
    add(state, key, amount)
}

fn add(state: &mut State, key: &[u8], amount: i64) -> Reply {
    let current = match state.db.view::<Bytes>(key)? {
        Some(value) => parse_integer(value).ok_or_else(error::not_integer)?,
        None => 0,
    };
    let sum = current.checked_add(amount).ok_or_else(error::overflow)?;
    store(state, key, Bytes::from(sum.to_string()))?;
    Ok(Value::Int(sum))
}

fn incr_by_float(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, amount] = args else {
        return Err(error::syntax());
    };
    let current = state.db.view::<Bytes>(key)?;
    let current = Extended::parse(current.map_or(b"0", |value| value.as_ref()))
        .ok_or_else(error::not_float)?;
    let amount = Extended::parse(amount).ok_or_else(error::not_float)?;
    let sum = current
        .add(&amount)
        .ok_or_else(|| error::err("increment would produce NaN or Infinity"))?;
    let text = Bytes::from(sum.to_text());
    store(state, key, text.clone())?;
    Ok(Value::Bulk(text))
}

/// Replaces the number and keeps the key's expiry.
fn store(state: &mut State, key: &[u8], text: Bytes) -> Result<(), ServerError> {
    *state.db.edit_or_new::<Bytes>(key)? = text;
    state.db.changed(key);
    Ok(())
}
