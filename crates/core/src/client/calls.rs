//! What is done to every call, once: admission, deadline, breaker, retry, numbers, a span.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::Instrument;

use super::in_flight::{Admission, InFlight};
use super::outcome::EarlierAttempts;
use super::shareable::{check_pipeline, check_shareable};
use super::stats::{ClientStats, Metrics};
use crate::backend::{Backend, ConnectionState};
use crate::breaker::{Breaker, BreakerConfig, Outcome, Permit};
use crate::command::Command;
use crate::config::{ClientConfig, ConfigError, RetryConfig};
use crate::error::{CallError, Error, Fault, FaultKind};
use crate::value::Value;

/// A backend and how its calls are treated.
pub(super) struct Calls {
    backend: Arc<dyn Backend>,
    breaker: Breaker,
    retry: RetryConfig,
    command_timeout: Duration,
    connect_timeout: Duration,
    in_flight: InFlight,
    metrics: Metrics,
    /// What was seen of the connection's state when a call was last refused.
    connection: Mutex<watch::Receiver<ConnectionState>>,
    /// Whether the connection is one's own, where commands may change it.
    is_dedicated: bool,
    /// Whether a transaction is known to be possible, or must not be tried out.
    transacts: AtomicBool,
}

impl Calls {
    pub(super) fn new(backend: Arc<dyn Backend>, breaker: Breaker, config: &ClientConfig) -> Self {
        Self {
            connection: Mutex::new(backend.state()),
            is_dedicated: false,
            transacts: AtomicBool::new(false),
            backend,
            breaker,
            retry: config.retry,
            command_timeout: config.command_timeout,
            connect_timeout: config.connect_timeout,
            in_flight: InFlight::new(config.max_in_flight),
            metrics: Metrics::new(config.label()),
        }
    }

    /// The same treatment for a connection of one's own: no breaker and no retry.
    pub(super) fn dedicated(&self, backend: Arc<dyn Backend>) -> Result<Self, Error> {
        let off = BreakerConfig {
            enabled: false,
            ..BreakerConfig::default()
        };
        let breaker = Breaker::named(format!("{}-dedicated", self.breaker.name()), off)
            .map_err(|error| ConfigError::new("breaker", error.to_string(), "report this"))?;
        Ok(Self {
            metrics: Metrics::new(breaker.name()),
            connection: Mutex::new(backend.state()),
            is_dedicated: true,
            // It may be watching keys, which an empty transaction would end.
            transacts: AtomicBool::new(true),
            backend,
            breaker,
            retry: RetryConfig {
                max_attempts: 1,
                ..self.retry
            },
            command_timeout: self.command_timeout,
            connect_timeout: self.connect_timeout,
            in_flight: InFlight::new(self.in_flight.limit()),
        })
    }

    /// Carries out one command, by its own deadline, the command timeout and `budget`. `earlier`
    /// tells of attempts that belong to the same call.
    pub(super) async fn run(
        &self,
        command: &mut Command,
        budget: Option<Duration>,
        earlier: &mut EarlierAttempts,
    ) -> Result<Value, CallError> {
        let start = Instant::now();
        let limits = self.limits(start, budget);
        let deadline = limits.apply(command);
        let checked = self.check(std::slice::from_ref(command));
        let attempt = Single {
            backend: &*self.backend,
            command,
        };
        self.execute(attempt, checked, Span { start, deadline }, earlier)
            .await
    }

    /// Carries out several commands together.
    pub(super) async fn run_all(
        &self,
        commands: &mut [Command],
        budget: Option<Duration>,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let start = Instant::now();
        let limits = self.limits(start, budget);
        let mut deadline = start;
        for command in &mut *commands {
            deadline = deadline.max(limits.apply(command));
        }
        let checked = self.check(commands);
        let attempt = Batch {
            backend: &*self.backend,
            commands,
        };
        let mut earlier = EarlierAttempts::default();
        let mut replies = self
            .execute(attempt, checked, Span { start, deadline }, &mut earlier)
            .await?;
        for reply in &mut replies {
            if let Err(error) = reply {
                earlier.add_to(error);
            }
        }
        Ok(replies)
    }

    /// Finds out, once, whether the server opens and carries out transactions for this user: one
    /// that refused `MULTI` alone would carry out what comes after it.
    pub(super) async fn try_transaction(&self) -> Result<(), CallError> {
        if self.transacts.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut empty = ["MULTI", "EXEC"].map(|name| Command::new(name).idempotent(true));
        for reply in self.run_all(&mut empty, None).await? {
            reply.map_err(not_permitted)?;
        }
        self.transacts.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Counts something as in flight that is not a call, such as making a subscription.
    pub(super) fn admit(&self) -> Result<Admission<'_>, CallError> {
        self.in_flight.admit()
    }

    pub(super) fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    pub(super) fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    pub(super) fn stats(&self) -> ClientStats {
        ClientStats {
            in_flight: self.in_flight.count() as u64,
            ..self.metrics.read()
        }
    }

    pub(super) fn reset_stats(&self) {
        self.metrics.reset();
    }

    /// How long a subscription may take: it may need a connection first.
    pub(super) fn subscribe_timeout(&self) -> Duration {
        self.connect_timeout + self.command_timeout
    }

    pub(super) async fn shutdown(&self, grace: Duration) {
        if !self.in_flight.close(grace).await {
            tracing::warn!(
                target: "redkit::client",
                in_flight = self.in_flight.count(),
                "shut down with calls in flight"
            );
        }
        self.backend.shutdown().await;
    }

    fn limits(&self, start: Instant, budget: Option<Duration>) -> Limits {
        Limits {
            usual: start + self.command_timeout,
            budget: budget.map(|budget| start + budget),
        }
    }

    async fn execute<A: Attempt>(
        &self,
        attempt: A,
        checked: Result<(), CallError>,
        span: Span,
        earlier: &mut EarlierAttempts,
    ) -> Result<A::Reply, CallError> {
        let admitted = checked.and_then(|()| self.in_flight.admit());
        let (mut result, end) = if let Err(error) = admitted {
            (Err(error), span.start)
        } else if tracing::enabled!(target: "redkit::client", tracing::Level::DEBUG) {
            self.traced(&attempt, span, earlier).await
        } else {
            self.attempts(&attempt, span, earlier).await
        };
        if let Err(error) = &mut result {
            earlier.add_to(error);
        }
        self.metrics
            .ended(&result, end.saturating_duration_since(span.start));
        result
    }

    /// In a box, so that a program that does not trace does not pay for the span's state.
    #[cold]
    fn traced<'c, A: Attempt>(
        &'c self,
        attempt: &'c A,
        span: Span,
        earlier: &'c mut EarlierAttempts,
    ) -> BoxFuture<'c, (Result<A::Reply, CallError>, Instant)> {
        let traced = tracing::debug_span!(
            target: "redkit::client",
            "redis call",
            "otel.kind" = "client",
            "db.system.name" = "redis",
            "db.operation.name" = attempt.name(),
            "error.type" = tracing::field::Empty,
        );
        Box::pin(
            async move {
                let (result, end) = self.attempts(attempt, span, earlier).await;
                if let Err(error) = &result {
                    tracing::Span::current().record("error.type", error_type(error));
                }
                (result, end)
            }
            .instrument(traced),
        )
    }

    /// Tries until there is an answer, a failure that must not be repeated, or no time left.
    async fn attempts<A: Attempt>(
        &self,
        attempt: &A,
        span: Span,
        earlier: &mut EarlierAttempts,
    ) -> (Result<A::Reply, CallError>, Instant) {
        let mut pauses = None;
        let mut now = span.start;
        loop {
            let permit = match self.permit(now) {
                Ok(permit) => permit,
                Err(error) => return (Err(error), now),
            };
            let result = attempt.send().await;
            now = Instant::now();
            let error = match result {
                Ok(reply) => {
                    permit.settle_at(attempt.judge(&reply, &self.breaker), now);
                    return (Ok(reply), now);
                }
                Err(error) => error,
            };
            permit.settle_at(self.judge(&error, span), now);
            match self.pause(&mut pauses, &error, attempt) {
                Some(pause) if now + pause < span.deadline => {
                    tracing::debug!(target: "redkit::client", command = attempt.name(), %error, ?pause, "retrying");
                    self.metrics.retried();
                    earlier.note(error);
                    sleep(pause).await;
                    now = Instant::now();
                }
                _ => return (Err(error), now),
            }
        }
    }

    /// What a failure says about the server. A caller that waits for less than the command timeout
    /// learns nothing about it when its time is up.
    fn judge(&self, error: &CallError, span: Span) -> Outcome {
        let is_timeout = error
            .fault()
            .is_some_and(|fault| fault.kind() == FaultKind::Timeout);
        if is_timeout && span.deadline < span.start + self.command_timeout {
            return Outcome::Neutral;
        }
        self.breaker.classify(error)
    }

    fn permit(&self, now: Instant) -> Result<Permit, CallError> {
        self.breaker.acquire_at(now).or_else(|open| {
            // A server that answers again deserves a probe at once.
            if self.has_recovered() {
                self.breaker.hint_recovered();
                if let Ok(permit) = self.breaker.acquire_at(now) {
                    return Ok(permit);
                }
            }
            Err(Fault::new(FaultKind::BreakerOpen, open.to_string()).not_sent())
        })
    }

    /// Whether the connection was made, or answered a probe, since this was last asked.
    fn has_recovered(&self) -> bool {
        let mut seen = self.connection.lock();
        match seen.has_changed() {
            Ok(true) => matches!(*seen.borrow_and_update(), ConnectionState::Connected(_)),
            _ => false,
        }
    }

    fn check(&self, commands: &[Command]) -> Result<(), CallError> {
        match (self.is_dedicated, commands) {
            (true, _) => Ok(()),
            (false, [command]) => check_shareable(command),
            (false, commands) => check_pipeline(commands),
        }
    }

    /// How long to wait before the next attempt; `None` when there must not be one.
    #[cold]
    fn pause(
        &self,
        pauses: &mut Option<ExponentialBackoff>,
        error: &CallError,
        attempt: &impl Attempt,
    ) -> Option<Duration> {
        let idempotent = attempt.is_idempotent();
        let may_repeat = match error {
            CallError::NotSent(fault) => fault.kind().is_transient(),
            CallError::Maybe(fault) => idempotent && fault.kind().is_transient(),
            // The server did nothing, and says that it soon can. A script may say so itself, after
            // it has written.
            CallError::Replied(error) => {
                matches!(error.code(), "TRYAGAIN" | "LOADING")
                    && (idempotent || !attempt.runs_script())
            }
        };
        if !may_repeat {
            return None;
        }
        let retries = usize::try_from(self.retry.max_attempts.saturating_sub(1)).ok()?;
        pauses
            .get_or_insert_with(|| {
                ExponentialBuilder::default()
                    .with_min_delay(self.retry.min_delay)
                    .with_max_delay(self.retry.max_delay)
                    .with_max_times(retries)
                    .with_jitter()
                    .build()
            })
            .next()
    }
}

/// When a call began, and when it ends at the latest.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: Instant,
    deadline: Instant,
}

/// The ends of a call that does not name an earlier one.
struct Limits {
    /// By the command timeout.
    usual: Instant,
    /// By the caller's budget, which also shortens a deadline of the command's own.
    budget: Option<Instant>,
}

impl Limits {
    /// Gives the command its deadline.
    fn apply(&self, command: &mut Command) -> Instant {
        let deadline = command.deadline_or(|| self.usual);
        match self.budget {
            Some(budget) if budget < deadline => command.shorten_deadline(budget),
            _ => deadline,
        }
    }
}

/// One way to ask a backend, as often as need be.
trait Attempt: Sync {
    type Reply: Send;

    fn send(&self) -> impl Future<Output = Result<Self::Reply, CallError>> + Send;
    /// What an answer says about the server.
    fn judge(&self, reply: &Self::Reply, breaker: &Breaker) -> Outcome;
    fn name(&self) -> &str;
    fn is_idempotent(&self) -> bool;
    fn runs_script(&self) -> bool;
}

struct Single<'a> {
    backend: &'a dyn Backend,
    command: &'a Command,
}

impl Attempt for Single<'_> {
    type Reply = Value;

    fn send(&self) -> impl Future<Output = Result<Value, CallError>> + Send {
        self.backend.call(self.command)
    }

    fn judge(&self, _: &Value, _: &Breaker) -> Outcome {
        Outcome::Success
    }

    fn name(&self) -> &str {
        self.command.name()
    }

    fn is_idempotent(&self) -> bool {
        self.command.is_idempotent()
    }

    fn runs_script(&self) -> bool {
        self.command.runs_script()
    }
}

struct Batch<'a> {
    backend: &'a dyn Backend,
    commands: &'a [Command],
}

impl Attempt for Batch<'_> {
    type Reply = Vec<Result<Value, CallError>>;

    fn send(&self) -> impl Future<Output = Result<Self::Reply, CallError>> + Send {
        self.backend.pipeline(self.commands)
    }

    /// A part that failed speaks against the server, whatever became of the others.
    fn judge(&self, replies: &Self::Reply, breaker: &Breaker) -> Outcome {
        let mut errors = replies.iter().filter_map(|reply| reply.as_ref().err());
        match errors.any(|error| breaker.classify(error) == Outcome::Failure) {
            true => Outcome::Failure,
            false => Outcome::Success,
        }
    }

    fn name(&self) -> &str {
        "pipeline"
    }

    fn is_idempotent(&self) -> bool {
        self.commands.iter().all(Command::is_idempotent)
    }

    fn runs_script(&self) -> bool {
        self.commands.iter().any(Command::runs_script)
    }
}

fn not_permitted(error: CallError) -> CallError {
    match error {
        CallError::Replied(error) if matches!(error.code(), "NOPERM" | "EXECABORT") => {
            let message = format!(
                "the server refuses transactions to this user ({error}); nothing was carried out; \
                 grant the user `+multi +exec`"
            );
            Fault::new(FaultKind::Unsupported, message).not_sent()
        }
        other => other,
    }
}

/// The attribute `error.type` of OpenTelemetry: the server's code, or the kind of fault.
fn error_type(error: &CallError) -> &str {
    match error {
        CallError::Replied(error) => error.code(),
        CallError::NotSent(fault) | CallError::Maybe(fault) => fault.kind().as_str(),
    }
}
