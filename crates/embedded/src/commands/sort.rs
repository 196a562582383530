//! `SORT`.

use std::cmp::Ordering;

use bytes::Bytes;
use redkit_core::{ServerError, Value};

use super::{Spec, int, read, write};
use crate::args::{integer, is, parse_float};
use crate::error::{self, Reply};
use crate::state::State;
use crate::value::{Data, Hash, List};

pub(super) const COMMANDS: &[Spec] = &[
    write("SORT", -2, |s, a| sort(s, a, true)),
    read("SORT_RO", -2, |s, a| sort(s, a, false)),
];

#[derive(Default)]
struct Options<'a> {
    descending: bool,
    alphabetical: bool,
    limit: Option<(i64, i64)>,
    by: Option<&'a [u8]>,
    get: Vec<&'a [u8]>,
    store: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(args: &[&'a [u8]], may_store: bool) -> Result<Self, ServerError> {
        let mut options = Self::default();
        let mut rest = args;
        loop {
            rest = match rest {
                [] => return Ok(options),
                [option, rest @ ..] if is(option, "ASC") => {
                    options.descending = false;
                    rest
                }
                [option, rest @ ..] if is(option, "DESC") => {
                    options.descending = true;
                    rest
                }
                [option, rest @ ..] if is(option, "ALPHA") => {
                    options.alphabetical = true;
                    rest
                }
                [option, offset, count, rest @ ..] if is(option, "LIMIT") => {
                    options.limit = Some((integer(offset)?, integer(count)?));
                    rest
                }
                [option, key, rest @ ..] if may_store && is(option, "STORE") => {
                    options.store = Some(key);
                    rest
                }
                [option, pattern, rest @ ..] if is(option, "BY") => {
                    options.by = Some(pattern);
                    rest
                }
                [option, pattern, rest @ ..] if is(option, "GET") => {
                    options.get.push(pattern);
                    rest
                }
                _ => return Err(error::syntax()),
            };
        }
    }

    /// Whether it sorts at all: a pattern without `*` gives every item the same weight.
    fn sorts(&self) -> bool {
        self.by.is_none_or(|pattern| pattern.contains(&b'*'))
    }

    /// Which of `len` items are wanted.
    fn range(&self, len: usize) -> std::ops::Range<usize> {
        let (offset, count) = self.limit.unwrap_or((0, -1));
        let start = usize::try_from(offset.max(0))
            .unwrap_or(usize::MAX)
            .min(len);
        let end = match usize::try_from(count) {
            Ok(count) => start.saturating_add(count).min(len),
            Err(_) => len,
        };
        start..end
    }
}

fn sort(state: &mut State, args: &[&[u8]], may_store: bool) -> Reply {
    let [key, rest @ ..] = args else {
        return Err(error::syntax());
    };
    let mut options = Options::parse(rest, may_store)?;
    let (mut items, unordered): (Vec<Bytes>, bool) = match state.db.data(key) {
        None => (Vec::new(), false),
        Some(Data::List(list)) => (list.iter().cloned().collect(), false),
        Some(Data::Set(set)) => (set.iter().cloned().collect(), true),
        Some(Data::SortedSet(set)) => (
            set.iter().map(|(member, _)| member.clone()).collect(),
            false,
        ),
        Some(_) => return Err(error::wrong_type()),
    };
    if unordered && !options.sorts() && (options.store.is_some() || state.in_script) {
        // The order of a set decides neither what is stored nor what a script does.
        options.by = None;
        options.alphabetical = true;
    }
    if options.sorts() {
        items = in_order(state, items, &options)?;
    } else if options.descending {
        items.reverse();
    }
    let wanted = options.range(items.len());
    let wanted = items.get(wanted).unwrap_or_default();
    let found: Vec<Option<Bytes>> = match options.get.is_empty() {
        true => wanted.iter().cloned().map(Some).collect(),
        false => wanted
            .iter()
            .flat_map(|item| options.get.iter().map(move |pattern| (item, pattern)))
            .map(|(item, pattern)| look_up(state, pattern, item))
            .collect(),
    };
    let Some(target) = options.store else {
        let items = found.into_iter();
        return Ok(Value::Array(
            items
                .map(|item| item.map_or(Value::Nil, Value::Bulk))
                .collect(),
        ));
    };
    let list: List = found.into_iter().map(Option::unwrap_or_default).collect();
    let len = list.len();
    match list.is_empty() {
        true => drop(state.db.remove(target)),
        false => state.db.put(target, list),
    }
    Ok(int(len))
}

/// The weight by which an item is sorted.
enum Weight {
    Number(f64),
    Text(Option<Bytes>),
}

fn in_order(
    state: &mut State,
    items: Vec<Bytes>,
    options: &Options<'_>,
) -> Result<Vec<Bytes>, ServerError> {
    let mut weighed = items
        .into_iter()
        .map(|item| {
            let by = match options.by {
                Some(pattern) => look_up(state, pattern, &item),
                None => Some(item.clone()),
            };
            let weight = match options.alphabetical {
                true => Weight::Text(by),
                false => {
                    Weight::Number(by.map_or(Some(0.0), |by| number(&by)).ok_or_else(|| {
                        error::err("One or more scores can't be converted into double")
                    })?)
                }
            };
            Ok((weight, item))
        })
        .collect::<Result<Vec<(Weight, Bytes)>, ServerError>>()?;
    weighed.sort_by(|(a, x), (b, y)| {
        let order = match (a, b) {
            (Weight::Number(a), Weight::Number(b)) => a
                .partial_cmp(b)
                .unwrap_or(Ordering::Equal)
                .then_with(|| x.cmp(y)),
            (Weight::Text(a), Weight::Text(b)) => a.cmp(b),
            _ => Ordering::Equal,
        };
        match options.descending {
            true => order.reverse(),
            false => order,
        }
    });
    Ok(weighed.into_iter().map(|(_, item)| item).collect())
}

/// A number as C reads it: blanks before it are passed over, nothing is 0, and a zero byte ends it.
fn number(text: &[u8]) -> Option<f64> {
    let text = text.split(|&b| b == 0).next().unwrap_or_default();
    match text {
        [] => Some(0.0),
        text => parse_float(text.trim_ascii_start()),
    }
}

/// The value under the key that a pattern makes of an item: `*` stands for the item, `->field` for
/// a field of a hash, `#` for the item itself.
fn look_up(state: &mut State, pattern: &[u8], item: &Bytes) -> Option<Bytes> {
    if pattern == b"#" {
        return Some(item.clone());
    }
    let star = pattern.iter().position(|&b| b == b'*')?;
    let (before, after) = (pattern.get(..star)?, pattern.get(star + 1..)?);
    let arrow = after.windows(2).position(|two| two == b"->");
    let (after, field) = match arrow {
        Some(at) if at + 2 < after.len() => (after.get(..at)?, after.get(at + 2..)),
        _ => (after, None),
    };
    let key = [before, item, after].concat();
    match field {
        Some(field) => state.db.view::<Hash>(&key).ok()??.get(field).cloned(),
        None => state.db.view::<Bytes>(&key).ok()?.cloned(),
    }
}
