//! [`Semaphore`]: so many permits for a key, in all processes together.

mod builder;
mod metrics;
mod permits;
mod scripts;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::coordination::{LeaseConfig, Token};
use redkit_core::inspection::{Inspect, Snapshot};
use redkit_core::{Client, ToArg};
use tokio::time::Instant;

pub use self::builder::SemaphoreBuilder;
use self::metrics::{Metrics, Waiting};
pub use self::permits::Permits;
use self::scripts::{Names, Take, Taken};
use crate::error::Error;
use crate::keys::user_key;
use crate::time::deadline_after;

/// So many permits for each key, in all processes together. It is cheap to clone; clones share
/// everything.
///
/// A call takes one permit or several, all of them or none. Each grant is a lease on the server's clock,
/// renewed by the client's one task, so that a process that died holds its permits for no longer than
/// the [lease](SemaphoreBuilder::lease). Waiters are served first come, first served, among all
/// processes, and are woken: a caller that wants many permits is not overtaken by callers that want few.
///
/// ```
/// # use std::sync::Arc;
/// use std::time::Duration;
/// use redkit_lock::Semaphore;
/// # use redkit_core::{Client, ClientConfig};
/// # use redkit_embedded::Embedded;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = Client::from_backend(Arc::new(Embedded::new()), &ClientConfig::default())?;
/// # async fn export() {}
/// let exports = Semaphore::builder(&client, "exports").permits(10).build()?;
///
/// // Two of the ten permits of `eu`:
/// if let Some(permits) = exports.acquire("eu", 2, Duration::from_secs(5)).await? {
///     tokio::select! {
///         () = export() => {}
///         () = permits.lost() => {} // another caller may have them now
///     }
///     permits.release().await?; // or drop it
/// }
/// // The same in one; `None` when they were not free in time:
/// let exported = exports.run("eu", 2, Duration::from_secs(5), export).await?;
/// # assert!(exported.is_some());
/// # Ok(()) }
/// ```
///
/// While Redis is down, calls fail with [`Error::Core`]; waiters wait on until their timeout; permits that
/// are held are lost at their local deadline.
#[derive(Clone)]
pub struct Semaphore {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    name: String,
    names: Names,
    permits: u32,
    lease: Duration,
    hold_at_most: Option<Duration>,
    max_waiters: u32,
    metrics: Metrics,
}

/// How the permits of a key stand, from [`Semaphore::state`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SemaphoreState {
    /// How many permits there are.
    pub permits: u32,
    /// How many of them are taken. More than there are, when their number was made smaller.
    pub taken: u32,
    /// By how many grants they are taken.
    pub grants: u32,
    /// How many callers wait.
    pub waiters: u32,
}

impl SemaphoreState {
    /// How many permits are free.
    pub fn free(&self) -> u32 {
        self.permits.saturating_sub(self.taken)
    }
}

impl Semaphore {
    /// How many permits a key may have, and a call may ask for.
    pub const MOST_PERMITS: u32 = 1_000_000;

    /// Starts a semaphore named `name`, which stands in its keys and metrics.
    pub fn builder(client: &Client, name: &str) -> SemaphoreBuilder {
        SemaphoreBuilder::new(client, name)
    }

    /// So many permits, if they are free and nobody waits for permits before. One round trip.
    ///
    /// # Errors
    /// [`Error::EmptyKey`]; [`Error::NoPermits`] for none; [`Error::AbovePermits`] for more than there are;
    /// [`Error::Lost`] when the reply came later than the lease was over: what was taken is given back, and asking again
    /// makes sense; [`Error::Core`] when the server could not be asked.
    pub async fn try_acquire(
        &self,
        key: impl ToArg,
        permits: u32,
    ) -> Result<Option<Permits>, Error> {
        self.acquire(key, permits, Duration::ZERO).await
    }

    /// So many permits, waited for `timeout` at most; `None` when they were not free until then. Dropping
    /// the future leaves the queue, in the background; a waiter whose process died is taken out after
    /// three seconds.
    ///
    /// One round trip when they are free; while it waits, a waiter asks when it is woken and once a second.
    /// It waits on through faults that pass, and then asks anew: what it was given meanwhile it finds. After
    /// a time of three seconds in which the server answers nobody, the order of arrival is forgotten, and a waiter may
    /// find the queue full.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire), and [`Error::QueueFull`].
    pub async fn acquire(
        &self,
        key: impl ToArg,
        permits: u32,
        timeout: Duration,
    ) -> Result<Option<Permits>, Error> {
        let key = user_key(key)?;
        if permits == 0 {
            return Err(Error::NoPermits);
        }
        let shared = &self.shared;
        // Without a round trip, where no resize can have made it possible.
        if permits > Self::MOST_PERMITS {
            let there_are = shared.permits;
            return Err(Error::AbovePermits { permits, there_are });
        }
        let take = Take {
            keys: shared.names.keys(&key),
            client: &shared.client,
            token: Token::random(),
            permits,
            lease: shared.lease,
            usual: shared.permits,
            max_waiters: shared.max_waiters,
        };
        let waiting = (!timeout.is_zero()).then(|| Waiting::new(&shared.metrics));
        let deadline = deadline_after(timeout);
        let waited = shared.client.wait_in_queue(&take, deadline).await;
        drop(waiting);
        let waited = waited.inspect_err(|_| shared.metrics.failed.increment(1))?;
        if !matches!(waited.outcome, Taken::Permits) {
            shared.metrics.refused.increment(1);
        }
        match waited.outcome {
            Taken::Permits => {
                let permits = self.grant(&take, waited.sent);
                // The answer may have taken longer than the lease.
                match permits.is_lost() {
                    true => {
                        shared.metrics.failed.increment(1);
                        Err(Error::Lost)
                    }
                    false => {
                        shared.metrics.acquired.increment(1);
                        Ok(Some(permits))
                    }
                }
            }
            Taken::None => Ok(None),
            Taken::QueueFull { waiters } => Err(Error::QueueFull { waiters }),
            Taken::Above { there_are } => Err(Error::AbovePermits { permits, there_are }),
        }
    }

    /// Takes permits as [`acquire`](Self::acquire) does, begins work, drops the work when they are lost, and gives them
    /// back after it; `None` when they were not free in time, and the work was not begun.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and as [`Permits::run`].
    pub async fn run<F, W>(
        &self,
        key: impl ToArg,
        permits: u32,
        timeout: Duration,
        work: F,
    ) -> Result<Option<W::Output>, Error>
    where
        F: FnOnce() -> W,
        W: Future,
    {
        match self.acquire(key, permits, timeout).await? {
            Some(permits) => permits.run(work()).await.map(Some),
            None => Ok(None),
        }
    }

    /// Changes how many permits `key` has, in all processes, until it is changed again. Grants stay: with
    /// fewer permits than are taken, none is given until enough came back. With more, waiters are woken.
    ///
    /// The number is kept without an expiry, beside the permits.
    ///
    /// # Errors
    /// [`Error::EmptyKey`]; [`Error::Core`] for a number that is not between 1 and
    /// [`MOST_PERMITS`](Self::MOST_PERMITS), and when the server could not be told.
    pub async fn resize(&self, key: impl ToArg, permits: u32) -> Result<(), Error> {
        builder::check_permits(permits)?;
        let keys = self.shared.names.keys(&user_key(key)?);
        scripts::resize(&self.shared.client, &keys, Some(permits)).await
    }

    /// Ends a [`resize`](Self::resize): the key has as many permits as each process's semaphore was built
    /// with.
    ///
    /// # Errors
    /// [`Error::EmptyKey`]; [`Error::Core`] when the server could not be told.
    pub async fn reset_size(&self, key: impl ToArg) -> Result<(), Error> {
        let keys = self.shared.names.keys(&user_key(key)?);
        scripts::resize(&self.shared.client, &keys, None).await
    }

    /// How the permits of `key` stand. One round trip.
    ///
    /// # Errors
    /// [`Error::EmptyKey`]; [`Error::Core`] when the server could not be asked.
    pub async fn state(&self, key: impl ToArg) -> Result<SemaphoreState, Error> {
        let keys = self.shared.names.keys(&user_key(key)?);
        scripts::state(&self.shared.client, &keys, self.shared.permits).await
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// How many permits this semaphore and its clones hold in this process.
    pub fn held(&self) -> u64 {
        self.shared.metrics.held()
    }

    /// How many grants were lost in this process.
    pub fn lost(&self) -> u64 {
        self.shared.metrics.lost.get()
    }

    fn grant(&self, take: &Take<'_>, sent: Instant) -> Permits {
        let shared = &self.shared;
        let lost = Arc::clone(&shared.metrics.lost);
        let mut config = LeaseConfig::new(shared.lease).counted_by(lost);
        if let Some(limit) = shared.hold_at_most {
            config = config.hold_at_most(limit);
        }
        let renewal = scripts::Renewal::new(&take.keys, take.token);
        let lease = shared.client.lease(renewal, config, sent);
        Permits::new(
            Arc::clone(shared),
            take.keys.clone(),
            take.token,
            take.permits,
            lease,
        )
    }
}

impl Inspect for Shared {
    fn kind(&self) -> &'static str {
        "semaphore"
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::default()
            .fact("permits", u64::from(self.permits))
            .fact("held", self.metrics.held())
            .fact("waiting", self.metrics.waiting())
            .fact("lost", self.metrics.lost.get())
            .fact("releases_lost", self.metrics.releases_lost.get())
    }
}

/// Without keys, which may name people.
impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("name", &self.shared.name)
            .field("permits", &self.shared.permits)
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}
