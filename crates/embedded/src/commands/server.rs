//! The engine itself: `PING`, `TIME` and the other commands about the server.

use redkit_core::Value;

use super::{Spec, int, outside_scripts, read};
use crate::args::{integer, is, owned, parse_integer};
use crate::error::{self, Reply};
use crate::state::State;

pub(super) const COMMANDS: &[Spec] = &[
    read("PING", -1, ping),
    read("ECHO", 2, echo),
    read("TIME", 1, time),
    read("SELECT", 2, select),
    outside_scripts("ROLE", 1, role),
    outside_scripts("WAIT", 3, wait),
    read("SLOWLOG", -2, slow_log).with(&[("GET", -2), ("LEN", 2), ("RESET", 2)]),
    outside_scripts("CONFIG", -2, config).with(&[("GET", -3), ("SET", -4), ("RESETSTAT", 2)]),
    read("COMMAND", -1, command).with(&[("COUNT", 2), ("LIST", -2)]),
];

fn ping(_: &mut State, args: &[&[u8]]) -> Reply {
    match args {
        [] => Ok(Value::status("PONG")),
        [message] => Ok(Value::Bulk(owned(message))),
        _ => Err(error::arity("ping")),
    }
}

fn echo(_: &mut State, args: &[&[u8]]) -> Reply {
    let [message] = args else {
        return Err(error::syntax());
    };
    Ok(Value::Bulk(owned(message)))
}

fn time(state: &mut State, _: &[&[u8]]) -> Reply {
    let micros = state.micros();
    let part = |number: i64| Value::bulk(number.to_string());
    Ok(Value::Array(vec![
        part(micros / 1_000_000),
        part(micros % 1_000_000),
    ]))
}

/// There is one database.
fn select(_: &mut State, args: &[&[u8]]) -> Reply {
    let [index] = args else {
        return Err(error::syntax());
    };
    match integer(index)? {
        0 => Ok(Value::Ok),
        _ => Err(error::err("DB index is out of range")),
    }
}

/// There is no other server.
fn role(_: &mut State, _: &[&[u8]]) -> Reply {
    Ok(Value::Array(vec![
        Value::bulk("master"),
        Value::Int(0),
        Value::Array(Vec::new()),
    ]))
}

/// There are no replicas to wait for.
fn wait(_: &mut State, args: &[&[u8]]) -> Reply {
    let [replicas, timeout] = args else {
        return Err(error::syntax());
    };
    integer(replicas)?;
    super::blocking_pops::milliseconds(timeout)?;
    Ok(Value::Int(0))
}

fn slow_log(state: &mut State, args: &[&[u8]]) -> Reply {
    match args {
        [name] if is(name, "LEN") => Ok(int(state.slow_log.len())),
        [name] if is(name, "RESET") => {
            state.slow_log.clear();
            Ok(Value::Ok)
        }
        [name] if is(name, "GET") => Ok(state.slow_log.show(10)),
        [name, count] if is(name, "GET") => {
            let count = match parse_integer(count) {
                Some(-1) => Some(usize::MAX),
                count => count.and_then(|count| usize::try_from(count).ok()),
            };
            let count =
                count.ok_or_else(|| error::err("count should be greater than or equal to -1"))?;
            Ok(state.slow_log.show(count))
        }
        [name, ..] => Err(error::subcommand_syntax("slowlog", name)),
        [] => Err(error::syntax()),
    }
}

/// The engine has no settings: none is ever found.
fn config(state: &mut State, args: &[&[u8]]) -> Reply {
    match args {
        [name, _, ..] if is(name, "GET") => Ok(Value::Map(Vec::new())),
        [name] if is(name, "RESETSTAT") => {
            state.command_stats.reset();
            state.db.lookups = Default::default();
            Ok(Value::Ok)
        }
        [name, option, _, ..] if is(name, "SET") => Err(error::err(format!(
            "Unknown option or number of arguments for CONFIG SET - '{}'",
            String::from_utf8_lossy(option)
        ))),
        _ => Err(error::syntax()),
    }
}

fn command(_: &mut State, args: &[&[u8]]) -> Reply {
    match args {
        [name] if is(name, "COUNT") => Ok(int(super::all().count())),
        [name] if is(name, "LIST") => {
            let names = super::all().flat_map(Spec::names);
            Ok(Value::Array(names.map(Value::bulk).collect()))
        }
        _ => Err(error::err(
            "COMMAND without a subcommand is not available in the embedded engine",
        )),
    }
}
