//! Many values at once: [`Client::mget`] and [`Client::mset`].

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::expiry::Expiry;
use super::key::{InNamespace, ToKey};
use super::reply::{converted, wrong_reply};
use super::set::set_command;
use super::set_options::SetOptions;
use crate::backend::Topology;
use crate::client::Client;
use crate::command::Command;
use crate::error::Error;
use crate::keys::slot;
use crate::value::{Value, ValueError};

/// What is on its way at the same time, at most.
const COMMANDS_AT_ONCE: usize = 1000;
const KEYS_AT_ONCE: usize = 10_000;
const BYTES_AT_ONCE: usize = 8 * 1024 * 1024;

/// Reading and writing many values. Keys may be anywhere in a cluster; what becomes of one says
/// nothing about the others, and nothing is atomic.
impl Client {
    /// The values at these keys, in their order, each with its own outcome.
    ///
    /// `MGET`s of up to [`batch_keys`](crate::ClientConfig::batch_keys), and up to 10,000 keys in one round trip; on a cluster one
    /// `MGET` per slot, those of one node in one round trip, all nodes at the same time. As the
    /// server has it, a key that holds a list or the like reads as `None`.
    ///
    /// # Errors
    /// In each item, those of [`get`](Self::get).
    pub async fn mget<T: DeserializeOwned>(
        &self,
        keys: impl IntoIterator<Item = impl ToKey>,
    ) -> Vec<Result<Option<T>, Error>> {
        self.fetch(keys, |key, raw| self.codec().decode(key, raw))
            .await
    }

    /// The bytes at these keys: [`mget`](Self::mget) for [`get_bytes`](Self::get_bytes).
    ///
    /// # Errors
    /// In each item, those of [`get_bytes`](Self::get_bytes).
    pub async fn mget_bytes(
        &self,
        keys: impl IntoIterator<Item = impl ToKey>,
    ) -> Vec<Result<Option<Bytes>, Error>> {
        self.fetch(keys, |key, raw| self.codec().decode_bytes(key, raw))
            .await
    }

    /// Writes values, each with options of its own, and says of each, in their order, whether it
    /// was written: `false` when its condition did not hold.
    ///
    /// Pipelined `SET`s, up to 1,000 and 8 MiB in a round trip, all nodes of a cluster at the same
    /// time. Items are taken from the iterator as they are sent, so that it may be long.
    ///
    /// ```
    /// # use redkit_core::{Client, ClientConfig};
    /// use redkit_core::SetItem;
    /// use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), redkit_core::Error> {
    /// # let engine = std::sync::Arc::new(redkit_embedded::Embedded::new());
    /// # let client = Client::from_backend(engine, &ClientConfig::default())?;
    /// let outcomes = client
    ///     .mset([
    ///         SetItem::new("price:1", 100),
    ///         SetItem::new("price:2", 250).ttl(Duration::from_secs(60)),
    ///         SetItem::new("price:1", 7).if_absent(),
    ///     ])
    ///     .await;
    /// let written = outcomes.into_iter().collect::<Result<Vec<bool>, _>>()?;
    /// assert_eq!(written, [true, true, false]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// In each item, those of [`set`](Self::set).
    pub async fn mset<K: ToKey, T: Serialize>(
        &self,
        items: impl IntoIterator<Item = SetItem<K, T>>,
    ) -> Vec<Result<bool, Error>> {
        let mut outcomes = Vec::new();
        let mut window = Window::default();
        for item in items {
            let key = item.key.to_key(self);
            let command = self
                .codec()
                .encode(key.as_bytes(), &item.value)
                .and_then(|payload| set_command(&key, payload, item.options));
            match command {
                Ok(command) => {
                    window.push(outcomes.len(), command);
                    // Filled in by its reply.
                    outcomes.push(Ok(false));
                }
                Err(error) => outcomes.push(Err(error)),
            }
            if window.commands.len() >= COMMANDS_AT_ONCE || window.bytes >= BYTES_AT_ONCE {
                self.write(std::mem::take(&mut window), &mut outcomes).await;
            }
        }
        self.write(window, &mut outcomes).await;
        outcomes
    }

    async fn write(&self, mut window: Window, outcomes: &mut [Result<bool, Error>]) {
        if window.commands.is_empty() {
            return;
        }
        let replies = self.pipeline_ref(&mut window.commands).await;
        for (i, place) in window.places.into_iter().enumerate() {
            let outcome = match &replies {
                Ok(replies) => match replies.get(i) {
                    Some(Ok(reply)) => converted("SET", reply.clone()),
                    Some(Err(error)) => Err(Error::call("SET", error.clone())),
                    None => Err(too_few("SET")),
                },
                Err(error) => Err(error.clone()),
            };
            if let Some(slot) = outcomes.get_mut(place) {
                *slot = outcome;
            }
        }
    }

    async fn fetch<K: ToKey, T>(
        &self,
        keys: impl IntoIterator<Item = K>,
        decode: impl Fn(&[u8], Bytes) -> Result<T, Error>,
    ) -> Vec<Result<Option<T>, Error>> {
        let mut keys = keys.into_iter().peekable();
        let mut outcomes = Vec::with_capacity(keys.size_hint().0);
        while keys.peek().is_some() {
            let some = keys.by_ref().take(KEYS_AT_ONCE);
            if self.topology() != Topology::Cluster {
                let put = |outcome| outcomes.push(outcome);
                self.read(&mut self.reads(some), &decode, put).await;
                continue;
            }
            let (mut commands, places) = self.reads_by_slot(some);
            let mut found: Vec<_> = places.iter().map(|_| Err(too_few("MGET"))).collect();
            let mut places = places.into_iter();
            let put = |outcome| {
                let place = places.next().and_then(|place| found.get_mut(place));
                if let Some(place) = place {
                    *place = outcome;
                }
            };
            self.read(&mut commands, &decode, put).await;
            outcomes.append(&mut found);
        }
        outcomes
    }

    /// What `MGET`s give for their keys, in the keys' order.
    async fn read<T>(
        &self,
        commands: &mut [Command],
        decode: &impl Fn(&[u8], Bytes) -> Result<T, Error>,
        mut put: impl FnMut(Result<Option<T>, Error>),
    ) {
        // A pipeline of its own for as many commands as may be on their way.
        for commands in commands.chunks_mut(COMMANDS_AT_ONCE) {
            let mut replies = match self.pipeline_ref(commands).await {
                Ok(replies) => Ok(replies.into_iter()),
                Err(error) => Err(error),
            };
            for command in &*commands {
                let reply = match &mut replies {
                    Ok(replies) => replies.next().unwrap_or(Ok(Value::Nil)),
                    Err(error) => {
                        command.keys().for_each(|_| put(Err(error.clone())));
                        continue;
                    }
                };
                match reply {
                    Ok(Value::Array(values)) if values.len() == command.arg_count() => {
                        for (key, value) in command.keys().zip(values) {
                            put(match value {
                                Value::Nil => Ok(None),
                                Value::Bulk(raw) => decode(key, raw).map(Some),
                                _ => Err(too_few("MGET")),
                            });
                        }
                    }
                    Ok(_) => command.keys().for_each(|_| put(Err(too_few("MGET")))),
                    Err(error) => {
                        let error = Error::call("MGET", error);
                        command.keys().for_each(|_| put(Err(error.clone())));
                    }
                }
            }
        }
    }

    /// `MGET`s in the keys' order.
    fn reads<K: ToKey>(&self, keys: impl Iterator<Item = K>) -> Vec<Command> {
        let mut commands: Vec<Command> = Vec::new();
        let mut to_come = keys.size_hint().0;
        for key in keys {
            match commands.last_mut() {
                Some(open) if open.arg_count() < self.batch_keys() => {
                    open.push_key(InNamespace(self, &key));
                }
                _ => {
                    let command =
                        Command::new("MGET").room_for_keys(to_come.min(self.batch_keys()));
                    commands.push(command.key(InNamespace(self, &key)));
                }
            }
            to_come = to_come.saturating_sub(1);
        }
        commands
    }

    /// One `MGET` per slot, and the place of each key, in the order of the commands' keys.
    fn reads_by_slot<K: ToKey>(&self, keys: impl Iterator<Item = K>) -> (Vec<Command>, Vec<usize>) {
        let mut by_slot: BTreeMap<u16, Vec<(Command, Vec<usize>)>> = BTreeMap::new();
        for (place, key) in keys.enumerate() {
            let key = key.to_key(self);
            let of_slot = by_slot.entry(slot(key.as_bytes())).or_default();
            let (command, places) = match of_slot.pop() {
                Some(last) if last.0.arg_count() < self.batch_keys() => last,
                full => {
                    of_slot.extend(full);
                    (Command::new("MGET"), Vec::new())
                }
            };
            let mut places = places;
            places.push(place);
            of_slot.push((command.key(&key), places));
        }
        let (commands, places): (Vec<_>, Vec<_>) = by_slot.into_values().flatten().unzip();
        (commands, places.into_iter().flatten().collect())
    }
}

/// What goes out together.
#[derive(Default)]
struct Window {
    commands: Vec<Command>,
    places: Vec<usize>,
    bytes: usize,
}

impl Window {
    fn push(&mut self, place: usize, command: Command) {
        self.bytes += command.byte_len();
        self.commands.push(command);
        self.places.push(place);
    }
}

/// A value to be written by [`Client::mset`].
#[derive(Clone, Copy)]
pub struct SetItem<K, T> {
    key: K,
    value: T,
    options: SetOptions,
}

impl<K: ToKey, T: Serialize> SetItem<K, T> {
    /// Without options.
    pub fn new(key: K, value: T) -> Self {
        Self {
            key,
            value,
            options: SetOptions::new(),
        }
    }

    /// All options at once.
    #[must_use]
    pub fn options(mut self, options: SetOptions) -> Self {
        self.options = options;
        self
    }

    /// The key expires after this time.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        let options = self.options.ttl(ttl);
        self.options(options)
    }

    /// The key expires at this time.
    #[must_use]
    pub fn expires_at(self, time: SystemTime) -> Self {
        let options = self.options.expiry(Expiry::At(time));
        self.options(options)
    }

    /// The key expires when it did before.
    #[must_use]
    pub fn keep_ttl(self) -> Self {
        let options = self.options.keep_ttl();
        self.options(options)
    }

    /// Only if there is no such key.
    #[must_use]
    pub fn if_absent(self) -> Self {
        let options = self.options.if_absent();
        self.options(options)
    }

    /// Only if there is such a key.
    #[must_use]
    pub fn if_present(self) -> Self {
        let options = self.options.if_present();
        self.options(options)
    }
}

/// Without the value: values do not belong in logs.
impl<K: fmt::Debug, T> fmt::Debug for SetItem<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetItem")
            .field("key", &self.key)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[cold]
fn too_few(command: &str) -> Error {
    wrong_reply(
        command,
        ValueError {
            expected: "a bulk string or nothing for every key",
            got: "another reply",
        },
    )
}
