//! The `SCAN` family.
//!
//! A cursor is the number of positions that are still to be visited, from the last position down.
//! Collections are indexed, new items come last, and a removal moves the last item into the gap,
//! so an item that is there during the whole scan only ever moves down, towards positions that are
//! still to be visited: it is seen at least once. Each call visits at most `COUNT` positions.

use redkit_core::{ServerError, Value};

use super::{Spec, read};
use crate::args::{integer, is};
use crate::error::{self, Reply};
use crate::glob;
use crate::number::format_g17;
use crate::state::State;
use crate::value::sorted_set::SortedSet;
use crate::value::{Hash, Set};

pub(super) const COMMANDS: &[Spec] = &[
    read("SCAN", -2, scan),
    read("HSCAN", -3, hscan),
    read("SSCAN", -3, sscan),
    read("ZSCAN", -3, zscan),
];

/// A scan's arguments after the key.
struct Scan<'a> {
    cursor: usize,
    pattern: Option<&'a [u8]>,
    type_name: Option<&'a [u8]>,
    count: usize,
}

impl<'a> Scan<'a> {
    fn parse(args: &[&'a [u8]], of_keys: bool) -> Result<Self, ServerError> {
        let mut scan = Scan {
            cursor: 0,
            pattern: None,
            type_name: None,
            count: 10,
        };
        let [cursor, rest @ ..] = args else {
            return Err(error::syntax());
        };
        scan.cursor = parse_cursor(cursor).ok_or_else(|| error::err("invalid cursor"))?;
        let mut rest = rest.iter();
        while let Some(option) = rest.next() {
            let amount = rest.next().ok_or_else(error::syntax)?;
            if is(option, "COUNT") {
                scan.count = match usize::try_from(integer(amount)?) {
                    Ok(count) if count > 0 => count,
                    _ => return Err(error::syntax()),
                };
            } else if is(option, "MATCH") {
                scan.pattern = Some(amount);
            } else if of_keys && is(option, "TYPE") {
                scan.type_name = Some(amount);
            } else {
                return Err(error::syntax());
            }
        }
        Ok(scan)
    }

    /// Visits the next positions of `len`; `item` gives what to report for one of them.
    fn visit(&self, len: usize, mut item: impl FnMut(usize, &mut Vec<Value>)) -> Value {
        let end = match self.cursor {
            0 => len,
            // What lay above was either seen or is gone.
            cursor => cursor.min(len),
        };
        let start = end.saturating_sub(self.count);
        let mut items = Vec::new();
        for slot in (start..end).rev() {
            item(slot, &mut items);
        }
        Value::Array(vec![Value::bulk(start.to_string()), Value::Array(items)])
    }

    fn matches(&self, name: &[u8]) -> bool {
        self.pattern
            .is_none_or(|pattern| glob::matches(pattern, name))
    }
}

/// As C reads an unsigned number: negative ones wrap.
fn parse_cursor(text: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let number: u64 = digits.parse().ok()?;
    let number = if negative {
        number.wrapping_neg()
    } else {
        number
    };
    Some(usize::try_from(number).unwrap_or(usize::MAX))
}

fn scan(state: &mut State, args: &[&[u8]]) -> Reply {
    let scan = Scan::parse(args, true)?;
    let len = state.db.len();
    let db = &state.db;
    Ok(scan.visit(len, |slot, items| {
        if let Some((key, data)) = db.at_slot(slot)
            && scan.matches(key)
            && scan.type_name.is_none_or(|name| is(name, data.type_name()))
        {
            items.push(Value::Bulk(key.clone()));
        }
    }))
}

fn hscan(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, args @ ..] = args else {
        return Err(error::syntax());
    };
    let scan = Scan::parse(args, false)?;
    let hash = state.db.view::<Hash>(key)?;
    Ok(scan.visit(hash.map_or(0, Hash::len), |slot, items| {
        if let Some((field, value)) = hash.and_then(|hash| hash.at_slot(slot))
            && scan.matches(field)
        {
            items.extend([Value::Bulk(field.clone()), Value::Bulk(value.clone())]);
        }
    }))
}

fn sscan(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, args @ ..] = args else {
        return Err(error::syntax());
    };
    let scan = Scan::parse(args, false)?;
    let set = state.db.view::<Set>(key)?;
    Ok(scan.visit(set.map_or(0, Set::len), |slot, items| {
        if let Some(member) = set.and_then(|set| set.get_index(slot))
            && scan.matches(member)
        {
            items.push(Value::Bulk(member.clone()));
        }
    }))
}

fn zscan(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, args @ ..] = args else {
        return Err(error::syntax());
    };
    let scan = Scan::parse(args, false)?;
    let set = state.db.view::<SortedSet>(key)?;
    Ok(scan.visit(set.map_or(0, SortedSet::len), |slot, items| {
        if let Some((member, score)) = set.and_then(|set| set.at_slot(slot))
            && scan.matches(member)
        {
            items.extend([Value::Bulk(member.clone()), Value::bulk(format_g17(score))]);
        }
    }))
}
