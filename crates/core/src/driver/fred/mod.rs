//! The driver on the `fred` crate, for one server: TCP, TLS or a unix socket.
//!
//! Choose it by the setting `driver` (`redis://host?driver=fred`, or
//! [`ClientConfig::driver`](crate::ClientConfig::driver)); everything above it stays the same. To
//! reach fred itself, make the backend, keep it, and give it to a client:
//!
//! ```no_run
//! use std::sync::Arc;
//! use redkit_core::fred::FredBackend;
//! use redkit_core::{Client, ClientConfig};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = ClientConfig::from_url("redis://localhost")?;
//! let backend = Arc::new(FredBackend::connect(&config).await?);
//! let client = Client::from_backend(backend.clone(), &config)?;
//! let fred = backend.client().await?;
//! # let _ = (client, fred); Ok(()) }
//! ```
//!
//! # What is contained
//! - **Replies that look like pushed messages.** fred takes an array of three to five items that
//!   starts with `message`, `subscribe` and the like for a message, in RESP3 too, and from then on
//!   every reply goes to the wrong caller. Commands whose reply could look so are sent between
//!   `MULTI` and `EXEC`, which needs the rights to both (and to `PING` in a transaction). On a
//!   dedicated connection, where `EXEC` would end a `WATCH`, an `ECHO` behind the command notices
//!   the loss: the call fails, and the connection ends.
//! - **Repetition.** Each command is written at most once. fred's own reconnecting is off; the
//!   supervisor makes a new client, because one that has ended never comes back.
//! - **Queues that leak.** fred has no limit here, so it refuses nothing; the client's
//!   `max_in_flight` does.
//! - **Subscriptions** are confirmed by the server before they are reported as standing, survive
//!   reconnects with a [`Gap`](crate::Push::Gap), and say so when fred's queue overflowed.
//!
//! # What is not
//! - Clusters and sentinels are refused. Databases go up to 255.
//! - Names of channels must be UTF-8. Every pattern has a connection of its own, because fred does
//!   not say which pattern matched. A pattern that matches both kinds of notifications about keys
//!   gets a gap in place of each notification.
//! - fred writes every command that has no typed form here by itself, which costs throughput.
//! - A sign of life is a reply, not a byte: one reply that takes longer than the probe's limit to
//!   arrive costs the connection.
//! - The order of a map's and a set's items is the server's, but repeated items are one.
//! - A command that was given up may still be carried out: fred keeps it queued until the
//!   connection ends.

mod convert;
mod dedicated;
mod link;
mod reply_shape;
mod sequence;
mod settings;
mod subscriptions;
mod typed;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use self::dedicated::{Dedicated, Limits};
use self::link::{FredConnector, FredLink};
use self::subscriptions::Lanes;
use crate::backend::{Backend, Capabilities, ConnectionState, Topology};
use crate::command::Command;
use crate::config::ClientConfig;
use crate::driver::supervisor::{Supervisor, Timing};
use crate::error::{CallError, Error, Fault, FaultKind};
use crate::push::{Interest, PushStream};
use crate::value::Value;

/// A backend on one server, through the `fred` crate. See [the module](self).
pub struct FredBackend {
    supervisor: Supervisor<FredLink>,
    lanes: Lanes,
    connector: FredConnector,
    limits: Limits,
}

impl FredBackend {
    /// Connects, or prepares to when the configuration is lazy.
    ///
    /// # Errors
    /// [`Error::Config`] when the configuration cannot work or asks for what fred is not used for,
    /// [`Error::Call`] when the first attempt to connect failed.
    pub async fn connect(config: &ClientConfig) -> Result<Self, Error> {
        config.validate()?;
        let connector = FredConnector::new(config)?;
        let timing = Timing::of(config);
        let supervisor = Supervisor::start(connector.clone(), timing, config.lazy);
        if !config.lazy {
            supervisor
                .first_attempt()
                .await
                .map_err(|fault| Error::call("CONNECT", fault.not_sent()))?;
        }
        Ok(Self {
            lanes: Lanes::new(connector.clone(), timing),
            supervisor,
            connector,
            limits: Limits {
                command: config.command_timeout,
                connect: config.connect_timeout,
            },
        })
    }

    /// fred's own client of the present connection; waits for one no longer than the command
    /// timeout. It does not survive the connection: ask again instead of keeping it.
    ///
    /// Nothing that this driver contains is contained on it. A reply that fred mistakes there
    /// shifts the replies of everybody on this backend.
    ///
    /// # Errors
    /// [`CallError::NotSent`] when there is no connection.
    pub async fn client(&self) -> Result<::fred::clients::Client, CallError> {
        let deadline = Instant::now() + self.limits.command;
        let link = self.supervisor.link(deadline).await?;
        Ok(link.client().clone())
    }

    fn deadline(&self, command: &Command) -> Instant {
        command
            .deadline_at()
            .unwrap_or_else(|| Instant::now() + self.limits.command)
    }

    #[cold]
    fn timed_out(&self) -> CallError {
        self.supervisor.suspect();
        Fault::new(FaultKind::Timeout, "no reply within the deadline").maybe()
    }
}

#[async_trait]
impl Backend for FredBackend {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        let deadline = self.deadline(command);
        let link = self.supervisor.link(deadline).await?;
        match timeout_at(deadline, link.send(command, deadline)).await {
            Ok(reply) => reply,
            Err(_) => Err(self.timed_out()),
        }
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let Some(deadline) = commands.iter().map(|command| self.deadline(command)).max() else {
            return Ok(Vec::new());
        };
        let link = self.supervisor.link(deadline).await?;
        match timeout_at(deadline, link.send_all(commands, deadline)).await {
            Ok(replies) => replies,
            Err(_) => Err(self.timed_out()),
        }
    }

    async fn subscribe(&self, interest: Interest) -> Result<PushStream, CallError> {
        let deadline = Instant::now() + self.limits.connect + self.limits.command;
        self.lanes.subscribe(interest, deadline).await
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        Ok(Arc::new(
            Dedicated::open(&self.connector, self.limits).await?,
        ))
    }

    fn topology(&self) -> Topology {
        Topology::Standalone
    }

    fn capabilities(&self) -> Capabilities {
        self.supervisor.capabilities()
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.supervisor.state()
    }

    async fn shutdown(&self) {
        self.lanes.shutdown();
        self.supervisor.shutdown();
    }
}
