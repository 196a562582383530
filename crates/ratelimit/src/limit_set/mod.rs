//! [`LimitSet`]: several limits in one call, all or nothing.

mod take;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::ToArg;

use self::take::{hasty_client, requests_of, take, verdicts_of};
use crate::concurrency::ConcurrencyLimiter;
use crate::core::{Call, Inner};
use crate::decision::{DecidedBy, Decision};
use crate::error::Error;
use crate::limit::Owner;
use crate::limiter::{RateLimiter, bytes_of};
use crate::permit::Permit;
use crate::scripts::{self, LimitRequest, LimitRequests};
use crate::verdict::Verdicts;

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
/// of the set, however many servers it asks. While a server cannot be asked each limiter with keys there
/// does what its [`OnOutage`](crate::OnOutage) says, one after the other, and what one took is given back
/// when another denies. Such a decision is [made](Decision::decided_by) by the limiter that denied, or by the
/// first that had to decide without its server.
#[derive(Debug, Clone, Default)]
#[must_use = "it does nothing until `check`"]
pub struct LimitSet {
    members: Vec<Member>,
    tag: Option<Bytes>,
    best_effort: bool,
}

/// The outcome of a [`LimitSet`].
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
    /// Units that cannot be given back before the decision timeout has passed are given back in the
    /// background. A round trip for each slot, all of them within the shortest
    /// [`decision_timeout`](crate::RateLimiterBuilder::decision_timeout): on a cluster each slot has its part of what is
    /// left of that. While units are given back in the background, a limiter may deny a call, and remember that, for which
    /// they would have been enough.
    pub fn best_effort(mut self) -> Self {
        self.best_effort = true;
        self
    }

    /// Takes from all of them, if all allow it. A set goes before nobody that waits for a place, nor, where
    /// a limiter has [`waiters_first`](crate::RateLimiterBuilder::waiters_first), for units: that
    /// limiter denies it then.
    ///
    /// # Errors
    /// [`Error::DifferentSlots`], [`Error::NamedTwice`], [`Error::DifferentClients`],
    /// [`Error::NothingNamed`] and what [`RateLimiter::check_n`] gives.
    pub async fn check(self) -> Result<LimitSetDecision, Error> {
        let members = self.tagged_members();
        let decided = decide(&members, self.best_effort).await;
        for member in &members {
            match &decided {
                Ok(decided) => member.limiter.metrics.decided(&decided.decision),
                Err(_) => member.limiter.metrics.failed(),
            }
        }
        decided
    }

    /// Decides as [`check`](Self::check) would if nobody waited, taking nothing.
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
            let reply = scripts::decide_all(client, &requests_of(&group), &[], false).await?;
            all &= reply.allowed;
            verdicts.extend(verdicts_of(&group, &reply.replies));
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

async fn decide(members: &[Member], best_effort: bool) -> Result<LimitSetDecision, Error> {
    let asked = ask_each(members)?;
    let denials = members.iter().filter_map(Member::remembered_denial);
    if let Some(decision) = denials.max_by_key(Decision::retry_after) {
        return Ok(LimitSetDecision {
            decision,
            permits: Vec::new(),
        });
    }
    let groups = group_by_slot(&asked, best_effort)?;
    take(&asked, &groups).await
}

/// The checked requests of each member.
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
