//! [`Limit`]: one policy of a limiter, with its keys; and [`Owner`], whose units are asked for.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::coordination::WaitQueue;
use redkit_core::{ConfigError, Key, Keyspace};

use crate::error::Error;
use crate::plan::Plan;
use crate::policy::Algorithm;
use crate::quota::Quota;
use crate::scripts::{Charge, LimitReply, LimitRequest, waiter_id};
use crate::verdict::Verdict;

/// The role of the key that remembers refunds.
pub(crate) const REFUNDS: &str = "refunds";

/// One policy of a limiter.
#[derive(Debug, Clone)]
pub(crate) struct Limit {
    pub(crate) name: Arc<str>,
    pub(crate) keys: Keyspace,
    pub(crate) quota: Quota,
    pub(crate) plan: Plan,
    /// How units are counted; `None` where they are places that are held.
    pub(crate) algorithm: Option<Algorithm>,
}

/// Whose units: the user key, and the tag that it shares with others, if any.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) user: &'a [u8],
    pub(crate) tag: Option<&'a Bytes>,
}

impl Owner<'_> {
    /// The owner as the memory of denials knows it: no two of them are the same there.
    pub(crate) fn in_memory(&self) -> Cow<'_, [u8]> {
        // A tag's length begins with a zero byte, and is never this one.
        const NO_TAG: [u8; 8] = [0, 255, 255, 255, 255, 255, 255, 255];
        match self.tag {
            None if self.user.first() == Some(&0) => [&NO_TAG, self.user].concat().into(),
            None => self.user.into(),
            Some(tag) => {
                let length = (tag.len() as u64).to_be_bytes();
                [&length, &**tag, self.user].concat().into()
            }
        }
    }
}

impl Limit {
    /// The request of a call to this limit: `cost` units, under a quota that the call may name itself.
    pub(crate) fn request(
        &self,
        owner: Owner<'_>,
        cost: u64,
        quota: Option<Quota>,
    ) -> Result<LimitRequest, Error> {
        let plan = match quota {
            Some(quota) => self.plan_for(quota)?,
            None => self.plan,
        };
        let request = LimitRequest {
            key: self.key(owner, self.role()),
            plan,
            quota: quota.unwrap_or(self.quota),
            cost,
            lease_id: plan.is_concurrency().then(|| waiter_id(cost)),
        };
        self.check_cost(&request)?;
        Ok(request)
    }

    /// The plan for a quota that a call names itself.
    fn plan_for(&self, quota: Quota) -> Result<Plan, Error> {
        let Some(algorithm) = self.algorithm else {
            return Ok(self.plan);
        };
        let has_window = !matches!(algorithm, Algorithm::Gcra | Algorithm::Leaky { .. });
        if has_window && quota.window() != self.quota.window() {
            return Err(ConfigError::new(
                "window",
                "a window of another length would not see what was counted in the policy's, or \
                 would forget it",
                "keep the policy's window, or use another limiter",
            )
            .into());
        }
        let plan = Plan::new(algorithm, quota)?;
        if plan.receipt_life() != self.plan.receipt_life() && has_window {
            return Err(ConfigError::new(
                "limit",
                "it is so large that windows are counted in other units than the policy's",
                "use another limiter for it",
            )
            .into());
        }
        Ok(plan)
    }

    /// A key of an owner; all of them are in one slot.
    pub(crate) fn key(&self, owner: Owner<'_>, role: &'static str) -> Key {
        match owner.tag {
            None => self.keys.role_key(owner.user, role),
            Some(tag) => self.keys.tagged_key(tag, role, owner.user),
        }
    }

    /// The role of the key that holds the owner's units.
    pub(crate) fn role(&self) -> &'static str {
        match self.algorithm {
            Some(algorithm) => algorithm.word(),
            None => self.plan.script_part(),
        }
    }

    /// Refuses what the limit can never allow.
    pub(crate) fn check_cost(&self, request: &LimitRequest) -> Result<(), Error> {
        let limit = request.plan.most_units();
        match request.cost {
            0 => Err(Error::ZeroCost),
            cost if cost > limit => Err(Error::CostAboveLimit {
                policy: (&*self.name).into(),
                cost,
                limit,
            }),
            _ => Ok(()),
        }
    }

    /// The units that a call took, and where.
    pub(crate) fn charge(
        &self,
        owner: Owner<'_>,
        waiters: WaitQueue,
        request: LimitRequest,
        reply: &LimitReply,
    ) -> Charge {
        Charge {
            request,
            waiters,
            refunds: self.key(owner, REFUNDS),
            mark: reply.mark,
        }
    }

    pub(crate) fn verdict(&self, request: &LimitRequest, reply: &LimitReply) -> Verdict {
        Verdict {
            policy: Arc::clone(&self.name),
            quota: request.quota,
            allowed: reply.allowed,
            limit: request.plan.most_units(),
            remaining: reply.remaining,
            reset_after: reply.reset_after,
            retry_after: match reply.allowed {
                true => Duration::ZERO,
                false => reply.wait,
            },
            unit_after: request.plan.unit_after(),
        }
    }

    /// The verdict when nobody could be asked.
    pub(crate) fn verdict_unasked(
        &self,
        request: &LimitRequest,
        allowed: bool,
        retry_after: Duration,
    ) -> Verdict {
        let limit = request.plan.most_units();
        Verdict {
            policy: Arc::clone(&self.name),
            quota: request.quota,
            allowed,
            limit,
            remaining: if allowed { limit } else { 0 },
            reset_after: Duration::ZERO,
            retry_after,
            unit_after: request.plan.unit_after(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_owners_are_the_same_in_memory() {
        let tags = [&b""[..], b"t", b"\0", b"tt"].map(Bytes::from_static);
        let zeros = [0; 9];
        let users = [
            &b"a"[..],
            b"\0",
            b"\0\0\0\0\0\0\0\x01ta",
            b"\0\xff\xff\xff\xff\xff\xff\xff\0",
            b"\0\xff\xff\xff\xff\xff\xff\xff",
            b"ta",
            &zeros,
        ];
        let mut seen = std::collections::HashSet::new();
        for tag in std::iter::once(None).chain(tags.iter().map(Some)) {
            for user in users {
                let owner = Owner { user, tag };
                assert!(seen.insert(owner.in_memory().into_owned()), "{owner:?}");
            }
        }
    }
}
