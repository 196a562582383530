//! [`Subscription`]: a stream of events, filled by a task of its own, so that a slow subscriber holds
//! up nobody.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use redkit_core::{Client, GapReason as ConnectionGap, Keyspace, Push, PushStream};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::Inner;
use super::event::{Event, GapReason, Message, Position, Undecodable};
use super::frame::read_frame;
use super::replay::Cursors;
use crate::metrics::ChannelMetrics;
use crate::queue::{EndOnDrop, Overflow, Queue, Queued};

/// A subscription to channels. It survives reconnections. It ends (with `None`) when the client is shut
/// down, when the server refuses for good to go on with one of the channels (a right was taken away), or
/// by [`Overflow::Disconnect`](crate::Overflow::Disconnect). Dropping it unsubscribes.
pub struct Subscription<T> {
    queue: Arc<Queue<Received>>,
    client: Client,
    keys: Keyspace,
    metrics: Arc<ChannelMetrics>,
    _task: AbortOnDropHandle<()>,
    message: PhantomData<fn() -> T>,
}

/// What the task hands to the subscriber, who decodes it: a type that panics while it is decoded is the
/// subscriber's own trouble.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Message {
        channel: Bytes,
        raw: Bytes,
        position: Option<Position>,
    },
    Gap(GapReason),
}

/// For how long a subscriber may read nothing, while what the log holds waits for it, under [`Overflow::Disconnect`].
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of the wait for a subscriber's room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// There is room now.
    Given,
    /// There is none yet, and the subscriber has read something.
    Later,
    /// The subscriber has read nothing.
    NothingRead,
}

/// Where the task puts what it receives.
pub(super) struct Outlet {
    queue: Arc<Queue<Received>>,
    pub(super) metrics: Arc<ChannelMetrics>,
}

impl Outlet {
    /// `false` when the subscription has ended.
    pub(super) fn message(&self, channel: Bytes, raw: Bytes, position: Option<Position>) -> bool {
        self.queue.push(Received::Message {
            channel,
            raw,
            position,
        })
    }

    /// How many messages of a log are handed on at once: the subscriber's queue holds them.
    pub(super) fn page(&self, most: usize) -> usize {
        most.min(self.queue.capacity())
    }

    pub(super) fn has_room(&self, messages: usize) -> bool {
        self.queue.has_room(messages)
    }

    /// Waits until the subscriber has room for so many messages, for a minute at most.
    pub(super) async fn room(&self, messages: usize) -> Room {
        let read = self.queue.read_count();
        match timeout(PATIENCE, self.queue.room(messages)).await {
            Ok(()) => Room::Given,
            Err(_) if self.queue.read_count() == read => Room::NothingRead,
            Err(_) => Room::Later,
        }
    }

    /// Ends the subscription of a subscriber that reads nothing any more, by its policy. Gives whether it has ended.
    pub(super) fn disconnect(&self) -> bool {
        let ends = self.queue.overflow() == Overflow::Disconnect;
        if ends {
            self.queue.end();
        }
        ends
    }

    pub(super) fn gap(&self, reason: GapReason) {
        self.metrics.gaps.increment(1);
        self.queue.push_kept(Received::Gap(reason));
    }
}

impl<T: DeserializeOwned> Subscription<T> {
    pub(super) fn start(inner: &Inner, pushes: PushStream, cursors: Option<Cursors>) -> Self {
        let queue = Queue::new(inner.capacity, inner.overflow);
        let outlet = Outlet {
            queue: Arc::clone(&queue),
            metrics: Arc::clone(&inner.metrics),
        };
        let end = EndOnDrop(Arc::clone(&queue));
        let task = tokio::spawn(async move {
            // Also when the task panics, the subscriber is told of the end.
            let _end = end;
            match cursors {
                None => receive(pushes, &outlet).await,
                Some(cursors) => receive_with_replay(pushes, cursors, &outlet).await,
            }
        });
        Self {
            queue,
            client: inner.client.clone(),
            keys: inner.keys.clone(),
            metrics: Arc::clone(&inner.metrics),
            _task: AbortOnDropHandle::new(task),
            message: PhantomData,
        }
    }

    /// The next event; `None` after the subscription has ended.
    pub async fn next(&mut self) -> Option<Event<T>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    fn event(&self, received: Received) -> Event<T> {
        let (channel, raw, position) = match received {
            Received::Gap(reason) => return Event::Gap(reason),
            Received::Message {
                channel,
                raw,
                position,
            } => (channel, raw, position),
        };
        let key = match self.keys.parse(&channel) {
            Some((key, _)) => key.into(),
            None => channel.clone(),
        };
        match self.client.codec().decode(&channel, raw) {
            Ok(payload) => {
                self.metrics.received.increment(1);
                Event::Message(Message {
                    key,
                    payload,
                    position,
                })
            }
            Err(error) => {
                self.metrics.undecodable.increment(1);
                Event::Undecodable(Undecodable {
                    key,
                    position,
                    error,
                })
            }
        }
    }
}

impl<T: DeserializeOwned> Stream for Subscription<T> {
    type Item = Event<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event<T>>> {
        let next = std::task::ready!(self.queue.poll_next(cx));
        Poll::Ready(next.map(|queued| match queued {
            Queued::Item(received) | Queued::Kept(received) => self.event(received),
            Queued::Missed(count) => {
                self.metrics.overflowed.increment(count);
                Event::Gap(GapReason::Overflowed(count))
            }
        }))
    }
}

async fn receive(mut pushes: PushStream, outlet: &Outlet) {
    while let Some(push) = pushes.next().await {
        let gap = match push {
            Push::Message {
                channel, payload, ..
            } => match outlet.message(channel, payload, None) {
                true => continue,
                false => return,
            },
            Push::Gap(ConnectionGap::Lost) => GapReason::Disconnected,
            Push::Gap(ConnectionGap::Reconnected) => GapReason::Resumed,
            Push::Gap(ConnectionGap::Lagged(count)) => GapReason::Overflowed(count),
            _ => continue,
        };
        outlet.gap(gap);
    }
}

async fn receive_with_replay(pushes: PushStream, cursors: Cursors, outlet: &Outlet) {
    // Also while a subscriber has no room for what the log holds.
    let last_numbers = cursors.last_numbers();
    tokio::select! {
        biased;
        () = receive_and_catch_up(pushes, cursors, outlet) => {}
        () = last_numbers.keep() => {}
    }
}

async fn receive_and_catch_up(mut pushes: PushStream, mut cursors: Cursors, outlet: &Outlet) {
    // What was published between the look at the end of the log and the confirmation.
    if !cursors.catch_up(outlet).await {
        return;
    }
    loop {
        let goes_on = tokio::select! {
            push = pushes.next() => match push {
                Some(push) => take(push, &mut cursors, outlet).await,
                None => return,
            },
            answered = cursors.answered() => cursors.go_on(answered, outlet).await,
        };
        if !goes_on {
            return;
        }
    }
}

/// `false` when the subscription has ended.
async fn take(push: Push, cursors: &mut Cursors, outlet: &Outlet) -> bool {
    match push {
        Push::Message {
            channel, payload, ..
        } => match read_frame(&payload) {
            Some(frame) => cursors.receive(channel, frame, outlet).await,
            // Published by a program without replay.
            None => outlet.message(channel, payload, None),
        },
        // Nothing can be read now, and the log will have it.
        Push::Gap(ConnectionGap::Lost) => true,
        Push::Gap(_) => cursors.catch_up(outlet).await,
        _ => true,
    }
}

impl<T> std::fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}
