//! [`TopicBuilder`] and [`Retention`].

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::Client;

use super::keys::Partition;
use super::tail::CurrentTail;
use super::trims::Trims;
use super::{Inner, Topic};
use crate::error::Error;
use crate::metrics::TopicMetrics;

/// How long messages stay in the stream. What some group has not acknowledged is never removed: a group
/// that nobody consumes any more costs the memory of all messages since, until it is
/// [deleted](Topic::delete_group). [`GroupStats::lag`](super::GroupStats::lag) shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retention {
    /// A message is deleted once every group that exists has acknowledged it: a group that is made later does not have it.
    /// [`ConsumerBuilder::create_group`](super::ConsumerBuilder::create_group) makes groups ahead of their workers. Before the first group exists, messages are kept for it, however many.
    Queue,
    /// Messages are kept for a time or up to a number, for groups and readers that come later. Consumers remove the
    /// others every few seconds; processes that publish do so with a publication every 15 s, so that a log that
    /// nobody reads does not grow.
    Log {
        /// For how long; `None` for ever.
        keep: Option<Duration>,
        /// How many in each partition; `None` for all.
        most: Option<u64>,
    },
}

impl Retention {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Retention::Queue => "queue",
            Retention::Log { .. } => "log",
        }
    }
}

/// Builds a [`Topic`].
pub struct TopicBuilder<T> {
    client: Client,
    name: String,
    partitions: u32,
    retention: Retention,
    max_message_bytes: usize,
    message: PhantomData<fn() -> T>,
}

/// Each partition costs its consumers a few commands a second.
const MOST_PARTITIONS: u32 = 1_024;

impl<T> TopicBuilder<T> {
    pub(super) fn new(client: &Client, name: String) -> Self {
        Self {
            client: client.clone(),
            name,
            partitions: 1,
            retention: Retention::Queue,
            max_message_bytes: 1024 * 1024,
            message: PhantomData,
        }
    }

    /// In how many streams the messages are, by their keys; 1 at first. All programs must give the same
    /// number, and changing it changes which messages are in order with which. An
    /// [ordered](super::ConsumerBuilder::ordered) group has at most so many workers; on a cluster partitions
    /// spread over its nodes.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// How long messages stay; [`Retention::Queue`] at first.
    #[must_use]
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// How many bytes an encoded message, and its headers, may have; 1 MiB at first.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Builds it. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Core`] for a name that cannot stand in a key, [`Error::Invalid`] for a setting that
    /// cannot work.
    pub fn build(self) -> Result<Topic<T>, Error> {
        if !(1..=MOST_PARTITIONS).contains(&self.partitions) {
            let problem = format!("{} is not between 1 and {MOST_PARTITIONS}", self.partitions);
            let fix = "give as many as consumers are to work at the same time";
            return Err(Error::invalid("partitions", problem, fix));
        }
        if let Retention::Log { keep, most } = self.retention {
            if keep.is_some_and(|keep| keep < Duration::from_millis(1)) {
                let fix = "keep messages for longer, or use `Retention::Queue`";
                return Err(Error::invalid("retention", "it keeps nothing", fix));
            }
            if most == Some(0) {
                let fix = "keep at least one message, or use `Retention::Queue`";
                return Err(Error::invalid("retention", "it keeps nothing", fix));
            }
        }
        let keys = self.client.keyspace("topic", &self.name)?;
        let of = |number| Partition::new(&keys, &self.name, number);
        let partitions = (0..self.partitions).map(of).collect();
        Ok(Topic {
            inner: Arc::new(Inner {
                metrics: TopicMetrics::new(&self.name),
                trims: Trims::new(self.retention, self.partitions),
                tail: CurrentTail::default(),
                name: self.name.into(),
                partitions,
                retention: self.retention,
                max_message_bytes: self.max_message_bytes,
                wake: (self.partitions > 1).then(|| keys.role_key("", "wake")),
                client: self.client,
            }),
            message: PhantomData,
        })
    }
}

impl<T> std::fmt::Debug for TopicBuilder<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicBuilder")
            .field("name", &self.name)
            .field("partitions", &self.partitions)
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
}
