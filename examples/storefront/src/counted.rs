//! [`Counted`]: the way to the server, with the round trips of each request counted. Every command of every
//! pattern goes through one seam, so that this is all that it takes.

use std::sync::Arc;

use async_trait::async_trait;
use redkit::core::breaker::Breakers;
use redkit::core::{Backend, Capabilities, ServerNode};
use redkit::{CallError, Command, ConnectionState, Interest, PushStream, Topology, Value};
use tokio::sync::watch;

use crate::context;

/// A backend whose calls are counted for the request that makes them.
pub(crate) struct Counted(pub(crate) Arc<dyn Backend>);

#[async_trait]
impl Backend for Counted {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        context::round_trip();
        self.0.call(command).await
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        context::round_trip();
        self.0.pipeline(commands).await
    }

    async fn subscribe(&self, interest: Interest) -> Result<PushStream, CallError> {
        self.0.subscribe(interest).await
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        self.0.dedicated().await
    }

    async fn dedicated_to(&self, server: &str) -> Result<Arc<dyn Backend>, CallError> {
        self.0.dedicated_to(server).await
    }

    fn topology(&self) -> Topology {
        self.0.topology()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.0.state()
    }

    fn breakers(&self) -> Option<Breakers> {
        self.0.breakers()
    }

    fn servers(&self) -> Vec<ServerNode> {
        self.0.servers()
    }

    async fn call_on(&self, server: &str, command: &Command) -> Result<Value, CallError> {
        self.0.call_on(server, command).await
    }

    async fn shutdown(&self) {
        self.0.shutdown().await;
    }
}
