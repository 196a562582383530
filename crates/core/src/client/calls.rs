//! What is done to every call, once: admission, deadline, breaker, retry, numbers, a span.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::attempt::{Attempt, Batch, Single};
use super::hints::Hints;
use super::in_flight::{Admission, Entry, InFlight};
use super::latency::Latency;
use super::outcome::EarlierAttempts;
use super::shareable::{check_pipeline, check_shareable, is_of_transaction};
use super::span::{self, Peer};
use super::stats::{ClientStats, Metrics};
use super::timing::{Limits, Pauses, Span, Terms};
use crate::backend::{Backend, ConnectionState, Topology};
use crate::breaker::{Breaker, BreakerConfig, Breakers, Outcome, Permit};
use crate::command::Command;
use crate::config::{ClientConfig, ConfigError, RetryConfig};
use crate::coordination::Coordination;
use crate::error::{CallError, Error, Fault, FaultKind};
use crate::value::Value;

/// A backend and how its calls are treated.
pub(super) struct Calls {
    backend: Arc<dyn Backend>,
    breakers: Breakers,
    /// The breaker for the backend as a whole; none when the backend asks one for each server, and
    /// for a connection of one's own.
    breaker: Option<Breaker>,
    retry: RetryConfig,
    command_timeout: Duration,
    connect_timeout: Duration,
    max_value_bytes: usize,
    hints: Hints,
    in_flight: InFlight,
    metrics: Metrics,
    /// The attributes of the other end, for spans.
    peer: Peer,
    /// What was seen of the connection's state when a call was last refused.
    connection: Mutex<watch::Receiver<ConnectionState>>,
    /// Whether the connection is one's own, where commands may change it.
    is_dedicated: bool,
    /// Ends calls on connections of one's own, also those of clients that this one is made of.
    ended: CancellationToken,
    /// Whether a transaction is known to be possible, or must not be tried out.
    transacts: AtomicBool,
    pub(super) coordination: Coordination,
}

impl Calls {
    pub(super) fn new(
        backend: Arc<dyn Backend>,
        config: &ClientConfig,
    ) -> Result<Self, ConfigError> {
        let (breakers, breaker) = match backend.breakers() {
            Some(breakers) => (breakers, None),
            None => {
                let breakers = Breakers::new(config.label(), config.breaker.clone())?;
                let whole = breakers.node(match backend.topology() {
                    Topology::Embedded => "embedded",
                    _ => "backend",
                });
                (breakers, Some(whole))
            }
        };
        Ok(Self {
            connection: Mutex::new(backend.state()),
            is_dedicated: false,
            ended: CancellationToken::new(),
            transacts: AtomicBool::new(false),
            peer: Peer::new(&*backend, config.database),
            backend,
            breakers,
            breaker,
            retry: config.retry,
            command_timeout: config.command_timeout,
            connect_timeout: config.connect_timeout,
            max_value_bytes: config.max_value_bytes,
            hints: Hints::default(),
            coordination: Coordination::new(),
            in_flight: InFlight::new(config.max_in_flight),
            metrics: Metrics::new(config.label()),
        })
    }

    /// The same treatment for a connection of one's own: no breaker and no retry. It ends with this client.
    pub(super) fn dedicated(&self, backend: Arc<dyn Backend>) -> Result<Self, Error> {
        let off = BreakerConfig {
            enabled: false,
            ..BreakerConfig::default()
        };
        let breakers = Breakers::new(format!("{}-dedicated", self.breakers.name()), off)?;
        Ok(Self {
            metrics: Metrics::new(breakers.name()),
            connection: Mutex::new(backend.state()),
            is_dedicated: true,
            ended: self.ended.child_token(),
            // It may be watching keys, which an empty transaction would end.
            transacts: AtomicBool::new(true),
            peer: self.peer.clone(),
            backend,
            breakers,
            breaker: None,
            retry: RetryConfig {
                max_attempts: 1,
                ..self.retry
            },
            command_timeout: self.command_timeout,
            connect_timeout: self.connect_timeout,
            max_value_bytes: self.max_value_bytes,
            hints: Hints::default(),
            coordination: Coordination::new(),
            in_flight: InFlight::new(self.in_flight.limit()),
        })
    }

    /// Carries out one command, by its own deadline, the command timeout and the budget. `earlier`
    /// tells of attempts that belong to the same call.
    pub(super) async fn run(
        &self,
        command: &mut Command,
        terms: Terms,
        earlier: &mut EarlierAttempts,
    ) -> Result<Value, CallError> {
        let Terms {
            start,
            budget,
            entry,
        } = terms;
        let limits = self.limits(start, budget);
        let deadline = limits.apply(command);
        let checked = self.check(std::slice::from_ref(command));
        let attempt = Single {
            backend: &*self.backend,
            command,
        };
        let admitted = checked.and_then(|()| self.in_flight.admit(entry));
        self.execute(attempt, admitted, Span { start, deadline }, earlier)
            .await
    }

    /// Carries out one command on one server, which is looked after and not used.
    pub(super) async fn run_past_breaker(
        &self,
        server: &str,
        command: &mut Command,
        start: Instant,
    ) -> Result<Value, CallError> {
        self.limits(start, None).apply(command);
        self.check(std::slice::from_ref(command))?;
        self.backend.call_on(server, command).await
    }

    /// Carries out several commands together. `earlier` tells of attempts that belong to the same calls.
    ///
    /// A command that must not be sent is refused by itself, and the others are sent, unless there is a transaction
    /// among them (or there may be, on a connection of one's own), which must not be carried out in part.
    pub(super) async fn run_all(
        &self,
        commands: &mut [Command],
        terms: Terms,
        earlier: &mut EarlierAttempts,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let Terms {
            start,
            budget,
            entry,
        } = terms;
        let limits = self.limits(start, budget);
        let mut deadline = start;
        for command in &mut *commands {
            deadline = deadline.max(limits.apply(command));
        }
        let span = Span { start, deadline };
        match self.check(commands) {
            Err(_) if !self.is_dedicated && !commands.iter().any(is_of_transaction) => {
                Box::pin(self.send_what_may_be(commands, span, entry, earlier)).await
            }
            checked => self.send_all(commands, checked, span, entry, earlier).await,
        }
    }

    async fn send_all(
        &self,
        commands: &[Command],
        checked: Result<(), CallError>,
        span: Span,
        entry: Entry,
        earlier: &mut EarlierAttempts,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let attempt = Batch {
            backend: &*self.backend,
            commands,
        };
        let admitted = checked.and_then(|()| self.in_flight.admit(entry));
        let mut replies = self.execute(attempt, admitted, span, earlier).await?;
        let mut is_hinted = false;
        for (reply, command) in replies.iter_mut().zip(commands) {
            if let Err(error) = reply {
                earlier.add_to(error);
                is_hinted = is_hinted || self.hint(command.name(), error);
            }
        }
        Ok(replies)
    }

    /// Gives the commands that must not be sent their refusals, and sends the others.
    #[cold]
    async fn send_what_may_be(
        &self,
        commands: &[Command],
        span: Span,
        entry: Entry,
        earlier: &mut EarlierAttempts,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let mut checked = Vec::with_capacity(commands.len());
        let mut sendable = Vec::with_capacity(commands.len());
        for command in commands {
            let mut allowed = self.check(std::slice::from_ref(command));
            match &mut allowed {
                Ok(()) => sendable.push(command.clone()),
                // It may have been carried out before, in a shorter form.
                Err(refusal) => earlier.add_to(refusal),
            }
            checked.push(allowed);
        }
        let sent = match checked.iter().find(|allowed| allowed.is_err()) {
            Some(refused) if sendable.is_empty() => {
                self.metrics.ended(refused, span.start.elapsed());
                Ok(Vec::new())
            }
            _ => self.send_all(&sendable, Ok(()), span, entry, earlier).await,
        };
        // Without a reply the commands that were sent share their error, and the others have their own.
        let (mut replies, failure) = match sent {
            Ok(replies) => (replies.into_iter(), None),
            Err(error) => (Vec::new().into_iter(), Some(error)),
        };
        let outcomes = checked.into_iter().map(|allowed| {
            allowed?;
            let missing = || match &failure {
                Some(error) => Err(error.clone()),
                None => Err(Fault::new(FaultKind::Protocol, "too few replies").maybe()),
            };
            replies.next().unwrap_or_else(missing)
        });
        Ok(outcomes.collect())
    }

    /// Finds out, once, whether the server opens and carries out transactions for this user: one
    /// that refused `MULTI` alone would carry out what comes after it. Takes no longer than `commands` may.
    pub(super) async fn try_transaction(
        &self,
        commands: &[Command],
        terms: Terms,
    ) -> Result<(), CallError> {
        if self.transacts.load(Ordering::Relaxed) {
            return Ok(());
        }
        let usual = terms.start + self.command_timeout;
        let deadlines = commands
            .iter()
            .map(|command| command.deadline_at().unwrap_or(usual));
        let deadline = deadlines.max().unwrap_or(usual);
        let mut empty =
            ["MULTI", "EXEC"].map(|name| Command::new(name).idempotent(true).deadline(deadline));
        let mut earlier = EarlierAttempts::default();
        for reply in self.run_all(&mut empty, terms, &mut earlier).await? {
            reply.map_err(not_permitted)?;
        }
        self.transacts.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Counts something as in flight that is not a call, such as making a subscription.
    pub(super) fn admit(&self) -> Result<Admission<'_>, CallError> {
        self.in_flight.admit(Entry::Limited)
    }

    /// Says what to do about a failure, if it is one of a setup that cannot work; whether it is.
    #[cold]
    pub(super) fn hint(&self, command: &str, error: &CallError) -> bool {
        let topology = self.backend.topology();
        self.hints
            .give(self.breakers.name(), command, topology, error)
    }

    pub(super) fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    pub(super) fn breakers(&self) -> &Breakers {
        &self.breakers
    }

    pub(super) fn stats(&self) -> ClientStats {
        ClientStats {
            in_flight: self.in_flight.count(),
            ..self.metrics.read()
        }
    }

    pub(super) fn latency(&self) -> Latency {
        self.metrics.latency()
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
        self.ended.cancel();
        self.backend.shutdown().await;
    }

    fn limits(&self, start: Instant, budget: Option<Duration>) -> Limits {
        Limits {
            usual: start + self.command_timeout,
            budget: budget.and_then(|budget| start.checked_add(budget)),
        }
    }

    async fn execute<A: Attempt>(
        &self,
        attempt: A,
        admitted: Result<Admission<'_>, CallError>,
        span: Span,
        earlier: &mut EarlierAttempts,
    ) -> Result<A::Reply, CallError> {
        let (mut result, end) = if let Err(error) = &admitted {
            (Err(error.clone()), span.start)
        } else if tracing::enabled!(target: "redkit::client", tracing::Level::DEBUG) {
            self.traced(&attempt, span, earlier).await
        } else {
            self.attempts(&attempt, span, earlier).await
        };
        if let Err(error) = &mut result {
            earlier.add_to(error);
            self.hint(attempt.name(), error);
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
        let traced = self.peer.span(attempt.commands());
        Box::pin(
            async move {
                let (result, end) = self.attempts(attempt, span, earlier).await;
                if let Err(error) = &result {
                    span::failed(error);
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
        let mut pauses = Pauses::new(self.retry);
        let mut now = span.start;
        loop {
            let permit = match self.permit(now) {
                Ok(permit) => permit,
                Err(error) => {
                    let_others_run(&error).await;
                    return (Err(error), now);
                }
            };
            let result = match self.is_dedicated {
                true => self.send_until_ended(attempt).await,
                false => attempt.send().await,
            };
            now = Instant::now();
            if let (Some(permit), Some(breaker)) = (permit, &self.breaker) {
                permit.settle_at(self.judge(attempt, &result, breaker, span), now);
            }
            let error = match result {
                Ok(reply) => return (Ok(reply), now),
                Err(error) => error,
            };
            match self.pause(&mut pauses, &error, attempt) {
                Some(pause) if now + pause < span.deadline => {
                    tracing::debug!(target: "redkit::client", command = attempt.name(), %error, ?pause, "retrying");
                    self.metrics.retried();
                    earlier.note(error);
                    sleep(pause).await;
                    now = Instant::now();
                }
                _ => {
                    let_others_run(&error).await;
                    return (Err(error), now);
                }
            }
        }
    }

    /// Sends on a connection of one's own, where a call may wait for longer than a shutdown does.
    async fn send_until_ended<A: Attempt>(&self, attempt: &A) -> Result<A::Reply, CallError> {
        let message = "the client was shut down";
        if self.ended.is_cancelled() {
            return Err(Fault::new(FaultKind::Shutdown, message).not_sent());
        }
        tokio::select! {
            biased;
            result = attempt.send() => result,
            // A call that is dropped takes its connection along.
            () = self.ended.cancelled() => Err(Fault::new(FaultKind::Shutdown, message).maybe()),
        }
    }

    /// What the end of an attempt says about the backend. A caller that waits for less than the
    /// command timeout learns nothing about it when its time is up.
    fn judge<A: Attempt>(
        &self,
        attempt: &A,
        result: &Result<A::Reply, CallError>,
        breaker: &Breaker,
        span: Span,
    ) -> Outcome {
        let fault = result.as_ref().err().and_then(CallError::fault);
        let is_timeout = fault.is_some_and(|fault| fault.kind() == FaultKind::Timeout);
        if is_timeout && span.deadline < span.start + self.command_timeout {
            return Outcome::Neutral;
        }
        attempt.judge(result, breaker)
    }

    fn permit(&self, now: Instant) -> Result<Option<Permit>, CallError> {
        let Some(breaker) = &self.breaker else {
            return Ok(None);
        };
        let permit = breaker.acquire_at(now).or_else(|open| {
            // A server that answers again deserves a probe at once.
            if self.has_recovered() {
                breaker.hint_recovered();
                if let Ok(permit) = breaker.acquire_at(now) {
                    return Ok(permit);
                }
            }
            Err(Fault::new(FaultKind::BreakerOpen, open.to_string()).not_sent())
        });
        permit.map(Some)
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
        for command in commands {
            self.check_size(command)?;
        }
        match (self.is_dedicated, commands) {
            (true, _) => Ok(()),
            (false, [command]) => check_shareable(command),
            (false, commands) => check_pipeline(commands),
        }
    }

    pub(super) fn max_value_bytes(&self) -> usize {
        self.max_value_bytes
    }

    /// Refuses a value that is too large for a connection that others share.
    fn check_size(&self, command: &Command) -> Result<(), CallError> {
        if command.byte_len() <= self.max_value_bytes {
            return Ok(());
        }
        let Some(bytes) = command
            .iter()
            .map(<[u8]>::len)
            .find(|l| *l > self.max_value_bytes)
        else {
            return Ok(());
        };
        let message = format!(
            "an argument of {} has {bytes} bytes, more than `max_value_bytes` ({}); it would hold up \
             every other caller of the connection: store less, compress it, or raise the limit",
            command.name(),
            self.max_value_bytes
        );
        Err(Fault::new(FaultKind::Invalid, message).not_sent())
    }

    /// How long to wait before the next attempt; `None` when there must not be one.
    #[cold]
    fn pause(
        &self,
        pauses: &mut Pauses,
        error: &CallError,
        attempt: &impl Attempt,
    ) -> Option<Duration> {
        let idempotent = attempt.is_idempotent();
        let may_repeat = match error {
            // The breaker has been asked; its answer is what it is for.
            CallError::NotSent(fault) if fault.kind() == FaultKind::BreakerOpen => false,
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
        pauses.next_pause()
    }
}

/// A refusal by the breaker takes no time. A caller that tries again and again at once would keep a
/// runtime of one thread from the task that makes the connection anew.
async fn let_others_run(error: &CallError) {
    if error
        .fault()
        .is_some_and(|fault| fault.kind() == FaultKind::BreakerOpen)
    {
        tokio::task::consume_budget().await;
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
