//! Starts a Lua state in which scripts reach only the libraries that the server gives them.

use std::sync::Arc;

use mlua::{Function, HookTriggers, Lua, LuaOptions, MultiValue, StdLib, Table, Value, VmState};
use parking_lot::Mutex;

use super::{INSTRUCTIONS_PER_CHECK, MEMORY_LIMIT, Run, bit, cjson, raise, random, redis_api};
use crate::state::State;

/// A Lua state that is ready for scripts.
pub(super) struct Sandbox {
    pub(super) lua: Lua,
    pub(super) globals: Table,
    pub(super) runner: Function,
}

pub(super) fn start(state: &Arc<Mutex<State>>, run: &Arc<Mutex<Run>>) -> mlua::Result<Sandbox> {
    let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::OS;
    let lua = Lua::new_with(libraries, LuaOptions::new())?;
    lua.set_memory_limit(MEMORY_LIMIT)?;
    random::install(&lua, &lua.globals().raw_get("math")?)?;

    let provided = lua.create_table()?;
    provided.raw_set("redis", redis_api::table(&lua, state, run)?)?;
    provided.raw_set("bit", bit::table(&lua)?)?;
    provided.raw_set("cjson", cjson::table(&lua)?)?;

    let native = lua.create_table()?;
    native.raw_set(
        "seen",
        lua.create_function(|lua, error: Value| raise::seen_by_script(lua, error))?,
    )?;
    native.raw_set(
        "describe",
        lua.create_function(|lua, error: Value| raise::describe(lua, error))?,
    )?;
    native.raw_set("checked", lua.create_function(checked)?)?;
    native.raw_set(
        "line",
        lua.create_function(|lua, ()| Ok(raise::line_of_script(lua).unwrap_or_default()))?,
    )?;
    let shared = Arc::clone(run);
    native.raw_set(
        "overdue",
        lua.create_function(move |_, ()| Ok(shared.lock().is_overdue()))?,
    )?;
    native.raw_set(
        "raise_overdue",
        lua.create_function(|_, ()| -> mlua::Result<()> { Err(overdue()) })?,
    )?;

    let (globals, view, runner): (Table, Table, Function) = lua
        .load(include_str!("prelude.lua"))
        .set_name("=prelude")
        .call((provided, native))?;
    lua.set_globals(view)?;

    let shared = Arc::clone(run);
    let triggers = HookTriggers::new().every_nth_instruction(INSTRUCTIONS_PER_CHECK);
    lua.set_global_hook(triggers, move |_, _| match shared.lock().is_overdue() {
        true => Err(overdue()),
        false => Ok(VmState::Continue),
    })?;
    Ok(Sandbox {
        lua,
        globals,
        runner,
    })
}

/// A function that compiles code, behind the checks of Lua's own `load` (which reads a function) and
/// `loadstring`.
fn checked(
    lua: &Lua,
    (reads_function, implementation): (bool, Function),
) -> mlua::Result<Function> {
    lua.create_function(move |lua, args: MultiValue| {
        let is_text = |value: &Value| {
            matches!(
                value,
                Value::String(_) | Value::Integer(_) | Value::Number(_)
            )
        };
        let refused = |number: usize, expected: &str| {
            let given = match args.get(number - 1) {
                None => "no value",
                Some(Value::Integer(_)) => "number",
                Some(value) => value.type_name(),
            };
            let reason = format!("{expected} expected, got {given}");
            Err(raise::bad_argument(lua, number, &reason))
        };
        match args.front() {
            Some(Value::Function(_)) if reads_function => {}
            Some(value) if !reads_function && is_text(value) => {}
            _ => return refused(1, if reads_function { "function" } else { "string" }),
        }
        match args.get(1) {
            None | Some(Value::Nil) => {}
            Some(name) if is_text(name) => {}
            Some(_) => return refused(2, "string"),
        }
        implementation.call::<MultiValue>(args)
    })
}

fn overdue() -> mlua::Error {
    raise::command("ERR Error running script (timeout): it ran for longer than it may")
}
