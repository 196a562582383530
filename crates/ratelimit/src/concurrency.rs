//! [`ConcurrencyLimiter`]: how many may do something at the same time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::{Client, ConfigError, ToArg};

use crate::acquire;
use crate::builder::{DECISION_TIMEOUT, hasty};
use crate::core::{Call, Inner, releases_lost, wake_channel};
use crate::decision::Decision;
use crate::error::Error;
use crate::limit::{Limit, Owner};
use crate::limiter::bytes_of;
use crate::metrics::{LimiterMetrics, LimiterStats};
use crate::outage::{OnOutage, Outage};
use crate::permit::{Permit, Places};
use crate::plan::Plan;
use crate::quota::Quota;
use crate::scripts::micros;

/// Limits how many may do something at the same time, by key, in all processes together. It is
/// cheap to clone; clones share everything.
///
/// Each place is a lease on the server's clock that one task of the client renews, so that a
/// process that died holds its places for no longer than the [lease](ConcurrencyBuilder::lease).
///
/// ```
/// # use std::sync::Arc;
/// use std::time::Duration;
/// use redkit_ratelimit::ConcurrencyLimiter;
/// # use redkit_core::{Client, ClientConfig};
/// # use redkit_embedded::Embedded;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = Client::from_backend(Arc::new(Embedded::new()), &ClientConfig::default())?;
/// # async fn export() {}
/// let exports = ConcurrencyLimiter::builder(&client, "exports").limit(2).build()?;
///
/// if let Some(permit) = exports.acquire("alice", Duration::from_secs(5)).await? {
///     tokio::select! {
///         () = export() => {}
///         () = permit.lost() => {} // somebody else may have the place now
///     }
/// } // and here it is given back
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ConcurrencyLimiter {
    pub(crate) inner: Arc<Inner>,
    tag: Option<Bytes>,
}

/// Settings of a [`ConcurrencyLimiter`], from [`ConcurrencyLimiter::builder`].
#[derive(Debug, Clone)]
#[must_use = "it does nothing until `build`"]
pub struct ConcurrencyBuilder {
    client: Client,
    name: String,
    limit: u64,
    lease: Duration,
    on_outage: OnOutage,
    decision_timeout: Duration,
    max_waiters: u32,
}

impl ConcurrencyBuilder {
    /// How many may hold a permit for one key at the same time. There is no default.
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    /// For how long a place is held without being renewed; it is renewed three times as often.
    /// Default: 30 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// The limiter's conduct while the server cannot be asked. Default: [`OnOutage::Error`]. A permit that was
    /// given in an outage by [`OnOutage::Open`] stands for no place.
    pub fn on_outage(mut self, on_outage: OnOutage) -> Self {
        self.on_outage = on_outage;
        self
    }

    /// How long a place that is not waited for may take to be given, as in
    /// [`RateLimiterBuilder::decision_timeout`](crate::RateLimiterBuilder::decision_timeout).
    /// Default: 100 ms.
    pub fn decision_timeout(mut self, timeout: Duration) -> Self {
        self.decision_timeout = timeout;
        self
    }

    /// How many callers may wait for one key, in all processes. Default: 1,000.
    pub fn max_waiters(mut self, waiters: u32) -> Self {
        self.max_waiters = waiters;
        self
    }

    /// Builds the limiter. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Core`] with the setting that cannot work: a name with other characters than letters,
    /// digits, `-`, `_` and `.`; a limit of 0 or over 1,000,000; a lease under 100 ms or over a day;
    /// a share for an outage that is less than one place; a decision timeout of 0.
    pub fn build(self) -> Result<ConcurrencyLimiter, Error> {
        let wrong = |field: &'static str, problem: &'static str, fix: &'static str| {
            Err(Error::from(ConfigError::new(field, problem, fix)))
        };
        if !(1..=1_000_000).contains(&self.limit) {
            let problem = "it is not given, zero, or over 1,000,000";
            return wrong("limit", problem, "give a number between");
        }
        if self.lease < Duration::from_millis(100) || self.lease > Duration::from_secs(86_400) {
            return wrong(
                "lease",
                "it is under 100 ms or over a day",
                "give a time such as 30 s",
            );
        }
        let plan = Plan::Concurrency {
            limit: self.limit,
            lease: micros(self.lease),
        };
        self.on_outage.check_share(&plan)?;
        let name: Arc<str> = self.name.as_str().into();
        let limit = Limit {
            name: Arc::clone(&name),
            keys: self.client.keyspace("ratelimit", &self.name)?,
            quota: Quota::per(self.limit, self.lease),
            plan,
            algorithm: None,
        };
        let inner = Arc::new(Inner {
            hasty_client: hasty(&self.client, self.decision_timeout)?,
            wake_channel: wake_channel(&self.client, &self.name),
            releases_lost: releases_lost(&self.name),
            client: self.client,
            decision_timeout: self.decision_timeout,
            metrics: LimiterMetrics::new(&self.name),
            name,
            limits: vec![limit],
            on_outage: self.on_outage,
            deny_cache: None,
            max_waiters: self.max_waiters.into(),
            waiters_first: false,
            places: Some(Places::new(&self.name, self.lease)),
            outage: Outage::default(),
        });
        inner.register();
        Ok(ConcurrencyLimiter { inner, tag: None })
    }
}

impl ConcurrencyLimiter {
    /// Starts a limiter named `name`, which stands in its keys and metrics.
    pub fn builder(client: &Client, name: &str) -> ConcurrencyBuilder {
        ConcurrencyBuilder {
            client: client.clone(),
            name: name.to_owned(),
            limit: 0,
            lease: Duration::from_secs(30),
            on_outage: OnOutage::Error,
            decision_timeout: DECISION_TIMEOUT,
            max_waiters: 1000,
        }
    }

    /// The same limiter with keys that share the slot of `tag`: see
    /// [`RateLimiter::tagged`](crate::RateLimiter::tagged).
    #[must_use]
    pub fn tagged(&self, tag: impl ToArg) -> Self {
        Self {
            tag: Some(bytes_of(tag).into()),
            ..self.clone()
        }
    }

    /// A permit, if there is a place. One round trip.
    ///
    /// # Errors
    /// [`Error::EmptyKey`]; [`Error::Core`] when the server could not be asked and
    /// [`OnOutage::Error`] is chosen, which it is by default.
    pub async fn try_acquire(&self, key: impl ToArg) -> Result<Option<Permit>, Error> {
        self.acquire(key, Duration::ZERO).await
    }

    /// A permit, waited for `timeout` at most; `None` when there was no place until then. First
    /// come, first served, among all processes. Dropping the future leaves the queue, in the
    /// background; a waiter whose process died is taken out after three seconds.
    ///
    /// One round trip when there is a place; otherwise two before it waits, one when it is woken
    /// because a place came free, and one each second of waiting. Where the client cannot subscribe,
    /// or cannot yet, a waiter asks every 50 ms instead, and more seldom (once a second at least) the more
    /// waiters stand before it. Faults are outlived as in [`RateLimiter::acquire_n`](crate::RateLimiter::acquire_n).
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire), and [`Error::QueueFull`].
    pub async fn acquire(
        &self,
        key: impl ToArg,
        timeout: Duration,
    ) -> Result<Option<Permit>, Error> {
        Ok(self.acquire_or_decision(key, timeout).await?.ok())
    }

    /// The same, with the denial when there was no place.
    pub(crate) async fn acquire_or_decision(
        &self,
        key: impl ToArg,
        timeout: Duration,
    ) -> Result<Result<Permit, Decision>, Error> {
        let user = bytes_of(key);
        let call = self.call(&user, true);
        let waited = self.inner.wait(call, acquire::deadline(timeout)).await;
        let (decision, permit) = self.inner.metrics.counted(waited)?;
        Ok(permit.ok_or(decision))
    }

    /// How many places of `key` are free, and what [`try_acquire`](Self::try_acquire) would say.
    /// `retry_after` is when the first lease runs out if nobody renews it; most places are released
    /// sooner. One round trip.
    ///
    /// # Errors
    /// [`Error::EmptyKey`]; [`Error::Core`] when the server could not be asked, whatever is chosen
    /// for an outage.
    pub async fn peek(&self, key: impl ToArg) -> Result<Decision, Error> {
        let user = bytes_of(key);
        self.inner.look(self.call(&user, false)).await
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// How many permits of this limiter and its clones are held in this process.
    pub fn held(&self) -> usize {
        self.inner.places.as_ref().map_or(0, Places::held)
    }

    /// How many permits were lost in this process.
    pub fn lost(&self) -> u64 {
        self.inner.places.as_ref().map_or(0, Places::lost)
    }

    /// The tag that its keys share with others, if any.
    pub(crate) fn tag(&self) -> Option<&Bytes> {
        self.tag.as_ref()
    }

    /// The numbers of this limiter and its clones.
    pub fn stats(&self) -> LimiterStats {
        self.inner.metrics.read()
    }

    fn call<'a>(&'a self, user: &'a [u8], take: bool) -> Call<'a> {
        Call {
            owner: Owner {
                user,
                tag: self.tag.as_ref(),
            },
            cost: 1,
            quota: None,
            take,
        }
    }
}

/// Without keys, which may name people.
impl fmt::Debug for ConcurrencyLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConcurrencyLimiter")
            .field("name", &self.inner.name)
            .field("limits", &self.inner.limits.len())
            .finish_non_exhaustive()
    }
}
