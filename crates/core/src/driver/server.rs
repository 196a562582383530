//! A backend on one server: the one configured, or the one that sentinels name.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::dedicated::Dedicated;
use super::link::{CommandLink, Connector, Limits, Link, ServerConnector, Timing, no_reply};
use super::sentinel::Route;
use super::supervisor::Supervisor;
use crate::backend::{Backend, Capabilities, ConnectionState, Topology};
use crate::command::Command;
use crate::config::ClientConfig;
use crate::error::{CallError, Error};
use crate::push::{Interest, PushStream};
use crate::value::Value;

/// How a driver subscribes.
#[async_trait]
pub(super) trait Subscriber: Send + Sync + 'static {
    /// Subscribes, and waits until the server has confirmed it, but not beyond `deadline`.
    async fn subscribe(
        &self,
        interest: Interest,
        deadline: Instant,
    ) -> Result<PushStream, CallError>;

    /// Ends every subscription.
    fn shutdown(&self);
}

/// A backend on one server.
pub(super) struct OneServer<C: Connector, S> {
    supervisor: Supervisor<C::Link>,
    subscriptions: S,
    route: Route<C>,
    limits: Limits,
}

impl<C: ServerConnector, S: Subscriber> OneServer<C, S> {
    /// Connects, or prepares to when the configuration is lazy.
    pub(super) async fn start(
        route: Route<C>,
        config: &ClientConfig,
        subscriptions: impl FnOnce(Route<C>, Timing) -> S,
    ) -> Result<Self, Error> {
        let timing = Timing::of(config);
        let supervisor = Supervisor::start(route.clone(), timing, config.lazy);
        if !config.lazy {
            supervisor
                .first_attempt()
                .await
                .map_err(|fault| Error::call("CONNECT", fault.not_sent()))?;
        }
        Ok(Self {
            subscriptions: subscriptions(route.clone(), timing),
            supervisor,
            route,
            limits: Limits::of(config),
        })
    }

    /// The live connection; waits for one no longer than a command may take.
    #[cfg(feature = "fred")]
    pub(super) async fn link(&self) -> Result<Arc<C::Link>, CallError> {
        let deadline = Instant::now() + self.limits.command;
        self.supervisor.link(deadline).await
    }

    /// Whether a server that sentinels named as master turns out to be none.
    fn is_demoted(&self, error: &CallError) -> bool {
        self.route.topology() == Topology::Sentinel
            && error
                .server_error()
                .is_some_and(|error| error.code() == "READONLY")
    }

    #[cold]
    fn timed_out(&self) -> CallError {
        self.supervisor.suspect();
        no_reply()
    }
}

/// How long to wait before the sentinels are asked again.
const DEMOTED: Duration = Duration::from_millis(20);

#[async_trait]
impl<C: ServerConnector, S: Subscriber> Backend for OneServer<C, S> {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        let deadline = self.limits.deadline(command);
        loop {
            let link = self.supervisor.link(deadline).await?;
            match timeout_at(deadline, link.exchange(command, deadline)).await {
                Ok(Err(error)) if self.is_demoted(&error) && Instant::now() < deadline => {
                    // Nothing was written. The sentinels name another master, or soon will.
                    link.close();
                    sleep(DEMOTED).await;
                }
                Ok(reply) => return reply,
                Err(_) => return Err(self.timed_out()),
            }
        }
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let Some(deadline) = self.limits.latest(commands) else {
            return Ok(Vec::new());
        };
        let link = self.supervisor.link(deadline).await?;
        match timeout_at(deadline, link.exchange_all(commands, deadline)).await {
            Ok(replies) => replies,
            Err(_) => Err(self.timed_out()),
        }
    }

    async fn subscribe(&self, interest: Interest) -> Result<PushStream, CallError> {
        self.subscriptions
            .subscribe(interest, self.limits.subscribed())
            .await
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        let topology = self.route.topology();
        let own = Dedicated::open(self.route.clone(), self.limits, topology).await?;
        Ok(Arc::new(own))
    }

    fn topology(&self) -> Topology {
        self.route.topology()
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
        self.route.shutdown();
    }
}
