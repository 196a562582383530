//! Integers of any width within a string: `BITFIELD`.

use bytes::Bytes;
use redkit_core::{ServerError, Value};

use super::strings::{MAX_LEN, modify};
use super::{Spec, read, write};
use crate::args::{integer, is, parse_integer};
use crate::error::{self, Reply};
use crate::state::State;

pub(super) const COMMANDS: &[Spec] = &[
    write("BITFIELD", -2, bit_field),
    read("BITFIELD_RO", -2, bit_field_ro),
];

/// The type and place of an integer.
#[derive(Clone, Copy)]
struct Field {
    signed: bool,
    bits: usize,
    offset: usize,
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

/// What becomes of a number that does not fit.
#[derive(Clone, Copy)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

struct Operation {
    field: Field,
    action: Action,
    overflow: Overflow,
}

impl Field {
    fn parse(kind: &[u8], offset: &[u8]) -> Result<Self, ServerError> {
        let invalid = || {
            error::err(
                "Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
            )
        };
        let (signed, bits) = match kind {
            [b'i', bits @ ..] => (true, bits),
            [b'u', bits @ ..] => (false, bits),
            _ => return Err(invalid()),
        };
        let most = if signed { 64 } else { 63 };
        let bits = parse_integer(bits)
            .filter(|bits| (1..=most).contains(bits))
            .and_then(|bits| usize::try_from(bits).ok())
            .ok_or_else(invalid)?;
        let (digits, unit) = match offset {
            [b'#', digits @ ..] => (digits, bits),
            digits => (digits, 1),
        };
        let offset = parse_integer(digits)
            .and_then(|offset| usize::try_from(offset).ok())
            .and_then(|offset| offset.checked_mul(unit))
            .filter(|offset| offset / 8 < MAX_LEN)
            .ok_or_else(|| error::err("bit offset is not an integer or out of range"))?;
        Ok(Self {
            signed,
            bits,
            offset,
        })
    }

    /// The bytes that it reaches into.
    fn end(self) -> usize {
        (self.offset + self.bits).div_ceil(8)
    }

    fn read(self, bytes: &[u8]) -> i64 {
        let mut number: u64 = 0;
        for bit in self.offset..self.offset + self.bits {
            let byte = bytes.get(bit / 8).copied().unwrap_or(0);
            number = number << 1 | u64::from(byte >> (7 - bit % 8) & 1);
        }
        let unused = 64 - self.bits;
        match self.signed {
            true => (number << unused).cast_signed() >> unused,
            false => number.cast_signed(),
        }
    }

    fn write(self, bytes: &mut [u8], number: i64) {
        for (index, bit) in (self.offset..self.offset + self.bits).rev().enumerate() {
            let mask = 0x80 >> (bit % 8);
            if let Some(byte) = bytes.get_mut(bit / 8) {
                match number >> index & 1 {
                    1 => *byte |= mask,
                    _ => *byte &= !mask,
                }
            }
        }
    }

    /// The number as the field can hold it; `None` when it fails.
    fn fit(self, number: i128, overflow: Overflow) -> Option<i64> {
        let (least, greatest) = match self.signed {
            true => (
                -(1_i128 << (self.bits - 1)),
                (1_i128 << (self.bits - 1)) - 1,
            ),
            false => (0, (1_i128 << self.bits) - 1),
        };
        let fitting = match overflow {
            _ if (least..=greatest).contains(&number) => number,
            Overflow::Fail => return None,
            Overflow::Saturate => number.clamp(least, greatest),
            Overflow::Wrap => {
                let wrapped = number & ((1_i128 << self.bits) - 1);
                match wrapped > greatest {
                    true => wrapped - (1_i128 << self.bits),
                    false => wrapped,
                }
            }
        };
        i64::try_from(fitting).ok()
    }
}

fn parse(args: &[&[u8]]) -> Result<Vec<Operation>, ServerError> {
    let mut overflow = Overflow::Wrap;
    let mut operations = Vec::new();
    let mut rest = args;
    loop {
        let (action, field);
        (action, field, rest) = match rest {
            [] => return Ok(operations),
            [name, kind, rest @ ..] if is(name, "OVERFLOW") => {
                overflow = if is(kind, "WRAP") {
                    Overflow::Wrap
                } else if is(kind, "SAT") {
                    Overflow::Saturate
                } else if is(kind, "FAIL") {
                    Overflow::Fail
                } else {
                    return Err(error::err("Invalid OVERFLOW type specified"));
                };
                (None, None, rest)
            }
            [name, kind, offset, rest @ ..] if is(name, "GET") => {
                (Some(Action::Get), Some(Field::parse(kind, offset)?), rest)
            }
            [name, kind, offset, number, rest @ ..] if is(name, "SET") || is(name, "INCRBY") => {
                let field = Field::parse(kind, offset)?;
                let number = integer(number)?;
                let action = match is(name, "SET") {
                    true => Action::Set(number),
                    false => Action::Add(number),
                };
                (Some(action), Some(field), rest)
            }
            _ => return Err(error::syntax()),
        };
        if let (Some(action), Some(field)) = (action, field) {
            operations.push(Operation {
                field,
                action,
                overflow,
            });
        }
    }
}

fn bit_field_ro(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, rest @ ..] = args else {
        return Err(error::syntax());
    };
    let operations = parse(rest)?;
    if operations.iter().any(|o| !matches!(o.action, Action::Get)) {
        return Err(error::err("BITFIELD_RO only supports the GET subcommand"));
    }
    run(state, key, &operations)
}

fn bit_field(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, rest @ ..] = args else {
        return Err(error::syntax());
    };
    let operations = parse(rest)?;
    run(state, key, &operations)
}

fn run(state: &mut State, key: &[u8], operations: &[Operation]) -> Reply {
    let writing = operations
        .iter()
        .filter(|o| !matches!(o.action, Action::Get));
    let Some(end) = writing.map(|operation| operation.field.end()).max() else {
        let value = state.db.view::<Bytes>(key)?;
        let bytes = value.map_or(&[][..], |value| value);
        let numbers = operations.iter().map(|o| Value::Int(o.field.read(bytes)));
        return Ok(Value::Array(numbers.collect()));
    };
    let value = state.db.edit_or_new::<Bytes>(key)?;
    let mut replies = Vec::with_capacity(operations.len());
    let mut changes = false;
    modify(value, |bytes| {
        let grows = bytes.len() < end;
        if grows {
            bytes.resize(end, 0);
        }
        for operation in operations {
            let (reply, written) = operation.run(bytes);
            changes |= written.is_some_and(|is_another| is_another || grows);
            replies.push(reply);
        }
    });
    if changes {
        state.db.changed(key);
    }
    Ok(Value::Array(replies))
}

impl Operation {
    /// Gives the reply and, when something was written, whether it is another number than before.
    fn run(&self, bytes: &mut [u8]) -> (Value, Option<bool>) {
        let previous = self.field.read(bytes);
        let (wanted, shows_previous) = match self.action {
            Action::Get => return (Value::Int(previous), None),
            Action::Set(number) if !self.field.signed => {
                // A negative number is a large one here, as on the server.
                (i128::from(number.cast_unsigned()), true)
            }
            Action::Set(number) => (i128::from(number), true),
            Action::Add(number) => (i128::from(previous) + i128::from(number), false),
        };
        let Some(number) = self.field.fit(wanted, self.overflow) else {
            return (Value::Nil, None);
        };
        self.field.write(bytes, number);
        let shown = if shows_previous { previous } else { number };
        (Value::Int(shown), Some(previous != number))
    }
}
