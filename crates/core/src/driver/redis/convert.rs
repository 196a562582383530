//! Between our types and those of the `redis` crate.

use ::redis::{Cmd, Pipeline, RedisError, Value as RedisValue, VerbatimFormat};
use bytes::Bytes;

use crate::command::Command;
use crate::driver::{certificate, hello};
use crate::error::{CallError, Fault, FaultKind, ServerError};
use crate::value::Value;

pub(super) fn to_cmd(command: &Command) -> Cmd {
    let mut cmd = Cmd::with_capacity(command.arg_count() + 1, command.byte_len());
    cmd.arg(command.name());
    for arg in command.iter() {
        cmd.arg(arg);
    }
    cmd
}

pub(super) fn to_pipeline(commands: &[Command]) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(commands.len());
    for command in commands {
        pipeline.add_command(to_cmd(command));
    }
    pipeline
}

/// A whole reply: an error at the top is the call's error.
pub(super) fn to_reply(value: RedisValue) -> Result<Value, CallError> {
    match value {
        RedisValue::ServerError(error) => Err(CallError::Replied(to_server_error(&error))),
        other => Ok(to_value(other)),
    }
}

fn to_value(value: RedisValue) -> Value {
    let all = |items: Vec<RedisValue>| items.into_iter().map(to_value).collect();
    match value {
        RedisValue::Nil => Value::Nil,
        RedisValue::Int(number) => Value::Int(number),
        RedisValue::BulkString(bytes) => Value::Bulk(bytes.into()),
        RedisValue::Array(items) => Value::Array(all(items)),
        RedisValue::SimpleString(status) => Value::Status(status.into()),
        RedisValue::Okay => Value::Ok,
        RedisValue::Map(pairs) => Value::Map(
            pairs
                .into_iter()
                .map(|(k, v)| (to_value(k), to_value(v)))
                .collect(),
        ),
        RedisValue::Attribute { data, .. } => to_value(*data),
        RedisValue::Set(items) => Value::Set(all(items)),
        RedisValue::Double(number) => Value::Double(number),
        RedisValue::Boolean(truth) => Value::Bool(truth),
        RedisValue::VerbatimString { format, text } => {
            let format = match format {
                VerbatimFormat::Text => "txt".into(),
                VerbatimFormat::Markdown => "mkd".into(),
                VerbatimFormat::Unknown(other) => other.into(),
                _ => "txt".into(),
            };
            Value::Verbatim {
                format,
                text: text.into(),
            }
        }
        RedisValue::BigNumber(number) => Value::BigNumber(number.digits()),
        // Pushes never come as replies on our connections; their items are at least kept.
        RedisValue::Push { data, .. } => Value::Array(all(data)),
        RedisValue::ServerError(error) => Value::Error(to_server_error(&error)),
        other => Value::Status(format!("{other:?}").into()),
    }
}

/// The crate's big number is bytes, or, when anybody in the program's dependencies switches its
/// feature `num-bigint` on, a number. Each trait is for one of the two, so that this compiles either
/// way.
#[allow(dead_code, reason = "used when the number is bytes")]
trait DigitsAsBytes {
    fn digits(self) -> Bytes;
}

impl DigitsAsBytes for Vec<u8> {
    fn digits(self) -> Bytes {
        self.into()
    }
}

#[allow(dead_code, reason = "used when it is not")]
trait DigitsAsText {
    fn digits(self) -> Bytes;
}

impl<N: std::fmt::Display> DigitsAsText for N {
    fn digits(self) -> Bytes {
        self.to_string().into()
    }
}

/// The crate takes the first word for the code, whatever it is; here a code is in capitals.
fn to_server_error(error: &::redis::ServerError) -> ServerError {
    match error.details() {
        Some(details) => ServerError::parse(&format!("{} {details}", error.code())),
        None => ServerError::parse(error.code()),
    }
}

/// An error of the connection under a call. It cannot be told whether the command left, so the
/// outcome is unknown.
pub(super) fn to_call_error(error: RedisError) -> CallError {
    let (kind, message) = match error.kind() {
        ::redis::ErrorKind::Parse => (
            FaultKind::Protocol,
            "the bytes that came are not a reply; check that the address is a Redis or Valkey \
             server's",
        ),
        ::redis::ErrorKind::Client => (FaultKind::Invalid, "the command cannot be sent"),
        _ => (
            FaultKind::Disconnected,
            "the connection broke before the reply came",
        ),
    };
    Fault::new(kind, message).with_source(error).maybe()
}

/// An error of the first commands on a connection: who refused what, and which field to look at.
pub(super) fn to_handshake_fault(error: RedisError, target: &str, tls: bool) -> Fault {
    let detail = error.to_string();
    if let Some(fault) = hello::unknown(&detail, target) {
        return fault;
    }
    let code = error.code().unwrap_or_default();
    let of_certificate = certificate::remedy(&detail).filter(|_| tls);
    let says = |word: &str| code == word || detail.contains(word);
    let (kind, fix) = if let Some(remedy) = of_certificate {
        (FaultKind::Tls, remedy)
    } else if says("NOAUTH") {
        (
            FaultKind::Handshake,
            "the server wants credentials: set `password` (and `username`)",
        )
    } else if says("WRONGPASS") || error.kind() == ::redis::ErrorKind::AuthenticationFailed {
        (FaultKind::Handshake, "check `username` and `password`")
    } else if says("NOPERM") {
        (
            FaultKind::Handshake,
            "the user lacks a right: see `ACL LOG` at the server",
        )
    } else if says("DB index") {
        (FaultKind::Handshake, "check `database`")
    } else if error.is_io_error() && !tls {
        (FaultKind::Connect, "the port may want TLS: write rediss://")
    } else if error.is_io_error() {
        (
            FaultKind::Tls,
            "check `host` and `port`; who demands a client certificate and gets none may hang up \
             like this: see `tls_client_cert_file`",
        )
    } else {
        (
            FaultKind::Handshake,
            "check that the address is a Redis (6 or later) or Valkey server's",
        )
    };
    Fault::new(
        kind,
        format!("{target} did not accept the connection: {detail}; {fix}"),
    )
    .with_source(error)
}

/// The name of a channel or its payload in a pushed frame.
pub(super) fn push_bytes(value: RedisValue) -> Bytes {
    match value {
        RedisValue::BulkString(bytes) => bytes.into(),
        RedisValue::SimpleString(text) => text.into(),
        RedisValue::Okay => Bytes::from_static(b"OK"),
        RedisValue::Int(number) => number.to_string().into(),
        _ => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_shape() {
        let hostile = RedisValue::Array(vec![
            RedisValue::BulkString(b"message".to_vec()),
            RedisValue::BulkString(b"MOVED 1 h:1".to_vec()),
            RedisValue::Nil,
            RedisValue::Okay,
        ]);
        assert_eq!(
            to_reply(hostile).unwrap(),
            Value::Array(vec![
                Value::bulk("message"),
                Value::bulk("MOVED 1 h:1"),
                Value::Nil,
                Value::Ok
            ])
        );
    }

    #[test]
    fn commands_keep_their_arguments() {
        let cmd = to_cmd(&Command::new("SET").key(b"k\0").arg("").arg(1));
        let packed = cmd.get_packed_command();
        assert_eq!(
            packed,
            b"*4\r\n$3\r\nSET\r\n$2\r\nk\0\r\n$0\r\n\r\n$1\r\n1\r\n"
        );
    }
}
