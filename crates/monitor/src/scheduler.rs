//! [`Scheduler`]: jobs that run again and again, are owned, and stop cleanly.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use metrics::Counter;
use parking_lot::Mutex;
use redkit_core::ConfigError;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::error::{Error, check_name};

/// Runs jobs of this process periodically, such as reports and clean-ups. Every instance of a program runs its
/// own: a job that must run once in a fleet asks for a lock first.
///
/// A job that panics is logged and counted, and runs again at its next time. A job that takes longer than its
/// period does not pile up: a time at which it is still running is skipped. Dropping the scheduler ends all
/// jobs at once, wherever they are; [`shutdown`](Self::shutdown) waits for those that run.
///
/// ```
/// use std::time::Duration;
/// use redkit_monitor::Scheduler;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let scheduler = Scheduler::new();
/// scheduler.every("report", Duration::from_secs(300), || async {
///     println!("five more minutes");
/// })?;
/// // … when the program ends:
/// assert!(scheduler.shutdown(Duration::from_secs(5)).await, "no job was cut off");
/// # Ok(()) }
/// ```
#[derive(Default)]
pub struct Scheduler {
    jobs: Mutex<Vec<Owned>>,
    stop: CancellationToken,
}

/// When and how a job runs.
#[derive(Debug, Clone)]
#[must_use = "it does nothing until a scheduler takes it"]
pub struct Job {
    name: String,
    every: Duration,
    first_after: Option<Duration>,
    max_running: usize,
    timeout: Option<Duration>,
}

/// Longer times cannot be added to the clock's on every system.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

impl Job {
    /// A job that runs for the first time after one period.
    pub fn new(name: &str, every: Duration) -> Self {
        Self {
            name: name.to_owned(),
            every,
            first_after: None,
            max_running: 1,
            timeout: None,
        }
    }

    /// When it runs for the first time. Default: after one period.
    pub fn first_after(mut self, delay: Duration) -> Self {
        self.first_after = Some(delay);
        self
    }

    /// How many runs of it there may be at once. Default: 1, so that a run that takes long is not overtaken.
    pub fn max_running(mut self, runs: usize) -> Self {
        self.max_running = runs;
        self
    }

    /// How long a run may take before it is dropped. Default: as long as it likes.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    fn check(&self) -> Result<(), Error> {
        check_name("job", &self.name)?;
        if self.every < Duration::from_millis(1) {
            return Err(ConfigError::new(
                "every",
                "it is less than a millisecond",
                "choose a longer period",
            )
            .into());
        }
        let first = self.first_after.unwrap_or_default();
        if self.every > LONGEST || first > LONGEST {
            let problem = "it is longer than a hundred years";
            return Err(ConfigError::new("every", problem, "choose a shorter time").into());
        }
        if self.max_running == 0 {
            return Err(ConfigError::new("max_running", "it is zero", "choose 1, or more").into());
        }
        Ok(())
    }
}

/// What a job has done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobStatus {
    /// Its name.
    pub name: String,
    /// Runs that have ended by themselves.
    pub finished: u64,
    /// Runs that panicked.
    pub panicked: u64,
    /// Runs that were dropped because they took too long.
    pub timed_out: u64,
    /// Times at which it did not run, because it was still running.
    pub skipped: u64,
    /// Runs that are under way.
    pub running: usize,
}

struct Owned {
    shared: Arc<Shared>,
    task: AbortOnDropHandle<()>,
}

struct Shared {
    job: Job,
    work: Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
    finished: Tallied,
    panicked: Tallied,
    timed_out: Tallied,
    skipped: Tallied,
    running: AtomicUsize,
}

struct Tallied(AtomicU64, Counter);

impl Tallied {
    fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        self.1.increment(1);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Scheduler {
    /// Without jobs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `work` every so often, for the first time after one period.
    ///
    /// # Errors
    /// [`Error::Core`] for a name with spaces or the like, or that another job has, and a period of nothing.
    pub fn every<F>(
        &self,
        name: &str,
        every: Duration,
        work: impl Fn() -> F + Send + Sync + 'static,
    ) -> Result<(), Error>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.add(Job::new(name, every), work)
    }

    /// Runs `work` as `job` says. Must be called from within a runtime.
    ///
    /// # Errors
    /// [`Error::Core`] with the setting that cannot work.
    pub fn add<F>(
        &self,
        job: Job,
        work: impl Fn() -> F + Send + Sync + 'static,
    ) -> Result<(), Error>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        job.check()?;
        let mut jobs = self.jobs.lock();
        if jobs.iter().any(|other| other.shared.job.name == job.name) {
            return Err(ConfigError::new(
                "job",
                "there is one of this name",
                "give each a name of its own",
            )
            .into());
        }
        let runs = |outcome: &'static str| {
            let counter = metrics::counter!(
                "redkit_scheduler_runs_total", "job" => job.name.clone(), "outcome" => outcome
            );
            Tallied(AtomicU64::new(0), counter)
        };
        let shared = Arc::new(Shared {
            finished: runs("finished"),
            panicked: runs("panicked"),
            timed_out: runs("timed_out"),
            skipped: runs("skipped"),
            running: AtomicUsize::new(0),
            work: Box::new(move || Box::pin(work())),
            job,
        });
        let task = tokio::spawn(run(Arc::clone(&shared), self.stop.clone()));
        let task = AbortOnDropHandle::new(task);
        jobs.push(Owned { shared, task });
        Ok(())
    }

    /// What each job has done.
    pub fn jobs(&self) -> Vec<JobStatus> {
        let jobs = self.jobs.lock();
        jobs.iter().map(|owned| owned.shared.status()).collect()
    }

    /// Begins no run any more, and waits for those under way. Gives `false` when some had to be cut off after
    /// `grace`.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.stop.cancel();
        let jobs = std::mem::take(&mut *self.jobs.lock());
        let end = Instant::now() + grace;
        let mut all_ended = true;
        for mut owned in jobs {
            let left = end.saturating_duration_since(Instant::now());
            if timeout(left, &mut owned.task).await.is_err() {
                all_ended = false;
                owned.task.abort();
                tracing::warn!(target: "redkit::monitor", job = owned.shared.job.name, "a job was cut off at shutdown");
            }
        }
        all_ended
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.stop.cancel();
        self.jobs.lock().iter().for_each(|owned| owned.task.abort());
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler")
            .field("jobs", &self.jobs())
            .finish()
    }
}

/// Starts the runs of one job. When this is aborted its runs are as well.
async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let job = &shared.job;
    let first = Instant::now() + job.first_after.unwrap_or(job.every);
    let mut ticks = interval_at(first, job.every);
    // After a pause of the process the job runs once, and not once for each time that was missed.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut runs = JoinSet::new();
    loop {
        tokio::select! {
            // After a shutdown no run begins, and a run that has ended makes room for the next.
            biased;
            () = stop.cancelled() => break,
            Some(ended) = runs.join_next(), if !runs.is_empty() => shared.ended(ended),
            _ = ticks.tick() => shared.start(&mut runs),
        }
    }
    while let Some(ended) = runs.join_next().await {
        shared.ended(ended);
    }
}

impl Shared {
    fn start(self: &Arc<Self>, runs: &mut JoinSet<bool>) {
        if runs.len() >= self.job.max_running {
            self.skipped.add_one();
            return;
        }
        let shared = Arc::clone(self);
        runs.spawn(async move {
            // Made in here, so that a panic of the closure is one of the run.
            let work = (shared.work)();
            match shared.job.timeout {
                Some(limit) => timeout(limit, work).await.is_ok(),
                None => {
                    work.await;
                    true
                }
            }
        });
        self.running.store(runs.len(), Ordering::Relaxed);
    }

    fn ended(&self, ended: Result<bool, JoinError>) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        let job = self.job.name.as_str();
        match ended {
            Ok(true) => self.finished.add_one(),
            Ok(false) => {
                self.timed_out.add_one();
                tracing::warn!(target: "redkit::monitor", job, "a job took too long and was dropped");
            }
            Err(error) => {
                self.panicked.add_one();
                tracing::error!(target: "redkit::monitor", job, %error, "a job panicked; it runs again at its next time");
            }
        }
    }

    fn status(&self) -> JobStatus {
        JobStatus {
            name: self.job.name.clone(),
            finished: self.finished.get(),
            panicked: self.panicked.get(),
            timed_out: self.timed_out.get(),
            skipped: self.skipped.get(),
            running: self.running.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_job_that_panics_runs_again_and_one_that_takes_long_is_not_overtaken() {
        let scheduler = Scheduler::new();
        scheduler
            .every("fragile", SECOND, || async { panic!("for the test") })
            .unwrap();
        scheduler
            .every("slow", SECOND, || sleep(SECOND * 5 / 2))
            .unwrap();
        scheduler
            .add(
                Job::new("stuck", SECOND).timeout(SECOND / 2),
                std::future::pending::<()>,
            )
            .unwrap();
        scheduler
            .add(Job::new("wide", SECOND).max_running(2), || {
                sleep(SECOND * 5 / 2)
            })
            .unwrap();
        sleep(SECOND * 10 + SECOND / 10).await;
        let jobs = scheduler.jobs();
        let of = |name: &str| jobs.iter().find(|job| job.name == name).unwrap().clone();
        assert_eq!((of("fragile").panicked, of("fragile").finished), (10, 0));
        // At 1, 4, 7 and 10 s.
        assert_eq!(
            (of("slow").finished, of("slow").running, of("slow").skipped),
            (3, 1, 6)
        );
        assert_eq!(of("stuck").timed_out, 9);
        assert_eq!(
            (of("wide").finished, of("wide").running),
            (5, 2),
            "{:?}",
            of("wide")
        );
        let start = Instant::now();
        assert!(scheduler.shutdown(5 * SECOND).await);
        assert!(start.elapsed() <= SECOND * 5 / 2, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_is_cut_off_at_shutdown_and_by_dropping() {
        let alive = Arc::new(());
        let pending = || {
            let held = Arc::clone(&alive);
            move || {
                let held = Arc::clone(&held);
                async move {
                    std::future::pending::<()>().await;
                    drop(held);
                }
            }
        };
        let scheduler = Scheduler::new();
        scheduler
            .add(Job::new("a", SECOND).first_after(Duration::ZERO), pending())
            .unwrap();
        sleep(SECOND).await;
        assert!(!scheduler.shutdown(SECOND).await);
        let other = Scheduler::new();
        other
            .add(Job::new("a", SECOND).first_after(Duration::ZERO), pending())
            .unwrap();
        sleep(SECOND).await;
        drop(other);
        sleep(SECOND).await;
        assert_eq!(
            Arc::strong_count(&alive),
            1,
            "nothing holds what the jobs held"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_that_is_given_up_leaves_no_job_that_nobody_owns() {
        let (alive, scheduler) = (Arc::new(()), Scheduler::new());
        let held = Arc::clone(&alive);
        let job = Job::new("a", SECOND).first_after(Duration::ZERO);
        scheduler
            .add(job, move || {
                let held = Arc::clone(&held);
                async move {
                    std::future::pending::<()>().await;
                    drop(held);
                }
            })
            .unwrap();
        sleep(SECOND).await;
        timeout(SECOND, scheduler.shutdown(10 * SECOND))
            .await
            .unwrap_err();
        sleep(SECOND).await;
        assert_eq!(
            Arc::strong_count(&alive),
            1,
            "neither the job nor its run is left"
        );
    }

    #[tokio::test]
    async fn jobs_that_cannot_work_are_refused() {
        let scheduler = Scheduler::new();
        let add = |job: Job| scheduler.add(job, || async {}).is_err();
        assert!(add(Job::new("a b", SECOND)) && add(Job::new("a", Duration::ZERO)));
        assert!(add(Job::new("a", SECOND).max_running(0)));
        assert!(add(Job::new("a", Duration::MAX)));
        assert!(add(Job::new("a", SECOND).first_after(Duration::MAX)));
        assert!(!add(Job::new("a", SECOND)) && add(Job::new("a", SECOND)));
    }
}
