//! What a client does for coordination: leases, wake-ups, releases. See
//! [`coordination`](crate::coordination).

use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::time::Instant;

use super::Client;
use super::calls::Calls;
use super::in_flight::Entry;
use crate::codec::Codec;
use crate::coordination::{
    Lease, LeaseConfig, LeaseRenewal, Leases, Release, Releasing, Waiter, Wake, WakeUps,
};

/// A client that does not keep its connections open: for tasks that the client owns.
#[derive(Clone)]
pub(crate) struct WeakClient {
    calls: Weak<Calls>,
    batch_keys: usize,
}

impl WeakClient {
    /// The client, without a namespace and a budget, while some handle of it is left. The tasks' calls are let in
    /// though callers fill the client.
    pub(crate) fn upgrade(&self) -> Option<Client> {
        Some(Client {
            calls: self.calls.upgrade()?,
            codec: Codec::default(),
            prefix: Arc::from(""),
            batch_keys: self.batch_keys,
            budget: None,
            entry: Entry::Upkeep,
        })
    }
}

impl Client {
    /// Holds a lease that was taken by a call sent at `sent`: renews it until it is
    /// [ended](Lease::end), dropped or lost.
    pub fn lease(&self, renewal: impl LeaseRenewal, config: LeaseConfig, sent: Instant) -> Lease {
        self.calls.coordination.releases.prepare();
        let leases = &self.calls.coordination.leases;
        leases.keep(self.for_upkeep(), Box::new(renewal), config, sent)
    }

    /// How many leases this client and its clones hold.
    pub fn held_leases(&self) -> usize {
        self.calls.coordination.leases.count()
    }

    /// Takes a place among this process's waiters for `name`, and waits for the subscription to
    /// `channel` to be confirmed (half a second at most, and not at all once it is known that the
    /// user may not subscribe). Try once more after this, and wait only then: what happened before is
    /// not told.
    ///
    /// The messages are sent by scripts, with the part
    /// [`lua::WAKE_UP`](crate::coordination::lua::WAKE_UP). The subscription is one for all waiters of
    /// the channel, and ends a minute after the last of them.
    pub async fn waiter(
        &self,
        channel: impl Into<Bytes>,
        name: impl Into<Bytes>,
        wake: Wake,
    ) -> Waiter {
        self.wake_ups()
            .waiter(self.clone(), channel.into(), name.into(), wake)
            .await
    }

    /// The same, which does not wait for the subscription. While that does not stand, the waiter asks; as
    /// soon as it does, the waiter is woken to look.
    pub fn waiter_at_once(
        &self,
        channel: impl Into<Bytes>,
        name: impl Into<Bytes>,
        wake: Wake,
    ) -> Waiter {
        self.wake_ups()
            .waiter_at_once(self.clone(), channel.into(), name.into(), wake)
    }

    /// Gives something back in the background: for the `Drop` of guards. Releases go out in batches;
    /// at most 16,384 of them wait. [`shutdown`](Self::shutdown) waits a second for them.
    ///
    /// The first call of this, or of [`lease`](Self::lease), must come from within a runtime: before
    /// that a release is lost (and counted).
    pub fn release_later(&self, release: Release) {
        let releases = &self.calls.coordination.releases;
        // A budget is for callers that wait.
        let client = Self {
            budget: None,
            ..self.for_upkeep()
        };
        releases.send(client, release);
    }

    /// Says that a task of the caller's gives something back, in more steps than a [`Release`] has:
    /// [`shutdown`](Self::shutdown) waits a second for it, too, before it refuses calls. The caller takes
    /// this where the task is begun, and drops it at the task's end.
    pub fn releasing(&self) -> Releasing {
        self.calls.coordination.releases.releasing()
    }

    /// Starts what [`release_later`](Self::release_later) needs, so that a guard may be dropped outside
    /// of a runtime later.
    pub fn prepare_releases(&self) {
        self.calls.coordination.releases.prepare();
    }

    /// The same client for what keeps a lease or gives something back, though callers fill the client.
    fn for_upkeep(&self) -> Self {
        Self {
            entry: Entry::Upkeep,
            ..self.clone()
        }
    }

    pub(crate) fn downgrade(&self) -> WeakClient {
        WeakClient {
            calls: Arc::downgrade(&self.calls),
            batch_keys: self.batch_keys,
        }
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.calls.coordination.leases
    }

    pub(crate) fn wake_ups(&self) -> &WakeUps {
        &self.calls.coordination.wake_ups
    }
}
