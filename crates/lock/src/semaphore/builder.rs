//! [`SemaphoreBuilder`]: a semaphore's settings, checked when it is built.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redkit_core::inspection::Inspect;
use redkit_core::{Client, ConfigError};

use super::metrics::Metrics;
use super::scripts::Names;
use super::{Semaphore, Shared};
use crate::error::Error;
use crate::time::check_lease;

/// Settings of a [`Semaphore`], from [`Semaphore::builder`].
#[derive(Debug, Clone)]
#[must_use = "it does nothing until `build`"]
pub struct SemaphoreBuilder {
    client: Client,
    name: String,
    permits: u32,
    lease: Duration,
    hold_at_most: Option<Duration>,
    max_waiters: u32,
}

impl SemaphoreBuilder {
    pub(super) fn new(client: &Client, name: &str) -> Self {
        Self {
            client: client.clone(),
            name: name.to_owned(),
            permits: 0,
            lease: Duration::from_secs(30),
            hold_at_most: None,
            max_waiters: 1000,
        }
    }

    /// How many permits each key has, unless it is [resized](Semaphore::resize). There is no default.
    pub fn permits(mut self, permits: u32) -> Self {
        self.permits = permits;
        self
    }

    /// For how long permits are held without being renewed: so long a process that died keeps them. They
    /// are renewed after a third of it. Default: 30 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Permits are lost after this time, however well they can be renewed: for work that may hang.
    /// Default: they are not.
    pub fn hold_at_most(mut self, limit: Duration) -> Self {
        self.hold_at_most = Some(limit);
        self
    }

    /// How many callers may wait for the permits of one key, in all processes. Default: 1,000.
    pub fn max_waiters(mut self, waiters: u32) -> Self {
        self.max_waiters = waiters;
        self
    }

    /// Builds the semaphore. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Core`] with the setting that cannot work: a name with other characters than letters,
    /// digits, `-`, `_` and `.`; no permits or over a million; a lease under 100 ms or over a day; a limit
    /// of holding that is shorter than the lease.
    pub fn build(self) -> Result<Semaphore, Error> {
        check_permits(self.permits)?;
        check_lease("lease", self.lease)?;
        if self.hold_at_most.is_some_and(|limit| limit < self.lease) {
            return Err(ConfigError::new(
                "hold_at_most",
                "it is shorter than the lease",
                "shorten the lease as well, or give a longer time",
            )
            .into());
        }
        let names = Names::new(&self.client, &self.name)?;
        let shared = Arc::new(Shared {
            metrics: Metrics::new(&self.name),
            client: self.client,
            name: self.name,
            names,
            permits: self.permits,
            lease: self.lease,
            hold_at_most: self.hold_at_most,
            max_waiters: self.max_waiters,
        });
        let inspected = Arc::downgrade(&shared);
        shared.client.register(inspected as Weak<dyn Inspect>);
        Ok(Semaphore { shared })
    }
}

/// # Errors
/// [`ConfigError`] for none, and for too many.
pub(super) fn check_permits(permits: u32) -> Result<(), ConfigError> {
    if (1..=Semaphore::MOST_PERMITS).contains(&permits) {
        return Ok(());
    }
    Err(ConfigError::new(
        "permits",
        "it is not given, zero, or over 1,000,000",
        "give a number between",
    ))
}
