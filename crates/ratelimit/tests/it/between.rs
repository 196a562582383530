//! [`Between`]: stands between a client and an engine, keeps what passes, and fails as it is told.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use redkit_core::breaker::BreakerConfig;
use redkit_core::{
    Backend, CallError, Capabilities, Client, ClientConfig, Command, ConnectionState, Fault,
    FaultKind, Interest, PushStream, ServerError, Topology, Value,
};
use redkit_embedded::Embedded;
use tokio::sync::watch;

/// What becomes of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// No connection can be made.
    Down,
    /// Carried out, and the reply is lost.
    NoReply,
    /// Refused because of the server's state.
    Refused,
    /// Nothing comes until the deadline.
    Hangs,
    /// A mistake in the driver.
    Panics,
}

pub(crate) struct Between {
    inner: Embedded,
    seen: Mutex<Vec<Vec<Vec<u8>>>>,
    way: Mutex<(Way, &'static str)>,
}

impl Between {
    /// With a client that neither repeats by itself nor stops asking.
    pub(crate) fn new() -> (Arc<Self>, Client) {
        let between = Arc::new(Self {
            inner: Embedded::new(),
            seen: Mutex::default(),
            way: Mutex::new((Way::Open, "")),
        });
        let mut breaker = BreakerConfig::default();
        breaker.enabled = false;
        let config = ClientConfig::default()
            .breaker(breaker)
            .retry(1, Duration::ZERO, Duration::ZERO)
            .command_timeout(Duration::from_secs(2));
        let backend: Arc<dyn Backend> = Arc::clone(&between) as _;
        let client = Client::from_backend(backend, &config).unwrap();
        (between, client)
    }

    /// What becomes of all commands from now on.
    pub(crate) fn set(&self, way: Way) {
        self.set_for(way, "");
    }

    /// What becomes of commands with such an argument.
    pub(crate) fn set_for(&self, way: Way, part: &'static str) {
        *self.way.lock() = (way, part);
    }

    /// The commands that were sent, with their arguments.
    pub(crate) fn seen(&self) -> Vec<Vec<Vec<u8>>> {
        self.seen.lock().clone()
    }

    /// How many arguments ended so.
    pub(crate) fn count(&self, end: &str) -> usize {
        let seen = self.seen.lock();
        let arguments = seen.iter().flatten();
        arguments
            .filter(|argument| argument.ends_with(end.as_bytes()))
            .count()
    }

    async fn pass(&self, commands: &[Command]) -> Result<(), CallError> {
        let words = |command: &Command| command.iter().map(<[u8]>::to_vec).collect();
        self.seen.lock().extend(commands.iter().map(words));
        let (way, part) = *self.way.lock();
        let is_meant = |word: &[u8]| String::from_utf8_lossy(word).contains(part);
        if !commands.iter().any(|command| command.iter().any(is_meant)) {
            return Ok(());
        }
        match way {
            Way::Open => Ok(()),
            Way::Down => Err(Fault::new(FaultKind::Connect, "down").not_sent()),
            Way::NoReply => {
                for command in commands {
                    drop(self.inner.call(command).await);
                }
                Err(Fault::new(FaultKind::Disconnected, "lost").maybe())
            }
            Way::Refused => Err(CallError::Replied(ServerError::new("LOADING", "wait"))),
            Way::Hangs => {
                let deadline = commands.iter().filter_map(Command::deadline_at).max();
                tokio::time::sleep_until(deadline.unwrap()).await;
                Err(Fault::new(FaultKind::Timeout, "it hangs").maybe())
            }
            Way::Panics => panic!("a driver that panics"),
        }
    }
}

#[async_trait]
impl Backend for Between {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        self.pass(std::slice::from_ref(command)).await?;
        self.inner.call(command).await
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        self.pass(commands).await?;
        self.inner.pipeline(commands).await
    }

    async fn subscribe(&self, interest: Interest) -> Result<PushStream, CallError> {
        self.inner.subscribe(interest).await
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        self.inner.dedicated().await
    }

    fn topology(&self) -> Topology {
        self.inner.topology()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.inner.state()
    }

    async fn shutdown(&self) {
        self.inner.shutdown().await;
    }
}
