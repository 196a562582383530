//! [`PartitionLease`]: until when this process may believe that a partition is its own.

use std::time::Duration;

use redkit_core::coordination::{Lease, LeaseConfig, LeaseRenewal};
use redkit_core::{Client, Invocation};
use tokio::time::Instant;

use super::queue::{LeaseKey, Partition};

/// The lease of a partition for one batch, which the client renews until it is dropped. Its end is
/// counted from when the last successful request for it was *sent*, on a clock that is never set, less
/// a tenth for clocks that run differently: the server's own end is later.
pub(super) struct PartitionLease {
    token: String,
    lease: Lease,
}

struct Renewal {
    partition: LeaseKey,
    token: String,
}

impl LeaseRenewal for Renewal {
    fn renew(&self, ttl: Duration) -> Invocation {
        self.partition.renew(&self.token, ttl)
    }
}

impl PartitionLease {
    /// A lease that was taken by a call sent at `sent`.
    pub(super) fn hold(
        client: &Client,
        partition: &Partition,
        token: String,
        length: Duration,
        sent: Instant,
    ) -> Self {
        let renewal = Renewal {
            partition: partition.lease_key(),
            token: token.clone(),
        };
        let config = LeaseConfig::new(length).drift(length / 10);
        Self {
            token,
            lease: client.lease(renewal, config, sent),
        }
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Whether a call of the sink may still be started.
    pub(super) fn stands(&self) -> bool {
        !self.lease.is_lost()
    }

    /// Returns when the lease is lost: another has the partition, or the server did not confirm it in
    /// time.
    pub(super) async fn lost(&self) {
        self.lease.lost().await;
    }
}
