//! Health: [`Health`], for orchestrators that ask whether a process lives and may be given work.

mod cause;
mod deep;
mod dependency;
mod liveness;
mod report;
#[cfg(feature = "axum")]
mod routes;
mod status;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use redkit_core::ConfigError;
use tokio::time::{Instant, timeout_at};

pub use self::cause::{Cause, CauseKind};
pub use self::dependency::Dependency;
use self::dependency::{Looked, all_failed};
pub use self::liveness::{Heartbeat, StartupStep};
use self::liveness::{Steps, Tasks};
pub use self::report::{Check, Detail, Observed, Report};
pub use self::status::Status;
use crate::error::{Error, check_name};
use crate::shared_answer::SharedAnswer;

/// The health of this process and of what it depends on. Cloning is cheap.
///
/// Four questions, as an orchestrator asks them:
/// - [`live`](Self::live): must the process be restarted? It never depends on Redis: restarting a fleet
///   because a server is down makes an outage out of a hiccup.
/// - [`ready`](Self::ready): may it be given work? By criticality: a hard dependency that is down says no, a
///   soft one is a warning.
/// - [`startup`](Self::startup): has it started?
/// - [`deep`](Self::deep): what exactly is wrong? For people and dashboards.
///
/// Checks go past the circuit breaker, so that they say how the servers are, and report how the breaker
/// stands. Every answer is there within the timeout. Callers share answers, so that probes cannot load the
/// servers: however many ask, each server is looked at once per [`fresh_for`](HealthBuilder::fresh_for).
///
/// ```
/// use redkit_monitor::{Dependency, Health, Status};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = redkit_core::ClientConfig::from_url("embedded://")?;
/// # let client = redkit_core::Client::from_backend(std::sync::Arc::new(redkit_embedded::Embedded::new()), &config)?;
/// # let cache = client.clone();
/// let health = Health::builder()
///     .dependency(Dependency::hard("orders", &client))
///     .dependency(Dependency::soft("cache", &cache))
///     .build()?;
///
/// let report = health.ready().await;
/// assert_eq!(report.status, Status::Pass);
/// assert_eq!(report.status.http_status(), 200);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Health {
    inner: Arc<Inner>,
}

struct Inner {
    dependencies: Vec<Arc<Looked>>,
    timeout: Duration,
    fresh_for: Duration,
    ready: Arc<SharedAnswer<Report>>,
    deep: Arc<SharedAnswer<Report>>,
    hard: Arc<SharedAnswer<Report>>,
    tasks: Arc<Tasks>,
    steps: Arc<Steps>,
    has_started: AtomicBool,
}

impl Health {
    /// Settings, which begin with no dependency.
    pub fn builder() -> HealthBuilder {
        HealthBuilder {
            dependencies: Vec::new(),
            timeout: Duration::from_millis(500),
            fresh_for: Duration::from_secs(1),
            deep_fresh_for: Duration::from_secs(5),
        }
    }

    /// Whether the process and its [watched tasks](Self::watch_task) live. Asks no server, and answers at
    /// once.
    pub fn live(&self) -> Report {
        let checks = self.inner.tasks.checks();
        Report::new(checks, SystemTime::now(), Duration::ZERO)
    }

    /// Whether the process may be given work: each server of each dependency answers a `PING`, and takes a
    /// write to a key of this instance's own. That finds replicas, full memory, servers that load, and missing
    /// rights. The answer is at most [`fresh_for`](HealthBuilder::fresh_for) old.
    pub async fn ready(&self) -> Arc<Report> {
        let inner = Arc::clone(&self.inner);
        let answer = self.inner.ready.get(move || async move {
            inner
                .look(Which::All, |looked, deadline| async move {
                    looked.ready(deadline).await
                })
                .await
        });
        answer
            .await
            .unwrap_or_else(|| self.inner.check_failed(Which::All))
    }

    /// Everything that a program uses of its servers: latency, set, get and delete, a script, a message to
    /// oneself, memory, persistence, replication, the state of a cluster. In parallel, within the timeout,
    /// each with its status, latency and cause. It is not for an orchestrator's probes: what it warns of is
    /// no reason to take an instance out of service.
    pub async fn deep(&self) -> Arc<Report> {
        let inner = Arc::clone(&self.inner);
        let answer = self.inner.deep.get(move || async move {
            inner
                .look(Which::All, |looked, deadline| async move {
                    looked.deep(deadline).await
                })
                .await
        });
        answer
            .await
            .unwrap_or_else(|| self.inner.check_failed(Which::All))
    }

    /// Whether the program has started: every [step](Self::startup_step) is done and the hard dependencies
    /// have been ready once. Once it has said so it does not ask again.
    pub async fn startup(&self) -> Report {
        let started = |checks| Report::new(checks, SystemTime::now(), Duration::ZERO);
        if self.inner.has_started.load(Ordering::Relaxed) {
            return started(Vec::new());
        }
        let mut checks = self.inner.steps.checks();
        // A soft dependency that hangs does not delay the start.
        let inner = Arc::clone(&self.inner);
        let answer = self.inner.hard.get(move || async move {
            inner
                .look(Which::Hard, |looked, deadline| async move {
                    looked.ready(deadline).await
                })
                .await
        });
        let ready = answer
            .await
            .unwrap_or_else(|| self.inner.check_failed(Which::Hard));
        checks.extend(ready.checks.iter().cloned());
        let report = started(checks);
        if report.status != Status::Fail {
            self.inner.has_started.store(true, Ordering::Relaxed);
        }
        report
    }

    /// Watches a task that has to run as long as the process lives. [`live`](Self::live) fails when its
    /// heartbeat is dropped, and, with `max_silence`, when it has not beaten for so long.
    ///
    /// A task that is started anew has its old name, and takes the place of one of that name that has ended, also when the
    /// old one is not quite gone: the end of the old one within a minute, and its silence from then on, do not count. Give
    /// tasks that run beside one another names of their own.
    ///
    /// # Errors
    /// [`Error::Core`] for a name with spaces or the like, and at the thousandth task.
    pub fn watch_task(
        &self,
        name: &str,
        max_silence: Option<Duration>,
    ) -> Result<Heartbeat, Error> {
        self.inner.tasks.watch(name, max_silence)
    }

    /// Begins a step of the start: a migration, the warming of a cache.
    ///
    /// # Errors
    /// [`Error::Core`] for a name with spaces or the like, or that another step has.
    pub fn startup_step(&self, name: &str) -> Result<StartupStep, Error> {
        self.inner.steps.begin(name)
    }

    /// For how long an answer is given again.
    pub fn fresh_for(&self) -> Duration {
        self.inner.fresh_for
    }

    /// How long a look at the servers may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.inner.timeout
    }

    /// The dependencies themselves.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Dependency> {
        self.inner
            .dependencies
            .iter()
            .map(|looked| &looked.dependency)
    }

    /// The dependencies' names and whether each is hard.
    pub fn dependencies(&self) -> impl Iterator<Item = (&str, bool)> {
        let all = self.inner.dependencies.iter();
        all.map(|looked| (looked.dependency.name.as_str(), looked.dependency.is_hard))
    }
}

/// Which dependencies are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    Hard,
}

impl Inner {
    /// Looks at the dependencies at once.
    async fn look<F>(&self, which: Which, look: impl Fn(Arc<Looked>, Instant) -> F) -> Report
    where
        F: Future<Output = Vec<Check>>,
    {
        let (at, start) = (SystemTime::now(), Instant::now());
        let deadline = start + self.timeout;
        // The commands end by the deadline; should something else not, it is cut off a little later.
        let end = deadline + self.timeout / 10;
        let looks = self.of(which).map(|looked| async {
            let checks = timeout_at(end, look(Arc::clone(looked), deadline)).await;
            checks.unwrap_or_else(|_| looked.overdue(self.timeout))
        });
        let checks = join_all(looks).await.into_iter().flatten().collect();
        Report::new(checks, at, start.elapsed())
    }

    fn of(&self, which: Which) -> impl Iterator<Item = &Arc<Looked>> {
        self.dependencies
            .iter()
            .filter(move |looked| which == Which::All || looked.dependency.is_hard)
    }

    fn check_failed(&self, which: Which) -> Arc<Report> {
        tracing::error!(target: "redkit::monitor", "a health check panicked");
        let checks = all_failed(self.of(which));
        Arc::new(Report::new(checks, SystemTime::now(), Duration::ZERO))
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.dependencies().collect();
        f.debug_struct("Health")
            .field("dependencies", &names)
            .finish_non_exhaustive()
    }
}

/// Settings of a [`Health`].
#[derive(Debug)]
#[must_use = "it does nothing until `build`"]
pub struct HealthBuilder {
    dependencies: Vec<Dependency>,
    timeout: Duration,
    fresh_for: Duration,
    deep_fresh_for: Duration,
}

impl HealthBuilder {
    /// Adds what the program depends on.
    pub fn dependency(mut self, dependency: Dependency) -> Self {
        self.dependencies.push(dependency);
        self
    }

    /// How long a look at the servers may take. Default: 500 milliseconds. It has to be well below the
    /// orchestrator's own timeout, which is a second by default in Kubernetes: otherwise a soft dependency that
    /// hangs takes the program out of service.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// For how long an answer of [`ready`](Health::ready) is given again. Default: 1 second; at most a
    /// minute.
    pub fn fresh_for(mut self, time: Duration) -> Self {
        self.fresh_for = time;
        self
    }

    /// The same for [`deep`](Health::deep). Default: 5 seconds; at most an hour.
    pub fn deep_fresh_for(mut self, time: Duration) -> Self {
        self.deep_fresh_for = time;
        self
    }

    /// Builds it. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Core`] with the setting that cannot work.
    pub fn build(self) -> Result<Health, Error> {
        let within =
            |field: &'static str, time: Duration, least: Duration, most: Duration| match (least
                ..=most)
                .contains(&time)
            {
                true => Ok(()),
                false => Err(ConfigError::new(
                    field,
                    format!("it is {time:?}"),
                    format!("choose {least:?} to {most:?}"),
                )),
            };
        let (milli, minute) = (Duration::from_millis(1), Duration::from_secs(60));
        within("timeout", self.timeout, milli, minute)?;
        within("fresh_for", self.fresh_for, Duration::ZERO, minute)?;
        within(
            "deep_fresh_for",
            self.deep_fresh_for,
            Duration::ZERO,
            60 * minute,
        )?;
        for (index, dependency) in self.dependencies.iter().enumerate() {
            check_name("dependency", &dependency.name)?;
            let earlier = self.dependencies.iter().take(index);
            if earlier
                .into_iter()
                .any(|other| other.name == dependency.name)
            {
                return Err(ConfigError::new(
                    "dependency",
                    format!("there are two of the name `{}`", dependency.name),
                    "give each a name of its own",
                )
                .into());
            }
        }
        let looked = self
            .dependencies
            .into_iter()
            .map(|one| Looked::new(one).map(Arc::new));
        Ok(Health {
            inner: Arc::new(Inner {
                dependencies: looked.collect::<Result<_, _>>()?,
                timeout: self.timeout,
                fresh_for: self.fresh_for,
                ready: SharedAnswer::new(self.fresh_for),
                deep: SharedAnswer::new(self.deep_fresh_for),
                hard: SharedAnswer::new(self.fresh_for),
                tasks: Arc::default(),
                steps: Arc::default(),
                has_started: AtomicBool::new(false),
            }),
        })
    }
}
