//! [`Hints`]: a setup that cannot work is said once in the log, with what to do about it, and then ever
//! more seldom. Patterns that go on without Redis would otherwise keep quiet about it.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::backend::Topology;
use crate::error::CallError;

/// How often each has been met.
#[derive(Debug, Default)]
pub(super) struct Hints {
    permission: AtomicU32,
    topology: AtomicU32,
}

impl Hints {
    /// Gives the hint that belongs to a failure, if there is one and it is time to. Says whether there is one.
    #[cold]
    pub(super) fn give(
        &self,
        client: &str,
        command: &str,
        topology: Topology,
        error: &CallError,
    ) -> bool {
        let CallError::Replied(refusal) = error else {
            return false;
        };
        let (met, hint) = match refusal.code() {
            "NOPERM" | "NOAUTH" => (
                &self.permission,
                "the user lacks a right: grant it with `ACL SETUSER`, or give other credentials",
            ),
            "MOVED" if topology != Topology::Cluster => (
                &self.topology,
                "the server is part of a cluster: write redis-cluster:// in place of redis://",
            ),
            _ => return false,
        };
        let times = met.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if times.is_power_of_two() {
            tracing::warn!(
                target: "redkit::client",
                client, command, error = %refusal, times, "{hint}"
            );
        }
        true
    }
}
