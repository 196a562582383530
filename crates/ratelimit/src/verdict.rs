//! [`Verdict`]: what one limit says of a call.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::quota::Quota;

/// Of most calls there is one limit.
pub(crate) type Verdicts = SmallVec<[Verdict; 1]>;

/// The verdict of one limit.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub(crate) policy: Arc<str>,
    pub(crate) quota: Quota,
    pub(crate) allowed: bool,
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    pub(crate) reset_after: Duration,
    pub(crate) retry_after: Duration,
    /// How long a unit takes to come back, where units come back one by one at a rate.
    #[cfg_attr(not(feature = "tower"), expect(dead_code, reason = "headers tell it"))]
    pub(crate) unit_after: Option<Duration>,
}

impl Verdict {
    /// The policy's name.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// The policy's quota. Of leases: their number, in the time that one of them lasts.
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// Whether this limit would let the call through.
    pub fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// See [`Decision::limit`](crate::Decision::limit).
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// See [`Decision::remaining`](crate::Decision::remaining). When another limit denied the call, what would be left.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// See [`Decision::reset_after`](crate::Decision::reset_after).
    pub fn reset_after(&self) -> Duration {
        self.reset_after
    }

    /// See [`Decision::retry_after`](crate::Decision::retry_after).
    pub fn retry_after(&self) -> Duration {
        self.retry_after
    }
}
