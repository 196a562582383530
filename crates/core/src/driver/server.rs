//! A backend on one server: the one configured, or the one that sentinels name.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::dedicated::Dedicated;
use super::link::{CommandLink, Connector, Limits, Link, ServerConnector, Timing, is_timeout};
use super::sentinel::Route;
use super::supervisor::Supervisor;
use crate::backend::{Backend, Capabilities, ConnectionState, Topology};
use crate::command::Command;
use crate::config::ClientConfig;
use crate::error::{CallError, Error, ServerError};
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
    fn is_demoted<T>(&self, reply: &Result<T, CallError>) -> bool {
        let refusal = reply.as_ref().err().and_then(CallError::server_error);
        self.route.topology() == Topology::Sentinel
            && refusal.is_some_and(|error| error.code() == "READONLY")
    }

    /// Suspects the connection when there was no answer.
    fn heeded<T>(&self, result: Result<T, CallError>) -> Result<T, CallError> {
        if is_timeout(&result) {
            self.supervisor.suspect();
        }
        result
    }
}

/// Whether a command was refused by a server that takes no writes, and has changed nothing.
fn is_untouched<T>(command: &Command, reply: &Result<T, CallError>) -> bool {
    let refusal = reply.as_ref().err().and_then(CallError::server_error);
    refusal.is_some_and(|error| error.code() == "READONLY" && is_certain(command, error))
}

/// Whether an error is the server's own. A script may make up any, also after it has written; but
/// on a server that takes no writes its first one ends it, in the server's words.
pub(super) fn is_certain(command: &Command, error: &ServerError) -> bool {
    let is_own = [
        "You can't write against a read only",
        "You can not run script",
    ];
    command.is_idempotent()
        || !command.runs_script()
        || is_own.iter().any(|words| error.message().contains(words))
}

/// The same for all of a pipeline, or for a transaction that is all of it.
fn are_untouched(commands: &[Command], replies: &[Result<Value, CallError>]) -> bool {
    let mut all = commands.iter().zip(replies);
    if all.all(|(command, reply)| is_untouched(command, reply)) {
        return true;
    }
    let is = |command: &Command, name: &str| command.name().eq_ignore_ascii_case(name);
    let multis = commands.iter().filter(|command| is(command, "MULTI"));
    let is_aborted = |reply: &Result<Value, CallError>| {
        let refusal = reply.as_ref().err().and_then(CallError::server_error);
        refusal.is_some_and(|error| error.code() == "EXECABORT")
    };
    // Before it or after it there must be nothing, which may have been carried out.
    multis.count() == 1
        && commands.first().is_some_and(|command| is(command, "MULTI"))
        && commands.last().is_some_and(|command| is(command, "EXEC"))
        && matches!(replies.first(), Some(Ok(Value::Ok)))
        && replies.last().is_some_and(is_aborted)
}

/// How long to wait before the sentinels are asked again.
const DEMOTED: Duration = Duration::from_millis(20);

#[async_trait]
impl<C: ServerConnector, S: Subscriber> Backend for OneServer<C, S> {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        let deadline = self.limits.deadline(command);
        loop {
            let link = self.supervisor.link(deadline).await?;
            match link.exchange(command, deadline).await {
                reply if self.is_demoted(&reply) => {
                    // The sentinels name another master, or soon will.
                    link.close();
                    if !is_untouched(command, &reply) || Instant::now() + DEMOTED >= deadline {
                        return reply;
                    }
                    sleep(DEMOTED).await;
                }
                reply => return self.heeded(reply),
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
        loop {
            let link = self.supervisor.link(deadline).await?;
            match link.exchange_all(commands, deadline).await {
                Ok(replies) if replies.iter().any(|reply| self.is_demoted(reply)) => {
                    link.close();
                    // What was answered must not be sent twice, and what was not must not overtake.
                    if !are_untouched(commands, &replies) || Instant::now() + DEMOTED >= deadline {
                        return Ok(replies);
                    }
                    sleep(DEMOTED).await;
                }
                replies => return self.heeded(replies),
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ServerError;

    fn refused(code: &str) -> Result<Value, CallError> {
        Err(CallError::Replied(ServerError::new(code, "by the server")))
    }

    #[test]
    fn a_batch_is_sent_again_only_when_nothing_of_it_was_carried_out() {
        let commands = |names: &[&str]| names.iter().map(|n| Command::new(n)).collect::<Vec<_>>();
        let queued = || Ok(Value::status("QUEUED"));
        let transaction = commands(&["MULTI", "INCR", "EXEC"]);
        let aborted = [Ok(Value::Ok), refused("READONLY"), refused("EXECABORT")];
        assert!(are_untouched(&transaction, &aborted));
        assert!(!are_untouched(
            &transaction,
            &[Ok(Value::Ok), queued(), Ok(Value::Array(vec![]))]
        ));
        // A write before the transaction was carried out.
        let mixed = commands(&["SET", "MULTI", "INCR", "EXEC"]);
        let [multi, incr, exec] = aborted;
        assert!(!are_untouched(&mixed, &[Ok(Value::Ok), multi, incr, exec]));
    }
}
