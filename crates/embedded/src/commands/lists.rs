//! Lists.

use bytes::Bytes;
use redkit_core::{ServerError, Value};

use super::{Spec, int, read, write};
use crate::args::{index_range, integer, is, owned, parse_integer, positive};
use crate::error::{self, Reply};
use crate::state::State;
use crate::value::List;

pub(super) const COMMANDS: &[Spec] = &[
    write("LPUSH", -3, |s, a| push(s, a, End::Left, false)),
    write("RPUSH", -3, |s, a| push(s, a, End::Right, false)),
    write("LPUSHX", -3, |s, a| push(s, a, End::Left, true)),
    write("RPUSHX", -3, |s, a| push(s, a, End::Right, true)),
    write("LPOP", -2, |s, a| pop(s, a, End::Left, "lpop")),
    write("RPOP", -2, |s, a| pop(s, a, End::Right, "rpop")),
    read("LLEN", 2, llen),
    read("LRANGE", 4, lrange),
    read("LINDEX", 3, lindex),
    write("LSET", 4, lset),
    write("LINSERT", 5, linsert),
    write("LREM", 4, lrem),
    write("LTRIM", 4, ltrim),
    read("LPOS", -3, lpos),
    write("RPOPLPUSH", 3, rpop_lpush),
    write("LMOVE", 5, lmove),
    write("LMPOP", -4, lmpop),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Left,
    Right,
}

impl End {
    pub(super) fn parse(arg: &[u8]) -> Result<Self, ServerError> {
        if is(arg, "LEFT") {
            Ok(End::Left)
        } else if is(arg, "RIGHT") {
            Ok(End::Right)
        } else {
            Err(error::syntax())
        }
    }

    fn push(self, list: &mut List, item: Bytes) {
        match self {
            End::Left => list.push_front(item),
            End::Right => list.push_back(item),
        }
    }

    fn pop(self, list: &mut List) -> Option<Bytes> {
        match self {
            End::Left => list.pop_front(),
            End::Right => list.pop_back(),
        }
    }
}

fn push(state: &mut State, args: &[&[u8]], end: End, only_present: bool) -> Reply {
    let [key, items @ ..] = args else {
        return Err(error::syntax());
    };
    if only_present && state.db.view::<List>(key)?.is_none() {
        return Ok(Value::Int(0));
    }
    let list = state.db.edit_or_new::<List>(key)?;
    for item in items {
        end.push(list, owned(item));
    }
    let len = list.len();
    state.db.changed(key);
    Ok(int(len))
}

fn pop(state: &mut State, args: &[&[u8]], end: End, command: &str) -> Reply {
    let (key, count) = match args {
        [key] => (key, None),
        [key, count] => (key, Some(positive(count)?)),
        _ => return Err(error::arity(command)),
    };
    let Some(list) = state.db.edit::<List>(key)? else {
        return Ok(Value::Nil);
    };
    let Some(count) = count else {
        let item = end.pop(list).map_or(Value::Nil, Value::Bulk);
        state.db.shrunk(key);
        return Ok(item);
    };
    let items = pop_many(list, end, count);
    if !items.is_empty() {
        state.db.shrunk(key);
    }
    Ok(Value::Array(items))
}

fn pop_many(list: &mut List, end: End, count: usize) -> Vec<Value> {
    let count = count.min(list.len());
    (0..count)
        .filter_map(|_| end.pop(list))
        .map(Value::Bulk)
        .collect()
}

fn llen(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key] = args else {
        return Err(error::syntax());
    };
    Ok(int(state.db.view::<List>(key)?.map_or(0, List::len)))
}

fn lrange(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, start, stop] = args else {
        return Err(error::syntax());
    };
    let (start, stop) = (integer(start)?, integer(stop)?);
    let items = state.db.view::<List>(key)?.and_then(|list| {
        let (first, last) = index_range(start, stop, list.len())?;
        Some(list.range(first..=last).cloned().map(Value::Bulk).collect())
    });
    Ok(Value::Array(items.unwrap_or_default()))
}

/// An index that may count from the end.
fn position(index: i64, len: usize) -> Option<usize> {
    let len = i64::try_from(len).ok()?;
    let index = match index < 0 {
        true => index.checked_add(len)?,
        false => index,
    };
    usize::try_from(index).ok()
}

fn lindex(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, index] = args else {
        return Err(error::syntax());
    };
    let Some(list) = state.db.view::<List>(key)? else {
        return Ok(Value::Nil);
    };
    let item = position(integer(index)?, list.len()).and_then(|index| list.get(index));
    Ok(item.map_or(Value::Nil, |item| Value::Bulk(item.clone())))
}

fn lset(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, index, item] = args else {
        return Err(error::syntax());
    };
    let list = state.db.edit::<List>(key)?.ok_or_else(error::no_such_key)?;
    let len = list.len();
    let place = position(integer(index)?, len)
        .and_then(|index| list.get_mut(index))
        .ok_or_else(error::index_out_of_range)?;
    *place = owned(item);
    state.db.changed(key);
    Ok(Value::Ok)
}

fn linsert(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, side, pivot, item] = args else {
        return Err(error::syntax());
    };
    let offset = if is(side, "BEFORE") {
        0
    } else if is(side, "AFTER") {
        1
    } else {
        return Err(error::syntax());
    };
    let Some(list) = state.db.edit::<List>(key)? else {
        return Ok(Value::Int(0));
    };
    let Some(found) = list.iter().position(|present| present == pivot) else {
        return Ok(Value::Int(-1));
    };
    list.insert(found + offset, owned(item));
    let len = list.len();
    state.db.changed(key);
    Ok(int(len))
}

fn lrem(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, count, item] = args else {
        return Err(error::syntax());
    };
    let count = integer(count)?;
    let Some(list) = state.db.edit::<List>(key)? else {
        return Ok(Value::Int(0));
    };
    let mut left = match count {
        0 => u64::MAX,
        count => count.unsigned_abs(),
    };
    let before = list.len();
    let mut keep = |present: &Bytes| {
        let removed = left > 0 && present == item;
        left -= u64::from(removed);
        !removed
    };
    if count < 0 {
        let mut kept: List = std::mem::take(list);
        kept.make_contiguous().reverse();
        kept.retain(&mut keep);
        kept.make_contiguous().reverse();
        *list = kept;
    } else {
        list.retain(&mut keep);
    }
    let removed = before - list.len();
    if removed > 0 {
        state.db.shrunk(key);
    }
    Ok(int(removed))
}

fn ltrim(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, start, stop] = args else {
        return Err(error::syntax());
    };
    let (start, stop) = (integer(start)?, integer(stop)?);
    let Some(list) = state.db.edit::<List>(key)? else {
        return Ok(Value::Ok);
    };
    match index_range(start, stop, list.len()) {
        Some((first, last)) => {
            list.truncate(last + 1);
            list.drain(..first);
        }
        None => list.clear(),
    }
    state.db.shrunk(key);
    Ok(Value::Ok)
}

fn lpos(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, item, rest @ ..] = args else {
        return Err(error::syntax());
    };
    let (mut rank, mut count, mut max_len) = (1_i64, None, 0_usize);
    let (options, []) = rest.as_chunks::<2>() else {
        return Err(error::syntax());
    };
    for [option, amount] in options {
        let natural = |text: &str| {
            parse_integer(amount)
                .and_then(|n| usize::try_from(n).ok())
                .ok_or_else(|| error::err(text))
        };
        if is(option, "RANK") {
            rank = integer(amount)?;
            if rank == 0 {
                return Err(error::err(
                    "RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
                ));
            }
        } else if is(option, "COUNT") {
            count = Some(natural("COUNT can't be negative")?);
        } else if is(option, "MAXLEN") {
            max_len = natural("MAXLEN can't be negative")?;
        } else {
            return Err(error::syntax());
        }
    }
    let nothing = || count.map_or(Value::Nil, |_| Value::Array(Vec::new()));
    let Some(list) = state.db.view::<List>(key)? else {
        return Ok(nothing());
    };
    let forward = rank > 0;
    let compared = if max_len == 0 { list.len() } else { max_len };
    let skipped = usize::try_from(rank.unsigned_abs() - 1).unwrap_or(usize::MAX);
    let wanted = match count {
        None => 1,
        Some(0) => usize::MAX,
        Some(count) => count,
    };
    let len = list.len();
    let at = |n: usize| if forward { n } else { len - 1 - n };
    let mut found = (0..len.min(compared))
        .map(at)
        .filter(|&n| list.get(n).is_some_and(|present| present == item))
        .skip(skipped)
        .take(wanted)
        .map(int);
    Ok(match count {
        None => found.next().unwrap_or(Value::Nil),
        Some(_) => Value::Array(found.collect()),
    })
}

fn rpop_lpush(state: &mut State, args: &[&[u8]]) -> Reply {
    let [source, target] = args else {
        return Err(error::syntax());
    };
    move_item(state, source, target, End::Right, End::Left)
}

fn lmove(state: &mut State, args: &[&[u8]]) -> Reply {
    let [source, target, from, to] = args else {
        return Err(error::syntax());
    };
    move_item(state, source, target, End::parse(from)?, End::parse(to)?)
}

pub(super) fn move_item(
    state: &mut State,
    source: &[u8],
    target: &[u8],
    from: End,
    to: End,
) -> Reply {
    if state.db.view::<List>(source)?.is_none() {
        return Ok(Value::Nil);
    }
    state.db.view::<List>(target)?;
    let Some(item) = state
        .db
        .edit::<List>(source)?
        .and_then(|list| from.pop(list))
    else {
        return Ok(Value::Nil);
    };
    to.push(state.db.edit_or_new::<List>(target)?, item.clone());
    state.db.shrunk(source);
    state.db.changed(target);
    Ok(Value::Bulk(item))
}

fn lmpop(state: &mut State, args: &[&[u8]]) -> Reply {
    let (keys, end, count) = parse_lmpop(args)?;
    for key in keys {
        if let Some(reply) = pop_from(state, key, end, count)? {
            return Ok(reply);
        }
    }
    Ok(Value::Nil)
}

/// `numkeys key [key …] LEFT|RIGHT [COUNT count]`.
pub(super) fn parse_lmpop<'a, 'b>(
    args: &'a [&'b [u8]],
) -> Result<(&'a [&'b [u8]], End, usize), ServerError> {
    let (keys, rest) = super::counted_keys(args)?;
    let [end, rest @ ..] = rest else {
        return Err(error::syntax());
    };
    Ok((keys, End::parse(end)?, super::pop_count(rest)?))
}

/// Pops from a key that is not empty; the reply names the key.
pub(super) fn pop_from(
    state: &mut State,
    key: &[u8],
    end: End,
    count: usize,
) -> Result<Option<Value>, ServerError> {
    let Some(list) = state.db.edit::<List>(key)? else {
        return Ok(None);
    };
    let items = pop_many(list, end, count);
    state.db.shrunk(key);
    Ok(Some(Value::Array(vec![
        Value::Bulk(owned(key)),
        Value::Array(items),
    ])))
}
