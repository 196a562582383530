//! [`RateLimiter`]: whether a call may go on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::{Client, ToArg};

use crate::acquire;
use crate::builder::RateLimiterBuilder;
use crate::core::{Call, Inner};
use crate::decision::Decision;
use crate::error::Error;
use crate::limit::Owner;
use crate::metrics::LimiterStats;
use crate::policy::Policy;
use crate::quota::Quota;
use crate::receipt::Receipt;

/// Limits calls by key. It is cheap to clone; clones share everything.
///
/// See the [crate's documentation](crate) for an example. Every call is one round trip to the
/// server, or none when the [deny cache](RateLimiterBuilder::deny_cache) knows the answer. On a
/// cluster a key's limits lie in one slot.
#[derive(Clone)]
pub struct RateLimiter {
    pub(crate) inner: Arc<Inner>,
    policies: Arc<[Policy]>,
    tag: Option<Bytes>,
}

impl RateLimiter {
    /// Starts a limiter named `name`, which stands in its keys and metrics.
    pub fn builder(client: &Client, name: &str) -> RateLimiterBuilder {
        RateLimiterBuilder::new(client, name)
    }

    pub(crate) fn new(inner: Inner, policies: Vec<Policy>) -> Self {
        let inner = Arc::new(inner);
        inner.register();
        Self {
            inner,
            policies: policies.into(),
            tag: None,
        }
    }

    /// The same limiter with keys that share the slot of `tag`, so that different user keys can be
    /// decided [together](crate::LimitSet) on a cluster. They are other keys than those without
    /// the tag, or with another: use the same one wherever the same units are meant.
    #[must_use]
    pub fn tagged(&self, tag: impl ToArg) -> Self {
        Self {
            tag: Some(bytes_of(tag).into()),
            ..self.clone()
        }
    }

    /// Takes one unit of `key`, if there is one. A key is whatever tells callers apart: a name, a
    /// number, an address. Clients with IPv6 have a /64 each, at least: key them by its prefix, as
    /// `tower::ClientAddress` does.
    ///
    /// # Errors
    /// [`Error::EmptyKey`]; [`Error::Core`] when the server could not be asked and
    /// [`OnOutage::Error`](crate::OnOutage::Error) is chosen, which it is by default.
    pub async fn check(&self, key: impl ToArg) -> Result<Decision, Error> {
        self.decide(&bytes_of(key), 1, None, true).await
    }

    /// Takes `cost` units of `key`, all or none.
    ///
    /// # Errors
    /// As [`check`](Self::check), and [`Error::ZeroCost`] and [`Error::CostAboveLimit`].
    pub async fn check_n(&self, key: impl ToArg, cost: u64) -> Result<Decision, Error> {
        self.decide(&bytes_of(key), cost, None, true).await
    }

    /// Takes `cost` units of `key` under a quota that this call names, as when each customer has a
    /// quota of their own. What was taken under other quotas counts; of a rate (GCRA, leaky bucket)
    /// by the time that it takes to come back.
    ///
    /// # Errors
    /// As [`check_n`](Self::check_n); [`Error::Core`] for a quota that cannot work, for another
    /// window than the policy's (of a rate any will do), and on a limiter with several policies.
    pub async fn check_with(
        &self,
        key: impl ToArg,
        cost: u64,
        quota: Quota,
    ) -> Result<Decision, Error> {
        self.decide(&bytes_of(key), cost, Some(quota), true).await
    }

    /// Decides as [`check`](Self::check) would, taking nothing. `remaining` and `reset_after` are as
    /// things stand.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub async fn peek(&self, key: impl ToArg) -> Result<Decision, Error> {
        self.decide(&bytes_of(key), 1, None, false).await
    }

    /// Decides as [`check_n`](Self::check_n) would, taking nothing.
    ///
    /// # Errors
    /// As [`check_n`](Self::check_n).
    pub async fn peek_n(&self, key: impl ToArg, cost: u64) -> Result<Decision, Error> {
        self.decide(&bytes_of(key), cost, None, false).await
    }

    /// Takes one unit of `key`, and waits for it for `timeout` at most: see
    /// [`acquire_n`](Self::acquire_n).
    ///
    /// # Errors
    /// As [`acquire_n`](Self::acquire_n).
    pub async fn acquire(&self, key: impl ToArg, timeout: Duration) -> Result<Decision, Error> {
        self.acquire_n(key, 1, timeout).await
    }

    /// Takes `cost` units of `key`, and waits for them for `timeout` at most. First come, first
    /// served, among all processes: a caller that finds no room joins a queue. The decision is a
    /// denial when it would take longer, given as soon as that is known.
    ///
    /// Dropping the future leaves the queue, in the background; a waiter whose process died is taken
    /// out after three seconds. A [`check`](Self::check) does not queue unless
    /// [`waiters_first`](RateLimiterBuilder::waiters_first) says so.
    ///
    /// One round trip when there is room, three when it is waited for, and one each second of
    /// waiting; a few more when the waiters before it do not come for their units, or the units are
    /// taken by others in the meantime.
    ///
    /// Of a [leaky bucket](crate::Algorithm::Leaky) this waits until the units can go at once,
    /// instead of being told a delay. So the most that can be asked for is its burst (default: 1),
    /// and not what fits into its queue.
    ///
    /// With [`OnOutage::Error`](crate::OnOutage::Error) a wait outlives faults of the server or the way to it, as long as
    /// there is time and the server certainly did nothing: it asks again, after 50 ms and then ever
    /// more seldom, up to once a second. A waiter that could not ask for three seconds has lost its
    /// place, and gets one at the end of the queue. A fault that leaves open whether the units were
    /// taken ends the wait. Otherwise what is chosen for an outage happens at the first fault.
    ///
    /// # Errors
    /// As [`check_n`](Self::check_n), and [`Error::QueueFull`]; [`Error::CostAboveLimit`] on a leaky
    /// bucket for more than its burst.
    pub async fn acquire_n(
        &self,
        key: impl ToArg,
        cost: u64,
        timeout: Duration,
    ) -> Result<Decision, Error> {
        let user = bytes_of(key);
        let call = self.call(&user, cost, None, true);
        let waited = self.inner.wait(call, acquire::deadline(timeout)).await;
        let (decision, _) = self.inner.metrics.counted(waited)?;
        Ok(decision)
    }

    /// Gives back what a call took, because it turned out not to count. Doing it twice is as good
    /// as once. Gives whether any of it was still there to give: units whose window has passed, or
    /// that have drained, are not. One round trip for each limit.
    ///
    /// # Errors
    /// [`Error::Core`] when the server could not be asked; it may then have been done.
    pub async fn refund(&self, receipt: &Receipt) -> Result<bool, Error> {
        receipt.refund().await
    }

    /// Gives `key` all its units back, and wakes the first of the callers that wait for them.
    /// One round trip. Receipts from before are worth nothing any more: do not refund them, because
    /// units taken since then could be given back in their place.
    ///
    /// # Errors
    /// [`Error::EmptyKey`]; [`Error::Core`] when the server could not be asked; it may then have been done.
    pub async fn reset(&self, key: impl ToArg) -> Result<(), Error> {
        let user = bytes_of(key);
        self.inner.reset(self.owner(&user)).await
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The policies, in the order in which they were added.
    pub fn policies(&self) -> impl ExactSizeIterator<Item = &Policy> {
        self.policies.iter()
    }

    /// The tag that its keys share with others, if any.
    pub(crate) fn tag(&self) -> Option<&Bytes> {
        self.tag.as_ref()
    }

    /// The numbers of this limiter and its clones.
    pub fn stats(&self) -> LimiterStats {
        self.inner.metrics.read()
    }

    fn owner<'a>(&'a self, user: &'a [u8]) -> Owner<'a> {
        Owner {
            user,
            tag: self.tag.as_ref(),
        }
    }

    fn call<'a>(&'a self, user: &'a [u8], cost: u64, quota: Option<Quota>, take: bool) -> Call<'a> {
        Call {
            owner: self.owner(user),
            cost,
            quota,
            take,
        }
    }

    async fn decide(
        &self,
        user: &[u8],
        cost: u64,
        quota: Option<Quota>,
        take: bool,
    ) -> Result<Decision, Error> {
        let call = self.call(user, cost, quota, take);
        // The memory first, without any state of what may follow: this is the path of an attack.
        if let Some(denial) = self.inner.remembered_denial(&call) {
            self.inner.metrics.decided(&denial);
            return Ok(denial);
        }
        let decided = self.inner.decide(call).await;
        if !take {
            return decided;
        }
        let counted = decided.map(|decision| (decision, ()));
        let (decision, ()) = self.inner.metrics.counted(counted)?;
        Ok(decision)
    }
}

pub(crate) fn bytes_of(key: impl ToArg) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    match key.shared() {
        Some(shared) => bytes.extend_from_slice(&shared),
        None => key.write_to(&mut bytes),
    }
    bytes
}

/// Without keys, which may name people.
impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiter")
            .field("name", &self.inner.name)
            .field("policies", &self.policies.len())
            .finish_non_exhaustive()
    }
}
