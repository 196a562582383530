//! The seam: [`Backend`], through which every command goes.

use async_trait::async_trait;
use tokio::sync::watch;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::breaker::Breakers;
use crate::command::Command;
use crate::error::{CallError, Fault, FaultKind};
use crate::push::{Interest, PushStream};
use crate::value::Value;

/// A way to a server, or to an engine in the process. It is thin because it is what a driver must
/// get right:
///
/// - Every call ends by its command's [deadline](Command::deadline_at);
///   [`Client`](crate::Client) sets one on every command and relies on this.
/// - [`CallError::NotSent`] is given only when the command certainly was not carried out;
///   whenever there is doubt it is [`CallError::Maybe`].
/// - Dropping the future of a call never gives another caller the wrong reply.
///
/// Retry, breaker, namespaces and codecs are [`Client`](crate::Client)'s business, and so is
/// keeping commands that change a connection off a shared one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no backend",
    label = "a client cannot stand on this",
    note = "`redkit_embedded::Embedded` is one; `Client::connect` makes one for a server"
)]
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Sends one command and waits for its reply.
    ///
    /// # Errors
    /// [`CallError`], which says whether the command may have been carried out.
    async fn call(&self, command: &Command) -> Result<Value, CallError>;

    /// Sends several commands together. The outer error means that nothing is known of any of
    /// them; the inner ones belong to their command. The replies are in the order of the commands.
    ///
    /// On a backend with one connection the commands arrive back to back, so that
    /// `MULTI … EXEC` works; it waits until the latest of the commands' deadlines.
    ///
    /// # Errors
    /// [`CallError`] when the commands could not be sent or their replies did not come.
    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError>;

    /// Subscribes, and returns when the server has confirmed it.
    ///
    /// # Errors
    /// [`CallError`] when the server refused or could not be reached.
    async fn subscribe(&self, interest: Interest) -> Result<PushStream, CallError>;

    /// A connection of its own: for blocking commands, `WATCH`, `WAIT` and whatever else must not
    /// be shared. It is closed when the returned backend is dropped.
    ///
    /// # Errors
    /// [`CallError`] when no connection could be made.
    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError>;

    /// The same to one of the [servers](Self::servers). It does not follow a redirection. Where there is one server, that
    /// is it, by whatever name.
    ///
    /// # Errors
    /// [`CallError`] when no connection could be made;
    /// [`FaultKind::Invalid`] for a server that is not among several;
    /// [`FaultKind::Unsupported`] where there are several and the backend does not implement this.
    async fn dedicated_to(&self, server: &str) -> Result<Arc<dyn Backend>, CallError> {
        match self.servers().len() {
            0 | 1 => self.dedicated().await,
            _ => {
                let message = format!("this backend makes no connection to {server} alone");
                Err(Fault::new(FaultKind::Unsupported, message).not_sent())
            }
        }
    }

    /// How the servers behind this backend are laid out.
    fn topology(&self) -> Topology;

    /// What the server behind this backend can do, as far as is known now.
    fn capabilities(&self) -> Capabilities;

    /// The state of the connection and every change of it.
    fn state(&self) -> watch::Receiver<ConnectionState>;

    /// The circuit breakers of the servers behind this backend, when it keeps them itself: it asks
    /// the one of the server that a command goes to, answers with
    /// [`FaultKind::BreakerOpen`](crate::FaultKind::BreakerOpen) when that is open, and tells it how
    /// the command ended. With none, which is the default, the [`Client`](crate::Client) keeps one
    /// for the backend as a whole.
    fn breakers(&self) -> Option<Breakers> {
        None
    }

    /// The servers that take writes now, each of which [`call_on`](Self::call_on) asks by itself. None
    /// while a cluster's are not known yet. The names are those of the [breakers](Self::breakers).
    fn servers(&self) -> Vec<ServerNode> {
        let name = match self.topology() {
            Topology::Embedded => "embedded",
            _ => "backend",
        };
        vec![ServerNode::alone(name)]
    }

    /// Sends a command to one of the [servers](Self::servers), for looking after it: past its breaker, which
    /// is neither asked nor told, and without following a redirection.
    ///
    /// # Errors
    /// [`CallError`], which says whether the command may have been carried out;
    /// [`FaultKind::Invalid`](crate::FaultKind::Invalid) for a server that is not among them.
    async fn call_on(&self, server: &str, command: &Command) -> Result<Value, CallError> {
        let _ = server;
        self.call(command).await
    }

    /// What each of the sentinels says of whether a failover could be agreed on now (`SENTINEL CKQUORUM`); an error
    /// with the code `NOQUORUM` when too few of them see each other. None where no sentinels are asked. Each
    /// is asked on a connection of its own, for no longer than `limit`.
    async fn check_quorum(&self, limit: Duration) -> Vec<(Box<str>, Result<Value, CallError>)> {
        let _ = limit;
        Vec::new()
    }

    /// Closes connections and ends tasks. Calls in flight are given until their deadlines; later
    /// calls end as [`CallError::NotSent`]. Doing it twice is fine.
    async fn shutdown(&self);
}

/// How servers are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Topology {
    /// An engine in this process.
    Embedded,
    /// One server.
    Standalone,
    /// One master found through sentinels.
    Sentinel,
    /// Masters that share 16,384 slots.
    Cluster,
}

/// One server behind a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerNode {
    /// Its address, or what sentinels call it.
    pub name: Arc<str>,
    /// The slots of Redis Cluster that it serves; all of them when it is the only one.
    pub slots: Vec<RangeInclusive<u16>>,
}

impl ServerNode {
    /// The only server.
    pub fn alone(name: &str) -> Self {
        Self::new(name, vec![0..=LAST_SLOT])
    }

    /// A server with these slots.
    pub fn new(name: &str, slots: Vec<RangeInclusive<u16>>) -> Self {
        Self {
            name: name.into(),
            slots,
        }
    }

    /// Whether it serves this slot.
    pub fn serves(&self, slot: u16) -> bool {
        self.slots.iter().any(|range| range.contains(&slot))
    }
}

const LAST_SLOT: u16 = 16_383;

/// What a server can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Which program it is.
    pub server: ServerKind,
    /// Its own version (major, minor, patch); for the embedded engine the version of Redis whose
    /// commands it has. Zeros while it is not known.
    pub version: (u16, u16, u16),
    /// `SSUBSCRIBE` and `SPUBLISH`.
    pub sharded_pubsub: bool,
    /// `HPEXPIRE` and its kin.
    pub field_expiry: bool,
    /// `CLIENT TRACKING`, and a driver that passes on what it tells: see
    /// [`Interest::Invalidations`].
    pub tracking: bool,
    /// `XADD` and its kin.
    pub streams: bool,
}

impl Capabilities {
    /// Nothing is known yet, so nothing optional is promised.
    pub const UNKNOWN: Self = Self {
        server: ServerKind::Unknown,
        version: (0, 0, 0),
        sharded_pubsub: false,
        field_expiry: false,
        tracking: false,
        streams: false,
    };

    /// What a server of this kind and version can do.
    pub fn of(server: ServerKind, version: (u16, u16, u16)) -> Self {
        Self {
            server,
            version,
            sharded_pubsub: version >= (7, 0, 0),
            field_expiry: match server {
                ServerKind::Valkey => version >= (9, 0, 0),
                _ => version >= (7, 4, 0),
            },
            tracking: version >= (6, 0, 0),
            streams: version >= (5, 0, 0),
        }
    }
}

/// Which program answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerKind {
    /// Not connected yet, or a program that does not say.
    Unknown,
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
    /// The embedded engine.
    Embedded,
}

/// Where a connection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// No connection was wanted yet.
    Idle,
    /// The first connection is being made.
    Connecting,
    /// Commands can be sent. The number counts the connections made so far, from 1.
    Connected(u64),
    /// The connection stands, but was silent, or a call on it got no reply in time: it is being
    /// probed. Commands are still sent on it.
    Suspect(u64),
    /// The connection was lost, or never came about, and is being made anew.
    Reconnecting {
        /// Attempts since the last connection.
        attempt: u32,
        /// Why the last attempt failed, or why the connection was given up.
        cause: Arc<str>,
    },
    /// Shut down; there will be no other state.
    Closed,
}

impl ConnectionState {
    /// Whether commands can be sent now.
    pub fn is_connected(&self) -> bool {
        matches!(
            self,
            ConnectionState::Connected(_) | ConnectionState::Suspect(_)
        )
    }
}
