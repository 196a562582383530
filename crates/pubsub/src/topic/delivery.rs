//! What a handler is given and what it gives back: [`Delivery`], [`Outcome`], [`Handler`], [`BatchHandler`].

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

/// Handles several messages of a topic at once, such as one statement for all of them. Async closures that give an
/// [`Outcome`] for all of them, an outcome for each, or a `Result<(), E>`, are handlers.
pub trait BatchHandler<T>: Send + Sync + 'static {
    /// Handles messages, of which there is at least one, in the order in which they came. A panic is a failed
    /// attempt of each. The future is dropped when it takes longer than the consumer's timeout, when all of the
    /// messages are lost to other consumers, and when the worker ends.
    fn handle(&self, deliveries: Vec<Delivery<T>>) -> impl Future<Output = Outcomes> + Send;
}

/// What becomes of messages that were handled together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcomes {
    /// The same for all of them.
    All(Outcome),
    /// One for each, in the order of the messages. A message without one had a failed attempt.
    Each(Vec<Outcome>),
}

impl Outcomes {
    /// One for each of so many messages.
    pub(super) fn for_each_of(self, count: usize) -> Vec<Outcome> {
        match self {
            Outcomes::All(outcome) => vec![outcome; count],
            Outcomes::Each(mut outcomes) => {
                let missing = || Outcome::retry("the handler gave no outcome for the message");
                outcomes.resize_with(count, missing);
                outcomes
            }
        }
    }
}

impl From<Outcome> for Outcomes {
    fn from(outcome: Outcome) -> Self {
        Outcomes::All(outcome)
    }
}

impl From<Vec<Outcome>> for Outcomes {
    fn from(outcomes: Vec<Outcome>) -> Self {
        Outcomes::Each(outcomes)
    }
}

/// An error is a failed attempt of all of them.
impl<E: fmt::Display> From<Result<(), E>> for Outcomes {
    fn from(result: Result<(), E>) -> Self {
        Outcomes::All(result.into())
    }
}

impl<T, F, Fut, O> BatchHandler<T> for F
where
    T: Send + 'static,
    F: Fn(Vec<Delivery<T>>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = O> + Send,
    O: Into<Outcomes>,
{
    async fn handle(&self, deliveries: Vec<Delivery<T>>) -> Outcomes {
        self(deliveries).await.into()
    }
}

/// A handler of single messages, as one that is given one at a time.
pub(super) struct OneByOne<H>(pub(super) H);

impl<T: Send + 'static, H: Handler<T>> BatchHandler<T> for OneByOne<H> {
    async fn handle(&self, deliveries: Vec<Delivery<T>>) -> Outcomes {
        let mut outcomes = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            outcomes.push(self.0.handle(delivery).await);
        }
        Outcomes::Each(outcomes)
    }
}
