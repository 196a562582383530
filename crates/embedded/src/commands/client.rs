//! `CLIENT`: what a connection says about itself.

use bytes::Bytes;
use redkit_core::Value;

use crate::args::is;
use crate::error::{self, Reply};
use crate::session::Session;

/// Carries out `CLIENT` for a session.
pub(crate) fn run(session: &mut Session, args: &[&[u8]]) -> Reply {
    match args {
        [name, wanted] if is(name, "SETNAME") => set_name(session, wanted),
        [name] if is(name, "GETNAME") => Ok(match session.name.is_empty() {
            true => Value::Nil,
            false => Value::Bulk(session.name.clone()),
        }),
        [name] if is(name, "ID") => Ok(Value::Int(session.id)),
        [name, mode] if is(name, "NO-EVICT") => match is(mode, "ON") || is(mode, "OFF") {
            true => Ok(Value::Ok),
            false => Err(error::syntax()),
        },
        _ => Err(error::syntax()),
    }
}

fn set_name(session: &mut Session, name: &[u8]) -> Reply {
    if name.iter().any(|b| !(b'!'..=b'~').contains(b)) {
        return Err(error::err(
            "Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    session.name = Bytes::copy_from_slice(name);
    Ok(Value::Ok)
}
