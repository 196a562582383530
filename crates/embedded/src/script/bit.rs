//! The `bit` library of scripts: operations on 32-bit integers.

use mlua::{Lua, MultiValue, Table, Value};

use super::raise;

type Unary = (&'static str, fn(u32) -> u32);
type Binary = (&'static str, fn(u32, u32) -> u32);

pub(super) fn table(lua: &Lua) -> mlua::Result<Table> {
    let bit = lua.create_table()?;
    let unary: [Unary; 3] = [
        ("tobit", |a| a),
        ("bnot", |a| !a),
        ("bswap", u32::swap_bytes),
    ];
    for (name, operation) in unary {
        let function = lua.create_function(move |lua, args: MultiValue| {
            Ok(signed(operation(bits(lua, &args, 0, name)?)))
        })?;
        bit.raw_set(name, function)?;
    }
    let folds: [Binary; 3] = [
        ("band", |a, b| a & b),
        ("bor", |a, b| a | b),
        ("bxor", |a, b| a ^ b),
    ];
    for (name, operation) in folds {
        let function = lua.create_function(move |lua, args: MultiValue| {
            let mut result = bits(lua, &args, 0, name)?;
            for index in 1..args.len() {
                result = operation(result, bits(lua, &args, index, name)?);
            }
            Ok(signed(result))
        })?;
        bit.raw_set(name, function)?;
    }
    let shifts: [Binary; 5] = [
        ("lshift", |a, n| a << n),
        ("rshift", |a, n| a >> n),
        ("arshift", |a, n| (a.cast_signed() >> n).cast_unsigned()),
        ("rol", u32::rotate_left),
        ("ror", u32::rotate_right),
    ];
    for (name, operation) in shifts {
        let function = lua.create_function(move |lua, args: MultiValue| {
            let number = bits(lua, &args, 0, name)?;
            // Only the lowest five bits of the distance count.
            Ok(signed(operation(number, bits(lua, &args, 1, name)? & 31)))
        })?;
        bit.raw_set(name, function)?;
    }
    bit.raw_set(
        "tohex",
        lua.create_function(|lua, args| to_hex(lua, &args))?,
    )?;
    Ok(bit)
}

fn to_hex(lua: &Lua, args: &MultiValue) -> mlua::Result<String> {
    let number = bits(lua, args, 0, "tohex")?;
    let digits = match args.len() {
        0 | 1 => 8,
        _ => bits(lua, args, 1, "tohex")?.cast_signed(),
    };
    let wanted = usize::try_from(digits.unsigned_abs().min(8)).unwrap_or(8);
    let all = match digits < 0 {
        true => format!("{number:08X}"),
        false => format!("{number:08x}"),
    };
    Ok(all.get(8 - wanted..).unwrap_or_default().to_owned())
}

/// An argument modulo 2^32, rounded to an integer.
fn bits(lua: &Lua, args: &MultiValue, index: usize, name: &str) -> mlua::Result<u32> {
    let arg = args.get(index).cloned().unwrap_or(Value::Nil);
    let given = if index < args.len() {
        arg.type_name()
    } else {
        "no value"
    };
    match lua.coerce_number(arg)? {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the remainder lies within 0 and 2^32"
        )]
        Some(number) if number.is_finite() => {
            Ok(number.round_ties_even().rem_euclid(4_294_967_296.0) as u32)
        }
        Some(_) => Ok(0),
        None => Err(raise::text(
            lua,
            &format!(
                "bad argument #{} to '{name}' (number expected, got {given})",
                index + 1
            ),
        )),
    }
}

fn signed(bits: u32) -> i32 {
    bits.cast_signed()
}
