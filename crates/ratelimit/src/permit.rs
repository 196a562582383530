//! [`Permit`]: a place that is held until it is dropped, or lost; and [`Places`], what a limiter knows of
//! its permits.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redkit_core::coordination::{Lease, LeaseConfig, LeaseRenewal, Release, WaitQueue};
use redkit_core::{Client, Invocation, Key, Tally};
use tokio::time::Instant;

use crate::error::Error;
use crate::scripts::{self, Id, micros};

/// A place under a [`ConcurrencyLimiter`](crate::ConcurrencyLimiter), held until it is dropped.
///
/// The client renews it. When that fails for as long as the lease lasts, because the server cannot be
/// reached or took the lease away, the permit is [lost](Self::lost): somebody else may have the place
/// then.
#[must_use = "the place is given back when the permit is dropped"]
pub struct Permit {
    /// `None` when nobody could be asked and the limiter is open.
    held: Option<Held>,
}

struct Held {
    lease: Lease,
    client: Client,
    place: Place,
}

/// The permits of a limiter in this process.
#[derive(Debug)]
pub(crate) struct Places {
    lease: Duration,
    held: Arc<AtomicUsize>,
    lost: Arc<Tally>,
}

/// A lease at the server.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    leases: Key,
    id: Id,
    /// The callers that wait for a place like this.
    waiters: WaitQueue,
    /// Counts releases that the server could not be told.
    releases_lost: Arc<Tally>,
}

impl Places {
    pub(crate) fn new(limiter: &str, lease: Duration) -> Self {
        let lost = metrics::counter!(
            "redkit_ratelimit_permits_lost_total", "limiter" => limiter.to_owned()
        );
        Self {
            lease,
            held: Arc::default(),
            lost: Arc::new(Tally::new(lost)),
        }
    }

    pub(crate) fn lease(&self) -> Duration {
        self.lease
    }

    /// How many permits are held.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// How many permits were lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.get()
    }

    /// The permit for a place that a call sent at `sent` was given.
    pub(crate) fn permit(&self, client: &Client, place: Place, sent: Instant) -> Permit {
        let config = LeaseConfig::new(self.lease)
            .counted_in(Arc::clone(&self.held))
            .counted_by(Arc::clone(&self.lost));
        Permit {
            held: Some(Held {
                lease: client.lease(place.clone(), config, sent),
                client: client.clone(),
                place,
            }),
        }
    }
}

impl Place {
    pub(crate) fn new(leases: Key, id: Id, waiters: WaitQueue, releases_lost: Arc<Tally>) -> Self {
        Self {
            leases,
            id,
            waiters,
            releases_lost,
        }
    }

    /// The call that gives the place back, or what may have been given of it.
    pub(crate) fn give_back(&self) -> Invocation {
        scripts::release(&self.leases, self.id, &self.waiters)
    }

    /// The same for the background, worth repeating until the lease has run out.
    pub(crate) fn release(&self, until: Instant) -> Release {
        Release::new([self.give_back()])
            .until(until)
            .counted_by(Arc::clone(&self.releases_lost))
    }
}

impl LeaseRenewal for Place {
    fn renew(&self, ttl: Duration) -> Invocation {
        scripts::renew(&self.leases, self.id, micros(ttl))
    }
}

impl Permit {
    /// A permit that stands for no place, while nobody can be asked.
    pub(crate) fn unheld() -> Self {
        Self { held: None }
    }

    /// Whether the permit is lost: somebody else may have the place.
    pub fn is_lost(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.lease.is_lost())
    }

    /// Waits until the permit is lost, by the local clock and whatever the server does: at the
    /// latest when the lease has passed since the last renewal that succeeded was sent. Put it in
    /// a `select!` beside the work.
    pub async fn lost(&self) {
        match &self.held {
            Some(held) => held.lease.lost().await,
            None => std::future::pending().await,
        }
    }

    /// Gives the place back and waits until the server knows. Dropping the future before is as good
    /// as dropping the permit: the server is told in the background.
    ///
    /// # Errors
    /// [`Error::Core`] when the server could not be told. The background goes on trying, and at the
    /// latest the place is free when the lease has passed.
    pub async fn release(mut self) -> Result<(), Error> {
        let Some(held) = &self.held else {
            return Ok(());
        };
        held.lease.end();
        let _: i64 = held.client.eval(held.place.give_back()).await?;
        self.held = None;
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        let until = held.lease.valid_until();
        held.lease.end();
        held.client.release_later(held.place.release(until));
    }
}

/// Without the key, which may name a person.
impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("is_lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}
