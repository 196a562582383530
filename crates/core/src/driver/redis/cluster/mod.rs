//! Redis Cluster and Valkey Cluster: every command goes to the master that serves its keys' slot.
//!
//! Each node has a supervised connection of its own, so trouble with one does not touch the
//! others. `MOVED`, `ASK`, `TRYAGAIN`, `CLUSTERDOWN` and `READONLY` say that nothing was carried
//! out; they are followed here, until the command's deadline, and do not surface before it.

mod everywhere;
mod nodes;
mod pipelines;
mod slots;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use self::nodes::{Nodes, Reached};
use self::slots::{Redirect, redirect, slot_of};
use super::dedicated::{Dedicated, Limits};
use super::link::{RedisConnector, RedisLink};
use crate::backend::{Backend, Capabilities, ConnectionState, Topology};
use crate::command::Command;
use crate::config::{Address, ClientConfig};
use crate::driver::subscriptions::{PushConnector, Registry, Subscriptions};
use crate::driver::supervisor::Timing;
use crate::error::{CallError, Error, Fault, FaultKind, ServerError};
use crate::push::{Interest, PushStream};
use crate::value::Value;

/// A backend on a cluster.
pub(super) struct ClusterBackend {
    shared: Arc<Shared>,
    timing: Timing,
    subscriptions: Subscriptions,
    /// By slot, each with a connection to the node that serves it.
    sharded: Mutex<HashMap<u16, Arc<Subscriptions>>>,
    _task: AbortOnDropHandle<()>,
}

struct Shared {
    nodes: Nodes,
    limits: Limits,
    read_from_replicas: bool,
}

/// How long to wait before a server that said "not now" is asked again.
const NOT_NOW: Duration = Duration::from_millis(10);

/// How often one command is sent on before the view must be wrong.
const MOST_REDIRECTS: u32 = 16;

impl ClusterBackend {
    /// Finds out who serves what. A lazy configuration does not wait for it.
    pub(super) async fn connect(
        config: &ClientConfig,
        connector: RedisConnector,
        seeds: &[Address],
    ) -> Result<Self, Error> {
        let timing = Timing::of(config);
        let limits = Limits::of(config);
        let shared = Arc::new(Shared {
            nodes: Nodes::new(connector, seeds.to_vec(), timing),
            limits,
            read_from_replicas: config.read_from_replicas,
        });
        if !config.lazy {
            shared
                .nodes
                .look(config.connect_timeout)
                .await
                .map_err(|fault| Error::call("CONNECT", fault.not_sent()))?;
        }
        let task = tokio::spawn({
            let (shared, lazy) = (Arc::clone(&shared), config.lazy);
            async move { shared.nodes.keep_up_to_date(lazy).await }
        });
        Ok(Self {
            subscriptions: Subscriptions::start(AnyNode(Arc::clone(&shared)), timing),
            sharded: Mutex::default(),
            shared,
            timing,
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// The subscriptions that live on the node that serves `slot`.
    fn sharded(&self, slot: u16) -> Arc<Subscriptions> {
        let mut sharded = self.sharded.lock();
        // Those that nobody listens to any more, and nobody is about to.
        sharded.retain(|_, one| Arc::strong_count(one) > 1 || !one.is_idle());
        Arc::clone(sharded.entry(slot).or_insert_with(|| {
            let node = NodeOf {
                shared: Arc::clone(&self.shared),
                slot,
            };
            Arc::new(Subscriptions::start(node, self.timing))
        }))
    }
}

impl Shared {
    fn deadline(&self, command: &Command) -> Instant {
        command
            .deadline_at()
            .unwrap_or_else(|| Instant::now() + self.limits.command)
    }

    /// Carries out a command on the node that serves `slot`, or on any master without one.
    async fn call_on(&self, command: &Command, slot: Option<u16>) -> Result<Value, CallError> {
        let deadline = self.deadline(command);
        let mut ask = None;
        let mut redirects = 0;
        loop {
            let asking = ask.is_some();
            let reached = match ask.take() {
                Some(address) => self.nodes.reach(&address, deadline).await?,
                None => self.nodes.serving(slot, deadline).await?,
            };
            let error = match self.send(&reached, command, asking, deadline).await {
                Err(CallError::Replied(error)) => error,
                other => return other,
            };
            match self.follow(&error, &reached, &mut redirects) {
                Follow::To(address) => ask = Some(address),
                Follow::Again => {}
                Follow::Later if Instant::now() + NOT_NOW < deadline => sleep(NOT_NOW).await,
                Follow::Later | Follow::No => return Err(CallError::Replied(error)),
            }
        }
    }

    /// Reads from a replica; from the master when no replica has the answer.
    async fn read(&self, command: &Command, slot: u16) -> Result<Value, CallError> {
        if let Some(reached) = self.nodes.replica(slot) {
            let deadline = self.deadline(command);
            match self.send(&reached, command, false, deadline).await {
                Err(CallError::Replied(error)) if is_elsewhere(&error) => self.nodes.doubt(),
                Err(CallError::NotSent(_) | CallError::Maybe(_)) if Instant::now() < deadline => {}
                answer => return answer,
            }
        }
        self.call_on(command, Some(slot)).await
    }

    async fn send(
        &self,
        reached: &Reached,
        command: &Command,
        asking: bool,
        deadline: Instant,
    ) -> Result<Value, CallError> {
        let sent = async {
            if !asking {
                return reached.link.send(command).await;
            }
            // Back to back on the one connection, so that the permission meets its command.
            let both = [Command::new("ASKING"), command.clone()];
            match reached.link.send_all(&both).await?.pop() {
                Some(reply) => reply,
                None => Err(Fault::new(FaultKind::Protocol, "ASKING has no reply").maybe()),
            }
        };
        self.bounded(reached, deadline, sent).await
    }

    /// Bounds the wait for a node, and notes that it is in trouble when there was no answer.
    async fn bounded<T>(
        &self,
        reached: &Reached,
        deadline: Instant,
        sent: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let result = timeout_at(deadline, sent).await.unwrap_or_else(|_| {
            reached.node.suspect();
            Err(Fault::new(FaultKind::Timeout, "no reply within the deadline").maybe())
        });
        if matches!(result, Err(CallError::Maybe(_) | CallError::NotSent(_))) {
            self.nodes.doubt();
        }
        result
    }

    /// What to do about an error that says where, or when, to ask instead.
    fn follow(&self, error: &ServerError, reached: &Reached, redirects: &mut u32) -> Follow {
        match error.code() {
            "MOVED" | "ASK" => {
                *redirects += 1;
                match redirect(error.code(), error.message(), &reached.address) {
                    _ if *redirects > MOST_REDIRECTS => Follow::Later,
                    Some(Redirect::Moved(slot, address)) => {
                        self.nodes.moved(slot, &address);
                        Follow::Again
                    }
                    Some(Redirect::Ask(address)) => Follow::To(address),
                    None => Follow::No,
                }
            }
            "TRYAGAIN" => Follow::Later,
            "CLUSTERDOWN" | "READONLY" | "MASTERDOWN" | "LOADING" => {
                self.nodes.doubt();
                Follow::Later
            }
            _ => Follow::No,
        }
    }
}

/// Whether a replica says that another node, or another time, is to be asked.
fn is_elsewhere(error: &ServerError) -> bool {
    matches!(
        error.code(),
        "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "LOADING"
    )
}

/// How to go on after an error.
enum Follow {
    /// At once, at this node, with permission to ask.
    To(Address),
    /// At once, by the view, which has changed.
    Again,
    /// After a while.
    Later,
    /// Not at all: the error is the answer.
    No,
}

#[async_trait]
impl Backend for ClusterBackend {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        match slot_of(command)? {
            Some(slot) if self.shared.read_from_replicas && command.only_reads() => {
                self.shared.read(command, slot).await
            }
            Some(slot) => self.shared.call_on(command, Some(slot)).await,
            None => self.shared.call_without_keys(command).await,
        }
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        self.shared.pipeline(commands).await
    }

    async fn subscribe(&self, interest: Interest) -> Result<PushStream, CallError> {
        if self.shared.nodes.is_closed() {
            return Err(Fault::new(FaultKind::Shutdown, "the client was shut down").not_sent());
        }
        let deadline = Instant::now() + self.shared.limits.connect + self.shared.limits.command;
        let Interest::Sharded(names) = &interest else {
            return self.subscriptions.subscribe(interest, deadline).await;
        };
        let command = Command::new("SSUBSCRIBE").keys_from(names);
        match slot_of(&command)? {
            Some(slot) => self.sharded(slot).subscribe(interest, deadline).await,
            None => Err(Fault::new(FaultKind::Invalid, "no channel is named").not_sent()),
        }
    }

    /// A connection to one master, for keys that it serves. Which master is said by the first
    /// command (one without a key takes any); it stays there.
    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        Ok(Arc::new(OneNode {
            shared: Arc::clone(&self.shared),
            inner: tokio::sync::Mutex::new(None),
            state: watch::Sender::new(ConnectionState::Idle),
        }))
    }

    fn topology(&self) -> Topology {
        Topology::Cluster
    }

    fn capabilities(&self) -> Capabilities {
        self.shared.nodes.capabilities()
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.shared.nodes.state()
    }

    async fn shutdown(&self) {
        self.subscriptions.shutdown();
        for subscriptions in self.sharded.lock().values() {
            subscriptions.shutdown();
        }
        self.shared.nodes.shutdown();
    }
}

/// Plain messages and patterns reach every node, so any will do; the next one after a loss.
struct AnyNode(Arc<Shared>);

#[async_trait]
impl PushConnector for AnyNode {
    type Link = RedisLink;

    async fn connect(&self, registry: &Arc<Registry>) -> Result<RedisLink, Fault> {
        let addresses = self.0.nodes.addresses();
        let Some(chosen) = addresses.get(rand::random_range(0..addresses.len().max(1))) else {
            return Err(Fault::new(
                FaultKind::Connect,
                "no node of the cluster is known",
            ));
        };
        // When this fails the masters may be others by now.
        self.0.nodes.doubt();
        PushConnector::connect(&self.0.nodes.connector_to(chosen), registry).await
    }
}

/// Sharded messages go to the node that serves the channel's slot.
struct NodeOf {
    shared: Arc<Shared>,
    slot: u16,
}

#[async_trait]
impl PushConnector for NodeOf {
    type Link = RedisLink;

    async fn connect(&self, registry: &Arc<Registry>) -> Result<RedisLink, Fault> {
        let Some(owner) = self.shared.nodes.view().owner(self.slot).cloned() else {
            self.shared.nodes.doubt();
            return Err(Fault::new(
                FaultKind::Connect,
                "no node serves the channel's slot",
            ));
        };
        // When this fails another node may have taken over, or be about to.
        self.shared.nodes.doubt();
        PushConnector::connect(&self.shared.nodes.connector_to(&owner), registry).await
    }
}

/// A dedicated connection that is made when it is known to which node.
struct OneNode {
    shared: Arc<Shared>,
    inner: tokio::sync::Mutex<Option<(Address, Arc<Dedicated<RedisConnector>>)>>,
    state: watch::Sender<ConnectionState>,
}

impl OneNode {
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
        let node = Arc::new(Dedicated::open(connector, self.shared.limits).await?);
        self.state.send_replace(ConnectionState::Connected(1));
        *inner = Some((address, Arc::clone(&node)));
        Ok(node)
    }
}

#[async_trait]
impl Backend for OneNode {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        let deadline = self.shared.deadline(command);
        self.node(slot_of(command)?, deadline)
            .await?
            .call(command)
            .await
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let Some(deadline) = commands.iter().map(|one| self.shared.deadline(one)).max() else {
            return Ok(Vec::new());
        };
        let slot = slots::slot_of_all(commands)?;
        self.node(slot, deadline).await?.pipeline(commands).await
    }

    async fn subscribe(&self, _: Interest) -> Result<PushStream, CallError> {
        let message =
            "a dedicated connection takes no subscriptions; subscribe on the shared client";
        Err(Fault::new(FaultKind::Unsupported, message).not_sent())
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        Ok(Arc::new(Self {
            shared: Arc::clone(&self.shared),
            inner: tokio::sync::Mutex::new(None),
            state: watch::Sender::new(ConnectionState::Idle),
        }))
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
