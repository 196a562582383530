//! The driver on the `redis` crate: one multiplexed RESP3 connection under the supervisor, a
//! second one for subscriptions when there are any.

mod convert;
mod dedicated;
mod link;
mod subscriptions;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use self::dedicated::{Dedicated, Limits};
use self::link::{RedisConnector, RedisLink};
use crate::backend::{Backend, Capabilities, ConnectionState, Topology};
use crate::command::Command;
use crate::config::ClientConfig;
use crate::driver::subscriptions::Subscriptions;
use crate::driver::supervisor::{Supervisor, Timing};
use crate::error::{CallError, Error, Fault, FaultKind};
use crate::push::{Interest, PushStream};
use crate::value::Value;

/// A backend on one server.
pub(crate) struct RedisBackend {
    supervisor: Supervisor<RedisLink>,
    subscriptions: Subscriptions,
    connector: RedisConnector,
    limits: Limits,
}

impl RedisBackend {
    /// Connects, or prepares to when the configuration is lazy.
    pub(crate) async fn connect(config: &ClientConfig) -> Result<Self, Error> {
        let connector = RedisConnector::new(config)?;
        let timing = Timing {
            connect_timeout: config.connect_timeout,
            probe_interval: config.probe_interval,
            probe_timeout: (config.command_timeout / 2).clamp(PROBE_LEAST, PROBE_MOST),
            reconnect: config.reconnect,
        };
        let supervisor = Supervisor::start(connector.clone(), timing, config.lazy);
        if !config.lazy {
            supervisor
                .first_attempt()
                .await
                .map_err(|fault| Error::call("CONNECT", fault.not_sent()))?;
        }
        Ok(Self {
            subscriptions: Subscriptions::start(connector.clone(), timing),
            supervisor,
            connector,
            limits: Limits {
                command: config.command_timeout,
                connect: config.connect_timeout,
            },
        })
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

/// Between these bounds a probe waits half a command's time for an answer.
const PROBE_LEAST: Duration = Duration::from_millis(20);
const PROBE_MOST: Duration = Duration::from_millis(500);

#[async_trait]
impl Backend for RedisBackend {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        let deadline = self.deadline(command);
        let link = self.supervisor.link(deadline).await?;
        match timeout_at(deadline, link.send(command)).await {
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
        match timeout_at(deadline, link.send_all(commands)).await {
            Ok(replies) => replies,
            Err(_) => Err(self.timed_out()),
        }
    }

    async fn subscribe(&self, interest: Interest) -> Result<PushStream, CallError> {
        let deadline = Instant::now() + self.limits.connect + self.limits.command;
        self.subscriptions.subscribe(interest, deadline).await
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
        self.subscriptions.shutdown();
        self.supervisor.shutdown();
    }
}
