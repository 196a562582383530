//! One round of a worker on a partition: take a batch, write it, say how it went.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use redkit_core::random::random;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::lease::PartitionLease;
use super::queue::{Ending, Item, Partition, Queue, Take};
use super::sink::{Change, Sink, Verdict};
use super::sink_call::{self, Outcome};
use super::stored::decode;
use crate::cache::Cache;
use crate::error::Error;

/// The queue, the cache and the sink of a worker, for each of its partitions.
pub(super) struct Flusher<V, S> {
    pub(super) queue: Arc<Queue>,
    pub(super) cache: Option<Cache<V>>,
    pub(super) sink: Arc<S>,
}

/// When the next round is.
pub(super) enum Next {
    /// At once.
    Now,
    /// When something may be due: after so long, if that is known.
    In(Option<Duration>),
    /// The database cannot be reached.
    Unavailable,
}

/// A change, its version, and how it has ended.
type Report = Vec<(Bytes, u64, Ending)>;

impl<V, S> Flusher<V, S>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    S: Sink<V>,
{
    /// One round. `token` is the lease's, and is spent once the server has answered.
    pub(super) async fn round(
        &self,
        partition: &Partition,
        token: &mut Option<String>,
    ) -> Result<Next, Error> {
        let settings = &self.queue.settings;
        let sent = Instant::now();
        // After a call without a reply the same token: what it may have taken is taken anew.
        let taken = {
            let token = token.get_or_insert_with(new_token);
            partition.take(token, settings).await?
        };
        let token = token.take().unwrap_or_else(new_token);
        self.queue
            .metrics
            .seen(partition.index, taken.pending, taken.oldest, taken.dead);
        match taken.take {
            Take::Leased(left) => Ok(Next::In(Some(left))),
            Take::Nothing(wait) => Ok(Next::In(wait)),
            Take::Batch(items) => {
                let client = &self.queue.client;
                let lease = PartitionLease::hold(client, partition, token, settings.lease, sent);
                self.write(partition, items, lease).await
            }
        }
    }

    async fn write(
        &self,
        partition: &Partition,
        items: Vec<Item>,
        lease: PartitionLease,
    ) -> Result<Next, Error> {
        let (mut report, items, batch) = self.sort(items);
        let mut next = Next::Now;
        if !batch.is_empty() {
            let started = Instant::now();
            let limit = self.queue.settings.sink_timeout;
            let outcome = sink_call::call(&self.sink, batch, limit, &lease).await;
            self.queue.metrics.sink_duration.record(started.elapsed());
            match outcome {
                Outcome::Verdicts(verdicts) => {
                    let endings = items.iter().zip(verdicts);
                    report.extend(endings.map(|(item, verdict)| self.judge(item, verdict)));
                }
                Outcome::Failed(error) if error.is_unavailable() => {
                    tracing::warn!(target: "redkit::write_behind", queue = %self.queue.name, %error, "the database is unavailable");
                    let untried = |item: &Item| ending(item, Ending::Untried(Duration::ZERO));
                    report.extend(items.iter().map(untried));
                    next = Next::Unavailable;
                }
                Outcome::Failed(error) => {
                    tracing::warn!(target: "redkit::write_behind", queue = %self.queue.name, %error, changes = items.len(), "a batch failed");
                    match &*items {
                        // It was alone: nobody else can be to blame.
                        [item] => report.push(self.judge(item, Verdict::Retry(error))),
                        _ => report.extend(items.iter().map(|item| {
                            let pause = self.pause(item.own + item.shared + 1);
                            self.queue.metrics.retries.add_one();
                            ending(item, Ending::BatchFailed(pause))
                        })),
                    }
                }
                Outcome::NotStarted => {
                    self.queue.metrics.leases_lost.add_one();
                    let untried = |item: &Item| ending(item, Ending::Untried(Duration::ZERO));
                    report.extend(items.iter().map(untried));
                }
                Outcome::LeaseLost => {
                    // Another may be writing these changes, or will be: it has the say.
                    self.queue.metrics.leases_lost.add_one();
                    tracing::warn!(target: "redkit::write_behind", queue = %self.queue.name, partition = partition.index, "the lease was lost");
                    return Ok(Next::In(None));
                }
            }
        }
        // The cache may take its time: the lease is renewed meanwhile, so that nobody begins anew. Should
        // it be lost all the same, the report will hear of it.
        self.invalidate(&mut report).await;
        self.report(partition, &lease, &report).await?;
        Ok(next)
    }

    /// Sorts out what cannot be given to the sink.
    fn sort(&self, items: Vec<Item>) -> (Report, Vec<Item>, Vec<Change<V>>) {
        let (mut report, mut sound, mut batch) = (Vec::new(), Vec::new(), Vec::new());
        for item in items {
            if item.own >= self.queue.settings.max_attempts {
                // Its last failure was the end of a worker, which could not say so itself.
                report.push(self.give_up(&item, "the worker ended while writing it"));
                continue;
            }
            match decode(&self.queue, &item.key, &item.change) {
                Ok(value) => {
                    batch.push(Change {
                        key: item.key.clone(),
                        version: item.version,
                        value,
                        attempt: (item.own + item.shared).saturating_add(1),
                    });
                    sound.push(item);
                }
                // The error's own text names the key.
                Err(_) => report
                    .push(self.give_up(&item, "its bytes are not a value of the queue's type")),
            }
        }
        (report, sound, batch)
    }

    fn judge(&self, item: &Item, verdict: Verdict) -> (Bytes, u64, Ending) {
        match verdict {
            Verdict::Written | Verdict::Stale => {
                self.queue.metrics.written.add_one();
                ending(item, Ending::Written)
            }
            Verdict::Reject(error) => self.give_up(item, error.text()),
            Verdict::Retry(error) if item.own + 1 >= self.queue.settings.max_attempts => {
                self.give_up(item, error.text())
            }
            Verdict::Retry(_) => {
                self.queue.metrics.retries.add_one();
                ending(item, Ending::Failed(self.pause(item.own + item.shared + 1)))
            }
        }
    }

    fn give_up(&self, item: &Item, text: &str) -> (Bytes, u64, Ending) {
        self.queue.metrics.given_up.add_one();
        tracing::warn!(target: "redkit::write_behind", queue = %self.queue.name, error = text, "a change becomes a dead letter");
        ending(item, Ending::Dead(text.into()))
    }

    /// Tells the cache of every key that the database has, or may have, changed. What it could not
    /// be told of stays in the queue, where readers find it, and is written once more.
    async fn invalidate(&self, report: &mut Report) {
        let Some(cache) = &self.cache else { return };
        let keys: Vec<Bytes> = report
            .iter()
            .filter(|(_, _, ending)| matches!(ending, Ending::Written | Ending::Dead(_)))
            .map(|(key, _, _)| key.clone())
            .collect();
        let failed: HashSet<Bytes> = stream::iter(keys)
            .map(|key| async move {
                let result = cache.invalidate(&key).await;
                result.inspect_err(|error| {
                    tracing::warn!(target: "redkit::write_behind", queue = %self.queue.name, %error, "the cache was not told");
                }).err().map(|_| key)
            })
            .buffer_unordered(16)
            .filter_map(|failed| async { failed })
            .collect()
            .await;
        for (key, _, ending) in report {
            if failed.contains(key) {
                *ending = Ending::Untried(self.pause(1));
            }
        }
    }

    async fn report(
        &self,
        partition: &Partition,
        lease: &PartitionLease,
        report: &Report,
    ) -> Result<(), Error> {
        for failures in 1.. {
            match partition.report(lease.token(), report).await {
                Ok(true) => break,
                Ok(false) => {
                    self.queue.metrics.leases_lost.add_one();
                    break;
                }
                // Once the lease is over, the next to take the partition sorts it out.
                Err(error) if !lease.stands() => return Err(error),
                Err(_) => tokio::time::sleep(self.pause(failures)).await,
            }
        }
        Ok(())
    }

    fn pause(&self, failures: u32) -> Duration {
        self.queue.settings.backoff().pause_after(failures)
    }
}

fn ending(item: &Item, ending: Ending) -> (Bytes, u64, Ending) {
    (item.key.clone(), item.version, ending)
}

fn new_token() -> String {
    format!("{:016x}", random::<u64>())
}
