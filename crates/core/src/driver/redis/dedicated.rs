//! A connection of one's own: for blocking commands, `WATCH`, `WAIT`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};

use super::link::RedisLink;
use crate::backend::{Backend, Capabilities, ConnectionState, Topology};
use crate::command::Command;
use crate::config::ClientConfig;
use crate::driver::supervisor::{Connector, Link};
use crate::error::{CallError, Fault, FaultKind};
use crate::push::{Interest, PushStream};
use crate::value::Value;

/// Refuses what the `redis` crate cannot count the replies of.
fn check_countable(command: &Command) -> Result<(), CallError> {
    let name = command.name();
    let any_of = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known));
    let switches_replies = any_of(&["CLIENT"])
        && command
            .get(0)
            .is_some_and(|sub| sub.eq_ignore_ascii_case(b"REPLY"));
    let uncounted = [
        "MONITOR",
        "SUBSCRIBE",
        "PSUBSCRIBE",
        "SSUBSCRIBE",
        "UNSUBSCRIBE",
        "PUNSUBSCRIBE",
        "SUNSUBSCRIBE",
    ];
    if !switches_replies && !any_of(&uncounted) {
        return Ok(());
    }
    let message = format!(
        "{name} is not carried by this driver, because its replies cannot be told apart; use \
         `subscribe` for subscriptions"
    );
    Err(Fault::new(FaultKind::Unsupported, message).not_sent())
}

/// How long its calls and connections may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) command: Duration,
    pub(super) connect: Duration,
}

impl Limits {
    pub(super) fn of(config: &ClientConfig) -> Self {
        Self {
            command: config.command_timeout,
            connect: config.connect_timeout,
        }
    }
}

/// One connection for one user. When it breaks it stays broken: what was set on it is gone.
pub(super) struct Dedicated<C> {
    link: Mutex<Option<Arc<RedisLink>>>,
    connector: C,
    limits: Limits,
    state: watch::Sender<ConnectionState>,
}

impl<C: Connector<Link = RedisLink> + Clone> Dedicated<C> {
    pub(super) async fn open(connector: C, limits: Limits) -> Result<Self, CallError> {
        let connected = timeout(limits.connect, connector.connect())
            .await
            .unwrap_or_else(|_| {
                let message = "no dedicated connection within `connect_timeout`";
                Err(Fault::new(FaultKind::Timeout, message))
            });
        let link = connected.map_err(Fault::not_sent)?;
        Ok(Self {
            link: Mutex::new(Some(Arc::new(link))),
            connector,
            limits,
            state: watch::Sender::new(ConnectionState::Connected(1)),
        })
    }

    fn link(&self) -> Result<Arc<RedisLink>, CallError> {
        self.link.lock().clone().ok_or_else(|| {
            let message = "the dedicated connection was closed or given up after a call without a \
                           reply; open another";
            Fault::new(FaultKind::Disconnected, message).not_sent()
        })
    }

    fn deadline(&self, command: &Command) -> Instant {
        command
            .deadline_at()
            .unwrap_or_else(|| Instant::now() + self.limits.command)
    }
}

trait GiveUp: Sync {
    /// After a call without a reply nobody knows the connection's state (a transaction half
    /// queued, a blocking pop still waiting to take an item that nobody would see): it ends.
    fn give_up(&self);
}

impl<C: Sync> GiveUp for Dedicated<C> {
    fn give_up(&self) {
        if let Some(link) = self.link.lock().take() {
            // Also for a call on a clone: nothing may be taken from a list that nobody sees.
            link.close();
        }
        self.state.send_replace(ConnectionState::Closed);
    }
}

/// Ends the connection when a call on it is dropped before its reply came.
struct Unanswered<'d>(Option<&'d dyn GiveUp>);

impl Unanswered<'_> {
    fn settle<T>(mut self, outcome: Result<Result<T, CallError>, Elapsed>) -> Result<T, CallError> {
        let result = outcome.unwrap_or_else(|_| {
            Err(Fault::new(FaultKind::Timeout, "no reply within the deadline").maybe())
        });
        if !matches!(result, Err(CallError::Maybe(_))) {
            self.0 = None;
        }
        result
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(dedicated) = self.0 {
            dedicated.give_up();
        }
    }
}

#[async_trait]
impl<C: Connector<Link = RedisLink> + Clone> Backend for Dedicated<C> {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        check_countable(command)?;
        let link = self.link()?;
        let unanswered = Unanswered(Some(self));
        unanswered.settle(timeout_at(self.deadline(command), link.send(command)).await)
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        commands.iter().try_for_each(check_countable)?;
        let Some(deadline) = commands.iter().map(|command| self.deadline(command)).max() else {
            return Ok(Vec::new());
        };
        let link = self.link()?;
        let unanswered = Unanswered(Some(self));
        unanswered.settle(timeout_at(deadline, link.send_all(commands)).await)
    }

    async fn subscribe(&self, _: Interest) -> Result<PushStream, CallError> {
        let message =
            "a dedicated connection takes no subscriptions; subscribe on the shared client";
        Err(Fault::new(FaultKind::Unsupported, message).not_sent())
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        Ok(Arc::new(
            Self::open(self.connector.clone(), self.limits).await?,
        ))
    }

    fn topology(&self) -> Topology {
        Topology::Standalone
    }

    fn capabilities(&self) -> Capabilities {
        self.link()
            .map_or(Capabilities::UNKNOWN, |link| link.capabilities())
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    async fn shutdown(&self) {
        self.give_up();
    }
}
