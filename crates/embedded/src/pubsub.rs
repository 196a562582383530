//! Channels, patterns and sharded channels, and their subscribers.

use std::collections::BTreeMap;

use bytes::Bytes;
use redkit_core::{Interest, Push, PushSink, PushStream, push_channel};

use crate::glob;

/// Messages that wait for a slow subscriber before the newest are dropped and counted.
const QUEUE: usize = 65_536;

/// Subscriptions.
#[derive(Debug, Default)]
pub(crate) struct PubSub {
    channels: Listeners,
    patterns: Listeners,
    sharded: Listeners,
    subscriptions: u64,
}

/// A subscriber whose interests change.
#[cfg(feature = "listen")]
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) number: u64,
    sink: PushSink,
}

/// In the order of their names: what is delivered first must not differ from run to run.
type Listeners = BTreeMap<Bytes, Vec<Listener>>;

#[derive(Debug)]
struct Listener {
    subscription: u64,
    sink: PushSink,
}

impl PubSub {
    /// Adds a subscription; give its number and interest to [`PubSub::unsubscribe`].
    pub(crate) fn subscribe(&mut self, interest: &Interest) -> (u64, PushStream) {
        let (sink, stream) = push_channel(QUEUE);
        self.subscriptions += 1;
        let subscription = self.subscriptions;
        self.listen(subscription, &sink, interest);
        (subscription, stream)
    }

    /// A subscriber who listens to nothing yet.
    #[cfg(feature = "listen")]
    pub(crate) fn subscriber(&mut self) -> (Subscriber, PushStream) {
        let (sink, stream) = push_channel(QUEUE);
        self.subscriptions += 1;
        let number = self.subscriptions;
        (Subscriber { number, sink }, stream)
    }

    #[cfg(feature = "listen")]
    pub(crate) fn add(&mut self, subscriber: &Subscriber, interest: &Interest) {
        self.listen(subscriber.number, &subscriber.sink, interest);
    }

    fn listen(&mut self, subscription: u64, sink: &PushSink, interest: &Interest) {
        let (listeners, names) = self.listeners(interest);
        for name in names {
            let present = listeners.entry(name.clone()).or_default();
            if !present.iter().any(|l| l.subscription == subscription) {
                present.push(Listener {
                    subscription,
                    sink: sink.clone(),
                });
            }
        }
    }

    pub(crate) fn unsubscribe(&mut self, subscription: u64, interest: &Interest) {
        let (listeners, names) = self.listeners(interest);
        for name in names {
            if let Some(present) = listeners.get_mut(name) {
                present.retain(|listener| listener.subscription != subscription);
                if present.is_empty() {
                    listeners.remove(name);
                }
            }
        }
    }

    /// Sends a message to channels and patterns and gives the number of receivers.
    pub(crate) fn publish(&self, channel: &Bytes, payload: &Bytes) -> usize {
        let direct = self
            .channels
            .get(channel)
            .map_or(0, |listeners| deliver(listeners, channel, None, payload));
        let matching: usize = self
            .patterns
            .iter()
            .filter(|(pattern, _)| glob::matches(pattern, channel))
            .map(|(pattern, listeners)| deliver(listeners, channel, Some(pattern), payload))
            .sum();
        direct + matching
    }

    pub(crate) fn publish_sharded(&self, channel: &Bytes, payload: &Bytes) -> usize {
        self.sharded
            .get(channel)
            .map_or(0, |listeners| deliver(listeners, channel, None, payload))
    }

    /// Channels with listeners, in no order.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &Bytes> {
        self.channels.keys()
    }

    pub(crate) fn sharded_channels(&self) -> impl Iterator<Item = &Bytes> {
        self.sharded.keys()
    }

    pub(crate) fn listening_to(&self, channel: &[u8]) -> usize {
        self.channels.get(channel).map_or(0, Vec::len)
    }

    pub(crate) fn listening_to_sharded(&self, channel: &[u8]) -> usize {
        self.sharded.get(channel).map_or(0, Vec::len)
    }

    /// The number of different patterns.
    pub(crate) fn patterns(&self) -> usize {
        self.patterns.len()
    }

    /// Ends all subscriptions: their streams end.
    pub(crate) fn clear(&mut self) {
        self.channels.clear();
        self.patterns.clear();
        self.sharded.clear();
    }

    fn listeners<'i>(&mut self, interest: &'i Interest) -> (&mut Listeners, &'i [Bytes]) {
        match interest {
            Interest::Patterns(names) => (&mut self.patterns, names),
            Interest::Sharded(names) => (&mut self.sharded, names),
            Interest::Channels(names) => (&mut self.channels, names),
            // A kind of interest that this engine does not know listens to nothing; the backend
            // refuses it before.
            _ => (&mut self.channels, &[]),
        }
    }
}

fn deliver(
    listeners: &[Listener],
    channel: &Bytes,
    pattern: Option<&Bytes>,
    payload: &Bytes,
) -> usize {
    listeners
        .iter()
        .filter(|listener| {
            listener.sink.send(Push::Message {
                channel: channel.clone(),
                pattern: pattern.cloned(),
                payload: payload.clone(),
            })
        })
        .count()
}
