//! [`Decision`]: what became of a call, with everything that a caller or a header needs.

use std::fmt;
use std::time::Duration;

use crate::receipt::Receipt;
use crate::verdict::{Verdict, Verdicts};

/// The outcome of a call. All of it is there whether it was allowed or not.
///
/// Where several limits decide, the numbers are those of the one that
/// [binds](Self::policy): the one that makes the caller wait longest or, when all allow it, the one
/// that is nearest to its end. [`verdicts`](Self::verdicts) has all of them.
#[derive(Debug, Clone)]
#[must_use = "a call that was denied must not go on"]
pub struct Decision {
    pub(crate) allowed: bool,
    pub(crate) verdicts: Verdicts,
    /// Of `verdicts`.
    pub(crate) binding: usize,
    pub(crate) delay: Duration,
    pub(crate) decided_by: DecidedBy,
    pub(crate) receipt: Option<Box<Receipt>>,
    /// Denied because waiters go first, who may give up at any time.
    pub(crate) is_for_waiters: bool,
}

/// The maker of a decision.
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
        verdicts: Verdicts,
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
            is_for_waiters: false,
        }
    }

    /// The same decision, made by somebody else.
    pub(crate) fn by(mut self, decided_by: DecidedBy) -> Self {
        self.decided_by = decided_by;
        self
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

    /// The verdict of each limit, in the order in which they were named.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// The maker of the decision.
    pub fn decided_by(&self) -> DecidedBy {
        self.decided_by
    }

    /// The receipt for [`refund`](crate::RateLimiter::refund) when the call turns out not to
    /// count. There is none when nothing was taken.
    pub fn receipt(&self) -> Option<&Receipt> {
        self.receipt.as_deref()
    }

    /// Makes the denied caller wait for `wait` at least, because waiters stand before it.
    pub(crate) fn delay_retry(&mut self, wait: Duration) {
        if let Some(verdict) = self.verdicts.get_mut(self.binding) {
            verdict.allowed = false;
            verdict.retry_after = verdict.retry_after.max(wait);
        }
    }

    fn of_binding<T: Default>(&self, get: impl Fn(&Verdict) -> T) -> T {
        self.verdicts.get(self.binding).map(get).unwrap_or_default()
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
