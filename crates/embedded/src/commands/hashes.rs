//! Hashes.

use bytes::Bytes;
use redkit_core::Value;

use super::random::{Picks, random_count, random_pairs};
use super::{Spec, int, read, write};
use crate::args::{integer, is, owned, parse_integer};
use crate::error::{self, Reply};
use crate::number::Extended;
use crate::state::State;
use crate::value::Hash;

pub(super) const COMMANDS: &[Spec] = &[
    write("HSET", -4, hset),
    write("HMSET", -4, hmset),
    write("HSETNX", 4, hset_nx),
    read("HGET", 3, hget),
    read("HMGET", -3, hmget),
    read("HGETALL", 2, hget_all),
    write("HDEL", -3, hdel),
    read("HEXISTS", 3, hexists),
    read("HLEN", 2, hlen),
    read("HSTRLEN", 3, hstrlen),
    read("HKEYS", 2, hkeys),
    read("HVALS", 2, hvals),
    write("HINCRBY", 4, hincr_by),
    write("HINCRBYFLOAT", 4, hincr_by_float),
    read("HRANDFIELD", -2, hrand_field),
];

fn hset(state: &mut State, args: &[&[u8]]) -> Reply {
    set_fields(state, args, "hset").map(int)
}

fn hmset(state: &mut State, args: &[&[u8]]) -> Reply {
    set_fields(state, args, "hmset")?;
    Ok(Value::Ok)
}

/// Gives the number of fields that are new.
fn set_fields(
    state: &mut State,
    args: &[&[u8]],
    command: &str,
) -> Result<usize, redkit_core::ServerError> {
    let [key, fields @ ..] = args else {
        return Err(error::syntax());
    };
    let (pairs, []) = fields.as_chunks::<2>() else {
        return Err(error::arity(command));
    };
    let hash = state.db.edit_or_new::<Hash>(key)?;
    let expiring = hash.next_expiry().is_some();
    let added = pairs
        .iter()
        .filter(|[field, value]| hash.set(field, owned(value)))
        .count();
    if expiring {
        state.db.fields_changed(key);
    }
    state.db.changed(key);
    Ok(added)
}

fn hset_nx(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, field, value] = args else {
        return Err(error::syntax());
    };
    let hash = state.db.edit_or_new::<Hash>(key)?;
    if hash.contains(field) {
        return Ok(Value::Int(0));
    }
    hash.set(field, owned(value));
    state.db.changed(key);
    Ok(Value::Int(1))
}

fn hget(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, field] = args else {
        return Err(error::syntax());
    };
    Ok(bulk(lookup(state, key, field)?))
}

fn lookup<'s>(
    state: &'s mut State,
    key: &[u8],
    field: &[u8],
) -> Result<Option<&'s Bytes>, redkit_core::ServerError> {
    Ok(state.db.view::<Hash>(key)?.and_then(|hash| hash.get(field)))
}

fn bulk(value: Option<&Bytes>) -> Value {
    value.map_or(Value::Nil, |value| Value::Bulk(value.clone()))
}

fn hmget(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, fields @ ..] = args else {
        return Err(error::syntax());
    };
    let hash = state.db.view::<Hash>(key)?;
    let values = fields
        .iter()
        .map(|field| bulk(hash.and_then(|hash| hash.get(field))));
    Ok(Value::Array(values.collect()))
}

fn hget_all(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key] = args else {
        return Err(error::syntax());
    };
    let hash = state.db.view::<Hash>(key)?;
    let pairs = hash.into_iter().flat_map(Hash::iter);
    Ok(Value::Map(
        pairs
            .map(|(f, v)| (Value::Bulk(f.clone()), Value::Bulk(v.clone())))
            .collect(),
    ))
}

fn hdel(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, fields @ ..] = args else {
        return Err(error::syntax());
    };
    let Some(hash) = state.db.edit::<Hash>(key)? else {
        return Ok(Value::Int(0));
    };
    let expiring = hash.next_expiry().is_some();
    let removed = fields
        .iter()
        .filter(|field| hash.remove(field).is_some())
        .count();
    if removed > 0 {
        if expiring {
            state.db.fields_changed(key);
        }
        state.db.shrunk(key);
    }
    Ok(int(removed))
}

fn hexists(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, field] = args else {
        return Err(error::syntax());
    };
    Ok(Value::Int(lookup(state, key, field)?.is_some().into()))
}

fn hlen(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key] = args else {
        return Err(error::syntax());
    };
    Ok(int(state.db.view::<Hash>(key)?.map_or(0, Hash::len)))
}

fn hstrlen(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, field] = args else {
        return Err(error::syntax());
    };
    Ok(int(lookup(state, key, field)?.map_or(0, Bytes::len)))
}

fn hkeys(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key] = args else {
        return Err(error::syntax());
    };
    let hash = state.db.view::<Hash>(key)?;
    let fields = hash.into_iter().flat_map(Hash::iter);
    let fields = fields.map(|(field, _)| field);
    Ok(Value::Array(fields.cloned().map(Value::Bulk).collect()))
}

fn hvals(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key] = args else {
        return Err(error::syntax());
    };
    let hash = state.db.view::<Hash>(key)?;
    let values = hash.into_iter().flat_map(Hash::iter);
    let values = values.map(|(_, value)| value);
    Ok(Value::Array(values.cloned().map(Value::Bulk).collect()))
}

fn hincr_by(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, field, amount] = args else {
        return Err(error::syntax());
    };
    let amount = integer(amount)?;
    let current = match lookup(state, key, field)? {
        Some(value) => {
            parse_integer(value).ok_or_else(|| error::err("hash value is not an integer"))?
        }
        None => 0,
    };
    let sum = current.checked_add(amount).ok_or_else(error::overflow)?;
    let hash = state.db.edit_or_new::<Hash>(key)?;
    hash.set_keeping_expiry(field, Bytes::from(sum.to_string()));
    state.db.changed(key);
    Ok(Value::Int(sum))
}

fn hincr_by_float(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, field, amount] = args else {
        return Err(error::syntax());
    };
    let amount = Extended::parse(amount).ok_or_else(error::not_float)?;
    if amount.is_infinite() {
        return Err(error::err("value is NaN or Infinity"));
    }
    let current = lookup(state, key, field)?;
    let current = Extended::parse(current.map_or(b"0", |value| value.as_ref()))
        .ok_or_else(|| error::err("hash value is not a float"))?;
    let sum = current
        .add(&amount)
        .ok_or_else(|| error::err("increment would produce NaN or Infinity"))?;
    let text = Bytes::from(sum.to_text());
    let hash = state.db.edit_or_new::<Hash>(key)?;
    hash.set_keeping_expiry(field, text.clone());
    state.db.changed(key);
    Ok(Value::Bulk(text))
}

fn hrand_field(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, rest @ ..] = args else {
        return Err(error::syntax());
    };
    let (count, with_values) = match rest {
        [] => (None, false),
        [count] => (Some(random_count(count)?), false),
        [count, option] if is(option, "WITHVALUES") => (Some(random_pairs(count)?), true),
        _ => return Err(error::syntax()),
    };
    // A copy of the picked fields, because the reply's shape depends on the rest of the state.
    let picked: Vec<(Value, Value)> = match state.db.view::<Hash>(key)? {
        None if count.is_none() => return Ok(Value::Nil),
        None => Vec::new(),
        Some(hash) => Picks::new(count.unwrap_or(1), hash.len())
            .filter_map(|slot| hash.at_slot(slot))
            .map(|(f, v)| (Value::Bulk(f.clone()), Value::Bulk(v.clone())))
            .collect(),
    };
    let mut fields = picked.into_iter();
    Ok(match (count, with_values) {
        (None, _) => fields.next().map_or(Value::Nil, |(field, _)| field),
        (Some(_), false) => Value::Array(fields.map(|(field, _)| field).collect()),
        (Some(_), true) => state.pairs(fields),
    })
}
