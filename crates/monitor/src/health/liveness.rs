//! Whether the process's own tasks run, and whether the program has finished starting.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::cause::{Cause, CauseKind};
use super::report::{Check, Observed};
use crate::error::{Error, check_name};
use redkit_core::ConfigError;

/// How many tasks and steps are watched at most: a program that makes one for each request has made a
/// mistake.
const MOST: usize = 1_000;

#[derive(Default)]
pub(super) struct Tasks {
    watched: Mutex<Vec<Arc<Watched>>>,
}

struct Watched {
    name: Box<str>,
    max_silence: Option<Duration>,
    state: Mutex<State>,
    /// When a later task took the name.
    replaced_at: Mutex<Option<Instant>>,
}

/// How long a task that was aborted may take to drop its heartbeat: it does so only when it is polled next, which may
/// be after the task in its place has begun. Whatever ends later has run beside the other, and is missed.
const LINGERS: Duration = Duration::from_secs(60);

enum State {
    /// Beat for the last time at this moment.
    Running(Instant),
    Finished,
    /// Dropped at this moment without having finished.
    Ended(Instant),
}

impl Tasks {
    pub(super) fn watch(
        self: &Arc<Self>,
        name: &str,
        max_silence: Option<Duration>,
    ) -> Result<Heartbeat, Error> {
        check_name("task", name)?;
        let watched = Arc::new(Watched {
            name: name.into(),
            max_silence,
            state: Mutex::new(State::Running(Instant::now())),
            replaced_at: Mutex::default(),
        });
        let mut all = self.watched.lock();
        all.retain(|other| match *other.state.lock() {
            State::Running(_) => true,
            State::Finished => false,
            State::Ended(at) => !other.is_replaced(at),
        });
        take_place(&mut all, name);
        if all.len() >= MOST {
            return Err(ConfigError::new(
                "task",
                "a thousand tasks are watched already",
                "watch the tasks that the program always has, and not one for each request",
            )
            .into());
        }
        all.push(Arc::clone(&watched));
        Ok(Heartbeat { watched })
    }

    pub(super) fn checks(&self) -> Vec<Check> {
        let all = self.watched.lock();
        all.iter().filter_map(|watched| watched.check()).collect()
    }
}

/// A task that is started anew takes the place of one that ended, the first; or of one that is about to end, the oldest.
fn take_place(all: &mut Vec<Arc<Watched>>, name: &str) {
    let ended = |(place, other): (usize, &Arc<Watched>)| match *other.state.lock() {
        State::Ended(at) if *other.name == *name => Some((at, place)),
        _ => None,
    };
    match all.iter().enumerate().filter_map(ended).min() {
        Some((_, place)) => drop(all.remove(place)),
        None => {
            let is_free = |other: &&Arc<Watched>| {
                let replaced_at = *other.replaced_at.lock();
                let is_marked = replaced_at.is_some_and(|at| at.elapsed() <= LINGERS);
                *other.name == *name && !is_marked && !other.is_forgotten()
            };
            if let Some(first) = all.iter().find(is_free) {
                *first.replaced_at.lock() = Some(Instant::now());
            }
        }
    }
}

impl Watched {
    /// Whether another task took its place, not long before its last sign of life or its end.
    fn is_replaced(&self, last: Instant) -> bool {
        let replaced_at = *self.replaced_at.lock();
        replaced_at.is_some_and(|at| last.saturating_duration_since(at) <= LINGERS)
    }

    /// Whether nobody misses it: it has finished, or has ended or fallen silent after another took its place.
    fn is_forgotten(&self) -> bool {
        match *self.state.lock() {
            State::Finished => true,
            State::Ended(at) => self.is_replaced(at),
            State::Running(beat) => {
                let is_silent = self.max_silence.is_some_and(|limit| beat.elapsed() > limit);
                is_silent && self.is_replaced(beat)
            }
        }
    }

    fn check(&self) -> Option<Check> {
        if self.is_forgotten() {
            return None;
        }
        let check = Check::new(&self.name, "task", true);
        match *self.state.lock() {
            State::Finished => None,
            State::Ended(_) => Some(check.failed(Cause::new(CauseKind::TaskEnded))),
            State::Running(beat) => {
                let silence = beat.elapsed();
                let check = check.observed(Observed::Time(silence));
                Some(match self.max_silence {
                    Some(limit) if silence > limit => check.failed(Cause::detailed(
                        CauseKind::TaskSilent,
                        format!("it beats every {limit:?}"),
                    )),
                    _ => check,
                })
            }
        }
    }
}

/// The sign of life of one task, from [`Health::watch_task`](crate::Health::watch_task). Keep it in the task:
/// when it is dropped (the task panicked, or was aborted) the process is not well any more.
#[derive(Debug)]
#[must_use = "a heartbeat that is dropped says that its task has ended"]
pub struct Heartbeat {
    watched: Arc<Watched>,
}

impl Heartbeat {
    /// The task is still at work.
    pub fn beat(&self) {
        let mut state = self.watched.state.lock();
        if matches!(*state, State::Running(_)) {
            *state = State::Running(Instant::now());
        }
    }

    /// The task has ended as it should.
    pub fn finish(self) {
        *self.watched.state.lock() = State::Finished;
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        let mut state = self.watched.state.lock();
        if matches!(*state, State::Running(_)) {
            *state = State::Ended(Instant::now());
        }
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What the program has to do before it serves.
#[derive(Default)]
pub(super) struct Steps {
    open: Mutex<Vec<Box<str>>>,
}

impl Steps {
    pub(super) fn begin(self: &Arc<Self>, name: &str) -> Result<StartupStep, Error> {
        check_name("startup_step", name)?;
        let mut open = self.open.lock();
        if open.len() >= MOST || open.iter().any(|other| **other == *name) {
            return Err(ConfigError::new(
                "startup_step",
                "there is one of this name already, or there are a thousand",
                "give each step a name of its own",
            )
            .into());
        }
        open.push(name.into());
        Ok(StartupStep {
            name: name.into(),
            steps: Arc::clone(self),
        })
    }

    pub(super) fn checks(&self) -> Vec<Check> {
        let open = self.open.lock();
        let failed = |name: &str| {
            Check::new(name, "startup", true).failed(Cause::new(CauseKind::NotStarted))
        };
        open.iter().map(|name| failed(name)).collect()
    }
}

/// A step of the start, from [`Health::startup_step`](crate::Health::startup_step). The program has not started
/// before [`done`](Self::done); a step that is dropped stays undone.
#[must_use = "a step that is not done holds up the start"]
pub struct StartupStep {
    name: Box<str>,
    steps: Arc<Steps>,
}

impl StartupStep {
    /// The step is done.
    pub fn done(self) {
        self.steps.open.lock().retain(|name| *name != self.name);
    }
}

impl std::fmt::Debug for StartupStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StartupStep")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
