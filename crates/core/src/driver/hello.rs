//! What a server says of itself in its reply to `HELLO`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::backend::{Capabilities, ServerKind};
use crate::command::Command;
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

/// Asks the server for its description of some commands, an answer for each: of those behind [`Capabilities`], and of the
/// [`NEEDED`] ones.
pub(super) fn command_info() -> Command {
    let command = Command::new("COMMAND").arg("INFO");
    command.args(OF_CAPABILITIES).args(NEEDED)
}

/// In the order of [`Hello::learn`].
const OF_CAPABILITIES: [&str; 3] = ["SSUBSCRIBE", "HPEXPIRE", "XADD"];

/// The commands of Redis 7.0 that patterns use. Options that came with the same version (`PEXPIRE` with `NX` or `GT`)
/// cannot be asked for; a server that has these commands is taken to have them.
const NEEDED: [&str; 4] = ["PEXPIRETIME", "LMPOP", "ZMPOP", "SINTERCARD"];

/// Tells the log of servers that lack what the patterns use: once for each client, whose connections share it. Otherwise
/// the first to tell would be a script that fails, and not every one does.
#[derive(Debug, Clone, Default)]
pub(super) struct OldServers(Arc<AtomicBool>);

impl OldServers {
    /// For sentinels, whose age keeps nothing from working.
    pub(super) fn untold() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// `target` has said what it is, and is used.
    pub(super) fn warn_of(&self, hello: &Hello, target: &str) {
        let missing = hello.missing();
        if missing.is_empty() || self.0.swap(true, Ordering::Relaxed) {
            return;
        }
        let (major, minor, patch) = hello.capabilities.version;
        tracing::warn!(
            target: "redkit::connection",
            server = target,
            version = %format_args!("{major}.{minor}.{patch}"),
            missing = missing.join(", "),
            "the server lacks commands of Redis 7.0, which locks, sessions and collections use: run Redis 7.0 or \
             Valkey 8.0, or later, or allow these commands if they were renamed"
        );
    }
}

/// The first version of Redis that has all commands. Valkey, which began with 7.2, has them in all of its versions.
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
    /// The needed commands that are not in the server's own list; `None` when it keeps the list to itself.
    not_listed: Option<Vec<&'static str>>,
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
            not_listed: None,
        })
    }

    /// Takes what the server can do from its own list of commands, the reply to [`command_info`]. A server
    /// that keeps the list to itself is judged by its version.
    pub(super) fn learn(&mut self, commands: Option<&Value>) {
        let Some(Value::Array(commands)) = commands else {
            return;
        };
        let [sharded, field_expiry, streams, needed @ ..] = commands.as_slice() else {
            return;
        };
        if needed.len() != NEEDED.len() {
            return;
        }
        let is_known = |command: &Value| !matches!(command, Value::Nil);
        self.capabilities.sharded_pubsub = is_known(sharded);
        self.capabilities.field_expiry = is_known(field_expiry);
        self.capabilities.streams = is_known(streams);
        let missing = NEEDED.into_iter().zip(needed);
        let missing = missing.filter_map(|(name, command)| (!is_known(command)).then_some(name));
        self.not_listed = Some(missing.collect());
    }

    /// The commands that patterns use and the server lacks: by its own list, or else by its version.
    fn missing(&self) -> &[&'static str] {
        let is_old = (1..LEAST_MAJOR).contains(&self.capabilities.version.0);
        match &self.not_listed {
            Some(not_listed) => not_listed,
            None if is_old => &NEEDED,
            None => &[],
        }
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
        let mut listed = vec![Value::Nil, Value::Nil, known()];
        listed.extend([known(), Value::Nil, known(), Value::Nil]);
        hello.learn(Some(&Value::Array(listed)));
        assert!(!hello.capabilities.sharded_pubsub && !hello.capabilities.field_expiry);
        assert!(hello.capabilities.streams);
        assert_eq!(hello.missing(), ["LMPOP", "SINTERCARD"]);
        for silent in [None, Some(Value::Nil), Some(Value::Array(vec![]))] {
            let mut hello = Hello::parse(said()).unwrap();
            hello.learn(silent.as_ref());
            assert!(hello.capabilities.sharded_pubsub && hello.capabilities.field_expiry);
            assert!(hello.missing().is_empty());
        }
    }

    #[test]
    fn a_server_is_old_by_the_commands_that_it_lacks_and_not_by_its_name() {
        let missing = |server, version, listed: Option<bool>| {
            let mut hello =
                Hello::parse(hello(&[("server", server), ("version", version)])).unwrap();
            let list = listed.map(|is_known| match is_known {
                true => Value::Array(vec![Value::bulk("name"); 7]),
                false => Value::Array(vec![Value::Nil; 7]),
            });
            hello.learn(list.as_ref());
            hello.missing().len()
        };
        assert_eq!(missing("redis", "6.2.14", None), NEEDED.len());
        assert_eq!(missing("redis", "6.2.14", Some(true)), 0);
        assert_eq!(missing("other", "1.0.0", Some(true)), 0);
        assert_eq!(missing("redis", "7.0.0", Some(false)), NEEDED.len());
        // It began where Redis was at 7.2.
        assert_eq!(missing("valkey", "7.2.5", None), 0);
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
