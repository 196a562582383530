//! [`SimulatedBackend`]: the backend of a client in a world, and a connection of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use redkit_core::{
    Backend, CallError, Capabilities, Command, ConnectionState, Fault, FaultKind, Interest,
    PushStream, ServerKind, Topology, Value, check_pipeline, check_shareable,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::network::{ConnectionId, DriverId, SharedNetwork};
use super::{ProcessId, ServerId};

/// A client's way to a server through the network of a world.
pub(super) struct SimulatedBackend {
    network: SharedNetwork,
    driver: DriverId,
    state: watch::Receiver<ConnectionState>,
}

/// For a call that says nothing itself.
const USUAL_TIMEOUT: Duration = Duration::from_secs(1);

impl SimulatedBackend {
    pub(super) fn new(
        network: &SharedNetwork,
        process: ProcessId,
        incarnation: u32,
        server: ServerId,
    ) -> Self {
        let (driver, state) = network.lock().add_driver(process, incarnation, server);
        Self {
            network: Arc::clone(network),
            driver,
            state,
        }
    }

    /// The connection for commands; waits for one until the deadline.
    async fn connection(&self, deadline: Instant) -> Result<ConnectionId, CallError> {
        let mut state = self.state.clone();
        loop {
            let is_closed = *state.borrow_and_update() == ConnectionState::Closed;
            if is_closed {
                return Err(shut_down());
            }
            if let Some(connection) = self.network.lock().commands_of(self.driver) {
                return Ok(connection);
            }
            match timeout_at(deadline, state.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(shut_down()),
                Err(_) => {
                    let fault = Fault::new(FaultKind::Timeout, "no connection by the deadline");
                    return Err(fault.not_sent());
                }
            }
        }
    }
}

#[async_trait]
impl Backend for SimulatedBackend {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        check_shareable(command)?;
        let deadline = deadline_of(std::slice::from_ref(command));
        let connection = self.connection(deadline).await?;
        let commands = vec![command.clone()];
        only(exchange(&self.network, connection, commands, deadline).await?)
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        check_pipeline(commands)?;
        let deadline = deadline_of(commands);
        let connection = self.connection(deadline).await?;
        exchange(&self.network, connection, commands.to_vec(), deadline).await
    }

    async fn subscribe(&self, interest: Interest) -> Result<PushStream, CallError> {
        interest.check()?;
        let (id, confirmed) = self.network.lock().subscribe(self.driver, interest);
        let stream = confirmed.await.unwrap_or_else(|_| Err(shut_down()))?;
        let (network, driver) = (Arc::downgrade(&self.network), self.driver);
        Ok(stream.on_drop(move || {
            if let Some(network) = network.upgrade() {
                network.lock().unsubscribe(driver, id);
            }
        }))
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        let opened = self.network.lock().open_dedicated(self.driver);
        let connection = opened.await.unwrap_or_else(|_| Err(shut_down()))?;
        Ok(Arc::new(DedicatedBackend {
            network: Arc::clone(&self.network),
            connection,
            state: watch::Sender::new(ConnectionState::Connected(1)),
            is_given_up: AtomicBool::new(false),
        }))
    }

    fn topology(&self) -> Topology {
        Topology::Standalone
    }

    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.clone()
    }

    async fn shutdown(&self) {
        self.network.lock().remove_driver(self.driver);
    }
}

impl Drop for SimulatedBackend {
    fn drop(&mut self) {
        self.network.lock().remove_driver(self.driver);
    }
}

/// A connection that nobody shares, and that is not made anew.
struct DedicatedBackend {
    network: SharedNetwork,
    connection: ConnectionId,
    state: watch::Sender<ConnectionState>,
    /// A call got no answer: nobody knows the connection's state.
    is_given_up: AtomicBool,
}

impl DedicatedBackend {
    async fn exchange(&self, commands: Vec<Command>) -> Replies {
        let is_closed = self.network.lock().is_closed(self.connection);
        if is_closed || self.is_given_up.load(Ordering::Relaxed) {
            let fault = Fault::new(FaultKind::Disconnected, "the connection is closed");
            return Err(fault.not_sent());
        }
        let deadline = deadline_of(&commands);
        let guard = GivenUp(self);
        let answer = exchange(&self.network, self.connection, commands, deadline).await;
        if answer.is_ok() {
            std::mem::forget(guard);
        }
        answer
    }
}

/// Dropped while a call has no answer.
struct GivenUp<'a>(&'a DedicatedBackend);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.0.is_given_up.store(true, Ordering::Relaxed);
        self.0.network.lock().close(self.0.connection);
    }
}

#[async_trait]
impl Backend for DedicatedBackend {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        only(self.exchange(vec![command.clone()]).await?)
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        self.exchange(commands.to_vec()).await
    }

    async fn subscribe(&self, _: Interest) -> Result<PushStream, CallError> {
        Err(unsupported())
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        Err(unsupported())
    }

    fn topology(&self) -> Topology {
        Topology::Standalone
    }

    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    async fn shutdown(&self) {
        drop(GivenUp(self));
    }
}

impl Drop for DedicatedBackend {
    fn drop(&mut self) {
        self.network.lock().close(self.connection);
    }
}

type Replies = Result<Vec<Result<Value, CallError>>, CallError>;

/// Sends a request and waits for its answer until the deadline.
async fn exchange(
    network: &SharedNetwork,
    connection: ConnectionId,
    commands: Vec<Command>,
    deadline: Instant,
) -> Replies {
    let answer = network.lock().send(connection, commands);
    tokio::select! {
        biased;
        answer = answer => answer.unwrap_or_else(|_| Err(disconnected())),
        () = sleep_until(deadline) => {
            Err(Fault::new(FaultKind::Timeout, "no reply by the deadline").maybe())
        }
    }
}

/// The latest deadline of the commands.
fn deadline_of(commands: &[Command]) -> Instant {
    let deadlines = commands.iter().filter_map(Command::deadline_at);
    let latest = deadlines.max();
    latest.unwrap_or_else(|| Instant::now() + USUAL_TIMEOUT)
}

fn only(mut replies: Vec<Result<Value, CallError>>) -> Result<Value, CallError> {
    replies.pop().unwrap_or_else(|| Err(disconnected()))
}

/// Those of the engine, which every server of a world is.
fn capabilities() -> Capabilities {
    let mut capabilities = Capabilities::of(ServerKind::Redis, (7, 0, 15));
    capabilities.field_expiry = true;
    capabilities
}

fn disconnected() -> CallError {
    Fault::new(FaultKind::Disconnected, "the connection broke").maybe()
}

fn shut_down() -> CallError {
    Fault::new(FaultKind::Shutdown, "the client was shut down").not_sent()
}

fn unsupported() -> CallError {
    let text = "a dedicated connection of a world carries commands alone";
    Fault::new(FaultKind::Unsupported, text).not_sent()
}
