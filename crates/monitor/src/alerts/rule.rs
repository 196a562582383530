//! [`Rule`]: what is worth an alert.

use std::fmt;
use std::time::Duration;

use redkit_core::ConfigError;

use crate::error::{Error, check_name};

/// How urgent an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Somebody should look at it today.
    Warning,
    /// Somebody should look at it now.
    Critical,
}

impl Severity {
    /// `info`, `warning` or `critical`.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One rule: a condition, for how long it has to hold before the alert fires, and for how long it has to be over
/// before the alert is resolved.
///
/// A limit has a second one, at which the alert is taken back ([`clears_at`](Self::clears_at)): a figure that
/// wavers about the limit makes one alert, and not one a minute.
///
/// ```
/// use std::time::Duration;
/// use redkit_monitor::alerts::{Rule, Severity};
///
/// let latency = Rule::latency_over(Duration::from_millis(100))
///     .for_at_least(Duration::from_secs(60))
///     .severity(Severity::Warning);
/// let hits = Rule::hit_rate_under(0.8).minimum(1_000);
/// ```
#[derive(Debug, Clone)]
#[must_use = "it does nothing until a builder takes it"]
pub struct Rule {
    pub(super) name: String,
    pub(super) severity: Severity,
    pub(super) condition: Condition,
    pub(super) dependency: Option<String>,
    pub(super) hold: Duration,
    pub(super) recover: Duration,
    pub(super) clears_at: Option<f64>,
    pub(super) minimum: u64,
    pub(super) window: Duration,
}

/// What a rule is about. Limits are in the base unit: seconds, bytes, shares from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Condition {
    Unhealthy,
    LatencyOver(f64),
    HitRateUnder(f64),
    MemoryOver(f64),
    MemoryShareOver(f64),
    BreakerOpen,
    OldestPendingOver(f64),
    DeadLettersOver(u64),
    NoConsumers,
    LostLocks,
    Evictions,
    DeniedRatioOver(f64),
    EvictionPolicy,
    /// What an alert needs could not be read.
    CheckFailed,
}

impl Condition {
    /// The limit that a reading is compared with, and at which value the alert is taken back if nothing else is
    /// said; none for conditions that hold or do not.
    pub(super) fn limit(self) -> Option<(f64, f64)> {
        Some(match self {
            Condition::LatencyOver(limit)
            | Condition::MemoryOver(limit)
            | Condition::OldestPendingOver(limit)
            | Condition::DeniedRatioOver(limit) => (limit, limit * 0.9),
            Condition::MemoryShareOver(limit) => (limit, limit - 0.05),
            Condition::HitRateUnder(limit) => (limit, (limit + 0.02).min(1.0)),
            _ => return None,
        })
    }

    /// Whether values under the limit are the bad ones.
    pub(super) fn is_lower_bound(self) -> bool {
        matches!(self, Condition::HitRateUnder(_))
    }

    /// Whether it is about what objects keep at the server, and know only by asking.
    pub(super) fn needs_measures(self) -> bool {
        matches!(
            self,
            Condition::OldestPendingOver(_)
                | Condition::DeadLettersOver(_)
                | Condition::NoConsumers
        )
    }

    pub(super) fn needs_servers(self) -> bool {
        matches!(
            self,
            Condition::HitRateUnder(_)
                | Condition::MemoryOver(_)
                | Condition::MemoryShareOver(_)
                | Condition::Evictions
                | Condition::EvictionPolicy
        )
    }
}

impl Rule {
    fn new(name: &str, severity: Severity, condition: Condition) -> Self {
        Self {
            name: name.to_owned(),
            severity,
            condition,
            dependency: None,
            hold: Duration::ZERO,
            recover: Duration::ZERO,
            clears_at: None,
            minimum: 0,
            window: Duration::from_secs(300),
        }
    }

    /// A dependency does not pass its [readiness check](crate::Health::ready), for half a minute.
    pub fn unhealthy() -> Self {
        Self::new("unhealthy", Severity::Critical, Condition::Unhealthy)
            .for_at_least(Duration::from_secs(30))
    }

    /// The slowest server of a dependency takes longer than this for a `PING`, for a minute. The limit is below the
    /// [timeout](crate::HealthBuilder::timeout) of a look: a `PING` that takes longer has failed. While one server does
    /// not answer nothing is over, since it may be the slow one.
    pub fn latency_over(limit: Duration) -> Self {
        Self::new(
            "latency",
            Severity::Warning,
            Condition::LatencyOver(limit.as_secs_f64()),
        )
        .for_at_least(Duration::from_secs(60))
    }

    /// Less than this share of look-ups (0 to 1) finds a key, in the [window](Self::window): of the servers of
    /// a dependency, and of each cache of this process. Windows with fewer than 100 look-ups say nothing,
    /// and neither do the servers that answer for those that do not.
    pub fn hit_rate_under(share: f64) -> Self {
        Self::new(
            "hit_rate",
            Severity::Warning,
            Condition::HitRateUnder(share),
        )
        .minimum(100)
    }

    /// A server's data and buffers take more than so many bytes.
    pub fn memory_over(bytes: u64) -> Self {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a limit beyond 2^53 bytes need not be exact"
        )]
        Self::new(
            "memory",
            Severity::Warning,
            Condition::MemoryOver(bytes as f64),
        )
    }

    /// A server's data and buffers take more than this part (0 to 1) of its `maxmemory`.
    pub fn memory_share_over(share: f64) -> Self {
        Self::new(
            "memory_share",
            Severity::Warning,
            Condition::MemoryShareOver(share),
        )
    }

    /// The circuit breaker of a server refuses calls. While it tries out whether the server is well (half-open)
    /// nothing begins and nothing is over.
    pub fn breaker_open() -> Self {
        Self::new("breaker_open", Severity::Critical, Condition::BreakerOpen)
    }

    /// The oldest message of a topic, or change of a queue, has been waiting for longer than this: the fact
    /// `oldest_pending`, or `oldest`, of a pattern (seconds). A process with a worker of a write-behind queue has it;
    /// a topic's is measured at every look, in each process with a worker of the topic or with
    /// [`figures`](super::AlertsBuilder::figures) of its own.
    pub fn oldest_pending_over(limit: Duration) -> Self {
        Self::new(
            "oldest_pending",
            Severity::Warning,
            Condition::OldestPendingOver(limit.as_secs_f64()),
        )
    }

    /// There are dead letters, more than so many: the fact `dead_letters` of a pattern. A process with a worker of a
    /// write-behind queue has it; a topic's are measured at every look, as for
    /// [`oldest_pending_over`](Self::oldest_pending_over).
    pub fn dead_letters_over(letters: u64) -> Self {
        Self::new(
            "dead_letters",
            Severity::Warning,
            Condition::DeadLettersOver(letters),
        )
    }

    /// A topic has nobody who consumes it, for a minute: the fact `consumers` of a pattern is zero. It is measured at
    /// every look, as for [`oldest_pending_over`](Self::oldest_pending_over): a topic that no process but its publishers knows
    /// is measured there when the program registers the group (`Topic::inspect` of redkit-pubsub).
    pub fn no_consumers() -> Self {
        Self::new("no_consumers", Severity::Critical, Condition::NoConsumers)
            .for_at_least(Duration::from_secs(60))
    }

    /// Locks, permits or deliveries were lost in the [window](Self::window) while they were held: the fact `lost` of a
    /// pattern grows.
    pub fn lost_locks() -> Self {
        Self::new("lost_locks", Severity::Warning, Condition::LostLocks)
    }

    /// A server has deleted keys for want of memory in the [window](Self::window), more than the
    /// [minimum](Self::minimum).
    pub fn evictions() -> Self {
        Self::new("evictions", Severity::Warning, Condition::Evictions)
    }

    /// More than this share (0 to 1) of a limiter's decisions in the [window](Self::window) were denials: its
    /// facts `denied` and `allowed`. Windows with fewer than 100 decisions say nothing.
    pub fn denied_ratio_over(share: f64) -> Self {
        Self::new(
            "denied_ratio",
            Severity::Info,
            Condition::DeniedRatioOver(share),
        )
        .minimum(100)
    }

    /// A server may delete keys for want of memory (`maxmemory` with a policy other than `noeviction`). Give it
    /// to the dependencies that hold more than caches: an eviction of sessions, queues or locks loses them.
    pub fn eviction_policy() -> Self {
        Self::new(
            "eviction_policy",
            Severity::Warning,
            Condition::EvictionPolicy,
        )
    }

    pub(super) fn check_failed(hold: Duration) -> Self {
        Self::new("check_failed", Severity::Warning, Condition::CheckFailed).for_at_least(hold)
    }

    /// Another name, when there are several rules of a kind.
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// How urgent it is.
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// Only for the dependency of this name. Default: for all.
    pub fn of(mut self, dependency: &str) -> Self {
        self.dependency = Some(dependency.to_owned());
        self
    }

    /// For how long the condition has to hold without a break before the alert fires.
    pub fn for_at_least(mut self, time: Duration) -> Self {
        self.hold = time;
        self
    }

    /// For how long the condition has to be over without a break before the alert is resolved.
    pub fn recovers_after(mut self, time: Duration) -> Self {
        self.recover = time;
        self
    }

    /// The value, in seconds, bytes or as a share, at which an alert that fires is over. Default: a tenth below
    /// the limit; 0.02 above it for a hit rate, 0.05 below for a share of memory.
    pub fn clears_at(mut self, value: f64) -> Self {
        self.clears_at = Some(value);
        self
    }

    /// How many look-ups, decisions or evictions a window must have to say anything.
    pub fn minimum(mut self, count: u64) -> Self {
        self.minimum = count;
        self
    }

    /// Over which time counts are compared. Default: five minutes.
    pub fn window(mut self, time: Duration) -> Self {
        self.window = time;
        self
    }

    /// # Errors
    /// [`ConfigError`] for a latency that no look can see.
    pub(super) fn check_latency(&self, timeout: Duration) -> Result<(), ConfigError> {
        match self.condition {
            Condition::LatencyOver(limit) if limit >= timeout.as_secs_f64() => {
                let problem = format!(
                    "`{}` is about {limit} s, and a look at the servers ends after {timeout:?}",
                    self.name
                );
                Err(ConfigError::new(
                    "limit",
                    problem,
                    "choose less, or a longer `timeout` of the `Health`",
                ))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        check_name("rule", &self.name)?;
        let wrong = |field: &'static str, problem: String, fix: &'static str| {
            Err(Error::from(ConfigError::new(field, problem, fix)))
        };
        if self.window.is_zero() || self.window > Duration::from_secs(24 * 3_600) {
            return wrong(
                "window",
                format!("it is {:?}", self.window),
                "choose up to a day",
            );
        }
        let Some((limit, usual)) = self.condition.limit() else {
            return Ok(());
        };
        let is_share = matches!(
            self.condition,
            Condition::HitRateUnder(_)
                | Condition::MemoryShareOver(_)
                | Condition::DeniedRatioOver(_)
        );
        if !limit.is_finite() || limit <= 0.0 || (is_share && limit > 1.0) {
            return wrong(
                "limit",
                format!("that of `{}` is {limit}", self.name),
                "choose a positive number; a share is at most 1",
            );
        }
        let clears_at = self.clears_at.unwrap_or(usual);
        let is_behind = match self.condition.is_lower_bound() {
            true => clears_at >= limit,
            false => clears_at <= limit,
        };
        match clears_at.is_finite() && is_behind {
            true => Ok(()),
            false => wrong(
                "clears_at",
                format!("{clears_at} is on the bad side of the limit {limit}"),
                "choose a value that is better than the limit",
            ),
        }
    }
}
