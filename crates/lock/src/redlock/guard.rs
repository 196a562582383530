//! [`RedlockGuard`]: a lock that a majority granted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use redkit_core::coordination::{Lease, Release};
use tokio::time::{Instant, timeout};

use super::Shared;
use super::node::Claim;
use crate::error::Error;
use crate::fence::Fence;

/// A lock of a [`Redlock`](crate::Redlock), held until it is released, dropped or lost. Dropping it releases
/// it on all servers, in the background, and never blocks.
#[must_use = "the lock is released when the guard is dropped"]
pub struct RedlockGuard {
    shared: Arc<Shared>,
    /// On all servers: one that did not answer may have granted the lock.
    claims: Vec<Claim>,
    /// On the servers that granted it.
    leases: Vec<Lease>,
    fence: Fence,
    is_released: bool,
}

impl RedlockGuard {
    pub(super) fn new(
        shared: Arc<Shared>,
        claims: Vec<Claim>,
        leases: Vec<Lease>,
        fence: Fence,
    ) -> Self {
        Self {
            shared,
            claims,
            leases,
            fence,
            is_released: false,
        }
    }

    /// The fence: greater than that of every earlier holder.
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Whether the lock is lost: fewer than a majority of servers certainly hold it.
    pub fn is_lost(&self) -> bool {
        self.held_on() < self.shared.quorum()
    }

    /// On how many servers the lock is certainly held.
    pub fn held_on(&self) -> usize {
        self.leases.iter().filter(|lease| !lease.is_lost()).count()
    }

    /// For how long a majority certainly holds the lock from now on, if it is not renewed.
    pub fn remaining(&self) -> Duration {
        self.valid_until().saturating_duration_since(Instant::now())
    }

    /// Waits until the lock is lost, by the local clock and whatever the servers do. Put it in a `select!`
    /// beside the work.
    pub async fn lost(&self) {
        let mut losses: FuturesUnordered<_> = self.leases.iter().map(Lease::lost).collect();
        // A lease that is lost stays so: as many as these leave a majority.
        let bearable = self.leases.len().saturating_sub(self.shared.quorum());
        for _ in 0..=bearable {
            losses.next().await;
        }
    }

    /// Renews the lock now, on all servers that granted it, each within the timeout of a server. The client's
    /// tasks do so by themselves as well.
    ///
    /// # Errors
    /// [`Error::Lost`] when fewer than a majority hold it. A server that does not answer does not lose it
    /// by that.
    pub async fn extend(&self) -> Result<(), Error> {
        let limit = self.shared.node_timeout;
        let renewals = self
            .leases
            .iter()
            .map(|lease| timeout(limit, lease.renew()));
        // What each said stands in its lease.
        join_all(renewals).await;
        match self.is_lost() {
            true => Err(Error::Lost),
            false => Ok(()),
        }
    }

    /// Releases the lock on all servers, and waits for each at most for the timeout of a server; those that
    /// do not answer are told in the background. Gives whether the lock was held until then.
    pub async fn release(mut self) -> bool {
        let was_held = !self.is_lost();
        self.end();
        self.is_released = true;
        let until = Instant::now() + self.shared.node_timeout;
        let undo = Undo::new(&self);
        let releases = undo.claims.iter().map(|claim| {
            let call = claim.release(true).deadline(until);
            claim.client.eval::<i64>(call)
        });
        let released = join_all(releases).await;
        undo.after(&released);
        was_held
    }

    fn valid_until(&self) -> Instant {
        let mut ends: Vec<Instant> = self.leases.iter().map(Lease::valid_until).collect();
        ends.sort_unstable();
        // The latest at which a majority still stands.
        let from_the_end = ends.iter().rev().nth(self.shared.quorum() - 1);
        from_the_end.copied().unwrap_or_else(Instant::now)
    }

    /// Ends the renewals; counts a lock that was lost.
    fn end(&self) {
        let held = self.leases.iter().map(Lease::end);
        if held.filter(|was_held| *was_held).count() < self.shared.quorum() {
            self.shared.metrics.lost.add_one();
        }
    }
}

/// Releases what is not known to be released, should the wait for it be dropped.
struct Undo {
    claims: Vec<Claim>,
    ttl: Duration,
    is_told: Vec<bool>,
}

impl Undo {
    fn new(guard: &RedlockGuard) -> Self {
        Self {
            claims: guard.claims.clone(),
            ttl: guard.shared.ttl,
            is_told: vec![false; guard.claims.len()],
        }
    }

    fn after<T, E>(mut self, released: &[Result<T, E>]) {
        self.is_told = released.iter().map(Result::is_ok).collect();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for (claim, is_told) in self.claims.iter().zip(&self.is_told) {
            if !is_told {
                let release = Release::new([claim.release(true)]);
                let until = Instant::now() + self.ttl;
                claim.client.release_later(release.until(until));
            }
        }
    }
}

impl Drop for RedlockGuard {
    fn drop(&mut self) {
        if !self.is_released {
            self.end();
            drop(Undo::new(self));
        }
    }
}

/// Without the key, which may name a person.
impl fmt::Debug for RedlockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedlockGuard")
            .field("fence", &self.fence)
            .field("held_on", &self.held_on())
            .finish_non_exhaustive()
    }
}
