//! [`Worker`]: the tasks that empty a queue.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::coordination::Backoff;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout_at};

use super::flush::{deadline, flush};
use super::queue::Queue;
use super::round::{Flusher, Next};
use super::sink::Sink;
use crate::cache::Cache;
use crate::error::Error;

/// Writes what is pending, until it is shut down or dropped.
///
/// Dropping it ends its tasks at once, as a crash would: a batch that is being written stays leased
/// until its lease runs out, and is then written by another worker, once more.
#[must_use = "dropping the worker ends it"]
pub struct Worker {
    queue: Arc<Queue>,
    stop: watch::Sender<bool>,
    /// One task per partition. Dropping the set ends them.
    tasks: JoinSet<()>,
}

impl Worker {
    pub(super) fn start<V, S>(queue: Arc<Queue>, cache: Option<Cache<V>>, sink: S) -> Self
    where
        V: Serialize + DeserializeOwned + Send + Sync + 'static,
        S: Sink<V>,
    {
        let (stop, stopped) = watch::channel(false);
        let permits = usize::try_from(queue.settings.concurrency).unwrap_or(usize::MAX);
        let context = Arc::new(WorkerContext {
            permits: Semaphore::new(permits.min(Semaphore::MAX_PERMITS)),
            _presence: Presence::new(&queue),
            flusher: Flusher {
                queue: Arc::clone(&queue),
                cache,
                sink: Arc::new(sink),
            },
        });
        let mut tasks = JoinSet::new();
        for index in 0..queue.partitions.len() {
            tasks.spawn(supervise(Arc::clone(&context), index, stopped.clone()));
        }
        Self { queue, stop, tasks }
    }

    /// Writes what is pending at the call, lets the batches that are being written end, and stops:
    /// all within `limit`, a day at most. What is not done by then stays in the queue for other workers; a batch in the
    /// middle of its writing, until its lease runs out.
    ///
    /// # Errors
    /// [`Error::NotFlushed`] when something that was pending is not written; [`Error::Core`]. The
    /// worker has ended in any case.
    pub async fn shutdown(mut self, limit: Duration) -> Result<(), Error> {
        let deadline = deadline(limit);
        let flushed = flush(&self.queue, limit).await;
        self.stop.send_replace(true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout_at(deadline, ended).await.is_err() {
            self.tasks.shutdown().await;
        }
        flushed
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("name", &self.queue.name)
            .finish_non_exhaustive()
    }
}

/// The state that the tasks of a worker share.
struct WorkerContext<V, S> {
    flusher: Flusher<V, S>,
    permits: Semaphore,
    _presence: Presence,
}

/// A worker of this process: when the last one ends, nobody here knows how the queue stands.
struct Presence(Arc<Queue>);

impl Presence {
    fn new(queue: &Arc<Queue>) -> Self {
        queue.metrics.worker_begins();
        Self(Arc::clone(queue))
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.metrics.worker_ends();
    }
}

/// Runs the task of a partition, and runs it again should it ever panic: a partition without one would be
/// written by nobody. The sink's panics do not get here.
async fn supervise<V, S>(
    context: Arc<WorkerContext<V, S>>,
    index: usize,
    stop: watch::Receiver<bool>,
) where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    S: Sink<V>,
{
    loop {
        let mut task = JoinSet::new();
        task.spawn(run(Arc::clone(&context), index, stop.clone()));
        match task.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                tracing::error!(target: "redkit::write_behind", queue = %context.flusher.queue.name, index, "a partition's task panicked, and is begun anew");
                sleep(TROUBLE.pause_after(u32::MAX)).await;
            }
            _ => return,
        }
    }
}

async fn run<V, S>(context: Arc<WorkerContext<V, S>>, index: usize, mut stop: watch::Receiver<bool>)
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    S: Sink<V>,
{
    let queue = &context.flusher.queue;
    let Some(partition) = queue.partitions.get(index) else {
        return;
    };
    let mut news = partition.wait_for_work();
    let (mut token, mut errors, mut outages) = (None, 0_u32, 0_u32);
    while !*stop.borrow() {
        let permit = tokio::select! {
            biased;
            permit = context.permits.acquire() => permit,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let next = context.flusher.round(partition, &mut token).await;
        drop(permit);
        let pause = match next {
            Ok(Next::Unavailable) => {
                outages = outages.saturating_add(1);
                queue.settings.backoff().pause_after(outages)
            }
            Ok(next) => {
                errors = 0;
                match next {
                    Next::In(pause) => {
                        let (interval, ask) = queue.settings.poll_intervals();
                        let pause = pause.unwrap_or(interval).min(interval);
                        tokio::select! {
                            biased;
                            _ = news.wait_or_ask(pause, ask) => {}
                            _ = stop.wait_for(|stop| *stop) => return,
                        }
                    }
                    Next::Now | Next::Unavailable => outages = 0,
                }
                continue;
            }
            Err(error) => {
                errors = errors.saturating_add(1);
                if errors == 1 {
                    tracing::warn!(target: "redkit::write_behind", queue = %queue.name, index, %error, "cannot reach the queue; trying again");
                }
                TROUBLE.pause_after(errors)
            }
        };
        tokio::select! {
            biased;
            () = sleep(pause) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Pauses while the queue cannot be reached.
const TROUBLE: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
