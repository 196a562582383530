//! The first commands on a connection: `HELLO 3` with the credentials, and what else is to be set.

use secrecy::{ExposeSecret, SecretString};

use super::link::NativeLink;
use crate::command::Command;
use crate::config::{ClientConfig, SharedProvider};
use crate::driver::hello::{self, Hello, OldServers};
use crate::driver::{certificate, link::Link};
use crate::error::{CallError, Fault, FaultKind, ServerError};
use crate::value::Value;

/// What to introduce ourselves with.
#[derive(Clone)]
pub(super) struct Introduction {
    username: Option<String>,
    password: Option<SecretString>,
    provider: Option<SharedProvider>,
    database: u32,
    client_name: Option<String>,
    /// Whether to say which library this is. Sentinels are not told.
    names_library: bool,
    old_servers: OldServers,
    /// Whether replicas are to serve reads on this connection.
    read_only: bool,
}

impl Introduction {
    pub(super) fn new(config: &ClientConfig) -> Self {
        Self {
            username: config.username.clone(),
            password: config.password.clone(),
            provider: config.provider.clone(),
            database: config.database,
            client_name: config.client_name.clone(),
            names_library: true,
            old_servers: OldServers::default(),
            read_only: config.read_from_replicas,
        }
    }

    pub(super) fn to_sentinel(config: &ClientConfig) -> Self {
        Self {
            username: config.sentinel_username.clone(),
            password: config.sentinel_password.clone(),
            provider: None,
            database: 0,
            client_name: None,
            names_library: false,
            old_servers: OldServers::untold(),
            read_only: false,
        }
    }

    /// `HELLO 3` with the credentials of this moment.
    async fn hello(&self) -> Result<Command, Fault> {
        let hello = Command::new("HELLO").arg(3);
        let (username, password) = match &self.provider {
            None => (self.username.clone(), self.password.clone()),
            Some(provider) => {
                let given = provider.credentials().await?;
                (
                    given.username.or_else(|| self.username.clone()),
                    Some(given.password),
                )
            }
        };
        Ok(match password {
            Some(password) => hello
                .arg("AUTH")
                .arg(username.as_deref().unwrap_or("default"))
                .arg(password.expose_secret()),
            None => hello,
        })
    }

    /// `target` has said what it is, and is used.
    pub(super) fn warn_of_old(&self, hello: &Hello, target: &str) {
        self.old_servers.warn_of(hello, target);
    }

    /// What may be refused to a user who can still use the connection.
    fn wishes(&self) -> Vec<Command> {
        let client = |words: [&str; 2]| Command::new("CLIENT").args(words);
        let mut all = Vec::new();
        if self.names_library {
            all.push(client(["SETINFO", "LIB-NAME"]).arg("redkit"));
            all.push(client(["SETINFO", "LIB-VER"]).arg(env!("CARGO_PKG_VERSION")));
        }
        if let Some(name) = &self.client_name {
            all.push(client(["SETNAME", name]));
        }
        if self.read_only {
            all.push(Command::new("READONLY"));
        }
        if self.names_library {
            all.push(hello::command_info());
        }
        all
    }
}

/// Introduces ourselves; gives what the server says of itself, if it says that much.
pub(super) async fn introduce(
    link: &NativeLink,
    introduction: &Introduction,
    target: &str,
    is_encrypted: bool,
) -> Result<Option<Hello>, Fault> {
    let mut commands = vec![introduction.hello().await?];
    let selects = introduction.database != 0;
    if selects {
        commands.push(Command::new("SELECT").arg(introduction.database));
    }
    commands.extend(introduction.wishes());
    let replies = link.send_all(&commands).await;
    let mut replies = match replies {
        Ok(replies) => replies.into_iter(),
        Err(error) => {
            link.close();
            return Err(refused(error, target, is_encrypted));
        }
    };
    let hello = replies.next().unwrap_or(Ok(Value::Nil));
    let hello = hello.map_err(|error| refused(error, target, is_encrypted))?;
    if selects && let Some(Err(error)) = replies.next() {
        return Err(refused(error, target, is_encrypted));
    }
    let mut hello = Hello::parse(hello);
    if let Some(hello) = &mut hello
        && introduction.names_library
    {
        hello.learn(replies.next_back().and_then(Result::ok).as_ref());
    }
    Ok(hello)
}

/// Who refused what, and which field to look at.
fn refused(error: CallError, target: &str, is_encrypted: bool) -> Fault {
    match error {
        CallError::Replied(error) => not_accepted(&error, target),
        CallError::NotSent(fault) | CallError::Maybe(fault) => broke(&fault, target, is_encrypted),
    }
}

fn not_accepted(error: &ServerError, target: &str) -> Fault {
    let detail = error.to_string();
    if let Some(fault) = hello::unknown(&detail, target) {
        return fault;
    }
    let fix = match error.code() {
        "NOAUTH" => "the server wants credentials: set `password` (and `username`)",
        "WRONGPASS" => "check `username` and `password`",
        "NOPERM" => "the user lacks a right: see `ACL LOG` at the server",
        _ if detail.contains("DB index") => "check `database`",
        _ => hello::turned_away(&detail)
            .unwrap_or("check that the address is a Redis (6 or later) or Valkey server's"),
    };
    let message = format!("{target} did not accept the connection: {detail}; {fix}");
    Fault::new(FaultKind::Handshake, message).with_source(error.clone())
}

fn broke(fault: &Fault, target: &str, is_encrypted: bool) -> Fault {
    let source = std::error::Error::source(fault).map(ToString::to_string);
    let detail = source.unwrap_or_else(|| fault.to_string());
    let of_certificate = certificate::remedy(&detail).filter(|_| is_encrypted);
    let (kind, fix) = match (of_certificate, fault.kind()) {
        (Some(remedy), _) => (FaultKind::Tls, remedy),
        (None, FaultKind::Protocol) => (
            FaultKind::Handshake,
            // A server that is full says so before it is asked.
            hello::turned_away(&detail)
                .unwrap_or("check that the address is a Redis (6 or later) or Valkey server's"),
        ),
        (None, _) if is_encrypted => (
            FaultKind::Tls,
            "check `host` and `port`; who demands a client certificate and gets none may hang up \
             like this: see `tls_client_cert_file`",
        ),
        (None, _) => (FaultKind::Connect, "the port may want TLS: write rediss://"),
    };
    let message = format!("{target} did not accept the connection: {detail}; {fix}");
    Fault::new(kind, message).with_source(fault.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_full_or_protected_is_not_taken_for_a_wrong_address() {
        for (words, remedy) in [
            ("ERR max number of clients reached", "`maxclients`"),
            ("DENIED Redis is running in protected mode", "`bind`"),
        ] {
            let error = ServerError::parse(words);
            let unasked = format!("the server said, without being asked: {error}");
            let unasked = Fault::new(FaultKind::Protocol, unasked);
            for fault in [not_accepted(&error, "here"), broke(&unasked, "here", false)] {
                let shown = fault.to_string();
                assert!(shown.contains(remedy), "{shown}");
                assert!(!shown.contains("check that the address"), "{shown}");
            }
        }
    }
}
