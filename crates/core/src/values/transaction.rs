//! [`Transaction`]: typed commands that are carried out together or not at all.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::expiry::wrong;
use super::key::ToKey;
use super::queue::{Queue, Queued, Replies, queue_commands};
use super::reply::wrong_reply;
use super::same_slot::check_same_slot;
use super::set_options::SetOptions;
use crate::client::Client;
use crate::command::Command;
use crate::error::{CallError, Error, Fault, FaultKind, ServerError};
use crate::value::{FromValue, Value, ValueError};

/// Commands that the server carries out one after the other with nothing in between (`MULTI …
/// EXEC`). It refuses all of them when one is not a command; one that fails for what is *stored*
/// (`INCR` of a text) fails alone, and the others stand: servers do not roll back.
///
/// To make writes depend on what is stored, use [`Client::compare_and_set`] or
/// [`Client::update`], which need no `WATCH`.
///
/// ```
/// # use redkit_core::{Client, ClientConfig};
/// use redkit_core::{SetOptions, Transaction};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), redkit_core::Error> {
/// # let engine = std::sync::Arc::new(redkit_embedded::Embedded::new());
/// # let client = Client::from_backend(engine, &ClientConfig::default())?;
/// let mut transaction = Transaction::new(&client);
/// let paid = transaction.set("order:{7}:state", "paid", SetOptions::new());
/// let count = transaction.increment("order:{7}:payments", 1);
/// let mut replies = transaction.send().await?;
/// assert!(replies.take(paid)? && replies.take(count)? == 1);
/// # Ok(()) }
/// ```
///
/// One round trip, and one more before the first of a client: an empty transaction, because a server
/// that refuses `MULTI` would carry out what comes after it. On a cluster all keys must be in one slot. It is never sent twice when it may
/// have been carried out.
pub struct Transaction(Queue);

impl Transaction {
    /// An empty one.
    pub fn new(client: &Client) -> Self {
        Self(Queue::new(client))
    }

    queue_commands!();

    /// Sends the commands.
    ///
    /// # Errors
    /// Before anything is sent: the error of the first command that cannot be sent, and
    /// [`Error::Call`] for keys of different slots of a cluster. [`Error::Aborted`] when the server
    /// refused one, with that one; nothing was carried out then. [`Error::Call`] when there is no
    /// answer, when the user has no right to transactions, and, before anything is sent, for
    /// `MULTI`, `EXEC`, `DISCARD` and `WATCH` among the commands. [`Error::WatchedChanged`] on a
    /// connection that watches keys. [`Error::Unprotected`] when the server went on without a
    /// transaction.
    pub async fn send(self) -> Result<Replies, Error> {
        if self.is_empty() {
            return Ok(self.0.replies(Vec::new(), Vec::new()));
        }
        let mut commands = vec![Command::new("MULTI")];
        for entry in &self.0.entries {
            let command = entry.clone()?;
            check_no_transaction(&command)?;
            commands.push(command);
        }
        check_same_slot(
            &self.0.client,
            "MULTI",
            commands.iter().flat_map(Command::keys),
        )?;
        commands.push(Command::new("EXEC"));
        let mut replies = self.0.client.transaction(&mut commands).await?;
        let queued = commands
            .get(1..commands.len() - 1)
            .unwrap_or_default()
            .to_vec();
        let exec = replies.pop();
        check_queued(&queued, &replies)?;
        let results = match exec {
            Some(Ok(Value::Array(results))) if results.len() == queued.len() => results,
            Some(Ok(Value::Nil)) => return Err(Error::WatchedChanged),
            Some(Err(error)) => return Err(aborted(&queued, &replies, error)),
            _ => {
                let error = ValueError {
                    expected: "a reply for every command",
                    got: "another reply",
                };
                return Err(wrong_reply("EXEC", error));
            }
        };
        let results: Vec<_> = queued
            .iter()
            .zip(results)
            .map(|(command, result)| match result {
                Value::Error(error) => Err(Error::call(command.name(), CallError::Replied(error))),
                value => Ok(value),
            })
            .collect();
        Ok(self.0.replies(queued, results))
    }
}

/// Refuses what would end or change the transaction that it is to be a part of.
fn check_no_transaction(command: &Command) -> Result<(), Error> {
    let name = command.name();
    let is = |word: &&str| name.eq_ignore_ascii_case(word);
    match ["MULTI", "EXEC", "DISCARD", "WATCH"].iter().any(is) {
        false => Ok(()),
        true => Err(wrong(
            "MULTI",
            format!("{name} cannot be a part of a transaction; the transaction adds its own"),
        )),
    }
}

/// Whether the server said `OK` to `MULTI`, and `QUEUED` or an error to every command: otherwise it
/// has carried them out, or may have.
fn check_queued(queued: &[Command], replies: &[Result<Value, CallError>]) -> Result<(), Error> {
    let strange = || {
        let message = "a reply that no transaction gives";
        Fault::new(FaultKind::Protocol, message).maybe()
    };
    let (opened, replies) = match replies.split_first() {
        Some((opened, replies)) if replies.len() == queued.len() => (opened, replies),
        _ => return Err(Error::Unprotected { error: strange() }),
    };
    match opened {
        Ok(Value::Ok) => {}
        Ok(_) => return Err(Error::Unprotected { error: strange() }),
        Err(error @ CallError::Replied(refused)) => {
            return Err(match refused_alike(refused, queued, replies) {
                true => Error::call("MULTI", error.clone()),
                false => Error::Unprotected {
                    error: error.clone(),
                },
            });
        }
        Err(CallError::NotSent(fault) | CallError::Maybe(fault)) => {
            return Err(Error::call("MULTI", fault.clone().maybe()));
        }
    }
    let is_queued = |reply: &Result<Value, CallError>| match reply {
        Ok(Value::Status(status)) => &**status == "QUEUED",
        Ok(_) => false,
        Err(_) => true,
    };
    match replies.iter().all(is_queued) {
        true => Ok(()),
        false => Err(Error::Unprotected { error: strange() }),
    }
}

/// Whether the server refused everything for the same reason (it is loading, say), so that nothing
/// was carried out. What a script says proves nothing.
fn refused_alike(
    refused: &ServerError,
    queued: &[Command],
    replies: &[Result<Value, CallError>],
) -> bool {
    queued.iter().zip(replies).all(|(command, reply)| {
        let code = reply.as_ref().err().and_then(CallError::server_error);
        !command.runs_script() && code.is_some_and(|error| error.code() == refused.code())
    })
}

/// Why `EXEC` failed: the command that the server did not queue, if there is one.
fn aborted(queued: &[Command], replies: &[Result<Value, CallError>], exec: CallError) -> Error {
    // The first reply is MULTI's.
    let offending = replies.iter().skip(1).zip(queued).enumerate();
    let mut refused = offending.filter_map(|(position, (reply, command))| match reply {
        Err(CallError::Replied(error)) => Some((position, command, error)),
        _ => None,
    });
    match (&exec, refused.next()) {
        (CallError::Replied(_), Some((position, command, error))) => Error::Aborted {
            position,
            command: command.name().into(),
            error: error.clone(),
        },
        _ => Error::call("EXEC", exec),
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
