//! Keys of any type.

use redkit_core::{ServerError, Value};

use super::{Spec, int, read, write};
use crate::args::{integer, is};
use crate::error::{self, Reply};
use crate::glob;
use crate::state::State;

pub(super) const COMMANDS: &[Spec] = &[
    write("DEL", -2, del),
    write("UNLINK", -2, del),
    read("EXISTS", -2, exists),
    read("TOUCH", -2, touch),
    read("TYPE", 2, type_of),
    write("RENAME", 3, rename),
    write("RENAMENX", 3, rename_nx),
    write("COPY", -3, copy),
    read("RANDOMKEY", 1, random_key),
    read("DBSIZE", 1, db_size),
    read("KEYS", 2, keys),
    write("FLUSHDB", -1, flush),
    write("FLUSHALL", -1, flush),
];

fn del(state: &mut State, args: &[&[u8]]) -> Reply {
    let removed = args.iter().filter(|key| state.db.remove(key).is_some());
    Ok(int(removed.count()))
}

fn exists(state: &mut State, args: &[&[u8]]) -> Reply {
    let present = args.iter().filter(|key| state.db.peek(key).is_some());
    Ok(int(present.count()))
}

fn touch(state: &mut State, args: &[&[u8]]) -> Reply {
    let present = args.iter().filter(|key| state.db.contains(key));
    Ok(int(present.count()))
}

fn type_of(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key] = args else {
        return Err(error::syntax());
    };
    let object = state.db.peek(key);
    let name = object.map_or("none", |object| object.data.type_name());
    Ok(Value::status(name))
}

fn rename(state: &mut State, args: &[&[u8]]) -> Reply {
    let [from, to] = args else {
        return Err(error::syntax());
    };
    move_key(state, from, to)?;
    Ok(Value::Ok)
}

fn rename_nx(state: &mut State, args: &[&[u8]]) -> Reply {
    let [from, to] = args else {
        return Err(error::syntax());
    };
    if !state.db.contains(from) {
        return Err(error::no_such_key());
    }
    if from == to || state.db.contains(to) {
        return Ok(Value::Int(0));
    }
    move_key(state, from, to)?;
    Ok(Value::Int(1))
}

fn move_key(state: &mut State, from: &[u8], to: &[u8]) -> Result<(), ServerError> {
    if from == to {
        return match state.db.contains(from) {
            true => Ok(()),
            false => Err(error::no_such_key()),
        };
    }
    let (data, expires) = state.db.take(from).ok_or_else(error::no_such_key)?;
    state.db.put_expiring(to, data, expires);
    Ok(())
}

fn copy(state: &mut State, args: &[&[u8]]) -> Reply {
    let [from, to, rest @ ..] = args else {
        return Err(error::syntax());
    };
    let mut replace = false;
    let mut rest = rest.iter();
    while let Some(option) = rest.next() {
        if is(option, "REPLACE") {
            replace = true;
        } else if is(option, "DB")
            && let Some(index) = rest.next()
        {
            if integer(index)? != 0 {
                return Err(error::err("DB index is out of range"));
            }
        } else {
            return Err(error::syntax());
        }
    }
    if from == to {
        return Err(error::err("source and destination objects are the same"));
    }
    let expires = state.db.expiry(from).flatten();
    let Some(data) = state.db.data(from).cloned() else {
        return Ok(Value::Int(0));
    };
    if !replace && state.db.contains(to) {
        return Ok(Value::Int(0));
    }
    state.db.put_expiring(to, data, expires);
    Ok(Value::Int(1))
}

fn random_key(state: &mut State, _: &[&[u8]]) -> Reply {
    let key = state.db.random();
    Ok(key.map_or(Value::Nil, |key| Value::Bulk(key.clone())))
}

fn db_size(state: &mut State, _: &[&[u8]]) -> Reply {
    Ok(int(state.db.len()))
}

fn keys(state: &mut State, args: &[&[u8]]) -> Reply {
    let [pattern] = args else {
        return Err(error::syntax());
    };
    let len = state.db.len();
    let found = (0..len)
        .filter_map(|slot| state.db.at_slot(slot))
        .filter(|(key, _)| glob::matches(pattern, key))
        .map(|(key, _)| Value::Bulk(key.clone()));
    Ok(Value::Array(found.collect()))
}

fn flush(state: &mut State, args: &[&[u8]]) -> Reply {
    match args {
        [] => {}
        [mode] if is(mode, "SYNC") || is(mode, "ASYNC") => {}
        _ => return Err(error::syntax()),
    }
    state.db.clear();
    Ok(Value::Ok)
}
