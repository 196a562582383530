//! Redis Cluster and Valkey Cluster: every command goes to the master that serves its keys' slot.
//!
//! Each node has a supervised connection of its own, so trouble with one does not touch the
//! others. `MOVED`, `ASK`, `TRYAGAIN`, `CLUSTERDOWN` and `READONLY` say that nothing was carried
//! out; they are followed here, until the command's deadline, and do not surface before it.

mod dedicated;
mod fan_out;
mod nodes;
mod pace;
mod pipelines;
mod redirections;
mod slots;
mod subscriptions;
mod votes;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use self::dedicated::OneNode;
use self::nodes::{Nodes, Reached};
use self::slots::{Redirect, redirection, slot_of};
use self::subscriptions::ClusterSubscriptions;
use crate::backend::{Backend, Capabilities, ConnectionState, ServerNode, Topology};
use crate::breaker::Breakers;
use crate::command::Command;
use crate::config::{Address, ClientConfig};
use crate::driver::dedicated::Dedicated;
use crate::driver::link::{CommandLink, Limits, Timing};
use crate::driver::native::NativeConnector;
use crate::driver::server::is_certain;
use crate::error::{CallError, Error, Fault, FaultKind, ServerError};
use crate::push::{Interest, PushStream};
use crate::value::Value;

/// A backend on a cluster.
pub(in crate::driver) struct ClusterBackend {
    shared: Arc<Shared>,
    subscriptions: ClusterSubscriptions,
    _task: AbortOnDropHandle<()>,
}

struct Shared {
    nodes: Nodes,
    limits: Limits,
    read_from_replicas: bool,
}

/// How long to wait before a server that said "not now" is asked again.
const NOT_NOW: Duration = Duration::from_millis(10);

/// How often one command is sent on at once. If it is sent on even then, it is asked for more seldom, until its deadline.
const MOST_REDIRECTS: u32 = 16;

impl ClusterBackend {
    /// Finds out who serves what. A lazy configuration does not wait for it.
    pub(in crate::driver) async fn connect(
        config: &ClientConfig,
        connector: NativeConnector,
        seeds: &[Address],
    ) -> Result<Self, Error> {
        let timing = Timing::of(config);
        let limits = Limits::of(config);
        let breakers = Breakers::new(config.label(), config.breaker.clone())?;
        let shared = Arc::new(Shared {
            nodes: Nodes::new(connector, seeds.to_vec(), timing, breakers),
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
            subscriptions: ClusterSubscriptions::start(&shared, timing),
            shared,
            _task: AbortOnDropHandle::new(task),
        })
    }
}

impl Shared {
    /// Carries out a command on the node that serves `slot`, or on any master without one.
    async fn call_on(&self, command: &Command, slot: Option<u16>) -> Result<Value, CallError> {
        let mut slot = slot;
        let deadline = self.limits.deadline(command);
        let mut ask = None;
        let mut sent_on = 0;
        loop {
            let asking = ask.is_some();
            let reached = match ask.take() {
                Some(address) => self.nodes.reach(&address, deadline).await?,
                None => self.nodes.serving(slot, deadline).await?,
            };
            let reply = self.send(&reached, command, asking, deadline).await;
            let follow = match &reply {
                Err(CallError::Replied(error)) => self.follow(command, error, &reached.address),
                _ => Follow::No,
            };
            sent_on += u32::from(matches!(follow, Follow::To(_) | Follow::Again(_)));
            // Nodes that send a command to and fro need time to agree.
            let waits = matches!(follow, Follow::Later) || sent_on > MOST_REDIRECTS;
            let is_late = waits && Instant::now() + NOT_NOW >= deadline;
            if is_late || matches!(follow, Follow::No) {
                reached.settle(&reply, |breaker| breaker.judge(command, &reply));
                return reply;
            }
            match follow {
                Follow::To(address) => ask = Some(address),
                // A command may have a key that only the server knows of.
                Follow::Again(moved) => slot = slot.or(Some(moved)),
                Follow::Later | Follow::No => {}
            }
            drop(reached);
            if waits {
                sleep(NOT_NOW).await;
            }
        }
    }

    /// Reads from a replica; from the master when no replica has the answer.
    async fn read(&self, command: &Command, slot: u16) -> Result<Value, CallError> {
        if let Some(reached) = self.nodes.replica(slot) {
            let deadline = self.limits.deadline(command);
            let reply = self.send(&reached, command, false, deadline).await;
            match &reply {
                Err(CallError::Replied(error)) if is_elsewhere(error) => {
                    drop(reached);
                    self.nodes.doubt();
                }
                _ => {
                    reached.settle(&reply, |breaker| breaker.judge(command, &reply));
                    match reply {
                        Err(CallError::NotSent(_) | CallError::Maybe(_))
                            if Instant::now() < deadline => {}
                        answer => return answer,
                    }
                }
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
                return reached.link.exchange(command, deadline).await;
            }
            // Back to back on the one connection, so that the permission meets its command.
            let both = [Command::new("ASKING"), command.clone()];
            match reached.link.exchange_all(&both, deadline).await?.pop() {
                Some(reply) => reply,
                None => Err(Fault::new(FaultKind::Protocol, "ASKING has no reply").maybe()),
            }
        };
        self.bounded(reached, sent).await
    }

    /// Bounds the wait for a node, and has the view looked at when there was no answer.
    async fn bounded<T>(
        &self,
        reached: &Reached,
        sent: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let result = reached.answer(sent).await;
        if matches!(result, Err(CallError::Maybe(_) | CallError::NotSent(_))) {
            self.nodes.doubt();
        }
        result
    }

    /// How the client goes on after a node's error that says where, or when, to send `command` instead. It sends a
    /// command again only when the node has certainly not carried it out, or when twice does no harm.
    fn follow(&self, command: &Command, error: &ServerError, from: &Address) -> Follow {
        match redirection(command, error, from) {
            Some(Redirect::Moved(slot, address)) => {
                self.nodes.moved(slot, from, &address);
                return Follow::Again(slot);
            }
            Some(Redirect::Ask(_, address)) => return Follow::To(address),
            None => {}
        }
        match error.code() {
            "TRYAGAIN" => {}
            "CLUSTERDOWN" | "READONLY" | "MASTERDOWN" | "LOADING" => self.nodes.doubt(),
            _ => return Follow::No,
        }
        match is_certain(command, error) {
            true => Follow::Later,
            false => Follow::No,
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
    /// At once, by the view, in which this slot has another node now.
    Again(u16),
    /// After a while.
    Later,
    /// Not at all: the error is the answer.
    No,
}

#[async_trait]
impl Backend for ClusterBackend {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        match slot_of(command)? {
            Some(slot) if self.shared.read_from_replicas && command.may_read_from_replica() => {
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
        let deadline = self.shared.limits.subscribed();
        self.subscriptions.subscribe(interest, deadline).await
    }

    /// A connection to one master, for keys that it serves. Which master is said by the first
    /// command (one without a key takes any); it stays there.
    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        Ok(Arc::new(OneNode::new(&self.shared)))
    }

    async fn dedicated_to(&self, server: &str) -> Result<Arc<dyn Backend>, CallError> {
        let address = self.shared.nodes.master(server)?;
        let connector = self.shared.nodes.connector_to(&address);
        let own = Dedicated::open(connector, self.shared.limits, Topology::Cluster).await?;
        Ok(Arc::new(own))
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

    fn breakers(&self) -> Option<Breakers> {
        Some(self.shared.nodes.breakers().clone())
    }

    fn servers(&self) -> Vec<ServerNode> {
        self.shared.nodes.view().servers()
    }

    async fn call_on(&self, server: &str, command: &Command) -> Result<Value, CallError> {
        let deadline = self.shared.limits.deadline(command);
        self.shared
            .nodes
            .call_past_breaker(server, command, deadline)
            .await
    }

    async fn shutdown(&self) {
        self.subscriptions.shutdown();
        self.shared.nodes.shutdown();
    }
}
