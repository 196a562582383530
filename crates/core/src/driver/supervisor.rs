//! The supervisor: owns the one live connection of a backend, probes it when it is silent or a
//! call timed out, and replaces it when it no longer answers.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::backend::{Capabilities, ConnectionState};
use crate::config::ReconnectConfig;
use crate::error::{CallError, Fault, FaultKind};

/// Makes connections.
#[async_trait]
pub(super) trait Connector: Send + Sync + 'static {
    type Link: Link;

    /// Makes one connection, ready for commands.
    async fn connect(&self) -> Result<Self::Link, Fault>;

    /// Where it connects to, for messages.
    fn target(&self) -> String;
}

/// One connection.
#[async_trait]
pub(super) trait Link: Send + Sync + 'static {
    /// Waits until the connection is known to be broken.
    async fn closed(&self);

    /// Asks the server for a sign of life.
    async fn ping(&self) -> Result<(), Fault>;

    /// Counts the bytes that came in: a connection on which bytes arrive is alive, however late
    /// the answer to a probe is.
    fn bytes_read(&self) -> u64;

    /// What the server at the other end can do.
    fn capabilities(&self) -> Capabilities;
}

/// When to give up on what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub(super) connect_timeout: Duration,
    pub(super) probe_interval: Duration,
    pub(super) probe_timeout: Duration,
    pub(super) reconnect: ReconnectConfig,
}

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
            outcome = connect(connector, timing.connect_timeout) => outcome,
            () = shared.shutdown.cancelled() => return,
        };
        let fault = match connected {
            Ok(link) => {
                made += 1;
                attempt = 0;
                backoff = delays(timing.reconnect);
                match serve(shared, Arc::new(link), made, timing).await {
                    Some(fault) => fault,
                    None => return,
                }
            }
            Err(fault) => {
                attempt = attempt.saturating_add(1);
                fault
            }
        };
        let was_serving = attempt == 0;
        if !shared.lost(attempt, fault) {
            return;
        }
        if was_serving {
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

/// Keeps one connection in service until it breaks; `None` on shutdown.
async fn serve<L: Link>(
    shared: &Shared<L>,
    link: Arc<L>,
    number: u64,
    timing: Timing,
) -> Option<Fault> {
    shared.current.store(Some(Arc::clone(&link)));
    *shared.fault.lock() = None;
    if !shared.enter(ConnectionState::Connected(number)) {
        shared.current.store(None);
        return None;
    }
    tracing::info!(target: "redkit::connection", server = %shared.target, number, "connected");
    let mut read_before = link.bytes_read();
    loop {
        let silent = tokio::select! {
            () = link.closed() => {
                return Some(Fault::new(FaultKind::Disconnected, "the connection was closed"));
            }
            () = shared.shutdown.cancelled() => return None,
            () = shared.suspect.notified() => true,
            () = sleep(timing.probe_interval) => link.bytes_read() == read_before,
        };
        if silent && let Err(fault) = probe(&*link, timing.probe_timeout).await {
            return Some(fault);
        }
        read_before = link.bytes_read();
    }
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

async fn connect<C: Connector>(connector: &C, limit: Duration) -> Result<C::Link, Fault> {
    timeout(limit, connector.connect())
        .await
        .unwrap_or_else(|_| {
            let message = format!(
                "{} did not complete a connection within {limit:?} (`connect_timeout`)",
                connector.target()
            );
            Err(Fault::new(FaultKind::Connect, message))
        })
}

fn delays(config: ReconnectConfig) -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(config.min_delay)
        .with_max_delay(config.max_delay)
        .with_jitter()
        .without_max_times()
        .build()
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
        tracing::warn!(
            target: "redkit::connection",
            server = %self.target, attempt, error = %fault, "no connection"
        );
        let cause = fault.to_string().into();
        *self.fault.lock() = Some(fault);
        self.enter(ConnectionState::Reconnecting { attempt, cause })
    }
}
