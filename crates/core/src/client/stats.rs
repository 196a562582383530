//! A client's numbers: its own counters, and the same as metrics. Handles are made once.

use std::time::Duration;

use metrics::Histogram;

use super::latency::{Latency, Recorder};
use crate::error::CallError;
use crate::tally::Tally;

/// What a client has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// Calls that were answered with a value. A pipeline is one call.
    pub answered: u64,
    /// Calls that the server answered with an error.
    pub refused: u64,
    /// Calls that certainly were not carried out.
    pub not_sent: u64,
    /// Calls whose outcome is unknown.
    pub unknown: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Calls that are in flight now.
    pub in_flight: u64,
}

impl ClientStats {
    /// All calls that have ended.
    pub fn calls(&self) -> u64 {
        self.answered + self.refused + self.not_sent + self.unknown
    }
}

#[derive(Debug)]
pub(super) struct Metrics {
    answered: Tally,
    refused: Tally,
    not_sent: Tally,
    unknown: Tally,
    retries: Tally,
    duration: Histogram,
    latency: Recorder,
}

impl Metrics {
    pub(super) fn new(client: &str) -> Self {
        let client = client.to_owned();
        let calls = |outcome: &'static str| {
            Tally::new(metrics::counter!(
                "redkit_client_calls_total", "client" => client.clone(), "outcome" => outcome
            ))
        };
        Self {
            answered: calls("answered"),
            refused: calls("refused"),
            not_sent: calls("not_sent"),
            unknown: calls("unknown"),
            retries: Tally::new(
                metrics::counter!("redkit_client_retries_total", "client" => client.clone()),
            ),
            duration: metrics::histogram!(
                "redkit_client_call_duration_seconds", "client" => client.clone()
            ),
            latency: Recorder::new(),
        }
    }

    /// A call has ended.
    pub(super) fn ended<T>(&self, result: &Result<T, CallError>, took: Duration) {
        match result {
            Ok(_) => self.answered.add_one(),
            Err(CallError::Replied(_)) => self.refused.add_one(),
            Err(CallError::NotSent(_)) => self.not_sent.add_one(),
            Err(CallError::Maybe(_)) => self.unknown.add_one(),
        }
        self.duration.record(took);
        self.latency.record(took);
    }

    pub(super) fn retried(&self) {
        self.retries.add_one();
    }

    pub(super) fn read(&self) -> ClientStats {
        ClientStats {
            answered: self.answered.get(),
            refused: self.refused.get(),
            not_sent: self.not_sent.get(),
            unknown: self.unknown.get(),
            retries: self.retries.get(),
            in_flight: 0,
        }
    }

    pub(super) fn latency(&self) -> Latency {
        self.latency.read()
    }

    pub(super) fn reset(&self) {
        for number in [
            &self.answered,
            &self.refused,
            &self.not_sent,
            &self.unknown,
            &self.retries,
        ] {
            number.reset();
        }
    }
}
