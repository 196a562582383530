//! When fields of hashes expire: the commands of Redis 7.4, and the commands of 8.0 that read or write
//! with it.

use redkit_core::{ServerError, Value};

use super::{Spec, read, write};
use crate::args::{integer, is, owned, parse_integer};
use crate::error::{self, Reply};
use crate::state::State;
use crate::value::Hash;

pub(super) const COMMANDS: &[Spec] = &[
    write("HEXPIRE", -6, |s, a| set(s, a, SECONDS, "hexpire")),
    write("HPEXPIRE", -6, |s, a| set(s, a, MILLIS, "hpexpire")),
    write("HEXPIREAT", -6, |s, a| set(s, a, SECONDS_AT, "hexpireat")),
    write("HPEXPIREAT", -6, |s, a| set(s, a, MILLIS_AT, "hpexpireat")),
    read("HTTL", -5, |s, a| report(s, a, SECONDS)),
    read("HPTTL", -5, |s, a| report(s, a, MILLIS)),
    read("HEXPIRETIME", -5, |s, a| report(s, a, SECONDS_AT)),
    read("HPEXPIRETIME", -5, |s, a| report(s, a, MILLIS_AT)),
    write("HPERSIST", -5, persist),
    write("HGETDEL", -5, get_del),
    write("HGETEX", -5, get_ex),
    write("HSETEX", -6, set_ex),
];

/// How times are written: in which unit, and whether from now or from the epoch.
#[derive(Clone, Copy)]
struct Unit {
    millis: i64,
    absolute: bool,
}

const SECONDS: Unit = Unit::new(1_000, false);
const MILLIS: Unit = Unit::new(1, false);
const SECONDS_AT: Unit = Unit::new(1_000, true);
const MILLIS_AT: Unit = Unit::new(1, true);

/// The latest time that the server can store beside a field.
const LATEST: i64 = 0x0000_FFFF_FFFF_FFFE >> 2;

// What the replies say of a field.
const NO_FIELD: Value = Value::Int(-2);
const NO_EXPIRY: Value = Value::Int(-1);
const REFUSED: Value = Value::Int(0);
const DONE: Value = Value::Int(1);
const DELETED: Value = Value::Int(2);

impl Unit {
    const fn new(millis: i64, absolute: bool) -> Self {
        Self { millis, absolute }
    }

    /// As milliseconds since the epoch.
    fn resolve(self, amount: i64, now: i64) -> Option<i64> {
        let base = if self.absolute { 0 } else { now };
        let at = amount.checked_mul(self.millis)?.checked_add(base)?;
        Some(at).filter(|at| *at <= LATEST)
    }

    fn show(self, at: i64, now: i64) -> i64 {
        let base = if self.absolute { 0 } else { now };
        (at - base + self.millis - 1) / self.millis
    }
}

/// Under which condition an expiry is replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    Without,
    With,
    Later,
    Sooner,
}

impl Condition {
    fn parse(arg: &[u8]) -> Self {
        if is(arg, "NX") {
            Condition::Without
        } else if is(arg, "XX") {
            Condition::With
        } else if is(arg, "GT") {
            Condition::Later
        } else if is(arg, "LT") {
            Condition::Sooner
        } else {
            Condition::Always
        }
    }

    /// A field without an expiry counts as expiring later than any other.
    fn holds(self, current: Option<i64>, wanted: i64) -> bool {
        match self {
            Condition::Always => true,
            Condition::Without => current.is_none(),
            Condition::With => current.is_some(),
            Condition::Later => current.is_some_and(|at| wanted > at),
            Condition::Sooner => current.is_none_or(|at| wanted < at),
        }
    }
}

fn set(state: &mut State, args: &[&[u8]], unit: Unit, command: &str) -> Reply {
    let [key, amount, option, rest @ ..] = args else {
        return Err(error::syntax());
    };
    state.db.view::<Hash>(key)?;
    let amount = integer(amount)?;
    if amount < 0 {
        return Err(error::err(NEGATIVE));
    }
    let now = state.db.now();
    let at = unit
        .resolve(amount, now)
        .ok_or_else(|| error::invalid_expire(command))?;
    let condition = Condition::parse(option);
    let rest = match (condition, rest) {
        (Condition::Always, _) => args.get(2..).unwrap_or_default(),
        (_, rest) => rest,
    };
    let fields = fields(rest, "Parameter `numFields` should be greater than 0")?;
    each(state, key, fields, |hash, field| {
        if !hash.contains(field) {
            return (NO_FIELD, false);
        }
        if !condition.holds(hash.expiry(field), at) {
            return (REFUSED, false);
        }
        if at <= now {
            hash.remove(field);
            return (DELETED, true);
        }
        hash.expire_at(field, Some(at));
        (DONE, true)
    })
}

fn persist(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, rest @ ..] = args else {
        return Err(error::syntax());
    };
    state.db.view::<Hash>(key)?;
    let fields = fields(rest, NOT_POSITIVE)?;
    each(state, key, fields, |hash, field| {
        if !hash.contains(field) {
            return (NO_FIELD, false);
        }
        match hash.expire_at(field, None) {
            Some(_) => (DONE, true),
            None => (NO_EXPIRY, false),
        }
    })
}

fn report(state: &mut State, args: &[&[u8]], unit: Unit) -> Reply {
    let [key, rest @ ..] = args else {
        return Err(error::syntax());
    };
    let now = state.db.now();
    let hash = state.db.view::<Hash>(key)?;
    let fields = fields(rest, NOT_POSITIVE)?;
    let replies = fields.iter().map(|field| match hash {
        Some(hash) if hash.contains(field) => hash
            .expiry(field)
            .map_or(NO_EXPIRY, |at| Value::Int(unit.show(at, now))),
        _ => NO_FIELD,
    });
    Ok(Value::Array(replies.collect()))
}

fn get_del(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, rest @ ..] = args else {
        return Err(error::syntax());
    };
    state.db.view::<Hash>(key)?;
    let fields = fields(rest, NOT_POSITIVE)?;
    if !state.db.contains(key) {
        return Ok(Value::Array(vec![Value::Nil; fields.len()]));
    }
    each(state, key, fields, |hash, field| {
        let removed = hash.remove(field);
        let changed = removed.is_some();
        (removed.map_or(Value::Nil, Value::Bulk), changed)
    })
}

/// What `HGETEX` and `HSETEX` do with the expiry of a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expiry {
    /// Nothing was said.
    Unsaid,
    At(i64),
    Persist,
    Keep,
}

fn get_ex(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, rest @ ..] = args else {
        return Err(error::syntax());
    };
    state.db.view::<Hash>(key)?;
    let now = state.db.now();
    let (expiry, rest) = match rest {
        [option, rest @ ..] if is(option, "PERSIST") => (Expiry::Persist, rest),
        rest => parse_expiry(rest, now, "hgetex")?,
    };
    let fields = fields(rest, NOT_POSITIVE)?;
    if !state.db.contains(key) {
        return Ok(Value::Array(vec![Value::Nil; fields.len()]));
    }
    each(state, key, fields, |hash, field| {
        let Some(value) = hash.get(field).cloned() else {
            return (Value::Nil, false);
        };
        let changed = match expiry {
            Expiry::At(at) if at <= now => hash.remove(field).is_some(),
            Expiry::At(at) => {
                hash.expire_at(field, Some(at));
                true
            }
            Expiry::Persist => hash.expire_at(field, None).is_some(),
            Expiry::Unsaid | Expiry::Keep => false,
        };
        (Value::Bulk(value), changed)
    })
}

/// The arguments of `HSETEX` behind the key.
struct SetEx<'a, 'b> {
    /// Whether the fields must be there, or must not be.
    wanted: Option<bool>,
    expiry: Expiry,
    pairs: &'a [[&'b [u8]; 2]],
}

impl<'a, 'b> SetEx<'a, 'b> {
    fn parse(args: &'a [&'b [u8]], now: i64) -> Result<Self, ServerError> {
        const ONE_EXPIRY: &str =
            "Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified";
        const ONE_CONDITION: &str = "Only one of FXX or FNX arguments can be specified";
        let arity = || error::arity("hsetex");
        let (mut wanted, mut expiry) = (None, Expiry::Unsaid);
        let mut rest = args;
        while let [option, after @ ..] = rest {
            if is(option, "FIELDS") {
                let [number, pairs @ ..] = after else {
                    return Err(arity());
                };
                if pairs.len() < 2 {
                    return Err(arity());
                }
                let number = parse_integer(number)
                    .filter(|number| (1..=i64::from(i32::MAX)).contains(number))
                    .ok_or_else(|| error::err("invalid number of fields"))?;
                let (pairs, []) = pairs.as_chunks::<2>() else {
                    return Err(arity());
                };
                if usize::try_from(number) != Ok(pairs.len()) {
                    return Err(arity());
                }
                return Ok(Self {
                    wanted,
                    expiry,
                    pairs,
                });
            }
            let condition = if is(option, "FNX") {
                Some(false)
            } else if is(option, "FXX") {
                Some(true)
            } else {
                None
            };
            let is_expiry = is(option, "KEEPTTL") || unit_of(option).is_some();
            rest = match condition {
                Some(_) if wanted.is_some() => return Err(error::err(ONE_CONDITION)),
                Some(condition) => {
                    wanted = Some(condition);
                    after
                }
                None if is_expiry && expiry != Expiry::Unsaid => {
                    return Err(error::err(ONE_EXPIRY));
                }
                None if is(option, "KEEPTTL") => {
                    expiry = Expiry::Keep;
                    after
                }
                None if is_expiry => {
                    let (at, after) = parse_expiry(rest, now, "hsetex")?;
                    if at == Expiry::Unsaid {
                        return Err(error::err("missing expire time"));
                    }
                    expiry = at;
                    after
                }
                None => {
                    let option = String::from_utf8_lossy(option);
                    return Err(error::err(format!("unknown argument: {option}")));
                }
            };
        }
        Err(arity())
    }
}

/// Its arguments are read before the type of the key is looked at.
fn set_ex(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, rest @ ..] = args else {
        return Err(error::syntax());
    };
    let now = state.db.now();
    let SetEx {
        wanted,
        expiry,
        pairs,
    } = SetEx::parse(rest, now)?;
    let hash = state.db.view::<Hash>(key)?;
    let present = |field: &[u8]| hash.is_some_and(|hash| hash.contains(field));
    if wanted.is_some_and(|wanted| pairs.iter().any(|[field, _]| present(field) != wanted)) {
        return Ok(Value::Int(0));
    }
    let hash = state.db.edit_or_new::<Hash>(key)?;
    for [field, value] in pairs {
        match expiry {
            Expiry::At(at) if at <= now => {
                hash.remove(field);
            }
            Expiry::At(at) => {
                hash.set(field, owned(value));
                hash.expire_at(field, Some(at));
            }
            Expiry::Keep => {
                hash.set_keeping_expiry(field, owned(value));
            }
            Expiry::Unsaid | Expiry::Persist => {
                hash.set(field, owned(value));
            }
        }
    }
    state.db.fields_changed(key);
    state.db.shrunk(key);
    Ok(Value::Int(1))
}

/// `EX seconds` and its kin.
fn parse_expiry<'a, 'b>(
    args: &'a [&'b [u8]],
    now: i64,
    command: &str,
) -> Result<(Expiry, &'a [&'b [u8]]), ServerError> {
    let [option, amount, rest @ ..] = args else {
        return Ok((Expiry::Unsaid, args));
    };
    let Some(unit) = unit_of(option) else {
        return Ok((Expiry::Unsaid, args));
    };
    let amount = integer(amount)?;
    if amount < 0 {
        return Err(error::err(NEGATIVE));
    }
    let at = unit
        .resolve(amount, now)
        .ok_or_else(|| error::invalid_expire(command))?;
    Ok((Expiry::At(at), rest))
}

/// How the amount behind this option is meant; `None` for any other argument.
fn unit_of(option: &[u8]) -> Option<Unit> {
    let units = [
        ("EX", SECONDS),
        ("PX", MILLIS),
        ("EXAT", SECONDS_AT),
        ("PXAT", MILLIS_AT),
    ];
    let unit = units.into_iter().find(|(name, _)| is(option, name));
    unit.map(|(_, unit)| unit)
}

const NEGATIVE: &str = "invalid expire time, must be >= 0";

const NOT_POSITIVE: &str = "Number of fields must be a positive integer";

/// `FIELDS numfields field [field …]`.
fn fields<'a, 'b>(args: &'a [&'b [u8]], not_positive: &str) -> Result<&'a [&'b [u8]], ServerError> {
    let (number, fields) = counted(args, not_positive)?;
    match fields.len() == number {
        true => Ok(fields),
        false => Err(mismatch()),
    }
}

/// `FIELDS numfields …`: the number, and the arguments behind it.
fn counted<'a, 'b>(
    args: &'a [&'b [u8]],
    not_positive: &str,
) -> Result<(usize, &'a [&'b [u8]]), ServerError> {
    let [option, number, rest @ ..] = args else {
        return Err(misplaced());
    };
    if !is(option, "FIELDS") {
        return Err(misplaced());
    }
    let number = parse_integer(number)
        .filter(|&number| number > 0)
        .and_then(|number| usize::try_from(number).ok())
        .ok_or_else(|| error::err(not_positive))?;
    Ok((number, rest))
}

fn misplaced() -> ServerError {
    error::err("Mandatory argument FIELDS is missing or not at the right position")
}

fn mismatch() -> ServerError {
    error::err("The `numfields` parameter must match the number of arguments")
}

/// Does something with each field of a hash and gives what came of it, and whether the field was
/// changed; without the key, there is no field.
fn each(
    state: &mut State,
    key: &[u8],
    fields: &[&[u8]],
    mut action: impl FnMut(&mut Hash, &[u8]) -> (Value, bool),
) -> Reply {
    let Some(hash) = state.db.edit::<Hash>(key)? else {
        return Ok(Value::Array(vec![NO_FIELD; fields.len()]));
    };
    let mut changed = false;
    let replies = fields.iter().map(|field| {
        let (reply, changes) = action(hash, field);
        changed |= changes;
        reply
    });
    let replies = replies.collect();
    if changed {
        state.db.fields_changed(key);
        state.db.shrunk(key);
    }
    Ok(Value::Array(replies))
}
