//! Between our types and those of the `fred` crate.

use ::fred::error::{Error as FredError, ErrorKind};
use ::fred::interfaces::Resp3Frame;
use ::fred::types::Value as FredValue;
use bytes::Bytes;
use redis_protocol::resp3::types::VerbatimStringFormat;

use crate::command::Command;
use crate::driver::{certificate, hello};
use crate::error::{CallError, Fault, FaultKind, ServerError};
use crate::value::Value;

/// The arguments after the name. One copy for all of them; what the command shares stays shared.
pub(super) fn to_args(command: &Command) -> Vec<FredValue> {
    command.shared_args().map(FredValue::Bytes).collect()
}

/// A whole reply: an error at the top is the call's error.
pub(super) fn to_reply(frame: Resp3Frame) -> Result<Value, CallError> {
    match to_value(frame) {
        Value::Error(error) => Err(CallError::Replied(error)),
        value => Ok(value),
    }
}

fn to_value(frame: Resp3Frame) -> Value {
    let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
    match frame {
        Resp3Frame::BlobString { data, .. } => Value::Bulk(own(data)),
        Resp3Frame::BlobError { data, .. } => Value::Error(ServerError::parse(&text(&data))),
        Resp3Frame::SimpleString { data, .. } => Value::status(&text(&data)),
        Resp3Frame::SimpleError { data, .. } => Value::Error(ServerError::parse(&data)),
        Resp3Frame::Boolean { data, .. } => Value::Bool(data),
        Resp3Frame::Null => Value::Nil,
        Resp3Frame::Number { data, .. } => Value::Int(data),
        Resp3Frame::Double { data, .. } => Value::Double(data),
        Resp3Frame::BigNumber { data, .. } => Value::BigNumber(own(data)),
        Resp3Frame::VerbatimString { data, format, .. } => Value::Verbatim {
            format: match format {
                VerbatimStringFormat::Text => "txt".into(),
                VerbatimStringFormat::Markdown => "mkd".into(),
            },
            text: own(data),
        },
        Resp3Frame::Array { data, .. } | Resp3Frame::Push { data, .. } => {
            Value::Array(data.into_iter().map(to_value).collect())
        }
        Resp3Frame::Set { data, .. } => Value::Set(data.into_iter().map(to_value).collect()),
        Resp3Frame::Map { data, .. } => Value::Map(
            data.into_iter()
                .map(|(key, value)| (to_value(key), to_value(value)))
                .collect(),
        ),
        Resp3Frame::ChunkedString(data) => Value::Bulk(own(data)),
        Resp3Frame::Hello { .. } => Value::Nil,
    }
}

/// A frame's bytes are a piece of the buffer that the socket was read into. A small value that is
/// kept for long (in a cache, say) must not keep all of it.
pub(super) fn own(data: Bytes) -> Bytes {
    match data.len() {
        0..LARGE => Bytes::copy_from_slice(&data),
        _ => data,
    }
}

const LARGE: usize = 16 * 1024;

/// An error of a command that was handed to fred. Only where fred certainly did not write it is it
/// [`CallError::NotSent`].
pub(super) fn to_call_error(error: FredError) -> CallError {
    let not_written = *error.kind() == ErrorKind::Canceled && error.details() == NEVER_CONNECTED;
    let (kind, message) = match error.kind() {
        ErrorKind::Backpressure => {
            return Fault::new(FaultKind::Overloaded, "the driver's queue is full")
                .with_source(error)
                .not_sent();
        }
        ErrorKind::Timeout => (FaultKind::Timeout, "no reply within the driver's own limit"),
        ErrorKind::Protocol | ErrorKind::Parse => (
            FaultKind::Protocol,
            "the bytes that came are not a reply; check that the address is a Redis or Valkey \
             server's",
        ),
        _ => (
            FaultKind::Disconnected,
            "the connection broke before the reply came",
        ),
    };
    let fault = Fault::new(kind, message).with_source(error);
    match not_written {
        true => fault.not_sent(),
        false => fault.maybe(),
    }
}

/// What fred says of a command that it refused before it queued it.
const NEVER_CONNECTED: &str = "Connection closed unexpectedly.";

/// The error of one of fred's typed commands, which mixes the server's errors with its own. The
/// server's begin with a code in capitals; fred's sentences do not.
pub(super) fn to_typed_error(error: FredError) -> CallError {
    let from_server = matches!(
        error.kind(),
        ErrorKind::Unknown
            | ErrorKind::InvalidArgument
            | ErrorKind::InvalidCommand
            | ErrorKind::Auth
            | ErrorKind::Config
    );
    let parsed = ServerError::parse(error.details());
    match from_server && error.details().starts_with(parsed.code()) {
        true => CallError::Replied(parsed),
        false => to_call_error(error),
    }
}

/// An error of connecting: who refused what, and which field to look at.
pub(super) fn to_handshake_fault(error: FredError, target: &str, tls: bool) -> Fault {
    let detail = error.details().to_owned();
    if let Some(fault) = hello::unknown(&detail, target) {
        return fault;
    }
    let says = |word: &str| detail.contains(word);
    let of_certificate = certificate::remedy(&detail).filter(|_| tls);
    let (kind, fix) = if let Some(remedy) = of_certificate {
        (FaultKind::Tls, remedy)
    } else if let Some(remedy) = hello::turned_away(&detail) {
        (FaultKind::Handshake, remedy)
    } else if says("NOAUTH") {
        (
            FaultKind::Handshake,
            "the server wants credentials: set `password` (and `username`)",
        )
    } else if says("WRONGPASS") || *error.kind() == ErrorKind::Auth {
        (FaultKind::Handshake, "check `username` and `password`")
    } else if says("NOPERM") {
        (
            FaultKind::Handshake,
            "the user lacks a right: see `ACL LOG` at the server",
        )
    } else if says("DB index") {
        (FaultKind::Handshake, "check `database`")
    } else if says("lookup address") {
        (
            FaultKind::Connect,
            "the name cannot be resolved: check `host`",
        )
    } else if says("refused") || says("NotFound") {
        (
            FaultKind::Connect,
            "check `host` and `port` (or `unix_socket`), and that the server runs",
        )
    } else if tls {
        (
            FaultKind::Tls,
            "the port may not speak TLS: write redis:// for a plain connection; who demands a \
             client certificate and gets none may hang up like this: see `tls_client_cert_file`",
        )
    } else if matches!(error.kind(), ErrorKind::IO | ErrorKind::Timeout) {
        (
            FaultKind::Connect,
            "check `host` and `port`; the port may want TLS: write rediss://",
        )
    } else {
        (
            FaultKind::Handshake,
            "check that the address is a Redis (6 or later) or Valkey server's, and whether the \
             port wants TLS: write rediss://",
        )
    };
    Fault::new(
        kind,
        format!("{target} did not accept the connection: {detail}; {fix}"),
    )
    .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(text: &'static str) -> Resp3Frame {
        Resp3Frame::BlobString {
            data: Bytes::from_static(text.as_bytes()),
            attributes: None,
        }
    }

    #[test]
    fn frames_keep_their_shape_and_errors_inside_stay_inside() {
        let frame = Resp3Frame::Array {
            data: vec![
                blob("message"),
                Resp3Frame::Null,
                Resp3Frame::SimpleError {
                    data: "WRONGTYPE no".into(),
                    attributes: None,
                },
            ],
            attributes: None,
        };
        assert_eq!(
            to_reply(frame).unwrap(),
            Value::Array(vec![
                Value::bulk("message"),
                Value::Nil,
                Value::Error(ServerError::new("WRONGTYPE", "no")),
            ])
        );
    }

    #[test]
    fn in_doubt_a_command_may_have_been_carried_out() {
        let maybe = |kind, text: &'static str| {
            matches!(
                to_call_error(FredError::new(kind, text)),
                CallError::Maybe(_)
            )
        };
        assert!(maybe(ErrorKind::IO, "Connection closed."));
        assert!(maybe(ErrorKind::Timeout, "Request timed out."));
        assert!(maybe(ErrorKind::Canceled, "Canceled."));
        assert!(maybe(ErrorKind::Unknown, "Too many failed write attempts."));
        assert!(maybe(ErrorKind::Unknown, "channel closed"));
        assert!(!maybe(ErrorKind::Canceled, NEVER_CONNECTED));
        assert!(!maybe(
            ErrorKind::Backpressure,
            "Max in-flight commands reached."
        ));
    }

    #[test]
    fn a_server_that_is_full_or_protected_is_not_taken_for_a_wrong_address() {
        for (words, remedy) in [
            ("ERR max number of clients reached", "`maxclients`"),
            ("DENIED Redis is running in protected mode", "`bind`"),
        ] {
            for tls in [false, true] {
                let error = FredError::new(ErrorKind::Unknown, words);
                let shown = to_handshake_fault(error, "here", tls).to_string();
                assert!(shown.contains(remedy), "{shown}");
                assert!(!shown.contains("check that the address"), "{shown}");
            }
        }
    }

    #[test]
    fn a_typed_command_tells_the_servers_errors_from_the_crates() {
        let typed = |kind, text: &'static str| to_typed_error(FredError::new(kind, text));
        let CallError::Replied(error) = typed(ErrorKind::InvalidArgument, "WRONGTYPE Operation")
        else {
            panic!("the server's")
        };
        assert_eq!(error.code(), "WRONGTYPE");
        for text in ["Too many failed write attempts.", "channel closed", ""] {
            assert!(matches!(
                typed(ErrorKind::Unknown, text),
                CallError::Maybe(_)
            ));
        }
    }
}
