//! Coordination: what the patterns share to agree between processes.
//!
//! - [`Lease`]: something held for a time on the server, renewed, with a deadline of the local clock
//!   that holds whatever the network does. One task renews all leases of a client.
//! - [`Waiter`]: waiting for another process, woken by a message; a bounded sleep besides, and asking
//!   now and then where the user may not subscribe.
//! - [`QueuedCaller`]: waiting in a queue on the server, first come, first served.
//! - [`Release`]: what a dropped guard leaves to be done; [`Releasing`]: a task that does more than that.
//! - [`Backoff`]: growing pauses between attempts.
//! - [`Token`]: a name that nothing else has, for owners and waiters.
//! - [`lua`]: parts of scripts, the server's side of all this.
//!
//! They are reached through [`Client`](crate::Client): [`Client::lease`](crate::Client::lease),
//! [`Client::waiter`](crate::Client::waiter), [`Client::release_later`](crate::Client::release_later).

mod backoff;
mod lease;
pub mod lua;
mod release_queue;
mod token;
mod wait_queue;
mod wake_up;

use std::time::Duration;

use crate::inspection::Registry;

pub use self::backoff::Backoff;
pub(crate) use self::lease::Leases;
pub use self::lease::{Lease, LeaseConfig, LeaseRenewal};
use self::release_queue::ReleaseQueue;
pub use self::release_queue::{Release, Releasing};
pub use self::token::Token;
pub use self::wait_queue::{QueueOutcome, QueueStatus, QueuedCaller, WAITER_ALIVE, WaitQueue};
pub(crate) use self::wake_up::WakeUps;
pub use self::wake_up::{Waiter, Wake, WakeUp};

/// The coordination that a client does for its users.
pub(crate) struct Coordination {
    pub(crate) leases: Leases,
    pub(crate) wake_ups: WakeUps,
    pub(crate) releases: ReleaseQueue,
    pub(crate) registry: Registry,
}

/// How long a shutdown waits for what is left to be released.
const FAREWELL: Duration = Duration::from_secs(1);

impl Coordination {
    pub(crate) fn new() -> Self {
        Self {
            leases: Leases::new(),
            wake_ups: WakeUps::default(),
            releases: ReleaseQueue::new(),
            registry: Registry::default(),
        }
    }

    /// Before the connections are closed.
    pub(crate) async fn shutdown(&self) {
        self.releases.drain(FAREWELL).await;
    }
}
