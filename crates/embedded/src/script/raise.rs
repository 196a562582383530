//! Errors in scripts: how Rust raises them, how scripts see them, how they become replies.
//!
//! Lua code raises any value. Rust functions raise a [`Raised`], because it keeps apart what Lua
//! keeps apart: a text, and the error reply of a command, which the server raises as a table.

use std::fmt;

use mlua::{Lua, Table, Value};
use redkit_core::ServerError;

use crate::error;

/// The name of every script, for the texts of errors.
const SOURCE: &str = "@user_script";

/// An error that a Rust function raises.
#[derive(Debug, Clone)]
enum Raised {
    /// A text, as `error()` raises it, with its position.
    Text(String),
    /// The error reply of a command.
    Reply(String),
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Raised::Text(text) | Raised::Reply(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Raised {}

/// Raises a text with the position of the Lua code that called the running function.
pub(super) fn text(lua: &Lua, message: &str) -> mlua::Error {
    let line = lua.inspect_stack(1, |frame| {
        let is_script = frame.source().source.is_some_and(|source| source == SOURCE);
        frame.current_line().filter(|_| is_script)
    });
    let text = match line.flatten() {
        Some(line) => format!("user_script:{line}: {message}"),
        None => message.to_owned(),
    };
    mlua::Error::external(Raised::Text(text))
}

/// Raises that an argument of the running function is wrong, as Lua's own library words it.
pub(super) fn bad_argument(lua: &Lua, number: usize, reason: &str) -> mlua::Error {
    let name = lua.inspect_stack(0, |frame| frame.names().name.map(|name| name.into_owned()));
    let name = name.flatten().unwrap_or_else(|| "?".to_owned());
    text(
        lua,
        &format!("bad argument #{number} to '{name}' ({reason})"),
    )
}

/// Raises an error reply.
pub(super) fn command(error: &str) -> mlua::Error {
    mlua::Error::external(Raised::Reply(error.to_owned()))
}

/// What `pcall` gives for an error: the text of an error that Rust raised or that is a table with
/// `err`, anything else as it is.
pub(super) fn seen_by_script(lua: &Lua, error: Value) -> mlua::Result<Value> {
    match error {
        Value::Error(error) => {
            let (Raised::Text(text) | Raised::Reply(text)) = raised(&error);
            Ok(Value::String(lua.create_string(text)?))
        }
        Value::Table(table) => match table.raw_get("err")? {
            text @ Value::String(_) => Ok(text),
            _ => Ok(Value::Table(table)),
        },
        other => Ok(other),
    }
}

/// The message handler around a script: makes a table `{err, line}` of whatever was raised.
pub(super) fn describe(lua: &Lua, error: Value) -> mlua::Result<Table> {
    let text = match &error {
        Value::Error(error) => match raised(error) {
            Raised::Reply(reply) => reply.into_bytes(),
            Raised::Text(text) => with_code(text.as_bytes()),
        },
        Value::Table(table) => match table.raw_get("err")? {
            Value::String(text) => text.as_bytes().to_vec(),
            _ => with_code(b"unknown error"),
        },
        other => match lua.coerce_string(other.clone())? {
            Some(text) => with_code(&text.as_bytes()),
            None => with_code(other.to_string()?.as_bytes()),
        },
    };
    let table = lua.create_table()?;
    table.raw_set("err", lua.create_string(text)?)?;
    if let Some(line) = line_of_script(lua) {
        table.raw_set("line", line)?;
    }
    Ok(table)
}

/// The reply for an error that [`describe`] described.
pub(super) fn uncaught(error: &Value, sha: &str) -> ServerError {
    let described = error.as_table().and_then(|table| {
        let text: mlua::LuaString = table.raw_get("err").ok()?;
        let line: Option<i64> = table.raw_get("line").ok()?;
        Some((text.to_string_lossy(), line))
    });
    match described {
        Some((text, Some(line))) => {
            error::from_line(&format!("{text} script: {sha}, on {SOURCE}:{line}."))
        }
        Some((text, None)) => error::from_line(&text),
        // Without memory there is no table either.
        None => {
            let text = match error {
                Value::Error(error) => raised(error).to_string(),
                Value::String(text) => text.to_string_lossy(),
                _ => "execution failure".to_owned(),
            };
            error::err(format!("Error running script {sha}, {text}"))
        }
    }
}

/// The reply for an error outside of the script itself, such as a lack of memory.
pub(super) fn reply(error: &mlua::Error, sha: &str) -> ServerError {
    match raised(error) {
        Raised::Reply(reply) => error::from_line(&reply),
        Raised::Text(text) => error::err(format!("Error running script {sha}, {text}")),
    }
}

fn raised(error: &mlua::Error) -> Raised {
    match error.downcast_ref::<Raised>() {
        Some(raised) => raised.clone(),
        None => match error {
            mlua::Error::CallbackError { cause, .. } => raised(cause),
            mlua::Error::RuntimeError(text) | mlua::Error::MemoryError(text) => {
                Raised::Text(text.clone())
            }
            other => Raised::Text(other.to_string()),
        },
    }
}

fn with_code(text: &[u8]) -> Vec<u8> {
    [b"ERR ", text].concat()
}

/// The line at which the innermost function of the script is.
pub(super) fn line_of_script(lua: &Lua) -> Option<usize> {
    (0..64)
        .map_while(|level| {
            lua.inspect_stack(level, |frame| {
                let is_script = frame.source().source.is_some_and(|source| source == SOURCE);
                frame.current_line().filter(|_| is_script)
            })
        })
        .flatten()
        .next()
}
