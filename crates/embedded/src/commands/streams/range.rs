//! Looking at a stream without a group: `XLEN`, `XRANGE`, `XREVRANGE`.

use redkit_core::Value;

use super::super::{Spec, int, read};
use crate::args::{integer, is};
use crate::error::{self, Reply};
use crate::state::State;
use crate::value::stream::Stream;
use crate::value::stream::id::{End, StreamId};

pub(super) const COMMANDS: &[Spec] = &[
    read("XLEN", 2, xlen),
    read("XRANGE", -4, |s, a| range(s, a, false)),
    read("XREVRANGE", -4, |s, a| range(s, a, true)),
];

fn xlen(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key] = args else {
        return Err(error::syntax());
    };
    Ok(int(state.db.view::<Stream>(key)?.map_or(0, Stream::len)))
}

fn range(state: &mut State, args: &[&[u8]], reversed: bool) -> Reply {
    let [key, first, second, rest @ ..] = args else {
        return Err(error::syntax());
    };
    let (start, stop) = match reversed {
        true => (second, first),
        false => (first, second),
    };
    let start = StreamId::bound(start, End::Start)?;
    let stop = StreamId::bound(stop, End::Stop)?;
    let mut count = usize::MAX;
    let mut nothing_wanted = false;
    let mut rest = rest.iter();
    while let Some(option) = rest.next() {
        let amount = rest.next().filter(|_| is(option, "COUNT"));
        let amount = integer(amount.ok_or_else(error::syntax)?)?;
        nothing_wanted = amount <= 0;
        count = usize::try_from(amount).unwrap_or(0);
    }
    let Some(stream) = state.db.view::<Stream>(key)? else {
        return Ok(Value::Array(Vec::new()));
    };
    if nothing_wanted {
        return Ok(Value::Nil);
    }
    let entries = stream.range(start, stop);
    Ok(Value::Array(match reversed {
        true => entries.rev().take(count).collect(),
        false => entries.take(count).collect(),
    }))
}
