//! [`Limit`]: one policy of a limiter, with its keys; and [`Owner`], whose units are asked for.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use redkit_core::{Client, ConfigError, Key, Keyspace};

use crate::decision::Verdict;
use crate::error::Error;
use crate::outage::OnOutage;
use crate::plan::Plan;
use crate::policy::Policy;
use crate::quota::Quota;
use crate::scripts::Said;

/// One policy of a limiter.
#[derive(Debug, Clone)]
pub(crate) struct Limit {
    pub(crate) name: Arc<str>,
    pub(crate) policy: Policy,
    keys: Keyspace,
    pub(crate) plan: Plan,
    /// This process's share, where the limiter decides alone in an outage.
    pub(crate) share: Option<Plan>,
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
    /// `space` is the name under which its keys stand.
    pub(crate) fn new(
        client: &Client,
        space: &str,
        name: &str,
        policy: Policy,
        on_outage: &OnOutage,
    ) -> Result<Self, Error> {
        let plan = Plan::new(policy.algorithm(), policy.quota())?;
        let share = match on_outage {
            OnOutage::Local { instances, .. } => Some(share(&plan, *instances)?),
            _ => None,
        };
        Ok(Self {
            name: name.into(),
            keys: client.keyspace("ratelimit", space)?,
            policy,
            plan,
            share,
        })
    }

    /// The plan for a quota that a call names itself, and this process's share of it.
    pub(crate) fn plan_for(&self, quota: Quota) -> Result<Plan, Error> {
        use crate::policy::Algorithm::{Gcra, Leaky};
        let algorithm = self.policy.algorithm();
        let has_window = !matches!(algorithm, Gcra | Leaky { .. });
        if has_window && quota.window() != self.policy.quota().window() {
            return Err(ConfigError::new(
                "window",
                "a window of another length would not see what was counted in the policy's, or \
                 would forget it",
                "keep the policy's window, or use another limiter",
            )
            .into());
        }
        let plan = Plan::new(algorithm, quota)?;
        if plan.life != self.plan.life && has_window {
            return Err(ConfigError::new(
                "limit",
                "it is so large that windows are counted in other units than the policy's",
                "use another limiter for it",
            )
            .into());
        }
        Ok(plan)
    }

    pub(crate) fn key(&self, owner: Owner<'_>) -> Key {
        self.key_with(owner, self.policy.algorithm().word())
    }

    /// A further key of the same owner, in the same slot.
    pub(crate) fn key_with(&self, owner: Owner<'_>, role: &'static str) -> Key {
        match owner.tag {
            None => self.keys.role_key(owner.user, role),
            Some(tag) => self.keys.tagged_key(tag, role, owner.user),
        }
    }

    pub(crate) fn verdict(&self, plan: &Plan, said: &Said) -> Verdict {
        Verdict::new(&self.name, plan.quota, plan.units, said)
    }

    pub(crate) fn check_cost(&self, plan: &Plan, cost: u64) -> Result<(), Error> {
        if cost == 0 {
            return Err(Error::ZeroCost);
        }
        if cost > plan.units {
            return Err(Error::CostAboveLimit {
                policy: (&*self.name).into(),
                cost,
                limit: plan.units,
            });
        }
        Ok(())
    }
}

/// One of `instances` shares of a plan.
pub(crate) fn share(plan: &Plan, instances: u32) -> Result<Plan, ConfigError> {
    if instances == 0 {
        return Err(ConfigError::new(
            "instances",
            "it is zero",
            "say how many processes divide the limit among themselves",
        ));
    }
    plan.divided(instances.into()).ok_or_else(|| {
        ConfigError::new(
            "instances",
            "there are more of them than units (for a rate: than its burst), so a share is less \
             than one unit",
            "use a larger limit or burst, or OnOutage::Open or Closed",
        )
    })
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
