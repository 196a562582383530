//! The supervisor: owns the one live connection to a server, probes it when it is silent or a call
//! timed out, and replaces it when it no longer answers. It is the one who knows of silence, and
//! opens and closes the server's breaker by it.

mod connecting;
mod serving;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::connecting::connect;
use self::serving::{End, serve};
use super::link::{Connector, Link, Timing, is_timeout};
use crate::backend::{Capabilities, ConnectionState};
#[cfg(feature = "native")]
use crate::breaker::BreakerState;
use crate::breaker::{Breaker, Outcome, Permit};
use crate::config::ReconnectConfig;
use crate::error::{CallError, Fault, FaultKind};

/// The handle that a backend keeps. Dropping it ends the task and closes the connection.
pub(super) struct Supervisor<L> {
    shared: Arc<Shared<L>>,
    _task: AbortOnDropHandle<()>,
}

struct Shared<L> {
    current: ArcSwapOption<L>,
    state: watch::Sender<ConnectionState>,
    /// The last failure to connect, with its kind.
    fault: Mutex<Option<Fault>>,
    /// A call wants a connection although none was made yet.
    wanted: Notify,
    /// A call timed out.
    suspect: Notify,
    shutdown: CancellationToken,
    target: String,
    breaker: Breaker,
    /// How long a call waits at least before its timeout says something about the server.
    patience: Duration,
}

impl<L: Link> Supervisor<L> {
    /// Starts the task, which connects at once, or when [`link`](Self::link) is first called.
    /// What it finds out about the server it tells `breaker`.
    pub(super) fn start(
        connector: impl Connector<Link = L>,
        timing: Timing,
        lazy: bool,
        breaker: Breaker,
    ) -> Self {
        let shared = Arc::new(Shared {
            current: ArcSwapOption::empty(),
            state: watch::Sender::new(ConnectionState::Idle),
            fault: Mutex::new(None),
            wanted: Notify::new(),
            suspect: Notify::new(),
            shutdown: CancellationToken::new(),
            target: connector.target(),
            breaker,
            patience: timing.stall_timeout / 2,
        });
        let ended = EndGuard(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            let shared = Arc::clone(&ended.0);
            if lazy {
                tokio::select! {
                    () = shared.wanted.notified() => {}
                    () = shared.shutdown.cancelled() => return,
                }
            }
            supervise(&shared, &connector, timing).await;
            drop(ended);
        });
        Self {
            shared,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// The live connection; waits for one until `deadline`.
    pub(super) async fn link(&self, deadline: Instant) -> Result<Arc<L>, CallError> {
        if let Some(link) = self.shared.current.load_full() {
            return Ok(link);
        }
        self.wait_for_link(deadline).await
    }

    /// The live connection, if there is one now.
    #[cfg(feature = "native")]
    pub(super) fn current(&self) -> Option<Arc<L>> {
        self.shared.current.load_full()
    }

    /// Tells the supervisor that a call, let through by `permit`, timed out on the live connection.
    /// One that did not wait for long says nothing.
    fn suspect(&self, permit: &Permit) {
        if permit.started().elapsed() >= self.shared.patience {
            self.shared.suspect.notify_one();
        }
    }

    /// Leave to send something to the server.
    pub(super) fn permit(&self) -> Result<Permit, CallError> {
        self.shared.breaker.acquire().map_err(|open| {
            let message = format!("{}: {open}", self.shared.target);
            Fault::new(FaultKind::BreakerOpen, message).not_sent()
        })
    }

    /// What the outcome of a call, let through by `permit`, says about the server.
    pub(super) fn settle<T>(
        &self,
        permit: Permit,
        outcome: &Result<T, CallError>,
        judge: impl FnOnce(&Breaker) -> Outcome,
    ) {
        let now = Instant::now();
        let fault = outcome.as_ref().err().and_then(CallError::fault);
        let is_timeout = fault.is_some_and(|fault| fault.kind() == FaultKind::Timeout);
        // A caller that did not wait for long learns nothing when its time is up.
        match is_timeout && now.duration_since(permit.started()) < self.shared.patience {
            true => permit.settle_at(Outcome::Neutral, now),
            false => permit.settle_at(judge(&self.shared.breaker), now),
        }
    }

    /// Waits for the reply to what was sent on `link`, which ends by its deadline, and notes that
    /// the server owes it.
    pub(super) async fn answer<T>(
        &self,
        link: &L,
        permit: &Permit,
        sent: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let waiting = link.activity().wait();
        let reply = sent.await;
        match &reply {
            _ if is_timeout(&reply) => self.suspect(permit),
            // The server was asked nothing, and said nothing.
            Err(CallError::NotSent(_)) => {}
            _ => waiting.answered(),
        }
        reply
    }

    /// [`answer`](Self::answer) for what was sent past the breaker.
    pub(super) async fn answer_past_breaker<T>(
        &self,
        link: &L,
        sent: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let start = Instant::now();
        let waiting = link.activity().wait();
        let reply = sent.await;
        match &reply {
            _ if is_timeout(&reply) => {
                if start.elapsed() >= self.shared.patience {
                    self.shared.suspect.notify_one();
                }
            }
            Err(CallError::NotSent(_)) => {}
            _ => waiting.answered(),
        }
        reply
    }

    /// Whether calls are let through, and there is a connection to carry them.
    #[cfg(feature = "native")]
    pub(super) fn is_usable(&self) -> bool {
        self.shared.breaker.state().is_permitting() && self.shared.state.borrow().is_connected()
    }

    /// The state of the server's breaker and every change of it.
    #[cfg(feature = "native")]
    pub(super) fn breaker_events(&self) -> watch::Receiver<BreakerState> {
        self.shared.breaker.events()
    }

    /// Waits for the outcome of the first attempt to connect.
    pub(super) async fn first_attempt(&self) -> Result<(), Fault> {
        let mut state = self.shared.state.subscribe();
        let settled = state
            .wait_for(|state| !matches!(state, ConnectionState::Idle | ConnectionState::Connecting))
            .await
            .map(|state| state.is_connected());
        match settled {
            Ok(true) => Ok(()),
            _ => Err(self.shared.fault.lock().clone().unwrap_or_else(shut_down)),
        }
    }

    pub(super) fn state(&self) -> watch::Receiver<ConnectionState> {
        self.shared.state.subscribe()
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        self.shared
            .current
            .load()
            .as_ref()
            .map_or(Capabilities::UNKNOWN, |link| link.capabilities())
    }

    /// Closes the connection; there will be no other.
    pub(super) fn shutdown(&self) {
        self.shared.shutdown.cancel();
        self.shared.current.store(None);
        self.shared.state.send_replace(ConnectionState::Closed);
        // Calls are to be told that the client was shut down.
        self.shared.breaker.resume();
    }

    #[cold]
    async fn wait_for_link(&self, deadline: Instant) -> Result<Arc<L>, CallError> {
        self.shared.wanted.notify_one();
        let mut state = self.shared.state.subscribe();
        loop {
            if let Some(link) = self.shared.current.load_full() {
                return Ok(link);
            }
            if matches!(*state.borrow_and_update(), ConnectionState::Closed) {
                return Err(shut_down().not_sent());
            }
            match timeout_at(deadline, state.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(shut_down().not_sent()),
                Err(_) => return Err(self.no_connection().not_sent()),
            }
        }
    }

    fn no_connection(&self) -> Fault {
        let target = &self.shared.target;
        match &*self.shared.fault.lock() {
            Some(fault) => {
                let message = format!("no connection to {target} within the deadline: {fault}");
                Fault::new(FaultKind::Timeout, message).with_source(fault.clone())
            }
            None => Fault::new(
                FaultKind::Timeout,
                format!("no connection to {target} within the deadline"),
            ),
        }
    }
}

fn shut_down() -> Fault {
    Fault::new(FaultKind::Shutdown, "the client was shut down")
}

/// Whatever ends the task, nobody waits for a connection that cannot come any more.
struct EndGuard<L>(Arc<Shared<L>>);

impl<L> Drop for EndGuard<L> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(target: "redkit::connection", server = %self.0.target, "supervisor panicked");
        }
        self.0.current.store(None);
        self.0.state.send_replace(ConnectionState::Closed);
        // Nobody would ask the server any more: callers are to be told that there is no connection.
        self.0.breaker.resume();
    }
}

async fn supervise<C: Connector>(shared: &Shared<C::Link>, connector: &C, timing: Timing) {
    let mut made = 0_u64;
    let mut attempts = Attempts::new(timing.reconnect);
    if !shared.enter(ConnectionState::Connecting) {
        return;
    }
    loop {
        let connected = tokio::select! {
            connected = attempts.connect(shared, connector, timing) => connected,
            () = shared.suspend_after(timing.stall_timeout) => return,
        };
        let Some(link) = connected else { return };
        let since = Instant::now();
        let Some(fault) = serve_all(shared, connector, link, &mut made, timing).await else {
            return;
        };
        if !attempts.lost(shared, since, fault) {
            return;
        }
    }
}

/// The attempts to connect since the last connection that lasted, and the pauses between them.
struct Attempts {
    made: u32,
    config: ReconnectConfig,
    pauses: ExponentialBackoff,
}

impl Attempts {
    fn new(config: ReconnectConfig) -> Self {
        Self {
            made: 0,
            config,
            pauses: pauses(config),
        }
    }

    /// Connects, however many attempts it takes; `None` on shutdown. The first attempt after a loss
    /// is immediate: most losses are a server's restart or a cut connection, and somebody is
    /// waiting.
    async fn connect<C: Connector>(
        &mut self,
        shared: &Shared<C::Link>,
        connector: &C,
        timing: Timing,
    ) -> Option<C::Link> {
        loop {
            if self.made > 0 {
                let pause = self.pauses.next().unwrap_or(self.config.max_delay);
                tokio::select! {
                    () = sleep(pause.min(self.config.max_delay)) => {}
                    () = shared.shutdown.cancelled() => return None,
                }
            }
            let connected = tokio::select! {
                outcome = connect(connector, timing) => outcome,
                () = shared.shutdown.cancelled() => return None,
            };
            match connected {
                Ok(link) => return Some(link),
                Err(fault) => {
                    self.made = self.made.saturating_add(1);
                    if !shared.lost(self.made, fault) {
                        return None;
                    }
                }
            }
        }
    }

    /// A connection that stood since then was lost. Gives `false` after shutdown.
    fn lost<L>(&mut self, shared: &Shared<L>, since: Instant, fault: Fault) -> bool {
        // One that is closed as soon as it stands must not be made anew without a pause.
        if since.elapsed() > self.config.min_delay {
            *self = Self::new(self.config);
        } else {
            self.made = self.made.saturating_add(1);
        }
        shared.lost(self.made, fault)
    }
}

/// Keeps a connection, and those that replace it without a break, in service; `None` on shutdown.
async fn serve_all<C: Connector>(
    shared: &Shared<C::Link>,
    connector: &C,
    first: C::Link,
    made: &mut u64,
    timing: Timing,
) -> Option<Fault> {
    let mut link = first;
    loop {
        *made += 1;
        let current = Arc::new(link);
        let end = serve(shared, connector, &current, *made, timing).await;
        shared.current.store(None);
        current.close();
        match end {
            End::Replaced(next) => link = next,
            End::Lost(fault) => return Some(fault),
            End::Shutdown => return None,
        }
    }
}

fn pauses(config: ReconnectConfig) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(config.min_delay)
        .with_max_delay(config.max_delay)
        .with_jitter()
        .without_max_times()
        .build()
}

/// An outage of hours must not fill a log: the first attempts, then ever fewer.
pub(super) fn is_worth_a_line(attempt: u32) -> bool {
    attempt <= 2 || attempt.is_power_of_two()
}

impl<L> Shared<L> {
    /// Moves to `next`, unless shut down meanwhile.
    fn enter(&self, next: ConnectionState) -> bool {
        self.state.send_if_modified(|state| {
            if matches!(state, ConnectionState::Closed) {
                return false;
            }
            *state = next;
            true
        })
    }

    /// The server has given a sign of life on this connection.
    fn is_alive<C>(&self, number: u64) -> Result<(), End<C>> {
        match self.enter(ConnectionState::Connected(number)) {
            true => Ok(()),
            false => Err(End::Shutdown),
        }
    }

    /// Opens the breaker when there has been no connection for `limit`, and returns on shutdown.
    async fn suspend_after(&self, limit: Duration) {
        let since = Instant::now();
        let mut state = self.state.subscribe();
        // Until the first attempt has failed nothing is known.
        let failed = state.wait_for(|state| matches!(state, ConnectionState::Reconnecting { .. }));
        if failed.await.is_ok() {
            sleep_until(since + limit).await;
            self.breaker.suspend();
        }
        self.shutdown.cancelled().await;
    }

    /// No connection any more, or still none. Gives `false` after shutdown.
    fn lost(&self, attempt: u32, fault: Fault) -> bool {
        self.current.store(None);
        if is_worth_a_line(attempt) {
            tracing::warn!(
                target: "redkit::connection",
                server = %self.target, attempt, error = %fault, "no connection"
            );
        }
        let cause = fault.to_string().into();
        *self.fault.lock() = Some(fault);
        self.enter(ConnectionState::Reconnecting { attempt, cause })
    }
}
