//! How a message is published: [`Publication`], [`Deduplication`], [`Published`].

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::inbox::ItemId;

/// What goes with a message: its id, its key, its headers, and when it is delivered. Everything is
/// optional.
///
/// ```
/// use std::time::Duration;
/// use redkit_pubsub::topic::{Deduplication, Publication};
///
/// let reminder = Publication::new()
///     .id("reminder-order-7")
///     .deduplicate(Deduplication::For(Duration::from_secs(3600)))
///     .delay(Duration::from_secs(600))
///     .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
/// # let _ = reminder;
/// ```
#[derive(Debug, Clone, Default)]
pub struct Publication {
    pub(super) id: Option<String>,
    pub(super) key: Vec<u8>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) due: Due,
    pub(super) deduplication: Option<Deduplication>,
}

/// When a message is delivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Due {
    #[default]
    Now,
    After(Duration),
    At(SystemTime),
}

/// What happens to a message whose id is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deduplication {
    /// It is not published, for this time after the first one.
    For(Duration),
    /// It is not published until every group has acknowledged the first one (or moved it to its dead
    /// letters), and for 30 days at most after the first one has been delivered. Only in topics with [`Retention::Queue`](super::Retention::Queue).
    UntilDone,
    /// It takes the place of the first one while that waits for its time, and is delivered after its
    /// own delay: of many in a short time only the last is delivered. Needs a delay.
    Debounce,
    /// While the first one waits or is being handled, the last of the others is kept, and published when
    /// the first is done, whatever delay or time it was given; none is kept when the first was published with
    /// [`For`](Self::For) or [`Debounce`](Self::Debounce), whose end is not looked at: it is just known. What is kept is lost
    /// when the first one is not done 30 days after the last one was kept and the first one delivered. Only in topics
    /// with [`Retention::Queue`](super::Retention::Queue).
    KeepLast,
}

/// The header of W3C Trace Context, by which a consumer's trace goes on from the publisher's.
pub const TRACEPARENT: &str = "traceparent";

impl Publication {
    /// A message without anything, published at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// The message's id, by which it is known again: publishing it twice is as good as once. It is not
    /// published again for a day, unless [`deduplicate`](Self::deduplicate) says otherwise. A message
    /// without one has a random UUID and is not deduplicated.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// What happens when the id is known.
    #[must_use]
    pub fn deduplicate(mut self, deduplication: Deduplication) -> Self {
        self.deduplication = Some(deduplication);
        self
    }

    /// The key. Messages of one key are in one partition, so an
    /// [ordered](super::ConsumerBuilder::ordered) group handles them in their order.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = key.into();
        self
    }

    /// Adds a header: text that consumers get beside the message.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Delivers the message after this time of the server's clock, give or take half a second (five seconds in a
    /// [log](super::Retention::Log) that has [readers](super::LogReader) only).
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.due = Due::After(delay);
        self
    }

    /// Delivers the message at this time of the server's clock, give or take half a second (five seconds in a
    /// [log](super::Retention::Log) that has [readers](super::LogReader) only); at once when it has passed.
    #[must_use]
    pub fn deliver_at(mut self, time: SystemTime) -> Self {
        self.due = Due::At(time);
        self
    }
}

/// What became of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The message's id: the one that was given, or a new UUID.
    pub id: String,
    /// The entry in the stream: of the first message with this id, when there was one. `None` while it
    /// waits for its time.
    pub entry: Option<ItemId>,
    /// What was done with this one.
    pub outcome: PublishOutcome,
}

/// What was done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishOutcome {
    /// It was published, or waits for its time.
    New,
    /// One with its id is known, so it was not published.
    Known,
    /// It took the place of the one that waited.
    Replaced,
    /// It is kept until the one before it is done.
    Kept,
}
