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
    /// everybody with (see [`outage`]).
    async fn ping(&self) -> Result<Option<ServerError>, Fault>;

    /// When the connection gave signs of life: one on which bytes arrive is alive, however late the
    /// answer to a probe is.
    fn activity(&self) -> &Activity;

    /// Ends the connection, also for calls that still hold it: they need not wait for replies that
    /// cannot come.
    fn close(&self);

    /// What the server at the other end can do.
    fn capabilities(&self) -> Capabilities;

    /// By what the server knows this connection, when it has said so.
    fn identity(&self) -> Option<Identity> {
        None
    }

    /// Whether the server has read what was sent on another of its connections, and holds it back
    /// (`CLIENT PAUSE`, a flush, a command that waits): then it answers nothing there, and serves here.
    async fn holds_back(&self, _other: Identity) -> bool {
        false
    }
}

/// By what a server knows a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    id: i64,
    since: Instant,
}

impl Identity {
    pub(super) fn new(id: i64) -> Self {
        Self {
            id,
            since: Instant::now(),
        }
    }

    /// Asks what the server does with the connection.
    pub(super) fn question(self) -> Command {
        Command::new("CLIENT").arg("LIST").arg("ID").arg(self.id)
    }

    /// Whether the answer says that the server holds the connection's commands back. Behind one address may be another
    /// server by now, which has given the number to another client: that one has another age.
    pub(super) fn is_held_back(self, answer: &str) -> bool {
        let field = |name: &str| {
            let mut fields = answer.split_ascii_whitespace();
            fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
        };
        let age = field("age").and_then(|age| age.parse::<u64>().ok());
        let own_age = self.since.elapsed().as_secs();
        let tolerance = ROUNDING + own_age / DRIFT;
        let is_same = age.is_some_and(|age| age.abs_diff(own_age) <= tolerance);
        is_same && field("flags").is_some_and(|flags| flags.contains('b'))
    }
}

/// By how many seconds a server and this process may differ about a connection's age because both round.
const ROUNDING: u64 = 2;

/// One second in so many is what their clocks may differ by besides: the server reckons by the time of day, which is set
/// now and then.
const DRIFT: u64 = 1_000;

/// What an error in reply to `PING` says of the server: the error itself when the server serves nobody. Any other is
/// an answer like `PONG`: where no snapshot can be written (`MISCONF`), and to a user without the right to `PING`
/// (`NOPERM`), reads are served.
pub(super) fn outage(error: ServerError) -> Option<ServerError> {
    matches!(error.code(), "LOADING" | "BUSY" | "MASTERDOWN").then_some(error)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_held_back_when_the_server_has_blocked_it_and_not_another_of_its_number()
     {
        let identity = Identity::new(7);
        tokio::time::advance(Duration::from_secs(60)).await;
        let line =
            |age: u64, flags: &str| format!("id=7 addr=a:1 age={age} idle=0 flags={flags} db=0\n");
        assert!(identity.is_held_back(&line(61, "b")));
        assert!(identity.is_held_back(&line(60, "xb")));
        assert!(
            !identity.is_held_back(&line(60, "N")),
            "it waits for nothing"
        );
        assert!(!identity.is_held_back(&line(9, "b")), "another client's");
        assert!(!identity.is_held_back(""), "the server does not know it");

        let days = Duration::from_secs(30 * 86_400);
        tokio::time::advance(days).await;
        let age = days.as_secs() + 60;
        assert!(
            identity.is_held_back(&line(age - 600, "b")),
            "clocks differ after a month"
        );
        assert!(!identity.is_held_back(&line(age - 6_000, "b")));
    }
}
