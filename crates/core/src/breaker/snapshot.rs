//! What the state machine tells: transitions and snapshots.

use std::time::Duration;

use super::state::BreakerState;
use super::tick::Tick;
use super::window::Counts;

/// One change of state, to be reported once the lock is released.
#[derive(Debug, Clone)]
pub(super) struct Transition {
    /// Larger than that of every earlier transition.
    pub(super) sequence: u64,
    pub(super) from: BreakerState,
    pub(super) to: BreakerState,
    /// What had been seen when the old state ended.
    pub(super) seen: Seen,
}

/// Counts and the rates that they are compared by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) counts: Counts,
    pub(super) failure_rate: f64,
    pub(super) slow_call_rate: f64,
}

/// What [`Machine::snapshot`](super::machine::Machine::snapshot) tells.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) state: BreakerState,
    pub(super) seen: Seen,
    pub(super) not_permitted: u64,
    pub(super) in_flight: u64,
    pub(super) oldest_in_flight: Option<Duration>,
    pub(super) since: Tick,
    pub(super) retry_after: Option<Duration>,
}
