//! The settings of the `cjson` library, and the functions of scripts that read and change them. They
//! last until `SCRIPT FLUSH`; a table that `cjson.new()` makes has its own.

use std::sync::Arc;

use mlua::{IntoLua, Lua, MultiValue, Table, Value};
use parking_lot::Mutex;

use super::raise;

/// How values are encoded and decoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// An array with too many gaps is written as an object instead of refused.
    pub(super) sparse_to_object: bool,
    /// An array whose largest index exceeds its number of items by this factor has too many gaps;
    /// 0 allows any number of gaps…
    pub(super) sparse_ratio: i64,
    /// …and a largest index up to this one is always allowed.
    pub(super) sparse_safe: i64,
    /// Tables within tables.
    pub(super) encode_max_depth: usize,
    pub(super) decode_max_depth: usize,
    /// Significant digits of numbers.
    pub(super) number_precision: usize,
    /// Whether a buffer is kept between two calls. The engine has none: nothing depends on it.
    keep_buffer: bool,
    pub(super) encode_invalid_numbers: InvalidNumbers,
    /// Whether infinities, NaN, hexadecimal numbers and leading zeros are read.
    pub(super) decode_invalid_numbers: bool,
}

/// What becomes of infinities and NaN, which JSON does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InvalidNumbers {
    Refused,
    Written,
    Null,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sparse_to_object: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_max_depth: 1_000,
            decode_max_depth: 1_000,
            number_precision: 14,
            keep_buffer: true,
            encode_invalid_numbers: InvalidNumbers::Refused,
            decode_invalid_numbers: true,
        }
    }
}

/// The largest setting that is a number.
const MAX: i64 = i32::MAX as i64;

/// Reads the arguments of a function and changes the settings; gives the settings that it is about.
type Setting = fn(&mut Settings, &Arguments<'_>) -> mlua::Result<Vec<Value>>;

/// The functions, with the number of their arguments.
const FUNCTIONS: &[(&str, usize, Setting)] = &[
    ("encode_sparse_array", 3, |settings, arguments| {
        arguments.truth(1, &mut settings.sparse_to_object)?;
        arguments.integer(2, 0..=MAX, &mut settings.sparse_ratio)?;
        arguments.integer(3, 0..=MAX, &mut settings.sparse_safe)?;
        Ok(vec![
            Value::Boolean(settings.sparse_to_object),
            Value::Integer(settings.sparse_ratio),
            Value::Integer(settings.sparse_safe),
        ])
    }),
    ("encode_max_depth", 1, |settings, arguments| {
        arguments.size(1..=MAX, &mut settings.encode_max_depth)
    }),
    ("decode_max_depth", 1, |settings, arguments| {
        arguments.size(1..=MAX, &mut settings.decode_max_depth)
    }),
    ("encode_number_precision", 1, |settings, arguments| {
        arguments.size(1..=14, &mut settings.number_precision)
    }),
    ("encode_keep_buffer", 1, |settings, arguments| {
        arguments.truth(1, &mut settings.keep_buffer)?;
        Ok(vec![Value::Boolean(settings.keep_buffer)])
    }),
    ("encode_invalid_numbers", 1, |settings, arguments| {
        if let Some(chosen) = arguments.choice(1, &["off", "on", "null"])? {
            settings.encode_invalid_numbers = match chosen {
                0 => InvalidNumbers::Refused,
                1 => InvalidNumbers::Written,
                _ => InvalidNumbers::Null,
            };
        }
        Ok(vec![match settings.encode_invalid_numbers {
            InvalidNumbers::Refused => Value::Boolean(false),
            InvalidNumbers::Written => Value::Boolean(true),
            InvalidNumbers::Null => "null".into_lua(arguments.lua)?,
        }])
    }),
    ("decode_invalid_numbers", 1, |settings, arguments| {
        arguments.truth(1, &mut settings.decode_invalid_numbers)?;
        Ok(vec![Value::Boolean(settings.decode_invalid_numbers)])
    }),
];

/// Puts the functions about settings into a `cjson` table.
pub(super) fn install(
    lua: &Lua,
    cjson: &Table,
    settings: &Arc<Mutex<Settings>>,
) -> mlua::Result<()> {
    for &(name, most, setting) in FUNCTIONS {
        let settings = Arc::clone(settings);
        let function = lua.create_function(move |lua, given: MultiValue| {
            if given.len() > most {
                return Err(raise::bad_argument(
                    lua,
                    most + 1,
                    "found too many arguments",
                ));
            }
            let arguments = Arguments { lua, given: &given };
            let values = setting(&mut settings.lock(), &arguments)?;
            Ok(MultiValue::from_iter(values))
        })?;
        cjson.raw_set(name, function)?;
    }
    Ok(())
}

/// The arguments of a call; an absent one leaves its setting as it is.
struct Arguments<'l> {
    lua: &'l Lua,
    given: &'l MultiValue,
}

impl Arguments<'_> {
    fn get(&self, number: usize) -> Option<&Value> {
        self.given.get(number - 1).filter(|value| !value.is_nil())
    }

    /// The place of a word among `options`; `false` stands for the first, `true` for the second.
    fn choice(&self, number: usize, options: &[&str]) -> mlua::Result<Option<usize>> {
        let Some(value) = self.get(number) else {
            return Ok(None);
        };
        if let Value::Boolean(truth) = value {
            return Ok(Some(usize::from(*truth)));
        }
        let Some(text) = self.lua.coerce_string(value.clone())? else {
            let text = format!("string expected, got {}", value.type_name());
            return Err(raise::bad_argument(self.lua, number, &text));
        };
        let text = text.to_string_lossy();
        match options.iter().position(|option| *option == text) {
            Some(place) => Ok(Some(place)),
            None => Err(raise::bad_argument(
                self.lua,
                number,
                &format!("invalid option '{text}'"),
            )),
        }
    }

    fn truth(&self, number: usize, setting: &mut bool) -> mlua::Result<()> {
        if let Some(chosen) = self.choice(number, &["off", "on"])? {
            *setting = chosen == 1;
        }
        Ok(())
    }

    fn integer(
        &self,
        number: usize,
        range: std::ops::RangeInclusive<i64>,
        setting: &mut i64,
    ) -> mlua::Result<()> {
        let Some(value) = self.get(number) else {
            return Ok(());
        };
        let Some(given) = self.lua.coerce_number(value.clone())? else {
            let text = format!("number expected, got {}", value.type_name());
            return Err(raise::bad_argument(self.lua, number, &text));
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "as C converts it; a number that does not fit is out of every range"
        )]
        let given = given as i64;
        if !range.contains(&given) {
            let (least, most) = (range.start(), range.end());
            // The library names the first argument, whichever it is.
            return Err(raise::bad_argument(
                self.lua,
                1,
                &format!("expected integer between {least} and {most}"),
            ));
        }
        *setting = given;
        Ok(())
    }

    /// The only argument, a positive number.
    fn size(
        &self,
        range: std::ops::RangeInclusive<i64>,
        setting: &mut usize,
    ) -> mlua::Result<Vec<Value>> {
        let mut size = i64::try_from(*setting).unwrap_or(MAX);
        self.integer(1, range, &mut size)?;
        *setting = usize::try_from(size).unwrap_or(*setting);
        Ok(vec![Value::Integer(size)])
    }
}
