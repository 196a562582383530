//! [`Worker`]: the tasks that consume a topic in this process.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redkit_core::inspection::{Inspect, Snapshot};
use redkit_core::{Client, Invocation};
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Settings;
use super::acks::Acks;
use super::ending::Tasks;
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
use crate::topic::ordered_scripts;
use crate::topic::scripts::{Made, Seat};
use crate::unique_id::unique_id;

/// A process's consumer of a topic, from [`ConsumerBuilder::start`](super::ConsumerBuilder::start).
///
/// [`shutdown`](Self::shutdown) ends it in order. Dropping it ends it at once: handlers are dropped, and
/// what they had goes back to the group in the background, as what is on its way to this process does when it comes.
/// Outcomes that are on their way to the server are told to the end, until the server has not answered for three seconds,
/// or the client is shut down: [`Client::shutdown`] gives a worker that was dropped before a second for all of this.
pub struct Worker {
    team: Arc<dyn Team>,
    tasks: Option<Tasks>,
    runtime: Handle,
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

/// Which of the things that a worker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    All,
    /// All but the things of which an outcome is on its way to the server, or may be any moment.
    WithoutOutcome,
}

/// A worker's shared part, whatever its message and handler.
#[async_trait]
pub(super) trait Team: Send + Sync {
    fn stats(&self) -> WorkerStats;
    fn drain(&self);
    fn abort(&self);
    fn settings(&self) -> &Settings;
    /// The requests that give messages back which are held, without an attempt.
    fn hand_back(&self, which: Which) -> Vec<Invocation>;
    /// The requests that give partitions of an ordered group up.
    fn disown(&self, which: Which) -> Vec<Invocation>;
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

    fn hand_back(&self, which: Which) -> Vec<Invocation> {
        let mut requests = Vec::new();
        for seat in &self.seats {
            let all = seat.held.take(which);
            for some in all.chunks(AT_ONCE) {
                let entries = some
                    .iter()
                    .map(|&(id, n)| (id, n, n.saturating_sub(1), Duration::ZERO));
                requests.push(seat.seat.release(entries));
            }
        }
        requests
    }

    fn disown(&self, which: Which) -> Vec<Invocation> {
        let mut owned = self.owned.lock();
        let taken = owned.extract_if(.., |_, partition| which == Which::All || !partition.is_busy);
        let requests = taken.filter_map(|(index, partition)| {
            let seat = self.seats.get(index)?;
            Some(ordered_scripts::disown(&seat.seat, partition.token))
        });
        requests.collect()
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
    // In an ordered group only running handlers take places: `prefetch` counts for each partition by itself.
    let at_once = match settings.is_ordered {
        true => settings.concurrency,
        false => settings.at_once(),
    };
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
        tasks: Some(Tasks::new(&team, readers, workers, services)),
        team,
        runtime: Handle::current(),
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
    /// then; what was not finished goes back to the group at once, without having cost an attempt. A server that does
    /// not answer holds this up for five seconds beyond `grace`.
    pub async fn shutdown(mut self, grace: Duration) {
        if let Some(tasks) = &mut self.tasks {
            tasks.end(grace).await;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(tasks) = self.tasks.take() {
            tasks.end_in_background(&self.runtime);
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
