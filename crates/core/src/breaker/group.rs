//! [`Breakers`]: the breakers of a client's servers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::config::BreakerConfig;
use super::handle::Breaker;
use super::machine::Machine;
use super::state::{BreakerState, BreakerStatus};
use crate::config::ConfigError;

/// The circuit breakers of a client: one for each server, so that trouble with one node of a
/// cluster does not close the others. Cloning is cheap, and the clones are the same breakers.
///
/// A client of one server has one. Behind sentinels there is one for the master, whichever server
/// that is.
///
/// ```no_run
/// # fn example(client: &redkit_core::Client) {
/// let breakers = client.breaker();
/// if !breakers.status().state.is_permitting() {
///     for node in breakers.nodes() {
///         println!("{}: {}", node.node, node.status.state);
///     }
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Breakers(Arc<Group>);

/// One server's breaker, as [`Breakers::nodes`] shows it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NodeStatus {
    /// The server: its address, or what sentinels call it.
    pub node: Arc<str>,
    /// What its breaker has seen and what it does.
    pub status: BreakerStatus,
}

pub(super) struct Group {
    client: String,
    config: BreakerConfig,
    /// The state that an operator ordered by hand, for nodes that come later. Locked, before the members, for as long as
    /// an order is given or a node is made: otherwise an order could miss a new node, or be undone there by an earlier one.
    ordered: Mutex<Option<BreakerState>>,
    members: Mutex<BTreeMap<Arc<str>, Member>>,
    /// The worst state of all nodes.
    state: watch::Sender<BreakerState>,
    /// The state of each node.
    nodes: watch::Sender<BTreeMap<Arc<str>, BreakerState>>,
}

struct Member {
    breaker: Breaker,
    /// Whether the node is one of those that calls may go to now.
    is_in_use: bool,
}

impl Breakers {
    /// Breakers whose metrics and events carry `client`. There are none before
    /// [`node`](Self::node) is asked for one.
    ///
    /// # Errors
    /// When a field of the configuration is out of range.
    pub fn new(client: impl Into<String>, config: BreakerConfig) -> Result<Self, ConfigError> {
        config.validate().map_err(|error| {
            ConfigError::new(
                "breaker",
                error.to_string(),
                "correct that field of the breaker",
            )
        })?;
        let group = Group {
            client: client.into(),
            config,
            ordered: Mutex::default(),
            members: Mutex::default(),
            state: watch::Sender::new(BreakerState::Closed),
            nodes: watch::Sender::default(),
        };
        Ok(Self(Arc::new(group)))
    }

    /// The breaker of a server; made when it is asked for first.
    pub fn node(&self, node: &str) -> Breaker {
        if let Some(breaker) = self.known(node) {
            return breaker;
        }
        let ordered = self.0.ordered.lock();
        // Another thread may have been faster.
        if let Some(breaker) = self.known(node) {
            return breaker;
        }
        let node: Arc<str> = node.into();
        let group = Arc::downgrade(&self.0);
        let breaker = Breaker::of_node(&self.0.client, Arc::clone(&node), group, &self.0.config);
        match *ordered {
            Some(BreakerState::ForcedOpen) => breaker.force_open(),
            Some(_) => breaker.force_closed(),
            None => {}
        }
        let member = Member {
            breaker: breaker.clone(),
            is_in_use: true,
        };
        self.0.members.lock().insert(node, member);
        self.0.publish();
        breaker
    }

    fn known(&self, node: &str) -> Option<Breaker> {
        let members = self.0.members.lock();
        let member = members.get(node)?;
        Some(member.breaker.clone())
    }

    /// Shows these nodes and no others; those that are unknown to `keeps` are forgotten.
    #[cfg(feature = "native")]
    pub(crate) fn show(&self, is_shown: impl Fn(&str) -> bool, keeps: impl Fn(&str) -> bool) {
        let mut members = self.0.members.lock();
        members.retain(|node, _| keeps(node));
        for (node, member) in &mut *members {
            member.is_in_use = is_shown(node);
        }
        drop(members);
        self.0.publish();
    }

    /// What the breakers have seen and what they do: counts are added up; state, rates and times
    /// are those of the node that is worst off.
    pub fn status(&self) -> BreakerStatus {
        let mut nodes = self.nodes().into_iter().map(|node| node.status);
        let Some(first) = nodes.next() else {
            return self.unused();
        };
        nodes.fold(first, |all, node| {
            let (mut worst, other) = match severity(node.state) > severity(all.state) {
                true => (node, all),
                false => (all, node),
            };
            worst.calls += other.calls;
            worst.failures += other.failures;
            worst.slow_calls += other.slow_calls;
            worst.not_permitted += other.not_permitted;
            worst.in_flight += other.in_flight;
            worst.oldest_in_flight = worst.oldest_in_flight.max(other.oldest_in_flight);
            worst
        })
    }

    /// Each server's breaker, by the servers' names.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        let breakers: Vec<_> = {
            let members = self.0.members.lock();
            let in_use = members.iter().filter(|(_, member)| member.is_in_use);
            in_use
                .map(|(node, member)| (Arc::clone(node), member.breaker.clone()))
                .collect()
        };
        breakers
            .into_iter()
            .map(|(node, breaker)| NodeStatus {
                node,
                status: breaker.status(),
            })
            .collect()
    }

    /// The worst state of all servers, and a wake-up when it changes. A change that is due by time
    /// alone shows with the next call or [`status`](Self::status).
    pub fn events(&self) -> watch::Receiver<BreakerState> {
        self.0.state.subscribe()
    }

    /// The state of each server, and a wake-up when one changes or a server comes or goes.
    pub fn node_events(&self) -> watch::Receiver<BTreeMap<Arc<str>, BreakerState>> {
        self.0.nodes.subscribe()
    }

    /// Refuses every call, to whichever server, until [`reset`](Self::reset) or
    /// [`force_closed`](Self::force_closed).
    pub fn force_open(&self) {
        self.order(Some(BreakerState::ForcedOpen), Breaker::force_open);
    }

    /// Lets every call through, and counts, until [`reset`](Self::reset) or
    /// [`force_open`](Self::force_open).
    pub fn force_closed(&self) {
        self.order(Some(BreakerState::ForcedClosed), Breaker::force_closed);
    }

    /// Closes all breakers with an empty window (those that are not enabled by the configuration
    /// go back to letting everything through).
    pub fn reset(&self) {
        self.order(None, Breaker::reset);
    }

    /// The client's name, which metrics and events carry.
    pub fn name(&self) -> &str {
        &self.0.client
    }

    /// While there are no servers yet.
    fn unused(&self) -> BreakerStatus {
        BreakerStatus {
            state: Machine::initial(&self.0.config),
            failure_rate: 0.0,
            slow_call_rate: 0.0,
            calls: 0,
            failures: 0,
            slow_calls: 0,
            not_permitted: 0,
            in_flight: 0,
            oldest_in_flight: None,
            since: Instant::now(),
            retry_after: None,
        }
    }

    fn order(&self, forced: Option<BreakerState>, give: impl Fn(&Breaker)) {
        let mut ordered = self.0.ordered.lock();
        *ordered = forced;
        let breakers: Vec<_> = {
            let members = self.0.members.lock();
            members.values().map(|m| m.breaker.clone()).collect()
        };
        breakers.iter().for_each(give);
    }
}

impl Group {
    /// Tells the states that have changed.
    pub(super) fn publish(&self) {
        // Under the lock of the members, so that of two threads the later one has the last word.
        let members = self.members.lock();
        let in_use = members.iter().filter(|(_, member)| member.is_in_use);
        let states: BTreeMap<_, _> = in_use
            .map(|(node, member)| (Arc::clone(node), member.breaker.state()))
            .collect();
        let worst = states
            .values()
            .copied()
            .max_by_key(|state| severity(*state));
        let worst = worst.unwrap_or(BreakerState::Closed);
        self.state.send_if_modified(|state| {
            let is_new = *state != worst;
            *state = worst;
            is_new
        });
        self.nodes.send_if_modified(|known| {
            let is_new = *known != states;
            *known = states;
            is_new
        });
    }
}

/// How much a state keeps from a server.
fn severity(state: BreakerState) -> u8 {
    match state {
        BreakerState::Closed => 0,
        BreakerState::ForcedClosed => 1,
        BreakerState::HalfOpen => 2,
        BreakerState::Open => 3,
        BreakerState::ForcedOpen => 4,
    }
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breakers")
            .field("client", &self.name())
            .field("nodes", &*self.0.nodes.borrow())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_in_trouble_leaves_the_others_alone_and_shows_in_status_and_events() {
        let breakers = Breakers::new("shop", BreakerConfig::default()).unwrap();
        assert_eq!(breakers.status().state, BreakerState::Closed);
        let (events, nodes) = (breakers.events(), breakers.node_events());
        let (a, b) = (breakers.node("a:1"), breakers.node("b:2"));
        b.acquire().unwrap().settle(super::super::Outcome::Success);
        a.suspend();
        assert!(a.acquire().is_err() && b.acquire().is_ok());
        assert_eq!(*events.borrow(), BreakerState::Open);
        let states: Vec<_> = nodes.borrow().values().copied().collect();
        assert_eq!(states, [BreakerState::Open, BreakerState::Closed]);
        let status = breakers.status();
        assert_eq!(
            (status.state, status.not_permitted),
            (BreakerState::Open, 1)
        );
        assert_eq!(&*breakers.nodes()[0].node, "a:1");
        a.resume();
        assert_eq!(*events.borrow(), BreakerState::Closed);
    }

    #[test]
    fn an_order_by_hand_holds_for_nodes_that_come_later() {
        let breakers = Breakers::new("shop", BreakerConfig::default()).unwrap();
        let a = breakers.node("a:1");
        breakers.force_open();
        assert!(a.acquire().is_err() && breakers.node("b:2").acquire().is_err());
        breakers.reset();
        assert!(breakers.node("b:2").acquire().is_ok() && breakers.node("c:3").acquire().is_ok());
    }

    #[test]
    fn an_order_that_meets_a_new_node_has_the_last_word_there() {
        let breakers = Breakers::new("shop", BreakerConfig::default()).unwrap();
        for n in 0..2_000 {
            breakers.force_open();
            let start = std::sync::Barrier::new(2);
            let name = format!("node:{n}");
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    start.wait();
                    breakers.node(&name)
                });
                start.wait();
                breakers.reset();
            });
            assert!(breakers.node(&name).acquire().is_ok(), "{name}");
            breakers.0.members.lock().clear();
        }
    }
}
