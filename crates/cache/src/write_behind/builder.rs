//! [`WriteBehindBuilder`]: a queue's settings, checked when it is opened.

use std::fmt;
use std::time::Duration;

use redkit_core::Client;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::handle::WriteBehind;
use super::queue::Queue;
use super::settings::Settings;
use crate::cache::Cache;
use crate::error::Error;

/// Settings of a [`WriteBehind`], from [`WriteBehind::builder`].
///
/// Everything but `partitions` may differ between processes and change between deployments.
#[derive(Clone)]
#[must_use = "it does nothing until `open`"]
pub struct WriteBehindBuilder<V> {
    client: Client,
    name: String,
    cache: Option<Cache<V>>,
    settings: Settings,
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> WriteBehindBuilder<V> {
    pub(super) fn new(client: &Client, name: &str) -> Self {
        Self {
            client: client.clone(),
            name: name.to_owned(),
            cache: None,
            settings: Settings::default(),
        }
    }

    /// The cache in front of the database that the sink writes: keys are invalidated in it once
    /// they are written, and reads go to it when nothing is pending.
    pub fn cache(mut self, cache: &Cache<V>) -> Self {
        self.cache = Some(cache.clone());
        self
    }

    /// Into how many parts the queue is divided, each with a lease of its own. It is fixed with the
    /// first opening. Default: 16; at most 1024.
    pub fn partitions(mut self, partitions: u16) -> Self {
        self.settings.partitions = partitions;
        self
    }

    /// How many changes the sink gets at once, and how many have to be ready for a batch to be
    /// taken before its time. Default: 100; at most 1000.
    pub fn max_batch(mut self, changes: u32) -> Self {
        self.settings.max_batch = changes;
        self
    }

    /// How many bytes of values a batch holds, unless one alone is larger. Default: 4 MiB.
    pub fn max_batch_bytes(mut self, bytes: u32) -> Self {
        self.settings.max_batch_bytes = bytes;
        self
    }

    /// How long a change waits for others at most before its batch is due: the time in which
    /// writes of one key become one. Default: 1 s; zero writes as soon as a worker looks.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.settings.max_age = age;
        self
    }

    /// How many keys may be pending in each partition. Default: 100,000.
    pub fn max_pending(mut self, keys: u32) -> Self {
        self.settings.max_pending = keys;
        self
    }

    /// How long a write waits for a place in a full queue before it is refused. Default: not at
    /// all.
    pub fn wait_when_full(mut self, time: Duration) -> Self {
        self.settings.wait_when_full = time;
        self
    }

    /// How long the server remembers [write ids](super::WriteId), about 100 bytes each: longer than
    /// you repeat a write whose outcome is unknown. Default: 60 s.
    pub fn write_id_window(mut self, window: Duration) -> Self {
        self.settings.write_id_window = window;
        self
    }

    /// After how many failures a change becomes a dead letter. Default: 10, which with the default
    /// pauses is some two minutes.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.settings.max_attempts = attempts;
        self
    }

    /// The pause after the first failure, doubled for each further one, up to `most`. The actual
    /// pause lies between a half and the whole of that. Default: 200 ms, at most 60 s.
    pub fn backoff(mut self, first: Duration, most: Duration) -> Self {
        self.settings.backoff = (first, most);
        self
    }

    /// For how long a batch is leased at a time: after a worker died, its changes wait that long.
    /// Default: 10 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// How long the sink may take for a batch before the call is dropped and counts as failed. It
    /// may be longer than the lease, which is renewed meanwhile. Default: 30 s.
    pub fn sink_timeout(mut self, timeout: Duration) -> Self {
        self.settings.sink_timeout = timeout;
        self
    }

    /// How many batches, of different partitions, a worker writes at the same time. Default: 8.
    pub fn concurrency(mut self, batches: u32) -> Self {
        self.settings.concurrency = batches;
        self
    }

    /// How often a worker looks at each partition at least, though it is woken by whatever process writes or
    /// flushes. Default: 1 s. While it cannot be woken (its subscription is lost, or not allowed) it looks
    /// once in a quarter of `max_age`, or 10 ms, if that is more often.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.settings.poll_interval = Some(interval);
        self
    }

    /// Opens the queue, or makes it. One round trip per partition, 16 at a time.
    ///
    /// # Errors
    /// [`Error::Core`] with the setting that cannot work, or when Redis cannot be asked;
    /// [`Error::Partitions`] when the queue is there with another number of partitions.
    pub async fn open(self) -> Result<WriteBehind<V>, Error> {
        self.settings.check().map_err(redkit_core::Error::from)?;
        let queue = Queue::new(self.client, &self.name, self.settings)?;
        queue.open().await?;
        Ok(WriteBehind::new(queue, self.cache))
    }
}

impl<V> fmt::Debug for WriteBehindBuilder<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBehindBuilder")
            .field("name", &self.name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
