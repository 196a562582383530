//! A limiter's numbers: its own counters, and the same as metrics. Handles are made once.

use redkit_core::Tally;

use crate::decision::{DecidedBy, Decision};
use crate::error::Error;

/// The numbers of a limiter since it was built. Only this process's calls are counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimiterStats {
    /// Calls that were allowed, whoever decided.
    pub allowed: u64,
    /// Calls that were denied, whoever decided.
    pub denied: u64,
    /// Of the denied ones, those that the memory of an earlier denial decided.
    pub denied_from_cache: u64,
    /// Calls, allowed or denied, that the server could not decide.
    pub in_outage: u64,
}

pub(crate) struct LimiterMetrics {
    /// Allowed and denied, by who decided.
    decisions: [[Tally; 2]; DecidedBy::ALL.len()],
    /// Calls that gave an error.
    errors: Tally,
}

impl LimiterMetrics {
    pub(crate) fn new(limiter: &str) -> Self {
        let decisions = DecidedBy::ALL.map(|by| {
            ["allowed", "denied"].map(|outcome| {
                Tally::new(metrics::counter!(
                    "redkit_ratelimit_decisions_total",
                    "limiter" => limiter.to_owned(), "outcome" => outcome, "by" => by.as_str()
                ))
            })
        });
        Self {
            decisions,
            errors: Tally::new(metrics::counter!(
                "redkit_ratelimit_errors_total", "limiter" => limiter.to_owned()
            )),
        }
    }

    pub(crate) fn decided(&self, decision: &Decision) {
        let [allowed, denied] = self.of(decision.decided_by());
        if decision.is_allowed() {
            allowed
        } else {
            denied
        }
        .add_one();
    }

    pub(crate) fn failed(&self) {
        self.errors.add_one();
    }

    pub(crate) fn read(&self) -> LimiterStats {
        let mut stats = LimiterStats::default();
        for by in DecidedBy::ALL {
            let [allowed, denied] = self.of(by).each_ref().map(Tally::get);
            stats.allowed += allowed;
            stats.denied += denied;
            match by {
                DecidedBy::Redis => {}
                DecidedBy::DenyCache => stats.denied_from_cache += denied,
                DecidedBy::Open | DecidedBy::Closed | DecidedBy::Local => {
                    stats.in_outage += allowed + denied;
                }
            }
        }
        stats
    }

    /// How many decisions were made so.
    pub(crate) fn decided_by(&self, by: DecidedBy) -> u64 {
        self.of(by).iter().map(Tally::get).sum()
    }

    /// How many calls gave an error.
    pub(crate) fn errors(&self) -> u64 {
        self.errors.get()
    }

    /// Counts a result, and hands it on.
    pub(crate) fn counted<T>(
        &self,
        result: Result<(Decision, T), Error>,
    ) -> Result<(Decision, T), Error> {
        match &result {
            Ok((decision, _)) => self.decided(decision),
            Err(_) => self.failed(),
        }
        result
    }

    fn of(&self, by: DecidedBy) -> &[Tally; 2] {
        let [redis, deny_cache, open, closed, local] = &self.decisions;
        match by {
            DecidedBy::Redis => redis,
            DecidedBy::DenyCache => deny_cache,
            DecidedBy::Open => open,
            DecidedBy::Closed => closed,
            DecidedBy::Local => local,
        }
    }
}
