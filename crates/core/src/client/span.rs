//! The span of a call, by OpenTelemetry's semantic conventions for databases (1.44).

use std::borrow::Cow;

use tracing::Span;
use tracing::field::Empty;

use crate::backend::{Backend, Topology};
use crate::command::Command;
use crate::error::CallError;

/// The attributes of a client's other end, the same in all its spans.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// `db.namespace`: the database's number.
    namespace: Box<str>,
    /// `server.address` and `server.port`, of a client of one server. Which node of a cluster a call goes to, and
    /// which server sentinels name, is decided below.
    address: Option<(Box<str>, Option<u16>)>,
}

impl Peer {
    pub(super) fn new(backend: &dyn Backend, database: u32) -> Self {
        let address = match backend.topology() {
            Topology::Standalone => backend
                .servers()
                .first()
                .and_then(|server| address(&server.name)),
            _ => None,
        };
        Self {
            namespace: database.to_string().into(),
            address,
        }
    }

    /// The span of a call, named after its operation.
    pub(super) fn span(&self, commands: &[Command]) -> Span {
        let operation = operation(commands);
        let span = tracing::debug_span!(
            target: "redkit::client",
            "redis call",
            "otel.name" = &*operation,
            "otel.kind" = "client",
            "otel.status_code" = Empty,
            "db.system.name" = "redis",
            "db.operation.name" = &*operation,
            "db.namespace" = &*self.namespace,
            "db.operation.batch.size" = Empty,
            "db.stored_procedure.name" = Empty,
            "db.response.status_code" = Empty,
            "error.type" = Empty,
            "server.address" = Empty,
            "server.port" = Empty,
        );
        if commands.len() > 1 {
            span.record("db.operation.batch.size", commands.len());
        }
        if let Some(procedure) = stored_procedure(commands) {
            span.record("db.stored_procedure.name", procedure);
        }
        if let Some((address, port)) = &self.address {
            span.record("server.address", &**address);
            if let Some(port) = port {
                span.record("server.port", port);
            }
        }
        span
    }
}

/// Notes how the call of the current span failed.
pub(super) fn failed(error: &CallError) {
    let span = Span::current();
    span.record("otel.status_code", "ERROR");
    span.record("error.type", error_type(error));
    if let CallError::Replied(error) = error {
        span.record("db.response.status_code", error.code());
    }
}

/// The name of the command; of several commands `PIPELINE` or `MULTI`, and the command if it is the same
/// throughout.
fn operation(commands: &[Command]) -> Cow<'_, str> {
    let is = |name: &&str, other: &str| name.eq_ignore_ascii_case(other);
    let (batch, inner) = match commands {
        [command] => return Cow::Borrowed(command.name()),
        [first, inner @ .., last] if is(&first.name(), "MULTI") && is(&last.name(), "EXEC") => {
            ("MULTI", inner)
        }
        all => ("PIPELINE", all),
    };
    match inner.split_first() {
        Some((first, rest)) if rest.iter().all(|other| other.name() == first.name()) => {
            Cow::Owned(format!("{batch} {}", first.name()))
        }
        _ => Cow::Borrowed(batch),
    }
}

/// The hash of a script or the name of a function, when the call is one of it.
fn stored_procedure(commands: &[Command]) -> Option<&str> {
    let [command] = commands else { return None };
    let is_stored = command.runs_script() && !matches!(command.name(), "EVAL" | "EVAL_RO");
    std::str::from_utf8(command.get(0).filter(|_| is_stored)?).ok()
}

/// `host:port`, or the path of a socket.
fn address(name: &str) -> Option<(Box<str>, Option<u16>)> {
    if name.starts_with('/') {
        return Some((name.into(), None));
    }
    let (host, port) = name.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host.into(), Some(port.parse().ok()?)))
}

/// The attribute `error.type`: the server's code, or the kind of fault.
fn error_type(error: &CallError) -> &str {
    match error {
        CallError::Replied(error) => error.code(),
        CallError::NotSent(fault) | CallError::Maybe(fault) => fault.kind().as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_named_after_its_commands() {
        let of = |names: &[&str]| {
            let commands: Vec<_> = names.iter().map(|name| Command::new(name)).collect();
            operation(&commands).into_owned()
        };
        assert_eq!(of(&["GET"]), "GET");
        assert_eq!(of(&["GET", "GET"]), "PIPELINE GET");
        assert_eq!(of(&["GET", "SET"]), "PIPELINE");
        assert_eq!(of(&["MULTI", "SET", "SET", "EXEC"]), "MULTI SET");
        assert_eq!(of(&["MULTI", "SET", "GET", "EXEC"]), "MULTI");
        assert_eq!(of(&["MULTI", "EXEC"]), "MULTI");
        assert_eq!(of(&[]), "PIPELINE");
    }

    #[test]
    fn an_address_is_taken_apart() {
        assert_eq!(address("[::1]:6379"), Some(("::1".into(), Some(6379))));
        assert_eq!(
            address("redis.example:1"),
            Some(("redis.example".into(), Some(1)))
        );
        assert_eq!(
            address("/run/redis.sock"),
            Some(("/run/redis.sock".into(), None))
        );
        assert_eq!(address("backend"), None);
    }
}
