//! [`Attempt`]: one try to be granted a lock by a majority.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use redkit_core::coordination::{Release, Token};
use tokio::time::Instant;

use super::Shared;
use super::guard::{Leases, RedlockGuard};
use super::node::{Claim, Take};
use crate::error::Error;
use crate::fence::Fence;

/// What one server did, in the order of the clients.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeOutcome {
    /// It granted the lock.
    Granted,
    /// Another holder has the lock there.
    Held {
        /// For how long, unless it is renewed.
        remaining: Duration,
    },
    /// It did not answer in time, could not be reached or refused; with the reason.
    Failed(Box<str>),
    /// It granted the lock, and then the fence could not be written back to it.
    NotWritten,
    /// It granted the lock, and all of them together took so long that nothing was left of the TTL.
    TooLate,
}

pub(super) struct Attempt<'a> {
    shared: &'a Arc<Shared>,
    claims: Vec<Claim>,
    /// Undone when it is dropped before a guard stands for it.
    is_undone_on_drop: bool,
}

/// An attempt that failed.
pub(super) struct Failed {
    outcomes: Vec<NodeOutcome>,
    /// Every server refused, and will refuse a repetition.
    pub(super) is_final: bool,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, key: &Bytes, token: Token) -> Self {
        let claims = shared.nodes.iter().map(|node| node.claim(key, token));
        for node in &shared.nodes {
            node.client.prepare_releases();
        }
        Self {
            shared,
            claims: claims.collect(),
            is_undone_on_drop: true,
        }
    }

    pub(super) async fn run(&mut self) -> Result<RedlockGuard, Failed> {
        let (shared, quorum) = (self.shared, self.shared.quorum());
        let sent = Instant::now();
        let until = sent + shared.node_timeout;
        let takes = self
            .claims
            .iter()
            .map(|claim| claim.take(shared.ttl, until));
        let taken: Vec<_> = join_all(takes).await;
        let is_final = taken
            .iter()
            .all(|taken| matches!(taken, Err(error) if !error.is_retryable()));
        let failed = |outcomes| Failed { outcomes, is_final };
        let fences: Vec<Option<Fence>> = taken
            .iter()
            .map(|taken| match taken {
                Ok(Take::Granted(fence)) => Some(*fence),
                _ => None,
            })
            .collect();
        let mut outcomes: Vec<NodeOutcome> = taken
            .into_iter()
            .map(|taken| match taken {
                Ok(Take::Granted(_)) => NodeOutcome::Granted,
                Ok(Take::Held(remaining)) => NodeOutcome::Held { remaining },
                Err(error) => NodeOutcome::Failed(error.to_string().into()),
            })
            .collect();
        let greatest = fences.iter().flatten().max().copied();
        let Some(fence) = greatest.filter(|_| granted(&outcomes) >= quorum) else {
            return Err(failed(outcomes));
        };
        self.write_back(fence, &fences, &mut outcomes).await;
        if granted(&outcomes) < quorum {
            return Err(failed(outcomes));
        }
        let mut leases = Leases::new();
        if let Some(config) = shared.lease_config(sent, sent) {
            for (number, (claim, outcome)) in self.claims.iter().zip(&outcomes).enumerate() {
                if *outcome == NodeOutcome::Granted {
                    let lease = claim.client.lease(claim.renewal(), config.clone(), sent);
                    leases.push((number, Arc::new(lease)));
                }
            }
        }
        // The answers may have taken as long as the lock is held.
        if leases.iter().filter(|(_, lease)| !lease.is_lost()).count() < quorum {
            for outcome in &mut outcomes {
                if *outcome == NodeOutcome::Granted {
                    *outcome = NodeOutcome::TooLate;
                }
            }
            return Err(failed(outcomes));
        }
        let claims = std::mem::take(&mut self.claims);
        self.is_undone_on_drop = false;
        let shared = Arc::clone(shared);
        Ok(RedlockGuard::new(shared, claims, leases, fence, sent))
    }

    /// Gives back what the servers have granted, before the next attempt would find it held, and waits for each
    /// server for its timeout at most. Those that do not answer are told in the background.
    pub(super) async fn undo(mut self, failed: &Failed) {
        let mut outcomes = failed.outcomes.iter();
        self.claims
            .retain(|_| !matches!(outcomes.next(), Some(NodeOutcome::Held { .. })));
        let until = Instant::now() + self.shared.node_timeout;
        let releases = self.claims.iter().map(|claim| {
            let call = claim.release(false).deadline(until);
            claim.client.eval::<i64>(call)
        });
        let mut released = join_all(releases).await.into_iter();
        self.claims
            .retain(|_| released.next().is_none_or(|released| released.is_err()));
    }

    /// Writes the greatest fence to the servers that gave a lower one. The next majority shares a server
    /// with this one, and gets a greater fence there.
    async fn write_back(
        &self,
        fence: Fence,
        given: &[Option<Fence>],
        outcomes: &mut [NodeOutcome],
    ) {
        let until = Instant::now() + self.shared.node_timeout;
        let writes = self
            .claims
            .iter()
            .zip(given)
            .map(async |(claim, given)| match given {
                Some(given) if *given < fence => claim.raise(fence, until).await.unwrap_or(false),
                _ => true,
            });
        for (is_written, outcome) in join_all(writes).await.into_iter().zip(outcomes) {
            if !is_written {
                *outcome = NodeOutcome::NotWritten;
            }
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.is_undone_on_drop {
            return;
        }
        // On all of them: a server that did not answer may have granted it.
        for claim in &self.claims {
            let release = Release::new([claim.release(false)]);
            let until = Instant::now() + self.shared.ttl;
            claim.client.release_later(release.patiently_until(until));
        }
    }
}

impl Failed {
    /// For how long another holder has the lock, when it has it on a majority of the servers that
    /// answered.
    pub(super) fn held_for(&self) -> Option<Duration> {
        let held = self.outcomes.iter().filter_map(|outcome| match outcome {
            NodeOutcome::Held { remaining } => Some(*remaining),
            _ => None,
        });
        let longest = held.clone().max()?;
        (held.count() > granted(&self.outcomes)).then_some(longest.max(Duration::from_millis(1)))
    }

    pub(super) fn error(self, needed: usize) -> Error {
        Error::NoQuorum {
            needed,
            nodes: self.outcomes,
        }
    }
}

/// How many servers granted the lock.
pub(crate) fn granted(outcomes: &[NodeOutcome]) -> usize {
    let granted = outcomes
        .iter()
        .filter(|outcome| **outcome == NodeOutcome::Granted);
    granted.count()
}

/// What each server did, for a message.
pub(crate) fn listed(outcomes: &[NodeOutcome]) -> String {
    let each: Vec<String> = outcomes.iter().map(NodeOutcome::to_string).collect();
    each.join("; ")
}

impl fmt::Display for NodeOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeOutcome::Granted => f.write_str("granted"),
            NodeOutcome::Held { remaining } => write!(f, "held by another for {remaining:?}"),
            NodeOutcome::Failed(reason) => write!(f, "failed: {reason}"),
            NodeOutcome::NotWritten => f.write_str("granted, but the fence was not written back"),
            NodeOutcome::TooLate => f.write_str("granted, but nothing was left of the TTL then"),
        }
    }
}
