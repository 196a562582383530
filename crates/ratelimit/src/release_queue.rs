//! [`ReleaseQueue`]: what dropped permits and waits leave to be given back, where nobody can wait.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use redkit_core::{Client, Command, Key, Tally};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::scripts::{Id, text};

/// Removes members of sorted sets in the background: leases that were released, waiters in queues that
/// gave up. One task runs from the first need on; it is replaced should it ever die.
///
/// A release that fails is not repeated but counted: the members that it would remove run out by
/// themselves.
pub(crate) struct ReleaseQueue {
    runner: Mutex<Option<Runner>>,
    lost: Arc<Tally>,
}

/// Take `id` out of the sorted sets at `keys`, which share a slot.
pub(crate) struct Release {
    pub(crate) client: Client,
    pub(crate) keys: Vec<Key>,
    pub(crate) id: Id,
}

/// The task, owned by this: when it is dropped the task may finish what is queued, so that a limiter
/// that is dropped leaves nothing behind, and is stopped after [`FAREWELL`] at the latest.
struct Runner {
    queue: mpsc::Sender<Release>,
    runtime: Handle,
    /// Dropped with this, which the task sees.
    _owner: oneshot::Sender<()>,
}

/// How many releases wait at most, so that a server which hangs costs bounded memory. Further ones
/// are lost.
const QUEUED: usize = 16_384;
/// How many releases go in one round trip.
const BATCH: usize = 64;
/// How many round trips are under way at the same time, so that one shard which hangs does not hold
/// up what is told to the others.
const AT_ONCE: usize = 32;
/// For how long the task may go on without its owner.
const FAREWELL: Duration = Duration::from_secs(1);

impl ReleaseQueue {
    pub(crate) fn new(limiter: &str) -> Self {
        Self {
            runner: Mutex::default(),
            lost: Arc::new(Tally::new(metrics::counter!(
                "redkit_ratelimit_releases_lost_total", "limiter" => limiter.to_owned()
            ))),
        }
    }

    /// Makes sure that a task runs; call it from within a runtime, before there is anything to drop.
    pub(crate) fn prepare(&self) {
        let mut runner = self.runner.lock();
        if runner
            .as_ref()
            .is_none_or(|runner| runner.queue.is_closed())
        {
            *runner = Some(Runner::start(Handle::current(), Arc::clone(&self.lost)));
        }
    }

    /// Queues an release. Without a runtime that still runs it is lost.
    pub(crate) fn send(&self, release: Release) {
        let mut runner = self.runner.lock();
        let Some(running) = &mut *runner else {
            return self.lost.add_one();
        };
        let release = match running.queue.try_send(release) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(_)) => return self.lost.add_one(),
            Err(mpsc::error::TrySendError::Closed(release)) => release,
        };
        // It only ends before its owner when it panics, or its runtime is over: then so is the next.
        tracing::warn!(target: "redkit::ratelimit", "the task that releases had died, and is replaced");
        *running = Runner::start(running.runtime.clone(), Arc::clone(&self.lost));
        if running.queue.try_send(release).is_err() {
            self.lost.add_one();
        }
    }
}

impl Runner {
    fn start(runtime: Handle, lost: Arc<Tally>) -> Self {
        let (queue, releases) = mpsc::channel(QUEUED);
        let (owner, gone) = oneshot::channel();
        runtime.spawn(run_for(gone, releases, lost));
        Self {
            queue,
            runtime,
            _owner: owner,
        }
    }
}

impl fmt::Debug for ReleaseQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReleaseQueue").finish_non_exhaustive()
    }
}

impl Release {
    pub(crate) fn commands(&self) -> impl Iterator<Item = Command> + '_ {
        // Removed twice is as good as once.
        self.keys.iter().map(|key| {
            let command = Command::new("ZREM").key(key).arg(text(self.id));
            command.idempotent(true)
        })
    }
}

/// Runs releases until their owner is gone and they are done, or [`FAREWELL`] has passed since.
async fn run_for(
    owner: oneshot::Receiver<()>,
    mut queue: mpsc::Receiver<Release>,
    lost: Arc<Tally>,
) {
    let mut work = pin!(run(&mut queue, &lost));
    tokio::select! {
        () = &mut work => return,
        // Nothing is ever sent: it is gone.
        _ = owner => {}
    }
    if timeout(FAREWELL, work).await.is_err() {
        tracing::debug!(target: "redkit::ratelimit", "stopped, with releases left to run out");
    }
}

async fn run(queue: &mut mpsc::Receiver<Release>, lost: &Tally) {
    let mut releases = Vec::with_capacity(BATCH);
    let mut under_way = FuturesUnordered::new();
    let mut is_open = true;
    while is_open || !under_way.is_empty() {
        tokio::select! {
            count = queue.recv_many(&mut releases, BATCH), if is_open && under_way.len() < AT_ONCE => {
                is_open = count > 0;
                while let Some(last) = releases.pop() {
                    let batch = take_of_same_client(last, &mut releases);
                    under_way.push(release_all(batch, lost));
                }
            }
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
        }
    }
}

/// An release and all others of the same client: nearly always all there are.
fn take_of_same_client(first: Release, others: &mut Vec<Release>) -> Vec<Release> {
    let client = first.client.clone();
    let is_same = |other: &mut Release| Arc::ptr_eq(other.client.backend(), client.backend());
    let mut batch = vec![first];
    batch.extend(others.extract_if(.., is_same));
    batch
}

async fn release_all(batch: Vec<Release>, lost: &Tally) {
    let Some(first) = batch.first() else { return };
    let commands: Vec<Command> = batch.iter().flat_map(Release::commands).collect();
    let not_released = match first.client.pipeline(commands).await {
        Ok(replies) => {
            let mut replies = replies.iter();
            let is_not_released = |release: &&Release| {
                let own = replies.by_ref().take(release.keys.len());
                own.filter(|reply| reply.is_err()).count() > 0
            };
            batch.iter().filter(is_not_released).count()
        }
        Err(error) => {
            tracing::debug!(target: "redkit::ratelimit", %error, "left to run out");
            batch.len()
        }
    };
    (0..not_released).for_each(|_| lost.add_one());
}

#[cfg(test)]
mod tests {
    use redkit_core::ClientConfig;
    use redkit_embedded::Embedded;

    use super::*;

    #[tokio::test]
    async fn the_queue_is_bounded_and_lost_releases_are_counted() {
        let engine = Arc::new(Embedded::new());
        let client = Client::from_backend(engine, &ClientConfig::default()).unwrap();
        let key = client.key("set");
        let add = Command::new("ZADD").key(&key).arg(1).arg(text(7));
        client.call::<i64>(add).await.unwrap();
        let releases = ReleaseQueue::new("l");
        let send = || {
            releases.send(Release {
                client: client.clone(),
                keys: vec![key.clone()],
                id: 7,
            });
        };
        send();
        assert_eq!(releases.lost.get(), 1, "nothing runs yet");
        releases.prepare();
        // The task has no turn meanwhile.
        for _ in 0..QUEUED + 500 {
            send();
        }
        assert_eq!(releases.lost.get(), 501);
        let left = async || {
            client
                .call::<i64>(Command::new("ZCARD").key(&key))
                .await
                .unwrap()
        };
        while left().await > 0 {
            tokio::task::yield_now().await;
        }
        let is_lost = async |count| {
            let lost = async {
                while releases.lost.get() < count {
                    tokio::task::yield_now().await;
                }
            };
            timeout(Duration::from_secs(10), lost)
                .await
                .expect("it is counted");
        };
        // Each is counted by its own reply.
        let other = client.key("text");
        let set = Command::new("SET").key(&other).arg("v");
        client.call::<()>(set).await.unwrap();
        for keys in [vec![key.clone(), other.clone()], vec![key.clone()]] {
            releases.send(Release {
                client: client.clone(),
                keys,
                id: 7,
            });
        }
        is_lost(502).await;
        client.shutdown().await;
        send();
        is_lost(503).await;
        assert_eq!(releases.lost.get(), 503);
    }
}
