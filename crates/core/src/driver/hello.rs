//! What a server says of itself in its reply to `HELLO`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::backend::{Capabilities, ServerKind};
use crate::config::Endpoint;
use crate::error::{Fault, FaultKind};
use crate::value::Value;

/// The fault when a server does not know `HELLO`. Its own words must not be shown: they quote the
/// arguments, and the password is one of them.
pub(super) fn unknown(server_says: &str, target: &str) -> Option<Fault> {
    server_says
        .to_ascii_lowercase()
        .contains("unknown command")
        .then(|| {
            let message = format!(
                "{target} does not know HELLO; check that the address is a Redis (6 or later) or \
             Valkey server's, and that the command was not renamed"
            );
            Fault::new(FaultKind::Handshake, message)
        })
}

/// What to do about a server that turns every connection away, by its words.
pub(super) fn turned_away(server_says: &str) -> Option<&'static str> {
    if server_says.contains("max number of clients") {
        Some(
            "the server has as many connections as it takes: raise `maxclients` there, or open \
             fewer",
        )
    } else if server_says.contains("DENIED") {
        Some(
            "the server is in protected mode: set a password there, or have it listen where the \
             client is (`bind`)",
        )
    } else {
        None
    }
}

/// Asks whether the server has the commands behind [`Capabilities`]: the names are in [`Hello::learn`]'s order.
pub(super) const COMMAND_INFO: [&str; 4] = ["INFO", "SSUBSCRIBE", "HPEXPIRE", "XADD"];

/// Tells the log of servers that are older than the scripts of the patterns are written for: once for each client, whose
/// connections share it. Otherwise the first to tell would be a script that fails, and not every one does.
#[derive(Debug, Clone, Default)]
pub(super) struct OldServers(Arc<AtomicBool>);

impl OldServers {
    /// For sentinels, whose age keeps nothing from working.
    pub(super) fn untold() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// `target` has said what it is.
    pub(super) fn warn_of(&self, hello: &Hello, target: &str) {
        let (major, minor, patch) = hello.capabilities.version;
        let is_old = (1..LEAST_MAJOR).contains(&major);
        if is_old && !self.0.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                target: "redkit::connection",
                server = target,
                version = %format_args!("{major}.{minor}.{patch}"),
                "the server is older than Redis 7.0, whose commands the scripts of locks, sessions and collections use \
                 (PEXPIRE with NX or GT, PEXPIRETIME, LMPOP, ZMPOP, SINTERCARD), as sharded channels do (SSUBSCRIBE): \
                 run Redis 7.0 or Valkey 8.0, or later"
            );
        }
    }
}

/// The first version that has all commands.
const LEAST_MAJOR: u16 = 7;

/// What a server is to its fellows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Unknown,
    Master,
    Replica,
}

/// What kind of server the configuration is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// One that serves every key.
    Standalone,
    /// A node of a cluster, a sentinel, or what a sentinel names.
    Any,
}

impl Expected {
    pub(super) fn of(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Standalone(_) | Endpoint::Unix(_) => Expected::Standalone,
            _ => Expected::Any,
        }
    }
}

/// The reply, read.
pub(super) struct Hello {
    pub(super) capabilities: Capabilities,
    pub(super) role: Role,
    /// The server's number for the connection.
    pub(super) id: Option<i64>,
    mode: String,
}

impl Hello {
    /// `None` when the reply has another shape: what is not known is not promised.
    pub(super) fn parse(reply: Value) -> Option<Self> {
        let fields: Vec<(String, Value)> = reply.to().ok()?;
        let text = |name: &str| {
            let value = fields.iter().find(|(field, _)| field == name)?.1.clone();
            value.to::<String>().ok()
        };
        let number = |name: &str| {
            let value = fields.iter().find(|(field, _)| field == name)?.1.clone();
            value.to::<i64>().ok()
        };
        let server = match text("server")?.as_str() {
            "redis" => ServerKind::Redis,
            "valkey" => ServerKind::Valkey,
            _ => ServerKind::Unknown,
        };
        let version = text("version")?;
        let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
        let mut part = || parts.next().unwrap_or(0);
        Some(Self {
            capabilities: Capabilities::of(server, (part(), part(), part())),
            role: match text("role").as_deref() {
                Some("master") => Role::Master,
                Some("replica" | "slave") => Role::Replica,
                _ => Role::Unknown,
            },
            id: number("id"),
            mode: text("mode").unwrap_or_default(),
        })
    }

    /// Takes what the server can do from its own list of commands, the reply to [`COMMAND_INFO`]. A server
    /// that keeps the list to itself is judged by its version.
    pub(super) fn learn(&mut self, commands: Option<&Value>) {
        let Some(Value::Array(commands)) = commands else {
            return;
        };
        let [sharded, field_expiry, streams] = commands.as_slice() else {
            return;
        };
        let is_known = |command: &Value| !matches!(command, Value::Nil);
        self.capabilities.sharded_pubsub = is_known(sharded);
        self.capabilities.field_expiry = is_known(field_expiry);
        self.capabilities.streams = is_known(streams);
    }

    /// Refuses the server at `target` when it is of another kind than the configuration is for.
    pub(super) fn check(&self, expected: Expected, target: &str) -> Result<(), Fault> {
        let is = match (expected, self.mode.as_str()) {
            (Expected::Standalone, "cluster") => {
                "a node of a cluster and serves a part of the keys only; write redis-cluster:// \
                 instead of redis:// (with the `native` driver)"
            }
            (Expected::Standalone, "sentinel") => {
                "a sentinel and serves no keys; write redis-sentinel:// instead of redis://, and \
                 the master's name as the path"
            }
            _ => return Ok(()),
        };
        Err(Fault::new(
            FaultKind::Handshake,
            format!("{target} is {is}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(fields: &[(&'static str, &'static str)]) -> Value {
        let pairs = fields
            .iter()
            .map(|(k, v)| (Value::bulk(*k), Value::bulk(*v)));
        Value::Map(pairs.collect())
    }

    #[test]
    fn servers_are_known_by_what_they_say() {
        let said = hello(&[
            ("server", "valkey"),
            ("version", "8.0.1"),
            ("mode", "cluster"),
            ("role", "replica"),
        ]);
        let hello = Hello::parse(said).unwrap();
        assert_eq!(hello.capabilities.server, ServerKind::Valkey);
        assert_eq!(hello.capabilities.version, (8, 0, 1));
        assert_eq!(hello.role, Role::Replica);
        let refused = hello.check(Expected::Standalone, "here").unwrap_err();
        assert!(
            refused.to_string().contains("redis-cluster://"),
            "{refused}"
        );
        hello.check(Expected::Any, "here").unwrap();
    }

    #[test]
    fn the_list_of_commands_outweighs_the_version() {
        let said = || hello(&[("server", "redis"), ("version", "7.4.0")]);
        let known = || Value::Array(vec![Value::bulk("name")]);
        let mut hello = Hello::parse(said()).unwrap();
        hello.learn(Some(&Value::Array(vec![Value::Nil, Value::Nil, known()])));
        assert!(!hello.capabilities.sharded_pubsub && !hello.capabilities.field_expiry);
        assert!(hello.capabilities.streams);
        for silent in [None, Some(Value::Nil), Some(Value::Array(vec![]))] {
            let mut hello = Hello::parse(said()).unwrap();
            hello.learn(silent.as_ref());
            assert!(hello.capabilities.sharded_pubsub && hello.capabilities.field_expiry);
        }
    }

    #[test]
    fn a_program_that_says_little_is_unknown() {
        assert!(Hello::parse(Value::Ok).is_none());
        assert!(Hello::parse(hello(&[("server", "redis")])).is_none());
        let odd = Hello::parse(hello(&[("server", "other"), ("version", "x.y")])).unwrap();
        assert_eq!(odd.capabilities.version, (0, 0, 0));
        assert_eq!(odd.capabilities.server, ServerKind::Unknown);
    }
}
