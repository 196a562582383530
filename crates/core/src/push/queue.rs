//! The bounded queue between a backend and one subscriber.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_core::Stream;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{GapReason, Push};

/// How many bytes of messages a subscriber may leave unread before it is told that it lags. A single
/// message that is larger still passes.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// Makes the queue between a backend and one subscriber. It holds at most `capacity` items of at
/// most 64 MiB together; what does not fit is dropped and counted, and the subscriber is told by
/// [`GapReason::Lagged`].
pub fn push_channel(capacity: usize) -> (PushSink, PushStream) {
    channel(capacity.max(1), MOST_BYTES)
}

fn channel(most_items: usize, most_bytes: usize) -> (PushSink, PushStream) {
    let queue = Arc::new(Queue {
        most_items,
        most_bytes,
        state: Mutex::new(State {
            sinks: 1,
            ..State::default()
        }),
        closed: CancellationToken::new(),
    });
    let sink = PushSink {
        queue: Arc::clone(&queue),
    };
    let stream = PushStream {
        queue,
        on_drop: None,
    };
    (sink, stream)
}

struct Queue {
    most_items: usize,
    most_bytes: usize,
    state: Mutex<State>,
    /// Nothing more is queued: the subscriber is gone, or the subscription has ended.
    closed: CancellationToken,
}

#[derive(Default)]
struct State {
    items: VecDeque<Push>,
    bytes: usize,
    /// How many items did not fit since the last one that did.
    dropped: u64,
    /// How the subscription stands, when that did not fit.
    owed: Option<GapReason>,
    /// How many parts of the subscription do not stand.
    #[cfg(any(feature = "native", feature = "fred"))]
    losses: usize,
    sinks: usize,
    waker: Option<Waker>,
}

impl Queue {
    fn has_room(&self, state: &State, bytes: usize) -> bool {
        let fits = bytes <= self.most_bytes.saturating_sub(state.bytes);
        state.items.len() < self.most_items && (fits || state.items.is_empty())
    }

    /// Ends the subscription: the stream yields what is queued, and then ends.
    fn end(&self) {
        self.closed.cancel();
        let waker = self.state.lock().waker.take();
        wake(waker);
    }

    /// A gap must stand before what comes after it.
    fn settle_debts(&self, state: &mut State) {
        while self.has_room(state, 0)
            && let Some(gap) = state.debt()
        {
            state.items.push_back(gap);
        }
    }

    /// Says how the subscription stands: later, when there is no room.
    #[cfg(any(feature = "native", feature = "fred"))]
    fn tell(&self, state: &mut State, reason: GapReason) {
        self.settle_debts(state);
        match self.has_room(state, 0) {
            true => state.items.push_back(Push::Gap(reason)),
            false => state.owed = Some(reason),
        }
    }
}

impl State {
    /// What is to be told before anything else.
    fn debt(&mut self) -> Option<Push> {
        let gap = match std::mem::take(&mut self.dropped) {
            0 => self.owed.take()?,
            dropped => GapReason::Lagged(dropped),
        };
        Some(Push::Gap(gap))
    }
}

/// Wakes the subscriber when it goes out of scope without the lock.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn bytes_of(push: &Push) -> usize {
    match push {
        Push::Message {
            channel,
            pattern,
            payload,
        } => channel.len() + pattern.as_ref().map_or(0, Bytes::len) + payload.len(),
        Push::Invalidate(keys) => keys.iter().flatten().map(Bytes::len).sum(),
        Push::Gap(_) => 0,
    }
}

/// A backend's end of a subscription's queue. Sending never waits.
pub struct PushSink {
    queue: Arc<Queue>,
}

impl PushSink {
    /// Queues an item, or counts it as dropped when the queue is full. Gives `false` once the
    /// subscriber is gone.
    pub fn send(&self, push: Push) -> bool {
        if self.is_closed() {
            return false;
        }
        let mut state = self.queue.state.lock();
        let bytes = bytes_of(&push);
        // Gaps take no bytes: they must not be queued one after the other while nothing else fits.
        if self.queue.has_room(&state, bytes) {
            self.queue.settle_debts(&mut state);
        }
        if self.queue.has_room(&state, bytes) && state.dropped == 0 {
            state.bytes += bytes;
            state.items.push_back(push);
        } else {
            state.dropped += 1;
        }
        let waker = state.waker.take();
        drop(state);
        wake(waker);
        true
    }

    /// Whether the subscriber is gone.
    pub fn is_closed(&self) -> bool {
        self.queue.closed.is_cancelled()
    }

    /// Waits until the subscriber is gone.
    pub async fn closed(&self) {
        self.queue.closed.cancelled().await;
    }

    /// Whether both feed the same subscriber.
    pub fn same_queue(&self, other: &PushSink) -> bool {
        Arc::ptr_eq(&self.queue, &other.queue)
    }

    /// Ends the subscription, whoever else has a sink for it: the stream yields what is queued, and
    /// then ends.
    #[cfg(any(feature = "native", feature = "fred"))]
    pub(crate) fn end(&self) {
        self.queue.end();
    }

    /// Tells of changes that may have been missed, of a subscription that stands already. While a
    /// part of it does not, that has been told.
    #[cfg(feature = "native")]
    pub(crate) fn interrupted(&self) {
        let mut state = self.queue.state.lock();
        if state.losses == 0 {
            self.queue.tell(&mut state, GapReason::Reconnected);
        }
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }
}

impl Clone for PushSink {
    fn clone(&self) -> Self {
        self.queue.state.lock().sinks += 1;
        Self {
            queue: Arc::clone(&self.queue),
        }
    }
}

impl Drop for PushSink {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.sinks -= 1;
        let waker = match state.sinks {
            0 => state.waker.take(),
            _ => None,
        };
        drop(state);
        wake(waker);
    }
}

impl fmt::Debug for PushSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushSink").finish_non_exhaustive()
    }
}

/// A part of a subscription that does not stand. The subscriber is told of the first one by
/// [`GapReason::Lost`], and of the end of the last one by [`GapReason::Reconnected`].
#[cfg(any(feature = "native", feature = "fred"))]
pub(crate) struct Loss {
    sink: PushSink,
}

#[cfg(any(feature = "native", feature = "fred"))]
impl Loss {
    pub(crate) fn of(sink: &PushSink) -> Self {
        let mut state = sink.queue.state.lock();
        state.losses += 1;
        if state.losses == 1 {
            sink.queue.tell(&mut state, GapReason::Lost);
        }
        let waker = state.waker.take();
        drop(state);
        wake(waker);
        Self { sink: sink.clone() }
    }

    /// It stands again. When a loss is dropped without this, nothing is told.
    pub(crate) fn end(self) {
        let mut state = self.sink.queue.state.lock();
        if state.losses == 1 {
            self.sink.queue.tell(&mut state, GapReason::Reconnected);
        }
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }
}

#[cfg(any(feature = "native", feature = "fred"))]
impl Drop for Loss {
    fn drop(&mut self) {
        self.sink.queue.state.lock().losses -= 1;
    }
}

/// A subscription: yields [`Push`]es until the backend is shut down, or until the server refuses
/// for good to go on with one of its names (a right was taken away). It survives reconnects, which
/// it reports as [`Push::Gap`]. Dropping it ends the subscription.
pub struct PushStream {
    queue: Arc<Queue>,
    on_drop: Option<Box<dyn FnOnce() + Send>>,
}

impl PushStream {
    /// Runs `action` when the subscriber drops the stream, so that the backend can unsubscribe.
    #[must_use]
    pub fn on_drop(mut self, action: impl FnOnce() + Send + 'static) -> Self {
        self.on_drop = Some(Box::new(action));
        self
    }

    /// A handle that ends the subscription from outside, for a backend whose sink is in other hands.
    pub fn closer(&self) -> PushCloser {
        PushCloser {
            queue: Arc::downgrade(&self.queue),
        }
    }

    /// The next item; `None` after the subscription has ended.
    pub async fn next(&mut self) -> Option<Push> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

/// Ends a subscription from outside; see [`PushStream::closer`]. It keeps nothing alive.
pub struct PushCloser {
    queue: Weak<Queue>,
}

impl PushCloser {
    /// Ends the subscription: the stream yields what is queued, and then ends.
    pub fn close(&self) {
        if let Some(queue) = self.queue.upgrade() {
            queue.end();
        }
    }

    /// Whether the subscription has ended.
    pub fn is_closed(&self) -> bool {
        let queue = self.queue.upgrade();
        queue.is_none_or(|queue| queue.closed.is_cancelled())
    }
}

impl fmt::Debug for PushCloser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushCloser").finish_non_exhaustive()
    }
}

impl Stream for PushStream {
    type Item = Push;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Push>> {
        // A subscriber that is never without messages must let others run, too.
        let turn = std::task::ready!(tokio::task::coop::poll_proceed(cx));
        let mut state = self.queue.state.lock();
        let next = state.items.pop_front().or_else(|| state.debt());
        if let Some(push) = next {
            state.bytes -= bytes_of(&push);
            drop(state);
            turn.made_progress();
            return Poll::Ready(Some(push));
        }
        if state.sinks == 0 || self.queue.closed.is_cancelled() {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for PushStream {
    fn drop(&mut self) {
        self.queue.closed.cancel();
        let unread = {
            let mut state = self.queue.state.lock();
            state.bytes = 0;
            std::mem::take(&mut state.items)
        };
        drop(unread);
        if let Some(action) = self.on_drop.take() {
            action();
        }
    }
}

impl fmt::Debug for PushStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushStream").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &'static str) -> Push {
        Push::Message {
            channel: "c".into(),
            pattern: None,
            payload: payload.into(),
        }
    }

    async fn rest(stream: &mut PushStream) -> Vec<Push> {
        let mut seen = Vec::new();
        while let Some(push) = stream.next().await {
            seen.push(push);
        }
        seen
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_what_it_missed_and_where() {
        let (sink, mut stream) = push_channel(2);
        for payload in ["1", "2", "3", "4"] {
            assert!(sink.send(message(payload)));
        }
        assert_eq!(stream.next().await, Some(message("1")));
        assert_eq!(stream.next().await, Some(message("2")));
        assert_eq!(stream.next().await, Some(Push::Gap(GapReason::Lagged(2))));
        assert!(sink.send(message("5")));
        assert_eq!(stream.next().await, Some(message("5")));
        drop(sink);
        assert_eq!(stream.next().await, None);
    }

    #[tokio::test]
    async fn large_messages_are_bounded_by_their_bytes() {
        let (sink, mut stream) = channel(100, 10);
        // One byte of each is the channel's name.
        for payload in ["larger than all", "dropped", "dropped"] {
            sink.send(message(payload));
        }
        assert_eq!(stream.next().await, Some(message("larger than all")));
        for payload in ["1234", "5678", "9"] {
            sink.send(message(payload));
        }
        drop(sink);
        let expected = [
            Push::Gap(GapReason::Lagged(2)),
            message("1234"),
            message("5678"),
            Push::Gap(GapReason::Lagged(1)),
        ];
        assert_eq!(rest(&mut stream).await, expected);
    }

    #[test]
    fn dropping_the_stream_runs_its_action_and_closes_the_sink() {
        let (sink, stream) = push_channel(1);
        let (told, heard) = std::sync::mpsc::channel();
        drop(stream.on_drop(move || told.send(()).unwrap()));
        heard.try_recv().unwrap();
        assert!(!sink.send(message("x")));
    }

    #[tokio::test]
    async fn a_subscriber_that_waits_is_woken_by_all_that_can_happen() {
        let (sink, mut stream) = push_channel(1);
        let reader = tokio::spawn(async move { rest(&mut stream).await });
        for _ in 0..3 {
            tokio::task::yield_now().await;
            // The second is dropped; nobody comes after it to say so.
            sink.send(message("1"));
            sink.send(message("2"));
        }
        tokio::task::yield_now().await;
        drop(sink);
        let seen = tokio::time::timeout(std::time::Duration::from_secs(5), reader);
        let seen = seen.await.unwrap().unwrap();
        let expected = [message("1"), Push::Gap(GapReason::Lagged(1))];
        assert_eq!(seen.len(), 6);
        assert!(seen.chunks(2).all(|both| both == expected), "{seen:?}");
    }

    #[cfg(any(feature = "native", feature = "fred"))]
    #[tokio::test]
    async fn it_stands_again_when_all_of_it_does_and_a_full_queue_forgets_neither() {
        let (sink, mut stream) = push_channel(1);
        let (one, two) = (Loss::of(&sink), Loss::of(&sink));
        assert_eq!(stream.next().await, Some(Push::Gap(GapReason::Lost)));
        one.end();
        sink.send(message("of the part that stands"));
        two.end();
        sink.send(message("dropped"));
        drop(sink);
        let expected = [
            message("of the part that stands"),
            Push::Gap(GapReason::Lagged(1)),
            Push::Gap(GapReason::Reconnected),
        ];
        assert_eq!(rest(&mut stream).await, expected);
    }

    #[cfg(any(feature = "native", feature = "fred"))]
    #[tokio::test]
    async fn a_subscription_ends_with_what_is_queued_whoever_has_sinks() {
        let (sink, mut stream) = push_channel(4);
        let another = sink.clone();
        sink.send(message("1"));
        sink.end();
        assert!(another.is_closed() && !another.send(message("2")));
        assert_eq!(rest(&mut stream).await, [message("1")]);
    }
}
