//! The nodes of a cluster, each under a supervisor of its own, and the view of who serves what,
//! which one task keeps up to date.

mod look;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::redirections::Redirections;
use super::slots::SlotMap;
use crate::backend::{Capabilities, ConnectionState, ServerKind};
use crate::breaker::{Breaker, Breakers, Outcome, Permit};
use crate::command::Command;
use crate::config::Address;
use crate::driver::link::{CommandLink, ServerConnector, Timing};
use crate::driver::native::{NativeConnector, NativeLink};
use crate::driver::supervisor::Supervisor;
use crate::error::{CallError, Fault, FaultKind};
use crate::value::Value;

/// How long the nodes have to say what they see.
const VIEW_TIMEOUT: Duration = Duration::from_millis(300);

/// For how long a node has to be missing from the views before it counts as gone. While a master is replaced as planned,
/// there are views that list one of the two nowhere.
const MISSING: Duration = Duration::from_secs(2);

pub(super) struct Nodes {
    connector: NativeConnector,
    timing: Timing,
    seeds: Vec<Address>,
    breakers: Breakers,
    view: watch::Sender<Arc<SlotMap>>,
    redirections: Mutex<Redirections>,
    known: Mutex<HashMap<Address, Arc<Supervisor<NativeLink>>>>,
    state: watch::Sender<ConnectionState>,
    refresh: Arc<Notify>,
    /// A node has said who serves a slot: there is no hurry to ask the others.
    moved: Notify,
    /// Told after every look that has found a view.
    looks: watch::Sender<()>,
    closed: CancellationToken,
}

/// A connection, whose it is, and leave to send something on it.
pub(super) struct Reached {
    pub(super) address: Address,
    pub(super) link: Arc<NativeLink>,
    node: Arc<Supervisor<NativeLink>>,
    permit: Permit,
}

impl Reached {
    /// Waits for the reply to what was sent, which ends by its deadline.
    pub(super) async fn answer<T>(
        &self,
        sent: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        self.node.answer(&self.link, &self.permit, sent).await
    }

    /// Tells the node's breaker how the call ended. A call that goes elsewhere, or is asked again
    /// later, says nothing: dropping this is enough.
    pub(super) fn settle<T>(
        self,
        outcome: &Result<T, CallError>,
        judge: impl FnOnce(&Breaker) -> Outcome,
    ) {
        self.node.settle(self.permit, outcome, judge);
    }
}

impl Nodes {
    pub(super) fn new(
        connector: NativeConnector,
        seeds: Vec<Address>,
        timing: Timing,
        breakers: Breakers,
    ) -> Self {
        Self {
            breakers,
            connector,
            timing,
            seeds,
            view: watch::Sender::new(Arc::new(SlotMap::empty())),
            redirections: Mutex::default(),
            known: Mutex::default(),
            state: watch::Sender::new(ConnectionState::Connecting),
            refresh: Arc::default(),
            moved: Notify::new(),
            looks: watch::Sender::new(()),
            closed: CancellationToken::new(),
        }
    }

    fn view_timeout(&self) -> Duration {
        VIEW_TIMEOUT.max(self.timing.probe_timeout)
    }

    /// Says how the cluster as a whole is. Trouble that is over counts as a new connection.
    fn publish(&self) {
        let trouble = self.in_trouble();
        self.state.send_if_modified(|state| {
            let next = match (&*state, trouble) {
                (ConnectionState::Closed, _) => return false,
                (ConnectionState::Connected(number), true) => ConnectionState::Suspect(*number),
                (ConnectionState::Suspect(number), false) => ConnectionState::Connected(number + 1),
                (ConnectionState::Connected(_) | ConnectionState::Suspect(_), _) => return false,
                (_, false) => ConnectionState::Connected(1),
                (_, true) => return false,
            };
            *state = next;
            true
        });
    }

    /// The connection to the node that serves `slot` (any master without one); waits for a
    /// connection, or for another node to take over, until `deadline`.
    pub(super) async fn serving(
        &self,
        slot: Option<u16>,
        deadline: Instant,
    ) -> Result<Reached, CallError> {
        let mut view = self.view.subscribe();
        loop {
            let owner = {
                let map = view.borrow_and_update();
                match slot {
                    Some(slot) => map.owner(slot).cloned(),
                    None => self.any_master(&map),
                }
            };
            let Some(address) = owner else {
                self.refresh.notify_one();
                match timeout_at(deadline, view.changed()).await {
                    Ok(Ok(())) => continue,
                    _ => return Err(nobody(slot).not_sent()),
                }
            };
            let node = self.node(&address);
            let permit = node.permit()?;
            if let Some(link) = node.current() {
                return Ok(Reached {
                    address,
                    link,
                    node,
                    permit,
                });
            }
            self.refresh.notify_one();
            tokio::select! {
                link = node.link(deadline) => {
                    let link = link?;
                    return Ok(Reached { address, link, node, permit });
                }
                changed = view.changed() => if changed.is_err() {
                    return Err(nobody(slot).not_sent());
                }
            }
        }
    }

    /// The connection to one node.
    pub(super) async fn reach(
        &self,
        address: &Address,
        deadline: Instant,
    ) -> Result<Reached, CallError> {
        let node = self.node(address);
        let permit = node.permit()?;
        let link = node.link(deadline).await?;
        Ok(Reached {
            address: address.clone(),
            link,
            node,
            permit,
        })
    }

    /// The address of the master of this name.
    pub(super) fn master(&self, server: &str) -> Result<Address, CallError> {
        let masters = self.view().masters();
        let mut named = masters.into_iter();
        named
            .find(|master| master.to_string() == server)
            .ok_or_else(|| {
                let message = format!("{server} is no master of the cluster");
                Fault::new(FaultKind::Invalid, message).not_sent()
            })
    }

    /// Sends a command to one of the masters, without asking or telling its breaker.
    pub(super) async fn call_past_breaker(
        &self,
        server: &str,
        command: &Command,
        deadline: Instant,
    ) -> Result<Value, CallError> {
        let node = self.node(&self.master(server)?);
        let link = node.link(deadline).await?;
        let sent = link.exchange(command, deadline);
        node.answer_past_breaker(&link, sent).await
    }

    /// The connection to one node, if there is one now and calls are let through.
    pub(super) fn reach_if_connected(&self, address: &Address) -> Option<Reached> {
        let node = self.node(address);
        let link = node.current()?;
        let permit = node.permit().ok()?;
        Some(Reached {
            address: address.clone(),
            link,
            node,
            permit,
        })
    }

    /// A connected replica of the master that serves `slot`, if there is one, taking turns.
    pub(super) fn replica(&self, slot: u16) -> Option<Reached> {
        let view = self.view();
        let mut replicas: Vec<Address> = view.replicas_of(view.owner(slot)?).collect();
        if replicas.len() > 1 {
            let turn = rand::random_range(0..replicas.len());
            replicas.rotate_left(turn);
        }
        replicas
            .iter()
            .find_map(|address| self.reach_if_connected(address))
    }

    /// The node at `from` said that `slot` has moved.
    pub(super) fn moved(&self, slot: u16, from: &Address, to: &Address) {
        // Held until the view has it, so that what the nodes see does not come in between.
        let mut redirections = self.redirections.lock();
        redirections.note(slot, from, to);
        self.view.send_if_modified(|map| {
            if map.owner(slot) == Some(to) {
                return false;
            }
            Arc::make_mut(map).set_owner(slot, to);
            true
        });
        drop(redirections);
        self.moved.notify_one();
    }

    /// Something is amiss: look again soon.
    pub(super) fn doubt(&self) {
        self.refresh.notify_one();
    }

    pub(super) fn view(&self) -> Arc<SlotMap> {
        Arc::clone(&self.view.borrow())
    }

    /// Waits for a first view, but not for long: without one, what was configured has to do.
    pub(super) async fn first_view(&self) {
        self.refresh.notify_one();
        let limit = self.view_timeout().min(self.timing.connect_timeout / 2);
        let mut views = self.views();
        let first = views.wait_for(|view| !view.is_empty());
        drop(timeout_at(Instant::now() + limit, first).await);
    }

    /// Waits until two looks, a while apart, find that the node at `address` is in no part of the cluster: it has left
    /// the cluster, or serves nothing any more.
    pub(super) fn left(&self, address: Address) -> impl Future<Output = ()> + use<> {
        let (mut views, mut looks) = (self.views(), self.looks.subscribe());
        let refresh = Arc::clone(&self.refresh);
        async move {
            let lacks = |view: &Arc<SlotMap>| !view.is_empty() && !view.all().contains(&address);
            while views.wait_for(lacks).await.is_ok() {
                let back = timeout(MISSING, views.wait_for(|view| !lacks(view)));
                if back.await.is_ok_and(|view| view.is_ok()) {
                    continue;
                }
                looks.mark_unchanged();
                refresh.notify_one();
                match looks.changed().await {
                    Ok(()) if lacks(&views.borrow()) => return,
                    Ok(()) => {}
                    Err(_) => break,
                }
            }
            // Nobody looks any more.
            std::future::pending::<()>().await;
        }
    }

    /// Tells when the view changes.
    pub(super) fn views(&self) -> watch::Receiver<Arc<SlotMap>> {
        self.view.subscribe()
    }

    pub(super) fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    /// What the servers can do, as far as the least capable one that is connected can.
    pub(super) fn capabilities(&self) -> Capabilities {
        let known = self.known.lock();
        let connected = known.values().map(|node| node.capabilities());
        connected
            .filter(|one| one.server != ServerKind::Unknown)
            .min_by_key(|one| one.version)
            .unwrap_or(Capabilities::UNKNOWN)
    }

    pub(super) fn breakers(&self) -> &Breakers {
        &self.breakers
    }

    pub(super) fn connector_to(&self, address: &Address) -> NativeConnector {
        self.connector.at(address)
    }

    /// The masters; while none is known, what was configured.
    pub(super) fn addresses(&self) -> Vec<Address> {
        let masters = self.view.borrow().masters();
        if masters.is_empty() {
            return self.seeds.clone();
        }
        masters
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    pub(super) fn shutdown(&self) {
        self.closed.cancel();
        for node in self.known.lock().values() {
            node.shutdown();
        }
        self.state.send_replace(ConnectionState::Closed);
    }

    fn node(&self, address: &Address) -> Arc<Supervisor<NativeLink>> {
        let mut known = self.known.lock();
        let node = known.entry(address.clone()).or_insert_with(|| {
            Arc::new(Supervisor::start(
                self.connector.at(address),
                self.timing,
                false,
                self.breakers.node(&address.to_string()),
            ))
        });
        if self.closed.is_cancelled() {
            node.shutdown();
        }
        Arc::clone(node)
    }

    /// One that is connected, and lets calls through, if there is one, taking turns.
    fn any_master(&self, map: &SlotMap) -> Option<Address> {
        let mut masters = map.masters();
        if masters.is_empty() {
            return None;
        }
        let turn = rand::random_range(0..masters.len());
        masters.rotate_left(turn);
        let known = self.known.lock();
        let is_usable =
            |address: &&Address| known.get(*address).is_some_and(|node| node.is_usable());
        masters.iter().find(is_usable).or(masters.first()).cloned()
    }

    fn in_trouble(&self) -> bool {
        self.view.borrow().masters().is_empty() || !self.troubled().is_empty()
    }

    /// The masters that are known and not connected.
    fn troubled(&self) -> HashSet<Address> {
        let masters = self.view.borrow().masters();
        let known = self.known.lock();
        let is_troubled = |address: &Address| {
            let node = known.get(address);
            node.is_some_and(|node| {
                !matches!(*node.state().borrow(), ConnectionState::Connected(_))
            })
        };
        masters.into_iter().filter(is_troubled).collect()
    }

    fn take_over(&self, mut map: SlotMap) {
        let mut redirections = self.redirections.lock();
        redirections.correct(&mut map);
        let all = map.all();
        {
            // Held until the breakers follow, so that none is taken from a node that comes meanwhile.
            let mut known = self.known.lock();
            // Nodes that have left: their connections end when the last call on them has.
            known.retain(|address, _| all.contains(address) || self.seeds.contains(address));
            let known: HashSet<String> = known.keys().map(Address::to_string).collect();
            // A node that is not part of the cluster any more does not make the client look ill.
            let all: HashSet<String> = all.iter().map(Address::to_string).collect();
            self.breakers
                .show(|node| all.contains(node), |node| known.contains(node));
        }
        self.view.send_if_modified(|view| {
            if **view == map {
                return false;
            }
            *view = Arc::new(map);
            true
        });
        drop(redirections);
        self.publish();
    }
}

fn nobody(slot: Option<u16>) -> Fault {
    let message = match slot {
        Some(slot) => format!("no node of the cluster serves slot {slot}"),
        None => "no master of the cluster is known".to_owned(),
    };
    Fault::new(FaultKind::Connect, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClientConfig;

    pub(super) fn address(port: u16) -> Address {
        Address {
            host: "127.0.0.1".to_owned(),
            port,
        }
    }

    /// The nodes of a cluster of which nothing is known but these.
    pub(super) fn nodes(seeds: Vec<Address>) -> Nodes {
        let config = ClientConfig::from_url("redis-cluster://localhost:1").unwrap();
        Nodes::new(
            NativeConnector::new(&config).unwrap(),
            seeds,
            Timing::of(&config),
            Breakers::new("test", config.breaker.clone()).unwrap(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_does_not_undo_what_a_node_has_just_said_of_its_slot() {
        let nodes = nodes(Vec::new());
        let [before, after] = [1, 2].map(address);
        let mut behind = SlotMap::empty();
        behind.set_owner(7, &before);
        behind.set_owner(8, &after);
        nodes.take_over(behind.clone());
        assert_eq!(nodes.view().owner(7), Some(&before));
        nodes.moved(7, &before, &after);
        let mut views = nodes.views();
        views.borrow_and_update();
        for _ in 0..3 {
            nodes.take_over(behind.clone());
            assert_eq!(nodes.view().owner(7), Some(&after));
        }
        // Subscriptions stay at the slot's node, as no view has changed.
        assert!(!views.has_changed().unwrap());
    }
}
