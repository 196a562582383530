//! The `redis` table of scripts.

use std::sync::Arc;

use mlua::{Lua, MultiValue, Table, Value as LuaValue};
use parking_lot::Mutex;
use redkit_core::{ServerError, Value};
use smallvec::SmallVec;

use super::{Run, convert, hex_sha1, raise, without_limit};
use crate::commands::{self, Access, Misuse, Run as Runs};
use crate::error;
use crate::full_memory;
use crate::number::format_g17;
use crate::state::{Protocol, State};

const LEVELS: [&str; 4] = ["LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING"];

pub(super) fn table(
    lua: &Lua,
    state: &Arc<Mutex<State>>,
    run: &Arc<Mutex<Run>>,
) -> mlua::Result<Table> {
    let redis = lua.create_table()?;
    for raises in [true, false] {
        let (state, run) = (Arc::clone(state), Arc::clone(run));
        let call = lua.create_function(move |lua, args: MultiValue| {
            let protocol = run.lock().protocol;
            let reply = match call(&state, &run, &args) {
                Ok(reply) => reply,
                Err(error) if raises => return Err(raise::command(&error.to_string())),
                Err(error) => Value::Error(error),
            };
            without_limit(lua, || convert::to_lua(lua, reply, protocol))
        })?;
        redis.raw_set(if raises { "call" } else { "pcall" }, call)?;
    }
    replies(lua, &redis)?;
    logging(lua, &redis)?;

    let shared = Arc::clone(run);
    let set_resp = lua.create_function(move |lua, args: MultiValue| {
        let version = match (args.len(), args.front()) {
            (1, Some(version)) => lua.coerce_number(version.clone())?,
            _ => return Err(raise::command("ERR redis.setresp() requires one argument.")),
        };
        shared.lock().protocol = match version {
            Some(2.0) => Protocol::Resp2,
            Some(3.0) => Protocol::Resp3,
            _ => return Err(raise::command("ERR RESP version must be 2 or 3.")),
        };
        Ok(())
    })?;
    redis.raw_set("setresp", set_resp)?;
    let sha1hex =
        lua.create_function(|lua, args: MultiValue| match (args.len(), args.front()) {
            (1, Some(value)) => {
                let text = lua.coerce_string(value.clone())?;
                Ok(hex_sha1(
                    text.map(|t| t.as_bytes().to_vec())
                        .unwrap_or_default()
                        .as_slice(),
                ))
            }
            _ => Err(raise::command("ERR wrong number of arguments")),
        })?;
    redis.raw_set("sha1hex", sha1hex)?;

    // There is nothing to replicate to; scripts that ask for it go on.
    redis.raw_set("replicate_commands", lua.create_function(|_, ()| Ok(true))?)?;
    redis.raw_set("set_repl", lua.create_function(|_, _: MultiValue| Ok(()))?)?;
    for (name, value) in [
        ("REPL_NONE", 0),
        ("REPL_AOF", 1),
        ("REPL_SLAVE", 2),
        ("REPL_REPLICA", 2),
        ("REPL_ALL", 3),
    ] {
        redis.raw_set(name, value)?;
    }
    redis.raw_set("REDIS_VERSION", "7.0.15")?;
    redis.raw_set("REDIS_VERSION_NUM", 0x0007_000F)?;
    Ok(redis)
}

/// `error_reply` and `status_reply`.
fn replies(lua: &Lua, redis: &Table) -> mlua::Result<()> {
    const REFUSED: &str = "ERR wrong number or type of arguments";
    let error_reply = lua.create_function(|lua, args: MultiValue| {
        let table = lua.create_table_with_capacity(0, 1)?;
        let text = match (args.len(), args.front()) {
            (1, Some(LuaValue::String(text))) => error_line(&text.as_bytes()),
            _ => REFUSED.as_bytes().to_vec(),
        };
        table.raw_set("err", lua.create_string(text)?)?;
        Ok(table)
    })?;
    redis.raw_set("error_reply", error_reply)?;
    let status_reply = lua.create_function(|lua, args: MultiValue| {
        let table = lua.create_table_with_capacity(0, 1)?;
        match (args.len(), args.front()) {
            (1, Some(LuaValue::String(text))) => table.raw_set("ok", text)?,
            _ => table.raw_set("err", REFUSED)?,
        }
        Ok(table)
    })?;
    redis.raw_set("status_reply", status_reply)
}

/// An error's text with a code: the first word, or `ERR` when there is only one word.
fn error_line(text: &[u8]) -> Vec<u8> {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let trimmed = text.trim_ascii_end();
    match text.contains(&b' ') {
        true => trimmed.to_vec(),
        false => [b"ERR ", trimmed].concat(),
    }
}

fn logging(lua: &Lua, redis: &Table) -> mlua::Result<()> {
    for (level, name) in LEVELS.into_iter().enumerate() {
        redis.raw_set(name, level)?;
    }
    let log = lua.create_function(|lua, args: MultiValue| {
        let mut args = args.into_iter();
        let (Some(level), true) = (args.next(), args.len() > 0) else {
            return Err(raise::command(
                "ERR redis.log() requires two arguments or more.",
            ));
        };
        let Some(level) = lua.coerce_number(level)? else {
            return Err(raise::command(
                "ERR First argument must be a number (log level).",
            ));
        };
        let mut words = Vec::new();
        for arg in args {
            if let Some(text) = lua.coerce_string(arg)? {
                words.push(text.to_string_lossy());
            }
        }
        let message = words.join(" ");
        match level {
            0.0 => tracing::trace!(target: "redkit::script", "{message}"),
            1.0 => tracing::debug!(target: "redkit::script", "{message}"),
            2.0 => tracing::info!(target: "redkit::script", "{message}"),
            3.0 => tracing::warn!(target: "redkit::script", "{message}"),
            _ => return Err(raise::command("ERR Invalid log level.")),
        }
        Ok(())
    })?;
    redis.raw_set("log", log)
}

/// Carries out a command for a script.
fn call(state: &Mutex<State>, run: &Mutex<Run>, args: &MultiValue) -> Result<Value, ServerError> {
    if args.is_empty() {
        return Err(error::from_line(
            "ERR Please specify at least one argument for this redis lib call",
        ));
    }
    let mut buffer = Vec::with_capacity(64);
    let mut ends: SmallVec<[usize; 8]> = SmallVec::new();
    for arg in args {
        match arg {
            LuaValue::String(text) => buffer.extend_from_slice(&text.as_bytes()),
            LuaValue::Integer(number) => write_number(*number, &mut buffer),
            LuaValue::Number(number) => buffer.extend_from_slice(format_g17(*number).as_bytes()),
            _ => {
                return Err(error::from_line(
                    "ERR Lua redis lib command arguments must be strings or integers",
                ));
            }
        }
        ends.push(buffer.len());
    }
    let mut start = 0;
    let argv: SmallVec<[&[u8]; 8]> = ends
        .iter()
        .map(|&end| buffer.get(std::mem::replace(&mut start, end)..end))
        .map(Option::unwrap_or_default)
        .collect();
    let mut run = run.lock();
    execute(state, &mut run, &argv)
}

/// Integers up to 17 digits are written as such by `%.17g`, larger ones with an exponent.
fn write_number(number: i64, buffer: &mut Vec<u8>) {
    const LIMIT: u64 = 100_000_000_000_000_000;
    let text = match number.unsigned_abs() < LIMIT {
        true => number.to_string(),
        #[expect(clippy::cast_precision_loss, reason = "it was a double before")]
        false => format_g17(number as f64),
    };
    buffer.extend_from_slice(text.as_bytes());
}

fn execute(state: &Mutex<State>, run: &mut Run, argv: &[&[u8]]) -> Result<Value, ServerError> {
    let (name, args) = argv
        .split_first()
        .map_or((&b""[..], &[][..]), |(name, args)| (*name, args));
    let refused = |text: &str| Err(error::from_line(text));
    let Some(command) = commands::lookup(name) else {
        return refused("ERR Unknown Redis command called from script");
    };
    let spec = command.spec;
    match spec.check(args) {
        Ok(()) => {}
        Err(Misuse::UnknownSubcommand) => {
            return refused("ERR Unknown Redis command called from script");
        }
        Err(Misuse::Arguments(_)) => {
            return refused("ERR Wrong number of args calling Redis command from script");
        }
    }
    if let Runs::Session(_)
    | Runs::OutsideScripts(_)
    | Runs::Blocking {
        in_scripts: false, ..
    } = spec.run
    {
        return refused("ERR This Redis command is not allowed from script");
    }
    if run.read_only && spec.access == Access::Write {
        return refused("ERR Write commands are not allowed from read-only scripts.");
    }
    let mut state = state.lock();
    // Once a script has written, the server cannot stop it in the middle.
    let may_be_refused = state.is_full && !run.allows_full && !run.has_written;
    if may_be_refused && full_memory::is_refused(spec.name, args) {
        return Err(full_memory::refusal());
    }
    run.has_written |= spec.access == Access::Write;
    let outer = std::mem::replace(&mut state.protocol, run.protocol);
    state.in_script = true;
    if let Runs::Blocking { .. } = spec.run {
        state.waiting_refused = Some(String::from_utf8_lossy(name).into());
    }
    let reply = state.run_counted(command, args);
    state.waiting_refused = None;
    state.in_script = false;
    state.protocol = outer;
    reply
}
