//! The words the breaker speaks: its states, a call's outcome, the refusal, the status.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// What a breaker does with calls at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Calls go through and are counted.
    Closed,
    /// Calls are refused until the waiting time is over.
    Open,
    /// A limited number of probes goes through; their outcome decides.
    HalfOpen,
    /// Opened by hand: calls are refused until the breaker is reset or closed by hand.
    ForcedOpen,
    /// Closed by hand or by configuration: calls go through and are counted, and no rate opens it.
    ForcedClosed,
}

impl BreakerState {
    /// A short name, for metrics' labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
            BreakerState::ForcedOpen => "forced_open",
            BreakerState::ForcedClosed => "forced_closed",
        }
    }

    /// Whether at least some calls go through.
    pub fn is_permitting(self) -> bool {
        !matches!(self, BreakerState::Open | BreakerState::ForcedOpen)
    }

    /// The value of the gauge `redkit_breaker_state`.
    pub(super) fn gauge(self) -> f64 {
        match self {
            BreakerState::Closed => 0.0,
            BreakerState::HalfOpen => 1.0,
            BreakerState::Open => 2.0,
            BreakerState::ForcedOpen => 3.0,
            BreakerState::ForcedClosed => 4.0,
        }
    }
}

impl Outcome {
    /// Whether it speaks against the server.
    pub fn is_failure(self) -> bool {
        matches!(self, Outcome::Failure | Outcome::Refusal)
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a permitted call ended, as far as the server's health is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The server did its part, be it by answering that the command was wrong.
    Success,
    /// The server or the way to it failed, the time was up, or it answered that it serves nobody
    /// (`LOADING`, `BUSY`). A probe of the connection shows when that is over.
    Failure,
    /// The server answers, and refuses what it should do (`READONLY`, `CLUSTERDOWN`): a failure
    /// that only other calls can show the end of.
    Refusal,
    /// It says nothing about the server: the caller gave up, or the call was never made.
    Neutral,
}

/// The refusal: the call was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker is open; it may let calls through in {retry_after:?}")]
#[non_exhaustive]
pub struct Open {
    /// After how long asking again makes sense. The breaker may let calls through sooner, when the
    /// probes succeed or the connection is known to be back; a breaker that was opened by hand
    /// names its usual waiting time.
    pub retry_after: Duration,
}

impl Open {
    pub(super) fn new(retry_after: Duration) -> Self {
        Self { retry_after }
    }
}

/// What a breaker has seen and what it does.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BreakerStatus {
    /// The state.
    pub state: BreakerState,
    /// Failed calls as a share of the counted ones. While open it is the rate it opened with;
    /// while half open it is the share of all the probes there will be.
    pub failure_rate: f64,
    /// Slow calls as a share, like [`failure_rate`](Self::failure_rate). It includes the calls
    /// that are still running and slow already.
    pub slow_call_rate: f64,
    /// Calls in the window; while half open, probes that have ended.
    pub calls: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Those of them that were slow, or are slow and still running.
    pub slow_calls: u64,
    /// Calls refused since the breaker was made.
    pub not_permitted: u64,
    /// Permits that are out, whichever state they were given in.
    pub in_flight: u64,
    /// For how long the longest of them has been out.
    pub oldest_in_flight: Option<Duration>,
    /// Since when the breaker has been in this state.
    pub since: Instant,
    /// When calls are refused: after how long asking again makes sense, as in [`Open`].
    pub retry_after: Option<Duration>,
}
