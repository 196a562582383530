//! Taking from several limits: what is taken together, given back together, and held.

use std::sync::Arc;
use std::time::Duration;

use redkit_core::coordination::WaitQueue;
use redkit_core::{Client, Tally, Topology};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Asked, LimitSetDecision};
use crate::core::{FOR_WAITERS, Inner};
use crate::decision::{DecidedBy, Decision};
use crate::error::{Error, is_outage};
use crate::permit::Permit;
use crate::receipt::Receipt;
use crate::scripts::{self, LimitReply, LimitRequest};
use crate::verdict::{Verdict, Verdicts};

/// The client whose calls end within the shortest decision timeout.
pub(super) fn hasty_client<'a>(asked: &'a [Asked<'_>]) -> Option<&'a Client> {
    Some(&hastiest(asked)?.hasty_client)
}

/// The limiter with the shortest decision timeout.
fn hastiest<'a>(asked: &'a [Asked<'_>]) -> Option<&'a Inner> {
    let limiters = asked.iter().map(|one| &*one.member.limiter);
    limiters.min_by_key(|limiter| limiter.decision_timeout)
}

/// What was decided of one group, or of all groups so far.
#[derive(Default)]
struct Taken {
    verdicts: Verdicts,
    /// What was taken of each of the verdicts' limits.
    charged: Vec<u64>,
    receipts: Vec<ReceiptOf>,
    permits: Vec<Permit>,
    /// The maker of the decision; `None` while it is the server's.
    decided_by: Option<DecidedBy>,
    is_denied: bool,
}

/// A receipt, and where its limiter counts what could not be given back.
type ReceiptOf = (Arc<Tally>, Receipt);

impl Taken {
    fn add(&mut self, group: Self) {
        self.verdicts.extend(group.verdicts);
        self.charged.extend(group.charged);
        self.receipts.extend(group.receipts);
        self.permits.extend(group.permits);
        self.is_denied = group.is_denied;
        if group.is_denied || self.decided_by.is_none() {
            self.decided_by = group.decided_by;
        }
    }

    async fn give_back(&mut self, deadline: Instant) {
        self.permits.clear();
        for (verdict, cost) in self.verdicts.iter_mut().zip(self.charged.drain(..)) {
            // Nothing was taken where nobody was asked, and all is left.
            verdict.remaining = verdict.remaining.saturating_add(cost).min(verdict.limit);
        }
        for (lost, receipt) in self.receipts.drain(..) {
            receipt.refund_before(deadline, &lost).await;
        }
    }

    fn into_decision(self) -> LimitSetDecision {
        let by = self.decided_by.unwrap_or(DecidedBy::Redis);
        let mut decision = Decision::new(!self.is_denied, self.verdicts, Duration::ZERO, by);
        let receipts = self.receipts.into_iter().map(|(_, receipt)| receipt);
        decision.receipt = Receipt::joined(receipts.collect()).map(Box::new);
        LimitSetDecision {
            decision,
            permits: self.permits,
        }
    }
}

/// Asks group after group, and gives everything back when one denies or fails. The members of a group
/// that cannot be asked do what they do in an outage; what the other groups said stands.
pub(super) async fn take(
    asked: &[Asked<'_>],
    groups: &[Vec<&Asked<'_>>],
) -> Result<LimitSetDecision, Error> {
    let hastiest = hastiest(asked).ok_or(Error::NothingNamed)?;
    let now = Instant::now();
    let deadline = now.checked_add(hastiest.decision_timeout);
    let deadline = deadline.unwrap_or(now + A_DAY);
    // Slots of one server fail together: then the first may have all of the time.
    let has_shards = hastiest.client.topology() == Topology::Cluster;
    let mut taken = Taken::default();
    for (number, group) in groups.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        // A shard that hangs leaves their part of the time to those behind it.
        let parts = match has_shards {
            true => u32::try_from(groups.len() - number).unwrap_or(u32::MAX),
            false => 1,
        };
        let part = (left / parts).max(SHORTEST_BUDGET);
        let answer = take_at_server(group, &hastiest.client, part).await;
        let of_group = match answer {
            Err(error) if is_outage(&error) => take_in_outage(group, error, deadline).await,
            answer => answer.map_err(Error::from),
        };
        match of_group {
            Ok(of_group) => taken.add(of_group),
            Err(error) => {
                taken.give_back(deadline).await;
                return Err(error);
            }
        }
        if taken.is_denied {
            taken.give_back(deadline).await;
            break;
        }
    }
    Ok(taken.into_decision())
}

/// How long a set waits whose limiters wait longer than a clock can tell.
const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// A server is asked for at least as long as a timer can measure.
const SHORTEST_BUDGET: Duration = Duration::from_millis(1);

/// Takes from the limits of one slot, if all of them allow it.
async fn take_at_server(
    group: &[&Asked<'_>],
    client: &Client,
    budget: Duration,
) -> Result<Taken, redkit_core::Error> {
    let client = client.with_budget(budget)?;
    let sent = Instant::now();
    let unclaimed = group.iter();
    let unclaimed = unclaimed.filter_map(|one| UnclaimedLease::new(one, sent));
    let unclaimed: SmallVec<[UnclaimedLease<'_>; 1]> = unclaimed.collect();
    let (requests, queues) = (requests_of(group), queues_before(group));
    let reply = scripts::decide_all(&client, &requests, &queues, true).await?;
    for one in group {
        let limiter = &one.member.limiter;
        limiter.outage.end(&limiter.name);
    }
    let mut verdicts: Verdicts = verdicts_of(group, &reply.replies).collect();
    let mut taken = Taken::default();
    if reply.allowed {
        taken.charged = requests.iter().map(|request| request.cost).collect();
        let permits = unclaimed
            .into_iter()
            .filter_map(UnclaimedLease::into_permit);
        taken.permits.extend(permits);
        taken.receipts = receipts_of(group, &reply.replies);
    } else {
        unclaimed
            .into_iter()
            .for_each(UnclaimedLease::was_not_given);
        remember_denials(group, &verdicts, sent);
        // A limit that allowed the call still has what it would have taken.
        for (verdict, request) in verdicts.iter_mut().zip(&requests) {
            if verdict.allowed {
                verdict.remaining += request.cost;
            }
        }
        if let Some(queue) = reply.waited_for {
            in_favour_of_waiters(group, &mut verdicts, queue);
        }
        taken.is_denied = true;
    }
    taken.verdicts = verdicts;
    Ok(taken)
}

/// Lets each limiter do what it does in an outage, and gives everything back when one denies.
async fn take_in_outage(
    group: &[&Asked<'_>],
    error: redkit_core::Error,
    deadline: Instant,
) -> Result<Taken, Error> {
    let mut taken = Taken::default();
    for one in group {
        let (limiter, call) = (&one.member.limiter, one.member.call());
        let (decision, permit) = match limiter.take_in_outage(&call, error.clone()).await {
            Ok(decided) => decided,
            Err(error) => {
                taken.give_back(deadline).await;
                return Err(error);
            }
        };
        let taken_of_each = if decision.allowed { call.cost } else { 0 };
        let receipt = decision.receipt.map(|receipt| *receipt);
        let lost = Arc::clone(&limiter.releases_lost);
        taken.add(Taken {
            charged: vec![taken_of_each; decision.verdicts.len()],
            verdicts: decision.verdicts,
            receipts: receipt.map(|receipt| (lost, receipt)).into_iter().collect(),
            permits: permit.into_iter().collect(),
            decided_by: Some(decision.decided_by),
            is_denied: !decision.allowed,
        });
        if taken.is_denied {
            taken.give_back(deadline).await;
            break;
        }
    }
    Ok(taken)
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
fn receipts_of(group: &[&Asked<'_>], replies: &[LimitReply]) -> Vec<ReceiptOf> {
    let mut replies = replies.iter();
    let mut receipts = Vec::new();
    for one in group {
        let limiter = &one.member.limiter;
        let own = replies.by_ref().take(one.requests.len());
        let own: SmallVec<[LimitReply; 1]> = own.copied().collect();
        if limiter.places.is_none() {
            let call = one.member.call();
            let receipt = limiter.receipt(&limiter.client, &call, one.requests.clone(), &own);
            receipts.push((Arc::clone(&limiter.releases_lost), receipt));
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
