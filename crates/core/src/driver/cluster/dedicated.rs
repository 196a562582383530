//! A connection of one's own, to one node of the cluster.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Shared;
use super::pipelines::{is_aborted, is_one_transaction};
use super::slots::{Redirect, SlotMap, redirection, slot_of, slot_of_all};
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
    inner: tokio::sync::Mutex<Option<Arc<Opened>>>,
    state: watch::Sender<ConnectionState>,
}

struct Opened {
    address: Address,
    /// Of the command that it was made for.
    slot: Option<u16>,
    node: Dedicated<NativeConnector>,
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
    async fn node(&self, slot: Option<u16>, deadline: Instant) -> Result<Arc<Opened>, CallError> {
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
    ) -> Result<Arc<Opened>, CallError> {
        let mut inner = self.inner.lock().await;
        let nodes = &self.shared.nodes;
        if let Some(opened) = &*inner {
            opened.check(slot, &nodes.view())?;
            return Ok(Arc::clone(opened));
        }
        // Waits for somebody to serve it: a lazy client has no view before it is asked.
        let address = nodes.serving(slot, deadline).await?.address;
        let connector = nodes.connector_to(&address);
        let state = self.state.clone();
        let node = Dedicated::open_as(connector, self.shared.limits, Topology::Cluster, state);
        let opened = Arc::new(Opened {
            address,
            slot,
            node: node.await?,
        });
        *inner = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// When the node sent `command` elsewhere: that another connection is needed. The client learns from it, so that
    /// the next one is to the right node.
    fn elsewhere(
        &self,
        opened: &Opened,
        command: &Command,
        reply: &Result<Value, CallError>,
    ) -> Option<Fault> {
        let error = reply.as_ref().err()?.server_error()?;
        let address = &opened.address;
        let message = match redirection(command, error, address)? {
            Redirect::Moved(slot, to) => {
                self.shared.nodes.moved(slot, address, &to);
                not_any_more(address)
            }
            Redirect::Ask(..) => format!(
                "this dedicated connection is to {address}, from which the key is being moved; \
                 open another, in a while"
            ),
        };
        Some(Fault::new(FaultKind::Disconnected, message).with_source(error.clone()))
    }
}

fn not_any_more(address: &Address) -> String {
    format!(
        "this dedicated connection is to {address}, which does not serve the key any more; open \
         another"
    )
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
            return Err(Fault::new(FaultKind::Disconnected, not_any_more(address)).not_sent());
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
        let opened = self.node(slot_of(command)?, deadline).await?;
        let reply = opened.node.call(command).await;
        match self.elsewhere(&opened, command, &reply) {
            Some(fault) => Err(fault.not_sent()),
            None => reply,
        }
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let Some(deadline) = self.shared.limits.latest(commands) else {
            return Ok(Vec::new());
        };
        let slot = slot_of_all(commands)?;
        let opened = self.node(slot, deadline).await?;
        let mut replies = opened.node.pipeline(commands).await?;
        let was_refused = is_one_transaction(commands) && is_aborted(&replies);
        for (command, reply) in commands.iter().zip(&mut replies) {
            if let Some(fault) = self.elsewhere(&opened, command, reply) {
                if was_refused {
                    return Err(fault.not_sent());
                }
                *reply = Err(fault.not_sent());
            }
        }
        Ok(replies)
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
