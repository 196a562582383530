//! [`ConcurrencyLimiter`]: how many may do something at the same time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::{Client, ConfigError, Key, Keyspace, ToArg};
use tokio::time::Instant;

use crate::deciding::WHILE_CLOSED;
use crate::decision::{DecidedBy, Decision, Verdict};
use crate::error::{Error, is_outage};
use crate::leases::Leases;
use crate::limit::Owner;
use crate::limiter::bytes_of;
use crate::line::{self, Outcome, Wait};
use crate::outage::{OnOutage, Outage};
use crate::permit::Permit;
use crate::quota::Quota;
use crate::scripts::{self, Ask, Id, What, micros};
use crate::stats::{LimiterStats, Numbers};

/// Limits how many may do something at the same time, by key, in all processes together. It is
/// cheap to clone; clones share everything.
///
/// Each place is a lease on the server's clock that one task of the limiter renews, so that a
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

pub(crate) struct Inner {
    pub(crate) client: Client,
    pub(crate) name: Arc<str>,
    keys: Keyspace,
    limit: u64,
    lease: Duration,
    on_outage: OnOutage,
    max_waiters: u64,
    leases: Arc<Leases>,
    numbers: Numbers,
    pub(crate) outage: Outage,
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

    /// What to do while the server cannot be asked. Default: [`OnOutage::Error`]. A permit that was
    /// given in an outage by [`OnOutage::Open`] stands for no place.
    pub fn on_outage(mut self, on_outage: OnOutage) -> Self {
        self.on_outage = on_outage;
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
    /// a share for an outage that is less than one place.
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
        if let OnOutage::Local { instances, .. } = self.on_outage
            && !(1..=self.limit).contains(&instances.into())
        {
            let problem = "there are none, or more of them than places";
            return wrong("instances", problem, "use OnOutage::Open or Closed");
        }
        Ok(ConcurrencyLimiter {
            inner: Arc::new(Inner {
                keys: self.client.keyspace("ratelimit", &self.name)?,
                leases: Arc::new(Leases::new(&self.name, self.lease)),
                numbers: Numbers::new(&self.name),
                name: self.name.into(),
                client: self.client,
                limit: self.limit,
                lease: self.lease,
                on_outage: self.on_outage,
                max_waiters: self.max_waiters.into(),
                outage: Outage::default(),
            }),
            tag: None,
        })
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
            max_waiters: 1000,
        }
    }

    /// The same limiter with keys that share the slot of `tag`: see
    /// [`RateLimiter::tagged`](crate::RateLimiter::tagged).
    #[must_use]
    pub fn tagged(&self, tag: impl ToArg) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            tag: Some(bytes_of(tag).into()),
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
    /// come, first served, among all processes. Dropping the future gives the place in line back,
    /// in the background; the place of a process that died is taken away after three seconds.
    ///
    /// One round trip when there is a place, and one every 50 ms of waiting. Faults are outlived as
    /// in [`RateLimiter::acquire_n`](crate::RateLimiter::acquire_n).
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire), and [`Error::LineFull`].
    pub async fn acquire(
        &self,
        key: impl ToArg,
        timeout: Duration,
    ) -> Result<Option<Permit>, Error> {
        let user = bytes_of(key);
        let owner = self.owner(&user);
        let result = self.inner.wait(owner, line::deadline(timeout)).await;
        match result {
            Ok((permit, by)) => {
                self.inner
                    .numbers
                    .decided(&self.inner.decision(permit.is_some(), by));
                Ok(permit)
            }
            Err(error) => {
                self.inner.numbers.failed();
                Err(error)
            }
        }
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
        if user.is_empty() {
            return Err(Error::EmptyKey);
        }
        let inner = &self.inner;
        let ask = inner.ask(self.owner(&user), 0, inner.limit);
        let (all, saids) = scripts::decide_together(&inner.client, &[ask], false).await?;
        let verdicts = saids.iter().map(|said| inner.verdict(said));
        Ok(Decision::new(
            all,
            verdicts.collect(),
            Duration::ZERO,
            DecidedBy::Redis,
        ))
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// How many permits of this limiter and its clones are held in this process.
    pub fn held(&self) -> usize {
        self.inner.leases.count()
    }

    /// How many permits were lost in this process.
    pub fn lost(&self) -> u64 {
        self.inner.leases.lost_so_far()
    }

    /// What this limiter and its clones have done.
    pub fn stats(&self) -> LimiterStats {
        self.inner.numbers.read()
    }

    pub(crate) fn owner<'a>(&'a self, user: &'a [u8]) -> Owner<'a> {
        Owner {
            user,
            tag: self.tag.as_ref(),
        }
    }
}

impl Inner {
    /// What a script asks for one more place.
    pub(crate) fn ask(&self, owner: Owner<'_>, id: Id, limit: u64) -> Ask {
        Ask {
            key: self.key(owner, "concurrency"),
            what: What::Lease {
                limit,
                lease: micros(self.lease),
                id,
            },
        }
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// The permit for a lease that was taken by a call sent at `since`.
    pub(crate) fn permit(&self, client: &Client, key: Key, id: Id, since: Instant) -> Permit {
        Permit::new(&self.leases, client, key, id, since)
    }

    /// Gives a lease back that nobody may have learned of.
    pub(crate) fn errands(&self) -> &crate::errands::Errands {
        &self.leases.errands
    }

    pub(crate) fn verdict(&self, said: &scripts::Said) -> Verdict {
        Verdict::new(&self.name, self.quota(), self.limit, said)
    }

    async fn wait(
        &self,
        owner: Owner<'_>,
        deadline: Instant,
    ) -> Result<(Option<Permit>, DecidedBy), Error> {
        if owner.user.is_empty() {
            return Err(Error::EmptyKey);
        }
        match self
            .wait_at(&self.client, true, self.limit, owner, deadline)
            .await?
        {
            Ok(permit) => {
                self.outage.is_over(&self.name);
                Ok((permit, DecidedBy::Redis))
            }
            Err(error) if is_outage(&error) => self.without_server(owner, deadline, error).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Decides when it is known that the server cannot be asked.
    pub(crate) async fn without_server(
        &self,
        owner: Owner<'_>,
        deadline: Instant,
        error: redkit_core::Error,
    ) -> Result<(Option<Permit>, DecidedBy), Error> {
        self.outage.is_on(&self.name, &error);
        Ok(match &self.on_outage {
            OnOutage::Error => return Err(error.into()),
            OnOutage::Open => (Some(Permit::unheld()), DecidedBy::Open),
            OnOutage::Closed => (None, DecidedBy::Closed),
            OnOutage::Local { client, instances } => {
                let limit = self.limit / u64::from(*instances);
                let permit = self
                    .wait_at(client, false, limit, owner, deadline)
                    .await??;
                (permit, DecidedBy::Local)
            }
        })
    }

    async fn wait_at(
        &self,
        client: &Client,
        by_server: bool,
        limit: u64,
        owner: Owner<'_>,
        deadline: Instant,
    ) -> Result<Result<Option<Permit>, redkit_core::Error>, Error> {
        let id = scripts::place_id(1);
        let asks = [self.ask(owner, id, limit)];
        let wait = Wait {
            client,
            asks: &asks,
            line: self.key(owner, "places-line"),
            beats: self.key(owner, "places-beats"),
            places: self.max_waiters,
            goes_on: by_server && self.on_outage.leaves_it_to_the_caller(),
            errands: self.errands(),
            id,
        };
        match wait.until(deadline).await {
            Ok(Outcome::Through(_, since)) => {
                let [ask] = asks;
                Ok(Ok(Some(self.permit(client, ask.key, id, since))))
            }
            Ok(Outcome::GivenUp(..)) => Ok(Ok(None)),
            Ok(Outcome::Full) => Err(Error::LineFull(self.max_waiters)),
            Err(error) => Ok(Err(error)),
        }
    }

    fn key(&self, owner: Owner<'_>, role: &'static str) -> Key {
        match owner.tag {
            None => self.keys.role_key(owner.user, role),
            Some(tag) => self.keys.tagged_key(tag, role, owner.user),
        }
    }

    fn quota(&self) -> Quota {
        Quota::per(self.limit, self.lease)
    }

    pub(crate) fn count(&self, decision: &Decision) {
        self.numbers.decided(decision);
    }

    /// What an attempt that gave a permit or none comes to.
    pub(crate) fn decision(&self, allowed: bool, by: DecidedBy) -> Decision {
        let verdict = Verdict {
            policy: Arc::clone(&self.name),
            quota: self.quota(),
            allowed,
            limit: self.limit,
            remaining: 0,
            reset_after: self.lease,
            retry_after: if allowed {
                Duration::ZERO
            } else {
                WHILE_CLOSED
            },
        };
        Decision::new(allowed, [verdict].into_iter().collect(), Duration::ZERO, by)
    }
}

/// Without keys, which may name people.
impl fmt::Debug for ConcurrencyLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConcurrencyLimiter")
            .field("name", &self.inner.name)
            .field("limit", &self.inner.limit)
            .finish_non_exhaustive()
    }
}
