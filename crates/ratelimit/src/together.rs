//! [`Together`]: several limits in one call, all or nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::{Client, ToArg};
use smallvec::SmallVec;

use crate::concurrency::ConcurrencyLimiter;
use crate::deciding::{Asks, Call, Plans};
use crate::decision::{DecidedBy, Decision};
use crate::error::{Error, is_outage};
use crate::joint::{take, take_alone, verdicts_of};
use crate::limiter::{RateLimiter, bytes_of};
use crate::permit::Permit;
use crate::scripts::{self, Ask};

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
/// A leaky bucket among others lets a call through when it can go at once, also in an outage. While the server cannot
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
pub(crate) enum Part {
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
pub(crate) struct Asked<'a> {
    pub(crate) part: &'a Part,
    pub(crate) plans: Plans,
    pub(crate) asks: Asks,
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
    pub async fn check(self) -> Result<Joint, Error> {
        let parts = self.tagged();
        let asked = ask(&parts)?;
        let known = asked.iter().filter_map(Asked::known);
        if let Some(known) = known.max_by_key(Decision::retry_after) {
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
            let (group_all, saids) =
                scripts::decide_together(client(&asked)?, &asks, false).await?;
            all &= group_all;
            verdicts.extend(verdicts_of(&group, &saids));
        }
        Ok(Decision::new(
            all,
            verdicts,
            Duration::ZERO,
            DecidedBy::Redis,
        ))
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
    pub(crate) fn client(&self) -> &Client {
        match self {
            Part::Units { limiter, .. } => &limiter.inner.client,
            Part::Lease { limiter, .. } => &limiter.inner.client,
        }
    }

    /// The server was asked, so an outage is over.
    pub(crate) fn was_served(&self) {
        match self {
            Part::Units { limiter, .. } => limiter.inner.outage.is_over(limiter.name()),
            Part::Lease { limiter, .. } => limiter.inner.outage.is_over(limiter.name()),
        }
    }

    fn name(&self) -> &str {
        match self {
            Part::Units { limiter, .. } => limiter.name(),
            Part::Lease { limiter, .. } => limiter.name(),
        }
    }

    /// The call of a part that takes units.
    pub(crate) fn call(&self) -> Option<(&RateLimiter, Call<'_>)> {
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
            group
                .first()
                .is_some_and(|other| other.slot() == one.slot())
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

fn count(asked: &[Asked<'_>], decision: &Decision) {
    for one in asked {
        match one.part {
            Part::Units { limiter, .. } => limiter.inner.numbers.decided(decision),
            Part::Lease { limiter, .. } => limiter.inner.count(decision),
        }
    }
}
