//! How connections of the `fred` crate are made.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use ::fred::error::Error as FredError;
use ::fred::interfaces::{ClientLike, FredResult};
use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::convert::to_handshake_fault;
use super::link::FredLink;
use super::settings::{Settings, Use};
use crate::command::Command;
use crate::config::{Address, ClientConfig, ConfigError};
use crate::driver::hello::{Expected, Hello, OldServers};
use crate::driver::link::{Connector, ServerConnector};
use crate::error::{CallError, Fault};

/// Makes connections to one server.
#[derive(Clone)]
pub(super) struct FredConnector {
    settings: Settings,
    client_name: Option<String>,
    timeout: Duration,
    expected: Expected,
    old_servers: OldServers,
}

impl FredConnector {
    pub(super) fn new(config: &ClientConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            settings: Settings::new(config)?,
            client_name: config.client_name.clone(),
            timeout: config.connect_timeout,
            expected: Expected::of(&config.endpoint),
            old_servers: OldServers::default(),
        })
    }

    /// The same with other credentials: sentinels have their own, and no databases.
    pub(super) fn for_sentinel(&self, config: &ClientConfig) -> Self {
        Self {
            settings: self.settings.for_sentinel(config),
            client_name: None,
            old_servers: OldServers::untold(),
            ..self.clone()
        }
    }

    pub(super) async fn connect_for(&self, use_of: Use) -> Result<FredLink, Fault> {
        let client = self.settings.client(use_of).await?;
        let closed = CancellationToken::new();
        let refused = |error| {
            let (target, encrypted) = (self.settings.target(), self.settings.is_encrypted());
            to_handshake_fault(error, target, encrypted)
        };
        let connection = {
            let mut connected = pin!(client.wait_for_connect());
            // Its first poll begins to listen: the outcome must not come before that.
            let early = poll_fn(|cx| Poll::Ready(connected.as_mut().poll(cx))).await;
            // fred spawns the connection's task. Whoever gives up waiting must not leave it behind.
            let mut task = AbortOnDropHandle::new(client.connect());
            let connected = async {
                match early {
                    Poll::Ready(outcome) => outcome,
                    Poll::Pending => connected.await,
                }
            };
            tokio::select! {
                biased;
                outcome = connected => outcome.map_err(refused)?,
                ended = &mut task => {
                    let error = ended.map_err(FredError::from).and_then(|ended| ended).err();
                    return Err(refused(error.unwrap_or_else(FredError::new_canceled)));
                }
            }
            drive(task, closed.clone())
        };
        let mut link = FredLink::new(client, connection, closed);
        if let Some(hello) = self.introduce(&link).await? {
            hello.check(self.expected, self.settings.target())?;
            self.old_servers.warn_of(&hello, self.settings.target());
            link.is(&hello);
        }
        Ok(link)
    }

    /// Names the connection and asks what the server is. A user who may not do either can still
    /// use the connection.
    async fn introduce(&self, link: &FredLink) -> Result<Option<Hello>, Fault> {
        let deadline = Instant::now() + self.timeout;
        let mut commands = vec![Command::new("HELLO")];
        if let Some(name) = &self.client_name {
            commands.push(Command::new("CLIENT").arg("SETNAME").arg(name));
        }
        match link.send_all(&commands, deadline).await {
            Ok(replies) => {
                let hello = replies.into_iter().next().and_then(Result::ok);
                Ok(hello.and_then(Hello::parse))
            }
            Err(CallError::Replied(_)) => Ok(None),
            Err(CallError::NotSent(fault) | CallError::Maybe(fault)) => Err(fault),
        }
    }
}

#[async_trait]
impl Connector for FredConnector {
    type Link = FredLink;

    async fn connect(&self) -> Result<FredLink, Fault> {
        self.connect_for(Use::Commands).await
    }

    fn target(&self) -> String {
        self.settings.target().to_owned()
    }
}

impl ServerConnector for FredConnector {
    fn at(&self, address: &Address) -> Self {
        Self {
            settings: self.settings.at(address),
            ..self.clone()
        }
    }
}

async fn drive(task: AbortOnDropHandle<FredResult<()>>, closed: CancellationToken) {
    let _closed = closed.clone().drop_guard();
    tokio::select! {
        ended = task => tracing::debug!(target: "redkit::connection", ?ended, "fred's task ended"),
        () = closed.cancelled() => {}
    }
}
