//! One connection of the `redis` crate.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ::redis::aio::MultiplexedConnection;
use async_trait::async_trait;
use smallvec::{SmallVec, smallvec};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::convert::{to_call_error, to_cmd, to_pipeline, to_reply};
use crate::backend::Capabilities;
use crate::command::Command;
use crate::driver::hello::{Hello, Role};
use crate::driver::link::{CommandLink, Link};
use crate::error::{CallError, Fault, FaultKind};
use crate::value::Value;

/// One connection. Its socket is closed when the last who holds it lets go, or by `close`.
pub(super) struct RedisLink {
    connection: MultiplexedConnection,
    closed: CancellationToken,
    read: Arc<AtomicU64>,
    is_closed: Arc<AtomicBool>,
    capabilities: Capabilities,
    role: Role,
    large: Semaphore,
    _tasks: SmallVec<[AbortOnDropHandle<()>; 2]>,
}

impl RedisLink {
    /// A connection that `driver` runs, and that has read the bytes that `read` counts.
    pub(super) fn new(
        connection: MultiplexedConnection,
        driver: impl Future<Output = ()> + Send + 'static,
        read: Arc<AtomicU64>,
    ) -> Self {
        let closed = CancellationToken::new();
        let is_closed = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(drive(driver, closed.clone(), Arc::clone(&is_closed)));
        Self {
            connection,
            closed,
            read,
            is_closed,
            capabilities: Capabilities::UNKNOWN,
            role: Role::Unknown,
            large: Semaphore::new(LARGE_BLOCKS as usize),
            _tasks: smallvec![AbortOnDropHandle::new(task)],
        }
    }

    /// Takes over what the server says of itself.
    pub(super) fn is(&mut self, hello: &Hello) {
        self.capabilities = hello.capabilities;
        self.role = hello.role;
    }

    /// Sends one command. The caller bounds the wait.
    pub(super) async fn send(&self, command: &Command) -> Result<Value, CallError> {
        self.check_open()?;
        let _room = self
            .room_for(command.byte_len(), command.deadline_at())
            .await?;
        let cmd = to_cmd(command);
        let reply = self.connection.clone().send_packed_command(&cmd).await;
        reply.map_err(to_call_error).and_then(to_reply)
    }

    /// Sends several commands back to back. The caller bounds the wait.
    pub(super) async fn send_all(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        self.check_open()?;
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = commands.iter().map(Command::byte_len).sum();
        let deadline = commands.iter().filter_map(Command::deadline_at).max();
        let _room = self.room_for(bytes, deadline).await?;
        let pipeline = to_pipeline(commands);
        let replies = self
            .connection
            .clone()
            .send_packed_commands(&pipeline, 0, commands.len())
            .await;
        let replies: Vec<_> = replies
            .map_err(to_call_error)?
            .into_iter()
            .map(to_reply)
            .collect();
        if replies.len() != commands.len() {
            return Err(Fault::new(
                FaultKind::Protocol,
                "the server sent another number of replies than there were commands",
            )
            .maybe());
        }
        Ok(replies)
    }

    /// Large requests wait here for each other: packing all of them at once, for a server that
    /// reads slowly or not at all, would only fill the memory.
    async fn room_for(
        &self,
        bytes: usize,
        deadline: Option<Instant>,
    ) -> Result<Option<SemaphorePermit<'_>>, CallError> {
        if bytes < LARGE {
            return Ok(None);
        }
        let blocks = u32::try_from(bytes / LARGE)
            .unwrap_or(u32::MAX)
            .min(LARGE_BLOCKS);
        let room = self.large.acquire_many(blocks).await.map_err(|_| {
            Fault::new(FaultKind::Disconnected, "the connection is closed").not_sent()
        })?;
        // Those who waited in vain must not pack now, one after the other, in each other's way.
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            let message = "earlier large requests were not taken by the server in time";
            return Err(Fault::new(FaultKind::Timeout, message).not_sent());
        }
        Ok(Some(room))
    }

    /// What is known to be closed before a command is handed over did not carry it.
    fn check_open(&self) -> Result<(), CallError> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Fault::new(FaultKind::Disconnected, "the connection is closed").not_sent());
        }
        Ok(())
    }
}

#[async_trait]
impl Link for RedisLink {
    async fn closed(&self) {
        self.closed.cancelled().await;
    }

    async fn ping(&self) -> Result<(), Fault> {
        match self.send(&Command::new("PING")).await {
            // An error is an answer too: the server lives.
            Ok(_) | Err(CallError::Replied(_)) => Ok(()),
            Err(CallError::NotSent(fault) | CallError::Maybe(fault)) => Err(fault),
        }
    }

    fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    fn close(&self) {
        // At once: who comes before the task has ended must not hand over what nobody sends.
        self.is_closed.store(true, Ordering::Release);
        self.closed.cancel();
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
}

impl CommandLink for RedisLink {
    async fn exchange(&self, command: &Command, _: Instant) -> Result<Value, CallError> {
        self.send(command).await
    }

    async fn exchange_all(
        &self,
        commands: &[Command],
        _: Instant,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        self.send_all(commands).await
    }

    async fn exchange_alone(
        &self,
        commands: &[Command],
        _: Instant,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        self.send_all(commands).await
    }

    /// Refuses what the `redis` crate cannot count the replies of.
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

/// From this size on a request is large.
const LARGE: usize = 64 * 1024;

/// How many blocks of that size may be packed at once on a connection: 16 MiB.
const LARGE_BLOCKS: u32 = 256;

/// Runs a connection until it breaks or is closed from here.
async fn drive(
    driver: impl Future<Output = ()>,
    closed: CancellationToken,
    is_closed: Arc<AtomicBool>,
) {
    // Also when the future panics, nobody must wait on this connection. A flag beside the token,
    // because every call looks at it, and the token's look takes a lock.
    struct OnEnd(Arc<AtomicBool>);
    impl Drop for OnEnd {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let _on_end = (OnEnd(is_closed), closed.clone().drop_guard());
    tokio::select! {
        () = driver => {}
        () = closed.cancelled() => {}
    }
}
