//! When keys expire.

use redkit_core::{ServerError, Value};

use super::{Spec, read, write};
use crate::args::{integer, is};
use crate::error::{self, Reply};
use crate::state::State;

pub(super) const COMMANDS: &[Spec] = &[
    write("EXPIRE", -3, expire),
    write("PEXPIRE", -3, pexpire),
    write("EXPIREAT", -3, expire_at),
    write("PEXPIREAT", -3, pexpire_at),
    read("TTL", 2, ttl),
    read("PTTL", 2, pttl),
    read("EXPIRETIME", 2, expire_time),
    read("PEXPIRETIME", 2, pexpire_time),
    write("PERSIST", 2, persist),
];

fn expire(state: &mut State, args: &[&[u8]]) -> Reply {
    set_expiry(state, args, 1_000, true, "expire")
}

fn pexpire(state: &mut State, args: &[&[u8]]) -> Reply {
    set_expiry(state, args, 1, true, "pexpire")
}

fn expire_at(state: &mut State, args: &[&[u8]]) -> Reply {
    set_expiry(state, args, 1_000, false, "expireat")
}

fn pexpire_at(state: &mut State, args: &[&[u8]]) -> Reply {
    set_expiry(state, args, 1, false, "pexpireat")
}

/// Under which conditions an expiry is replaced.
#[derive(Default)]
struct Conditions {
    without: bool,
    with: bool,
    later: bool,
    sooner: bool,
}

impl Conditions {
    fn parse(args: &[&[u8]]) -> Result<Self, ServerError> {
        let mut conditions = Self::default();
        for option in args {
            let flag = if is(option, "NX") {
                &mut conditions.without
            } else if is(option, "XX") {
                &mut conditions.with
            } else if is(option, "GT") {
                &mut conditions.later
            } else if is(option, "LT") {
                &mut conditions.sooner
            } else {
                let option = String::from_utf8_lossy(option);
                return Err(error::err(format!("Unsupported option {option}")));
            };
            *flag = true;
        }
        if conditions.without && (conditions.with || conditions.later || conditions.sooner) {
            return Err(error::err(
                "NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if conditions.later && conditions.sooner {
            return Err(error::err(
                "GT and LT options at the same time are not compatible",
            ));
        }
        Ok(conditions)
    }

    /// A key without an expiry counts as expiring later than any other.
    fn hold(&self, current: Option<i64>, wanted: i64) -> bool {
        let refused = (self.without && current.is_some())
            || (self.with && current.is_none())
            || (self.later && current.is_none_or(|at| wanted <= at))
            || (self.sooner && current.is_some_and(|at| wanted >= at));
        !refused
    }
}

fn set_expiry(
    state: &mut State,
    args: &[&[u8]],
    unit: i64,
    relative: bool,
    command: &str,
) -> Reply {
    let [key, amount, conditions @ ..] = args else {
        return Err(error::syntax());
    };
    let conditions = Conditions::parse(conditions)?;
    let now = state.db.now();
    let base = if relative { now } else { 0 };
    let at = integer(amount)?
        .checked_mul(unit)
        .and_then(|millis| millis.checked_add(base))
        .ok_or_else(|| error::invalid_expire(command))?;
    let Some(current) = state.db.expiry(key) else {
        return Ok(Value::Int(0));
    };
    if !conditions.hold(current, at) {
        return Ok(Value::Int(0));
    }
    if at <= now {
        state.db.remove(key);
    } else {
        state.db.set_expiry(key, Some(at));
    }
    Ok(Value::Int(1))
}

fn ttl(state: &mut State, args: &[&[u8]]) -> Reply {
    let now = state.db.now();
    report(state, args, |at| {
        (at.saturating_sub(now).max(0).saturating_add(500)) / 1_000
    })
}

fn pttl(state: &mut State, args: &[&[u8]]) -> Reply {
    let now = state.db.now();
    report(state, args, |at| at.saturating_sub(now).max(0))
}

fn expire_time(state: &mut State, args: &[&[u8]]) -> Reply {
    report(state, args, |at| at.saturating_add(500) / 1_000)
}

fn pexpire_time(state: &mut State, args: &[&[u8]]) -> Reply {
    report(state, args, |at| at)
}

fn report(state: &mut State, args: &[&[u8]], show: impl Fn(i64) -> i64) -> Reply {
    let [key] = args else {
        return Err(error::syntax());
    };
    let object = state.db.peek(key);
    Ok(Value::Int(match object.map(|object| object.expires) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => show(at),
    }))
}

fn persist(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key] = args else {
        return Err(error::syntax());
    };
    let expires = state.db.expiry(key).flatten().is_some();
    if expires {
        state.db.set_expiry(key, None);
    }
    Ok(Value::Int(expires.into()))
}
