//! The engine itself: `PING`, `TIME`, `INFO` and what else asks about the server.

use redkit_core::Value;

use super::{Spec, int, read};
use crate::args::{integer, is, owned};
use crate::error::{self, Reply};
use crate::state::State;

pub(super) const COMMANDS: &[Spec] = &[
    read("PING", -1, ping),
    read("ECHO", 2, echo),
    read("TIME", 1, time),
    read("SELECT", 2, select),
    read("INFO", -1, info),
    read("CONFIG", -2, config).with(&[("GET", -3), ("SET", -4), ("RESETSTAT", 2)]),
    read("COMMAND", -1, command).with(&[("COUNT", 2)]),
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

fn info(state: &mut State, args: &[&[u8]]) -> Reply {
    let wanted = |section: &str| {
        args.is_empty()
            || args.iter().any(|arg| {
                [section, "all", "default", "everything"]
                    .iter()
                    .any(|s| is(arg, s))
            })
    };
    let mut sections = Vec::new();
    if wanted("server") {
        sections.push(format!(
            "# Server\r\nredis_version:7.0.15\r\nredis_mode:embedded\r\nprocess_id:{}\r\nserver_time_usec:{}\r\nuptime_in_seconds:{}\r\n",
            std::process::id(),
            state.micros(),
            state.uptime(),
        ));
    }
    if wanted("clients") {
        let blocked = state.waiters.len();
        sections.push(format!("# Clients\r\nblocked_clients:{blocked}\r\n"));
    }
    if wanted("replication") {
        sections.push("# Replication\r\nrole:master\r\nconnected_slaves:0\r\n".to_owned());
    }
    if wanted("keyspace") {
        let (keys, expires) = (state.db.len(), state.db.expiring());
        let line = match keys {
            0 => String::new(),
            _ => format!("db0:keys={keys},expires={expires},avg_ttl=0\r\n"),
        };
        sections.push(format!("# Keyspace\r\n{line}"));
    }
    Ok(Value::Verbatim {
        format: "txt".into(),
        text: sections.join("\r\n").into(),
    })
}

/// The engine has no settings: none is ever found.
fn config(_: &mut State, args: &[&[u8]]) -> Reply {
    match args {
        [name, _, ..] if is(name, "GET") => Ok(Value::Map(Vec::new())),
        [name] if is(name, "RESETSTAT") => Ok(Value::Ok),
        [name, option, _, ..] if is(name, "SET") => Err(error::err(format!(
            "Unknown option or number of arguments for CONFIG SET - '{}'",
            String::from_utf8_lossy(option)
        ))),
        _ => Err(error::syntax()),
    }
}

fn command(_: &mut State, args: &[&[u8]]) -> Reply {
    match args {
        [name] if is(name, "COUNT") => Ok(int(super::count())),
        _ => Err(error::err(
            "COMMAND without a subcommand is not available in the embedded engine",
        )),
    }
}
