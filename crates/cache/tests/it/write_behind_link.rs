//! A way to an embedded engine that can be cut, or be slow, as a network is.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redkit_core::{
    Backend, CallError, Capabilities, Client, ClientConfig, Command, ConnectionState, Fault,
    FaultKind, Interest, PushStream, Topology, Value,
};
use redkit_embedded::Embedded;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

const LONG: Duration = Duration::from_secs(60);

/// The way of one process to the engine: it can be cut, and replies can be late.
pub(crate) struct Link {
    engine: Embedded,
    is_open: watch::Sender<bool>,
    lateness: Duration,
}

impl Link {
    pub(crate) fn new(engine: &Embedded, lateness: Duration) -> Arc<Self> {
        Arc::new(Self {
            engine: engine.clone(),
            is_open: watch::channel(true).0,
            lateness,
        })
    }

    /// Calls hang until it is mended, or until their deadline.
    pub(crate) fn cut(&self) {
        self.is_open.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.is_open.send_replace(true);
    }

    pub(crate) fn client(self: &Arc<Self>) -> Client {
        let config = ClientConfig::default().command_timeout(Duration::from_secs(5));
        Client::from_backend(Arc::<Self>::clone(self), &config).unwrap()
    }
}

#[async_trait]
impl Backend for Link {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        let deadline = command
            .deadline_at()
            .unwrap_or_else(|| Instant::now() + LONG);
        let call = async {
            self.is_open.subscribe().wait_for(|open| *open).await.ok();
            let reply = self.engine.call(command).await;
            sleep(self.lateness).await;
            reply
        };
        let late = |_| Fault::new(FaultKind::Timeout, "no reply").maybe();
        timeout_at(deadline, call).await.map_err(late)?
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        self.engine.pipeline(commands).await
    }

    async fn subscribe(&self, interest: Interest) -> Result<PushStream, CallError> {
        self.engine.subscribe(interest).await
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        self.engine.dedicated().await
    }

    fn topology(&self) -> Topology {
        self.engine.topology()
    }

    fn capabilities(&self) -> Capabilities {
        self.engine.capabilities()
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.engine.state()
    }

    async fn shutdown(&self) {
        self.engine.shutdown().await;
    }
}
