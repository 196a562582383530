//! [`Together`]: several limits in one call, all or nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::{Client, Key, ToArg};
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::concurrency::ConcurrencyLimiter;
use crate::decision::{DecidedBy, Decision, Verdict};
use crate::errands::{Errand, Errands};
use crate::error::{Error, is_outage};
use crate::limiter::{Call, REFUNDS, RateLimiter, bytes_of};
use crate::permit::Permit;
use crate::plan::Plan;
use crate::receipt::Receipt;
use crate::scripts::{self, Ask, Id, Saids, Taken, What};

/// Several limits in one call: a user's and an address's, a rate and a number of places, of
/// whatever algorithms. All of them allow the call and are charged, or none is.
///
/// ```
/// # use std::sync::Arc;
/// use redkit_ratelimit::{ConcurrencyLimiter, Policy, Quota, RateLimiter, Together};
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
/// let joint = Together::new()
///     .limit(&users, "alice")
///     .limit_n(&addresses, "192.0.2.7", 5)
///     .lease(&reports, "alice")
///     .tag("tenant-7")
///     .check()
///     .await?;
/// if joint.decision.is_allowed() {
///     // … while `joint.permits` are held
/// } else {
///     println!("{} says: not before {:?}", joint.decision.policy(), joint.decision.retry_after());
/// }
/// # Ok(()) }
/// ```
///
/// One script decides, in one round trip, and a script's keys have to lie in one slot of a cluster:
/// different user keys need a [tag](Self::tag) in common, or [best effort](Self::best_effort) has
/// to do. This holds on every server, so that a test without a cluster finds it.
///
/// A leaky bucket among others lets a call through when it can go at once. While the server cannot
/// be asked each limiter does what its [`OnOutage`](crate::OnOutage) says, one after the other, and
/// what one took is given back when another denies.
#[derive(Debug, Clone, Default)]
#[must_use = "it does nothing until `check`"]
pub struct Together {
    parts: Vec<Part>,
    tag: Option<Vec<u8>>,
    best_effort: bool,
}

/// What became of limits that were asked [together](Together).
#[derive(Debug)]
#[must_use = "a call that was denied must not go on, and the permits are given back when dropped"]
pub struct Joint {
    /// The decision, with a verdict for each limit that was asked.
    pub decision: Decision,
    /// A permit for each lease, in the order in which they were named; none when denied.
    pub permits: Vec<Permit>,
}

#[derive(Clone)]
enum Part {
    Units {
        limiter: RateLimiter,
        user: Vec<u8>,
        cost: u64,
    },
    Lease {
        limiter: ConcurrencyLimiter,
        user: Vec<u8>,
    },
}

/// A part with what is asked of it.
struct Asked<'a> {
    part: &'a Part,
    plans: SmallVec<[Plan; 1]>,
    asks: SmallVec<[Ask; 2]>,
}

impl Together {
    /// No limits yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One unit of a limiter's `key`.
    pub fn limit(self, limiter: &RateLimiter, key: impl ToArg) -> Self {
        self.limit_n(limiter, key, 1)
    }

    /// `cost` units of a limiter's `key`.
    pub fn limit_n(mut self, limiter: &RateLimiter, key: impl ToArg, cost: u64) -> Self {
        self.parts.push(Part::Units {
            limiter: limiter.clone(),
            user: bytes_of(key),
            cost,
        });
        self
    }

    /// A place under a limiter's `key`, held by a permit.
    pub fn lease(mut self, limiter: &ConcurrencyLimiter, key: impl ToArg) -> Self {
        self.parts.push(Part::Lease {
            limiter: limiter.clone(),
            user: bytes_of(key),
        });
        self
    }

    /// Puts all keys into the slot of `tag`, such as the name of a tenant: see
    /// [`RateLimiter::tagged`]. Whoever asks for the same units alone has to use the same tag.
    pub fn tag(mut self, tag: impl ToArg) -> Self {
        self.tag = Some(bytes_of(tag));
        self
    }

    /// Where keys lie in different slots, asks slot after slot, each of them in one step, and gives
    /// back what was taken when a later one denies. Until then others see it as taken, and if this
    /// process dies in between it stays so. A round trip for each slot.
    pub fn best_effort(mut self) -> Self {
        self.best_effort = true;
        self
    }

    /// Takes from all of them, if all allow it.
    ///
    /// # Errors
    /// [`Error::DifferentSlots`], [`Error::NamedTwice`], [`Error::DifferentClients`],
    /// [`Error::NothingNamed`] and what [`RateLimiter::check_n`] gives.
    pub async fn check(self) -> Result<Joint, Error> {
        let parts = self.tagged();
        let asked = ask(&parts)?;
        if let Some(known) = asked.iter().find_map(Asked::known) {
            count(&asked, &known);
            return Ok(Joint {
                decision: known,
                permits: Vec::new(),
            });
        }
        let groups = group(&asked, self.best_effort)?;
        let joint = match take(&asked, &groups).await {
            Ok(joint) => joint,
            Err(error) if is_outage(&error) => take_alone(&parts, error).await?,
            Err(error) => return Err(error.into()),
        };
        count(&asked, &joint.decision);
        Ok(joint)
    }

    /// What [`check`](Self::check) would say, taking nothing.
    ///
    /// # Errors
    /// As [`check`](Self::check); [`Error::Core`] when the server cannot be asked, whatever is
    /// chosen for an outage.
    pub async fn peek(self) -> Result<Decision, Error> {
        let parts = self.tagged();
        let asked = ask(&parts)?;
        let (mut all, mut verdicts) = (true, SmallVec::new());
        for group in group(&asked, self.best_effort)? {
            let asks: Vec<Ask> = group.iter().flat_map(|one| one.asks.clone()).collect();
            let (group_all, saids) = scripts::decide_together(client(&asked)?, &asks, false).await?;
            all &= group_all;
            verdicts.extend(verdicts_of(&group, &saids));
        }
        Ok(Decision::new(all, verdicts, Duration::ZERO, DecidedBy::Redis))
    }

    fn tagged(&self) -> Vec<Part> {
        let mut parts = self.parts.clone();
        for part in parts.iter_mut().take_while(|_| self.tag.is_some()) {
            let tag = self.tag.as_deref().unwrap_or_default();
            match part {
                Part::Units { limiter, .. } => *limiter = limiter.tagged(tag),
                Part::Lease { limiter, .. } => *limiter = limiter.tagged(tag),
            }
        }
        parts
    }
}

impl Part {
    fn client(&self) -> &Client {
        match self {
            Part::Units { limiter, .. } => &limiter.inner.client,
            Part::Lease { limiter, .. } => &limiter.inner.client,
        }
    }

    fn name(&self) -> &str {
        match self {
            Part::Units { limiter, .. } => limiter.name(),
            Part::Lease { limiter, .. } => limiter.name(),
        }
    }

    /// The call of a part that takes units.
    fn call(&self) -> Option<(&RateLimiter, Call<'_>)> {
        match self {
            Part::Units {
                limiter,
                user,
                cost,
            } => Some((limiter, limiter.call(user, *cost, None, true))),
            Part::Lease { .. } => None,
        }
    }
}

/// Without keys, which may name people.
impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Asked<'_> {
    /// What the memory of denials says.
    fn known(&self) -> Option<Decision> {
        let (limiter, call) = self.part.call()?;
        limiter.inner.known(&call)
    }

    fn slot(&self) -> Option<u16> {
        self.asks.first().map(|ask| ask.key.slot())
    }
}

/// What is asked of each part, checked.
fn ask(parts: &[Part]) -> Result<Vec<Asked<'_>>, Error> {
    let mut asked: Vec<Asked<'_>> = Vec::with_capacity(parts.len());
    for part in parts {
        let one = match part {
            Part::Units { limiter, .. } => {
                let (plans, asks) = part
                    .call()
                    .map(|(_, call)| limiter.inner.asks_together(&call))
                    .transpose()?
                    .unwrap_or_default();
                Asked { part, plans, asks }
            }
            Part::Lease { limiter, user } => {
                if user.is_empty() {
                    return Err(Error::EmptyKey);
                }
                let inner = &limiter.inner;
                let ask = inner.ask(limiter.owner(user), rand::random(), inner.limit());
                Asked {
                    part,
                    plans: SmallVec::new(),
                    asks: SmallVec::from_iter([ask]),
                }
            }
        };
        for other in &asked {
            if !Arc::ptr_eq(other.part.client().backend(), part.client().backend()) {
                return Err(Error::DifferentClients);
            }
            let same = |ask: &Ask| other.asks.iter().any(|other| other.key == ask.key);
            if one.asks.iter().any(same) {
                return Err(Error::NamedTwice(part.name().into()));
            }
        }
        asked.push(one);
    }
    match asked.is_empty() {
        true => Err(Error::NothingNamed),
        false => Ok(asked),
    }
}

fn client<'a>(asked: &'a [Asked<'_>]) -> Result<&'a Client, Error> {
    let first = asked.first().ok_or(Error::NothingNamed)?;
    Ok(first.part.client())
}

/// The parts by slot: one group, unless best effort allows more.
fn group<'g, 'a>(
    asked: &'g [Asked<'a>],
    best_effort: bool,
) -> Result<Vec<Vec<&'g Asked<'a>>>, Error> {
    let mut groups: Vec<Vec<&Asked<'a>>> = Vec::new();
    for one in asked {
        let of_slot = |group: &&mut Vec<&Asked<'_>>| {
            group.first().is_some_and(|other| other.slot() == one.slot())
        };
        if let Some(group) = groups.iter_mut().find(of_slot) {
            group.push(one);
            continue;
        }
        if let Some(other) = groups.first().and_then(|group| group.first())
            && !best_effort
        {
            return Err(Error::DifferentSlots {
                first: other.part.name().into(),
                second: one.part.name().into(),
            });
        }
        groups.push(vec![one]);
    }
    Ok(groups)
}

/// Asks group after group, and gives everything back when one denies or fails.
async fn take(
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
        pending.extend(group.iter().filter_map(|one| Pending::new(client, one, since)));
        let result = scripts::decide_together(client, &asks, true).await;
        let (group_all, saids) = match result {
            Ok(said) => said,
            Err(error) => {
                give_back(client, taken).await;
                return Err(error);
            }
        };
        let before = verdicts.len();
        verdicts.extend(verdicts_of(group, &saids));
        if group_all {
            taken.extend(taken_by(group, &saids));
            continue;
        }
        all = false;
        // What a limit that allowed it would have taken is still there.
        let costs = group.iter().flat_map(|one| one.asks.iter().map(|ask| ask.what.cost()));
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
    let receipt = asked.iter().filter_map(|one| one.part.call()).fold(
        Receipt::new(client, taken),
        |receipt, (limiter, call)| limiter.inner.forgetting(receipt, &call),
    );
    decision.receipt = (!receipt.is_empty()).then(|| Box::new(receipt));
    Ok(Joint {
        decision,
        permits: pending.into_iter().map(Pending::into_permit).collect(),
    })
}

/// Lets each limiter do what it does in an outage, and gives everything back when one denies.
async fn take_alone(parts: &[Part], error: redkit_core::Error) -> Result<Joint, Error> {
    let (mut verdicts, mut receipts, mut permits) = (SmallVec::new(), Vec::new(), Vec::new());
    let mut by = None;
    let mut all = true;
    for part in parts {
        let decision = match part {
            Part::Units { limiter, .. } => {
                let Some((_, call)) = part.call() else { continue };
                limiter.inner.decide_without_server(&call, error.clone()).await
            }
            Part::Lease { limiter, user } => {
                let inner = &limiter.inner;
                let owner = limiter.owner(user);
                match inner.without_server(owner, Instant::now(), error.clone()).await {
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

fn verdicts_of<'v>(
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
    Units(&'a crate::limit::Limit, &'a Plan),
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
        {
            let own = Saids::from_slice(own);
            let verdicts = verdicts_of(&[one], &own).collect();
            let decision = Decision::new(false, verdicts, Duration::ZERO, DecidedBy::Redis);
            limiter.inner.remember(&call, since, &decision);
        }
    }
}

fn count(asked: &[Asked<'_>], decision: &Decision) {
    for one in asked {
        match one.part {
            Part::Units { limiter, .. } => limiter.inner.numbers.decided(decision),
            Part::Lease { limiter, .. } => limiter.inner.count(decision),
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

    fn errands(&self) -> &Errands {
        self.limiter.inner.errands()
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.is_held {
            self.errands().send(Errand {
                client: self.client.clone(),
                keys: vec![self.key.clone()],
                id: self.id,
            });
        }
    }
}
