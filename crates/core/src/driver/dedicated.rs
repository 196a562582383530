//! A connection of one's own: for blocking commands, `WATCH`, `WAIT`.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::link::{CommandLink, Connector, Limits, Link};
use crate::backend::{Backend, Capabilities, ConnectionState, Topology};
use crate::command::Command;
use crate::error::{CallError, Fault, FaultKind};
use crate::push::{Interest, PushStream};
use crate::value::Value;

/// One connection for one user. When it breaks it stays broken: what was set on it is gone.
pub(super) struct Dedicated<C: Connector> {
    link: Mutex<Option<Arc<C::Link>>>,
    connector: C,
    limits: Limits,
    topology: Topology,
    state: watch::Sender<ConnectionState>,
}

impl<C: Connector<Link: CommandLink>> Dedicated<C> {
    pub(super) async fn open(
        connector: C,
        limits: Limits,
        topology: Topology,
    ) -> Result<Self, CallError> {
        let state = watch::Sender::new(ConnectionState::Connecting);
        Self::open_as(connector, limits, topology, state).await
    }

    /// Opens one whose state is told by `state`.
    pub(super) async fn open_as(
        connector: C,
        limits: Limits,
        topology: Topology,
        state: watch::Sender<ConnectionState>,
    ) -> Result<Self, CallError> {
        let connected = timeout(limits.connect, connector.connect())
            .await
            .unwrap_or_else(|_| {
                let message = "no dedicated connection within `connect_timeout`";
                Err(Fault::new(FaultKind::Timeout, message))
            });
        let mut link = connected.map_err(Fault::not_sent)?;
        state.send_replace(ConnectionState::Connected(1));
        let (ended, told) = (link.closer(), state.clone());
        link.keep(async move {
            ended.cancelled().await;
            told.send_replace(ConnectionState::Closed);
        });
        Ok(Self {
            link: Mutex::new(Some(Arc::new(link))),
            connector,
            limits,
            topology,
            state,
        })
    }

    fn link(&self) -> Result<Arc<C::Link>, CallError> {
        self.link.lock().clone().ok_or_else(|| {
            let message = "the dedicated connection was closed or given up after a call without a \
                           reply; open another";
            Fault::new(FaultKind::Disconnected, message).not_sent()
        })
    }

    async fn run(
        &self,
        commands: &[Command],
        deadline: Instant,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        commands.iter().try_for_each(C::Link::check_alone)?;
        let link = self.link()?;
        let unanswered = Unanswered(Some(self));
        let mut replies = unanswered.settle(link.exchange_alone(commands, deadline).await)?;
        for (command, reply) in commands.iter().zip(&mut replies) {
            if let Some(error) = demoted(command, reply) {
                *reply = Err(error);
                // The server closes it.
                self.give_up();
            }
        }
        Ok(replies)
    }
}

impl<C: Connector> Dedicated<C> {
    /// After a call without a reply nobody knows the connection's state (a transaction half
    /// queued, a blocking pop still waiting to take an item that nobody would see): it ends.
    fn give_up(&self) {
        if let Some(link) = self.link.lock().take() {
            // Also for a call on a clone: nothing may be taken from a list that nobody sees.
            link.close();
        }
        self.state.send_replace(ConnectionState::Closed);
    }
}

/// When a master that becomes a replica has ended the wait of `command`: that another connection is needed.
fn demoted(command: &Command, reply: &Result<Value, CallError>) -> Option<CallError> {
    let error = reply.as_ref().err()?.server_error()?;
    if error.code() != "UNBLOCKED"
        || !error.message().contains("instance state changed")
        || command.runs_script()
    {
        return None;
    }
    let message = "the server of this dedicated connection is no master any more; open another";
    let fault = Fault::new(FaultKind::Disconnected, message).with_source(error.clone());
    // What is to be confirmed was written before.
    let is_confirmation = ["WAIT", "WAITAOF"]
        .iter()
        .any(|name| command.name().eq_ignore_ascii_case(name));
    Some(match is_confirmation {
        true => fault.maybe(),
        false => fault.not_sent(),
    })
}

/// Ends the connection when a call on it is dropped before its reply came.
struct Unanswered<'d, C: Connector>(Option<&'d Dedicated<C>>);

impl<C: Connector> Unanswered<'_, C> {
    fn settle<T>(mut self, result: Result<T, CallError>) -> Result<T, CallError> {
        if !matches!(result, Err(CallError::Maybe(_))) {
            self.0 = None;
        }
        result
    }
}

impl<C: Connector> Drop for Unanswered<'_, C> {
    fn drop(&mut self) {
        if let Some(dedicated) = self.0 {
            dedicated.give_up();
        }
    }
}

/// The refusal of subscriptions on a connection that is one user's.
pub(super) fn takes_no_subscriptions() -> CallError {
    let message = "a dedicated connection takes no subscriptions; subscribe on the shared client";
    Fault::new(FaultKind::Unsupported, message).not_sent()
}

#[async_trait]
impl<C: Connector<Link: CommandLink>> Backend for Dedicated<C> {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        let commands = std::slice::from_ref(command);
        let replies = self.run(commands, self.limits.deadline(command)).await?;
        replies
            .into_iter()
            .next()
            .unwrap_or_else(|| Err(Fault::new(FaultKind::Protocol, "the reply is missing").maybe()))
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        match self.limits.latest(commands) {
            Some(deadline) => self.run(commands, deadline).await,
            None => Ok(Vec::new()),
        }
    }

    async fn subscribe(&self, _: Interest) -> Result<PushStream, CallError> {
        Err(takes_no_subscriptions())
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        let connector = self.connector.clone();
        let another = Self::open(connector, self.limits, self.topology).await?;
        Ok(Arc::new(another))
    }

    fn topology(&self) -> Topology {
        self.topology
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ServerError;

    #[test]
    fn a_pop_whose_wait_a_failover_ends_took_nothing_and_a_confirmation_may_stand() {
        let unblocked = || {
            let text = "force unblock from blocking operation, instance state changed";
            Err(CallError::Replied(ServerError::new("UNBLOCKED", text)))
        };
        let of = |name: &str| demoted(&Command::new(name), &unblocked());
        for pop in ["BLPOP", "XREADGROUP"] {
            assert!(matches!(of(pop), Some(CallError::NotSent(_))), "{pop}");
        }
        for confirmation in ["WAIT", "waitaof"] {
            let told = of(confirmation);
            assert!(matches!(told, Some(CallError::Maybe(_))), "{confirmation}");
        }
        assert!(of("EVALSHA").is_none(), "a script may say so itself");
        let other = Err(CallError::Replied(ServerError::new(
            "UNBLOCKED",
            "by CLIENT UNBLOCK",
        )));
        assert!(demoted(&Command::new("BLPOP"), &other).is_none());
    }
}
