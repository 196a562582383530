//! [`Worker`]: the tasks that consume a topic in this process.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redkit_core::coordination::Release;
use redkit_core::inspection::{Inspect, Snapshot};
use redkit_core::{Client, Invocation};
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Settings;
use super::acks::Acks;
use super::held::Held;
use super::jobs::JobQueue;
use super::making::{self, Making, Start, tell_of_gap};
use super::ordered;
use super::reader::Reader;
use super::run::{Counts, HeldSeat, Shared};
use crate::error::Error;
use crate::metrics::WorkerMetrics;
use crate::topic::Topic;
use crate::topic::delivery::BatchHandler;
use crate::topic::inspect;
use crate::topic::scripts::{self, Made, Seat};
use crate::unique_id::unique_id;

/// A process's consumer of a topic, from [`ConsumerBuilder::start`](super::ConsumerBuilder::start).
///
/// [`shutdown`](Self::shutdown) ends it in order. Dropping it ends it at once: handlers are dropped, and
/// what they had goes back to the group in the background.
pub struct Worker {
    team: Arc<dyn Team>,
    readers: Vec<AbortOnDropHandle<()>>,
    workers: Vec<AbortOnDropHandle<()>>,
    /// Tasks that readers and workers need until these have ended: heartbeats, and those that send acknowledgements.
    services: Vec<AbortOnDropHandle<()>>,
    _inspected: Arc<dyn Inspect>,
}

/// What a worker has done since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Messages that were handled.
    pub acknowledged: u64,
    /// Failed attempts that others follow.
    pub retried: u64,
    /// Messages that its handlers gave back.
    pub handed_back: u64,
    /// Messages that became dead letters.
    pub dead: u64,
    /// Messages that another consumer took, because this process was held up for a lease.
    pub lost: u64,
    /// Handlers that run now.
    pub running: u64,
    /// Messages in this process: waiting, or being handled.
    pub held: u64,
    /// Partitions that it reads: all, or those that it owns in an ordered group.
    pub partitions: u64,
    /// Whether the group is paused.
    pub is_paused: bool,
}

/// The consumer of an ordered group, whichever worker owns the partition.
const ORDERED: &str = "ordered";
/// How many entries one script gives back.
const AT_ONCE: usize = 500;

/// A worker's shared part, whatever its message and handler.
#[async_trait]
trait Team: Send + Sync {
    fn stats(&self) -> WorkerStats;
    fn drain(&self);
    fn abort(&self);
    fn settings(&self) -> &Settings;
    /// The requests that give everything back which is held, without an attempt.
    fn hand_back(&self) -> Vec<Invocation>;
    fn client(&self) -> &Client;
    /// Waits until the server has answered for all that was acknowledged.
    async fn flush(&self);
    async fn leave(&self);
}

#[async_trait]
impl<T, H> Team for Shared<T, H>
where
    T: Send + 'static,
    H: Send + Sync + 'static,
{
    fn stats(&self) -> WorkerStats {
        Shared::stats(self)
    }

    fn drain(&self) {
        self.draining.cancel();
    }

    fn abort(&self) {
        self.aborting.cancel();
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn hand_back(&self) -> Vec<Invocation> {
        let mut requests = Vec::new();
        for (index, token) in std::mem::take(&mut *self.owned.lock()) {
            if let Some(seat) = self.seats.get(index) {
                requests.push(scripts::disown(&seat.seat, token));
            }
        }
        for seat in &self.seats {
            let all = seat.held.take_all();
            for some in all.chunks(AT_ONCE) {
                let entries = some
                    .iter()
                    .map(|&(id, n)| (id, n, n.saturating_sub(1), Duration::ZERO));
                requests.push(seat.seat.release(entries));
            }
        }
        requests
    }

    fn client(&self) -> &Client {
        &self.client
    }

    async fn flush(&self) {
        // An ordered group's owners wait for each answer.
        if !self.settings.is_ordered {
            Shared::flush(self).await;
        }
    }

    async fn leave(&self) {
        // The consumer of an ordered group is all workers'.
        if self.settings.is_ordered {
            return;
        }
        let leave = self.seats.iter().map(|seat| seat.seat.leave());
        if let Err(error) = self.client.eval_all(leave).await {
            tracing::debug!(target: "redkit::pubsub", %error, "a consumer is removed by others");
        }
    }
}

pub(super) async fn start<T, H>(
    topic: Topic<T>,
    group: String,
    settings: Settings,
    handler: H,
) -> Result<Worker, Error>
where
    T: DeserializeOwned + Send + 'static,
    H: BatchHandler<T>,
{
    let inner = Arc::clone(&topic.inner);
    let client = inner.client.clone();
    let member: Box<str> = unique_id().to_string().into();
    let consumer = match settings.is_ordered {
        true => ORDERED.into(),
        false => member.clone(),
    };
    let (mut seats, mut lost) = (Vec::new(), Vec::new());
    let mut is_away = false;
    for partition in &inner.partitions {
        let start = match is_away {
            // Each further call would wait as long as the first.
            true => Start::Later(Making::first(&settings)),
            false => making::start(&client, partition, &group, &settings).await?,
        };
        let making = match start {
            Start::Made(Made::Anew) => {
                lost.push(seats.len());
                None
            }
            Start::Made(_) => None,
            Start::Later(making) => {
                is_away = true;
                Some(making)
            }
        };
        seats.push(HeldSeat {
            seat: Seat {
                partition: partition.clone(),
                keys: partition.group(&group),
                group: group.as_str().into(),
                consumer: consumer.clone(),
                lease: settings.lease,
            },
            held: Held::default(),
            acks: Acks::default(),
            making: parking_lot::Mutex::new(making),
        });
    }
    // So that a drop outside of a runtime can give back.
    client.prepare_releases();
    let at_once = settings.at_once();
    let shared = Arc::new(Shared {
        metrics: WorkerMetrics::new(&inner.name, &group),
        client: client.clone(),
        topic: inner,
        group: group.as_str().into(),
        handler,
        slots: Arc::new(Semaphore::new(at_once)),
        jobs: JobQueue::default(),
        gathering: Mutex::default(),
        draining: CancellationToken::new(),
        aborting: CancellationToken::new(),
        counts: Counts::default(),
        member,
        owned: parking_lot::Mutex::default(),
        message: PhantomData,
        seats,
        settings,
    });
    for seat in lost.into_iter().filter_map(|index| shared.seats.get(index)) {
        tell_of_gap(&shared, seat);
    }
    let (readers, workers, services) = match shared.settings.is_ordered {
        true => (
            vec![spawn(&shared, ordered::balance)],
            Vec::new(),
            Vec::new(),
        ),
        false => {
            let reader = |index| spawn(&shared, move |shared| Reader::new(shared, index).run());
            let work = || spawn(&shared, |shared| async move { shared.work().await });
            let keeper = spawn(&shared, |shared| async move { shared.keep().await });
            let teller = |index| {
                spawn(&shared, move |shared| async move {
                    if let Some(seat) = shared.seats.get(index) {
                        shared.tell_acknowledged(seat).await;
                    }
                })
            };
            let tellers = (0..shared.seats.len()).map(teller);
            (
                (0..shared.seats.len()).map(reader).collect(),
                (0..shared.settings.concurrency).map(|_| work()).collect(),
                tellers.chain([keeper]).collect(),
            )
        }
    };
    let team: Arc<dyn Team> = shared;
    let worker = Arc::clone(&team);
    let snapshot = move || snapshot(&*worker);
    let inspected = inspect::register(topic, group, Some(Box::new(snapshot)));
    Ok(Worker {
        team,
        readers,
        workers,
        services,
        _inspected: inspected,
    })
}

/// A task that begins again should it ever panic: no message is to wait for ever for that.
pub(in crate::topic) fn spawn<S, F>(
    shared: &Arc<S>,
    task: impl Fn(Arc<S>) -> F + Send + 'static,
) -> AbortOnDropHandle<()>
where
    S: Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    use futures_util::FutureExt;
    let shared = Arc::clone(shared);
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let run = std::panic::AssertUnwindSafe(task(Arc::clone(&shared)));
            if run.catch_unwind().await.is_ok() {
                return;
            }
            tracing::error!(target: "redkit::pubsub", "a task of a topic panicked, and is begun again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }))
}

impl Worker {
    /// What it has done.
    pub fn stats(&self) -> WorkerStats {
        self.team.stats()
    }

    /// Ends it in order: nothing more is begun; what is being handled has `grace` to end, and is dropped
    /// then; what was not finished goes back to the group at once, without having cost an attempt.
    pub async fn shutdown(mut self, grace: Duration) {
        self.team.drain();
        let ends = Instant::now() + grace;
        let readers = std::mem::take(&mut self.readers);
        let workers = std::mem::take(&mut self.workers);
        let team = Arc::clone(&self.team);
        let all = async {
            for task in readers.into_iter().chain(workers) {
                drop(task.await);
            }
            team.flush().await;
        };
        let mut all = std::pin::pin!(all);
        if tokio::time::timeout_at(ends, &mut all).await.is_err() {
            self.team.abort();
            // Handlers end at their next `await`, and readers when their wait at the server is over.
            let _ = timeout(LONGEST_READ, all).await;
        }
        self.services.clear();
        leave(&*self.team).await;
    }
}

/// Hands everything back, and leaves the group.
async fn leave(team: &dyn Team) {
    let requests = team.hand_back();
    let left = async {
        if let Err(error) = team.client().eval_all(requests.clone()).await {
            tracing::debug!(target: "redkit::pubsub", %error, "messages are handed back later");
            release_later(team, requests.clone());
        }
        team.leave().await;
    };
    if timeout(FAREWELL, left).await.is_err() {
        release_later(team, requests);
    }
}

/// In the background, for as long as it makes sense: after a lease others take what is left.
fn release_later(team: &dyn Team, requests: Vec<Invocation>) {
    if !requests.is_empty() {
        let until = Instant::now() + team.settings().lease;
        team.client()
            .release_later(Release::new(requests).until(until));
    }
}

/// How long an end in order waits for the server beyond its grace.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long a reader may be held by a reply that does not come.
const LONGEST_READ: Duration = Duration::from_secs(3);

impl Drop for Worker {
    fn drop(&mut self) {
        self.team.drain();
        self.team.abort();
        release_later(&*self.team, self.team.hand_back());
        let readers = std::mem::take(&mut self.readers);
        if let Ok(runtime) = Handle::try_current()
            && !readers.is_empty()
        {
            // What is on its way to a reader would be nobody's, so they end by themselves, for a bounded time.
            let team = Arc::clone(&self.team);
            runtime.spawn(async move {
                let all = async {
                    for reader in readers {
                        drop(reader.await);
                    }
                };
                let _ = timeout(LONGEST_READ, all).await;
                leave(&*team).await;
            });
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("stats", &self.stats())
            .field("concurrency", &self.team.settings().concurrency)
            .finish_non_exhaustive()
    }
}

/// What this process does for the group.
fn snapshot(team: &dyn Team) -> Snapshot {
    let stats = team.stats();
    Snapshot::default()
        .fact("is_paused", stats.is_paused)
        .fact("concurrency", team.settings().concurrency)
        .fact("running", stats.running)
        .fact("held", stats.held)
        .fact("partitions", stats.partitions)
        .fact("acknowledged", stats.acknowledged)
        .fact("retried", stats.retried)
        .fact("handed_back", stats.handed_back)
        .fact("dead", stats.dead)
        .fact("lost", stats.lost)
}
