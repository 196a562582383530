//! Conversions between replies and Lua values, as the server makes them.

use bytes::Bytes;
use mlua::{Lua, Table, Value as LuaValue};
use redkit_core::Value;
use smallvec::SmallVec;

use crate::error::{self, Reply};
use crate::number::format_g17;
use crate::state::Protocol;

/// Tables within tables in a script's result: few enough for the stack of a runtime's thread.
const MAX_DEPTH: usize = 100;

/// A command's reply as `redis.call` gives it.
pub(super) fn to_lua(lua: &Lua, reply: Value, protocol: Protocol) -> mlua::Result<LuaValue> {
    let resp3 = protocol == Protocol::Resp3;
    let string = |bytes: &[u8]| Ok(LuaValue::String(lua.create_string(bytes)?));
    match reply {
        Value::Nil if resp3 => Ok(LuaValue::Nil),
        Value::Nil => Ok(LuaValue::Boolean(false)),
        #[expect(clippy::cast_precision_loss, reason = "Lua 5.1 has doubles only")]
        Value::Int(number) => Ok(LuaValue::Number(number as f64)),
        Value::Bulk(bytes) => string(&bytes),
        Value::Ok => single(lua, "ok", string(b"OK")?),
        Value::Status(status) => single(lua, "ok", string(status.as_bytes())?),
        Value::Error(error) => single(lua, "err", string(error.to_string().as_bytes())?),
        Value::Array(items) => array(lua, items, protocol),
        Value::Set(items) if resp3 => {
            let members = lua.create_table_with_capacity(0, items.len())?;
            for item in items {
                members.raw_set(to_lua(lua, item, protocol)?, true)?;
            }
            single(lua, "set", LuaValue::Table(members))
        }
        Value::Set(items) => array(lua, items, protocol),
        Value::Map(pairs) if resp3 => {
            let map = lua.create_table_with_capacity(0, pairs.len())?;
            for (key, value) in pairs {
                map.raw_set(to_lua(lua, key, protocol)?, to_lua(lua, value, protocol)?)?;
            }
            single(lua, "map", LuaValue::Table(map))
        }
        Value::Map(pairs) => {
            let flat = pairs.into_iter().flat_map(|(k, v)| [k, v]).collect();
            array(lua, flat, protocol)
        }
        Value::Double(number) if resp3 => single(lua, "double", LuaValue::Number(number)),
        Value::Double(number) => string(format_g17(number).as_bytes()),
        Value::Bool(truth) if resp3 => Ok(LuaValue::Boolean(truth)),
        Value::Bool(truth) => Ok(LuaValue::Number(f64::from(u8::from(truth)))),
        Value::BigNumber(digits) if resp3 => single(lua, "big_number", string(&digits)?),
        Value::BigNumber(digits) => string(&digits),
        Value::Verbatim { format, text } if resp3 => {
            let table = lua.create_table()?;
            table.raw_set("format", &*format)?;
            table.raw_set("string", string(&text)?)?;
            single(lua, "verbatim_string", LuaValue::Table(table))
        }
        Value::Verbatim { text, .. } => string(&text),
        // No command of this engine gives anything else.
        _ => Ok(LuaValue::Nil),
    }
}

fn single(lua: &Lua, field: &str, value: LuaValue) -> mlua::Result<LuaValue> {
    let table = lua.create_table_with_capacity(0, 1)?;
    table.raw_set(field, value)?;
    Ok(LuaValue::Table(table))
}

/// A list of strings. Text goes onto Lua's stack as it is; other bytes take a place among the values that Rust holds,
/// which costs more than the string.
pub(super) fn strings<'b>(
    lua: &Lua,
    len: usize,
    items: impl Iterator<Item = &'b [u8]> + Clone,
) -> mlua::Result<Table> {
    let texts: Option<SmallVec<[&str; 16]>> = items
        .clone()
        .map(|item| std::str::from_utf8(item).ok())
        .collect();
    if let Some(texts) = texts {
        return lua.create_sequence_from(texts);
    }
    let table = lua.create_table_with_capacity(len, 0)?;
    for (index, item) in items.enumerate() {
        table.raw_set(index + 1, lua.create_string(item)?)?;
    }
    Ok(table)
}

fn array(lua: &Lua, items: Vec<Value>, protocol: Protocol) -> mlua::Result<LuaValue> {
    if items.iter().all(|item| matches!(item, Value::Bulk(_))) {
        let strings = items.iter().filter_map(|item| match item {
            Value::Bulk(bytes) => Some(&**bytes),
            _ => None,
        });
        return Ok(LuaValue::Table(self::strings(lua, items.len(), strings)?));
    }
    let table = lua.create_table_with_capacity(items.len(), 0)?;
    for (index, item) in items.into_iter().enumerate() {
        table.raw_set(index + 1, to_lua(lua, item, protocol)?)?;
    }
    Ok(LuaValue::Table(table))
}

/// A script's result as the caller's reply.
pub(super) fn to_reply(result: LuaValue, protocol: Protocol) -> mlua::Result<Reply> {
    let value = convert(result, protocol, 0)?;
    Ok(match value {
        Value::Error(error) => Err(error),
        value => Ok(value),
    })
}

fn convert(value: LuaValue, protocol: Protocol, depth: usize) -> mlua::Result<Value> {
    Ok(match value {
        LuaValue::String(text) => Value::Bulk(Bytes::copy_from_slice(&text.as_bytes())),
        LuaValue::Integer(number) => Value::Int(number),
        LuaValue::Number(number) => Value::Int(truncate(number)),
        LuaValue::Boolean(truth) => match (protocol, truth) {
            (Protocol::Resp3, truth) => Value::Bool(truth),
            (Protocol::Resp2, true) => Value::Int(1),
            (Protocol::Resp2, false) => Value::Nil,
        },
        LuaValue::Table(_) if depth >= MAX_DEPTH => {
            Value::Error(error::err("reached lua stack limit"))
        }
        LuaValue::Table(table) => convert_table(&table, protocol, depth + 1)?,
        _ => Value::Nil,
    })
}

/// As C converts a double to a 64-bit integer on x86: what does not fit is the least integer.
fn truncate(number: f64) -> i64 {
    #[expect(clippy::cast_precision_loss, reason = "the bound is a power of two")]
    let limit = i64::MIN as f64;
    match number >= limit && number < -limit {
        #[expect(clippy::cast_possible_truncation, reason = "checked above")]
        true => number as i64,
        false => i64::MIN,
    }
}

fn convert_table(table: &Table, protocol: Protocol, depth: usize) -> mlua::Result<Value> {
    if let Some(items) = scalars(table, protocol, depth)? {
        return Ok(Value::Array(items));
    }
    if let LuaValue::String(text) = table.raw_get("err")? {
        return Ok(Value::Error(error::from_line(&line(&text))));
    }
    if let LuaValue::String(text) = table.raw_get("ok")? {
        return Ok(Value::status(&line(&text)));
    }
    match table.raw_get("double")? {
        LuaValue::Number(number) => return Ok(Value::Double(number)),
        #[expect(clippy::cast_precision_loss, reason = "it was a double before")]
        LuaValue::Integer(number) => return Ok(Value::Double(number as f64)),
        _ => {}
    }
    if let LuaValue::Table(map) = table.raw_get("map")? {
        let mut pairs = Vec::new();
        map.for_each(|key: LuaValue, value: LuaValue| {
            pairs.push((
                convert(key, protocol, depth)?,
                convert(value, protocol, depth)?,
            ));
            Ok(())
        })?;
        return Ok(Value::Map(pairs));
    }
    if let LuaValue::Table(set) = table.raw_get("set")? {
        let mut members = Vec::new();
        set.for_each(|key: LuaValue, _: LuaValue| {
            members.push(convert(key, protocol, depth)?);
            Ok(())
        })?;
        return Ok(Value::Set(members));
    }
    if let LuaValue::String(digits) = table.raw_get("big_number")? {
        return Ok(Value::BigNumber(Bytes::copy_from_slice(&digits.as_bytes())));
    }
    if let LuaValue::Table(verbatim) = table.raw_get("verbatim_string")?
        && let LuaValue::String(format) = verbatim.raw_get("format")?
        && let LuaValue::String(text) = verbatim.raw_get("string")?
    {
        return Ok(Value::Verbatim {
            format: format.to_string_lossy().into(),
            text: Bytes::copy_from_slice(&text.as_bytes()),
        });
    }
    let mut items = Vec::new();
    for index in 1_i64.. {
        match table.raw_get(index)? {
            LuaValue::Nil => break,
            item => items.push(convert(item, protocol, depth)?),
        }
    }
    Ok(Value::Array(items))
}

/// The items of a table that has the numbers 1, 2, … for its keys, in their order, and no other keys, and no tables for
/// items: what most scripts give. To walk over it once is quicker than to ask for each name that would make it something else.
fn scalars(table: &Table, protocol: Protocol, depth: usize) -> mlua::Result<Option<Vec<Value>>> {
    let mut items = Vec::new();
    let mut is_plain = true;
    table.for_each(|key: LuaValue, item: LuaValue| {
        is_plain &=
            matches!(key, LuaValue::Integer(at) if usize::try_from(at) == Ok(items.len() + 1));
        // Tables within it would be converted again where it turns out to be something else, and those in them twice again.
        is_plain &= !matches!(item, LuaValue::Table(_));
        if is_plain {
            // At once: all that Rust holds of Lua must have a place on a stack of it.
            items.push(convert(item, protocol, depth)?);
        }
        Ok(())
    })?;
    Ok(is_plain.then_some(items))
}

/// A status or an error is one line.
fn line(text: &mlua::LuaString) -> String {
    text.to_string_lossy().replace(['\r', '\n'], " ")
}
