//! What a driver brings: connections to a server, and how they are made.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::activity::Activity;
use super::hello::Role;
use crate::backend::Capabilities;
use crate::command::Command;
use crate::config::{Address, ClientConfig, ReconnectConfig};
use crate::error::{CallError, Fault, FaultKind, ServerError};
use crate::value::Value;

/// Makes connections.
#[async_trait]
pub(super) trait Connector: Clone + Send + Sync + 'static {
    type Link: Link;

    /// Makes one connection, ready for commands.
    async fn connect(&self) -> Result<Self::Link, Fault>;

    /// Where it connects to, for messages.
    fn target(&self) -> String;
}

/// Makes connections to any server of a configuration.
pub(super) trait ServerConnector: Connector<Link: CommandLink> {
    /// The same for another server.
    fn at(&self, address: &Address) -> Self;
}

/// One connection.
#[async_trait]
pub(super) trait Link: Send + Sync + 'static {
    /// Waits until the connection is known to be broken.
    async fn closed(&self);

    /// Asks the server whether it serves: `None` when it does, or the error that it answers
    /// everybody with (`LOADING`, `BUSY`).
    async fn ping(&self) -> Result<Option<ServerError>, Fault>;

    /// When the connection gave signs of life: one on which bytes arrive is alive, however late the
    /// answer to a probe is.
    fn activity(&self) -> &Activity;

    /// Ends the connection, also for calls that still hold it: they need not wait for replies that
    /// cannot come.
    fn close(&self);

    /// What the server at the other end can do.
    fn capabilities(&self) -> Capabilities;
}

/// A connection that carries callers' commands. Every exchange ends by its `deadline`, by itself: with
/// [`FaultKind::Timeout`] a few milliseconds later at most.
pub(super) trait CommandLink: Link {
    /// Sends one command.
    fn exchange(
        &self,
        command: &Command,
        deadline: Instant,
    ) -> impl Future<Output = Result<Value, CallError>> + Send;

    /// Sends several commands back to back.
    fn exchange_all(
        &self,
        commands: &[Command],
        deadline: Instant,
    ) -> impl Future<Output = Result<Vec<Result<Value, CallError>>, CallError>> + Send;

    /// The same on a connection that has one user, who may be in the middle of a transaction.
    fn exchange_alone(
        &self,
        commands: &[Command],
        deadline: Instant,
    ) -> impl Future<Output = Result<Vec<Result<Value, CallError>>, CallError>> + Send;

    /// Refuses what the driver cannot carry even then.
    fn check_alone(command: &Command) -> Result<(), CallError>;

    /// What the server said that it is.
    fn role(&self) -> Role;

    /// Ends the connection when it is cancelled, and is cancelled when the connection has ended.
    fn closer(&self) -> CancellationToken;

    /// Runs a task for as long as the connection is kept.
    fn keep(&mut self, task: impl Future<Output = ()> + Send + 'static);
}

/// When to give up on what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub(super) connect_timeout: Duration,
    pub(super) probe_interval: Duration,
    pub(super) probe_timeout: Duration,
    /// How long the server may owe replies without a sign of life before its breaker opens.
    pub(super) stall_timeout: Duration,
    pub(super) reconnect: ReconnectConfig,
}

impl Timing {
    pub(super) fn of(config: &ClientConfig) -> Self {
        Self {
            connect_timeout: config.connect_timeout,
            probe_interval: config.probe_interval,
            probe_timeout: (config.command_timeout / 2).clamp(PROBE_LEAST, PROBE_MOST),
            stall_timeout: stall_timeout(config),
            reconnect: config.reconnect,
        }
    }
}

/// Half of the command timeout unless the configuration says otherwise.
fn stall_timeout(config: &ClientConfig) -> Duration {
    let configured = config.breaker.stall_timeout;
    configured.unwrap_or_else(|| (config.command_timeout / 2).max(PROBE_LEAST))
}

/// Between these bounds a probe waits half a command's time for an answer.
const PROBE_LEAST: Duration = Duration::from_millis(20);
const PROBE_MOST: Duration = Duration::from_millis(500);

/// How long calls and connections may take.
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

    /// When a command's call ends at the latest.
    pub(super) fn deadline(&self, command: &Command) -> Instant {
        command
            .deadline_at()
            .unwrap_or_else(|| Instant::now() + self.command)
    }

    /// When the last of several commands' calls ends; `None` without commands.
    pub(super) fn latest(&self, commands: &[Command]) -> Option<Instant> {
        commands.iter().map(|command| self.deadline(command)).max()
    }

    /// When a subscription has to stand, with a connection made for it.
    pub(super) fn subscribed(&self) -> Instant {
        Instant::now() + self.connect + self.command
    }
}

/// Whether a call ended because its deadline had passed.
pub(super) fn is_timeout<T>(result: &Result<T, CallError>) -> bool {
    let fault = result.as_ref().err().and_then(CallError::fault);
    fault.is_some_and(|fault| fault.kind() == FaultKind::Timeout)
}

/// A command was sent, and its deadline passed.
#[cold]
pub(super) fn no_reply() -> CallError {
    Fault::new(FaultKind::Timeout, "no reply within the deadline").maybe()
}
