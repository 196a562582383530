//! [`RateLimiter`]: whether a call may go on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::{Client, Command, ToArg};
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::builder::RateLimiterBuilder;
use crate::decision::{DecidedBy, Decision, Verdict};
use crate::deny_cache::DenyCache;
use crate::error::{Error, is_outage};
use crate::errands::Errands;
use crate::limit::{Limit, Owner, share};
use crate::line::{self, Outcome, Wait};
use crate::outage::OnOutage;
use crate::plan::Plan;
use crate::policy::Policy;
use crate::quota::Quota;
use crate::receipt::Receipt;
use crate::scripts::{self, Ask, Saids, Standing, Taken, Visit, What};
use crate::stats::{LimiterStats, Numbers};

/// Limits calls by key. It is cheap to clone; clones share everything.
///
/// See the [crate's documentation](crate) for an example. Every call is one round trip to the
/// server, or none when the [deny cache](RateLimiterBuilder::deny_cache) knows the answer. On a
/// cluster a key's limits lie in one slot.
#[derive(Clone)]
pub struct RateLimiter {
    pub(crate) inner: Arc<Inner>,
    tag: Option<Bytes>,
}

pub(crate) struct Settings {
    pub(crate) client: Client,
    pub(crate) name: String,
    pub(crate) limits: Vec<Limit>,
    pub(crate) on_outage: OnOutage,
    pub(crate) deny_cache: usize,
    pub(crate) max_waiters: u64,
    pub(crate) waiters_first: bool,
}

pub(crate) struct Inner {
    pub(crate) client: Client,
    name: String,
    pub(crate) limits: Vec<Limit>,
    on_outage: OnOutage,
    deny_cache: Option<Arc<DenyCache>>,
    max_waiters: u64,
    waiters_first: bool,
    errands: Errands,
    pub(crate) numbers: Numbers,
}

/// One call, as the limiter's parts hand it on.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) owner: Owner<'a>,
    pub(crate) cost: u64,
    /// The quota that the call names itself.
    quota: Option<Quota>,
    /// False to look only.
    take: bool,
}

/// A plan for each limit.
pub(crate) type Plans = SmallVec<[Plan; 1]>;
/// What is asked of each limit.
pub(crate) type Asks = SmallVec<[Ask; 2]>;

/// Who is asked, with the plans that hold there.
struct Place<'a> {
    client: &'a Client,
    plans: Plans,
    by: DecidedBy,
}

impl RateLimiter {
    /// Starts a limiter named `name`, which stands in its keys and metrics.
    pub fn builder(client: &Client, name: &str) -> RateLimiterBuilder {
        RateLimiterBuilder::new(client, name)
    }

    pub(crate) fn new(settings: Settings) -> Self {
        let numbers = Numbers::new(&settings.name);
        let deny_cache = match settings.deny_cache {
            0 => None,
            capacity => Some(Arc::new(DenyCache::new(capacity))),
        };
        Self {
            inner: Arc::new(Inner {
                client: settings.client,
                name: settings.name,
                limits: settings.limits,
                on_outage: settings.on_outage,
                deny_cache,
                max_waiters: settings.max_waiters,
                waiters_first: settings.waiters_first,
                errands: Errands::default(),
                numbers,
            }),
            tag: None,
        }
    }

    /// The same limiter with keys that share the slot of `tag`, so that different user keys can be
    /// decided [together](crate::Together) on a cluster. They are other keys than those without
    /// the tag, or with another: use the same one wherever the same units are meant.
    #[must_use]
    pub fn tagged(&self, tag: impl ToArg) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            tag: Some(bytes_of(tag).into()),
        }
    }

    /// Takes one unit of `key`, if there is one.
    ///
    /// # Errors
    /// [`Error::EmptyKey`]; [`Error::Core`] when the server could not be asked and
    /// [`OnOutage::Error`] is chosen, which it is by default.
    pub async fn check(&self, key: impl ToArg) -> Result<Decision, Error> {
        self.decide(&bytes_of(key), 1, None, true).await
    }

    /// Takes `cost` units of `key`, all or none.
    ///
    /// # Errors
    /// As [`check`](Self::check), and [`Error::ZeroCost`] and [`Error::CostAboveLimit`].
    pub async fn check_n(&self, key: impl ToArg, cost: u64) -> Result<Decision, Error> {
        self.decide(&bytes_of(key), cost, None, true).await
    }

    /// Takes `cost` units of `key` under a quota that this call names, as when each customer has a
    /// quota of their own. What was taken under other quotas counts; of a rate (GCRA, leaky bucket)
    /// by the time that it takes to come back.
    ///
    /// # Errors
    /// As [`check_n`](Self::check_n); [`Error::Core`] for a quota that cannot work, for another
    /// window than the policy's where windows are counted from 1970 on (sliding counter, bucketed
    /// window), and on a limiter with several policies.
    pub async fn check_with(
        &self,
        key: impl ToArg,
        cost: u64,
        quota: Quota,
    ) -> Result<Decision, Error> {
        self.decide(&bytes_of(key), cost, Some(quota), true).await
    }

    /// What [`check`](Self::check) would say, taking nothing. `remaining` and `reset_after` are as
    /// things stand.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub async fn peek(&self, key: impl ToArg) -> Result<Decision, Error> {
        self.decide(&bytes_of(key), 1, None, false).await
    }

    /// What [`check_n`](Self::check_n) would say, taking nothing.
    ///
    /// # Errors
    /// As [`check_n`](Self::check_n).
    pub async fn peek_n(&self, key: impl ToArg, cost: u64) -> Result<Decision, Error> {
        self.decide(&bytes_of(key), cost, None, false).await
    }

    /// Takes one unit of `key`, and waits for it for `timeout` at most: see
    /// [`acquire_n`](Self::acquire_n).
    ///
    /// # Errors
    /// As [`acquire_n`](Self::acquire_n).
    pub async fn acquire(&self, key: impl ToArg, timeout: Duration) -> Result<Decision, Error> {
        self.acquire_n(key, 1, timeout).await
    }

    /// Takes `cost` units of `key`, and waits for them for `timeout` at most. First come, first
    /// served, among all processes: who finds no room gets a place in line. The decision is a
    /// denial when it would take longer, given as soon as that is known.
    ///
    /// Dropping the future gives the place back, in the background; the place of a process that
    /// died is taken away after three seconds. A [`check`](Self::check) does not stand in line
    /// unless [`waiters_first`](RateLimiterBuilder::waiters_first) says so.
    ///
    /// One round trip when there is room, two when it is waited for, and one each second of
    /// waiting.
    ///
    /// # Errors
    /// As [`check_n`](Self::check_n), and [`Error::LineFull`].
    pub async fn acquire_n(
        &self,
        key: impl ToArg,
        cost: u64,
        timeout: Duration,
    ) -> Result<Decision, Error> {
        let user = bytes_of(key);
        let call = self.call(&user, cost, None, true);
        let result = self.inner.wait(call, line::deadline(timeout)).await;
        self.inner.count(result)
    }

    /// Gives back what a call took, because it turned out not to count. Doing it twice is as good
    /// as once. Gives whether any of it was still there to give: units whose window has passed, or
    /// that have drained, are not. One round trip for each limit.
    ///
    /// # Errors
    /// [`Error::Core`] when the server could not be asked; it may then have been done.
    pub async fn refund(&self, receipt: &Receipt) -> Result<bool, Error> {
        receipt.refund().await
    }

    /// Gives `key` all its units back. Who waits for them goes on waiting, with better prospects.
    /// One round trip. Receipts from before are worth nothing any more: do not refund them, because
    /// units taken since then could be given back in their place.
    ///
    /// # Errors
    /// [`Error::Core`] when the server could not be asked; it may then have been done.
    pub async fn reset(&self, key: impl ToArg) -> Result<(), Error> {
        let user = bytes_of(key);
        let owner = self.owner(&user);
        let inner = &self.inner;
        let unlink = || {
            let keys = inner
                .limits
                .iter()
                .flat_map(|limit| [limit.key(owner), limit.key_with(owner, REFUNDS)]);
            Command::new("UNLINK").keys_from(keys).idempotent(true)
        };
        if let Some(cache) = &inner.deny_cache {
            cache.forget(&owner.in_memory());
        }
        if let OnOutage::Local { client, .. } = &inner.on_outage {
            client.call::<i64>(unlink()).await?;
        }
        inner.client.call::<i64>(unlink()).await?;
        Ok(())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The policies, in the order in which they were added.
    pub fn policies(&self) -> impl ExactSizeIterator<Item = &Policy> {
        self.inner.limits.iter().map(|limit| &limit.policy)
    }

    /// What this limiter and its clones have done.
    pub fn stats(&self) -> LimiterStats {
        self.inner.numbers.read()
    }

    pub(crate) fn owner<'a>(&'a self, user: &'a [u8]) -> Owner<'a> {
        Owner {
            user,
            tag: self.tag.as_ref(),
        }
    }

    pub(crate) fn call<'a>(
        &'a self,
        user: &'a [u8],
        cost: u64,
        quota: Option<Quota>,
        take: bool,
    ) -> Call<'a> {
        Call {
            owner: self.owner(user),
            cost,
            quota,
            take,
        }
    }

    async fn decide(
        &self,
        user: &[u8],
        cost: u64,
        quota: Option<Quota>,
        take: bool,
    ) -> Result<Decision, Error> {
        let call = self.call(user, cost, quota, take);
        // The memory first, without any state of what may follow: this is the path of an attack.
        if take && let Some(known) = self.inner.known(&call) {
            self.inner.numbers.decided(&known);
            return Ok(known);
        }
        let result = self.inner.decide(call).await;
        match take {
            true => self.inner.count(result),
            false => result,
        }
    }
}

/// The role of the key that remembers refunds.
pub(crate) const REFUNDS: &str = "refunds";

impl Inner {
    /// Decides a call, whoever can.
    pub(crate) async fn decide(&self, call: Call<'_>) -> Result<Decision, Error> {
        let server = self.server(&call)?;
        let since = Instant::now();
        match self.ask(&server, &call).await {
            Ok(decision) => {
                if call.take {
                    self.remember(&call, since, &decision);
                }
                Ok(decision)
            }
            Err(error) if is_outage(&error) => self.decide_alone(&server, &call, error).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Checks a call before anybody is asked.
    fn server(&self, call: &Call<'_>) -> Result<Place<'_>, Error> {
        if call.owner.user.is_empty() {
            return Err(Error::EmptyKey);
        }
        let plans = self.plans(call.quota)?;
        for (limit, plan) in self.limits.iter().zip(&plans) {
            limit.check_cost(plan, call.cost)?;
        }
        Ok(Place {
            client: &self.client,
            plans,
            by: DecidedBy::Redis,
        })
    }

    fn plans(&self, quota: Option<Quota>) -> Result<Plans, Error> {
        match (quota, &*self.limits) {
            (None, limits) => Ok(limits.iter().map(|limit| limit.plan).collect()),
            (Some(quota), [limit]) => Ok(SmallVec::from([limit.plan_for(quota)?])),
            (Some(_), _) => Err(redkit_core::ConfigError::new(
                "quota",
                "the limiter has several policies, and it is not said which of them it is for",
                "name quotas for calls on a limiter with one policy",
            )
            .into()),
        }
    }

    async fn ask(
        &self,
        place: &Place<'_>,
        call: &Call<'_>,
    ) -> Result<Decision, redkit_core::Error> {
        if let ([limit], [plan], false) = (&*self.limits, &*place.plans, self.waiters_first) {
            let key = limit.key(call.owner);
            let said = scripts::decide(place.client, &key, plan, call.cost, call.take).await?;
            return Ok(self.decision(place, call, said.allowed, &Saids::from([said])));
        }
        let asks = self.asks(&place.plans, call);
        if !self.waiters_first || !call.take {
            let (all, saids) = scripts::decide_together(place.client, &asks, call.take).await?;
            return Ok(self.decision(place, call, all, &saids));
        }
        let (line, beats) = self.line(call);
        let visit = Visit {
            asks: &asks,
            line: &line,
            beats: &beats,
            id: None,
            patience: Duration::ZERO,
            places: 0,
        };
        let (standing, wait, saids) = scripts::visit(place.client, &visit).await?;
        let through = standing == Standing::Through;
        let mut decision = self.decision(place, call, through, &saids);
        if !through {
            decision.make_wait(wait);
        }
        Ok(decision)
    }

    /// Decides while the server cannot be asked.
    async fn decide_alone(
        &self,
        server: &Place<'_>,
        call: &Call<'_>,
        error: redkit_core::Error,
    ) -> Result<Decision, Error> {
        let decision = match &self.on_outage {
            OnOutage::Error => return Err(error.into()),
            OnOutage::Open => self.unasked(server, true),
            OnOutage::Closed => self.unasked(server, false),
            OnOutage::Local { client, instances } => {
                let local = self.local(server, call, client, *instances)?;
                match local {
                    Some(local) => self.ask(&local, call).await?,
                    // More at once than this process's share ever has.
                    None => Decision {
                        decided_by: DecidedBy::Local,
                        ..self.unasked(server, false)
                    },
                }
            }
        };
        tracing::warn!(
            target: "redkit::ratelimit",
            limiter = %self.name, %error, by = %decision.decided_by(), allowed = decision.is_allowed(),
            "decided without the server"
        );
        Ok(decision)
    }

    /// This process's own place; `None` when its share is too small for the call.
    fn local<'a>(
        &self,
        server: &Place<'_>,
        call: &Call<'_>,
        client: &'a Client,
        instances: u32,
    ) -> Result<Option<Place<'a>>, Error> {
        let mut plans = SmallVec::new();
        for (limit, plan) in self.limits.iter().zip(&server.plans) {
            let share = match (call.quota, limit.share) {
                (None, Some(share)) => share,
                _ => share(plan, instances)?,
            };
            if share.units < call.cost {
                return Ok(None);
            }
            plans.push(share);
        }
        Ok(Some(Place {
            client,
            plans,
            by: DecidedBy::Local,
        }))
    }

    /// A decision that nobody was asked for.
    fn unasked(&self, place: &Place<'_>, allowed: bool) -> Decision {
        let verdicts = self.limits.iter().zip(&place.plans).map(|(limit, plan)| {
            Verdict {
                policy: Arc::clone(&limit.name),
                quota: plan.quota,
                allowed,
                limit: plan.units,
                remaining: if allowed { plan.units } else { 0 },
                reset_after: Duration::ZERO,
                retry_after: if allowed { Duration::ZERO } else { WHILE_CLOSED },
            }
        });
        let by = if allowed { DecidedBy::Open } else { DecidedBy::Closed };
        Decision::new(allowed, verdicts.collect(), Duration::ZERO, by)
    }

    async fn wait(&self, call: Call<'_>, deadline: Instant) -> Result<Decision, Error> {
        let server = self.server(&call)?;
        match self.wait_at(&server, &call, deadline).await? {
            Ok(decision) => Ok(decision),
            Err(error) if is_outage(&error) => match &self.on_outage {
                OnOutage::Local { client, instances } => {
                    match self.local(&server, &call, client, *instances)? {
                        Some(local) => Ok(self.wait_at(&local, &call, deadline).await??),
                        None => self.decide_alone(&server, &call, error).await,
                    }
                }
                _ => self.decide_alone(&server, &call, error).await,
            },
            Err(error) => Err(error.into()),
        }
    }

    async fn wait_at(
        &self,
        place: &Place<'_>,
        call: &Call<'_>,
        deadline: Instant,
    ) -> Result<Result<Decision, redkit_core::Error>, Error> {
        let plans = self.without_patience(place, call)?;
        let asks = self.asks(&plans, call);
        let (line, beats) = self.line(call);
        let wait = Wait {
            client: place.client,
            asks: &asks,
            line,
            beats,
            places: self.max_waiters,
            errands: &self.errands,
            id: rand::random(),
        };
        let outcome = match wait.until(deadline).await {
            Ok(outcome) => outcome,
            Err(error) => return Ok(Err(error)),
        };
        let place = Place {
            client: place.client,
            plans,
            by: place.by,
        };
        match outcome {
            Outcome::Through(saids, _) => Ok(Ok(self.decision(&place, call, true, &saids))),
            Outcome::GivenUp(saids, wait) => {
                let mut decision = self.decision(&place, call, false, &saids);
                decision.make_wait(wait);
                Ok(Ok(decision))
            }
            Outcome::Full => Err(Error::LineFull(self.max_waiters)),
        }
    }

    /// What a call asks for beside others, where nobody can be told to wait for their turn.
    pub(crate) fn asks_together(
        &self,
        call: &Call<'_>,
    ) -> Result<(Plans, Asks), Error> {
        let server = self.server(call)?;
        let plans = self.without_patience(&server, call)?;
        let asks = self.asks(&plans, call);
        Ok((plans, asks))
    }

    /// [`decide`](Self::decide) when it is known already that the server cannot be asked.
    pub(crate) async fn decide_without_server(
        &self,
        call: &Call<'_>,
        error: redkit_core::Error,
    ) -> Result<Decision, Error> {
        let server = self.server(call)?;
        self.decide_alone(&server, call, error).await
    }

    fn without_patience(
        &self,
        place: &Place<'_>,
        call: &Call<'_>,
    ) -> Result<Plans, Error> {
        let plans: Plans = place
            .plans
            .iter()
            .map(|plan| plan.without_patience())
            .collect();
        for (limit, plan) in self.limits.iter().zip(&plans) {
            limit.check_cost(plan, call.cost)?;
        }
        Ok(plans)
    }

    fn asks(&self, plans: &[Plan], call: &Call<'_>) -> Asks {
        let asks = self.limits.iter().zip(plans).map(|(limit, plan)| Ask {
            key: limit.key(call.owner),
            what: What::Units {
                plan: *plan,
                cost: call.cost,
            },
        });
        asks.collect()
    }

    fn line(&self, call: &Call<'_>) -> (redkit_core::Key, redkit_core::Key) {
        // There is a first limit, or the limiter could not have been built.
        let key = |role| {
            self.limits
                .first()
                .map_or(redkit_core::Key::from_raw(""), |limit| limit.key_with(call.owner, role))
        };
        (key("line"), key("beats"))
    }

    fn decision(&self, place: &Place<'_>, call: &Call<'_>, all: bool, saids: &Saids) -> Decision {
        let limits = || self.limits.iter().zip(&place.plans).zip(saids);
        let verdicts = limits().map(|((limit, plan), said)| {
            let mut verdict = limit.verdict(plan, said);
            if call.take && said.allowed && !all {
                // Another limit denied the call, so nothing was taken.
                verdict.remaining += call.cost;
            }
            verdict
        });
        let delay = match saids.first() {
            Some(said) if all && call.take => said.wait,
            _ => Duration::ZERO,
        };
        let mut decision = Decision::new(all, verdicts.collect(), delay, place.by);
        if all && call.take {
            let taken = limits().map(|((limit, plan), said)| Taken {
                key: limit.key(call.owner),
                refunds: limit.key_with(call.owner, REFUNDS),
                plan: *plan,
                cost: call.cost,
                mark: said.mark,
            });
            let receipt = Receipt::new(place.client, taken.collect());
            decision.receipt = Some(Box::new(self.forgetting(receipt, call)));
        }
        decision
    }

    /// What the memory of denials says.
    pub(crate) fn known(&self, call: &Call<'_>) -> Option<Decision> {
        let cache = self.deny_cache.as_ref()?;
        cache.look_up(&call.owner.in_memory(), call.cost, call.quota)
    }

    /// A receipt that also undoes what the memory of denials says of the call's key.
    pub(crate) fn forgetting(&self, receipt: Receipt, call: &Call<'_>) -> Receipt {
        match &self.deny_cache {
            Some(cache) => receipt.forgetting(cache, call.owner.in_memory()),
            None => receipt,
        }
    }

    pub(crate) fn remember(&self, call: &Call<'_>, since: Instant, decision: &Decision) {
        if let Some(cache) = &self.deny_cache
            && !decision.is_allowed()
        {
            let key = call.owner.in_memory();
            cache.remember(&key, call.cost, call.quota, since, decision);
        }
    }

    fn count(&self, result: Result<Decision, Error>) -> Result<Decision, Error> {
        match &result {
            Ok(decision) => self.numbers.decided(decision),
            Err(_) => self.numbers.failed(),
        }
        result
    }
}

/// What a caller is told to wait while a limiter is closed: nobody knows how long that will be.
pub(crate) const WHILE_CLOSED: Duration = Duration::from_secs(1);

pub(crate) fn bytes_of(key: impl ToArg) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    match key.shared() {
        Some(shared) => bytes.extend_from_slice(&shared),
        None => key.write_to(&mut bytes),
    }
    bytes
}

/// Without keys, which may name people.
impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiter")
            .field("name", &self.inner.name)
            .field("policies", &self.inner.limits.len())
            .finish_non_exhaustive()
    }
}
