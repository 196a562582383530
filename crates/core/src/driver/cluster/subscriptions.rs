//! Subscriptions on a cluster. What is published plainly reaches every node, so one connection to
//! any does. Sharded channels, and changes of keys, are told by the node that serves the slot:
//! each master has one connection for all of them, and what is subscribed moves with the slots.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::slots::{Redirect, SlotMap, redirect};
use super::{NOT_NOW, Shared};
use crate::config::Address;
use crate::driver::link::Timing;
use crate::driver::native::PushedLink;
use crate::driver::sentinel::Route;
use crate::driver::subscriptions::{
    Name, NameKind, PushConnector, QUEUE, Registry, Subscriptions, names,
};
use crate::error::{CallError, Fault, FaultKind, ServerError};
use crate::keys::slot;
use crate::push::{Interest, Loss, PushSink, PushStream, push_channel};

/// The subscriptions of a backend. Dropping it ends them.
pub(super) struct ClusterSubscriptions {
    any_node: Arc<Subscriptions>,
    by_node: Arc<ByNode>,
    _task: AbortOnDropHandle<()>,
}

/// What is subscribed at which node.
struct ByNode {
    shared: Arc<Shared>,
    timing: Timing,
    nodes: Mutex<HashMap<Address, Arc<Subscriptions>>>,
    /// Who listens to changes of keys, or to notifications about them, at every master.
    at_every_master: Mutex<Vec<(Vec<Name>, PushSink)>>,
    /// Something stands at a node where it does not belong.
    misplaced: Arc<Notify>,
}

impl ClusterSubscriptions {
    pub(super) fn start(shared: &Arc<Shared>, timing: Timing) -> Self {
        let by_node = Arc::new(ByNode {
            shared: Arc::clone(shared),
            timing,
            nodes: Mutex::default(),
            at_every_master: Mutex::default(),
            misplaced: Arc::default(),
        });
        let task = tokio::spawn(follow(Arc::clone(&by_node)));
        Self {
            any_node: Arc::new(Subscriptions::start(AnyNode(Arc::clone(shared)), timing)),
            by_node,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Subscribes, and waits until the servers have confirmed it, but not beyond `deadline`.
    pub(super) async fn subscribe(
        &self,
        interest: Interest,
        deadline: Instant,
    ) -> Result<PushStream, CallError> {
        let names = names(interest)?;
        let (own, anywhere): (Vec<Name>, Vec<Name>) = names.into_iter().partition(is_of_one_node);
        let (sharded, at_every_master): (Vec<Name>, Vec<Name>) = own
            .into_iter()
            .partition(|name| name.kind == NameKind::Sharded);
        let (sink, stream) = push_channel(QUEUE);
        // A stream must not keep connections alive.
        let by_node: Weak<ByNode> = Arc::downgrade(&self.by_node);
        let any_node = Arc::downgrade(&self.any_node);
        let stream = stream.on_drop(move || {
            if let Some(any_node) = any_node.upgrade() {
                any_node.prune();
            }
            if let Some(by_node) = by_node.upgrade() {
                by_node.prune();
            }
        });
        if !anywhere.is_empty() {
            let attached = self.any_node.attach(anywhere, sink.clone(), deadline);
            attached.await?;
        }
        if !at_every_master.is_empty() {
            let attached =
                self.by_node
                    .attach_at_every_master(at_every_master, sink.clone(), deadline);
            attached.await?;
        }
        if !sharded.is_empty() {
            self.by_node.attach(sharded, sink, deadline).await?;
        }
        Ok(stream)
    }

    pub(super) fn shutdown(&self) {
        self.any_node.shutdown();
        self.by_node.at_every_master.lock().clear();
        for node in self.by_node.nodes.lock().values() {
            node.shutdown();
        }
    }
}

impl ByNode {
    /// Subscribes to sharded channels, each at the node that serves its slot.
    async fn attach(
        self: &Arc<Self>,
        names: Vec<Name>,
        sink: PushSink,
        deadline: Instant,
    ) -> Result<(), CallError> {
        let mut by_slot: HashMap<u16, Vec<Name>> = HashMap::new();
        for name in names {
            by_slot.entry(slot(&name.bytes)).or_default().push(name);
        }
        let attached = by_slot
            .into_iter()
            .map(|(slot, names)| self.attach_slot(slot, names, sink.clone(), deadline));
        try_join_all(attached).await.map(drop)
    }

    /// Follows the slot until the node that serves it has confirmed.
    async fn attach_slot(
        self: &Arc<Self>,
        slot: u16,
        names: Vec<Name>,
        sink: PushSink,
        deadline: Instant,
    ) -> Result<(), CallError> {
        let nodes = &self.shared.nodes;
        let mut views = nodes.views();
        loop {
            let owner = views.borrow_and_update().owner(slot).cloned();
            let Some(owner) = owner else {
                // Waits for somebody to serve it; what it reaches is told by the view.
                nodes.serving(Some(slot), deadline).await?;
                continue;
            };
            let node = self.node(&owner);
            let is_moved = |view: &Arc<SlotMap>| view.owner(slot) != Some(&owner);
            let error = tokio::select! {
                outcome = node.attach(names.clone(), sink.clone(), deadline) => match outcome {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                },
                // The node may be dead, and another has taken over.
                _ = views.wait_for(is_moved) => continue,
            };
            if !self.may_stand_later(&error, &owner) || Instant::now() + NOT_NOW >= deadline {
                return Err(error);
            }
            sleep(NOT_NOW).await;
        }
    }

    /// Has every master tell of changes of keys, now and later.
    async fn attach_at_every_master(
        self: &Arc<Self>,
        names: Vec<Name>,
        sink: PushSink,
        deadline: Instant,
    ) -> Result<(), CallError> {
        let nodes = &self.shared.nodes;
        let mut views = nodes.views();
        loop {
            let masters = views.borrow_and_update().masters();
            if masters.is_empty() {
                nodes.serving(None, deadline).await?;
                continue;
            }
            let attached = masters.iter().map(|address| {
                let (node, names, sink) = (self.node(address), names.clone(), sink.clone());
                async move {
                    let outcome = node.attach(names, sink, deadline).await;
                    outcome.map_err(|error| (error, address))
                }
            });
            let (error, address) = tokio::select! {
                outcome = try_join_all(attached) => match outcome {
                    Ok(_) => break,
                    Err(failure) => failure,
                },
                // One of them may be dead, and another has taken over.
                _ = views.wait_for(|view| view.masters() != masters) => continue,
            };
            if !self.may_stand_later(&error, address) || Instant::now() + NOT_NOW >= deadline {
                return Err(error);
            }
            sleep(NOT_NOW).await;
        }
        self.at_every_master.lock().push((names, sink));
        // A master that came meanwhile.
        self.misplaced.notify_one();
        Ok(())
    }

    /// Whether it is worth asking again: of the node, or of another.
    fn may_stand_later(&self, error: &CallError, from: &Address) -> bool {
        match error {
            CallError::Replied(refusal) => is_elsewhere(&self.shared, refusal, from),
            // To subscribe twice does no harm.
            CallError::NotSent(fault) | CallError::Maybe(fault) => {
                matches!(fault.kind(), FaultKind::Disconnected | FaultKind::Protocol)
            }
        }
    }

    /// The subscriptions at one node.
    fn node(&self, address: &Address) -> Arc<Subscriptions> {
        let mut nodes = self.nodes.lock();
        let node = nodes.entry(address.clone()).or_insert_with(|| {
            let node = Node {
                shared: Arc::clone(&self.shared),
                address: address.clone(),
                misplaced: Arc::clone(&self.misplaced),
            };
            Arc::new(Subscriptions::start(node, self.timing))
        });
        if self.shared.nodes.is_closed() {
            node.shutdown();
        }
        Arc::clone(node)
    }

    /// Puts everything where it belongs by the view. Who is moved is told so, and told again when it
    /// stands.
    fn regroup(&self) {
        let view = self.shared.nodes.view();
        let masters = view.masters();
        if masters.is_empty() {
            return;
        }
        let known: Vec<_> = {
            let nodes = self.nodes.lock();
            let all = nodes.iter();
            all.map(|(address, node)| (address.clone(), Arc::clone(node)))
                .collect()
        };
        let mut over = Vec::new();
        for (address, node) in known {
            let is_master = masters.contains(&address);
            let moved = node.take(|name| match name.kind {
                NameKind::Sharded => view
                    .owner(slot(&name.bytes))
                    .is_some_and(|owner| *owner != address),
                _ => !is_master,
            });
            for (name, listeners) in moved {
                let owner = view.owner(slot(&name.bytes));
                if let Some(owner) = owner.filter(|_| name.kind == NameKind::Sharded) {
                    let node = self.node(owner);
                    let names = [name];
                    for one in &listeners {
                        node.adopt(&names, &one.sink);
                    }
                }
                over.extend(listeners.into_iter().filter_map(|one| one.loss));
            }
        }
        let mut at_every_master = self.at_every_master.lock();
        at_every_master.retain(|(_, sink)| !sink.is_closed());
        if !at_every_master.is_empty() {
            for address in &masters {
                let node = self.node(address);
                for (names, sink) in &*at_every_master {
                    if !node.listens(names, sink) {
                        node.adopt(names, sink);
                    }
                }
            }
        }
        drop(at_every_master);
        // Only now: what does not stand at its new place must not seem to for a moment.
        over.into_iter().for_each(Loss::end);
        // Nodes that nobody listens at, and nobody is about to.
        self.nodes
            .lock()
            .retain(|_, node| Arc::strong_count(node) > 1 || !node.is_idle());
    }

    fn prune(&self) {
        self.at_every_master
            .lock()
            .retain(|(_, sink)| !sink.is_closed());
        for node in self.nodes.lock().values() {
            node.prune();
        }
    }
}

/// Whether a node tells it of its own slots only. What is published plainly reaches every node; servers do not pass on
/// what they say of keys themselves (`__keyspace@0__:…`, `__keyevent@0__:…`). A pattern that begins as these do may match
/// them; an application's own channel may begin so, too, and would be heard once from every master.
fn is_of_one_node(name: &Name) -> bool {
    match name.kind {
        NameKind::Sharded | NameKind::Prefix => true,
        NameKind::Channel => {
            name.bytes.starts_with(b"__keyspace@") || name.bytes.starts_with(b"__keyevent@")
        }
        NameKind::Pattern => name.bytes.starts_with(b"__key"),
    }
}

/// Regroups whenever the view changes, and whenever a node says that something does not belong
/// there.
async fn follow(by_node: Arc<ByNode>) {
    let mut views = by_node.shared.nodes.views();
    loop {
        tokio::select! {
            changed = views.changed() => if changed.is_err() {
                return;
            },
            () = by_node.misplaced.notified() => {}
        }
        by_node.regroup();
    }
}

/// Whether a refusal says that another node, or another time, is to be asked; takes over what it
/// says of the slots.
fn is_elsewhere(shared: &Shared, refusal: &ServerError, from: &Address) -> bool {
    if let Some(Redirect::Moved(slot, to)) = redirect(refusal.code(), refusal.message(), from) {
        shared.nodes.moved(slot, from, &to);
        return true;
    }
    let is_for_now = super::is_elsewhere(refusal);
    if is_for_now {
        shared.nodes.doubt();
    }
    is_for_now
}

/// Plain messages and patterns reach every node, so any will do; the next one after a loss. Nothing reaches a node any
/// more that has left the cluster, and its connection stands: it ends as soon as the view lacks the node.
struct AnyNode(Arc<Shared>);

#[async_trait]
impl PushConnector for AnyNode {
    type Link = PushedLink;

    async fn connect(&self, registry: &Arc<Registry>) -> Result<PushedLink, Fault> {
        let nodes = &self.0.nodes;
        // A view may name its nodes otherwise than the configuration does.
        nodes.first_view().await;
        let addresses = nodes.addresses();
        let Some(chosen) = addresses.get(rand::random_range(0..addresses.len().max(1))) else {
            return Err(Fault::new(
                FaultKind::Connect,
                "no node of the cluster is known",
            ));
        };
        // When this fails the masters may be others by now.
        nodes.doubt();
        let left = nodes.left(chosen.clone());
        let connector = Route::Fixed(nodes.connector_to(chosen));
        let mut link = PushConnector::connect(&connector, registry).await?;
        link.end_when(left);
        Ok(link)
    }

    fn target(&self) -> String {
        "any node of the cluster".to_owned()
    }
}

/// One node, for what is subscribed there.
struct Node {
    shared: Arc<Shared>,
    address: Address,
    misplaced: Arc<Notify>,
}

#[async_trait]
impl PushConnector for Node {
    type Link = PushedLink;

    async fn connect(&self, registry: &Arc<Registry>) -> Result<PushedLink, Fault> {
        // When this fails another node may have taken over, or be about to.
        self.shared.nodes.doubt();
        let connector = Route::Fixed(self.shared.nodes.connector_to(&self.address));
        PushConnector::connect(&connector, registry).await
    }

    fn target(&self) -> String {
        self.address.to_string()
    }

    fn is_elsewhere(&self, refusal: &ServerError) {
        is_elsewhere(&self.shared, refusal, &self.address);
        self.misplaced.notify_one();
    }
}
