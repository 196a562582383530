//! [`ReleaseQueue`]: what a dropped guard leaves to be done, where nobody can wait.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use crate::client::{Client, Request};
use crate::error::CallError;
use crate::tally::Tally;

/// The work that a dropped guard leaves: requests that give something back, for
/// [`Client::release_later`].
///
/// Mark the requests as [idempotent](crate::Command::idempotent) where they are: a release that
/// compares its owner's token is as good twice as once, and only then can it be repeated when its
/// reply is lost. Each request stands for itself: what was carried out is not repeated because another
/// was not.
#[derive(Debug)]
pub struct Release {
    requests: Vec<Request>,
    until: Option<Instant>,
    /// It may go on for longer than [`LONGEST`].
    is_patient: bool,
    lost: Option<Arc<Tally>>,
}

impl Release {
    /// A release that is tried once (and as often as the client's own retry says).
    pub fn new(requests: impl IntoIterator<Item = impl Into<Request>>) -> Self {
        Self {
            requests: requests.into_iter().map(Into::into).collect(),
            until: None,
            is_patient: false,
            lost: None,
        }
    }

    /// Until when the release is worth repeating: when what it gives back runs out by itself. At most
    /// a minute.
    #[must_use]
    pub fn until(mut self, until: Instant) -> Self {
        self.until = Some(until.min(Instant::now() + LONGEST));
        self.is_patient = false;
        self
    }

    /// As [`until`](Self::until), for up to a day: for what would be missed if it were given up after a minute, such as
    /// the result of work. The longer it goes on, the longer are the pauses, up to a quarter of a minute; the last attempts
    /// are made shortly before the end. When half of the places are taken, it is given up after a minute as well.
    #[must_use]
    pub fn patiently_until(mut self, until: Instant) -> Self {
        self.until = Some(until.min(Instant::now() + LONGEST_OF_THE_PATIENT));
        self.is_patient = true;
        self
    }

    /// Counts the release there when the server could not be told.
    #[must_use]
    pub fn counted_by(mut self, lost: Arc<Tally>) -> Self {
        self.lost = Some(lost);
        self
    }
}

/// Says that a task gives something back itself, from [`Client::releasing`]. Dropped when it has.
#[derive(Debug)]
#[must_use = "a shutdown waits for it only until it is dropped"]
pub struct Releasing(Arc<watch::Sender<usize>>);

/// The releases of one client. One task runs from the first need on; it is replaced should it ever
/// end early. Releases go out in batches, each a pipeline, so that a hung node of a cluster holds up
/// the replies of one batch and not the other releases.
pub(crate) struct ReleaseQueue {
    runner: Mutex<Option<Runner>>,
    outstanding: Arc<watch::Sender<usize>>,
    /// Whether the client is about to be shut down: then nothing waits for long to be tried again.
    is_hurried: watch::Sender<bool>,
}

struct Runner {
    queue: mpsc::UnboundedSender<Queued>,
    runtime: Handle,
}

/// A release on its way. It keeps its client alive, so that a release outlives the last handle of its
/// user. When it is dropped undone it is counted as lost.
struct Queued {
    client: Client,
    release: Release,
    failures: u32,
    outstanding: Arc<watch::Sender<usize>>,
    /// Whether some of the requests cannot be repeated any more.
    is_lost: bool,
}

/// How many releases wait or are under way at most, so that a server which hangs costs bounded
/// memory. Further ones are lost.
const MOST: usize = 16_384;
/// How many releases go in one pipeline.
const BATCH: usize = 64;
/// How many batches are under way at the same time.
const AT_ONCE: usize = 32;
/// How long a release is repeated at most.
const LONGEST: Duration = Duration::from_secs(60);
/// How long one is repeated that is [patient](Release::patiently_until).
const LONGEST_OF_THE_PATIENT: Duration = Duration::from_secs(86_400);
/// With so many releases before it, no further one is patient: the others keep room though a node is away for long.
const MOST_BEFORE_THE_PATIENT: usize = MOST / 2;
/// The shortest pause between attempts.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// Pauses between attempts.
const PAUSES: Backoff = Backoff::new(SHORTEST_PAUSE, Duration::from_secs(2));
/// How many attempts fail, in about a minute, before the pauses grow further.
const SOON: u32 = 45;
/// Pauses from then on.
const LATER_PAUSES: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(15));

impl ReleaseQueue {
    pub(crate) fn new() -> Self {
        Self {
            runner: Mutex::default(),
            outstanding: Arc::new(watch::Sender::new(0)),
            is_hurried: watch::Sender::new(false),
        }
    }

    /// Makes sure that a task runs; to be called from within a runtime.
    pub(crate) fn prepare(&self) {
        let mut runner = self.runner.lock();
        let runs = runner.as_ref().is_some_and(|r| !r.queue.is_closed());
        if let (false, Ok(runtime)) = (runs, Handle::try_current()) {
            *runner = Some(Runner::start(runtime, self.is_hurried.subscribe()));
        }
    }

    /// Queues a release. Without a runtime, or with too many before it, it is lost.
    pub(crate) fn send(&self, client: Client, mut release: Release) {
        let (mut has_room, mut may_be_patient) = (false, false);
        self.outstanding.send_modify(|count| {
            has_room = *count < MOST;
            may_be_patient = *count < MOST_BEFORE_THE_PATIENT;
            *count += 1;
        });
        if release.is_patient
            && !may_be_patient
            && let Some(until) = release.until
        {
            release = release.until(until);
        }
        let queued = Queued {
            client,
            release,
            failures: 0,
            outstanding: Arc::clone(&self.outstanding),
            is_lost: false,
        };
        if !has_room {
            return;
        }
        self.prepare();
        let mut runner = self.runner.lock();
        let Some(running) = &mut *runner else { return };
        let Err(mpsc::error::SendError(queued)) = running.queue.send(queued) else {
            return;
        };
        // The task only ends early when it panics, or when its runtime is over: then so is the next.
        tracing::warn!(target: "redkit::coordination", "the task that releases had died, and is replaced");
        *running = Runner::start(running.runtime.clone(), self.is_hurried.subscribe());
        drop(running.queue.send(queued));
    }

    /// Counts a task that releases by itself among what is outstanding.
    pub(crate) fn releasing(&self) -> Releasing {
        self.outstanding.send_modify(|count| *count += 1);
        Releasing(Arc::clone(&self.outstanding))
    }

    /// Waits until nothing is left to be released, at most for `limit`, in which everything is tried again that waits
    /// to be.
    pub(crate) async fn drain(&self, limit: Duration) {
        self.is_hurried.send_replace(true);
        let mut outstanding = self.outstanding.subscribe();
        let _ = timeout(limit, outstanding.wait_for(|count| *count == 0)).await;
    }
}

impl Runner {
    fn start(runtime: Handle, is_hurried: watch::Receiver<bool>) -> Self {
        let (queue, releases) = mpsc::unbounded_channel();
        runtime.spawn(run(releases, is_hurried));
        Self { queue, runtime }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let is_done = self.release.requests.is_empty() && !self.is_lost;
        if !is_done && let Some(lost) = &self.release.lost {
            lost.add_one();
        }
        self.outstanding.send_modify(|count| *count -= 1);
    }
}

impl Drop for Releasing {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl fmt::Debug for ReleaseQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReleaseQueue")
            .field("outstanding", &*self.outstanding.borrow())
            .finish_non_exhaustive()
    }
}

/// Which attempt of a batch is under way.
enum Attempt {
    First,
    Further,
}

/// Runs until the queue's client is gone and everything is done.
async fn run(mut queue: mpsc::UnboundedReceiver<Queued>, is_hurried: watch::Receiver<bool>) {
    let mut new = Vec::with_capacity(BATCH);
    let mut under_way = FuturesUnordered::<BoxFuture<'static, (Attempt, Vec<Queued>)>>::new();
    let mut paused = FuturesUnordered::new();
    let (mut is_open, mut repeated) = (true, 0);
    while is_open || !under_way.is_empty() || !paused.is_empty() {
        tokio::select! {
            biased;
            // Before new ones, of which there may be more than can be sent; but not in all places: each may hang for the time of
            // a call, and new ones may be for other servers.
            Some(again) = paused.next(), if !paused.is_empty() && under_way.len() < AT_ONCE && repeated < AT_ONCE / 2 => {
                repeated += 1;
                under_way.push(Box::pin(async { (Attempt::Further, release_all(again).await) }));
            }
            count = queue.recv_many(&mut new, BATCH), if is_open && under_way.len() < AT_ONCE => {
                is_open = count > 0;
                if count > 0 {
                    let first = std::mem::take(&mut new);
                    under_way.push(Box::pin(async { (Attempt::First, release_all(first).await) }));
                }
            }
            Some((attempt, failed)) = under_way.next(), if !under_way.is_empty() => {
                if matches!(attempt, Attempt::Further) {
                    repeated -= 1;
                }
                if let Some(pause) = pause_of(&failed, Instant::now()) {
                    let is_hurried = is_hurried.clone();
                    paused.push(async move { wait(pause, is_hurried).await; failed });
                }
            }
        }
    }
}

/// Waits before the next attempt, for a moment only when the client is about to be shut down.
async fn wait(pause: Duration, mut is_hurried: watch::Receiver<bool>) {
    if *is_hurried.borrow() {
        return sleep(pause.min(SHORTEST_PAUSE)).await;
    }
    // The queue may be gone, and nobody hurries then.
    let hurry = async {
        if is_hurried.wait_for(|&hurried| hurried).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        () = hurry => {}
        () = sleep(pause) => {}
    }
}

fn pause_of(failed: &[Queued], now: Instant) -> Option<Duration> {
    failed.first()?;
    failed.iter().map(|queued| queued.pause(now)).min()
}

/// Gives the releases that are to be tried again.
async fn release_all(mut batch: Vec<Queued>) -> Vec<Queued> {
    // All are of one client; it outlives the batch.
    let Some(client) = batch.first().map(|queued| queued.client.clone()) else {
        return batch;
    };
    let requests = batch
        .iter()
        .flat_map(|queued| queued.release.requests.clone());
    match client.eval_all(requests).await {
        Ok(replies) => {
            let mut replies = replies.into_iter();
            for queued in &mut batch {
                queued.ended(|| replies.next().and_then(Result::err));
            }
        }
        Err(error) => {
            tracing::debug!(target: "redkit::coordination", %error, releases = batch.len(), "not released");
            let error = error.call_error().cloned();
            for queued in &mut batch {
                match &error {
                    Some(error) => queued.ended(|| Some(error.clone())),
                    None => queued.release.until = None,
                }
            }
        }
    }
    let now = Instant::now();
    batch.retain(|queued| {
        let is_worth_it = queued.release.until.is_some_and(|until| now < until);
        is_worth_it && !queued.release.requests.is_empty()
    });
    batch
}

impl Queued {
    /// The pause before the next attempt. Half of the time that is left is the longest, so that the last attempts are
    /// made just before the end.
    fn pause(&self, now: Instant) -> Duration {
        let pause = match self.failures.checked_sub(SOON) {
            Some(further) => LATER_PAUSES.pause_after(further),
            None => PAUSES.pause_after(self.failures),
        };
        let until = self.release.until.unwrap_or(now);
        let left = until.saturating_duration_since(now);
        pause.min(left / 2).max(SHORTEST_PAUSE)
    }

    /// An attempt has ended, with this error of each request in turn, or with none. Keeps the requests
    /// that may be repeated.
    fn ended(&mut self, mut next_error: impl FnMut() -> Option<CallError>) {
        let Self {
            release, is_lost, ..
        } = self;
        release.requests.retain(|request| {
            let Some(error) = next_error() else {
                return false;
            };
            let may_repeat = may_repeat(request, &error);
            *is_lost |= !may_repeat;
            may_repeat
        });
        if !release.requests.is_empty() {
            self.failures = self.failures.saturating_add(1);
        }
    }
}

/// Whether a request that failed so may be sent again.
fn may_repeat(request: &Request, error: &CallError) -> bool {
    match error {
        CallError::NotSent(fault) => fault.kind().is_transient(),
        CallError::Maybe(fault) => request.is_idempotent() && fault.kind().is_transient(),
        CallError::Replied(error) => request.is_idempotent() && error.is_server_state(),
    }
}
