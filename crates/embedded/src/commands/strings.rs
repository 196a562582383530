//! Strings.

use bytes::Bytes;
use redkit_core::{ServerError, Value};

use super::{Spec, read, write};
use crate::args::{self, integer, is, owned};
use crate::error::{self, Reply};
use crate::state::State;
use crate::value::Kind;

pub(super) const COMMANDS: &[Spec] = &[
    read("GET", 2, get),
    write("SET", -3, set),
    write("GETDEL", 2, get_del),
    write("GETEX", -2, get_ex),
    write("GETSET", 3, get_set),
    write("SETNX", 3, set_nx),
    write("SETEX", 4, set_ex),
    write("PSETEX", 4, pset_ex),
    read("MGET", -2, mget),
    write("MSET", -3, mset),
    write("MSETNX", -3, mset_nx),
    read("STRLEN", 2, strlen),
    write("APPEND", 3, append),
    read("GETRANGE", 4, get_range),
    read("SUBSTR", 4, get_range),
    write("SETRANGE", 4, set_range),
];

/// The longest string, as the server's `proto-max-bulk-len`.
pub(super) const MAX_LEN: usize = 512 * 1024 * 1024;

fn get(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key] = args else {
        return Err(error::syntax());
    };
    fetch(state, key)
}

fn fetch(state: &mut State, key: &[u8]) -> Reply {
    let value = state.db.view::<Bytes>(key)?;
    Ok(value.map_or(Value::Nil, |value| Value::Bulk(value.clone())))
}

/// The options that `SET` and `GETEX` share.
#[derive(Default)]
struct Options<'a> {
    expiry: Option<Expiry<'a>>,
    keep_ttl: bool,
    persist: bool,
    only_new: bool,
    only_present: bool,
    get: bool,
}

/// An expiry as it was written. The number is read late: `GETEX` looks for the key before.
struct Expiry<'a> {
    amount: &'a [u8],
    seconds: bool,
    absolute: bool,
}

impl Expiry<'_> {
    /// As milliseconds since the epoch.
    fn resolve(&self, now: i64, command: &str) -> Result<i64, ServerError> {
        resolve(integer(self.amount)?, self.seconds, self.absolute, now)
            .ok_or_else(|| error::invalid_expire(command))
    }
}

fn resolve(amount: i64, seconds: bool, absolute: bool, now: i64) -> Option<i64> {
    if amount <= 0 {
        return None;
    }
    let millis = match seconds {
        true => amount.checked_mul(1_000)?,
        false => amount,
    };
    match absolute {
        true => Some(millis),
        false => millis.checked_add(now),
    }
}

fn parse_options<'a>(args: &[&'a [u8]], for_set: bool) -> Result<Options<'a>, ServerError> {
    let mut options = Options::default();
    let mut amount: Option<(&'a [u8], &str)> = None;
    let mut rest = args.iter();
    while let Some(option) = rest.next() {
        // The same kind of expiry may be given again, another kind not.
        let same = |kind: &str| amount.is_none_or(|(_, present)| present == kind);
        let expiry = ["EX", "PX", "EXAT", "PXAT"]
            .into_iter()
            .find(|kind| is(option, kind) && same(kind));
        if for_set && is(option, "NX") && !options.only_present {
            options.only_new = true;
        } else if for_set && is(option, "XX") && !options.only_new {
            options.only_present = true;
        } else if for_set && is(option, "GET") {
            options.get = true;
        } else if for_set && is(option, "KEEPTTL") && amount.is_none() {
            options.keep_ttl = true;
        } else if !for_set && is(option, "PERSIST") && amount.is_none() {
            options.persist = true;
        } else if let (Some(kind), false) = (expiry, options.keep_ttl || options.persist) {
            amount = Some((rest.next().ok_or_else(error::syntax)?, kind));
        } else {
            return Err(error::syntax());
        }
    }
    if let Some((given, kind)) = amount {
        options.expiry = Some(Expiry {
            amount: given,
            seconds: kind.starts_with('E'),
            absolute: kind.ends_with("AT"),
        });
    }
    Ok(options)
}

fn set(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, value, rest @ ..] = args else {
        return Err(error::syntax());
    };
    let options = parse_options(rest, true)?;
    let expires = match &options.expiry {
        Some(expiry) => Some(expiry.resolve(state.db.now(), "set")?),
        None => None,
    };
    let previous = match options.get {
        true => Some(fetch(state, key)?),
        false => None,
    };
    if options.only_new || options.only_present {
        let present = state.db.contains(key);
        if options.only_new && present || options.only_present && !present {
            return Ok(previous.unwrap_or(Value::Nil));
        }
    }
    match options.keep_ttl {
        true => state.db.put_keeping_expiry(key, owned(value)),
        false => state
            .db
            .put_expiring(key, owned(value).into_data(), expires),
    }
    Ok(previous.unwrap_or(Value::Ok))
}

fn get_ex(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, rest @ ..] = args else {
        return Err(error::syntax());
    };
    let options = parse_options(rest, false)?;
    let value = fetch(state, key)?;
    if value == Value::Nil {
        return Ok(value);
    }
    if let Some(expiry) = &options.expiry {
        let now = state.db.now();
        let at = expiry.resolve(now, "getex")?;
        if at <= now {
            state.db.remove(key);
        } else {
            state.db.set_expiry(key, Some(at));
        }
    } else if options.persist && state.db.expiry(key).flatten().is_some() {
        state.db.set_expiry(key, None);
    }
    Ok(value)
}

fn get_del(state: &mut State, args: &[&[u8]]) -> Reply {
    let value = get(state, args)?;
    if let ([key], false) = (args, value == Value::Nil) {
        state.db.remove(key);
    }
    Ok(value)
}

fn get_set(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, value] = args else {
        return Err(error::syntax());
    };
    let previous = fetch(state, key)?;
    state.db.put(key, owned(value));
    Ok(previous)
}

fn set_nx(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, value] = args else {
        return Err(error::syntax());
    };
    if state.db.contains(key) {
        return Ok(Value::Int(0));
    }
    state.db.put(key, owned(value));
    Ok(Value::Int(1))
}

fn set_ex(state: &mut State, args: &[&[u8]]) -> Reply {
    set_with_ttl(state, args, true, "setex")
}

fn pset_ex(state: &mut State, args: &[&[u8]]) -> Reply {
    set_with_ttl(state, args, false, "psetex")
}

fn set_with_ttl(state: &mut State, args: &[&[u8]], seconds: bool, command: &str) -> Reply {
    let [key, ttl, value] = args else {
        return Err(error::syntax());
    };
    let expires = resolve(integer(ttl)?, seconds, false, state.db.now())
        .ok_or_else(|| error::invalid_expire(command))?;
    state
        .db
        .put_expiring(key, owned(value).into_data(), Some(expires));
    Ok(Value::Ok)
}

fn mget(state: &mut State, args: &[&[u8]]) -> Reply {
    let values = args.iter().map(|key| match state.db.view::<Bytes>(key) {
        Ok(Some(value)) => Value::Bulk(value.clone()),
        _ => Value::Nil,
    });
    Ok(Value::Array(values.collect()))
}

fn mset(state: &mut State, args: &[&[u8]]) -> Reply {
    put_all(state, args, "mset")?;
    Ok(Value::Ok)
}

fn mset_nx(state: &mut State, args: &[&[u8]]) -> Reply {
    let (pairs, odd) = args.as_chunks::<2>();
    if odd.is_empty() && pairs.iter().any(|[key, _]| state.db.contains(key)) {
        return Ok(Value::Int(0));
    }
    put_all(state, args, "msetnx")?;
    Ok(Value::Int(1))
}

fn put_all(state: &mut State, args: &[&[u8]], command: &str) -> Result<(), ServerError> {
    let (pairs, []) = args.as_chunks::<2>() else {
        return Err(error::arity(command));
    };
    for [key, value] in pairs {
        state.db.put(key, owned(value));
    }
    Ok(())
}

fn strlen(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key] = args else {
        return Err(error::syntax());
    };
    let value = state.db.view::<Bytes>(key)?;
    Ok(super::int(value.map_or(0, Bytes::len)))
}

fn append(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, tail] = args else {
        return Err(error::syntax());
    };
    let present = state.db.view::<Bytes>(key)?.map_or(0, Bytes::len);
    let len = present.saturating_add(tail.len());
    if len > MAX_LEN {
        return Err(error::too_long());
    }
    let value = state.db.edit_or_new::<Bytes>(key)?;
    modify(value, |bytes| bytes.extend_from_slice(tail));
    state.db.changed(key);
    Ok(super::int(len))
}

fn get_range(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, start, end] = args else {
        return Err(error::syntax());
    };
    let (start, end) = (integer(start)?, integer(end)?);
    let Some(value) = state.db.view::<Bytes>(key)? else {
        return Ok(Value::bulk(""));
    };
    if start < 0 && end < 0 && start > end {
        return Ok(Value::bulk(""));
    }
    // Both ends clamp to the first byte, unlike the ranges of lists.
    let len = i64::try_from(value.len()).unwrap_or(i64::MAX);
    let clamp = |index: i64| match index < 0 {
        true => index.saturating_add(len).max(0),
        false => index,
    };
    let range = args::index_range(clamp(start), clamp(end), value.len());
    Ok(Value::Bulk(match range {
        Some((first, last)) => value.slice(first..=last),
        None => Bytes::new(),
    }))
}

fn set_range(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, offset, patch] = args else {
        return Err(error::syntax());
    };
    let offset =
        usize::try_from(integer(offset)?).map_err(|_| error::err("offset is out of range"))?;
    let present = state.db.view::<Bytes>(key)?.map(Bytes::len);
    if patch.is_empty() {
        return Ok(super::int(present.unwrap_or(0)));
    }
    let end = offset.saturating_add(patch.len());
    if end > MAX_LEN {
        return Err(error::too_long());
    }
    let value = state.db.edit_or_new::<Bytes>(key)?;
    modify(value, |bytes| {
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        if let Some(target) = bytes.get_mut(offset..end) {
            target.copy_from_slice(patch);
        }
    });
    let len = value.len();
    state.db.changed(key);
    Ok(super::int(len))
}

/// Changes a string in place when nobody else holds its bytes, such as a reply on its way.
pub(super) fn modify(value: &mut Bytes, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Vec::from(std::mem::take(value));
    change(&mut bytes);
    *value = Bytes::from(bytes);
}
