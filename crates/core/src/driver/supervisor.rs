//! The supervisor: owns the one live connection of a backend, probes it when it is silent or a
//! call timed out, and replaces it when it no longer answers.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use backon::{BackoffBuilder, ExponentialBuilder};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::link::{Connector, Link, Timing};
use crate::backend::{Capabilities, ConnectionState};
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
}

impl<L: Link> Supervisor<L> {
    /// Starts the task, which connects at once, or when [`link`](Self::link) is first called.
    pub(super) fn start(connector: impl Connector<Link = L>, timing: Timing, lazy: bool) -> Self {
        let shared = Arc::new(Shared {
            current: ArcSwapOption::empty(),
            state: watch::Sender::new(ConnectionState::Idle),
            fault: Mutex::new(None),
            wanted: Notify::new(),
            suspect: Notify::new(),
            shutdown: CancellationToken::new(),
            target: connector.target(),
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

    /// Tells the supervisor that a call timed out on the live connection.
    pub(super) fn suspect(&self) {
        self.shared.suspect.notify_one();
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
    }
}

async fn supervise<C: Connector>(shared: &Shared<C::Link>, connector: &C, timing: Timing) {
    let mut made = 0_u64;
    let mut attempt = 0_u32;
    let mut backoff = delays(timing.reconnect);
    if !shared.enter(ConnectionState::Connecting) {
        return;
    }
    loop {
        let connected = tokio::select! {
            outcome = connect(connector, timing) => outcome,
            () = shared.shutdown.cancelled() => return,
        };
        let fault = match connected {
            Ok(link) => {
                let since = Instant::now();
                let Some(fault) = serve_all(shared, connector, link, &mut made, timing).await
                else {
                    return;
                };
                // One that is closed as soon as it stands must not be made anew without a pause.
                if since.elapsed() > timing.reconnect.min_delay {
                    attempt = 0;
                    backoff = delays(timing.reconnect);
                } else {
                    attempt = attempt.saturating_add(1);
                }
                fault
            }
            Err(fault) => {
                attempt = attempt.saturating_add(1);
                fault
            }
        };
        if !shared.lost(attempt, fault) {
            return;
        }
        if attempt == 0 {
            // The first attempt after a loss is immediate: most losses are a server's restart or
            // a cut connection, and somebody is waiting.
            continue;
        }
        let pause = backoff.next().unwrap_or(timing.reconnect.max_delay);
        tokio::select! {
            () = sleep(pause.min(timing.reconnect.max_delay)) => {}
            () = shared.shutdown.cancelled() => return,
        }
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

/// Why a connection went out of service.
enum End<L> {
    Lost(Fault),
    /// It gave no sign of life, and this new one did.
    Replaced(L),
    Shutdown,
}

async fn serve<C: Connector>(
    shared: &Shared<C::Link>,
    connector: &C,
    link: &Arc<C::Link>,
    number: u64,
    timing: Timing,
) -> End<C::Link> {
    shared.current.store(Some(Arc::clone(link)));
    *shared.fault.lock() = None;
    if !shared.enter(ConnectionState::Connected(number)) {
        return End::Shutdown;
    }
    tracing::info!(target: "redkit::connection", server = %shared.target, number, "connected");
    let mut read_before = link.bytes_read();
    loop {
        let silent = tokio::select! {
            () = link.closed() => return End::Lost(closed()),
            () = shared.shutdown.cancelled() => return End::Shutdown,
            () = shared.suspect.notified() => true,
            () = sleep(timing.probe_interval) => link.bytes_read() == read_before,
        };
        if silent {
            // Who waits for the server to recover sees the way back to `Connected`.
            shared.enter(ConnectionState::Suspect(number));
            let verdict = tokio::select! {
                verdict = examine(&**link, connector, timing.probe_timeout) => verdict,
                () = shared.shutdown.cancelled() => return End::Shutdown,
            };
            if let Some(end) = verdict {
                return end;
            }
            shared.enter(ConnectionState::Connected(number));
        }
        read_before = link.bytes_read();
    }
}

/// Probes a connection, and tries a new one meanwhile: when the server answers there and not here,
/// this one is dead, and need not be waited for. `None` when it lives.
async fn examine<C: Connector>(
    link: &C::Link,
    connector: &C,
    limit: Duration,
) -> Option<End<C::Link>> {
    let before = link.bytes_read();
    let mut probe = std::pin::pin!(probe(link, limit));
    let verdict = tokio::select! {
        biased;
        verdict = &mut probe => verdict,
        next = impatient(connector) => {
            if link.bytes_read() == before {
                return Some(End::Replaced(next));
            }
            probe.await
        }
    };
    verdict.err().map(End::Lost)
}

fn closed() -> Fault {
    Fault::new(FaultKind::Disconnected, "the connection was closed")
}

/// Whether the connection still answers. Bytes that arrive count as an answer: the reply to the
/// probe may stand behind a large one.
async fn probe<L: Link>(link: &L, limit: Duration) -> Result<(), Fault> {
    loop {
        let before = link.bytes_read();
        match timeout(limit, link.ping()).await {
            Ok(answer) => return answer,
            Err(_) if link.bytes_read() != before => {}
            Err(_) => {
                return Err(Fault::new(
                    FaultKind::Timeout,
                    "the server no longer answers",
                ));
            }
        }
    }
}

/// Makes one connection. An attempt may take all of `connect_timeout`; when that passes without a
/// word, a server may have been stopped, or bytes may have been lost on the way, and may answer a
/// new attempt at once. So next to the first, patient attempt there is an impatient one. There are
/// never more than the two.
async fn connect<C: Connector>(connector: &C, timing: Timing) -> Result<C::Link, Fault> {
    tokio::select! {
        outcome = timeout(timing.connect_timeout, connector.connect()) => {
            outcome.unwrap_or_else(|_| Err(connect_timed_out(connector, timing)))
        }
        link = impatient(connector) => Ok(link),
    }
}

/// Tries to connect again and again, with little time for each attempt, and reports no failure.
async fn impatient<C: Connector>(connector: &C) -> C::Link {
    loop {
        // Also the first: who gets an answer within this time has no need of a second attempt.
        sleep(IMPATIENCE).await;
        if let Ok(Ok(link)) = timeout(IMPATIENCE, connector.connect()).await {
            return link;
        }
    }
}

/// Twice this, the longest time between two attempts, stays under the 100 ms in which a server
/// that answers again should be in use again.
const IMPATIENCE: Duration = Duration::from_millis(40);

fn connect_timed_out<C: Connector>(connector: &C, timing: Timing) -> Fault {
    let message = format!(
        "{} did not complete a connection within {:?} (`connect_timeout`); check that the server \
         runs, and whether the port wants TLS (rediss://) or not (redis://)",
        connector.target(),
        timing.connect_timeout
    );
    Fault::new(FaultKind::Connect, message)
}

fn delays(config: ReconnectConfig) -> impl Iterator<Item = Duration> {
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
