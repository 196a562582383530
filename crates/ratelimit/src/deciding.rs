//! [`Inner`]: what a limiter's clones share, and how a call is decided: by the server, by this process
//! alone, or by nobody.

use std::sync::Arc;
use std::time::Duration;

use redkit_core::{Client, ConfigError};
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::decision::{DecidedBy, Decision, Verdict};
use crate::deny_cache::DenyCache;
use crate::errands::Errands;
use crate::error::{Error, is_outage};
use crate::limit::{Limit, Owner};
use crate::line::told;
use crate::outage::{OnOutage, Outage};
use crate::plan::Plan;
use crate::quota::Quota;
use crate::receipt::Receipt;
use crate::scripts::{self, Ask, Saids, Standing, Taken, Visit, What};
use crate::stats::Numbers;

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
    pub(crate) name: String,
    pub(crate) limits: Vec<Limit>,
    pub(crate) on_outage: OnOutage,
    deny_cache: Option<Arc<DenyCache>>,
    pub(crate) max_waiters: u64,
    waiters_first: bool,
    pub(crate) errands: Errands,
    pub(crate) outage: Outage,
    pub(crate) numbers: Numbers,
}

/// One call, as the limiter's parts hand it on.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) owner: Owner<'a>,
    pub(crate) cost: u64,
    /// The quota that the call names itself.
    pub(crate) quota: Option<Quota>,
    /// False to look only.
    pub(crate) take: bool,
}

/// A plan for each limit.
pub(crate) type Plans = SmallVec<[Plan; 1]>;
/// What is asked of each limit.
pub(crate) type Asks = SmallVec<[Ask; 2]>;

/// Who is asked, with the plans that hold there.
pub(crate) struct Place<'a> {
    pub(crate) client: &'a Client,
    pub(crate) plans: Plans,
    pub(crate) by: DecidedBy,
}

/// The role of the key that remembers refunds.
pub(crate) const REFUNDS: &str = "refunds";

impl Inner {
    pub(crate) fn new(settings: Settings) -> Self {
        let deny_cache = match settings.deny_cache {
            0 => None,
            capacity => Some(Arc::new(DenyCache::new(capacity))),
        };
        Self {
            numbers: Numbers::new(&settings.name),
            errands: Errands::new(&settings.name),
            client: settings.client,
            name: settings.name,
            limits: settings.limits,
            on_outage: settings.on_outage,
            deny_cache,
            max_waiters: settings.max_waiters,
            waiters_first: settings.waiters_first,
            outage: Outage::default(),
        }
    }

    /// Decides a call, whoever can.
    pub(crate) async fn decide(&self, call: Call<'_>) -> Result<Decision, Error> {
        let server = self.server(&call)?;
        let since = Instant::now();
        match self.ask(&server, &call).await {
            Ok(decision) => {
                self.outage.is_over(&self.name);
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
    pub(crate) fn server(&self, call: &Call<'_>) -> Result<Place<'_>, Error> {
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
            (Some(_), _) => Err(ConfigError::new(
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
        if let Standing::Apart(before) = standing {
            decision.make_wait(told(wait, before));
            decision.is_for_others = before > 0;
        }
        Ok(decision)
    }

    /// Decides while the server cannot be asked.
    pub(crate) async fn decide_alone(
        &self,
        server: &Place<'_>,
        call: &Call<'_>,
        error: redkit_core::Error,
    ) -> Result<Decision, Error> {
        self.outage.is_on(&self.name, &error);
        Ok(match &self.on_outage {
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
        })
    }

    /// This process's own place; `None` when its share is too small for the call.
    pub(crate) fn local<'a>(
        &self,
        server: &Place<'_>,
        call: &Call<'_>,
        client: &'a Client,
        instances: u32,
    ) -> Result<Option<Place<'a>>, Error> {
        let mut plans = SmallVec::new();
        for (limit, plan) in self.limits.iter().zip(&server.plans) {
            let share = match (call.quota, limit.share) {
                (None, Some(share)) => Some(share),
                // Of a quota that the call names itself there may be less than a unit for each.
                _ => plan.divided(instances.into()),
            };
            let share = match plan.has_patience() {
                true => share,
                false => share.map(Plan::without_patience),
            };
            let Some(share) = share.filter(|share| share.units >= call.cost) else {
                return Ok(None);
            };
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
        let verdicts = self
            .limits
            .iter()
            .zip(&place.plans)
            .map(|(limit, plan)| Verdict {
                policy: Arc::clone(&limit.name),
                quota: plan.quota,
                allowed,
                limit: plan.units,
                remaining: if allowed { plan.units } else { 0 },
                reset_after: Duration::ZERO,
                retry_after: if allowed {
                    Duration::ZERO
                } else {
                    WHILE_CLOSED
                },
            });
        let by = if allowed {
            DecidedBy::Open
        } else {
            DecidedBy::Closed
        };
        Decision::new(allowed, verdicts.collect(), Duration::ZERO, by)
    }

    /// What a call asks for beside others, where nobody can be told to wait for their turn.
    pub(crate) fn asks_together(&self, call: &Call<'_>) -> Result<(Plans, Asks), Error> {
        let server = self.server(call)?;
        let plans = self.without_patience(&server, call)?;
        let asks = self.asks(&plans, call);
        Ok((plans, asks))
    }

    /// [`decide`](Self::decide) beside others when it is known already that the server cannot be
    /// asked.
    pub(crate) async fn decide_without_server(
        &self,
        call: &Call<'_>,
        error: redkit_core::Error,
    ) -> Result<Decision, Error> {
        let mut server = self.server(call)?;
        server.plans = self.without_patience(&server, call)?;
        self.decide_alone(&server, call, error).await
    }

    pub(crate) fn without_patience(
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

    pub(crate) fn asks(&self, plans: &[Plan], call: &Call<'_>) -> Asks {
        let asks = self.limits.iter().zip(plans).map(|(limit, plan)| Ask {
            key: limit.key(call.owner),
            what: What::Units {
                plan: *plan,
                cost: call.cost,
            },
        });
        asks.collect()
    }

    pub(crate) fn decision(
        &self,
        place: &Place<'_>,
        call: &Call<'_>,
        all: bool,
        saids: &Saids,
    ) -> Decision {
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
            self.forget(call.owner);
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
        let known = cache.look_up(&call.owner.in_memory(), call.cost, call.quota)?;
        // What can never be allowed is an error, and not denied because less was.
        let is_possible = |verdict: &Verdict| call.cost <= verdict.limit();
        known.verdicts().iter().all(is_possible).then_some(known)
    }

    /// A receipt that also undoes what the memory of denials says of the call's key.
    pub(crate) fn forgetting(&self, receipt: Receipt, call: &Call<'_>) -> Receipt {
        match &self.deny_cache {
            Some(cache) => receipt.forgetting(cache, call.owner.in_memory()),
            None => receipt,
        }
    }

    /// Forgets what was denied, because units came back or were taken.
    pub(crate) fn forget(&self, owner: Owner<'_>) {
        if let Some(cache) = &self.deny_cache {
            cache.forget(&owner.in_memory());
        }
    }

    pub(crate) fn remember(&self, call: &Call<'_>, since: Instant, decision: &Decision) {
        if let Some(cache) = &self.deny_cache
            && !decision.is_allowed()
            // Those in line may leave it at any time.
            && !decision.is_for_others
        {
            let key = call.owner.in_memory();
            cache.remember(&key, call.cost, call.quota, since, decision);
        }
    }

    pub(crate) fn count(&self, result: Result<Decision, Error>) -> Result<Decision, Error> {
        match &result {
            Ok(decision) => self.numbers.decided(decision),
            Err(_) => self.numbers.failed(),
        }
        result
    }
}

/// What a caller is told to wait while a limiter is closed: nobody knows how long that will be.
pub(crate) const WHILE_CLOSED: Duration = Duration::from_secs(1);
