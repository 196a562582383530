//! [`Alert`]: what is told.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::rule::Severity;
use crate::health::CauseKind;

/// An alert that fires, or is over.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Alert {
    /// The same for this alert wherever it comes from and however often: receivers recognise a double by it.
    pub key: String,
    /// The [`AlertsBuilder`](super::AlertsBuilder)'s name.
    pub source: String,
    /// The rule's name.
    pub rule: String,
    /// What it is about: a dependency, a server of it, a pattern of this process.
    pub subject: String,
    /// How urgent it is.
    pub severity: Severity,
    /// Whether it fires or is over.
    pub state: AlertState,
    /// Since when the condition has held.
    pub since: SystemTime,
    /// When it began to fire, or was over.
    pub at: SystemTime,
    /// The figures behind it.
    pub context: Context,
}

/// Whether an alert fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AlertState {
    /// It has begun to fire.
    Firing,
    /// It is over.
    Resolved,
}

impl AlertState {
    /// `firing` or `resolved`.
    pub fn as_str(self) -> &'static str {
        match self {
            AlertState::Firing => "firing",
            AlertState::Resolved => "resolved",
        }
    }
}

/// The figures behind an alert.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Context {
    /// A dependency is not well.
    Unhealthy {
        /// The kind of trouble, when there is one.
        cause: Option<CauseKind>,
    },
    /// A server is slow.
    Latency {
        /// What was measured.
        observed: Duration,
        /// The limit.
        limit: Duration,
    },
    /// Too few look-ups find a key.
    HitRate {
        /// The share that does.
        rate: f64,
        /// How many there were.
        lookups: u64,
        /// In which time.
        window: Duration,
        /// The limit.
        limit: f64,
    },
    /// Memory is short.
    Memory {
        /// Bytes used.
        used: u64,
        /// `maxmemory`; 0 for none.
        maximum: u64,
    },
    /// A breaker refuses calls.
    Breaker {
        /// Its state.
        state: &'static str,
    },
    /// Something has been waiting for long.
    OldestPending {
        /// For how long.
        age: Duration,
        /// The limit.
        limit: Duration,
    },
    /// A count that should be smaller, or larger.
    Count {
        /// Of what.
        what: &'static str,
        /// How many.
        count: u64,
    },
    /// Many requests are denied.
    DeniedRatio {
        /// The share of denials.
        ratio: f64,
        /// How many decisions there were.
        decisions: u64,
        /// In which time.
        window: Duration,
        /// The limit.
        limit: f64,
    },
    /// Keys may be deleted for want of memory.
    EvictionPolicy {
        /// The server's policy.
        policy: String,
    },
    /// What alerts need could not be read.
    CheckFailed {
        /// Why.
        cause: String,
    },
    /// What the alert was about is there no more.
    Gone,
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Context::Unhealthy { cause: Some(cause) } => write!(f, "it is not well: {cause}"),
            Context::Unhealthy { cause: None } => f.write_str("its health"),
            Context::Latency { observed, limit } => {
                write!(f, "a PING takes {observed:.1?} (limit {limit:?})")
            }
            Context::HitRate {
                rate,
                lookups,
                window,
                limit,
            } => write!(
                f,
                "{:.1} % of {lookups} look-ups in {window:.0?} found a key (limit {:.1} %)",
                rate * 100.0,
                limit * 100.0
            ),
            Context::Memory { used, maximum: 0 } => write!(f, "{used} bytes are used"),
            Context::Memory { used, maximum } => write!(f, "{used} of {maximum} bytes are used"),
            Context::Breaker { state } => write!(f, "the circuit breaker is {state}"),
            Context::OldestPending { age, limit } => {
                write!(f, "the oldest has waited for {age:.0?} (limit {limit:?})")
            }
            Context::Count { what, count } => write!(f, "{what}: {count}"),
            Context::DeniedRatio {
                ratio,
                decisions,
                window,
                limit,
            } => write!(
                f,
                "{:.1} % of {decisions} requests in {window:.0?} were denied (limit {:.1} %)",
                ratio * 100.0,
                limit * 100.0
            ),
            Context::EvictionPolicy { policy } => write!(
                f,
                "keys may be deleted for want of memory (maxmemory-policy {policy})"
            ),
            Context::CheckFailed { cause } => write!(f, "it could not be read: {cause}"),
            Context::Gone => f.write_str("it is there no more"),
        }
    }
}

/// One line for people.
impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            AlertState::Firing => self.severity.as_str(),
            AlertState::Resolved => "resolved",
        };
        write!(
            f,
            "[{state}] {} of {}: {}",
            self.rule, self.subject, self.context
        )
    }
}

impl Alert {
    /// As JSON: `key`, `source`, `rule`, `subject`, `severity`, `state`, `since`, `at` (RFC 3339), `message`.
    pub fn to_json(&self) -> Value {
        let time = |time| humantime::format_rfc3339_millis(time).to_string();
        json!({
            "key": self.key,
            "source": self.source,
            "rule": self.rule,
            "subject": self.subject,
            "severity": self.severity.as_str(),
            "state": self.state.as_str(),
            "since": time(self.since),
            "at": time(self.at),
            "message": self.context.to_string(),
        })
    }
}
