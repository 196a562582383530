//! [`Tasks`]: the tasks of a worker, and how they end. What is under way is told to the server first; what is left goes
//! back to the group then.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use redkit_core::Invocation;
use redkit_core::coordination::Release;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::worker::{Team, Which};

type Task = AbortOnDropHandle<()>;

/// The tasks of a worker. When this is dropped before they have [ended](Self::end), they are aborted, and what the worker
/// has goes back in the background.
pub(super) struct Tasks {
    team: Arc<dyn Team>,
    readers: Vec<Task>,
    workers: Vec<Task>,
    /// Tasks that readers and workers need until these have ended: they send heartbeats and acknowledgements.
    services: Vec<Task>,
    is_over: bool,
}

/// How long what is under way may take beyond the grace: a wait at the server, a reply, an outcome that is told.
const LONGEST_END: Duration = Duration::from_secs(3);
/// How long the farewell itself waits for the server.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long a task that is aborted has to end. A handler that blocks its thread does not end.
const LONGEST_ABORT: Duration = Duration::from_millis(100);
/// A longer grace is as good as none: no clock counts further.
const LONGEST_GRACE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Tasks {
    pub(super) fn new(
        team: &Arc<dyn Team>,
        readers: Vec<Task>,
        workers: Vec<Task>,
        services: Vec<Task>,
    ) -> Self {
        Self {
            team: Arc::clone(team),
            readers,
            workers,
            services,
            is_over: false,
        }
    }

    /// Nothing more is begun; handlers have `grace` to end. May be dropped, and called again.
    pub(super) async fn end(&mut self, grace: Duration) {
        if self.is_over {
            return;
        }
        let team = Arc::clone(&self.team);
        team.drain();
        let ends = Instant::now() + grace.min(LONGEST_GRACE);
        let (readers, workers) = (&mut self.readers, &mut self.workers);
        {
            // The heartbeats go on meanwhile: what is yet to come to a reader is not to be taken for a dead consumer's.
            let handled = async {
                // A handler that blocks its thread, or tells its outcome again and again, keeps no message of the others' back.
                if timeout_at(ends + LONGEST_ABORT, ended(workers))
                    .await
                    .is_err()
                {
                    HandBack::new(&*team, team.hand_back(Which::WithoutOutcome))
                        .send()
                        .await;
                    ended(workers).await;
                }
                team.flush().await;
                HandBack::new(&*team, team.hand_back(Which::WithoutOutcome))
                    .send()
                    .await;
            };
            let mut all = pin!(join(ended(readers), handled));
            if timeout_at(ends, &mut all).await.is_err() {
                team.abort();
                let _ = timeout(LONGEST_END, all).await;
            }
        }
        self.abort().await;
        let farewell = async {
            HandBack::everything(&*team).send().await;
            team.leave().await;
        };
        let _ = timeout(FAREWELL, farewell).await;
        self.is_over = true;
    }

    /// Drops the handlers. Nobody waits for the end.
    pub(super) fn end_in_background(mut self, runtime: &Handle) {
        if self.is_over {
            return;
        }
        self.team.drain();
        self.team.abort();
        // The program may shut its client down next. The shutdown waits a second for what is done here.
        let releasing = self.team.client().releasing();
        let mut requests = self.team.disown(Which::WithoutOutcome);
        requests.extend(self.team.hand_back(Which::WithoutOutcome));
        drop(HandBack::new(&*self.team, requests));
        // This task has no owner. It ends by itself, after `LONGEST_END`, `LONGEST_ABORT` and `FAREWELL` at the latest, or
        // with the runtime, and is not needed then: others take what is left after a lease.
        runtime.spawn(async move {
            self.end(Duration::ZERO).await;
            drop(releasing);
        });
    }

    async fn abort(&mut self) {
        let lists = [&mut self.readers, &mut self.workers, &mut self.services];
        let aborted = lists.map(|tasks| {
            tasks.iter().for_each(|task| task.abort());
            ended(tasks)
        });
        let all = futures_util::future::join_all(aborted);
        let _ = timeout(LONGEST_ABORT, all).await;
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        if !self.is_over {
            self.readers.clear();
            self.workers.clear();
            self.services.clear();
            drop(HandBack::everything(&*self.team));
        }
    }
}

/// Waits until these have ended. May be dropped, and called again.
async fn ended(tasks: &mut Vec<Task>) {
    while let Some(task) = tasks.last_mut() {
        drop(task.await);
        tasks.pop();
    }
}

/// Requests that give something back. What could not be sent by its end is sent in the background, for as long as it
/// makes sense: after a lease others take what is left.
struct HandBack<'t> {
    team: &'t dyn Team,
    requests: Vec<Invocation>,
}

impl<'t> HandBack<'t> {
    fn new(team: &'t dyn Team, requests: Vec<Invocation>) -> Self {
        Self { team, requests }
    }

    fn everything(team: &'t dyn Team) -> Self {
        let mut requests = team.disown(Which::All);
        requests.extend(team.hand_back(Which::All));
        Self::new(team, requests)
    }

    async fn send(mut self) {
        if self.requests.is_empty() {
            return;
        }
        match self.team.client().eval_all(self.requests.clone()).await {
            Ok(replies) if replies.iter().all(Result::is_ok) => self.requests.clear(),
            Ok(_) => {
                tracing::debug!(target: "redkit::pubsub", "some messages are handed back later");
            }
            Err(error) => {
                tracing::debug!(target: "redkit::pubsub", %error, "messages are handed back later");
            }
        }
    }
}

impl Drop for HandBack<'_> {
    fn drop(&mut self) {
        let requests = std::mem::take(&mut self.requests);
        if !requests.is_empty() {
            let until = Instant::now() + self.team.settings().lease;
            let release = Release::new(requests).until(until);
            self.team.client().release_later(release);
        }
    }
}
