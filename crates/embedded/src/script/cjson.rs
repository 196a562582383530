//! The `cjson` library of scripts: encoding, and the table of functions. Decoding is
//! [`super::json_parser`]'s, the settings are [`super::cjson_settings`]'.

use std::sync::Arc;

use mlua::{Function, LightUserData, Lua, MultiValue, Table, Value};
use parking_lot::Mutex;

use super::cjson_settings::{self, InvalidNumbers, Settings};
use super::{json_parser, raise};
use crate::number::format_g;

/// Values that open tables may hold, whatever the settings say: they have a stack in Lua too. The server
/// refuses arrays from a depth of 7,998 on, objects from 4,000.
pub(super) const DEEPEST: usize = 7_500;
/// Indexes of arrays are C integers.
const MAX_INDEX: i64 = i32::MAX as i64;

pub(super) fn table(lua: &Lua) -> mlua::Result<Table> {
    // Lua's own, before scripts get theirs.
    let next: Function = lua.globals().raw_get("next")?;
    with_next(lua, &next)
}

fn with_next(lua: &Lua, next: &Function) -> mlua::Result<Table> {
    let settings = Arc::new(Mutex::new(Settings::default()));
    let cjson = lua.create_table()?;
    let shared = Arc::clone(&settings);
    let pairs = next.clone();
    let encode = lua.create_function(move |lua, args: MultiValue| {
        let value = only(lua, &args)?;
        let settings = *shared.lock();
        let mut writer = Writer {
            lua,
            next: &pairs,
            settings,
            out: Vec::new(),
        };
        writer.write(&value)?;
        lua.create_string(writer.out)
    })?;
    cjson.raw_set("encode", encode)?;
    let shared = Arc::clone(&settings);
    let decode = lua.create_function(move |lua, args: MultiValue| {
        let value = only(lua, &args)?;
        let settings = *shared.lock();
        match lua.coerce_string(value.clone())? {
            Some(text) => json_parser::decode(lua, &text.as_bytes(), settings),
            None => Err(raise::bad_argument(
                lua,
                1,
                &format!("string expected, got {}", value.type_name()),
            )),
        }
    })?;
    cjson.raw_set("decode", decode)?;
    cjson_settings::install(lua, &cjson, &settings)?;
    let next = next.clone();
    let new = lua.create_function(move |lua, _: MultiValue| with_next(lua, &next))?;
    cjson.raw_set("new", new)?;
    cjson.raw_set("null", Value::NULL)?;
    cjson.raw_set("_NAME", "cjson")?;
    cjson.raw_set("_VERSION", "2.1.0")?;
    Ok(cjson)
}

fn only(lua: &Lua, args: &MultiValue) -> mlua::Result<Value> {
    match (args.len(), args.front()) {
        (1, Some(value)) => Ok(value.clone()),
        _ => Err(raise::bad_argument(lua, 1, "expected 1 argument")),
    }
}

struct Writer<'l> {
    lua: &'l Lua,
    /// Gives the pair after a key. Pairs are not gathered: every value that Rust holds takes a place on
    /// a stack of Lua, which has about 8,000.
    next: &'l Function,
    settings: Settings,
    out: Vec<u8>,
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
        table: Table,
        /// The key of the pair that was written last; nil before the first.
        key: Value,
    },
}

impl Open {
    /// How many values it holds.
    fn stack(&self) -> usize {
        match self {
            Open::Array { .. } => 1,
            Open::Object { .. } => 2,
        }
    }
}

impl Writer<'_> {
    fn write(&mut self, value: &Value) -> mlua::Result<()> {
        let mut open: Vec<Open> = Vec::new();
        let mut stack = 0;
        let mut value = Some(value.clone());
        loop {
            if let Some(value) = value.take() {
                match value {
                    Value::Table(table) => {
                        let table = self.begin(table, open.len() + 1, stack)?;
                        stack += table.stack();
                        open.push(table);
                    }
                    scalar => self.write_scalar(&scalar)?,
                }
            }
            match open.last_mut() {
                None => return Ok(()),
                Some(Open::Array { table, next, len }) if *next <= *len => {
                    if *next > 1 {
                        self.out.push(b',');
                    }
                    value = Some(table.raw_get(*next)?);
                    *next += 1;
                }
                Some(Open::Object { table, key }) => {
                    let (after, item): (Value, Value) = self.next.call((&*table, &*key))?;
                    if after.is_nil() {
                        self.out.push(b'}');
                        stack -= open.pop().map_or(0, |table| table.stack());
                        continue;
                    }
                    if !key.is_nil() {
                        self.out.push(b',');
                    }
                    self.write_key(&after)?;
                    *key = after;
                    value = Some(item);
                }
                Some(Open::Array { .. }) => {
                    self.out.push(b']');
                    stack -= open.pop().map_or(0, |table| table.stack());
                }
            }
        }
    }

    fn begin(&mut self, table: Table, depth: usize, stack: usize) -> mlua::Result<Open> {
        if depth > self.settings.encode_max_depth || stack >= DEEPEST {
            let text = format!("Cannot serialise, excessive nesting ({depth})");
            return Err(raise::text(self.lua, &text));
        }
        match self.array_length(&table)? {
            Some(len) => {
                self.out.push(b'[');
                Ok(Open::Array {
                    table,
                    next: 1,
                    len,
                })
            }
            None => {
                self.out.push(b'{');
                Ok(Open::Object {
                    table,
                    key: Value::Nil,
                })
            }
        }
    }

    fn write_scalar(&mut self, value: &Value) -> mlua::Result<()> {
        match value {
            Value::Nil => self.out.extend_from_slice(b"null"),
            Value::LightUserData(LightUserData(pointer)) if pointer.is_null() => {
                self.out.extend_from_slice(b"null");
            }
            Value::Boolean(true) => self.out.extend_from_slice(b"true"),
            Value::Boolean(false) => self.out.extend_from_slice(b"false"),
            #[expect(clippy::cast_precision_loss, reason = "it was a double before")]
            Value::Integer(number) => self.write_number(*number as f64)?,
            Value::Number(number) => self.write_number(*number)?,
            Value::String(text) => write_string(&text.as_bytes(), &mut self.out),
            other => {
                let text = format!("Cannot serialise {}: type not supported", other.type_name());
                return Err(raise::text(self.lua, &text));
            }
        }
        Ok(())
    }

    fn write_number(&mut self, number: f64) -> mlua::Result<()> {
        let text = match self.settings.encode_invalid_numbers {
            _ if number.is_finite() => format_g(number, self.settings.number_precision),
            InvalidNumbers::Refused => {
                return Err(raise::text(
                    self.lua,
                    "Cannot serialise number: must not be NaN or Inf",
                ));
            }
            InvalidNumbers::Null => "null".to_owned(),
            InvalidNumbers::Written if number.is_nan() => "nan".to_owned(),
            InvalidNumbers::Written if number < 0.0 => "-inf".to_owned(),
            InvalidNumbers::Written => "inf".to_owned(),
        };
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// The largest index when all keys are positive integers and there are any.
    fn array_length(&self, table: &Table) -> mlua::Result<Option<i64>> {
        let (mut max, mut items, mut is_array) = (0, 0, true);
        for pair in table.pairs::<Value, Value>() {
            match pair?.0 {
                Value::Integer(index) if (1..=MAX_INDEX).contains(&index) => {
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
        let Settings {
            sparse_ratio,
            sparse_safe,
            sparse_to_object,
            ..
        } = self.settings;
        if sparse_ratio == 0 || max <= items * sparse_ratio || max <= sparse_safe {
            return Ok(Some(max));
        }
        match sparse_to_object {
            true => Ok(None),
            false => Err(raise::text(
                self.lua,
                "Cannot serialise table: excessively sparse array",
            )),
        }
    }

    fn write_key(&mut self, key: &Value) -> mlua::Result<()> {
        match key {
            Value::String(key) => write_string(&key.as_bytes(), &mut self.out),
            Value::Integer(_) | Value::Number(_) => {
                self.out.push(b'"');
                self.write_scalar(key)?;
                self.out.push(b'"');
            }
            _ => {
                let text = format!(
                    "Cannot serialise {}: table key must be a number or string",
                    key.type_name()
                );
                return Err(raise::text(self.lua, &text));
            }
        }
        self.out.push(b':');
        Ok(())
    }
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
