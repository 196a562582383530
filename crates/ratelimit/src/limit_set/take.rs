//! Taking from several limits: what is taken together, given back together, and held.

use std::time::Duration;

use redkit_core::Client;
use redkit_core::coordination::WaitQueue;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Asked, LimitSetDecision, Member};
use crate::core::FOR_WAITERS;
use crate::decision::{DecidedBy, Decision};
use crate::error::Error;
use crate::permit::Permit;
use crate::receipt::Receipt;
use crate::scripts::{self, LimitReply, LimitRequest};
use crate::verdict::{Verdict, Verdicts};

/// The client whose calls end within the shortest decision timeout.
pub(super) fn hasty_client<'a>(asked: &'a [Asked<'_>]) -> Option<&'a Client> {
    let limiters = asked.iter().map(|one| &one.member.limiter);
    let hastiest = limiters.min_by_key(|limiter| limiter.decision_timeout)?;
    Some(&hastiest.hasty_client)
}

/// Asks group after group, and gives everything back when one denies or fails.
pub(super) async fn take(
    asked: &[Asked<'_>],
    groups: &[Vec<&Asked<'_>>],
) -> Result<LimitSetDecision, redkit_core::Error> {
    let mut verdicts = Verdicts::new();
    let (mut receipts, mut leases) = (Vec::new(), Vec::new());
    let mut all = true;
    for group in groups {
        let Some(client) = hasty_client(asked) else {
            break;
        };
        let sent = Instant::now();
        let unclaimed = group.iter();
        let unclaimed = unclaimed.filter_map(|one| UnclaimedLease::new(one, sent));
        let unclaimed: SmallVec<[UnclaimedLease<'_>; 1]> = unclaimed.collect();
        let (requests, queues) = (requests_of(group), queues_before(group));
        let asked_all = scripts::decide_all(client, &requests, &queues, true);
        let reply = match asked_all.await {
            Ok(reply) => reply,
            Err(error) => {
                refund_all(receipts).await;
                return Err(error);
            }
        };
        all = reply.allowed;
        let replies = reply.replies;
        match all {
            true => leases.extend(unclaimed),
            false => unclaimed
                .into_iter()
                .for_each(UnclaimedLease::was_not_given),
        }
        for one in group {
            let limiter = &one.member.limiter;
            limiter.outage.end(&limiter.name);
        }
        let mut of_group: Verdicts = verdicts_of(group, &replies).collect();
        if !all {
            remember_denials(group, &of_group, sent);
            // A limit that allowed the call still has what it would have taken.
            let costs = group.iter().flat_map(|one| &one.requests);
            for (verdict, request) in of_group.iter_mut().zip(costs) {
                if verdict.allowed {
                    verdict.remaining += request.cost;
                }
            }
        }
        if let Some(queue) = reply.waited_for {
            in_favour_of_waiters(group, &mut of_group, queue);
        }
        verdicts.extend(of_group);
        if !all {
            break;
        }
        receipts.extend(receipts_of(group, &replies));
    }
    let mut decision = Decision::new(all, verdicts, Duration::ZERO, DecidedBy::Redis);
    if !all {
        refund_all(receipts).await;
        return Ok(LimitSetDecision {
            decision,
            permits: Vec::new(),
        });
    }
    decision.receipt = Receipt::joined(receipts).map(Box::new);
    let permits = leases.into_iter().filter_map(UnclaimedLease::into_permit);
    Ok(LimitSetDecision {
        decision,
        permits: permits.collect(),
    })
}

/// Lets each limiter do what it does in an outage, and gives everything back when one denies.
pub(super) async fn take_in_outage(
    members: &[Member],
    error: redkit_core::Error,
) -> Result<LimitSetDecision, Error> {
    let (mut verdicts, mut receipts, mut permits) = (Verdicts::new(), Vec::new(), Vec::new());
    let mut by = None;
    let mut all = true;
    for member in members {
        let call = member.call();
        let taken = member.limiter.take_in_outage(&call, error.clone());
        let (decision, permit) = match taken.await {
            Ok(taken) => taken,
            Err(error) => {
                refund_all(receipts).await;
                return Err(error);
            }
        };
        all = decision.allowed;
        if by.is_none() || !all {
            by = Some(decision.decided_by);
        }
        verdicts.extend(decision.verdicts);
        receipts.extend(decision.receipt.map(|receipt| *receipt));
        permits.extend(permit);
        if !all {
            refund_all(std::mem::take(&mut receipts)).await;
            permits.clear();
            break;
        }
    }
    let by = by.unwrap_or(DecidedBy::Open);
    let mut decision = Decision::new(all, verdicts, Duration::ZERO, by);
    decision.receipt = Receipt::joined(receipts).map(Box::new);
    Ok(LimitSetDecision { decision, permits })
}

pub(super) fn requests_of(group: &[&Asked<'_>]) -> Vec<LimitRequest> {
    let requests = group.iter().flat_map(|one| &one.requests);
    requests.cloned().collect()
}

pub(super) fn verdicts_of<'v>(
    group: &'v [&Asked<'_>],
    replies: &'v [LimitReply],
) -> impl Iterator<Item = Verdict> + 'v {
    let asked = group
        .iter()
        .flat_map(|one| one.member.limiter.limits.iter().zip(&one.requests));
    let answered = asked.zip(replies);
    answered.map(|((limit, request), reply)| limit.verdict(request, reply))
}

/// Those of the group's queues whose waiters go before the set.
fn queues_before(group: &[&Asked<'_>]) -> Vec<WaitQueue> {
    let members = group.iter().map(|one| one.member);
    let queues = members.filter_map(|member| member.limiter.queue_before(member.call().owner));
    queues.collect()
}

/// Says that the limiter with this queue denied the call: what it has is for its waiters.
fn in_favour_of_waiters(group: &[&Asked<'_>], verdicts: &mut [Verdict], queue: usize) {
    let mut verdicts = verdicts.iter_mut();
    let mut queues = 0;
    for one in group {
        let member = one.member;
        let own = verdicts.by_ref().take(one.requests.len());
        if member.limiter.queue_before(member.call().owner).is_none() {
            own.for_each(drop);
            continue;
        }
        if queues == queue {
            for verdict in own {
                verdict.allowed = false;
                verdict.retry_after = verdict.retry_after.max(FOR_WAITERS);
            }
            return;
        }
        own.for_each(drop);
        queues += 1;
    }
}

/// A receipt for each member that takes units.
fn receipts_of(group: &[&Asked<'_>], replies: &[LimitReply]) -> Vec<Receipt> {
    let mut replies = replies.iter();
    let mut receipts = Vec::new();
    for one in group {
        let limiter = &one.member.limiter;
        let own = replies.by_ref().take(one.requests.len());
        let own: SmallVec<[LimitReply; 1]> = own.copied().collect();
        if limiter.places.is_none() {
            let call = one.member.call();
            receipts.push(limiter.receipt(&limiter.client, &call, one.requests.clone(), &own));
        }
    }
    receipts
}

/// Lets limiters remember what they denied themselves.
fn remember_denials(group: &[&Asked<'_>], verdicts: &[Verdict], sent: Instant) {
    let mut rest = verdicts;
    for one in group {
        let (own, others) = rest
            .split_at_checked(one.requests.len())
            .unwrap_or_default();
        rest = others;
        // A call that cannot go at once may be told to wait for its turn when it asks alone.
        let has_queue = |request: &LimitRequest| request.plan.has_queue();
        if own.iter().all(|verdict| verdict.allowed) || one.requests.iter().any(has_queue) {
            continue;
        }
        let denial = Decision::new(false, own.into(), Duration::ZERO, DecidedBy::Redis);
        let limiter = &one.member.limiter;
        limiter.remember_denial(&one.member.call(), sent, &denial);
    }
}

async fn refund_all(receipts: Vec<Receipt>) {
    for receipt in receipts {
        if let Err(error) = receipt.refund().await {
            tracing::warn!(target: "redkit::ratelimit", %error, "cannot give back what another limit denied");
        }
    }
}

/// A lease that the server may have given and that nobody holds yet: released when dropped.
struct UnclaimedLease<'a> {
    asked: &'a Asked<'a>,
    sent: Instant,
    is_claimed: bool,
}

impl<'a> UnclaimedLease<'a> {
    fn new(asked: &'a Asked<'a>, sent: Instant) -> Option<Self> {
        let limiter = &asked.member.limiter;
        limiter.places.as_ref()?;
        limiter.client.prepare_releases();
        Some(Self {
            asked,
            sent,
            is_claimed: false,
        })
    }

    /// The server has said that it gave nothing.
    fn was_not_given(mut self) {
        self.is_claimed = true;
    }

    fn into_permit(mut self) -> Option<Permit> {
        self.is_claimed = true;
        let (member, requests) = (self.asked.member, &self.asked.requests);
        let limiter = &member.limiter;
        limiter.permit(&limiter.client, &member.call(), requests, self.sent)
    }
}

impl Drop for UnclaimedLease<'_> {
    fn drop(&mut self) {
        if self.is_claimed {
            return;
        }
        let member = self.asked.member;
        let limiter = &member.limiter;
        let place = limiter.place(&member.call(), &self.asked.requests);
        if let (Some(place), Some(places)) = (place, &limiter.places) {
            let runs_out = self.sent + places.lease();
            limiter.client.release_later(place.release(runs_out));
        }
    }
}
