//! Pushed messages: what a subscription yields, and the bounded queue that carries it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use tokio::sync::mpsc;

use crate::error::{CallError, Fault, FaultKind};

/// What a subscriber wants to hear.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Interest {
    /// Messages on these channels (`SUBSCRIBE`).
    Channels(Vec<Bytes>),
    /// Messages on channels that match these globs (`PSUBSCRIBE`).
    Patterns(Vec<Bytes>),
    /// Messages on these sharded channels (`SSUBSCRIBE`).
    Sharded(Vec<Bytes>),
    /// Changes of keys (`CLIENT TRACKING` in broadcast mode), as [`Push::Invalidate`]: whoever
    /// writes, deletes, expires or evicts a key that starts with one of these prefixes, a write of
    /// one's own included, and whether or not the key was ever read here. Keys are named in full,
    /// with the namespace. A write is told after it was carried out, in the order of the writes to
    /// one server.
    ///
    /// An empty prefix stands for every key. Prefixes must not overlap, because servers refuse that.
    Invalidations {
        /// What the keys start with.
        prefixes: Vec<Bytes>,
    },
}

impl Interest {
    /// Refuses what no server would accept, before anything is sent. Every backend begins its
    /// [`subscribe`](crate::Backend::subscribe) with this.
    ///
    /// # Errors
    /// [`CallError::NotSent`] with [`FaultKind::Invalid`] when nothing is named, or when prefixes
    /// overlap.
    pub fn check(&self) -> Result<(), CallError> {
        let (names, what) = match self {
            Interest::Channels(names) | Interest::Sharded(names) => (names, "channel"),
            Interest::Patterns(names) => (names, "pattern"),
            Interest::Invalidations { prefixes } => (prefixes, "prefix"),
        };
        if names.is_empty() {
            let message = format!("no {what} is named; name at least one");
            return Err(Fault::new(FaultKind::Invalid, message).not_sent());
        }
        match self {
            Interest::Invalidations { prefixes } => check_prefixes(prefixes),
            _ => Ok(()),
        }
    }
}

/// Sorted, a prefix stands right before what starts with it.
fn check_prefixes(prefixes: &[Bytes]) -> Result<(), CallError> {
    let mut sorted: Vec<&Bytes> = prefixes.iter().collect();
    sorted.sort();
    let overlap = sorted.windows(2).find(|pair| pair[1].starts_with(pair[0]));
    let Some([shorter, longer]) = overlap else {
        return Ok(());
    };
    let message = format!(
        "the prefixes `{}` and `{}` overlap, which servers refuse; the shorter one covers both",
        shorter.escape_ascii(),
        longer.escape_ascii()
    );
    Err(Fault::new(FaultKind::Invalid, message).not_sent())
}

/// One pushed item.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Push {
    /// A published message.
    Message {
        /// The channel that it was published on.
        channel: Bytes,
        /// The pattern that matched, for [`Interest::Patterns`].
        pattern: Option<Bytes>,
        /// What was published.
        payload: Bytes,
    },
    /// These keys have changed, for [`Interest::Invalidations`]; `None` means that every key may
    /// have (`FLUSHALL`, `FLUSHDB`).
    Invalidate(Option<Vec<Bytes>>),
    /// Messages may be missing here.
    Gap(GapReason),
}

/// Why messages may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GapReason {
    /// The connection was lost, or the subscription ended by the server, and made anew; it stands
    /// again.
    Reconnected,
    /// The subscriber was slower than the messages; this many were dropped.
    Lagged(u64),
}

/// Makes the queue between a backend and one subscriber. It holds at most `capacity` items; what
/// does not fit is dropped and counted, and the subscriber is told by [`GapReason::Lagged`].
pub fn push_channel(capacity: usize) -> (PushSink, PushStream) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    let dropped = Arc::new(AtomicU64::new(0));
    let sink = PushSink {
        sender,
        dropped: Arc::clone(&dropped),
    };
    (
        sink,
        PushStream {
            receiver,
            dropped,
            on_drop: None,
        },
    )
}

/// A backend's end of a subscription's queue. Sending never waits.
#[derive(Debug, Clone)]
pub struct PushSink {
    sender: mpsc::Sender<Push>,
    dropped: Arc<AtomicU64>,
}

impl PushSink {
    /// Queues an item, or counts it as dropped when the queue is full. Gives `false` once the
    /// subscriber is gone.
    pub fn send(&self, push: Push) -> bool {
        // A gap must stand before what comes after it.
        let dropped = self.dropped.swap(0, Ordering::AcqRel);
        if dropped > 0
            && self
                .try_send(Push::Gap(GapReason::Lagged(dropped)))
                .is_err()
        {
            self.dropped.fetch_add(dropped + 1, Ordering::AcqRel);
            return !self.is_closed();
        }
        match self.try_send(push) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::AcqRel);
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    /// Whether the subscriber is gone.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until the subscriber is gone.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Whether both feed the same subscriber.
    pub fn same_queue(&self, other: &PushSink) -> bool {
        self.sender.same_channel(&other.sender)
    }

    fn try_send(&self, push: Push) -> Result<(), mpsc::error::TrySendError<Push>> {
        self.sender.try_send(push)
    }
}

/// A subscription: yields [`Push`]es until the backend is shut down. It survives reconnects, which
/// it reports as [`Push::Gap`]. Dropping it ends the subscription.
pub struct PushStream {
    receiver: mpsc::Receiver<Push>,
    dropped: Arc<AtomicU64>,
    on_drop: Option<Box<dyn FnOnce() + Send>>,
}

impl PushStream {
    /// Runs `action` when the subscriber drops the stream, so that the backend can unsubscribe.
    #[must_use]
    pub fn on_drop(mut self, action: impl FnOnce() + Send + 'static) -> Self {
        self.on_drop = Some(Box::new(action));
        self
    }

    /// The next item; `None` after the backend was shut down.
    pub async fn next(&mut self) -> Option<Push> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for PushStream {
    type Item = Push;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Push>> {
        match self.receiver.poll_recv(cx) {
            // Nothing queued: if the last items were dropped, nobody else would ever say so.
            quiet @ (Poll::Pending | Poll::Ready(None)) => {
                match self.dropped.swap(0, Ordering::AcqRel) {
                    0 => quiet,
                    dropped => Poll::Ready(Some(Push::Gap(GapReason::Lagged(dropped)))),
                }
            }
            other => other,
        }
    }
}

impl Drop for PushStream {
    fn drop(&mut self) {
        self.receiver.close();
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

    fn invalidations(prefixes: &[&'static str]) -> Interest {
        Interest::Invalidations {
            prefixes: prefixes.iter().map(|&prefix| prefix.into()).collect(),
        }
    }

    #[test]
    fn prefixes_that_overlap_are_refused_by_name() {
        let fine: [&[&str]; 3] = [&["a:", "b:"], &[""], &["ab", "aa", "b"]];
        for prefixes in fine {
            invalidations(prefixes).check().unwrap();
        }
        let overlapping: [&[&str]; 4] = [
            &["shop:cart", "x", "shop:"],
            &["a", "a"],
            &["", "a"],
            &["ab", "a", "aa"],
        ];
        for prefixes in overlapping {
            let error = invalidations(prefixes).check().unwrap_err();
            assert!(
                matches!(&error, CallError::NotSent(fault) if fault.kind() == FaultKind::Invalid)
            );
            assert!(error.to_string().contains("overlap"), "{error}");
        }
    }

    #[test]
    fn an_interest_in_nothing_is_refused() {
        for nothing in [
            Interest::Channels(Vec::new()),
            Interest::Patterns(Vec::new()),
            Interest::Sharded(Vec::new()),
            invalidations(&[]),
        ] {
            let error = nothing.check().unwrap_err();
            assert!(error.to_string().contains("at least one"), "{error}");
        }
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

    #[test]
    fn dropping_the_stream_runs_its_action_and_closes_the_sink() {
        let (sink, stream) = push_channel(1);
        let (told, heard) = std::sync::mpsc::channel();
        drop(stream.on_drop(move || told.send(()).unwrap()));
        heard.try_recv().unwrap();
        assert!(!sink.send(message("x")));
    }
}
