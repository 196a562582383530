//! A connection of one's own, to one node of the cluster.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Shared;
use super::slots::{slot_of, slot_of_all};
use crate::backend::{Backend, Capabilities, ConnectionState, Topology};
use crate::command::Command;
use crate::config::Address;
use crate::driver::dedicated::{Dedicated, takes_no_subscriptions};
use crate::driver::redis::connector::RedisConnector;
use crate::error::{CallError, Fault, FaultKind};
use crate::push::{Interest, PushStream};
use crate::value::Value;

/// A dedicated connection that is made when it is known to which node.
pub(super) struct OneNode {
    shared: Arc<Shared>,
    inner: tokio::sync::Mutex<Option<(Address, Arc<Dedicated<RedisConnector>>)>>,
    state: watch::Sender<ConnectionState>,
}

impl OneNode {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            inner: tokio::sync::Mutex::new(None),
            state: watch::Sender::new(ConnectionState::Idle),
        }
    }

    /// The connection, made now if need be; callers at the same time wait for the one, each until
    /// its own deadline.
    async fn node(
        &self,
        slot: Option<u16>,
        deadline: Instant,
    ) -> Result<Arc<Dedicated<RedisConnector>>, CallError> {
        timeout_at(deadline, self.connected(slot))
            .await
            .unwrap_or_else(|_| {
                let message = "no dedicated connection within the deadline";
                Err(Fault::new(FaultKind::Timeout, message).not_sent())
            })
    }

    async fn connected(
        &self,
        slot: Option<u16>,
    ) -> Result<Arc<Dedicated<RedisConnector>>, CallError> {
        let mut inner = self.inner.lock().await;
        let view = self.shared.nodes.view();
        let owner = match slot {
            Some(slot) => view.owner(slot).cloned(),
            None => view.masters().into_iter().next(),
        };
        if let Some((address, node)) = &*inner {
            if slot.is_some() && owner.as_ref() != Some(address) {
                let message = format!(
                    "this dedicated connection is to {address}, which does not serve the key; \
                     open another for keys of another node"
                );
                return Err(Fault::new(FaultKind::Invalid, message).not_sent());
            }
            return Ok(Arc::clone(node));
        }
        let address = owner.ok_or_else(|| {
            Fault::new(FaultKind::Connect, "no node of the cluster serves the key").not_sent()
        })?;
        let connector = self.shared.nodes.connector_to(&address);
        let limits = self.shared.limits;
        let node = Arc::new(Dedicated::open(connector, limits, Topology::Cluster).await?);
        self.state.send_replace(ConnectionState::Connected(1));
        *inner = Some((address, Arc::clone(&node)));
        Ok(node)
    }
}

#[async_trait]
impl Backend for OneNode {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        let deadline = self.shared.limits.deadline(command);
        self.node(slot_of(command)?, deadline)
            .await?
            .call(command)
            .await
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let Some(deadline) = self.shared.limits.latest(commands) else {
            return Ok(Vec::new());
        };
        let slot = slot_of_all(commands)?;
        self.node(slot, deadline).await?.pipeline(commands).await
    }

    async fn subscribe(&self, _: Interest) -> Result<PushStream, CallError> {
        Err(takes_no_subscriptions())
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        Ok(Arc::new(Self::new(&self.shared)))
    }

    fn topology(&self) -> Topology {
        Topology::Cluster
    }

    fn capabilities(&self) -> Capabilities {
        self.shared.nodes.capabilities()
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    async fn shutdown(&self) {
        if let Some((_, node)) = self.inner.lock().await.take() {
            node.shutdown().await;
        }
        self.state.send_replace(ConnectionState::Closed);
    }
}
