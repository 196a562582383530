//! [`LogReader`]: a log that is read without a group, as by a browser.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::coordination::Backoff;
use redkit_core::{Error as CoreError, FromValue, Value};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout_at};

use super::builder::Retention;
use super::entry::RawEntry;
use super::position::{LogPosition, Place};
use super::tail::Tail;
use super::{Topic, log_scripts};
use crate::channel::read;
use crate::error::Error;
use crate::inbox::ItemId;

/// Where a [`LogReader`] begins.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadFrom {
    /// With the oldest message that the log holds.
    Beginning,
    /// With what is published from now on.
    Now,
    /// Behind a position that a reader had before.
    After(LogPosition),
}

/// A reader's position, or from now on.
impl From<Option<LogPosition>> for ReadFrom {
    fn from(position: Option<LogPosition>) -> Self {
        position.map_or(ReadFrom::Now, ReadFrom::After)
    }
}

/// What a [`LogReader`] yields.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogEvent<T> {
    /// A message.
    Message(LogMessage<T>),
    /// Messages of a partition are missing here: the log had dropped them before they were read, or was lost.
    Gap {
        /// In which partition.
        partition: u32,
        /// A reader that begins behind it is not told of the gap again.
        position: LogPosition,
    },
    /// A message that is not a `T`. The reader goes on.
    Undecodable {
        /// Where it stands.
        position: LogPosition,
        /// Why. [`redkit_core::Error::Decode`] keeps the bytes.
        error: CoreError,
    },
}

/// A message of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogMessage<T> {
    /// What was published.
    pub payload: T,
    /// The message's id.
    pub id: String,
    /// The key, or nothing.
    pub key: Bytes,
    /// The headers.
    pub headers: BTreeMap<String, String>,
    /// In which partition.
    pub partition: u32,
    /// Where it stands in the stream of its partition.
    pub entry: ItemId,
    /// A reader that begins behind it goes on with the next message.
    pub position: LogPosition,
}

/// Reads a topic that is a log, without a group: nothing is acknowledged, and every reader has every message.
/// It begins anywhere, and says where messages are missing. A slow reader holds up nobody; what it is too slow
/// for comes from the log.
///
/// Messages that are [delayed](super::Publication::delay) come up to five seconds late to a log that no group's worker
/// consumes: then its readers move them, with each look.
///
/// The messages of a partition come in their order. All readers of a topic in a process share one connection
/// for each partition, which waits for what is new; each reads its messages itself, with one script a partition.
///
/// # When Redis is down
/// It waits, and goes on behind the last message that it gave.
pub struct LogReader<T> {
    topic: Topic<T>,
    tail: Arc<Tail>,
    /// Up to where events were handed on.
    position: LogPosition,
    partitions: Vec<Reading>,
    ready: VecDeque<Ready>,
    /// When it looks into all partitions, news or not.
    next_look: Instant,
    backoff: Backoff,
    /// The server's refusal for good, of which the reader ends behind what was read.
    refusal: Option<Error>,
}

/// How far a partition has been read.
struct Reading {
    place: Place,
    /// The news that was known when it was read to its end; `None` when there may be more.
    news: Option<u64>,
    /// It begins with what is there: what is gone was never to be read.
    is_beginning: bool,
    /// Until when it is not read, as it could not be, and the pauses.
    trouble: Option<Instant>,
    backoff: Backoff,
}

/// An event that was read, and is to be handed on.
struct Ready {
    partition: usize,
    place: Place,
    /// `None` for a gap.
    entry: Option<RawEntry>,
}

/// A connection waits for each of them.
const MOST_PARTITIONS: usize = 64;
/// How long a reader waits for news before it looks anyway.
const LOOK: Duration = Duration::from_secs(5);

/// The pauses after which it asks again.
fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(50), Duration::from_secs(1))
}

impl<T> Topic<T> {
    /// Reads the topic, which is a [log](Retention::Log), without a group.
    ///
    /// ```
    /// use redkit_pubsub::topic::{LogEvent, ReadFrom, Retention, Topic};
    /// # use redkit_core::{Client, ClientConfig};
    /// # use redkit_embedded::Embedded;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = Client::from_backend(std::sync::Arc::new(Embedded::new()), &ClientConfig::default())?;
    /// let retention = Retention::Log { keep: None, most: Some(10_000) };
    /// let news: Topic<String> = Topic::builder(&client, "news").retention(retention).build()?;
    /// news.publish("first").await?;
    ///
    /// let mut reader = news.read(ReadFrom::Beginning).await?;
    /// if let Some(LogEvent::Message(message)) = reader.next().await {
    ///     assert_eq!(message.payload, "first");
    ///     let later = news.read(ReadFrom::After(message.position)).await?; // goes on behind it
    /// #   drop(later);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] for a queue, a position of another number of partitions, and more than 64 partitions;
    /// [`Error::Core`] when Redis could not be asked.
    pub async fn read(&self, from: ReadFrom) -> Result<LogReader<T>, Error> {
        let inner = &self.inner;
        let count = inner.partitions.len();
        if inner.retention == Retention::Queue {
            let fix = "build the topic with `Retention::Log`, or use a consumer";
            let problem = "a queue deletes its messages once they are acknowledged";
            return Err(Error::invalid("read", problem, fix));
        }
        if count > MOST_PARTITIONS {
            let problem = format!("the topic has more than {MOST_PARTITIONS} partitions");
            let fix = "use fewer, or consumers";
            return Err(Error::invalid("read", problem, fix));
        }
        let tail = Tail::of(inner);
        let beginning = Place {
            entry: ItemId::BEGINNING,
            count: 0,
        };
        let is_beginning = from == ReadFrom::Beginning;
        let position = match from {
            ReadFrom::Beginning => LogPosition(vec![beginning; count]),
            ReadFrom::Now => {
                let calls = inner.partitions.iter().map(log_scripts::end_of_log);
                let mut places = Vec::with_capacity(count);
                for reply in inner.client.eval_all(calls).await? {
                    places.push(read::<Page>("EVALSHA", reply)?.from);
                }
                LogPosition(places)
            }
            ReadFrom::After(position) if position.0.len() == count => position,
            ReadFrom::After(_) => {
                let problem = "it is of a topic with another number of partitions";
                let fix = "give a position of this topic's messages, or read from now on";
                return Err(Error::invalid("position", problem, fix));
            }
        };
        let reading = |place: &Place| Reading {
            place: *place,
            news: None,
            is_beginning,
            trouble: None,
            backoff: backoff(),
        };
        Ok(LogReader {
            topic: self.clone(),
            tail,
            partitions: position.0.iter().map(reading).collect(),
            position,
            ready: VecDeque::new(),
            next_look: Instant::now() + LOOK,
            backoff: backoff(),
            refusal: None,
        })
    }
}

impl<T: DeserializeOwned> LogReader<T> {
    /// The next event; `None` when the client was shut down, or the server refuses for good to go on.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<LogEvent<T>> {
        loop {
            while let Some(ready) = self.ready.pop_front() {
                if let Some(event) = self.event(ready) {
                    return Some(event);
                }
            }
            match self.read().await {
                Ok(true) => self.backoff.reset(),
                Ok(false) => {
                    self.backoff.reset();
                    // The time is up: it looks by itself.
                    let until = self.partitions.iter().filter_map(|reading| reading.trouble);
                    let until = until.fold(self.next_look, Instant::min);
                    let _ = timeout_at(until, self.news()).await;
                }
                Err(error) if error.is_retryable() => {
                    let pause = self.backoff.next_pause();
                    tracing::debug!(target: "redkit::pubsub", %error, ?pause, "a log is read again");
                    sleep(pause).await;
                }
                Err(error) => {
                    tracing::warn!(target: "redkit::pubsub", %error, "a log cannot be read");
                    return None;
                }
            }
        }
    }

    /// Up to where events were handed on.
    pub fn position(&self) -> &LogPosition {
        &self.position
    }

    /// Reads on where there may be more. Gives whether there was any such partition. One that cannot be read holds up no
    /// other.
    async fn read(&mut self) -> Result<bool, Error> {
        if let Some(refusal) = self.refusal.take() {
            return Err(refusal);
        }
        // Now and then it looks into each by itself, whatever became of the news, and however much there is of the others'.
        if Instant::now() >= self.next_look {
            self.look_again();
            self.next_look = Instant::now() + LOOK;
        }
        let inner = &self.topic.inner;
        let (news, now) = (self.tail.news(), Instant::now());
        let (mut asked, mut calls) = (Vec::new(), Vec::new());
        for (index, reading) in self.partitions.iter().enumerate() {
            let known = news.get(index).copied();
            if (reading.news.is_none() || reading.news != known)
                && reading.trouble.is_none_or(|until| until <= now)
                && let Some(partition) = inner.partitions.get(index)
            {
                asked.push((index, known));
                let Place { entry, count } = reading.place;
                calls.push(log_scripts::read_log(partition, entry, count));
            }
        }
        if asked.is_empty() {
            return Ok(false);
        }
        let replies = inner.client.eval_all(calls).await?;
        for ((index, known), reply) in asked.into_iter().zip(replies) {
            let Some(reading) = self.partitions.get_mut(index) else {
                continue;
            };
            let page: Page = match read("EVALSHA", reply) {
                Ok(page) => page,
                Err(error) if error.is_retryable() => {
                    let pause = reading.backoff.next_pause();
                    tracing::debug!(
                        target: "redkit::pubsub", %error, partition = index, ?pause, "a log is read again"
                    );
                    reading.news = None;
                    reading.trouble = Some(Instant::now() + pause);
                    continue;
                }
                Err(error) => {
                    self.refusal = Some(error);
                    continue;
                }
            };
            reading.trouble = None;
            reading.backoff.reset();
            let mut place = page.from;
            if page.is_missing && !reading.is_beginning {
                self.ready.push_back(Ready {
                    partition: index,
                    place,
                    entry: None,
                });
            }
            reading.is_beginning = false;
            // A page that is full of bytes may be short.
            reading.news = page.entries.is_empty().then_some(known).flatten();
            for entry in page.entries {
                place = Place {
                    entry: entry.entry,
                    count: place.count + 1,
                };
                self.ready.push_back(Ready {
                    partition: index,
                    place,
                    entry: Some(entry),
                });
            }
            reading.place = place;
        }
        Ok(true)
    }

    /// Waits for news of the partitions that can be read.
    async fn news(&self) {
        let of = |reading: &Reading| match reading.trouble {
            Some(_) => None,
            None => Some(reading.news.unwrap_or_default()),
        };
        let known = self.partitions.iter().map(of).collect();
        self.tail.other_than(known).await;
    }

    fn look_again(&mut self) {
        for reading in &mut self.partitions {
            reading.news = None;
        }
    }

    /// `None` for an entry that is for one group only.
    fn event(&mut self, ready: Ready) -> Option<LogEvent<T>> {
        let Ready {
            partition: index,
            place,
            entry,
        } = ready;
        if let Some(at) = self.position.0.get_mut(index) {
            *at = place;
        }
        let of = self.topic.inner.partitions.get(index)?;
        let position = self.position.clone();
        let Some(entry) = entry else {
            let partition = of.number;
            return Some(LogEvent::Gap {
                partition,
                position,
            });
        };
        if !entry.group.is_empty() {
            return None;
        }
        let headers = entry.read_headers();
        let payload = entry.payload.unwrap_or_default();
        let codec = self.topic.inner.client.codec();
        Some(match codec.decode(of.stream.as_bytes(), payload) {
            Ok(payload) => LogEvent::Message(LogMessage {
                payload,
                id: String::from_utf8_lossy(&entry.id).into_owned(),
                key: entry.key,
                headers,
                partition: of.number,
                entry: entry.entry,
                position,
            }),
            Err(error) => LogEvent::Undecodable { position, error },
        })
    }
}

/// What a reading of a log gave.
struct Page {
    is_missing: bool,
    /// Behind which the entries come.
    from: Place,
    entries: Vec<RawEntry>,
}

impl FromValue for Page {
    fn from_value(value: Value) -> Result<Self, redkit_core::ValueError> {
        let (is_missing, (entry, count), entries): (u64, (ItemId, u64), Value) = value.to()?;
        let crate::scripts::Entries(entries) = entries.to()?;
        Ok(Self {
            is_missing: is_missing == 1,
            from: Place { entry, count },
            entries,
        })
    }
}

impl<T> fmt::Debug for LogReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReader")
            .field("topic", &self.topic)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
