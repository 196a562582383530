//! [`Redlock`]: a lock that a majority of independent servers grants.

mod attempt;
mod builder;
mod guard;
mod node;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join_all, select_all};
use metrics::Counter;
use redkit_core::coordination::{Backoff, LeaseConfig, Token, Waiter, Wake};
use redkit_core::inspection::{Inspect, Snapshot};
use redkit_core::{Client, Tally, ToArg};
use tokio::time::{Instant, sleep, timeout};

use self::attempt::Attempt;
pub use self::attempt::NodeOutcome;
pub(crate) use self::attempt::{granted, listed};
pub use self::builder::RedlockBuilder;
pub use self::guard::RedlockGuard;
use self::node::Node;
use crate::error::Error;
use crate::fence::Fence;
use crate::keys::user_key;
use crate::time::deadline_after;

/// Locks that a majority of N independent servers grants: the algorithm
/// [Redlock](https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/), with a fence. It is
/// cheap to clone.
///
/// The servers are masters that know nothing of each other: not the nodes of a cluster, and no replicas.
/// The lock outlives the loss of any minority of them. A server that lost a lock, or did not grant it, takes part
/// again at the next acquisition, or when the guard is [extended](RedlockGuard::extend); a lock that is held for long
/// and never extended is lost when one server after the other has failed, though all of them are well by then. It costs two round trips to all of them in place of
/// one to one, so that a `LockManager` is the better choice wherever a failover that
/// forgets a lock is caught by the fence.
///
/// - All servers are asked at the same time, each for [`node_timeout`](RedlockBuilder::node_timeout) at
///   most: a server that hangs costs this and no more.
/// - The lock is held when a majority granted it, and time is left of its TTL then, less the
///   allowance for [drift](RedlockBuilder::drift).
/// - **The fence** is the greatest that any server gave. It is written back to a majority before the
///   guard is handed out, so that it grows from holder to holder although the servers' clocks differ, and
///   whichever majority grants. Martin Kleppmann's criticism of Redlock, that it has no fence,
///   is met by this; that it depends on clocks of about the same *speed* stays true.
/// - Each server's lease is renewed on its own; the lock is [lost](RedlockGuard::lost) when fewer than a
///   majority of them certainly stand.
///
/// A server that restarts without its data may take part in a second majority at once: let servers write
/// to disk at every write (`appendfsync always`), or keep them away for a TTL after a crash.
///
/// ```
/// # use std::sync::Arc;
/// use std::time::Duration;
/// use redkit_lock::Redlock;
/// # use redkit_core::{Client, ClientConfig};
/// # use redkit_embedded::Embedded;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connect = || Client::from_backend(Arc::new(Embedded::new()), &ClientConfig::default());
/// # let (one, two, three) = (connect()?, connect()?, connect()?);
/// let locks = Redlock::builder([&one, &two, &three], "jobs").build()?;
///
/// let guard = locks.acquire("job-7", Duration::from_secs(5)).await?;
/// println!("write with the fence {}", guard.fence());
/// guard.release().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Redlock {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    nodes: Vec<Node>,
    ttl: Duration,
    node_timeout: Duration,
    drift: Duration,
    hold_at_most: Option<Duration>,
    metrics: Metrics,
}

struct Metrics {
    acquired: Counter,
    /// Others have the lock.
    refused: Counter,
    /// Servers failed.
    failed: Counter,
    lost: Tally,
}

/// A waiter tries this often at least, though nobody wakes it.
const TRY: Duration = Duration::from_secs(1);

impl Redlock {
    /// Starts locks named `name`, which stands in their keys and metrics, on these servers.
    pub fn builder<'c>(
        clients: impl IntoIterator<Item = &'c Client>,
        name: &str,
    ) -> RedlockBuilder {
        RedlockBuilder::new(clients.into_iter().cloned().collect(), name)
    }

    /// The lock, if a majority grants it now.
    ///
    /// # Errors
    /// [`Error::EmptyKey`]; [`Error::NoQuorum`], which says what each server did.
    pub async fn try_acquire(&self, key: impl ToArg) -> Result<RedlockGuard, Error> {
        self.acquire(key, Duration::ZERO).await
    }

    /// The lock, waited for `timeout` at most. A waiter is woken on release, and tries once a second
    /// besides; waiters of several processes that get in each other's way try again after random pauses. There is no
    /// order among waiters. What no repetition mends on any server, such as a user without rights, ends the
    /// wait.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire), of the last attempt.
    pub async fn acquire(&self, key: impl ToArg, timeout: Duration) -> Result<RedlockGuard, Error> {
        let key = user_key(key)?;
        let deadline = deadline_after(timeout);
        let acquired = self.acquire_until(&key, deadline).await;
        match &acquired {
            Ok(_) => self.shared.metrics.acquired.increment(1),
            Err(failed) if is_contended(failed) => self.shared.metrics.refused.increment(1),
            Err(_) => self.shared.metrics.failed.increment(1),
        }
        acquired
    }

    /// Takes the lock as [`acquire`](Self::acquire) does, begins work with its fence, drops the work when the lock is
    /// lost, and releases the lock after it.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and as [`RedlockGuard::run`].
    pub async fn run<F, W>(
        &self,
        key: impl ToArg,
        timeout: Duration,
        work: F,
    ) -> Result<W::Output, Error>
    where
        F: FnOnce(Fence) -> W,
        W: Future,
    {
        let guard = self.acquire(key, timeout).await?;
        let work = work(guard.fence());
        guard.run(work).await
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// How many servers are a majority.
    pub fn quorum(&self) -> usize {
        self.shared.quorum()
    }

    async fn acquire_until(&self, key: &Bytes, deadline: Instant) -> Result<RedlockGuard, Error> {
        let mut waiters: Option<Vec<Waiter>> = None;
        let mut pauses = Backoff::new(Duration::from_millis(5), Duration::from_millis(500));
        loop {
            let mut attempt = Attempt::new(&self.shared, key, Token::random());
            let failed = match attempt.run().await {
                Ok(guard) => {
                    waiters.into_iter().flatten().for_each(Waiter::done);
                    return Ok(guard);
                }
                Err(failed) => failed,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || failed.is_final {
                return Err(failed.error(self.shared.quorum()));
            }
            attempt.undo(&failed).await;
            let Some(waiters) = &mut waiters else {
                waiters = Some(self.waiters(key).await);
                // What happened before the subscriptions stood was not told: try again.
                continue;
            };
            match failed.held_for() {
                // A majority holds it for another: wait for the release.
                Some(hint) if !waiters.is_empty() => {
                    pauses.reset();
                    let limit = hint.min(TRY).min(left);
                    select_all(waiters.iter_mut().map(|w| Box::pin(w.wait(limit)))).await;
                }
                // Callers got in each other's way, or servers do not answer.
                _ => sleep(pauses.next_pause().min(left)).await,
            }
        }
    }

    /// Places among the waiters of each server that can be reached soon.
    async fn waiters(&self, key: &Bytes) -> Vec<Waiter> {
        let made = self.shared.nodes.iter().map(|node| {
            let waiter = node
                .client
                .waiter(node.channel.clone(), key.clone(), Wake::One);
            timeout(self.shared.node_timeout, waiter)
        });
        join_all(made).await.into_iter().flatten().collect()
    }
}

/// Whether a majority would have granted the lock, had no other holder had it.
fn is_contended(error: &Error) -> bool {
    let Error::NoQuorum { needed, nodes } = error else {
        return false;
    };
    let held = nodes
        .iter()
        .filter(|node| matches!(node, NodeOutcome::Held { .. }));
    held.count() + granted(nodes) >= *needed
}

impl Shared {
    /// How a lock that was asked for at `since` is held on a server that was asked at `sent`; `None` when its longest
    /// time is over.
    fn lease_config(&self, since: Instant, sent: Instant) -> Option<LeaseConfig> {
        let config = LeaseConfig::new(self.ttl).drift(self.drift);
        let Some(limit) = self.hold_at_most else {
            return Some(config);
        };
        let left = limit.saturating_sub(sent.saturating_duration_since(since));
        (!left.is_zero()).then(|| config.hold_at_most(left))
    }

    fn quorum(&self) -> usize {
        self.nodes.len() / 2 + 1
    }
}

impl Inspect for Shared {
    fn kind(&self) -> &'static str {
        "redlock"
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::default()
            .fact("nodes", self.nodes.len())
            .fact("quorum", self.quorum())
            .fact("ttl", self.ttl)
            .fact("lost", self.metrics.lost.get())
    }
}

impl fmt::Debug for Redlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redlock")
            .field("name", &self.shared.name)
            .field("nodes", &self.shared.nodes.len())
            .finish_non_exhaustive()
    }
}
