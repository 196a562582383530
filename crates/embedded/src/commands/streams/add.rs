//! Writing to a stream, and taking from it: `XADD`, `XTRIM`, `XDEL`, `XSETID`.

use redkit_core::Value;

use super::super::{Spec, int, write};
use super::{now, options};
use crate::args::{integer, is, owned};
use crate::error::{self, Reply};
use crate::state::State;
use crate::value::stream::id::{NewId, StreamId};
use crate::value::stream::{Fields, NotAdded, Stream};

pub(super) const COMMANDS: &[Spec] = &[
    write("XADD", -5, xadd),
    write("XTRIM", -4, xtrim),
    write("XDEL", -3, xdel),
    write("XSETID", -3, xset_id),
];

fn xadd(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, rest @ ..] = args else {
        return Err(error::syntax());
    };
    let (options, wanted, fields) = options::of_add(rest)?;
    if fields.is_empty() || fields.len() % 2 == 1 {
        return Err(error::arity("xadd"));
    }
    if wanted == NewId::Given(StreamId::MIN) {
        return Err(error::err(
            "The ID specified in XADD must be greater than 0-0",
        ));
    }
    let now = now(state);
    let present = state.db.view::<Stream>(key)?;
    if present.is_none() && options.no_new_stream {
        return Ok(Value::Nil);
    }
    let id = match present {
        Some(stream) => stream.next_id(wanted, now),
        None => Stream::default().next_id(wanted, now),
    };
    let id = id.map_err(|refused| {
        error::err(match refused {
            NotAdded::Exhausted => {
                "The stream has exhausted the last possible ID, unable to add more items"
            }
            NotAdded::TooSmall => {
                "The ID specified in XADD is equal or smaller than the target stream top item"
            }
        })
    })?;
    let stream = state.db.edit_or_new::<Stream>(key)?;
    stream.append(
        id,
        fields.iter().map(|field| owned(field)).collect::<Fields>(),
    );
    if let Some((keep, trimming)) = options.trim {
        stream.trim(keep, trimming);
    }
    state.db.changed(key);
    Ok(id.to_value())
}

fn xtrim(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, rest @ ..] = args else {
        return Err(error::syntax());
    };
    let (keep, trimming) = options::of_trim(rest)?;
    let Some(stream) = state.db.edit::<Stream>(key)? else {
        return Ok(Value::Int(0));
    };
    let trimmed = stream.trim(keep, trimming);
    if trimmed > 0 {
        state.db.changed(key);
    }
    Ok(int(trimmed))
}

fn xdel(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, ids @ ..] = args else {
        return Err(error::syntax());
    };
    let Some(stream) = state.db.edit::<Stream>(key)? else {
        return Ok(Value::Int(0));
    };
    let ids = ids
        .iter()
        .map(|id| StreamId::parse(id, 0))
        .collect::<Result<Vec<_>, _>>()?;
    let deleted = ids.into_iter().filter(|id| stream.delete(*id)).count();
    if deleted > 0 {
        state.db.changed(key);
    }
    Ok(int(deleted))
}

fn xset_id(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, last, rest @ ..] = args else {
        return Err(error::syntax());
    };
    let last = StreamId::parse(last, 0)?;
    let (mut added, mut max_deleted) = (None, None);
    let mut rest = rest.iter();
    while let Some(option) = rest.next() {
        let amount = rest.next();
        match amount {
            Some(amount) if is(option, "ENTRIESADDED") => {
                let count = u64::try_from(integer(amount)?)
                    .map_err(|_| error::err("entries_added must be positive"))?;
                added = Some(count);
            }
            Some(amount) if is(option, "MAXDELETEDID") => {
                let id = StreamId::parse(amount, 0)?;
                if last < id {
                    return Err(error::err(
                        "The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                    ));
                }
                max_deleted = Some(id).filter(|id| *id != StreamId::MIN);
            }
            _ => return Err(error::syntax()),
        }
    }
    let stream = state
        .db
        .edit::<Stream>(key)?
        .ok_or_else(error::no_such_key)?;
    if stream.top().is_some_and(|top| last < top) {
        return Err(error::err(
            "The ID specified in XSETID is smaller than the target stream top item",
        ));
    }
    let len = u64::try_from(stream.len()).unwrap_or(u64::MAX);
    if added.is_some_and(|added| len > added) {
        return Err(error::err(
            "The entries_added specified in XSETID is smaller than the target stream length",
        ));
    }
    stream.set_ids(last, added, max_deleted);
    Ok(Value::Ok)
}
