//! Strings as rows of bits. Bits are counted from the most significant one of the first byte.

use bytes::Bytes;
use redkit_core::{ServerError, Value};

use super::strings::{MAX_LEN, modify};
use super::{Spec, int, read, write};
use crate::args::{index_range, integer, is, parse_integer};
use crate::error::{self, Reply};
use crate::state::State;

pub(super) const COMMANDS: &[Spec] = &[
    write("SETBIT", 4, set_bit),
    read("GETBIT", 3, get_bit),
    read("BITCOUNT", -2, bit_count),
    read("BITPOS", -3, bit_pos),
    write("BITOP", -4, bit_op),
];

fn set_bit(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, offset, bit] = args else {
        return Err(error::syntax());
    };
    let (byte, mask) = bit_offset(offset)?;
    let on = match parse_integer(bit) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(error::err("bit is not an integer or out of range")),
    };
    let value = state.db.edit_or_new::<Bytes>(key)?;
    let mut previous = false;
    let grows = value.len() <= byte;
    modify(value, |bytes| {
        if grows {
            bytes.resize(byte + 1, 0);
        }
        if let Some(target) = bytes.get_mut(byte) {
            previous = *target & mask != 0;
            match on {
                true => *target |= mask,
                false => *target &= !mask,
            }
        }
    });
    if grows || previous != on {
        state.db.changed(key);
    }
    Ok(Value::Int(previous.into()))
}

fn get_bit(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, offset] = args else {
        return Err(error::syntax());
    };
    let (byte, mask) = bit_offset(offset)?;
    let value = state.db.view::<Bytes>(key)?;
    let byte = value.and_then(|value| value.get(byte)).unwrap_or(&0);
    Ok(Value::Int((byte & mask != 0).into()))
}

/// The byte and the mask of a bit, which are counted from the most significant one.
fn bit_offset(arg: &[u8]) -> Result<(usize, u8), ServerError> {
    let offset = parse_integer(arg)
        .and_then(|offset| usize::try_from(offset).ok())
        .filter(|offset| offset / 8 < MAX_LEN)
        .ok_or_else(|| error::err("bit offset is not an integer or out of range"))?;
    Ok((offset / 8, 0x80 >> (offset % 8)))
}

/// The bits from the first to the last one of a range, as `BITCOUNT` and `BITPOS` take it.
fn bit_range(
    start: &[u8],
    end: &[u8],
    unit: Option<&&[u8]>,
    len: usize,
) -> Result<Option<(usize, usize)>, ServerError> {
    let (start, end) = (integer(start)?, integer(end)?);
    let by_bit = match unit {
        None => false,
        Some(unit) if is(unit, "BYTE") => false,
        Some(unit) if is(unit, "BIT") => true,
        Some(_) => return Err(error::syntax()),
    };
    let units = if by_bit { len * 8 } else { len };
    // Both ends clamp to the first unit, unlike the ranges of lists.
    let signed = i64::try_from(units).unwrap_or(i64::MAX);
    let clamp = |index: i64| match index < 0 {
        true => index.saturating_add(signed).max(0),
        false => index,
    };
    Ok(
        index_range(clamp(start), clamp(end), units).map(|(first, last)| match by_bit {
            true => (first, last),
            false => (first * 8, last * 8 + 7),
        }),
    )
}

fn is_reversed(start: &[u8], end: &[u8]) -> bool {
    matches!(
        (parse_integer(start), parse_integer(end)),
        (Some(start), Some(end)) if start < 0 && end < 0 && start > end
    )
}

fn bit_at(bytes: &[u8], index: usize) -> bool {
    bytes
        .get(index / 8)
        .is_some_and(|byte| byte & (0x80 >> (index % 8)) != 0)
}

fn bit_count(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, range @ ..] = args else {
        return Err(error::syntax());
    };
    let Some(value) = state.db.view::<Bytes>(key)? else {
        return Ok(Value::Int(0));
    };
    let range = match range {
        [] => Some((0, value.len() * 8)),
        // The wrong way round it is empty, also where clamping would leave the first byte.
        [start, end, ..] if is_reversed(start, end) => return Ok(Value::Int(0)),
        [start, end, unit @ ..] if unit.len() <= 1 => {
            let range = bit_range(start, end, unit.first(), value.len())?;
            range.map(|(first, last)| (first, last + 1))
        }
        _ => return Err(error::syntax()),
    };
    let Some((first, end)) = range else {
        return Ok(Value::Int(0));
    };
    // Whole bytes at once, single bits at both ends.
    let (whole, rest) = (first.div_ceil(8), end / 8);
    let count = match whole < rest {
        true => {
            let bytes = value.get(whole..rest).unwrap_or_default();
            let inside: usize = bytes.iter().map(|byte| byte.count_ones() as usize).sum();
            let ends = (first..whole * 8).chain(rest * 8..end);
            inside + ends.filter(|&bit| bit_at(value, bit)).count()
        }
        false => (first..end).filter(|&bit| bit_at(value, bit)).count(),
    };
    Ok(int(count))
}

fn bit_pos(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, bit, range @ ..] = args else {
        return Err(error::syntax());
    };
    let wanted = match integer(bit)? {
        0 => false,
        1 => true,
        _ => return Err(error::err("The bit argument must be 1 or 0.")),
    };
    let Some(value) = state.db.view::<Bytes>(key)? else {
        return Ok(Value::Int(if wanted { -1 } else { 0 }));
    };
    let found = match range {
        [] => bit_range(b"0", b"-1", None, value.len())?,
        [start] => bit_range(start, b"-1", None, value.len())?,
        [start, end, unit @ ..] if unit.len() <= 1 => {
            bit_range(start, end, unit.first(), value.len())?
        }
        _ => return Err(error::syntax()),
    };
    let Some((first, last)) = found else {
        return Ok(Value::Int(-1));
    };
    let uniform = if wanted { 0x00 } else { 0xff };
    let mut bit = first;
    while bit <= last && bit / 8 < value.len() {
        // A byte in which it cannot be is passed over.
        if bit % 8 == 0 && value.get(bit / 8) == Some(&uniform) {
            bit += 8;
        } else if bit_at(value, bit) == wanted {
            return Ok(int(bit));
        } else {
            bit += 1;
        }
    }
    // Without an end the string goes on with zeros.
    Ok(match wanted || range.len() > 1 {
        true => Value::Int(-1),
        false => int(value.len() * 8),
    })
}

fn bit_op(state: &mut State, args: &[&[u8]]) -> Reply {
    let [operation, target, sources @ ..] = args else {
        return Err(error::syntax());
    };
    let combine: fn(u8, u8) -> u8 = if is(operation, "AND") {
        |a, b| a & b
    } else if is(operation, "OR") {
        |a, b| a | b
    } else if is(operation, "XOR") {
        |a, b| a ^ b
    } else if is(operation, "NOT") {
        if sources.len() != 1 {
            return Err(error::err(
                "BITOP NOT must be called with a single source key.",
            ));
        }
        |a, _| !a
    } else {
        return Err(error::syntax());
    };
    let sources = sources
        .iter()
        .map(|key| Ok(state.db.view::<Bytes>(key)?.cloned().unwrap_or_default()))
        .collect::<Result<Vec<Bytes>, ServerError>>()?;
    let len = sources.iter().map(Bytes::len).max().unwrap_or(0);
    if len == 0 {
        state.db.remove(target);
        return Ok(Value::Int(0));
    }
    let mut rest = sources.iter();
    let mut result: Vec<u8> = rest.next().map(|first| first.to_vec()).unwrap_or_default();
    result.resize(len, 0);
    if is(operation, "NOT") {
        result.iter_mut().for_each(|byte| *byte = combine(*byte, 0));
    }
    for source in rest {
        let padded = source.iter().copied().chain(std::iter::repeat(0));
        for (byte, other) in result.iter_mut().zip(padded) {
            *byte = combine(*byte, other);
        }
    }
    state.db.put(target, Bytes::from(result));
    Ok(int(len))
}
