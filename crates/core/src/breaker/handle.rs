//! The public handle: [`Breaker`] and [`Permit`].

use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::classify::classify;
use super::config::{BreakerConfig, BreakerConfigError};
use super::group::Group;
use super::machine::{Machine, Ticket};
use super::shared::{Held, Shared};
use super::state::{BreakerState, BreakerStatus, Open, Outcome};
use super::telemetry::Telemetry;
use crate::command::Command;
use crate::error::CallError;

/// A circuit breaker. Cloning is cheap, and the clones are one breaker.
///
/// ```
/// use redkit_core::breaker::{Breaker, BreakerConfig, BreakerState, Outcome, Window};
///
/// let mut config = BreakerConfig::default();
/// config.window = Window::Count(10);
/// config.minimum_calls = 4;
/// let breaker = Breaker::named("orders", config)?;
///
/// for _ in 0..4 {
///     let permit = breaker.acquire()?;
///     // … the call is made, and its connection breaks …
///     permit.settle(Outcome::Failure);
/// }
/// let refusal = breaker.acquire().unwrap_err();
/// assert!(refusal.retry_after <= std::time::Duration::from_secs(2));
/// assert_eq!(breaker.status().state, BreakerState::Open);
///
/// // The supervisor has made a new connection, and it answers: probes may go at once.
/// breaker.hint_recovered();
/// for _ in 0..5 {
///     breaker.acquire()?.settle(Outcome::Success);
/// }
/// assert_eq!(breaker.status().state, BreakerState::Closed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Breaker {
    shared: Arc<Shared<Mutex<Machine>, Telemetry>>,
    count_refused_writes: bool,
}

impl Breaker {
    /// A breaker whose metrics and events carry `client = "default"`.
    ///
    /// # Errors
    /// When a field of the configuration is out of range.
    pub fn new(config: BreakerConfig) -> Result<Self, BreakerConfigError> {
        Self::named("default", config)
    }

    /// A breaker whose metrics and events carry `client = name`. The metrics' handles are made
    /// here: install the recorder before.
    ///
    /// # Errors
    /// When a field of the configuration is out of range.
    pub fn named(
        name: impl Into<String>,
        config: BreakerConfig,
    ) -> Result<Self, BreakerConfigError> {
        config.validate()?;
        let initial = Machine::initial(&config);
        let telemetry = Telemetry::new(name.into(), None, initial);
        Ok(Self::with(&config, telemetry))
    }

    /// The breaker of one server of a client's. The configuration must have been validated.
    pub(super) fn of_node(
        client: &str,
        node: Arc<str>,
        group: Weak<Group>,
        config: &BreakerConfig,
    ) -> Self {
        let initial = Machine::initial(config);
        let telemetry = Telemetry::new(client.to_owned(), Some((node, group)), initial);
        Self::with(config, telemetry)
    }

    fn with(config: &BreakerConfig, telemetry: Telemetry) -> Self {
        Self {
            count_refused_writes: config.count_refused_writes,
            shared: Arc::new(Shared::new(Machine::new(config), telemetry)),
        }
    }

    /// Asks for leave to make a call.
    ///
    /// # Errors
    /// [`Open`] when the call must not be made.
    pub fn acquire(&self) -> Result<Permit, Open> {
        self.acquire_at(Instant::now())
    }

    /// [`acquire`](Self::acquire) for a caller who has just read the clock.
    ///
    /// # Errors
    /// [`Open`] when the call must not be made.
    pub fn acquire_at(&self, now: Instant) -> Result<Permit, Open> {
        match self.shared.acquire(self.shared.environment.tick(now)) {
            Ok(held) => Ok(Permit { held }),
            Err(retry_after) => Err(Open::new(retry_after)),
        }
    }

    /// What a failed call says about the server: the outcome to settle its permit with. Faults of
    /// the transport, timeouts, and a server that says it serves nobody are failures; an error
    /// in the command is a success, because the server answered; what was decided on this side is
    /// neutral.
    pub fn classify(&self, error: &CallError) -> Outcome {
        classify(error, self.count_refused_writes)
    }

    /// [`classify`](Self::classify) for a command's reply. A script chooses its errors itself, so
    /// an error that comes from one says no more than that the server answered.
    pub(crate) fn judge<T>(&self, command: &Command, reply: &Result<T, CallError>) -> Outcome {
        match reply {
            Ok(_) => Outcome::Success,
            Err(CallError::Replied(_)) if command.runs_script() => Outcome::Success,
            Err(error) => self.classify(error),
        }
    }

    /// [`judge`](Self::judge) for several commands: a part that failed speaks against the server,
    /// whatever became of the others.
    pub(crate) fn judge_all<T>(
        &self,
        commands: &[Command],
        replies: &[Result<T, CallError>],
    ) -> Outcome {
        let failures = commands.iter().zip(replies).map(|(c, r)| self.judge(c, r));
        failures
            .filter(|outcome| outcome.is_failure())
            .next_back()
            .unwrap_or(Outcome::Success)
    }

    /// The server is silent, or there is no way to it: opens the breaker until
    /// [`resume`](Self::resume) or [`reset`](Self::reset). For whoever looks after the connection
    /// and is sure to notice when the server answers again; time alone does not make it half open.
    pub fn suspend(&self) {
        self.run(Machine::suspend);
    }

    /// The server has answered: closes a breaker that was opened by [`suspend`](Self::suspend), or
    /// by failures that an answer shows to be over ([`Outcome::Failure`]). One that was opened by
    /// refusals or by slow calls stays as it is.
    pub fn resume(&self) {
        self.run(Machine::resume);
    }

    /// Whether [`resume`](Self::resume) would close the breaker.
    pub fn awaits_answer(&self) -> bool {
        self.shared.run(|machine| machine.awaits_answer())
    }

    /// Whoever looks after the connection has made a new one that answered. An open breaker
    /// becomes half open at once, and a half-open one gives out all its probes anew, since those
    /// that are out hang on the old connection. In every other state nothing changes.
    pub fn hint_recovered(&self) {
        self.run(Machine::hint_recovered);
    }

    /// Refuses every call until [`reset`](Self::reset) or [`force_closed`](Self::force_closed).
    pub fn force_open(&self) {
        self.run(Machine::force_open);
    }

    /// Lets every call through, and counts, until [`reset`](Self::reset) or
    /// [`force_open`](Self::force_open).
    pub fn force_closed(&self) {
        self.run(Machine::force_closed);
    }

    /// Closes the breaker with an empty window (a breaker that is not enabled by its
    /// configuration goes back to letting everything through).
    pub fn reset(&self) {
        self.run(Machine::reset);
    }

    /// What the breaker has seen and what it does. Like [`acquire`](Self::acquire) it counts the
    /// calls that have become slow, and makes an open breaker half open when its time is over.
    pub fn status(&self) -> BreakerStatus {
        let telemetry = &self.shared.environment;
        let now = telemetry.tick(Instant::now());
        let snapshot = self.shared.run(|machine| machine.snapshot(now));
        BreakerStatus {
            state: snapshot.state,
            failure_rate: snapshot.seen.failure_rate,
            slow_call_rate: snapshot.seen.slow_call_rate,
            calls: snapshot.seen.counts.calls,
            failures: snapshot.seen.counts.failures,
            slow_calls: snapshot.seen.counts.slow,
            not_permitted: snapshot.not_permitted,
            in_flight: snapshot.in_flight,
            oldest_in_flight: snapshot.oldest_in_flight,
            since: telemetry.instant(snapshot.since),
            retry_after: snapshot.retry_after,
        }
    }

    /// The state, as it was last told.
    pub fn state(&self) -> BreakerState {
        self.shared.environment.state()
    }

    /// The state, and a wake-up when it changes. Nothing runs in the background: a change that is
    /// due by time alone shows with the next [`acquire`](Self::acquire),
    /// [`settle`](Permit::settle) or [`status`](Self::status). Changes in quick succession may be
    /// seen as one.
    pub fn events(&self) -> watch::Receiver<BreakerState> {
        self.shared.environment.watch()
    }

    /// The server that it is for, when it is one of a client's [`Breakers`](super::Breakers).
    pub fn node(&self) -> &str {
        self.shared.environment.node()
    }

    /// The name given to [`named`](Self::named).
    pub fn name(&self) -> &str {
        self.shared.environment.name()
    }

    fn run(&self, work: impl FnOnce(&mut Machine, super::tick::Tick)) {
        let now = self.shared.environment.tick(Instant::now());
        self.shared.run(|machine| work(machine, now));
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("name", &self.name())
            .field("node", &self.node())
            .field("state", &*self.events().borrow())
            .finish_non_exhaustive()
    }
}

/// Leave to make one call. Settle it when the call has ended; dropping it unsettled means that the
/// caller gave up, which says nothing about the server unless the call had been slow by then.
#[must_use = "a permit that is dropped at once counts no call"]
pub struct Permit {
    held: Held<Mutex<Machine>, Telemetry>,
}

impl Permit {
    /// Says how the call ended. A timeout is a [`Outcome::Failure`].
    pub fn settle(self, outcome: Outcome) {
        self.settle_at(outcome, Instant::now());
    }

    /// [`settle`](Self::settle) for a caller who has just read the clock.
    pub fn settle_at(self, outcome: Outcome, now: Instant) {
        let now = self.held.environment().tick(now);
        self.held.settle(outcome, now);
    }

    /// When the permit was given.
    pub fn started(&self) -> Instant {
        let started = self.held.ticket().map(|ticket| ticket.started);
        self.held.environment().instant(started.unwrap_or_default())
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("client", &self.held.environment().name())
            .field("generation", &self.held.ticket().map(Ticket::generation))
            .finish_non_exhaustive()
    }
}
