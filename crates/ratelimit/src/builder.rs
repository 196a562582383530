//! [`RateLimiterBuilder`]: a limiter's settings, checked when it is built.

use std::sync::Arc;
use std::time::Duration;

use redkit_core::{Client, ConfigError};

use crate::core::{Inner, releases_lost, wake_channel};
use crate::deny_cache::DenyCache;
use crate::error::Error;
use crate::limit::Limit;
use crate::limiter::RateLimiter;
use crate::metrics::LimiterMetrics;
use crate::outage::{OnOutage, Outage};
use crate::plan::Plan;
use crate::policy::{Algorithm, Policy};

/// Settings of a [`RateLimiter`], from [`RateLimiter::builder`].
#[derive(Debug, Clone)]
#[must_use = "it does nothing until `build`"]
pub struct RateLimiterBuilder {
    client: Client,
    name: String,
    policies: Vec<Policy>,
    on_outage: OnOutage,
    decision_timeout: Duration,
    deny_cache: usize,
    max_waiters: u32,
    waiters_first: bool,
}

/// How long a decision waits for the server unless something else is set.
pub(crate) const DECISION_TIMEOUT: Duration = Duration::from_millis(100);

impl RateLimiterBuilder {
    pub(crate) fn new(client: &Client, name: &str) -> Self {
        Self {
            client: client.clone(),
            name: name.to_owned(),
            policies: Vec::new(),
            on_outage: OnOutage::Error,
            decision_timeout: DECISION_TIMEOUT,
            deny_cache: 65_536,
            max_waiters: 1000,
            waiters_first: false,
        }
    }

    /// Adds a policy. Several are tiers, such as ten a second and a thousand an hour: a call is
    /// allowed when all of them allow it, and then takes from all of them, in one step.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policies.push(policy);
        self
    }

    /// The limiter's conduct while the server cannot be asked. Default: [`OnOutage::Error`].
    pub fn on_outage(mut self, on_outage: OnOutage) -> Self {
        self.on_outage = on_outage;
        self
    }

    /// How long a decision waits for the server at most; then [`on_outage`](Self::on_outage) decides, as
    /// in any outage. A call that is given up may still be carried out:
    /// [`OnOutage`](OnOutage#what-an-outage-leaves-charged) says what that means. A call that waits for
    /// its turn gives the server as long as it would wait, and at least this. Default: 100 ms. The
    /// client's command timeout holds where it is shorter.
    pub fn decision_timeout(mut self, timeout: Duration) -> Self {
        self.decision_timeout = timeout;
        self
    }

    /// How many denied keys are remembered in this process, so that they are denied again without
    /// asking until the server's `retry_after` has passed; 0 asks every time. Default: 65,536, each
    /// about 300 bytes and its key; keys over 256 bytes are not remembered.
    ///
    /// Units that a refund, a reset or a larger quota elsewhere brings back are then seen when the denial
    /// runs out.
    pub fn deny_cache(mut self, keys: usize) -> Self {
        self.deny_cache = keys;
        self
    }

    /// How many callers may wait for one key in [`acquire`](RateLimiter::acquire), in all
    /// processes. Default: 1,000.
    pub fn max_waiters(mut self, waiters: u32) -> Self {
        self.max_waiters = waiters;
        self
    }

    /// Whether a `check` is denied while others wait in [`acquire`](RateLimiter::acquire). Default:
    /// no, so that a check takes what it finds, also before the waiters. With it a check costs
    /// the server about three times as much.
    pub fn waiters_first(mut self, waiters_first: bool) -> Self {
        self.waiters_first = waiters_first;
        self
    }

    /// Builds the limiter. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Core`] with the setting that cannot work: a name with other characters than letters,
    /// digits, `-`, `_` and `.`, or a limiter's with two points in a row or one at its end; no policy, or several that
    /// do not each have a name of their own; a quota out of range; a share for an outage that is less than one unit.
    pub fn build(self) -> Result<RateLimiter, Error> {
        let wrong = |field: &'static str, problem: &'static str, fix: &'static str| {
            Err(Error::from(ConfigError::new(field, problem, fix)))
        };
        if self.name.contains("..") || self.name.ends_with('.') {
            return wrong(
                "name",
                "it has two points in a row, which part a limiter's name from a policy's in keys, or one at its end",
                "use single points between words, such as `auth.login`",
            );
        }
        let mut limits: Vec<Limit> = Vec::with_capacity(self.policies.len());
        for policy in &self.policies {
            let is_leaky = matches!(policy.algorithm(), Algorithm::Leaky { .. });
            if is_leaky && (self.waiters_first || self.policies.len() > 1) {
                return wrong(
                    "policy",
                    "a leaky bucket tells calls when to go, which it cannot do beside other \
                     policies or with `waiters_first`",
                    "give it a limiter of its own, or use GCRA",
                );
            }
            let plan = Plan::new(policy.algorithm(), policy.quota())?;
            self.on_outage.check_share(&plan)?;
            let (space, name) = match (policy.name(), self.policies.len()) {
                // Where the first two points in a row stand, the limiter's name ends: no other limiter has these keys.
                (Some(name), _) => (format!("{}..{name}", self.name), name),
                (None, 1) => (self.name.clone(), self.name.as_str()),
                (None, _) => {
                    return wrong(
                        "policy",
                        "there are several, and one has no name",
                        "name each of them with `Policy::named`",
                    );
                }
            };
            if limits.iter().any(|other| *other.name == *name) {
                return wrong(
                    "policy",
                    "two have the same name",
                    "give each of them a name of its own",
                );
            }
            limits.push(Limit {
                name: name.into(),
                keys: self.client.keyspace("ratelimit", &space)?,
                quota: policy.quota(),
                plan,
                algorithm: Some(policy.algorithm()),
            });
        }
        if limits.is_empty() {
            return wrong(
                "policy",
                "there is none",
                "add one, such as `Policy::gcra(Quota::per_second(10))`",
            );
        }
        let deny_cache = match self.deny_cache {
            0 => None,
            capacity => Some(Arc::new(DenyCache::new(capacity))),
        };
        let inner = Inner {
            hasty_client: hasty(&self.client, self.decision_timeout)?,
            wake_channel: wake_channel(&self.client, &self.name),
            client: self.client,
            decision_timeout: self.decision_timeout,
            metrics: LimiterMetrics::new(&self.name),
            releases_lost: releases_lost(&self.name),
            name: self.name.into(),
            limits,
            on_outage: self.on_outage,
            deny_cache,
            max_waiters: self.max_waiters.into(),
            waiters_first: self.waiters_first,
            places: None,
            outage: Outage::default(),
        };
        Ok(RateLimiter::new(inner, self.policies))
    }
}

/// The client of decisions, whose calls end in time.
pub(crate) fn hasty(client: &Client, decision_timeout: Duration) -> Result<Client, Error> {
    if decision_timeout.is_zero() {
        return Err(ConfigError::new(
            "decision_timeout",
            "it is zero, so that the server could decide nothing",
            "give the time that a decision may take, such as 100 ms",
        )
        .into());
    }
    Ok(client.with_budget(decision_timeout)?)
}
