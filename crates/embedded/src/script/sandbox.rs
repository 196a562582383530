//! Starts a Lua state in which scripts can reach nothing but what the server gives them.

use std::sync::Arc;

use mlua::{Function, HookTriggers, Lua, LuaOptions, StdLib, Table, Value, VmState};
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

fn overdue() -> mlua::Error {
    raise::command("ERR Error running script (timeout): it ran for longer than it may")
}
