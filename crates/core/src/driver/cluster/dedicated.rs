//! A connection of one's own, to one node of the cluster.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Shared;
use super::slots::{SlotMap, slot_of, slot_of_all};
use crate::backend::{Backend, Capabilities, ConnectionState, Topology};
use crate::command::Command;
use crate::config::Address;
use crate::driver::dedicated::{Dedicated, takes_no_subscriptions};
use crate::driver::native::NativeConnector;
use crate::error::{CallError, Fault, FaultKind};
use crate::push::{Interest, PushStream};
use crate::value::Value;

/// A dedicated connection that is made when it is known to which node.
pub(super) struct OneNode {
    shared: Arc<Shared>,
    inner: tokio::sync::Mutex<Option<Opened>>,
    state: watch::Sender<ConnectionState>,
}

struct Opened {
    address: Address,
    /// Of the command that it was made for.
    slot: Option<u16>,
    node: Arc<Dedicated<NativeConnector>>,
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
    ) -> Result<Arc<Dedicated<NativeConnector>>, CallError> {
        timeout_at(deadline, self.connected(slot, deadline))
            .await
            .unwrap_or_else(|_| {
                let message = "no dedicated connection within the deadline";
                Err(Fault::new(FaultKind::Timeout, message).not_sent())
            })
    }

    async fn connected(
        &self,
        slot: Option<u16>,
        deadline: Instant,
    ) -> Result<Arc<Dedicated<NativeConnector>>, CallError> {
        let mut inner = self.inner.lock().await;
        let nodes = &self.shared.nodes;
        if let Some(opened) = &*inner {
            opened.check(slot, &nodes.view())?;
            return Ok(Arc::clone(&opened.node));
        }
        // Waits for somebody to serve it: a lazy client has no view before it is asked.
        let address = nodes.serving(slot, deadline).await?.address;
        let connector = nodes.connector_to(&address);
        let state = self.state.clone();
        let node = Dedicated::open_as(connector, self.shared.limits, Topology::Cluster, state);
        let node = Arc::new(node.await?);
        *inner = Some(Opened {
            address,
            slot,
            node: Arc::clone(&node),
        });
        Ok(node)
    }
}

impl Opened {
    /// Whether the node serves `slot`.
    fn check(&self, slot: Option<u16>, view: &SlotMap) -> Result<(), CallError> {
        let Some(slot) = slot.filter(|slot| view.owner(*slot) != Some(&self.address)) else {
            return Ok(());
        };
        let address = &self.address;
        // Nobody did anything wrong: it did serve the key.
        if self.slot == Some(slot) || !view.masters().contains(address) {
            let message = format!(
                "this dedicated connection is to {address}, which does not serve the key any more; \
                 open another"
            );
            return Err(Fault::new(FaultKind::Disconnected, message).not_sent());
        }
        let message = format!(
            "this dedicated connection is to {address}, which does not serve the key; open another \
             for keys of another node"
        );
        Err(Fault::new(FaultKind::Invalid, message).not_sent())
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
        if let Some(opened) = self.inner.lock().await.take() {
            opened.node.shutdown().await;
        }
        self.state.send_replace(ConnectionState::Closed);
    }
}
