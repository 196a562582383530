//! [`Lane`]: an analysis's own connection to a server, so that no caller waits behind its commands.

use std::sync::Arc;
use std::time::Duration;

use redkit_core::coordination::Backoff;
use redkit_core::{
    CallError, Client, Command, ConnectionState, Error as CoreError, FromValue, ServerNode, Value,
};
use tokio::time::{Instant, sleep};

use super::PATIENCE;

/// How often commands are tried.
const ATTEMPTS: u32 = 4;

/// A connection to one server that carries nothing but an analysis. It is made when it is first needed, made
/// anew when it breaks, and closed when this is dropped.
pub(super) struct Lane<'c> {
    client: &'c Client,
    server: Arc<str>,
    own: Option<Client>,
}

impl<'c> Lane<'c> {
    pub(super) fn new(client: &'c Client, server: &ServerNode) -> Self {
        Self {
            client,
            server: Arc::clone(&server.name),
            own: None,
        }
    }

    /// Reads something.
    pub(super) async fn ask<T: FromValue>(&mut self, command: Command) -> Result<T, CoreError> {
        let name = command.name().to_owned();
        read(&name, self.ask_all(vec![command]).await?.pop())
    }

    /// Reads several things at once; a few times when the server does not answer, or not now.
    pub(super) async fn ask_all(
        &mut self,
        commands: Vec<Command>,
    ) -> Result<Vec<Result<Value, CallError>>, CoreError> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        for _ in 1..ATTEMPTS {
            let outcome = self.attempt(&commands).await;
            let is_over = match &outcome {
                Ok(replies) => !replies.iter().any(is_for_now),
                Err(error) => !error.is_retryable(),
            };
            if is_over {
                return outcome;
            }
            sleep(backoff.next_pause()).await;
        }
        self.attempt(&commands).await
    }

    async fn attempt(
        &mut self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CoreError> {
        // A connection of its own outlives the client's; an analysis does not.
        if *self.client.state().borrow() == ConnectionState::Closed {
            self.own = None;
        }
        let own = match self.own.take() {
            Some(own) => own,
            None => self.client.dedicated_to(&self.server).await?,
        };
        let deadline = Instant::now() + PATIENCE;
        let commands = commands.iter().cloned();
        let commands = commands.map(|command| command.deadline(deadline)).collect();
        let replies = own.pipeline(commands).await?;
        // A connection that has failed is not kept.
        if replies.iter().all(is_answered) {
            self.own = Some(own);
        }
        Ok(replies)
    }
}

/// The value of a reply, or the server's error.
pub(super) fn read<T: FromValue>(
    command: &str,
    reply: Option<Result<Value, CallError>>,
) -> Result<T, CoreError> {
    let command = || command.into();
    let value = reply.unwrap_or(Ok(Value::Nil));
    let value = value.map_err(|error| CoreError::Call {
        command: command(),
        error,
    })?;
    value.to().map_err(|error| CoreError::Reply {
        command: command(),
        error,
    })
}

/// Whether a refusal says that the key is at another server, or on its way to one.
pub(super) fn is_elsewhere(error: &CallError) -> bool {
    let refusal = error.server_error();
    refusal.is_some_and(|error| matches!(error.code(), "MOVED" | "ASK" | "TRYAGAIN"))
}

/// Whether a server answered, be it with a refusal.
fn is_answered(reply: &Result<Value, CallError>) -> bool {
    matches!(reply, Ok(_) | Err(CallError::Replied(_)))
}

/// Whether the same command may be answered later.
fn is_for_now(reply: &Result<Value, CallError>) -> bool {
    let Err(error) = reply else { return false };
    let is_retryable = match error {
        CallError::Replied(refusal) => refusal.is_server_state(),
        CallError::NotSent(fault) | CallError::Maybe(fault) => fault.kind().is_transient(),
        _ => false,
    };
    is_retryable && !is_elsewhere(error)
}
