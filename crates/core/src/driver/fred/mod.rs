//! The driver on the `fred` crate, for one server: over TCP, TLS or a unix socket, or found through
//! sentinels.
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
//!   `max_in_flight` does. What fred keeps for callers who have left is bounded apart from that:
//!   above 4,096 commands or 64 MiB of them new calls are refused as not sent.
//! - **Subscriptions** are confirmed by the server before they are reported as standing, survive
//!   reconnects with a [`Gap`](crate::Push::Gap), and say so when fred's queue overflowed.
//!
//! # What is not
//! - Clusters are refused. Databases go up to 255.
//! - Changes of keys ([`Interest::Invalidations`](crate::Interest::Invalidations)) are refused: fred
//!   throws the message away that says that all keys changed (`FLUSHALL`).
//! - Names of channels must be UTF-8. Every pattern has a connection of its own, because fred does
//!   not say which pattern matched. A pattern that matches both kinds of notifications about keys
//!   gets a gap in place of each notification.
//! - fred writes every command that has no typed form here by itself, which costs throughput.
//! - A sign of life is a reply, not a byte: one reply that takes longer than the probe's limit to
//!   arrive costs the connection.
//! - The order of a map's and a set's items is the server's, but repeated items are one.
//! - A command that was given up may still be carried out: fred keeps it queued until the
//!   connection ends, and nothing takes it back.

mod connector;
mod convert;
mod delivery;
mod link;
mod outstanding;
mod reply_shape;
mod sequence;
mod settings;
mod subscriptions;
mod typed;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use self::connector::FredConnector;
use self::subscriptions::FredSubscriber;
use super::link::ServerConnector;
use super::sentinel::Route;
use super::server::OneServer;
use crate::backend::{Backend, Capabilities, ConnectionState, ServerNode, Topology};
use crate::breaker::Breakers;
use crate::command::Command;
use crate::config::{ClientConfig, Endpoint};
use crate::error::{CallError, Error};
use crate::push::{Interest, PushStream};
use crate::value::Value;

/// A backend on one server, through the `fred` crate. See [the module](self).
pub struct FredBackend {
    server: OneServer<FredConnector, FredSubscriber>,
}

impl FredBackend {
    /// Connects, or prepares to when the configuration is lazy.
    ///
    /// # Errors
    /// [`Error::Config`] when the configuration cannot work or asks for what fred is not used for,
    /// [`Error::Call`] when the first attempt to connect failed.
    pub async fn connect(config: &ClientConfig) -> Result<Self, Error> {
        config.validate()?;
        let base = FredConnector::new(config)?;
        let route = match &config.endpoint {
            Endpoint::Sentinel { sentinels, master } => {
                let ask = base.for_sentinel(config);
                let sentinels = sentinels
                    .iter()
                    .map(|address| FredSubscriber::to_sentinel(ask.at(address)))
                    .collect();
                Route::named(base, master, sentinels, config.connect_timeout)
            }
            _ => Route::Fixed(base),
        };
        Ok(Self {
            server: OneServer::start(route, config, FredSubscriber::new).await?,
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
        let link = self.server.link().await?;
        Ok(link.client().clone())
    }
}

#[async_trait]
impl Backend for FredBackend {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        self.server.call(command).await
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        self.server.pipeline(commands).await
    }

    async fn subscribe(&self, interest: Interest) -> Result<PushStream, CallError> {
        self.server.subscribe(interest).await
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        self.server.dedicated().await
    }

    fn topology(&self) -> Topology {
        self.server.topology()
    }

    /// Without tracking, which this driver refuses whatever the server can do.
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            tracking: false,
            ..self.server.capabilities()
        }
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.server.state()
    }

    fn breakers(&self) -> Option<Breakers> {
        self.server.breakers()
    }

    fn servers(&self) -> Vec<ServerNode> {
        self.server.servers()
    }

    async fn call_on(&self, server: &str, command: &Command) -> Result<Value, CallError> {
        self.server.call_on(server, command).await
    }

    async fn check_quorum(&self, limit: Duration) -> Vec<(Box<str>, Result<Value, CallError>)> {
        self.server.check_quorum(limit).await
    }

    async fn shutdown(&self) {
        self.server.shutdown().await;
    }
}
