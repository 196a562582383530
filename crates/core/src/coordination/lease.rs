//! [`Lease`]: something that is held for a time on the server, renewed, and certainly over at a
//! deadline of this process's own clock.

mod renewals;
mod state;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use self::renewals::Leases;
use self::state::LeaseState;
use crate::client::Client;
use crate::error::Error;
use crate::script::Invocation;
use crate::tally::Tally;
use crate::value::Value;

/// How a lease is renewed on the server: the user's script.
///
/// The script compares the owner's token, so that a renewal which arrives late changes nothing for a
/// lease that was released, or that somebody else has now.
///
/// A panic in here is reported, and taken for a renewal that failed: the other leases of the client
/// are renewed all the same.
pub trait LeaseRenewal: Send + Sync + 'static {
    /// The call that lets the lease run for `ttl` from now on.
    fn renew(&self, ttl: Duration) -> Invocation;

    /// Whether the reply says that the lease was still held, and is renewed. By default: the number 1.
    fn is_held(&self, reply: &Value) -> bool {
        matches!(reply, Value::Int(1))
    }
}

/// How long a lease runs, and what is done about it.
#[derive(Debug, Clone)]
pub struct LeaseConfig {
    ttl: Duration,
    drift: Duration,
    hold_at_most: Option<Duration>,
    held: Option<Arc<AtomicUsize>>,
    lost: Option<Arc<Tally>>,
}

impl LeaseConfig {
    /// A lease that runs for `ttl` on the server, and is renewed after a third of it. A longer one than
    /// a hundred years counts as one of a hundred.
    pub fn new(ttl: Duration) -> Self {
        let ttl = ttl.min(LONGEST);
        Self {
            ttl,
            drift: ttl / 100,
            hold_at_most: None,
            held: None,
            lost: None,
        }
    }

    /// By how much this process's clock and the server's may differ over one `ttl`. The local deadline
    /// is earlier by this. Default: a hundredth.
    #[must_use]
    pub fn drift(mut self, drift: Duration) -> Self {
        self.drift = drift.min(self.ttl);
        self
    }

    /// The lease is lost after this time, however well it can be renewed.
    #[must_use]
    pub fn hold_at_most(mut self, limit: Duration) -> Self {
        self.hold_at_most = Some(limit);
        self
    }

    /// Counts the lease there for as long as it is held.
    #[must_use]
    pub fn counted_in(mut self, held: Arc<AtomicUsize>) -> Self {
        self.held = Some(held);
        self
    }

    /// Counts the lease there if it is lost.
    #[must_use]
    pub fn counted_by(mut self, lost: Arc<Tally>) -> Self {
        self.lost = Some(lost);
        self
    }
}

/// It is added to the time of day, which must not overflow.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A lease that this process holds, from [`Client::lease`]. One task of the client renews all its
/// leases, those that are due in one batch.
///
/// The local deadline is the moment at which the last renewal that succeeded was *sent*, plus the TTL,
/// minus the allowance for drift. It holds whatever network and server do: from then on the lease is
/// lost, for ever, and another process may have it. Dropping a lease ends its renewal and nothing
/// else: giving it back is its user's business.
pub struct Lease {
    client: Client,
    state: Arc<LeaseState>,
    id: u64,
}

impl Lease {
    fn new(client: Client, state: Arc<LeaseState>, id: u64) -> Self {
        Self { client, state, id }
    }

    /// Whether the lease is lost.
    pub fn is_lost(&self) -> bool {
        self.state.is_lost()
    }

    /// For how long the lease is certainly held from now on, if it is not renewed.
    pub fn remaining(&self) -> Duration {
        self.state.until().saturating_duration_since(Instant::now())
    }

    /// The local deadline as it stands now.
    pub fn valid_until(&self) -> Instant {
        self.state.until()
    }

    /// Waits until the lease is lost: at the local deadline, or when the server says that it is
    /// somebody else's.
    pub async fn lost(&self) {
        self.state.lost().await;
    }

    /// A future that does the same and can outlive the lease; it never resolves once the lease has
    /// [ended](Self::end) in time.
    pub fn watch_loss(&self) -> impl Future<Output = ()> + Send + use<> {
        let state = Arc::clone(&self.state);
        async move { state.lost().await }
    }

    /// Renews the lease now and waits for it, however many calls are in flight. Gives whether it is held.
    ///
    /// # Errors
    /// As [`Client::eval`]. The lease is not lost by that: its deadline stands.
    pub async fn renew(&self) -> Result<bool, Error> {
        let sent = Instant::now();
        let Some(ttl) = self.state.ttl_at(sent) else {
            return Ok(false);
        };
        let call = self.state.renewal().renew(ttl).idempotent(true);
        let reply: Value = self.client.eval(call).await?;
        Ok(self.state.answered(sent, ttl, &reply))
    }

    /// Ends the renewal, before the lease is given back. A renewal that is under way changes nothing any
    /// more. Gives whether the lease was still held.
    pub fn end(&self) -> bool {
        self.client.leases().remove(self.id);
        self.state.end()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("is_lost", &self.is_lost())
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}
