//! [`ConsumerBuilder`]: how a process consumes a topic.

mod acks;
mod ending;
mod handle;
mod held;
mod jobs;
mod line;
mod making;
mod ordered;
mod reader;
mod run;
mod settle;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use redkit_core::Admission;
use redkit_core::coordination::Backoff;
use serde::de::DeserializeOwned;

pub use self::making::CreatedGroup;
#[cfg(feature = "schedule")]
pub(super) use self::worker::spawn;
pub use self::worker::{Worker, WorkerStats};
use super::delivery::{BatchHandler, Handler, OneByOne};
use super::{Topic, check_group};
use crate::error::Error;

/// Messages may be missing, or come again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// In which partition.
    pub partition: u32,
    /// Why.
    pub reason: GapReason,
}

/// Why messages may be missing, or come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GapReason {
    /// The server had lost the group, and it was made anew from the beginning of what the stream holds: what
    /// was lost with the data does not come, and what was acknowledged and is still there comes again.
    GroupLost,
}

/// Builds a [`Worker`].
#[must_use]
pub struct ConsumerBuilder<T> {
    topic: Topic<T>,
    group: String,
    settings: Settings,
}

/// How a worker works.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) concurrency: usize,
    pub(super) prefetch: usize,
    /// How many messages a handler is given at most, and for how long they are waited for.
    pub(super) batch: (usize, Duration),
    pub(super) from_now: bool,
    pub(super) is_ordered: bool,
    pub(super) max_attempts: u32,
    pub(super) backoff: (Duration, Duration),
    pub(super) timeout: Duration,
    pub(super) lease: Duration,
    pub(super) most_dead: u32,
    pub(super) keep_dead: Duration,
    pub(super) admission: Option<Arc<dyn Admission>>,
    pub(super) on_gap: Option<Arc<dyn Fn(Gap) + Send + Sync>>,
}

impl<T> ConsumerBuilder<T> {
    pub(super) fn new(topic: Topic<T>, group: String) -> Self {
        Self {
            topic,
            group,
            settings: Settings {
                concurrency: 1,
                prefetch: 0,
                batch: (100, Duration::from_millis(50)),
                from_now: false,
                is_ordered: false,
                max_attempts: 10,
                backoff: (Duration::from_secs(1), Duration::from_secs(300)),
                timeout: Duration::from_secs(60),
                lease: Duration::from_secs(30),
                most_dead: 10_000,
                keep_dead: Duration::from_secs(30 * 86_400),
                admission: None,
                on_gap: None,
            },
        }
    }

    /// How many messages are handled at the same time; 1 at first. With [`start_batches`](Self::start_batches):
    /// how many batches.
    pub fn concurrency(mut self, messages: usize) -> Self {
        self.settings.concurrency = messages;
        self
    }

    /// How many messages wait in this process beside those that are being handled; none at first. More of
    /// them hide the way to the server when handlers are fast: a handler goes on with one of them while the
    /// message before is acknowledged. When the process dies, each of them has had an attempt.
    pub fn prefetch(mut self, messages: usize) -> Self {
        self.settings.prefetch = messages;
        self
    }

    /// How many messages a batch has at most, and for how long the first of them waits for others: 100 for
    /// 50 ms at first. Only for [`start_batches`](Self::start_batches).
    pub fn batch(mut self, messages: usize, wait: Duration) -> Self {
        self.settings.batch = (messages, wait);
        self
    }

    /// A new group begins with what is published from now on. Otherwise it begins with what the stream
    /// holds, as does a group that the server had lost.
    pub fn from_now(mut self) -> Self {
        self.settings.from_now = true;
        self
    }

    /// Handles the messages of each key in the order of their publication: each partition is one worker's
    /// at a time, under a lease, and its messages are handled one after the other. The partitions are
    /// shared out evenly among the group's workers; when workers come and go they are handed over in
    /// order. A message that fails is tried again before those behind it; with a delay, or redriven, a
    /// message has the place of its delivery. [`prefetch`](Self::prefetch) is how many messages come at once
    /// for each partition.
    pub fn ordered(mut self) -> Self {
        self.settings.is_ordered = true;
        self
    }

    /// How often a message is tried before it becomes a dead letter; 10 times at first.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.settings.max_attempts = attempts;
        self
    }

    /// How long a message waits after a failed attempt: a second at first and doubled with each further
    /// attempt, five minutes at most, of each a random part above the half.
    pub fn backoff(mut self, first: Duration, most: Duration) -> Self {
        self.settings.backoff = (first, most);
        self
    }

    /// How long a handler may take; a minute at first. Longer is a failed attempt.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// After which time without a sign of life this process's messages go to others; 30 s at first. Signs
    /// of life come three times as often, however long the handlers take. All workers of a group give the
    /// same: between half a second and a day.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// How many dead letters each partition keeps, and for how long after the last: 10,000 for 30 days at
    /// first.
    pub fn dead_letters(mut self, most: u32, keep: Duration) -> Self {
        self.settings.most_dead = most;
        self.settings.keep_dead = keep;
        self
    }

    /// Asks before each message is handled: a rate, or how much runs at the same time, in all processes
    /// together. The key that it is asked for is `<topic>:<group>`. A batch has those of its messages that are admitted
    /// at once, behind the first, which is waited for; the others go to the next handler that is free.
    pub fn admission(mut self, admission: Arc<dyn Admission>) -> Self {
        self.settings.admission = Some(admission);
        self
    }

    /// Is told when messages may be missing: one of a group's workers is told of each time. It must not
    /// block.
    pub fn on_gap(mut self, on_gap: impl Fn(Gap) + Send + Sync + 'static) -> Self {
        self.settings.on_gap = Some(Arc::new(on_gap));
        self
    }

    /// Makes the group ahead of its first worker, in all partitions: from now on each message is kept for it. Without that the
    /// first worker makes it, and what other groups of a [queue](super::Retention::Queue) had done with until then is gone. A
    /// deployment calls this before anything is published, as often as it likes: a group that is there stays as it is.
    ///
    /// Of the settings only [`ordered`](Self::ordered) and [`from_now`](Self::from_now) matter to it. A group that the server
    /// has lost, while it has kept the topic's state, is left to the workers, which are told of [the gap](Self::on_gap): until one
    /// starts nothing is kept for the group in that partition, and the result names it. Where the state is lost as well, as by a
    /// restart without persistence, the group is new. It takes two round trips, however many partitions there are (on a cluster
    /// to each node), and a third where the server does not have the script yet.
    ///
    /// ```
    /// # use redkit_pubsub::topic::{Delivery, Outcome, Topic};
    /// # use redkit_core::{Client, ClientConfig};
    /// # use redkit_embedded::Embedded;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = Client::from_backend(std::sync::Arc::new(Embedded::new()), &ClientConfig::default())?;
    /// let orders: Topic<u32> = Topic::builder(&client, "orders").partitions(8).build()?;
    /// for group in ["mail", "stock"] {
    ///     let created = orders.consumer(group).create_group().await?;
    ///     if created.is_lost() {
    ///         eprintln!("{group} has lost messages of the partitions {:?}: start its workers", created.lost);
    ///     }
    /// }
    /// orders.publish(&7).await?; // both groups have it, whichever worker starts first
    /// # let worker = orders.consumer("mail").start(|_: Delivery<u32>| async { Outcome::Ack }).await?;
    /// # worker.shutdown(std::time::Duration::from_secs(1)).await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that cannot be a group, [`Error::GroupClash`] when the group is one of the other kind
    /// (ordered or not), and then it was made in no partition unless both kinds are made at the same time; [`Error::Core`] when Redis could not be asked or refuses,
    /// and then the group may be there in some partitions, and the call can be repeated.
    pub async fn create_group(&self) -> Result<CreatedGroup, Error> {
        check_group(&self.group)?;
        making::create(&self.topic.inner, &self.group, &self.settings).await
    }

    fn check(&self) -> Result<(), Error> {
        check_group(&self.group)?;
        let settings = &self.settings;
        if settings.batch.0 == 0 {
            let fix = "give at least one message";
            return Err(Error::invalid("batch", "it has no message", fix));
        }
        if settings.batch.1 > settings.lease {
            let fix = "give far less: messages wait in the process meanwhile";
            return Err(Error::invalid(
                "batch",
                "it waits for longer than a lease",
                fix,
            ));
        }
        if settings.concurrency == 0 || settings.at_once() > MOST_AT_ONCE {
            let problem = format!(
                "times `batch` and together with `prefetch` it is not between 1 and {MOST_AT_ONCE}"
            );
            return Err(Error::invalid(
                "concurrency",
                problem,
                "give what the process can handle",
            ));
        }
        if settings.max_attempts == 0 {
            return Err(Error::invalid(
                "max_attempts",
                "it is zero",
                "give at least one",
            ));
        }
        if settings.most_dead == 0 {
            return Err(Error::invalid(
                "dead_letters",
                "none is kept",
                "keep at least one",
            ));
        }
        let millisecond = Duration::from_millis(1);
        for (what, time, least) in [
            ("timeout", settings.timeout, millisecond),
            ("lease", settings.lease, LEAST_LEASE),
            ("dead_letters", settings.keep_dead, millisecond),
        ] {
            if time < least {
                let problem = format!("it is under {least:?}");
                return Err(Error::invalid(what, problem, "give more"));
            }
        }
        if settings.lease > LONGEST_LEASE {
            let problem = format!("it is over {LONGEST_LEASE:?}");
            let fix = "give less: the messages of a process that dies wait for as long";
            return Err(Error::invalid("lease", problem, fix));
        }
        Ok(())
    }
}

/// What a worker holds at most: each is named in every heartbeat.
const MOST_AT_ONCE: usize = 10_000;
/// A shorter lease would be lost by a slow reply.
const LEAST_LEASE: Duration = Duration::from_millis(500);
const LONGEST_LEASE: Duration = Duration::from_secs(86_400);

impl<T: DeserializeOwned + Send + 'static> ConsumerBuilder<T> {
    /// Makes sure that the group exists, and starts to consume, in tasks of this runtime.
    ///
    /// When Redis is away, the worker starts all the same, and makes the group as soon as the server is back: a
    /// process that is deployed meanwhile needs no loop around this call.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a setting that cannot work, [`Error::GroupClash`] when the group is one of the
    /// other kind (ordered or not), [`Error::Core`] when Redis refuses (a right is missing, say).
    pub async fn start(mut self, handler: impl Handler<T>) -> Result<Worker, Error> {
        self.settings.batch = (1, Duration::ZERO);
        self.check()?;
        let handler = OneByOne(handler);
        worker::start(self.topic, self.group, self.settings, handler).await
    }

    /// As [`start`](Self::start), with a handler that is given several messages at once, as many as
    /// [`batch`](Self::batch) says and an [`admission`](Self::admission) admits. Each of them has an attempt, a backoff and
    /// dead letters of its own.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use redkit_pubsub::topic::{Delivery, Topic};
    /// # use redkit_core::{Client, ClientConfig};
    /// # use redkit_embedded::Embedded;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = Client::from_backend(std::sync::Arc::new(Embedded::new()), &ClientConfig::default())?;
    /// # let clicks: Topic<u32> = Topic::builder(&client, "clicks").build()?;
    /// let consumer = clicks.consumer("warehouse").batch(500, Duration::from_millis(200));
    /// let worker = consumer
    ///     .start_batches(|clicks: Vec<Delivery<u32>>| async move {
    ///         println!("one statement for {} rows", clicks.len());
    ///         Ok::<(), std::io::Error>(()) // an error would be a failed attempt of all of them
    ///     })
    ///     .await?;
    /// # worker.shutdown(Duration::from_secs(1)).await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`start`](Self::start); [`Error::Invalid`] for an [ordered](Self::ordered) group, whose messages are
    /// handled one after the other.
    pub async fn start_batches(self, handler: impl BatchHandler<T>) -> Result<Worker, Error> {
        if self.settings.is_ordered {
            let problem = "an ordered group handles one message after the other";
            let fix = "leave out `ordered`, or use `start`";
            return Err(Error::invalid("start_batches", problem, fix));
        }
        self.check()?;
        worker::start(self.topic, self.group, self.settings, handler).await
    }
}

impl Settings {
    /// The kind of the group.
    pub(super) fn mode(&self) -> &'static str {
        match self.is_ordered {
            true => "ordered",
            false => "shared",
        }
    }

    /// How many messages the worker has at most.
    pub(super) fn at_once(&self) -> usize {
        let handled = self.concurrency.saturating_mul(self.batch.0);
        handled.saturating_add(self.prefetch)
    }

    pub(super) fn pause_after(&self, attempt: u32) -> Duration {
        let (first, most) = self.backoff;
        Backoff::new(first, most).pause_after(attempt)
    }
}

impl<T> std::fmt::Debug for ConsumerBuilder<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("topic", &self.topic)
            .field("group", &self.group)
            .field("concurrency", &self.settings.concurrency)
            .field("is_ordered", &self.settings.is_ordered)
            .finish_non_exhaustive()
    }
}
