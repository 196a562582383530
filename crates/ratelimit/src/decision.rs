//! [`Decision`]: what became of a call, with everything that a caller or a header needs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::quota::Quota;
use crate::receipt::Receipt;
use crate::scripts::Said;

/// What became of a call. All of it is there whether it was allowed or not.
///
/// Where several limits decide, the numbers are those of the one that
/// [binds](Self::policy): the one that makes the caller wait longest or, when all allow it, the one
/// that is nearest to its end. [`verdicts`](Self::verdicts) has all of them.
#[derive(Debug, Clone)]
#[must_use = "a call that was denied must not go on"]
pub struct Decision {
    pub(crate) allowed: bool,
    pub(crate) verdicts: SmallVec<[Verdict; 1]>,
    /// Of `verdicts`.
    pub(crate) binding: usize,
    pub(crate) delay: Duration,
    pub(crate) decided_by: DecidedBy,
    pub(crate) receipt: Option<Box<Receipt>>,
    /// Denied because of those in line.
    pub(crate) is_for_others: bool,
}

/// What one limit said.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub(crate) policy: Arc<str>,
    pub(crate) quota: Quota,
    pub(crate) allowed: bool,
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    pub(crate) reset_after: Duration,
    pub(crate) retry_after: Duration,
}

/// Who made a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecidedBy {
    /// The server.
    Redis,
    /// The memory of an earlier denial that still holds.
    DenyCache,
    /// Nobody: the server could not be asked, and the limiter stays open.
    Open,
    /// Nobody: the server could not be asked, and the limiter is closed.
    Closed,
    /// This process's own share of the limit, because the server could not be asked.
    Local,
}

impl DecidedBy {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 5] = [
        Self::Redis,
        Self::DenyCache,
        Self::Open,
        Self::Closed,
        Self::Local,
    ];

    /// A short name, for metrics' labels.
    pub fn as_str(self) -> &'static str {
        match self {
            DecidedBy::Redis => "redis",
            DecidedBy::DenyCache => "deny_cache",
            DecidedBy::Open => "open",
            DecidedBy::Closed => "closed",
            DecidedBy::Local => "local",
        }
    }
}

impl fmt::Display for DecidedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Decision {
    /// From what the limits said. `all` is whether the call as a whole was allowed.
    pub(crate) fn new(
        all: bool,
        verdicts: SmallVec<[Verdict; 1]>,
        delay: Duration,
        decided_by: DecidedBy,
    ) -> Self {
        let binding = binding(&verdicts);
        Self {
            allowed: all,
            verdicts,
            binding,
            delay,
            decided_by,
            receipt: None,
            is_for_others: false,
        }
    }

    /// Whether the call may go on. Nothing is taken from any limit when it may not.
    pub fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// The most units that can be taken at one moment: the limit of a window, the burst of a rate.
    pub fn limit(&self) -> u64 {
        self.of_binding(|verdict| verdict.limit)
    }

    /// How many units are left, after this call if it was allowed.
    pub fn remaining(&self) -> u64 {
        self.of_binding(|verdict| verdict.remaining)
    }

    /// How long until all units are there again, if nobody takes any.
    pub fn reset_after(&self) -> Duration {
        self.of_binding(|verdict| verdict.reset_after)
    }

    /// How long until the same call would be allowed, if nobody else takes any units: to the µs.
    /// Zero when it is allowed.
    pub fn retry_after(&self) -> Duration {
        if self.allowed {
            return Duration::ZERO;
        }
        let longest = self
            .verdicts
            .iter()
            .map(|verdict| verdict.retry_after)
            .max();
        longest.unwrap_or_default()
    }

    /// How long an allowed call has to wait for its turn: of a [leaky
    /// bucket](crate::Algorithm::Leaky), zero everywhere else.
    pub fn delay(&self) -> Duration {
        self.delay
    }

    /// The name of the policy that binds.
    pub fn policy(&self) -> &str {
        self.verdicts
            .get(self.binding)
            .map_or("", |verdict| &verdict.policy)
    }

    /// What each limit said, in the order in which they were named.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// Who made the decision.
    pub fn decided_by(&self) -> DecidedBy {
        self.decided_by
    }

    /// What to hand to [`refund`](crate::RateLimiter::refund) when the call turns out not to
    /// count. There is none when nothing was taken.
    pub fn receipt(&self) -> Option<&Receipt> {
        self.receipt.as_deref()
    }

    /// Makes the denied caller wait for `wait` at least, because others stand before it.
    pub(crate) fn make_wait(&mut self, wait: Duration) {
        if let Some(verdict) = self.verdicts.get_mut(self.binding) {
            verdict.allowed = false;
            verdict.retry_after = verdict.retry_after.max(wait);
        }
    }

    fn of_binding<T: Default>(&self, get: impl Fn(&Verdict) -> T) -> T {
        self.verdicts.get(self.binding).map(get).unwrap_or_default()
    }
}

impl Verdict {
    pub(crate) fn new(policy: &Arc<str>, quota: Quota, limit: u64, said: &Said) -> Self {
        Self {
            policy: Arc::clone(policy),
            quota,
            allowed: said.allowed,
            limit,
            remaining: said.left,
            reset_after: said.reset,
            retry_after: if said.allowed {
                Duration::ZERO
            } else {
                said.wait
            },
        }
    }

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

    /// See [`Decision::limit`].
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// See [`Decision::remaining`]. When another limit denied the call, what would be left.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// See [`Decision::reset_after`].
    pub fn reset_after(&self) -> Duration {
        self.reset_after
    }

    /// See [`Decision::retry_after`].
    pub fn retry_after(&self) -> Duration {
        self.retry_after
    }
}

/// The verdict that binds: the denial with the longest wait, or else what has the smallest share
/// left.
fn binding(verdicts: &[Verdict]) -> usize {
    let denied = verdicts
        .iter()
        .enumerate()
        .filter(|(_, verdict)| !verdict.allowed)
        .max_by_key(|(_, verdict)| verdict.retry_after);
    let (index, _) = denied
        .or_else(|| {
            verdicts.iter().enumerate().min_by(|(_, a), (_, b)| {
                let left = u128::from(a.remaining) * u128::from(b.limit);
                left.cmp(&(u128::from(b.remaining) * u128::from(a.limit)))
            })
        })
        .unzip();
    index.unwrap_or_default()
}
