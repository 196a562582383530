//! Taking from several limits: what is taken together, given back together, and held.

use std::time::Duration;

use redkit_core::{Client, Key};
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::concurrency::ConcurrencyLimiter;
use crate::deciding::REFUNDS;
use crate::decision::{DecidedBy, Decision, Verdict};
use crate::errands::Errand;
use crate::error::Error;
use crate::limit::Limit;
use crate::permit::Permit;
use crate::plan::Plan;
use crate::receipt::Receipt;
use crate::scripts::{self, Ask, Id, Saids, Taken, What};
use crate::together::{Asked, Joint, Part};

/// Asks group after group, and gives everything back when one denies or fails.
pub(crate) async fn take(
    asked: &[Asked<'_>],
    groups: &[Vec<&Asked<'_>>],
) -> Result<Joint, redkit_core::Error> {
    let Some(client) = asked.first().map(|one| one.part.client()) else {
        return Ok(Joint {
            decision: Decision::new(true, SmallVec::new(), Duration::ZERO, DecidedBy::Redis),
            permits: Vec::new(),
        });
    };
    let mut verdicts = SmallVec::new();
    let (mut taken, mut pending) = (SmallVec::new(), Vec::new());
    let mut all = true;
    for group in groups {
        let asks: Vec<Ask> = group.iter().flat_map(|one| one.asks.clone()).collect();
        let since = Instant::now();
        pending.extend(
            group
                .iter()
                .filter_map(|one| Pending::new(client, one, since)),
        );
        let result = scripts::decide_together(client, &asks, true).await;
        let (group_all, saids) = match result {
            Ok(said) => said,
            Err(error) => {
                give_back(client, taken).await;
                return Err(error);
            }
        };
        for one in group {
            one.part.was_served();
        }
        let before = verdicts.len();
        verdicts.extend(verdicts_of(group, &saids));
        if group_all {
            taken.extend(taken_by(group, &saids));
            continue;
        }
        all = false;
        // What a limit that allowed it would have taken is still there.
        let costs = group
            .iter()
            .flat_map(|one| one.asks.iter().map(|ask| ask.what.cost()));
        for (verdict, cost) in verdicts.iter_mut().skip(before).zip(costs) {
            let verdict: &mut Verdict = verdict;
            if verdict.allowed {
                verdict.remaining += cost;
            }
        }
        remember(group, &saids, since);
        break;
    }
    let mut decision = Decision::new(all, verdicts, Duration::ZERO, DecidedBy::Redis);
    if !all {
        give_back(client, taken).await;
        return Ok(Joint {
            decision,
            permits: Vec::new(),
        });
    }
    let receipt = asked
        .iter()
        .filter_map(|one| one.part.call())
        .fold(Receipt::new(client, taken), |receipt, (limiter, call)| {
            limiter.inner.forget(call.owner);
            limiter.inner.forgetting(receipt, &call)
        });
    decision.receipt = (!receipt.is_empty()).then(|| Box::new(receipt));
    Ok(Joint {
        decision,
        permits: pending.into_iter().map(Pending::into_permit).collect(),
    })
}

/// Lets each limiter do what it does in an outage, and gives everything back when one denies.
pub(crate) async fn take_alone(parts: &[Part], error: redkit_core::Error) -> Result<Joint, Error> {
    let (mut verdicts, mut receipts, mut permits) = (SmallVec::new(), Vec::new(), Vec::new());
    let mut by = None;
    let mut all = true;
    for part in parts {
        let decision = match part {
            Part::Units { limiter, .. } => {
                let Some((_, call)) = part.call() else {
                    continue;
                };
                limiter
                    .inner
                    .decide_without_server(&call, error.clone())
                    .await
            }
            Part::Lease { limiter, user } => {
                let inner = &limiter.inner;
                let owner = limiter.owner(user);
                match inner
                    .without_server(owner, Instant::now(), error.clone())
                    .await
                {
                    Ok((permit, by)) => {
                        let decision = inner.decision(permit.is_some(), by);
                        permits.extend(permit);
                        Ok(decision)
                    }
                    Err(error) => Err(error),
                }
            }
        };
        let decision = match decision {
            Ok(decision) => decision,
            Err(error) => {
                refund_all(receipts).await;
                return Err(error);
            }
        };
        all &= decision.allowed;
        if by.is_none() || !decision.allowed {
            by = Some(decision.decided_by);
        }
        verdicts.extend(decision.verdicts);
        receipts.extend(decision.receipt.map(|receipt| *receipt));
        if !all {
            refund_all(receipts).await;
            receipts = Vec::new();
            permits.clear();
            break;
        }
    }
    let by = by.unwrap_or(DecidedBy::Open);
    let mut decision = Decision::new(all, verdicts, Duration::ZERO, by);
    decision.receipt = Receipt::joined(receipts).map(Box::new);
    Ok(Joint { decision, permits })
}

async fn refund_all(receipts: Vec<Receipt>) {
    for receipt in receipts {
        if let Err(error) = receipt.refund().await {
            tracing::warn!(target: "redkit::ratelimit", %error, "cannot give back what another limit denied");
        }
    }
}

async fn give_back(client: &Client, taken: SmallVec<[Taken; 1]>) {
    if !taken.is_empty() {
        refund_all(vec![Receipt::new(client, taken)]).await;
    }
}

pub(crate) fn verdicts_of<'v>(
    group: &'v [&Asked<'_>],
    saids: &'v Saids,
) -> impl Iterator<Item = Verdict> + 'v {
    let limits = group.iter().flat_map(|one| {
        let (units, lease) = match one.part {
            Part::Units { limiter, .. } => (Some((limiter, &one.plans)), None),
            Part::Lease { limiter, .. } => (None, Some(limiter)),
        };
        let units = units.into_iter().flat_map(|(limiter, plans)| {
            let limits = limiter.inner.limits.iter().zip(plans);
            limits.map(|(limit, plan)| Of::Units(limit, plan))
        });
        units.chain(lease.map(Of::Lease))
    });
    limits.zip(saids).map(|(of, said)| match of {
        Of::Units(limit, plan) => limit.verdict(plan, said),
        Of::Lease(limiter) => limiter.inner.verdict(said),
    })
}

/// One limit of a group.
enum Of<'a> {
    Units(&'a Limit, &'a Plan),
    Lease(&'a ConcurrencyLimiter),
}

fn taken_by(group: &[&Asked<'_>], saids: &Saids) -> Vec<Taken> {
    let mut saids = saids.iter();
    let mut taken = Vec::new();
    for one in group {
        let Some((limiter, call)) = one.part.call() else {
            saids.next();
            continue;
        };
        for ((limit, plan), said) in limiter.inner.limits.iter().zip(&one.plans).zip(&mut saids) {
            taken.push(Taken {
                key: limit.key(call.owner),
                refunds: limit.key_with(call.owner, REFUNDS),
                plan: *plan,
                cost: call.cost,
                mark: said.mark,
            });
        }
    }
    taken
}

/// Lets limiters remember what they denied themselves.
fn remember(group: &[&Asked<'_>], saids: &Saids, since: Instant) {
    let mut rest = saids.as_slice();
    for one in group {
        let (own, others) = rest.split_at_checked(one.asks.len()).unwrap_or_default();
        rest = others;
        if let Some((limiter, call)) = one.part.call()
            && own.iter().any(|said| !said.allowed)
            // What cannot go at once may be told to wait for its turn when it asks alone.
            && !one.plans.iter().any(Plan::has_queue)
        {
            let own = Saids::from_slice(own);
            let verdicts = verdicts_of(&[one], &own).collect();
            let decision = Decision::new(false, verdicts, Duration::ZERO, DecidedBy::Redis);
            limiter.inner.remember(&call, since, &decision);
        }
    }
}

/// A lease that the server may have given and nobody holds yet: released when dropped.
struct Pending<'a> {
    client: &'a Client,
    limiter: &'a ConcurrencyLimiter,
    key: Key,
    id: Id,
    since: Instant,
    is_held: bool,
}

impl<'a> Pending<'a> {
    fn new(client: &'a Client, asked: &Asked<'a>, since: Instant) -> Option<Self> {
        let Part::Lease { limiter, .. } = asked.part else {
            return None;
        };
        let Some(Ask {
            key,
            what: What::Lease { id, .. },
        }) = asked.asks.first()
        else {
            return None;
        };
        limiter.inner.errands().prepare();
        Some(Self {
            client,
            limiter,
            key: key.clone(),
            id: *id,
            since,
            is_held: false,
        })
    }

    fn into_permit(mut self) -> Permit {
        self.is_held = true;
        let inner = &self.limiter.inner;
        inner.permit(self.client, self.key.clone(), self.id, self.since)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.is_held {
            self.limiter.inner.errands().send(Errand {
                client: self.client.clone(),
                keys: vec![self.key.clone()],
                id: self.id,
            });
        }
    }
}
