//! [`Topic`]: durable messages, on streams.

mod builder;
mod cancel;
mod consumer;
mod dead;
mod delivery;
mod entry;
mod inspect;
mod keys;
mod log;
mod log_scripts;
mod ordered_scripts;
mod position;
mod publication;
#[cfg(feature = "schedule")]
mod schedule;
mod scripts;
mod span;
mod stats;
mod tail;
mod trims;
mod watch;

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use redkit_core::{Client, Command, Key, Request, Value, slot};
use serde::Serialize;
use tracing::Instrument;

pub use self::builder::{Retention, TopicBuilder};
pub use self::consumer::{ConsumerBuilder, CreatedGroup, Gap, GapReason, Worker, WorkerStats};
pub use self::dead::{DeadLetter, DeadLetters};
pub use self::delivery::{BatchHandler, Delivery, Handler, Outcome, Outcomes};
use self::keys::Partition;
pub use self::log::{LogEvent, LogMessage, LogReader, ReadFrom};
pub use self::position::{LogPosition, NotAPosition};
use self::publication::Due;
pub use self::publication::{Deduplication, Publication, PublishOutcome, Published, TRACEPARENT};
#[cfg(feature = "schedule")]
pub use self::schedule::{Missed, Schedule, ScheduleBuilder};
pub use self::stats::GroupStats;
pub use self::watch::GroupWatch;
use crate::channel::{check_size, read};
use crate::error::Error;
use crate::inbox::ItemId;
use crate::metrics::TopicMetrics;
use crate::unique_id::unique_id;

/// Durable messages of one type: they are kept until every group of consumers has handled them, each group
/// by one of its consumers.
///
/// A message is delivered **at least once**: again when its consumer died, was paused for longer than its
/// lease, or said so. A handler with effects elsewhere guards them by [`Delivery::id`].
///
/// ```
/// use std::time::Duration;
/// use redkit_pubsub::topic::{Delivery, Outcome, Publication, Topic};
/// # use redkit_core::{Client, ClientConfig};
/// # use redkit_embedded::Embedded;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = Client::from_backend(std::sync::Arc::new(Embedded::new()), &ClientConfig::default())?;
/// let orders: Topic<String> = Topic::builder(&client, "orders").build()?;
/// orders.publish("packed").await?;
/// orders.publish_with("shipped", Publication::new().id("order-7-shipped")).await?;
///
/// let worker = orders
///     .consumer("mail")
///     .concurrency(4)
///     .start(|delivery: Delivery<String>| async move {
///         println!("attempt {}: {}", delivery.attempt, delivery.payload);
///         Outcome::Ack
///     })
///     .await?;
/// # while worker.stats().acknowledged < 2 { tokio::task::yield_now().await; tokio::time::sleep(Duration::from_millis(5)).await; }
/// worker.shutdown(Duration::from_secs(10)).await; // costs no message an attempt
/// # Ok(()) }
/// ```
///
/// # When Redis is down
/// Publishing fails as any call does. Consumers stay and go on when the server is back. When the server has
/// lost a group (its data were deleted, or a replica without it was promoted), the group is made anew from the
/// beginning of what the stream holds, and its consumers are told of one [`Gap`].
pub struct Topic<T> {
    inner: Arc<Inner>,
    message: PhantomData<fn() -> T>,
}

pub(crate) struct Inner {
    client: Client,
    name: Box<str>,
    partitions: Vec<Partition>,
    retention: Retention,
    max_message_bytes: usize,
    /// The channel of wake-ups of ordered groups; topics with one partition have none.
    wake: Option<Key>,
    /// When this process's publications trim.
    trims: trims::Trims,
    tail: tail::CurrentTail,
    metrics: TopicMetrics,
}

/// An id is not published again for so long, unless the publication says otherwise.
const ID_TTL: Duration = Duration::from_secs(86_400);
/// The record of a message that is never done goes after this time.
const UNDONE_TTL: Duration = Duration::from_secs(30 * 86_400);

impl<T> Topic<T> {
    /// Starts to build a topic: letters, digits, `-`, `_` and `.`.
    pub fn builder(client: &Client, name: impl Into<String>) -> TopicBuilder<T> {
        TopicBuilder::new(client, name.into())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Starts to build a consumer in `group`. Each message is handled by one consumer of each group.
    pub fn consumer(&self, group: impl Into<String>) -> ConsumerBuilder<T> {
        ConsumerBuilder::new(self.clone(), group.into())
    }

    /// Stops the deliveries to a group, in all processes, within half a second, until it is
    /// [resumed](Self::resume). What is being handled is finished; what waits for its handler goes on waiting.
    ///
    /// # Errors
    /// [`Error::Core`] when Redis could not be asked.
    pub async fn pause(&self, group: &str) -> Result<(), Error> {
        self.inner.set_paused(group, true).await
    }

    /// Deletes a group with its dead letters and all that it has not handled: its workers must have ended, as
    /// they would make it anew. What the other groups of a queue have acknowledged is deleted with it, and
    /// its ids may be published again. Gives whether there was such a group.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that cannot be a group, [`Error::Core`] when Redis could not be asked; it
    /// can be repeated. A group that was deleted by hand (`XGROUP DESTROY`) is cleared away by it as well.
    pub async fn delete_group(&self, group: &str) -> Result<bool, Error> {
        check_group(group)?;
        let inner = &self.inner;
        let calls = inner.partitions.iter();
        let calls = calls.map(|partition| scripts::delete_group(partition, group).idempotent(true));
        let mut was_there = false;
        for reply in inner.client.eval_all(calls).await? {
            was_there |= read::<u64>("EVALSHA", reply)? == 1;
        }
        if inner.retention == Retention::Queue {
            for partition in &inner.partitions {
                while scripts::sweep(&inner.client, partition).await? {}
            }
        }
        if let Some(first) = inner.partitions.first() {
            let members = Command::new("DEL").key(first.members(group));
            inner.client.call::<u64>(members.idempotent(true)).await?;
        }
        Ok(was_there)
    }

    /// Goes on with the deliveries to a group.
    ///
    /// # Errors
    /// [`Error::Core`] when Redis could not be asked.
    pub async fn resume(&self, group: &str) -> Result<(), Error> {
        self.inner.set_paused(group, false).await
    }
}

impl<T: Serialize> Topic<T> {
    /// Publishes a message. It is not sent again when nobody knows whether it was: when
    /// [`is_maybe`](redkit_core::Error::is_maybe) holds, it may have been published. With an
    /// [id](Publication::id) it can be repeated without harm.
    ///
    /// # Errors
    /// [`Error::TooLarge`], and [`Error::Core`] when it could not be encoded or stored.
    pub async fn publish<Q>(&self, message: &Q) -> Result<Published, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.publish_with(message, Publication::new()).await
    }

    /// As [`publish`](Self::publish), with an id, a key, headers, or a time.
    ///
    /// # Errors
    /// As [`publish`](Self::publish); [`Error::Invalid`] for a publication that cannot work.
    pub async fn publish_with<Q>(
        &self,
        message: &Q,
        publication: Publication,
    ) -> Result<Published, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let inner = &self.inner;
        let (id, to, request) = inner.publication(message, publication)?;
        let span = span::send(&inner.name, 1);
        let published = async {
            match request {
                Request::Command(command) => inner.client.call::<Value>(command).await,
                Request::Script(call) => inner.client.eval::<Value>(call).await,
            }
        };
        let published = async {
            match inner.trims.is_due(to.number) {
                true => {
                    let trimmed = [to];
                    tokio::join!(published, inner.trim(&trimmed, 1)).0
                }
                false => published.await,
            }
        };
        let published = match published.instrument(span.clone()).await {
            Ok(reply) => inner.published(id, Ok(reply)),
            Err(error) => {
                inner.metrics.publish_failures.increment(1);
                Err(error.into())
            }
        };
        span::sent(&span, std::slice::from_ref(&published));
        published
    }

    /// Publishes messages in one round trip (on a cluster: one to each node). Each has a result of its own;
    /// those of one key are in their order.
    ///
    /// # Errors
    /// When nothing is known of any of them: as [`publish_with`](Self::publish_with).
    pub async fn publish_batch<'q, Q>(
        &self,
        messages: impl IntoIterator<Item = (&'q Q, Publication)>,
    ) -> Result<Vec<Result<Published, Error>>, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized + 'q,
    {
        let inner = &self.inner;
        let (mut ids, mut requests, mut trims) = (Vec::new(), Vec::new(), Vec::new());
        for (message, publication) in messages {
            let (id, to, request) = inner.publication(message, publication)?;
            if inner.trims.is_due(to.number) {
                trims.push(to);
            }
            ids.push(id);
            requests.push(request);
        }
        // A log whose readers come later is trimmed by those that write it.
        let span = span::send(&inner.name, ids.len());
        let published = inner.client.eval_all(requests);
        let published = async { tokio::join!(published, inner.trim(&trims, ids.len())) };
        let (replies, ()) = published.instrument(span.clone()).await;
        let replies = replies.map_err(Error::from).inspect_err(|error| {
            inner.metrics.publish_failures.increment(ids.len() as u64);
            span::not_sent(&span, error);
        })?;
        let results = ids.into_iter().zip(replies);
        let results: Vec<_> = results
            .map(|(id, reply)| inner.published(id, reply))
            .collect();
        span::sent(&span, &results);
        Ok(results)
    }
}

impl Inner {
    /// Trims partitions of a log, of which so many entries were published at once.
    async fn trim(&self, partitions: &[&Partition], published: usize) {
        let Retention::Log { keep, most } = self.retention else {
            return;
        };
        let rounds = 1 + published / trims::PUBLISHED_A_ROUND;
        for partition in partitions {
            for _ in 0..rounds {
                match scripts::trim(&self.client, &partition.stream, keep, most).await {
                    Ok(true) => self.trims.has_more(partition.number),
                    Ok(false) => break,
                    Err(error) => {
                        tracing::debug!(target: "redkit::pubsub", %error, "a topic is trimmed later");
                        break;
                    }
                }
            }
        }
    }

    fn partition_of(&self, key: &[u8], id: &str) -> Option<&Partition> {
        if let [only] = &*self.partitions {
            return Some(only);
        }
        let of = match key {
            [] => slot(id.as_bytes()),
            key => slot(key),
        };
        let count = self.partitions.len();
        self.partitions.get(usize::from(of) % count.max(1))
    }

    fn publication<Q: Serialize + ?Sized>(
        &self,
        message: &Q,
        publication: Publication,
    ) -> Result<(String, &Partition, Request), Error> {
        let (mode, record_ttl) = self.mode_of(&publication)?;
        let id = match publication.id {
            Some(id) if id.is_empty() => {
                return Err(Error::invalid(
                    "id",
                    "it is empty",
                    "leave it out, or name the message",
                ));
            }
            Some(id) => id,
            None => unique_id().to_string(),
        };
        let Some(to) = self.partition_of(&publication.key, &id) else {
            return Err(Error::invalid(
                "partitions",
                "there are none",
                "give at least one",
            ));
        };
        let payload = self.client.codec().encode(to.stream.as_bytes(), message)?;
        let payload = check_size(payload, self.max_message_bytes)?;
        let headers = match publication.headers.is_empty() {
            true => Bytes::from_static(b"{}"),
            false => serde_json::to_vec(&publication.headers)
                .map_err(|_| Error::invalid("headers", "they are no text", "give text"))?
                .into(),
        };
        let headers = check_size(headers, self.max_message_bytes)?;
        if mode == "none" && publication.due == Due::Now && self.wake.is_none() {
            let add =
                Command::with_capacity("XADD", 64 + to.stream.as_bytes().len() + payload.len());
            let mut add = add.key(&to.stream).arg("*").arg("i").arg(&*id);
            // Each field costs the server, and whoever reads it, as much as a small message does. Entries have all of them
            // or these two: other shapes would not share their names.
            if publication.key.is_empty() && publication.headers.is_empty() {
                return Ok((id, to, add.arg("m").arg(payload).into()));
            }
            add = add.arg("k").arg(publication.key).arg("h").arg(headers);
            let add = add.arg("m").arg(payload);
            return Ok((id, to, add.arg("g").arg("").arg("d").arg("0").into()));
        }
        let call = scripts::publish(
            to,
            scripts::Publish {
                mode,
                record_ttl,
                due: due(publication.due)?,
                id: &id,
                key: &publication.key,
                headers,
                payload,
                wake: self.wake.as_ref().map(Key::to_bytes),
            },
        );
        // In the other modes a repetition may find that the first one was delivered meanwhile.
        let is_idempotent = mode == "for";
        Ok((id, to, call.idempotent(is_idempotent).into()))
    }

    fn mode_of(&self, publication: &Publication) -> Result<(&'static str, Duration), Error> {
        let Some(deduplication) = publication.deduplication else {
            return Ok(match publication.id {
                Some(_) => ("for", ID_TTL),
                None => ("none", ID_TTL),
            });
        };
        if publication.id.is_none() {
            let fix = "give the id by which the message is known again";
            return Err(Error::invalid("deduplicate", "the message has no id", fix));
        }
        let needs_queue = |mode| match self.retention {
            Retention::Queue => Ok((mode, UNDONE_TTL)),
            Retention::Log { .. } => Err(Error::invalid(
                "deduplicate",
                "nobody knows when a message of a log is done",
                "build the topic with `Retention::Queue`, or deduplicate for a time",
            )),
        };
        match deduplication {
            Deduplication::For(time) if time < Duration::from_millis(1) => {
                let problem = "the time is under a millisecond";
                Err(Error::invalid("deduplicate", problem, "give more"))
            }
            Deduplication::For(time) => Ok(("for", time)),
            Deduplication::UntilDone => needs_queue("done"),
            Deduplication::KeepLast => needs_queue("last"),
            Deduplication::Debounce if publication.due == Due::Now => {
                let problem = "a message that is published at once replaces none";
                Err(Error::invalid("deduplicate", problem, "give it a `delay`"))
            }
            Deduplication::Debounce => Ok(("debounce", ID_TTL)),
        }
    }

    fn published(
        &self,
        id: String,
        reply: Result<redkit_core::Value, redkit_core::CallError>,
    ) -> Result<Published, Error> {
        let read = match reply {
            Ok(Value::Array(_)) => read::<(String, String)>("EVALSHA", reply),
            _ => read::<String>("XADD", reply).map(|entry| (entry, "new".to_owned())),
        };
        let (entry, outcome) = read.inspect_err(|_| self.metrics.publish_failures.increment(1))?;
        let outcome = match &*outcome {
            "known" => PublishOutcome::Known,
            "replaced" => PublishOutcome::Replaced,
            "kept" => PublishOutcome::Kept,
            _ => PublishOutcome::New,
        };
        match outcome {
            PublishOutcome::New => self.metrics.published.increment(1),
            _ => self.metrics.deduplicated.increment(1),
        }
        Ok(Published {
            id,
            entry: entry.parse::<ItemId>().ok(),
            outcome,
        })
    }

    async fn set_paused(&self, group: &str, paused: bool) -> Result<(), Error> {
        let field = format!("paused:{group}");
        let commands = self.partitions.iter().map(|partition| match paused {
            true => Command::new("HSET")
                .key(&partition.state)
                .arg(&*field)
                .arg(1),
            false => Command::new("HDEL").key(&partition.state).arg(&*field),
        });
        let commands = commands.map(|command| command.idempotent(true)).collect();
        for reply in self.client.pipeline(commands).await? {
            read::<u64>("HSET", reply)?;
        }
        Ok(())
    }
}

/// As `topic_publish.lua` reads it.
fn due(due: Due) -> Result<String, Error> {
    // In µs. Scripts count exactly to 2^53, and add a delay to the time.
    const LONGEST_DELAY: u128 = 1 << 51;
    const LATEST: u128 = (1 << 53) - LONGEST_DELAY;
    let fix = "give an earlier time";
    match due {
        Due::Now => Ok(String::new()),
        Due::After(delay) if delay.as_micros() > LONGEST_DELAY => {
            Err(Error::invalid("delay", "it is over 71 years", fix))
        }
        Due::After(delay) => Ok(format!("+{}", delay.as_micros())),
        Due::At(time) => {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            match since.as_micros() > LATEST {
                true => Err(Error::invalid(
                    "deliver_at",
                    "it is after the year 2183",
                    fix,
                )),
                false => Ok(since.as_micros().to_string()),
            }
        }
    }
}

pub(crate) fn check_group(group: &str) -> Result<(), Error> {
    let is_valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    match !group.is_empty() && group.bytes().all(is_valid) {
        true => Ok(()),
        false => Err(Error::invalid(
            "group",
            "it is empty or holds something else than letters, digits, `-`, `_` and `.`",
            "choose a short name such as `mail`",
        )),
    }
}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            message: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic")
            .field("name", &self.inner.name)
            .field("partitions", &self.inner.partitions.len())
            .field("retention", &self.inner.retention)
            .finish_non_exhaustive()
    }
}
