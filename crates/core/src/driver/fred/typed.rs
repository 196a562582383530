//! The commands that callers send most, as fred's typed commands.
//!
//! fred writes any other command to the socket at once, each by itself. Typed commands wait for
//! those that are queued behind them, and leave together. Only commands with a reply that fred's
//! conversion keeps as it was are here.

use ::fred::clients::{Client, WithOptions};
use ::fred::error::Error as FredError;
use ::fred::interfaces::{HashesInterface, KeysInterface};
use ::fred::types::{Expiration, Key, Value as FredValue};
use bytes::Bytes;

use super::convert::to_typed_error;
use crate::command::Command;
use crate::error::CallError;
use crate::value::Value;

/// A command in fred's own form.
#[derive(Debug)]
pub(super) enum Typed {
    Get(Key),
    Set(Key, Bytes, Option<Expiration>),
    Del(Key),
    Exists(Key),
    Incr(Key),
    HGet(Key, Key),
}

impl Typed {
    /// `None` when the command has no such form.
    pub(super) fn of(command: &Command) -> Option<Self> {
        let key = || command.get(0).map(Key::from);
        match (command.name(), command.arg_count()) {
            ("GET", 1) => Some(Typed::Get(key()?)),
            ("SET", 2) => Some(Typed::Set(key()?, value(command)?, None)),
            ("SET", 4) => {
                let amount = || std::str::from_utf8(command.get(3)?).ok()?.parse().ok();
                let expiration = match command.get(2)? {
                    b"PX" => Expiration::PX(amount()?),
                    b"EX" => Expiration::EX(amount()?),
                    _ => return None,
                };
                Some(Typed::Set(key()?, value(command)?, Some(expiration)))
            }
            ("DEL", 1) => Some(Typed::Del(key()?)),
            ("EXISTS", 1) => Some(Typed::Exists(key()?)),
            ("INCR", 1) => Some(Typed::Incr(key()?)),
            ("HGET", 2) => Some(Typed::HGet(key()?, command.get(1)?.into())),
            _ => None,
        }
    }

    pub(super) async fn send(self, client: &WithOptions<Client>) -> Result<Value, CallError> {
        let reply: Result<FredValue, FredError> = match self {
            Typed::Get(key) => client.get(key).await,
            Typed::Set(key, value, expiration) => {
                let value = FredValue::Bytes(value);
                let set: Result<FredValue, _> =
                    client.set(key, value, expiration, None, false).await;
                return set.map(|_| Value::Ok).map_err(to_typed_error);
            }
            Typed::Del(key) => client.del(key).await,
            Typed::Exists(key) => client.exists(key).await,
            Typed::Incr(key) => client.incr(key).await,
            Typed::HGet(key, field) => client.hget(key, field).await,
        };
        Ok(match reply.map_err(to_typed_error)? {
            FredValue::Integer(number) => Value::Int(number),
            FredValue::Null => Value::Nil,
            FredValue::Boolean(truth) => Value::Bool(truth),
            FredValue::Double(number) => Value::Double(number),
            // The status of a command that a `MULTI` which is not ours would queue.
            FredValue::Queued => Value::status("QUEUED"),
            other => other
                .into_bytes()
                .map_or(Value::Nil, |bytes| Value::Bulk(super::convert::own(bytes))),
        })
    }
}

fn value(command: &Command) -> Option<Bytes> {
    command.shared_args().nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_same_in_both_forms_is_typed() {
        let typed = |command: Command| Typed::of(&command).is_some();
        assert!(typed(Command::new("GET").key("k")));
        assert!(typed(
            Command::new("SET").key("k").arg("v").arg("PX").arg(5)
        ));
        assert!(!typed(Command::new("SET").key("k").arg("v").arg("NX")));
        assert!(!typed(
            Command::new("SET").key("k").arg("v").arg("PX").arg("x")
        ));
        assert!(!typed(
            Command::new("SET").key("k").arg("v").arg("NX").arg("GET")
        ));
        assert!(!typed(Command::new("GET")));
        assert!(
            !typed(Command::new("get").key("k")),
            "sent as it is written"
        );
    }
}
