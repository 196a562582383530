//! `CLIENT`, `HELLO` and `AUTH`: connections, their names and their state.

use bytes::Bytes;
use redkit_core::{ServerError, Value};

use crate::args::{integer, is};
use crate::error::{self, Reply};
use crate::session::Session;
use crate::state::{Protocol, State};

/// Subcommands with their arities.
pub(super) const SUBCOMMANDS: &[(&str, i8)] = &[
    ("SETNAME", 3),
    ("GETNAME", 2),
    ("SETINFO", 4),
    ("ID", 2),
    ("INFO", 2),
    ("LIST", -2),
    ("UNBLOCK", -3),
    ("NO-EVICT", 3),
    ("NO-TOUCH", 3),
    ("GETREDIR", 2),
];

/// Carries out `CLIENT` for a session.
pub(crate) fn run(state: &mut State, session: &mut Session, args: &[&[u8]]) -> Reply {
    match args {
        [name, wanted] if is(name, "SETNAME") => set_name(state, session, wanted),
        [name] if is(name, "GETNAME") => Ok(match session.name.is_empty() {
            true => Value::Nil,
            false => Value::Bulk(session.name.clone()),
        }),
        [name, option, value] if is(name, "SETINFO") => set_info(option, value),
        [name] if is(name, "ID") => Ok(Value::Int(session.id)),
        [name] if is(name, "INFO") => Ok(text(line(
            state,
            session.id,
            &session.name,
            0,
            session.protocol,
        ))),
        [name, ..] if is(name, "LIST") => Ok(list(state)),
        [name, id] if is(name, "UNBLOCK") => unblock(state, id, false),
        [name, id, how] if is(name, "UNBLOCK") && is(how, "TIMEOUT") => unblock(state, id, false),
        [name, id, how] if is(name, "UNBLOCK") && is(how, "ERROR") => unblock(state, id, true),
        [name, ..] if is(name, "UNBLOCK") => Err(error::err(
            "CLIENT UNBLOCK reason should be TIMEOUT or ERROR",
        )),
        // Nothing is evicted, and no reply is redirected.
        [name, mode] if is(name, "NO-EVICT") || is(name, "NO-TOUCH") => {
            match is(mode, "ON") || is(mode, "OFF") {
                true => Ok(Value::Ok),
                false => Err(error::syntax()),
            }
        }
        [name] if is(name, "GETREDIR") => Ok(Value::Int(-1)),
        _ => Err(error::syntax()),
    }
}

fn set_name(state: &mut State, session: &mut Session, name: &[u8]) -> Reply {
    if !is_plain(name) {
        return Err(error::err(
            "Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    state.rename_connection(session, Bytes::copy_from_slice(name));
    Ok(Value::Ok)
}

fn set_info(option: &[u8], value: &[u8]) -> Reply {
    let shown = String::from_utf8_lossy(option);
    if !is(option, "LIB-NAME") && !is(option, "LIB-VER") {
        return Err(error::err(format!("Unrecognized option '{shown}'")));
    }
    match is_plain(value) {
        true => Ok(Value::Ok),
        false => Err(error::err(format!(
            "{shown} cannot contain spaces, newlines or special characters."
        ))),
    }
}

fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|b| (b'!'..=b'~').contains(b))
}

fn list(state: &State) -> Value {
    let now = state.micros();
    let lines = state.connections.iter().map(|(id, connection)| {
        let age = (now - connection.since) / 1_000_000;
        line(state, *id, &connection.name, age, connection.protocol)
    });
    text(lines.collect())
}

fn line(state: &State, id: i64, name: &[u8], age: i64, protocol: Protocol) -> String {
    let protocol = protocol.number();
    let flags = if state.waiters.has(id) { 'b' } else { 'N' };
    let name = String::from_utf8_lossy(name);
    format!(
        "id={id} addr=embedded laddr=embedded name={name} age={age} flags={flags} db=0 resp={protocol}\n"
    )
}

fn text(text: String) -> Value {
    Value::Verbatim {
        format: "txt".into(),
        text: text.into(),
    }
}

fn unblock(state: &mut State, id: &[u8], with_error: bool) -> Reply {
    let reply = match with_error {
        true => Err(ServerError::new(
            "UNBLOCKED",
            "client unblocked via CLIENT UNBLOCK",
        )),
        false => Ok(Value::Nil),
    };
    let unblocked = state.unblock(integer(id)?, Some(reply));
    Ok(Value::Int(unblocked.into()))
}

/// Carries out `HELLO`. Sessions in the process keep the shapes of RESP3.
pub(crate) fn hello(state: &mut State, session: &mut Session, args: &[&[u8]]) -> Reply {
    let mut protocol = session.protocol;
    let mut rest = match args {
        [] => args,
        [version, rest @ ..] => match crate::args::parse_integer(version) {
            None => {
                return Err(error::err(
                    "Protocol version is not an integer or out of range",
                ));
            }
            Some(3) => {
                protocol = Protocol::Resp3;
                rest
            }
            Some(2) if session.is_from_outside => {
                protocol = Protocol::Resp2;
                rest
            }
            Some(_) => {
                return Err(ServerError::new("NOPROTO", "unsupported protocol version"));
            }
        },
    };
    loop {
        rest = match rest {
            [] => break,
            [option, _, _, ..] if is(option, "AUTH") => return auth(),
            [option, name, rest @ ..] if is(option, "SETNAME") => {
                set_name(state, session, name)?;
                rest
            }
            [option, ..] => {
                return Err(error::err(format!(
                    "Syntax error in HELLO option '{}'",
                    String::from_utf8_lossy(option)
                )));
            }
        };
    }
    state.speak(session, protocol);
    let number = protocol.number();
    let pair = |name: &'static str, value: Value| (Value::bulk(name), value);
    Ok(Value::Map(vec![
        pair("server", Value::bulk("redis")),
        pair("version", Value::bulk("7.0.15")),
        pair("proto", Value::Int(number)),
        pair("id", Value::Int(session.id)),
        pair("mode", Value::bulk("embedded")),
        pair("role", Value::bulk("master")),
        pair("modules", Value::Array(Vec::new())),
    ]))
}

/// There is no password to give.
pub(crate) fn auth() -> Reply {
    Err(error::err(
        "AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
    ))
}
