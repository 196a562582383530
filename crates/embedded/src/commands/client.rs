//! `CLIENT`: what a connection says about itself.

use bytes::Bytes;
use redkit_core::Value;

use crate::args::is;
use crate::error::{self, Reply};
use crate::session::Session;

/// Carries out `CLIENT` for a session.
pub(crate) fn run(session: &mut Session, args: &[&[u8]]) -> Reply {
    match args {
        [name, rest @ ..] if is(name, "SETNAME") => match rest {
            [name] => set_name(session, name),
            _ => Err(error::arity("client|setname")),
        },
        [name] if is(name, "GETNAME") => Ok(match session.name.is_empty() {
            true => Value::Nil,
            false => Value::Bulk(session.name.clone()),
        }),
        [name] if is(name, "ID") => Ok(Value::Int(session.id)),
        [name, mode] if is(name, "NO-EVICT") => match is(mode, "ON") || is(mode, "OFF") {
            true => Ok(Value::Ok),
            false => Err(error::syntax()),
        },
        [name, ..] if ["GETNAME", "ID", "NO-EVICT"].iter().any(|n| is(name, n)) => Err(
            error::arity(&format!("client|{}", String::from_utf8_lossy(name))),
        ),
        [name, ..] => Err(error::unknown_subcommand("client", name)),
        [] => Err(error::arity("client")),
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
