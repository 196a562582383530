//! The `cjson` library of scripts: encoding, and the table of functions. Decoding is
//! [`super::json_parser`]'s.

use mlua::{LightUserData, Lua, MultiValue, Table, Value};

use super::{json_parser, raise};
use crate::number::format_g;

/// Tables within tables that are encoded or decoded.
pub(super) const MAX_DEPTH: usize = 1_000;
/// An array whose largest index exceeds its number of items by this factor is refused…
const SPARSE_RATIO: i64 = 2;
/// …unless the largest index is this small.
const SPARSE_SAFE: i64 = 10;
/// Significant digits of numbers.
const DIGITS: usize = 14;

pub(super) fn table(lua: &Lua) -> mlua::Result<Table> {
    let cjson = lua.create_table()?;
    let encode = lua.create_function(|lua, args: MultiValue| {
        let value = only(lua, &args, "encode")?;
        let mut text = Vec::new();
        write(lua, &value, &mut text, 0)?;
        lua.create_string(text)
    })?;
    cjson.raw_set("encode", encode)?;
    let decode = lua.create_function(|lua, args: MultiValue| {
        let value = only(lua, &args, "decode")?;
        match lua.coerce_string(value.clone())? {
            Some(text) => json_parser::decode(lua, &text.as_bytes()),
            None => Err(raise::text(
                lua,
                &format!(
                    "bad argument #1 to 'decode' (string expected, got {})",
                    value.type_name()
                ),
            )),
        }
    })?;
    cjson.raw_set("decode", decode)?;
    cjson.raw_set("null", Value::NULL)?;
    cjson.raw_set("_NAME", "cjson")?;
    cjson.raw_set("_VERSION", "2.1.0")?;
    Ok(cjson)
}

fn only(lua: &Lua, args: &MultiValue, name: &str) -> mlua::Result<Value> {
    match (args.len(), args.front()) {
        (1, Some(value)) => Ok(value.clone()),
        _ => Err(raise::text(
            lua,
            &format!("bad argument #1 to '{name}' (expected 1 argument)"),
        )),
    }
}

fn write(lua: &Lua, value: &Value, out: &mut Vec<u8>, depth: usize) -> mlua::Result<()> {
    match value {
        Value::Nil => out.extend_from_slice(b"null"),
        Value::LightUserData(LightUserData(pointer)) if pointer.is_null() => {
            out.extend_from_slice(b"null");
        }
        Value::Boolean(true) => out.extend_from_slice(b"true"),
        Value::Boolean(false) => out.extend_from_slice(b"false"),
        #[expect(clippy::cast_precision_loss, reason = "it was a double before")]
        Value::Integer(number) => write_number(lua, *number as f64, out)?,
        Value::Number(number) => write_number(lua, *number, out)?,
        Value::String(text) => write_string(&text.as_bytes(), out),
        Value::Table(table) => {
            let depth = depth + 1;
            if depth > MAX_DEPTH {
                let text = format!("Cannot serialise, excessive depth ({depth})");
                return Err(raise::text(lua, &text));
            }
            match array_length(lua, table)? {
                Some(len) => write_array(lua, table, len, out, depth)?,
                None => write_object(lua, table, out, depth)?,
            }
        }
        other => {
            return Err(raise::text(
                lua,
                &format!("Cannot serialise {}: type not supported", other.type_name()),
            ));
        }
    }
    Ok(())
}

fn write_number(lua: &Lua, number: f64, out: &mut Vec<u8>) -> mlua::Result<()> {
    if !number.is_finite() {
        return Err(raise::text(
            lua,
            "Cannot serialise number: must not be NaN or Inf",
        ));
    }
    out.extend_from_slice(format_g(number, DIGITS).as_bytes());
    Ok(())
}

/// The largest index when all keys are positive integers and there are any.
fn array_length(lua: &Lua, table: &Table) -> mlua::Result<Option<i64>> {
    let (mut max, mut items, mut is_array) = (0, 0, true);
    for pair in table.pairs::<Value, Value>() {
        match pair?.0 {
            Value::Integer(index) if index > 0 => {
                max = max.max(index);
                items += 1;
            }
            _ => {
                is_array = false;
                break;
            }
        }
    }
    if !is_array || items == 0 {
        return Ok(None);
    }
    if max > items * SPARSE_RATIO && max > SPARSE_SAFE {
        return Err(raise::text(
            lua,
            "Cannot serialise table: excessively sparse array",
        ));
    }
    Ok(Some(max))
}

fn write_array(
    lua: &Lua,
    table: &Table,
    len: i64,
    out: &mut Vec<u8>,
    depth: usize,
) -> mlua::Result<()> {
    out.push(b'[');
    for index in 1..=len {
        if index > 1 {
            out.push(b',');
        }
        write(lua, &table.raw_get(index)?, out, depth)?;
    }
    out.push(b']');
    Ok(())
}

fn write_object(lua: &Lua, table: &Table, out: &mut Vec<u8>, depth: usize) -> mlua::Result<()> {
    out.push(b'{');
    let mut first = true;
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        match &key {
            Value::String(key) => write_string(&key.as_bytes(), out),
            Value::Integer(_) | Value::Number(_) => {
                out.push(b'"');
                write_number(lua, key.as_f64().unwrap_or_default(), out)?;
                out.push(b'"');
            }
            _ => {
                return Err(raise::text(
                    lua,
                    "Cannot serialise table: table key must be a number or string",
                ));
            }
        }
        out.push(b':');
        write(lua, &value, out, depth)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        let short = match byte {
            b'"' | b'\\' | b'/' => byte,
            0x08 => b'b',
            0x09 => b't',
            0x0A => b'n',
            0x0C => b'f',
            0x0D => b'r',
            0x00..=0x1F | 0x7F => {
                out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                continue;
            }
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
    out.push(b'"');
}
