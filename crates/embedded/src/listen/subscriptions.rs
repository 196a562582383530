//! What a connection has subscribed to.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use redkit_core::{Interest, Push, PushStream};
use tokio::task::unconstrained;

use super::reply::{write_bulk, write_head, write_value};
use crate::backend::Shared;
use crate::pubsub::Subscriber;
use crate::state::Protocol;

/// The subscriptions of a connection. Channels and patterns share a queue, so that their messages come in
/// the order in which they were published. Dropping it ends them.
pub(super) struct Subscriptions {
    shared: Arc<Shared>,
    global: Feed,
    sharded: Feed,
}

/// A queue of messages, and what it is subscribed to.
struct Feed {
    subscriber: Subscriber,
    stream: PushStream,
    names: BTreeSet<(Kind, Bytes)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Channels,
    Patterns,
    Sharded,
}

impl Kind {
    fn interest(self, names: Vec<Bytes>) -> Interest {
        match self {
            Kind::Channels => Interest::Channels(names),
            Kind::Patterns => Interest::Patterns(names),
            Kind::Sharded => Interest::Sharded(names),
        }
    }

    /// What the server calls beginning, ending, and a message.
    fn words(self) -> [&'static str; 3] {
        match self {
            Kind::Channels => ["subscribe", "unsubscribe", "message"],
            Kind::Patterns => ["psubscribe", "punsubscribe", "pmessage"],
            Kind::Sharded => ["ssubscribe", "sunsubscribe", "smessage"],
        }
    }
}

/// A command that subscribes or unsubscribes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    kind: Kind,
    begins: bool,
}

impl Change {
    /// The change that a command makes, if it is one.
    pub(super) fn of(command: &[u8]) -> Option<Self> {
        // Most commands are short, or begin with another letter.
        if command.len() < 9 {
            return None;
        }
        [Kind::Channels, Kind::Patterns, Kind::Sharded]
            .into_iter()
            .find_map(|kind| {
                let [begin, end, _] = kind.words();
                let is = |word: &str| word.as_bytes().eq_ignore_ascii_case(command);
                let begins = is(begin);
                (begins || is(end)).then_some(Self { kind, begins })
            })
    }

    pub(super) fn begins(self) -> bool {
        self.begins
    }
}

impl Subscriptions {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let feed = || {
            let (subscriber, stream) = shared.subscriber();
            Feed {
                subscriber,
                stream,
                names: BTreeSet::new(),
            }
        };
        Self {
            global: feed(),
            sharded: feed(),
            shared,
        }
    }

    /// Subscribes to names or unsubscribes from them, and writes the confirmations after the messages that
    /// were published before. No name means all, when they end.
    pub(super) async fn change(
        &mut self,
        change: Change,
        names: &[&[u8]],
        out: &mut Vec<u8>,
        protocol: Protocol,
    ) {
        let kind = change.kind;
        let shared = Arc::clone(&self.shared);
        let feed = self.feed(kind);
        let [begin, end, _] = kind.words();
        let word = if change.begins { begin } else { end };
        let names: Vec<Bytes> = match names {
            [] => feed.of_kind(kind).cloned().collect(),
            names => names
                .iter()
                .map(|name| Bytes::copy_from_slice(name))
                .collect(),
        };
        if names.is_empty() {
            confirm(out, word, None, feed.names.len(), protocol);
        }
        for name in names {
            let interest = kind.interest(vec![name.clone()]);
            match change.begins {
                true if feed.names.insert((kind, name.clone())) => {
                    shared.add_subscription(&feed.subscriber, &interest);
                }
                false if feed.names.remove(&(kind, name.clone())) => {
                    shared.remove_subscription(&feed.subscriber, &interest);
                    while let Some(push) = feed.ready().await {
                        write_message(out, kind == Kind::Sharded, push, protocol);
                    }
                }
                _ => {}
            }
            confirm(out, word, Some(&name), feed.names.len(), protocol);
        }
    }

    /// Whether the connection is subscribed to anything.
    pub(super) fn is_any(&self) -> bool {
        !(self.global.names.is_empty() && self.sharded.names.is_empty())
    }

    /// Ends all.
    pub(super) fn clear(&mut self) {
        for feed in [&mut self.global, &mut self.sharded] {
            for (kind, name) in std::mem::take(&mut feed.names) {
                let interest = kind.interest(vec![name]);
                self.shared.remove_subscription(&feed.subscriber, &interest);
            }
        }
    }

    /// Writes the next message. It waits for ever when nothing is subscribed to.
    pub(super) async fn next(&mut self, out: &mut Vec<u8>, protocol: Protocol) {
        let (is_sharded, push) = tokio::select! {
            push = self.global.stream.next() => (false, push),
            push = self.sharded.stream.next() => (true, push),
        };
        match push {
            Some(push) => write_message(out, is_sharded, push, protocol),
            // The stream lives as long as its subscriber, which is here.
            None => std::future::pending().await,
        }
    }

    fn feed(&mut self, kind: Kind) -> &mut Feed {
        match kind {
            Kind::Channels | Kind::Patterns => &mut self.global,
            Kind::Sharded => &mut self.sharded,
        }
    }
}

/// Also where the connection's task is ended in the middle: with its listener, or by a panic.
impl Drop for Subscriptions {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Feed {
    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Bytes> {
        let of_kind = move |(its, _): &&(Kind, Bytes)| *its == kind;
        self.names.iter().filter(of_kind).map(|(_, name)| name)
    }

    /// The next message, if it is there.
    async fn ready(&mut self) -> Option<Push> {
        let mut next = pin!(self.stream.next());
        let ready = poll_fn(|cx| match next.as_mut().poll(cx) {
            Poll::Ready(push) => Poll::Ready(push),
            Poll::Pending => Poll::Ready(None),
        });
        // Out of its turn the stream would seem empty.
        unconstrained(ready).await
    }
}

/// Writes a message. A lag is not told in this protocol.
fn write_message(out: &mut Vec<u8>, is_sharded: bool, push: Push, protocol: Protocol) {
    let Push::Message {
        channel,
        pattern,
        payload,
    } = push
    else {
        return;
    };
    let kind = match &pattern {
        Some(_) => Kind::Patterns,
        None if is_sharded => Kind::Sharded,
        None => Kind::Channels,
    };
    let [_, _, word] = kind.words();
    push_head(out, 3 + usize::from(pattern.is_some()), protocol);
    write_bulk(out, word.as_bytes());
    if let Some(pattern) = pattern {
        write_bulk(out, &pattern);
    }
    write_bulk(out, &channel);
    write_bulk(out, &payload);
}

fn confirm(out: &mut Vec<u8>, word: &str, name: Option<&[u8]>, count: usize, protocol: Protocol) {
    push_head(out, 3, protocol);
    write_bulk(out, word.as_bytes());
    match name {
        Some(name) => write_bulk(out, name),
        None => write_value(out, &redkit_core::Value::Nil, protocol),
    }
    write_head(out, b':', count);
}

fn push_head(out: &mut Vec<u8>, length: usize, protocol: Protocol) {
    let kind = match protocol {
        Protocol::Resp2 => b'*',
        Protocol::Resp3 => b'>',
    };
    write_head(out, kind, length);
}
