//! [`LimitSet`]: several limits in one call, all or nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::{Client, ToArg};
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::concurrency::ConcurrencyLimiter;
use crate::core::{Call, Inner};
use crate::decision::{DecidedBy, Decision};
use crate::error::{Error, is_outage};
use crate::limit::Owner;
use crate::limiter::{RateLimiter, bytes_of};
use crate::permit::Permit;
use crate::plan::Plan;
use crate::receipt::Receipt;
use crate::release_queue::Release;
use crate::scripts::{self, LimitReply, LimitRequest, LimitRequests};
use crate::verdict::{Verdict, Verdicts};

/// Several limits in one call: a user's and an address's, a rate and a number of places, of
/// whatever algorithms. All of them allow the call and are charged, or none is.
///
/// ```
/// # use std::sync::Arc;
/// use redkit_ratelimit::{ConcurrencyLimiter, LimitSet, Policy, Quota, RateLimiter};
/// # use redkit_core::{Client, ClientConfig};
/// # use redkit_embedded::Embedded;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = Client::from_backend(Arc::new(Embedded::new()), &ClientConfig::default())?;
/// let users = RateLimiter::builder(&client, "users")
///     .policy(Policy::gcra(Quota::per_second(10)))
///     .build()?;
/// let addresses = RateLimiter::builder(&client, "addresses")
///     .policy(Policy::sliding_counter(Quota::per_hour(1000)))
///     .build()?;
/// let reports = ConcurrencyLimiter::builder(&client, "reports").limit(2).build()?;
///
/// let decided = LimitSet::new()
///     .limit(&users, "alice")
///     .limit_n(&addresses, "192.0.2.7", 5)
///     .lease(&reports, "alice")
///     .tag("tenant-7")
///     .check()
///     .await?;
/// let decision = &decided.decision;
/// if decision.is_allowed() {
///     // … while `decided.permits` are held
/// } else {
///     println!("{} says: not before {:?}", decision.policy(), decision.retry_after());
/// }
/// # Ok(()) }
/// ```
///
/// One script decides, in one round trip, and a script's keys have to lie in one slot of a cluster:
/// different user keys need a [tag](Self::tag) in common, or [best effort](Self::best_effort) has
/// to do. This holds on every server, so that a test without a cluster finds it.
///
/// A leaky bucket among others lets a call through when it can go at once, also in an outage. The
/// shortest [`decision_timeout`](crate::RateLimiterBuilder::decision_timeout) of the limiters is that
/// of the set. While the server cannot be asked each limiter does what its
/// [`OnOutage`](crate::OnOutage) says, one after the other, and what one took is given back when
/// another denies.
#[derive(Debug, Clone, Default)]
#[must_use = "it does nothing until `check`"]
pub struct LimitSet {
    members: Vec<Member>,
    tag: Option<Bytes>,
    best_effort: bool,
}

/// What became of a [`LimitSet`].
#[derive(Debug)]
#[must_use = "a call that was denied must not go on, and the permits are given back when dropped"]
pub struct LimitSetDecision {
    /// The decision, with a verdict for each limit that was asked.
    pub decision: Decision,
    /// A permit for each lease, in the order in which they were named; none when denied.
    pub permits: Vec<Permit>,
}

/// A limiter of a set, with what is asked of it.
#[derive(Clone)]
struct Member {
    limiter: Arc<Inner>,
    tag: Option<Bytes>,
    user: Vec<u8>,
    cost: u64,
}

/// A member with its requests.
struct Asked<'a> {
    member: &'a Member,
    requests: LimitRequests,
}

impl LimitSet {
    /// No limits yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One unit of a limiter's `key`.
    pub fn limit(self, limiter: &RateLimiter, key: impl ToArg) -> Self {
        self.limit_n(limiter, key, 1)
    }

    /// `cost` units of a limiter's `key`.
    pub fn limit_n(self, limiter: &RateLimiter, key: impl ToArg, cost: u64) -> Self {
        let tag = limiter.tag();
        self.with(&limiter.inner, tag, key, cost)
    }

    /// A place under a limiter's `key`, held by a permit.
    pub fn lease(self, limiter: &ConcurrencyLimiter, key: impl ToArg) -> Self {
        let tag = limiter.tag();
        self.with(&limiter.inner, tag, key, 1)
    }

    fn with(
        mut self,
        limiter: &Arc<Inner>,
        tag: Option<&Bytes>,
        key: impl ToArg,
        cost: u64,
    ) -> Self {
        self.members.push(Member {
            limiter: Arc::clone(limiter),
            tag: tag.cloned(),
            user: bytes_of(key),
            cost,
        });
        self
    }

    /// Puts all keys into the slot of `tag`, such as the name of a tenant: see
    /// [`RateLimiter::tagged`]. Whoever asks for the same units alone has to use the same tag.
    pub fn tag(mut self, tag: impl ToArg) -> Self {
        self.tag = Some(bytes_of(tag).into());
        self
    }

    /// Where keys lie in different slots, asks slot after slot, each of them in one step, and gives
    /// back what was taken when a later one denies or fails. Until then others see it as taken. It
    /// stays so if this process dies in between or the future is dropped, as by a timeout around it:
    /// units then come back with time, as any that were used. Leases are given back in either case.
    /// A round trip for each slot.
    pub fn best_effort(mut self) -> Self {
        self.best_effort = true;
        self
    }

    /// Takes from all of them, if all allow it.
    ///
    /// # Errors
    /// [`Error::DifferentSlots`], [`Error::NamedTwice`], [`Error::DifferentClients`],
    /// [`Error::NothingNamed`] and what [`RateLimiter::check_n`] gives.
    pub async fn check(self) -> Result<LimitSetDecision, Error> {
        let members = self.tagged_members();
        let asked = ask_each(&members)?;
        let denials = members.iter().filter_map(Member::remembered_denial);
        if let Some(denial) = denials.max_by_key(Decision::retry_after) {
            count(&members, &denial);
            return Ok(LimitSetDecision {
                decision: denial,
                permits: Vec::new(),
            });
        }
        let groups = group_by_slot(&asked, self.best_effort)?;
        let decided = match take(&asked, &groups).await {
            Ok(decided) => decided,
            Err(error) if is_outage(&error) => take_in_outage(&members, error).await?,
            Err(error) => return Err(error.into()),
        };
        count(&members, &decided.decision);
        Ok(decided)
    }

    /// What [`check`](Self::check) would say, taking nothing.
    ///
    /// # Errors
    /// As [`check`](Self::check); [`Error::Core`] when the server cannot be asked, whatever is
    /// chosen for an outage.
    pub async fn peek(self) -> Result<Decision, Error> {
        let members = self.tagged_members();
        let asked = ask_each(&members)?;
        let (mut all, mut verdicts) = (true, Verdicts::new());
        for group in group_by_slot(&asked, self.best_effort)? {
            let client = hasty_client(&asked).ok_or(Error::NothingNamed)?;
            let (group_all, replies) =
                scripts::decide_all(client, &requests_of(&group), false).await?;
            all &= group_all;
            verdicts.extend(verdicts_of(&group, &replies));
        }
        let by = DecidedBy::Redis;
        Ok(Decision::new(all, verdicts, Duration::ZERO, by))
    }

    fn tagged_members(&self) -> Vec<Member> {
        let mut members = self.members.clone();
        if let Some(tag) = &self.tag {
            for member in &mut members {
                member.tag = Some(tag.clone());
            }
        }
        members
    }
}

impl Member {
    fn call(&self) -> Call<'_> {
        Call {
            owner: Owner {
                user: &self.user,
                tag: self.tag.as_ref(),
            },
            cost: self.cost,
            quota: None,
            take: true,
        }
    }

    fn remembered_denial(&self) -> Option<Decision> {
        self.limiter.remembered_denial(&self.call())
    }
}

/// Without keys, which may name people.
impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.limiter.name)
    }
}

/// What is asked of each member, checked.
fn ask_each(members: &[Member]) -> Result<Vec<Asked<'_>>, Error> {
    let mut asked: Vec<Asked<'_>> = Vec::with_capacity(members.len());
    for member in members {
        let requests = member.limiter.requests_without_delay(&member.call())?;
        for other in &asked {
            let [a, b] = [member, other.member].map(|member| member.limiter.client.backend());
            if !Arc::ptr_eq(a, b) {
                return Err(Error::DifferentClients);
            }
            let is_named =
                |request: &LimitRequest| other.requests.iter().any(|o| o.key == request.key);
            if requests.iter().any(is_named) {
                return Err(Error::NamedTwice((&*member.limiter.name).into()));
            }
        }
        asked.push(Asked { member, requests });
    }
    match asked.is_empty() {
        true => Err(Error::NothingNamed),
        false => Ok(asked),
    }
}

/// The members by slot: one group, unless best effort allows more.
fn group_by_slot<'g, 'a>(
    asked: &'g [Asked<'a>],
    best_effort: bool,
) -> Result<Vec<Vec<&'g Asked<'a>>>, Error> {
    let slot = |one: &Asked<'_>| one.requests.first().map(|request| request.key.slot());
    let mut groups: Vec<Vec<&Asked<'a>>> = Vec::new();
    for one in asked {
        let of_slot = |group: &&mut Vec<&Asked<'_>>| {
            let first = group.first();
            first.is_some_and(|other| slot(other) == slot(one))
        };
        if let Some(group) = groups.iter_mut().find(of_slot) {
            group.push(one);
            continue;
        }
        if let Some(other) = groups.first().and_then(|group| group.first())
            && !best_effort
        {
            return Err(Error::DifferentSlots {
                first: (&*other.member.limiter.name).into(),
                second: (&*one.member.limiter.name).into(),
            });
        }
        groups.push(vec![one]);
    }
    Ok(groups)
}

/// The client whose calls end within the shortest decision timeout.
fn hasty_client<'a>(asked: &'a [Asked<'_>]) -> Option<&'a Client> {
    let limiters = asked.iter().map(|one| &one.member.limiter);
    let hastiest = limiters.min_by_key(|limiter| limiter.decision_timeout)?;
    Some(&hastiest.hasty_client)
}

/// Asks group after group, and gives everything back when one denies or fails.
async fn take(
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
        leases.extend(group.iter().filter_map(|one| UnclaimedLease::new(one, sent)));
        let replies = match scripts::decide_all(client, &requests_of(group), true).await {
            Ok((group_all, replies)) => {
                all = group_all;
                replies
            }
            Err(error) => {
                refund_all(receipts).await;
                return Err(error);
            }
        };
        for one in group {
            let limiter = &one.member.limiter;
            limiter.outage.end(&limiter.name);
        }
        let mut of_group: Verdicts = verdicts_of(group, &replies).collect();
        if !all {
            remember_denials(group, &of_group, sent);
            // What a limit that allowed it would have taken is still there.
            let costs = group.iter().flat_map(|one| &one.requests);
            for (verdict, request) in of_group.iter_mut().zip(costs) {
                if verdict.allowed {
                    verdict.remaining += request.cost;
                }
            }
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
async fn take_in_outage(
    members: &[Member],
    error: redkit_core::Error,
) -> Result<LimitSetDecision, Error> {
    let (mut verdicts, mut receipts, mut permits) = (Verdicts::new(), Vec::new(), Vec::new());
    let mut by = None;
    let mut all = true;
    for member in members {
        let taken = member.limiter.take_in_outage(&member.call(), error.clone());
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

fn requests_of(group: &[&Asked<'_>]) -> Vec<LimitRequest> {
    let requests = group.iter().flat_map(|one| &one.requests);
    requests.cloned().collect()
}

fn verdicts_of<'v>(
    group: &'v [&Asked<'_>],
    replies: &'v [LimitReply],
) -> impl Iterator<Item = Verdict> + 'v {
    let asked = group
        .iter()
        .flat_map(|one| one.member.limiter.limits.iter().zip(&one.requests));
    let answered = asked.zip(replies);
    answered.map(|((limit, request), reply)| limit.verdict(request, reply))
}

/// A receipt for each member that takes units.
fn receipts_of(group: &[&Asked<'_>], replies: &[LimitReply]) -> Vec<Receipt> {
    let mut replies = replies.iter();
    let mut receipts = Vec::new();
    for one in group {
        let limiter = &one.member.limiter;
        let own = replies.by_ref().take(one.requests.len());
        let own: SmallVec<[LimitReply; 1]> = own.copied().collect();
        if limiter.leases.is_none() {
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
        let (own, others) = rest.split_at_checked(one.requests.len()).unwrap_or_default();
        rest = others;
        // What cannot go at once may be told to wait for its turn when it asks alone.
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

fn count(members: &[Member], decision: &Decision) {
    for member in members {
        member.limiter.metrics.decided(decision);
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
        limiter.leases.as_ref()?;
        limiter.releases.prepare();
        Some(Self {
            asked,
            sent,
            is_claimed: false,
        })
    }

    fn into_permit(mut self) -> Option<Permit> {
        self.is_claimed = true;
        let limiter = &self.asked.member.limiter;
        limiter.permit(&limiter.client, &self.asked.requests, self.sent)
    }
}

impl Drop for UnclaimedLease<'_> {
    fn drop(&mut self) {
        if self.is_claimed {
            return;
        }
        let limiter = &self.asked.member.limiter;
        for request in &self.asked.requests {
            debug_assert!(matches!(request.plan, Plan::Concurrency { .. }));
            limiter.releases.send(Release {
                client: limiter.client.clone(),
                keys: vec![request.key.clone()],
                id: request.lease_id.unwrap_or_default(),
            });
        }
    }
}
