//! Commands on one set. [`super::set_algebra`] has the commands on several.

use bytes::Bytes;
use redkit_core::Value;
use redkit_core::random::random_range;

use super::random::{Picks, random_count};
use super::{Spec, int, read, write};
use crate::args::{owned, positive};
use crate::error::{self, Reply};
use crate::state::State;
use crate::value::Set;

pub(super) const COMMANDS: &[Spec] = &[
    write("SADD", -3, sadd),
    write("SREM", -3, srem),
    read("SISMEMBER", 3, sis_member),
    read("SMISMEMBER", -3, smis_member),
    read("SMEMBERS", 2, smembers),
    read("SCARD", 2, scard),
    write("SPOP", -2, spop),
    read("SRANDMEMBER", -2, srand_member),
    write("SMOVE", 4, smove),
];

fn sadd(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, members @ ..] = args else {
        return Err(error::syntax());
    };
    let set = state.db.edit_or_new::<Set>(key)?;
    let added = members
        .iter()
        .filter(|member| !set.contains(**member) && set.insert(owned(member)))
        .count();
    if added > 0 {
        state.db.changed(key);
    }
    Ok(int(added))
}

fn srem(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, members @ ..] = args else {
        return Err(error::syntax());
    };
    let Some(set) = state.db.edit::<Set>(key)? else {
        return Ok(Value::Int(0));
    };
    let removed = members
        .iter()
        .filter(|member| set.swap_remove(**member))
        .count();
    if removed > 0 {
        state.db.shrunk(key);
    }
    Ok(int(removed))
}

fn sis_member(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, member] = args else {
        return Err(error::syntax());
    };
    let set = state.db.view::<Set>(key)?;
    Ok(contains(set, member))
}

fn smis_member(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, members @ ..] = args else {
        return Err(error::syntax());
    };
    let set = state.db.view::<Set>(key)?;
    Ok(Value::Array(
        members.iter().map(|member| contains(set, member)).collect(),
    ))
}

fn contains(set: Option<&Set>, member: &[u8]) -> Value {
    Value::Int(set.is_some_and(|set| set.contains(member)).into())
}

fn smembers(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key] = args else {
        return Err(error::syntax());
    };
    let members = state.db.view::<Set>(key)?.into_iter().flatten();
    Ok(Value::Set(members.cloned().map(Value::Bulk).collect()))
}

fn scard(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key] = args else {
        return Err(error::syntax());
    };
    Ok(int(state.db.view::<Set>(key)?.map_or(0, Set::len)))
}

fn spop(state: &mut State, args: &[&[u8]]) -> Reply {
    let (key, count) = match args {
        [key] => (key, None),
        [key, count] => (key, Some(positive(count)?)),
        _ => return Err(error::syntax()),
    };
    let Some(set) = state.db.edit::<Set>(key)? else {
        return Ok(count.map_or(Value::Nil, |_| Value::Set(Vec::new())));
    };
    let wanted = count.unwrap_or(1).min(set.len());
    let popped: Vec<Bytes> = (0..wanted)
        .filter_map(|_| set.swap_remove_index(random_range(0..set.len())))
        .collect();
    if !popped.is_empty() {
        state.db.shrunk(key);
    }
    let mut popped = popped.into_iter().map(Value::Bulk);
    Ok(match count {
        None => popped.next().unwrap_or(Value::Nil),
        Some(_) => Value::Set(popped.collect()),
    })
}

fn srand_member(state: &mut State, args: &[&[u8]]) -> Reply {
    let (key, count) = match args {
        [key] => (key, None),
        [key, count] => (key, Some(random_count(count)?)),
        _ => return Err(error::syntax()),
    };
    let Some(set) = state.db.view::<Set>(key)? else {
        return Ok(count.map_or(Value::Nil, |_| Value::Array(Vec::new())));
    };
    let mut picked = Picks::new(count.unwrap_or(1), set.len())
        .filter_map(|slot| set.get_index(slot))
        .map(|member| Value::Bulk(member.clone()));
    Ok(match count {
        None => picked.next().unwrap_or(Value::Nil),
        Some(_) => Value::Array(picked.collect()),
    })
}

fn smove(state: &mut State, args: &[&[u8]]) -> Reply {
    let [source, target, member] = args else {
        return Err(error::syntax());
    };
    let Some(present) = state.db.view::<Set>(source)?.map(|s| s.contains(*member)) else {
        return Ok(Value::Int(0));
    };
    state.db.view::<Set>(target)?;
    if !present || source == target {
        return Ok(Value::Int(present.into()));
    }
    if let Some(set) = state.db.edit::<Set>(source)? {
        set.swap_remove(*member);
    }
    state.db.shrunk(source);
    let target_set = state.db.edit_or_new::<Set>(target)?;
    if target_set.insert(owned(member)) {
        state.db.changed(target);
    }
    Ok(Value::Int(1))
}
