//! What a handler is given and what it gives back: [`Delivery`], [`Outcome`], [`Handler`].

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::TRACEPARENT;
use crate::inbox::ItemId;

/// A message in the hands of a handler.
#[derive(Debug)]
#[non_exhaustive]
pub struct Delivery<T> {
    /// What was published.
    pub payload: T,
    /// The message's id, by which effects elsewhere are guarded: a message may come again. It is the one
    /// that its publisher gave, or a UUID.
    pub id: String,
    /// The key, or nothing.
    pub key: Bytes,
    /// The headers.
    pub headers: BTreeMap<String, String>,
    /// Where it stands in the stream of its partition.
    pub entry: ItemId,
    /// Which attempt this is, from 1. The server counts them, so the attempts of consumers that died count
    /// as well.
    pub attempt: u32,
    pub(super) lost: CancellationToken,
}

impl<T> Delivery<T> {
    /// Waits until the message is another consumer's: this one was paused for longer than its lease. Then
    /// the handler is dropped at its next `await`; work that goes on elsewhere ends itself by this.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Whether the message is another consumer's.
    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// The header `traceparent`.
    pub fn traceparent(&self) -> Option<&str> {
        self.headers.get(TRACEPARENT).map(String::as_str)
    }
}

/// What becomes of a message that was handled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is done.
    Ack,
    /// The attempt failed, and there is another one: after this time, or after the consumer's own
    /// [backoff](super::ConsumerBuilder::backoff). After the last attempt it becomes a dead letter.
    Retry {
        /// When; `None` for the backoff.
        after: Option<Duration>,
        /// Why, for the dead letter.
        reason: String,
    },
    /// It goes back to the group at once, and this was no attempt.
    HandBack,
    /// It can never be handled: it becomes a dead letter.
    Dead {
        /// Why.
        reason: String,
    },
}

impl Outcome {
    /// The attempt failed; the next one comes after the consumer's backoff.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Outcome::Retry {
            after: None,
            reason: reason.to_string(),
        }
    }

    /// The attempt failed; the next one comes after this time.
    pub fn retry_after(after: Duration, reason: impl fmt::Display) -> Self {
        Outcome::Retry {
            after: Some(after),
            reason: reason.to_string(),
        }
    }

    /// It can never be handled.
    pub fn dead(reason: impl fmt::Display) -> Self {
        Outcome::Dead {
            reason: reason.to_string(),
        }
    }
}

/// An error is a failed attempt.
impl<E: fmt::Display> From<Result<(), E>> for Outcome {
    fn from(result: Result<(), E>) -> Self {
        match result {
            Ok(()) => Outcome::Ack,
            Err(error) => Outcome::retry(error),
        }
    }
}

/// Handles the messages of a topic. Async closures that give an [`Outcome`], or a `Result<(), E>`, are
/// handlers.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle messages of `{T}`",
    label = "not a handler of these messages",
    note = "a handler is `|delivery: Delivery<{T}>| async move {{ … }}` that gives an `Outcome` or a `Result<(), E>`, and whose future is `Send`"
)]
pub trait Handler<T>: Send + Sync + 'static {
    /// Handles one message. A panic is a failed attempt. The future is dropped when it takes longer than the
    /// consumer's timeout, when the message is lost to another consumer, and when the worker ends; code that
    /// blocks its thread cannot be ended.
    fn handle(&self, delivery: Delivery<T>) -> impl Future<Output = Outcome> + Send;
}

impl<T, F, Fut, O> Handler<T> for F
where
    T: Send + 'static,
    F: Fn(Delivery<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = O> + Send,
    O: Into<Outcome>,
{
    async fn handle(&self, delivery: Delivery<T>) -> Outcome {
        self(delivery).await.into()
    }
}
