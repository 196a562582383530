//! [`RedlockBuilder`]: the settings of a Redlock, checked when it is built.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redkit_core::inspection::Inspect;
use redkit_core::{Client, ConfigError, Tally};

use super::node::Node;
use super::{Metrics, Redlock, Shared};
use crate::error::Error;
use crate::time::check_lease;

/// Settings of a [`Redlock`], from [`Redlock::builder`].
#[derive(Debug, Clone)]
#[must_use = "it does nothing until `build`"]
pub struct RedlockBuilder {
    clients: Vec<Client>,
    name: String,
    ttl: Duration,
    node_timeout: Duration,
    drift: Option<Duration>,
    hold_at_most: Option<Duration>,
    fence_ttl: Duration,
}

/// What expiry to the millisecond and the way there add to the difference of two clocks' speed.
const LEAST_DRIFT: Duration = Duration::from_millis(2);

const YEAR: Duration = Duration::from_secs(365 * 86_400);

impl RedlockBuilder {
    pub(super) fn new(clients: Vec<Client>, name: &str) -> Self {
        Self {
            clients,
            name: name.to_owned(),
            ttl: Duration::from_secs(30),
            node_timeout: Duration::from_millis(50),
            drift: None,
            hold_at_most: None,
            fence_ttl: Duration::from_secs(86_400),
        }
    }

    /// For how long a lock is held without being renewed; it is renewed after a third of it. Default: 30 s.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How long a server may take to answer. It is not asked for longer, and counts as one that did
    /// not grant. Default: 50 ms.
    pub fn node_timeout(mut self, timeout: Duration) -> Self {
        self.node_timeout = timeout;
        self
    }

    /// By how much the clocks of this process and of a server may differ over one TTL. Default: a
    /// hundredth of the TTL and 2 ms; less than 2 ms, which expiry to the millisecond and the way there take,
    /// is 2 ms.
    pub fn drift(mut self, drift: Duration) -> Self {
        self.drift = Some(drift);
        self
    }

    /// A lock is lost after this time, however well it can be renewed. Default: it is not.
    pub fn hold_at_most(mut self, limit: Duration) -> Self {
        self.hold_at_most = Some(limit);
        self
    }

    /// How long a server remembers the last fence of a lock that nobody takes. After that fences grow only
    /// if the servers' clocks do not differ by more than this. Default: a day; at most a year.
    pub fn fence_ttl(mut self, ttl: Duration) -> Self {
        self.fence_ttl = ttl;
        self
    }

    /// Builds the locks. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Core`] with the setting that cannot work: fewer than three servers, or one of them twice; a
    /// name with other characters than letters, digits, `-`, `_` and `.`; a TTL under 100 ms or over a day;
    /// a `node_timeout` of zero or over a quarter of the TTL; a `drift` of the TTL or more; a limit of
    /// holding or a TTL of the fence shorter than the TTL; a TTL of the fence over a year. Two clients for one
    /// server are not found out: give each server once, or it has two votes.
    pub fn build(self) -> Result<Redlock, Error> {
        let wrong = |field: &'static str, problem: &'static str, fix: &'static str| {
            Err(Error::from(ConfigError::new(field, problem, fix)))
        };
        if self.clients.len() < 3 {
            return wrong(
                "clients",
                "there are fewer than three servers, of which none may fail",
                "give three or five independent servers, or use a `LockManager` on one",
            );
        }
        let mut others = self.clients.iter();
        while let Some(client) = others.next() {
            if others.clone().any(|other| other.is_same_client(client)) {
                return wrong(
                    "clients",
                    "one of them is there twice, and would have two votes",
                    "give one client for each server",
                );
            }
        }
        check_lease("ttl", self.ttl)?;
        if self.node_timeout.is_zero() || self.node_timeout > self.ttl / 4 {
            return wrong(
                "node_timeout",
                "it is zero, or over a quarter of the TTL",
                "give what a healthy server never needs, such as 50 ms",
            );
        }
        let drift = self.drift.unwrap_or(self.ttl / 100 + LEAST_DRIFT);
        let drift = drift.max(LEAST_DRIFT);
        if drift >= self.ttl {
            return wrong(
                "drift",
                "it is not shorter than the TTL",
                "give a hundredth of it",
            );
        }
        if self.hold_at_most.is_some_and(|limit| limit < self.ttl) {
            return wrong(
                "hold_at_most",
                "it is shorter than the TTL",
                "shorten the TTL as well, or give a longer time",
            );
        }
        if self.fence_ttl < self.ttl || self.fence_ttl > YEAR {
            return wrong(
                "fence_ttl",
                "it is shorter than the TTL, or over a year",
                "give far more than clocks differ by, such as a day",
            );
        }
        let nodes: Result<Vec<Node>, Error> = self
            .clients
            .iter()
            .map(|client| Node::new(client, &self.name, self.fence_ttl))
            .collect();
        let acquires = |outcome: &'static str| {
            metrics::counter!(
                "redkit_redlock_acquires_total",
                "lock" => self.name.clone(), "outcome" => outcome
            )
        };
        let shared = Arc::new(Shared {
            nodes: nodes?,
            ttl: self.ttl,
            node_timeout: self.node_timeout,
            drift,
            hold_at_most: self.hold_at_most,
            metrics: Metrics {
                acquired: acquires("acquired"),
                refused: acquires("refused"),
                failed: acquires("failed"),
                lost: Tally::new(metrics::counter!(
                    "redkit_redlock_lost_total", "lock" => self.name.clone()
                )),
            },
            name: self.name,
        });
        if let Some(client) = self.clients.first() {
            let inspected = Arc::downgrade(&shared);
            client.register(inspected as Weak<dyn Inspect>);
        }
        Ok(Redlock { shared })
    }
}
