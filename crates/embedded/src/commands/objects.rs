//! Facts about a value beside its content: `OBJECT` and `MEMORY`.

use redkit_core::Value;

use super::{Spec, int, read};
use crate::args::{integer, is};
use crate::error::{self, Reply};
use crate::state::State;

pub(super) const COMMANDS: &[Spec] = &[
    read("OBJECT", -2, object).with(&[
        ("ENCODING", 3),
        ("IDLETIME", 3),
        ("FREQ", 3),
        ("REFCOUNT", 3),
    ]),
    read("MEMORY", -2, memory).with(&[("USAGE", -3)]),
];

fn object(state: &mut State, args: &[&[u8]]) -> Reply {
    let [subcommand, key] = args else {
        return Err(error::syntax());
    };
    let Some(object) = state.db.peek(key) else {
        return Ok(Value::Nil);
    };
    if is(subcommand, "ENCODING") {
        return Ok(Value::bulk(object.data.encoding()));
    }
    if is(subcommand, "IDLETIME") {
        return Ok(Value::Int(object.idle_millis / 1_000));
    }
    if is(subcommand, "REFCOUNT") {
        return Ok(Value::Int(1));
    }
    Err(error::err(
        "An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
    ))
}

fn memory(state: &mut State, args: &[&[u8]]) -> Reply {
    let key = match args {
        [_, key] => key,
        [_, key, option, samples] if is(option, "SAMPLES") => {
            if integer(samples)? < 0 {
                return Err(error::syntax());
            }
            key
        }
        _ => return Err(error::syntax()),
    };
    let object = state.db.peek(key);
    Ok(object.map_or(Value::Nil, |object| {
        int(key.len() + object.data.weight() + crate::keyspace::ENTRY_BYTES)
    }))
}
