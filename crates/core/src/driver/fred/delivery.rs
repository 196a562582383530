//! What fred received, given to those who listen.

use std::sync::Arc;

use ::fred::clients::Client;
use ::fred::interfaces::EventInterface;
use ::fred::types::{KeyspaceEvent, Message, MessageKind, Value as FredValue};
use bytes::Bytes;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::convert::own;
use super::subscriptions::Lane;
use crate::driver::subscriptions::{Name, NameKind, Registry};
use crate::push::{GapReason, Push};

/// From fred's queues to those who listen.
pub(super) struct Delivery {
    pub(super) registry: Arc<Registry>,
    pub(super) lane: Lane,
}

impl Delivery {
    /// Ends with the client's connection. Nothing is missed that comes after the call, however late
    /// the future is polled.
    pub(super) fn run(self, client: &Client) -> impl Future<Output = ()> + Send + use<> {
        let mut messages: Receiver<Message> = client.message_rx();
        let mut notifications: Receiver<KeyspaceEvent> = client.keyspace_event_rx();
        async move {
            loop {
                let outcome = tokio::select! {
                    message = messages.recv() => message.map(|message| self.message(message)),
                    event = notifications.recv() => event.map(|event| self.notification(&event)),
                };
                match outcome {
                    Ok(()) => {}
                    Err(RecvError::Lagged(count)) => {
                        self.registry.announce(GapReason::Lagged(count));
                    }
                    Err(RecvError::Closed) => return,
                }
            }
        }
    }

    fn message(&self, message: Message) {
        let channel = message.channel.into_inner();
        let name = match (&self.lane, message.kind) {
            (Lane::Alone(name), _) => name.clone(),
            (Lane::Channels, kind) => Name {
                kind: match kind {
                    MessageKind::SMessage => NameKind::Sharded,
                    _ => NameKind::Channel,
                },
                bytes: channel.clone(),
            },
        };
        self.push(&name, channel, to_bytes(message.value));
    }

    /// fred takes a notification about a key apart, and does not say which of the two kinds it was.
    fn notification(&self, event: &KeyspaceEvent) {
        let Lane::Alone(name) = &self.lane else {
            return self.registry.announce(GapReason::Lagged(1));
        };
        let key = Bytes::copy_from_slice(event.key.as_bytes());
        let operation = Bytes::copy_from_slice(event.operation.as_bytes());
        let (kind, about, payload) = if name.bytes.starts_with(b"__keyspace@") {
            ("__keyspace@", &key, &operation)
        } else if name.bytes.starts_with(b"__keyevent@") {
            ("__keyevent@", &operation, &key)
        } else {
            // A pattern for both kinds: it cannot be told what came, only that something did.
            return self.registry.announce(GapReason::Lagged(1));
        };
        let mut channel = format!("{kind}{}__:", event.db).into_bytes();
        channel.extend_from_slice(about);
        self.push(name, channel.into(), payload.clone());
    }

    fn push(&self, name: &Name, channel: Bytes, payload: Bytes) {
        let pattern = (name.kind == NameKind::Pattern).then(|| name.bytes.clone());
        let message = Push::Message {
            channel,
            pattern,
            payload,
        };
        self.registry.deliver(name, &message);
    }
}

fn to_bytes(value: FredValue) -> Bytes {
    own(value.into_bytes().unwrap_or_default())
}
