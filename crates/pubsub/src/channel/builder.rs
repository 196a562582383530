//! [`ChannelBuilder`].

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::Client;

use super::{Channel, Inner};
use crate::error::Error;
use crate::metrics::ChannelMetrics;
use crate::queue::Overflow;

/// A short log behind a channel, from which subscriptions fill the gaps of a reconnection or an
/// overflow of their connection, and from which a subscriber goes on where it was
/// ([`Channel::subscribe_after`]).
///
/// What the serving master still holds is not missed. What a failover lost, and what the log had
/// to drop, is told as a [gap](super::Event::Gap).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replay {
    pub(super) most: u32,
    pub(super) keep: Duration,
}

impl Replay {
    /// Keeps the last `messages` of each key, for ten minutes at most.
    pub fn last(messages: u32) -> Self {
        Self {
            most: messages,
            keep: Duration::from_secs(600),
        }
    }

    /// For how long messages are kept: longer than connections are away.
    #[must_use]
    pub fn keep_for(mut self, time: Duration) -> Self {
        self.keep = time;
        self
    }

    /// The last number outlives the log, so that a subscriber of a quiet channel can tell that nothing
    /// came from that it missed all of it.
    pub(super) fn last_ttl(self) -> Duration {
        const DAY: Duration = Duration::from_secs(86_400);
        DAY.max(self.keep.saturating_mul(2))
    }
}

/// Builds a [`Channel`].
pub struct ChannelBuilder<T> {
    client: Client,
    name: String,
    is_sharded: bool,
    replay: Option<Replay>,
    overflow: Overflow,
    capacity: usize,
    max_message_bytes: usize,
    message: PhantomData<fn() -> T>,
}

/// Before a subscriber is told that it is too slow.
const CAPACITY: usize = 1024;
/// A message that is larger is better stored, and its key published.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

impl<T> ChannelBuilder<T> {
    pub(super) fn new(client: &Client, name: String) -> Self {
        Self {
            client: client.clone(),
            name,
            is_sharded: false,
            replay: None,
            overflow: Overflow::default(),
            capacity: CAPACITY,
            max_message_bytes: MAX_MESSAGE_BYTES,
            message: PhantomData,
        }
    }

    /// Uses sharded channels: on a cluster a message goes to the nodes of its key's slot only, in place
    /// of all nodes. They are other channels than the plain ones of the same name.
    #[must_use]
    pub fn sharded(mut self) -> Self {
        self.is_sharded = true;
        self
    }

    /// Keeps a short log, so that what was missed is made up for. Messages are framed then (their
    /// numbers stand before them), so publishers and subscribers need the same setting.
    #[must_use]
    pub fn replay(mut self, replay: Replay) -> Self {
        self.replay = Some(replay);
        self
    }

    /// How many messages wait for a slow subscriber (1,024 at first), and what happens to more. What comes from the log of
    /// a [`replay`](Self::replay) stays there until the subscriber has room for it, as do messages that are published
    /// meanwhile to any channel of the subscription; under [`Overflow::Disconnect`] the subscription ends when nothing is
    /// read for a minute meanwhile.
    #[must_use]
    pub fn queue(mut self, messages: usize, overflow: Overflow) -> Self {
        self.capacity = messages;
        self.overflow = overflow;
        self
    }

    /// How many bytes an encoded message may have; 1 MiB at first.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Builds it. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Core`] for a name that cannot stand in a key, [`Error::Invalid`] for a queue or a log
    /// without room, and for sharded channels where the server is known not to have them.
    pub fn build(self) -> Result<Channel<T>, Error> {
        if self.capacity == 0 {
            return Err(Error::invalid(
                "queue",
                "it has no room",
                "give at least one message",
            ));
        }
        if let Some(replay) = self.replay {
            if replay.most == 0 {
                return Err(Error::invalid(
                    "replay",
                    "it keeps no message",
                    "keep at least one",
                ));
            }
            if replay.keep < Duration::from_millis(1) {
                let fix = "give longer than connections are away";
                return Err(Error::invalid(
                    "replay.keep_for",
                    "it is under a millisecond",
                    fix,
                ));
            }
        }
        let capabilities = self.client.capabilities();
        if self.is_sharded && capabilities.version != (0, 0, 0) && !capabilities.sharded_pubsub {
            let fix = "use plain channels, or Redis 7.0 or later";
            return Err(Error::invalid(
                "sharded",
                "this server has no sharded channels",
                fix,
            ));
        }
        let keys = self.client.keyspace("channel", &self.name)?;
        Ok(Channel {
            inner: Arc::new(Inner {
                metrics: Arc::new(ChannelMetrics::new(&self.name)),
                name: self.name.into(),
                keys,
                client: self.client,
                is_sharded: self.is_sharded,
                replay: self.replay,
                overflow: self.overflow,
                capacity: self.capacity,
                max_message_bytes: self.max_message_bytes,
            }),
            message: PhantomData,
        })
    }
}

impl<T> std::fmt::Debug for ChannelBuilder<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelBuilder")
            .field("name", &self.name)
            .field("is_sharded", &self.is_sharded)
            .field("replay", &self.replay)
            .field("overflow", &self.overflow)
            .finish_non_exhaustive()
    }
}
