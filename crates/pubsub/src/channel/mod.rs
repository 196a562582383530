//! [`Channel`]: live messages of one type.

mod builder;
mod cursor;
mod event;
mod frame;
mod pass;
mod replay;
mod subscription;

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use redkit_core::{
    CallError, Client, Command, FromValue, Interest, Invocation, Key, Keyspace, ToArg, Value,
    escape_glob,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::builder::{ChannelBuilder, Replay};
use self::cursor::LogKeys;
pub use self::event::{Event, GapReason, Message, Position, Undecodable};
use self::replay::Cursors;
pub use self::subscription::Subscription;
use crate::error::Error;
use crate::metrics::ChannelMetrics;
use crate::queue::Overflow;
use crate::scripts;

/// Live messages of one type, on as many channels of one name as there are keys: the channel of
/// `ann` in `notifications` is `<namespace>:channel:notifications:{ann}`.
///
/// A message reaches those who are subscribed when it is published, and nobody later, unless the
/// channel has [`Replay`]. For what must wait until somebody reads it there is
/// [`Inbox`](crate::Inbox).
///
/// # Cost
/// A publication is one command (with replay: one script on the channel's slot). All subscriptions of a
/// client share one connection to each server.
///
/// # On a cluster
/// Use [`sharded`](ChannelBuilder::sharded) channels. Plain ones are passed on to every node over the
/// cluster's bus, which costs each node the message, and when the bus loses one no server tells of it.
/// With [`Replay`] that shows, and is made up for, with the next message of the key.
///
/// # When Redis is down
/// Publishing fails as any call does. Subscriptions stay, are made anew when the server is back, and
/// tell of the gap.
pub struct Channel<T> {
    inner: Arc<Inner>,
    message: PhantomData<fn() -> T>,
}

struct Inner {
    client: Client,
    name: Box<str>,
    keys: Keyspace,
    is_sharded: bool,
    replay: Option<Replay>,
    overflow: Overflow,
    capacity: usize,
    max_message_bytes: usize,
    metrics: Arc<ChannelMetrics>,
}

/// The channel of one key, and its log when it has one.
#[derive(Clone)]
struct Address {
    channel: Key,
    log: Option<LogKeys>,
}

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// How many subscriptions the server told. On a cluster, a plain channel's subscribers on other
    /// nodes are told and not counted.
    pub receivers: u64,
    /// Where the message stands in the log, with [`Replay`].
    pub position: Option<Position>,
}

impl<T> Channel<T> {
    /// Starts to build the channels of one name: letters, digits, `-`, `_` and `.`.
    pub fn builder(client: &Client, name: impl Into<String>) -> ChannelBuilder<T> {
        ChannelBuilder::new(client, name.into())
    }

    /// Plain channels with the usual settings.
    ///
    /// # Errors
    /// [`Error::Core`] when the name cannot stand in a key.
    pub fn new(client: &Client, name: impl Into<String>) -> Result<Self, Error> {
        Self::builder(client, name).build()
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }
}

impl<T: Serialize> Channel<T> {
    /// Publishes a message on the channel of `key`. It is not sent again when nobody knows whether
    /// it was: when [`is_maybe`](redkit_core::Error::is_maybe) holds, subscribers may have it.
    ///
    /// # Errors
    /// [`Error::TooLarge`], and [`Error::Core`] when it could not be encoded or published.
    pub async fn publish<Q>(&self, key: impl ToArg, message: &Q) -> Result<Published, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let published = self.publish_one(&self.inner.address(key), message).await;
        self.inner.count_published(&published);
        published
    }

    /// Publishes messages on the channel of `key`, in their order, in one round trip. Each has a
    /// result of its own.
    ///
    /// # Errors
    /// When nothing is known of any of them: as [`publish`](Self::publish).
    pub async fn publish_batch<'q, Q>(
        &self,
        key: impl ToArg,
        messages: impl IntoIterator<Item = &'q Q>,
    ) -> Result<Vec<Result<Published, Error>>, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized + 'q,
    {
        let address = self.inner.address(key);
        let all = messages
            .into_iter()
            .map(|message| (address.clone(), message));
        self.publish_all(all).await
    }

    /// Publishes one message on the channels of several keys, in one round trip (on a cluster: one
    /// to each node). Each key has a result of its own.
    ///
    /// # Errors
    /// When nothing is known of any of them: as [`publish`](Self::publish).
    pub async fn broadcast<Q, K: ToArg>(
        &self,
        keys: impl IntoIterator<Item = K>,
        message: &Q,
    ) -> Result<Vec<Result<Published, Error>>, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let addresses = keys.into_iter().map(|key| self.inner.address(key));
        self.publish_all(addresses.map(|address| (address, message)))
            .await
    }

    async fn publish_one<Q>(&self, to: &Address, message: &Q) -> Result<Published, Error>
    where
        Q: Serialize + ?Sized,
    {
        let inner = &self.inner;
        let message = inner.encode(&to.channel, message)?;
        match &to.log {
            None => {
                let receivers = inner.client.call(inner.command(to, message)).await?;
                Ok(Published {
                    receivers,
                    position: None,
                })
            }
            Some(log) => Ok(numbered(
                inner.client.eval(inner.script(to, log, message)).await?,
            )),
        }
    }

    async fn publish_all<'q, Q>(
        &self,
        messages: impl Iterator<Item = (Address, &'q Q)>,
    ) -> Result<Vec<Result<Published, Error>>, Error>
    where
        Q: Serialize + ?Sized + 'q,
    {
        let messages: Vec<_> = messages.collect();
        let count = messages.len();
        let published = self.publish_each(messages).await;
        match &published {
            Ok(published) => published
                .iter()
                .for_each(|one| self.inner.count_published(one)),
            // Nothing is known of any of them.
            Err(_) => self.inner.metrics.publish_failures.increment(count as u64),
        }
        published
    }

    async fn publish_each<'q, Q>(
        &self,
        messages: Vec<(Address, &'q Q)>,
    ) -> Result<Vec<Result<Published, Error>>, Error>
    where
        Q: Serialize + ?Sized + 'q,
    {
        let inner = &self.inner;
        let (mut commands, mut scripts) = (Vec::new(), Vec::new());
        for (to, message) in messages {
            let message = inner.encode(&to.channel, message)?;
            match &to.log {
                None => commands.push(inner.command(&to, message)),
                Some(log) => scripts.push(inner.script(&to, log, message)),
            }
        }
        Ok(match inner.replay {
            _ if commands.is_empty() && scripts.is_empty() => Vec::new(),
            None => {
                let replies = inner.client.pipeline(commands).await?;
                let plain = |receivers| Published {
                    receivers,
                    position: None,
                };
                let name = inner.publish_name();
                replies
                    .into_iter()
                    .map(|reply| read(name, reply).map(plain))
                    .collect()
            }
            Some(_) => {
                let replies = inner.client.eval_all(scripts).await?;
                replies
                    .into_iter()
                    .map(|reply| read("EVALSHA", reply).map(numbered))
                    .collect()
            }
        })
    }
}

impl<T: DeserializeOwned> Channel<T> {
    /// Subscribes to the channels of these keys. The server has confirmed it when this returns:
    /// what is published from then on is received, or told to be missing. Positions belong to their key: a subscriber
    /// to several keys that comes back goes on with each by a [`subscribe_after`](Self::subscribe_after) of its own.
    ///
    /// # Errors
    /// [`Error::Invalid`] without a key, [`Error::Core`] when the server refused (a missing right is
    /// named) or did not confirm in time.
    pub async fn subscribe<K: ToArg>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Subscription<T>, Error> {
        let addresses: Vec<Address> = keys
            .into_iter()
            .map(|key| self.inner.address(key))
            .collect();
        check_named(&addresses)?;
        let cursors = match self.inner.replay {
            None => None,
            // Before the subscription: what comes in between is found when the log is read.
            Some(_) => Some(Cursors::at_the_end(&self.inner.client, &addresses).await?),
        };
        self.listen(self.inner.interest(&addresses), cursors).await
    }

    /// Subscribes to the channel of one key, and begins with what the log holds after `position`:
    /// what a subscriber that was away, such as a browser with its `Last-Event-ID`, has missed. If
    /// the log does not reach back so far, a gap comes first.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe); [`Error::Invalid`] for a channel without replay.
    pub async fn subscribe_after(
        &self,
        key: impl ToArg,
        position: Position,
    ) -> Result<Subscription<T>, Error> {
        if self.inner.replay.is_none() {
            let fix = "build the channel with `replay`, or use `subscribe`";
            return Err(Error::invalid("position", "the channel keeps no log", fix));
        }
        let address = [self.inner.address(key)];
        let cursors = Cursors::after(&self.inner.client, &address, position);
        self.listen(self.inner.interest(&address), Some(cursors))
            .await
    }

    /// Subscribes to the channels of all keys.
    ///
    /// # Errors
    /// As [`subscribe_matching`](Self::subscribe_matching).
    pub async fn subscribe_all(&self) -> Result<Subscription<T>, Error> {
        self.subscribe_matching("*").await
    }

    /// Subscribes to the channels of all keys that match a glob (`order-*`): `*`, `?` and `[…]`, and a
    /// backslash before what stands for itself.
    ///
    /// # Errors
    /// [`Error::Invalid`] for sharded channels, for which servers know no patterns, and for channels
    /// with replay, whose logs a pattern does not name. Otherwise as [`subscribe`](Self::subscribe).
    pub async fn subscribe_matching(&self, glob: &str) -> Result<Subscription<T>, Error> {
        let fix = "name the keys, or use plain channels without replay";
        if self.inner.is_sharded {
            let problem = "sharded channels cannot be matched by a pattern";
            return Err(Error::invalid("glob", problem, fix));
        }
        if self.inner.replay.is_some() {
            let problem = "a pattern does not name the channels whose logs would be read";
            return Err(Error::invalid("glob", problem, fix));
        }
        let mut pattern = escape_glob(&self.inner.keys.prefix());
        pattern.extend_from_slice(glob.as_bytes());
        pattern.push(b'}');
        self.listen(Interest::Patterns(vec![pattern.into()]), None)
            .await
    }

    async fn listen(
        &self,
        interest: Interest,
        cursors: Option<Cursors>,
    ) -> Result<Subscription<T>, Error> {
        let pushes = self.inner.client.subscribe(interest).await?;
        Ok(Subscription::start(&self.inner, pushes, cursors))
    }
}

impl Inner {
    fn encode<Q: Serialize + ?Sized>(&self, channel: &Key, message: &Q) -> Result<Bytes, Error> {
        let message = self.client.codec().encode(channel.as_bytes(), message)?;
        check_size(message, self.max_message_bytes)
    }

    fn publish_name(&self) -> &'static str {
        match self.is_sharded {
            true => "SPUBLISH",
            false => "PUBLISH",
        }
    }

    fn address(&self, key: impl ToArg) -> Address {
        let log = self.replay.map(|replay| LogKeys {
            log: self.keys.role_key(&key, "log"),
            last: self.keys.role_key(&key, "last"),
            replay,
        });
        Address {
            channel: self.keys.key(&key),
            log,
        }
    }

    /// On a cluster by the node of the key's slot, plain channels as well: messages that went through
    /// different nodes would come in another order.
    fn command(&self, to: &Address, message: Bytes) -> Command {
        Command::new(self.publish_name())
            .key(&to.channel)
            .arg(message)
    }

    fn script(&self, to: &Address, log: &LogKeys, message: Bytes) -> Invocation {
        scripts::publish(scripts::Publish {
            log: &log.log,
            last: &log.last,
            channel: &to.channel,
            is_sharded: self.is_sharded,
            most: log.replay.most,
            keep: log.replay.keep,
            last_ttl: log.replay.last_ttl(),
            message,
        })
    }

    fn interest(&self, addresses: &[Address]) -> Interest {
        let names = addresses
            .iter()
            .map(|address| address.channel.to_bytes())
            .collect();
        match self.is_sharded {
            true => Interest::Sharded(names),
            false => Interest::Channels(names),
        }
    }

    fn count_published(&self, published: &Result<Published, Error>) {
        match published {
            Ok(_) => self.metrics.published.increment(1),
            Err(_) => self.metrics.publish_failures.increment(1),
        }
    }
}

pub(crate) fn check_size(message: Bytes, limit: usize) -> Result<Bytes, Error> {
    match message.len() {
        bytes if bytes > limit => Err(Error::TooLarge { bytes, limit }),
        _ => Ok(message),
    }
}

fn check_named(addresses: &[Address]) -> Result<(), Error> {
    match addresses {
        [] => Err(Error::invalid(
            "keys",
            "no key is named",
            "name at least one, or use `subscribe_all`",
        )),
        _ => Ok(()),
    }
}

fn numbered((position, receivers): (u64, u64)) -> Published {
    Published {
        receivers,
        position: Some(Position(position)),
    }
}

/// The reply to one command of several.
pub(crate) fn read<R: FromValue>(
    command: &'static str,
    reply: Result<Value, CallError>,
) -> Result<R, Error> {
    let value = reply.map_err(|error| redkit_core::Error::Call {
        command: command.into(),
        error,
    })?;
    let read = value.to().map_err(|error| redkit_core::Error::Reply {
        command: command.into(),
        error,
    });
    Ok(read?)
}

impl<T> Clone for Channel<T> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            message: PhantomData,
        }
    }
}

impl<T> std::fmt::Debug for Channel<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel")
            .field("name", &self.inner.name)
            .field("is_sharded", &self.inner.is_sharded)
            .field("replay", &self.inner.replay)
            .finish_non_exhaustive()
    }
}
