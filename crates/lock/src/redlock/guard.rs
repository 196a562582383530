//! [`RedlockGuard`]: a lock that a majority granted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use redkit_core::coordination::{Lease, Release};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::Shared;
use super::node::{Claim, Take};
use crate::error::Error;
use crate::fence::Fence;
use crate::run::run;

/// A lock of a [`Redlock`](crate::Redlock), held until it is released, dropped or lost. Dropping it releases
/// it on all servers, in the background, and never blocks.
#[must_use = "the lock is released when the guard is dropped"]
pub struct RedlockGuard {
    shared: Arc<Shared>,
    /// On all servers: one that did not answer may have granted the lock.
    claims: Vec<Claim>,
    /// On the servers that granted it, by their number among the claims.
    leases: watch::Sender<Leases>,
    fence: Fence,
    /// When the servers were asked for it.
    since: Instant,
    is_released: bool,
}

pub(super) type Leases = Vec<(usize, Arc<Lease>)>;

impl RedlockGuard {
    pub(super) fn new(
        shared: Arc<Shared>,
        claims: Vec<Claim>,
        leases: Leases,
        fence: Fence,
        since: Instant,
    ) -> Self {
        Self {
            shared,
            claims,
            leases: watch::Sender::new(leases),
            fence,
            since,
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
        held_on(&self.leases.borrow())
    }

    /// For how long a majority certainly holds the lock from now on, if it is not renewed.
    pub fn remaining(&self) -> Duration {
        self.valid_until().saturating_duration_since(Instant::now())
    }

    /// A future that resolves when the lock is lost, by the local clock and whatever the servers do. Put it in a
    /// `select!` beside the work. It can outlive the guard, and never resolves once the lock was given back in time.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let (mut changes, quorum) = (self.leases.subscribe(), self.shared.quorum());
        async move {
            loop {
                let mut losses: FuturesUnordered<_> = changes
                    .borrow_and_update()
                    .iter()
                    .map(|(_, lease)| lease.watch_loss())
                    .collect();
                // A lease that is lost stays so: as many as these leave a majority.
                let bearable = losses.len().saturating_sub(quorum);
                let mut too_many = Box::pin(async move {
                    for _ in 0..=bearable {
                        losses.next().await;
                    }
                });
                tokio::select! {
                    biased;
                    changed = changes.changed() => match changed {
                        // Another server has granted the lock: what was lost before then counts no more.
                        Ok(()) => {}
                        // The guard is gone, and nothing changes any more. What it held is let go of.
                        Err(_) => {
                            drop(changes);
                            return too_many.await;
                        }
                    },
                    () = &mut too_many => return,
                }
            }
        }
    }

    /// Does work that is dropped when the lock is lost, and releases the lock after it. Work that blocks its thread
    /// cannot be dropped meanwhile.
    ///
    /// # Errors
    /// [`Error::Lost`], also for work that came to its end and whose lock is lost by then.
    pub async fn run<T>(self, work: impl Future<Output = T>) -> Result<T, Error> {
        let lost = self.lost();
        run(async { Ok(self.release().await) }, lost, work).await
    }

    /// Renews the lock now, on all servers that granted it, each within the timeout of a server; the client's tasks
    /// do so by themselves as well. Then it is taken on those that did not grant it, or have lost it since (they were
    /// stopped, say), where nobody else has it: so a lock that is held for long outlives the failure of one server
    /// after the other.
    ///
    /// # Errors
    /// [`Error::Lost`] when fewer than a majority hold it. A server that does not answer does not lose it
    /// by that.
    pub async fn extend(&self) -> Result<(), Error> {
        let limit = self.shared.node_timeout;
        let leases = self.leases.borrow().clone();
        let renewals = leases
            .iter()
            .map(|(_, lease)| timeout(limit, lease.renew()));
        // What each said stands in its lease.
        join_all(renewals).await;
        if self.is_lost() {
            return Err(Error::Lost);
        }
        self.retake().await;
        match self.is_lost() {
            true => Err(Error::Lost),
            false => Ok(()),
        }
    }

    /// Takes the lock, which is held, on the servers that do not hold it.
    async fn retake(&self) {
        let is_held = |number: usize| {
            let leases = self.leases.borrow();
            leases
                .iter()
                .any(|(of, lease)| *of == number && !lease.is_lost())
        };
        let missing = self.claims.iter().enumerate();
        let missing = missing.filter(|(number, _)| !is_held(*number));
        let until = Instant::now() + self.shared.node_timeout;
        let taken = missing.map(async |(number, claim)| {
            let sent = Instant::now();
            let config = self.shared.lease_config(self.since, sent)?;
            let Ok(Take::Granted(given)) = claim.take(self.shared.ttl, until).await else {
                return None;
            };
            // The next majority may need this server to give a greater fence.
            if given < self.fence && !matches!(claim.raise(self.fence, until).await, Ok(true)) {
                return None;
            }
            let lease = claim.client.lease(claim.renewal(), config, sent);
            (!lease.is_lost()).then(|| (number, Arc::new(lease)))
        });
        let taken: Leases = join_all(taken).await.into_iter().flatten().collect();
        if taken.is_empty() {
            return;
        }
        self.leases.send_modify(|leases| {
            // A lock that was lost meanwhile stays so: others may have had it in between.
            if held_on(leases) < self.shared.quorum() {
                return;
            }
            // Of a call beside this one, only the first is kept.
            for (number, lease) in taken {
                let is_there = leases
                    .iter()
                    .any(|(of, held)| *of == number && !held.is_lost());
                if !is_there {
                    leases.retain(|(of, _)| *of != number);
                    leases.push((number, lease));
                }
            }
        });
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
        let leases = self.leases.borrow();
        let ends = leases.iter().map(|(_, lease)| lease.valid_until());
        let mut ends: Vec<Instant> = ends.collect();
        ends.sort_unstable();
        // The latest at which a majority still stands.
        let from_the_end = ends.iter().rev().nth(self.shared.quorum() - 1);
        from_the_end.copied().unwrap_or_else(Instant::now)
    }

    /// Ends the renewals; counts a lock that was lost.
    fn end(&self) {
        let leases = self.leases.borrow().clone();
        let held = leases.iter().map(|(_, lease)| lease.end());
        if held.filter(|was_held| *was_held).count() < self.shared.quorum() {
            self.shared.metrics.lost.add_one();
        }
    }
}

fn held_on(leases: &Leases) -> usize {
    leases.iter().filter(|(_, lease)| !lease.is_lost()).count()
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
                claim.client.release_later(release.patiently_until(until));
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
