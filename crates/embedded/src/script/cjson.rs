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
        write(lua, &value, &mut text)?;
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

/// A table that is being written. There is no recursion: tables may be nested deeper than the
/// stack of a runtime's thread allows for.
enum Open {
    Array {
        table: Table,
        next: i64,
        len: i64,
    },
    Object {
        pairs: std::vec::IntoIter<(Value, Value)>,
        is_first: bool,
    },
}

fn write(lua: &Lua, value: &Value, out: &mut Vec<u8>) -> mlua::Result<()> {
    let mut open = Vec::new();
    let mut value = Some(value.clone());
    loop {
        if let Some(value) = value.take() {
            match value {
                Value::Table(table) => open.push(begin(lua, table, open.len() + 1, out)?),
                scalar => write_scalar(lua, &scalar, out)?,
            }
        }
        match open.last_mut() {
            None => return Ok(()),
            Some(Open::Array { table, next, len }) if *next <= *len => {
                if *next > 1 {
                    out.push(b',');
                }
                value = Some(table.raw_get(*next)?);
                *next += 1;
            }
            Some(Open::Array { .. }) => {
                out.push(b']');
                open.pop();
            }
            Some(Open::Object { pairs, is_first }) => match pairs.next() {
                Some((key, item)) => {
                    if !std::mem::take(is_first) {
                        out.push(b',');
                    }
                    write_key(lua, &key, out)?;
                    value = Some(item);
                }
                None => {
                    out.push(b'}');
                    open.pop();
                }
            },
        }
    }
}

fn begin(lua: &Lua, table: Table, depth: usize, out: &mut Vec<u8>) -> mlua::Result<Open> {
    if depth > MAX_DEPTH {
        let text = format!("Cannot serialise, excessive nesting ({depth})");
        return Err(raise::text(lua, &text));
    }
    match array_length(lua, &table)? {
        Some(len) => {
            out.push(b'[');
            Ok(Open::Array {
                table,
                next: 1,
                len,
            })
        }
        None => {
            out.push(b'{');
            let pairs: Vec<(Value, Value)> = table.pairs().collect::<mlua::Result<_>>()?;
            Ok(Open::Object {
                pairs: pairs.into_iter(),
                is_first: true,
            })
        }
    }
}

fn write_scalar(lua: &Lua, value: &Value, out: &mut Vec<u8>) -> mlua::Result<()> {
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
        other => {
            let text = format!("Cannot serialise {}: type not supported", other.type_name());
            return Err(raise::text(lua, &text));
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

fn write_key(lua: &Lua, key: &Value, out: &mut Vec<u8>) -> mlua::Result<()> {
    match key {
        Value::String(key) => write_string(&key.as_bytes(), out),
        Value::Integer(_) | Value::Number(_) => {
            out.push(b'"');
            write_scalar(lua, key, out)?;
            out.push(b'"');
        }
        _ => {
            let text = format!(
                "Cannot serialise {}: table key must be a number or string",
                key.type_name()
            );
            return Err(raise::text(lua, &text));
        }
    }
    out.push(b':');
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
