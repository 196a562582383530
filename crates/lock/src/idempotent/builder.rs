//! [`IdempotentExecutionBuilder`]: settings, checked when they are built.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redkit_core::inspection::Inspect;
use redkit_core::{Client, Codec, ConfigError};

use super::metrics::Metrics;
use super::{IdempotentExecution, Shared};
use crate::confirmation::{Confirmation, ConfirmedBy, Connections};
use crate::error::Error;
use crate::time::check_lease;

/// Settings of an [`IdempotentExecution`], from [`IdempotentExecution::builder`].
#[derive(Debug, Clone)]
#[must_use = "it does nothing until `build`"]
pub struct IdempotentExecutionBuilder {
    client: Client,
    name: String,
    lease: Duration,
    run_at_most: Duration,
    keep_for: Duration,
    max_result_bytes: usize,
    retry_after: Duration,
    confirmation: Option<Confirmation>,
}

impl IdempotentExecutionBuilder {
    pub(super) fn new(client: &Client, name: &str) -> Self {
        Self {
            client: client.clone(),
            name: name.to_owned(),
            lease: Duration::from_secs(30),
            run_at_most: Duration::from_secs(300),
            keep_for: Duration::from_secs(86_400),
            max_result_bytes: 1024 * 1024,
            retry_after: Duration::from_secs(1),
            confirmation: None,
        }
    }

    /// For how long an execution holds its key without being renewed: so long a process that died keeps
    /// the next call from beginning anew. It is renewed after a third of it. Default: 30 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long work may take; then it is dropped and not kept, as when its lease is lost. Default: 5
    /// minutes.
    pub fn run_at_most(mut self, limit: Duration) -> Self {
        self.run_at_most = limit;
        self
    }

    /// For how long a result is kept: so late a repeated call may come. Default: a day.
    pub fn keep_for(mut self, time: Duration) -> Self {
        self.keep_for = time;
        self
    }

    /// How many bytes a result may have, encoded; not more than the client's
    /// [`max_value_bytes`](redkit_core::ClientConfig::max_value_bytes). Of a larger one only that it was is kept: later
    /// calls get [`Error::NotKept`]. Default: 1 MiB; at most 64 MiB. While Redis is down, results of work that was under
    /// way wait in memory for the rest of their leases, so that this times the calls in flight is to be borne.
    pub fn max_result_bytes(mut self, bytes: usize) -> Self {
        self.max_result_bytes = bytes;
        self
    }

    /// What [`Error::InFlight`] tells callers to wait before they ask again. Default: 1 s.
    pub fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = time;
        self
    }

    /// Work is begun only when so many replicas have its record in memory within `timeout` (`WAIT`); otherwise the key is
    /// given back, with [`Error::NotConfirmed`]. Its result counts as [kept](crate::Executed::is_kept) only when they have
    /// that, too; the caller gets it in any case. Each goes over a connection of its own. Default: off.
    ///
    /// It makes it less likely that a failover lets work be done twice, and not impossible: the replica that takes over
    /// may be another one. Renewals are not confirmed.
    pub fn confirmed_by_replicas(mut self, replicas: u32, timeout: Duration) -> Self {
        self.confirmation = Some(Confirmation {
            by: ConfirmedBy::Replicas(replicas),
            timeout,
        });
        self
    }

    /// Like [`confirmed_by_replicas`](Self::confirmed_by_replicas), by what has reached disks: see
    /// [`LockManagerBuilder::confirmed_on_disk`](crate::LockManagerBuilder::confirmed_on_disk).
    pub fn confirmed_on_disk(mut self, is_local: bool, replicas: u32, timeout: Duration) -> Self {
        self.confirmation = Some(Confirmation {
            by: ConfirmedBy::Disks { is_local, replicas },
            timeout,
        });
        self
    }

    /// How results become bytes. Default: the client's codec. One that encrypts keeps them secret in Redis.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.client = self.client.with_codec(codec);
        self
    }

    /// Builds it. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Core`] with the setting that cannot work: a name with other characters than letters,
    /// digits, `-`, `_` and `.`; a lease under 100 ms or over a day; a `run_at_most` shorter than the
    /// lease, or over a day; a `keep_for` under 1 s or over a year; a limit of results of 0 or over 64
    /// MiB; a confirmation that this server cannot give, or that takes over half of the lease.
    pub fn build(self) -> Result<IdempotentExecution, Error> {
        let wrong = |field: &'static str, problem: &'static str, fix: &'static str| {
            Err(Error::from(ConfigError::new(field, problem, fix)))
        };
        check_lease("lease", self.lease)?;
        if self.run_at_most < self.lease || self.run_at_most > DAY {
            return wrong(
                "run_at_most",
                "it is shorter than the lease, or over a day",
                "give what the work needs at most, such as 5 minutes",
            );
        }
        if self.keep_for < Duration::from_secs(1) || self.keep_for > DAY * 365 {
            return wrong(
                "keep_for",
                "it is under 1 s or over a year",
                "give how late callers may repeat a call, such as a day",
            );
        }
        if self.max_result_bytes == 0 || self.max_result_bytes > MOST_BYTES {
            return wrong(
                "max_result_bytes",
                "it is zero or over 64 MiB",
                "give what a result needs, such as 1 MiB",
            );
        }
        if let Some(confirmation) = &self.confirmation {
            confirmation.check(self.lease, self.client.topology())?;
            confirmation.check_version(self.client.capabilities().version)?;
        }
        // What the client refuses to send cannot be kept either.
        let max_result_bytes = self.max_result_bytes.min(self.client.max_value_bytes());
        let shared = Arc::new(Shared {
            keyspace: self.client.keyspace("idempotent", &self.name)?,
            metrics: Metrics::new(&self.name),
            client: self.client,
            name: self.name,
            lease: self.lease,
            run_at_most: self.run_at_most,
            keep_for: self.keep_for,
            max_result_bytes,
            retry_after: self.retry_after,
            confirmation: self.confirmation,
            connections: Connections::default(),
        });
        let inspected = Arc::downgrade(&shared);
        shared.client.register(inspected as Weak<dyn Inspect>);
        Ok(IdempotentExecution { shared })
    }
}

const DAY: Duration = Duration::from_secs(86_400);
const MOST_BYTES: usize = 64 * 1024 * 1024;
