//! One connection of our own as the rest of the drivers see it.

use std::sync::Arc;

use async_trait::async_trait;
use smallvec::{SmallVec, smallvec};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::connection::{Connection, Pushes};
use super::decoder::Limits;
use super::exchanges::Confirm;
use super::wire::{Source, Wire};
use crate::backend::Capabilities;
use crate::command::Command;
use crate::driver::activity::Activity;
use crate::driver::hello::{Hello, Role};
use crate::driver::link::{CommandLink, Identity, Link, outage};
use crate::error::{CallError, Fault, FaultKind, ServerError};
use crate::value::Value;

/// One connection. Its socket is closed when it is dropped, or by `close`.
pub(in crate::driver) struct NativeLink {
    connection: Arc<Connection>,
    closed: CancellationToken,
    capabilities: Capabilities,
    role: Role,
    identity: Option<Identity>,
    _tasks: SmallVec<[AbortOnDropHandle<()>; 2]>,
}

impl NativeLink {
    /// A connection over a stream that is connected.
    pub(super) fn start(source: Source, wire: Box<dyn Wire>, pushes: Box<dyn Pushes>) -> Self {
        let (connection, task) = Connection::new(source, wire, Limits::default(), pushes);
        let closed = CancellationToken::new();
        let ended = closed.clone();
        let task = tokio::spawn(async move {
            let _ended = ended.clone().drop_guard();
            tokio::select! {
                biased;
                () = ended.cancelled() => {}
                () = task => {}
            }
        });
        Self {
            connection,
            closed,
            capabilities: Capabilities::UNKNOWN,
            role: Role::Unknown,
            identity: None,
            _tasks: smallvec![AbortOnDropHandle::new(task)],
        }
    }

    /// Takes over what the server says of itself.
    pub(super) fn is(&mut self, hello: &Hello) {
        self.capabilities = hello.capabilities;
        self.role = hello.role;
        self.identity = hello.id.map(Identity::new);
    }

    /// Sends one command. The caller bounds the wait.
    pub(in crate::driver) async fn send(&self, command: &Command) -> Result<Value, CallError> {
        self.connection.call(command, command.deadline_at()).await
    }

    /// Sends several commands back to back. The caller bounds the wait.
    pub(super) async fn send_all(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        self.connection.call_all(commands, None).await
    }

    /// Sends commands that are answered by pushed frames. The caller bounds the wait.
    pub(super) async fn send_confirmed(
        &self,
        commands: &[Command],
        confirms: Vec<Confirm>,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let confirms = Some(confirms.into_boxed_slice());
        self.connection
            .call_confirmed(commands, confirms, None)
            .await
    }
}

#[async_trait]
impl Link for NativeLink {
    async fn closed(&self) {
        self.closed.cancelled().await;
    }

    async fn ping(&self) -> Result<Option<ServerError>, Fault> {
        match self.send(&Command::new("PING")).await {
            Ok(_) => Ok(None),
            // An error is an answer too: the server lives.
            Err(CallError::Replied(error)) => Ok(outage(error)),
            Err(CallError::NotSent(fault) | CallError::Maybe(fault)) => Err(fault),
        }
    }

    fn activity(&self) -> &Activity {
        self.connection.activity()
    }

    fn close(&self) {
        // At once: who comes before the task has ended must not hand over what nobody sends.
        let fault = Fault::new(FaultKind::Disconnected, "the connection was closed");
        self.connection.close(&fault);
        self.closed.cancel();
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn identity(&self) -> Option<Identity> {
        self.identity
    }

    async fn holds_back(&self, other: Identity) -> bool {
        let answer = self.send(&other.question()).await.ok();
        let answer = answer.and_then(|answer| answer.to::<String>().ok());
        answer.is_some_and(|answer| other.is_held_back(&answer))
    }
}

impl CommandLink for NativeLink {
    async fn exchange(&self, command: &Command, deadline: Instant) -> Result<Value, CallError> {
        self.connection.call(command, Some(deadline)).await
    }

    async fn exchange_all(
        &self,
        commands: &[Command],
        deadline: Instant,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        self.connection.call_all(commands, Some(deadline)).await
    }

    async fn exchange_alone(
        &self,
        commands: &[Command],
        deadline: Instant,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        self.connection.call_all(commands, Some(deadline)).await
    }

    /// Refuses what has another number of replies than one.
    fn check_alone(command: &Command) -> Result<(), CallError> {
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

    fn role(&self) -> Role {
        self.role
    }

    fn closer(&self) -> CancellationToken {
        self.closed.clone()
    }

    fn keep(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self._tasks.push(AbortOnDropHandle::new(tokio::spawn(task)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::super::connection::NoPushes;
    use super::*;

    /// A caller may hold the link, and the task that reads may have to wait for its turn.
    #[tokio::test]
    async fn a_server_is_told_at_once_that_a_link_was_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (read, write) = TcpStream::connect(address).await.unwrap().into_split();
        let (mut server, _) = listener.accept().await.unwrap();
        let link = NativeLink::start(Box::new(read), Box::new(write), Box::new(NoPushes));
        link.close();
        let end = timeout(Duration::from_secs(60), server.read_u8()).await;
        assert!(end.expect("told").is_err(), "nothing was sent");
        drop(link);
    }
}
