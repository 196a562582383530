//! What pipelines and transactions have in common: typed commands, and handles to their replies.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::expiry::millis;
use super::key::ToKey;
use super::reply::{converted, decoded};
use super::set::set_command;
use super::set_options::SetOptions;
use crate::client::Client;
use crate::codec::Codec;
use crate::command::Command;
use crate::error::{Error, Fault, FaultKind};
use crate::value::{FromValue, Value};

/// A command that is queued, and the type of its reply: give it to [`Replies::take`].
#[must_use = "the outcome of the command is lost"]
pub struct Queued<R> {
    queue: u64,
    index: usize,
    read: fn(&Reading<'_>, Value) -> Result<R, Error>,
    result: PhantomData<fn() -> R>,
}

impl<R> fmt::Debug for Queued<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queued")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// What a reply is read with.
pub(super) struct Reading<'r> {
    codec: &'r Codec,
    command: &'r Command,
}

/// Commands in their order.
pub(super) struct Queue {
    pub(super) client: Client,
    id: u64,
    /// A command that cannot be sent keeps its place, and its error.
    pub(super) entries: Vec<Result<Command, Error>>,
}

impl Queue {
    pub(super) fn new(client: &Client) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            client: client.clone(),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            entries: Vec::new(),
        }
    }

    pub(super) fn get<T: DeserializeOwned>(&mut self, key: impl ToKey) -> Queued<Option<T>> {
        let command = Command::new("GET").key(key.to_key(&self.client));
        self.push(Ok(command), |reading, reply| {
            let key = reading.command.keys().next().unwrap_or_default();
            decoded(reading.codec, "GET", key, reply)
        })
    }

    pub(super) fn set<T: Serialize + ?Sized>(
        &mut self,
        key: impl ToKey,
        value: &T,
        options: SetOptions,
    ) -> Queued<bool> {
        let key = key.to_key(&self.client);
        let command = self
            .client
            .codec()
            .encode(key.as_bytes(), value)
            .and_then(|payload| set_command(&key, payload, options));
        self.push(command, plain)
    }

    pub(super) fn expire(&mut self, key: impl ToKey, ttl: Duration) -> Queued<bool> {
        let key = key.to_key(&self.client);
        let command =
            millis("PEXPIRE", ttl).map(|millis| Command::new("PEXPIRE").key(&key).arg(millis));
        self.push(command, plain)
    }

    pub(super) fn of_key<R: FromValue>(&mut self, name: &str, key: impl ToKey) -> Queued<R> {
        let command = Command::new(name).key(key.to_key(&self.client));
        self.command(command)
    }

    pub(super) fn command<R: FromValue>(&mut self, command: Command) -> Queued<R> {
        self.push(Ok(command), plain)
    }

    fn push<R>(
        &mut self,
        command: Result<Command, Error>,
        read: fn(&Reading<'_>, Value) -> Result<R, Error>,
    ) -> Queued<R> {
        self.entries.push(command);
        Queued {
            queue: self.id,
            index: self.entries.len() - 1,
            read,
            result: PhantomData,
        }
    }

    /// The replies to the commands that could be sent, in their order, and the errors of the
    /// others between them.
    pub(super) fn replies(
        self,
        commands: Vec<Command>,
        replies: impl IntoIterator<Item = Result<Value, Error>>,
    ) -> Replies {
        let mut sent = commands.into_iter().zip(replies);
        let entries = self.entries.into_iter().map(|entry| {
            entry.and_then(|_| {
                let (command, reply) = sent.next().ok_or_else(lost)?;
                Ok((command, reply?))
            })
        });
        Replies {
            queue: self.id,
            entries: entries.map(Some).collect(),
            codec: self.client.codec().clone(),
        }
    }
}

fn plain<R: FromValue>(reading: &Reading<'_>, reply: Value) -> Result<R, Error> {
    converted(reading.command.name(), reply)
}

/// The replies to a pipeline or a transaction, each with its own outcome.
pub struct Replies {
    queue: u64,
    entries: Vec<Option<Result<(Command, Value), Error>>>,
    codec: Codec,
}

impl Replies {
    /// What became of one command.
    ///
    /// # Errors
    /// That command's own: as if it had been called alone. [`Error::Call`] as well for a handle of
    /// another pipeline.
    pub fn take<R>(&mut self, queued: Queued<R>) -> Result<R, Error> {
        let entry = match self.queue == queued.queue {
            true => self.entries.get_mut(queued.index).and_then(Option::take),
            false => None,
        };
        let (command, reply) = entry.unwrap_or_else(|| Err(lost()))?;
        let reading = Reading {
            codec: &self.codec,
            command: &command,
        };
        (queued.read)(&reading, reply)
    }

    /// How many commands there were.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The first error among the replies that were not taken yet.
    pub fn first_error(&self) -> Option<&Error> {
        let mut errors = self
            .entries
            .iter()
            .flatten()
            .filter_map(|entry| entry.as_ref().err());
        errors.next()
    }
}

impl fmt::Debug for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

fn lost() -> Error {
    let message = "there is no reply for this handle; it belongs to another pipeline";
    Error::call(
        "pipeline",
        Fault::new(FaultKind::Invalid, message).not_sent(),
    )
}

/// The commands that pipelines and transactions have, with the same words.
macro_rules! queue_commands {
    () => {
        /// The value at a key: as [`Client::get`].
        pub fn get<T: DeserializeOwned>(&mut self, key: impl ToKey) -> Queued<Option<T>> {
            self.0.get(key)
        }

        /// Writes a value, and gives whether it was written: as [`Client::set`].
        pub fn set<T: Serialize + ?Sized>(
            &mut self,
            key: impl ToKey,
            value: &T,
            options: SetOptions,
        ) -> Queued<bool> {
            self.0.set(key, value, options)
        }

        /// Deletes a key, and gives whether it was there.
        pub fn delete(&mut self, key: impl ToKey) -> Queued<bool> {
            self.0.of_key("UNLINK", key)
        }

        /// Whether there is such a key.
        pub fn exists(&mut self, key: impl ToKey) -> Queued<bool> {
            self.0.of_key("EXISTS", key)
        }

        /// Lets a key expire, and gives whether it is there.
        pub fn expire(&mut self, key: impl ToKey, ttl: Duration) -> Queued<bool> {
            self.0.expire(key, ttl)
        }

        /// Adds to the whole number at a key, and gives the sum.
        pub fn increment(&mut self, key: impl ToKey, by: i64) -> Queued<i64> {
            let key = key.to_key(&self.0.client);
            self.0.command(Command::new("INCRBY").key(&key).arg(by))
        }

        /// Any other command. Its keys are sent as they are: see [`Client::key`].
        pub fn command<R: FromValue>(&mut self, command: Command) -> Queued<R> {
            self.0.command(command)
        }

        /// How many commands are queued.
        pub fn len(&self) -> usize {
            self.0.entries.len()
        }

        /// Whether none is.
        pub fn is_empty(&self) -> bool {
            self.0.entries.is_empty()
        }
    };
}
pub(super) use queue_commands;
