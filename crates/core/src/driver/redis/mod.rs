//! The driver on the `redis` crate: a multiplexed RESP3 connection under a supervisor for each
//! server, and one more for subscriptions when there are any.

mod cluster;
mod convert;
mod dedicated;
mod link;
mod sentinel;
mod subscriptions;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use self::cluster::ClusterBackend;
use self::dedicated::{Dedicated, Limits};
use self::link::{RedisConnector, RedisLink};
use self::sentinel::SentinelConnector;
use crate::backend::{Backend, Capabilities, ConnectionState, Topology};
use crate::command::Command;
use crate::config::{ClientConfig, Endpoint};
use crate::driver::subscriptions::{PushConnector, Subscriptions};
use crate::driver::supervisor::{Connector, Supervisor, Timing};
use crate::error::{CallError, Error, Fault, FaultKind};
use crate::push::{Interest, PushStream};
use crate::value::Value;

/// Connects to where `config` says.
pub(crate) async fn connect(config: &ClientConfig) -> Result<Arc<dyn Backend>, Error> {
    let base = RedisConnector::new(config)?;
    match &config.endpoint {
        Endpoint::Cluster(seeds) => Ok(Arc::new(
            ClusterBackend::connect(config, base, seeds).await?,
        )),
        Endpoint::Sentinel { sentinels, master } => {
            let ask = base.for_sentinel(config);
            let sentinels = sentinels.iter().map(|address| ask.at(address)).collect();
            let connector = SentinelConnector::new(sentinels, master, base);
            Ok(Arc::new(
                RedisBackend::start(connector, config, Topology::Sentinel).await?,
            ))
        }
        _ => Ok(Arc::new(
            RedisBackend::start(base, config, Topology::Standalone).await?,
        )),
    }
}

/// A backend on one server: the one configured, or the one that sentinels name.
struct RedisBackend<C> {
    supervisor: Supervisor<RedisLink>,
    subscriptions: Subscriptions,
    connector: C,
    limits: Limits,
    topology: Topology,
}

impl<C> RedisBackend<C>
where
    C: Connector<Link = RedisLink> + PushConnector<Link = RedisLink> + Clone,
{
    /// Connects, or prepares to when the configuration is lazy.
    async fn start(connector: C, config: &ClientConfig, topology: Topology) -> Result<Self, Error> {
        let timing = Timing::of(config);
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
            limits: Limits::of(config),
            topology,
        })
    }

    fn deadline(&self, command: &Command) -> Instant {
        command
            .deadline_at()
            .unwrap_or_else(|| Instant::now() + self.limits.command)
    }

    /// Whether a server that sentinels named as master turns out to be none.
    fn is_demoted(&self, error: &CallError) -> bool {
        self.topology == Topology::Sentinel
            && error
                .server_error()
                .is_some_and(|error| error.code() == "READONLY")
    }

    #[cold]
    fn timed_out(&self) -> CallError {
        self.supervisor.suspect();
        Fault::new(FaultKind::Timeout, "no reply within the deadline").maybe()
    }
}

/// How long to wait before the sentinels are asked again.
const DEMOTED: Duration = Duration::from_millis(20);

#[async_trait]
impl<C> Backend for RedisBackend<C>
where
    C: Connector<Link = RedisLink> + PushConnector<Link = RedisLink> + Clone,
{
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        let deadline = self.deadline(command);
        loop {
            let link = self.supervisor.link(deadline).await?;
            match timeout_at(deadline, link.send(command)).await {
                Ok(Err(error)) if self.is_demoted(&error) && Instant::now() < deadline => {
                    // Nothing was written. The sentinels name another master, or soon will.
                    link.closer().cancel();
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
            Dedicated::open(self.connector.clone(), self.limits).await?,
        ))
    }

    fn topology(&self) -> Topology {
        self.topology
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
