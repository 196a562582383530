//! [`Inner`]: what a limiter's clones share, and the steps of one decision, in the order in which
//! they are taken.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use redkit_core::coordination::WaitQueue;
use redkit_core::{Client, ConfigError, Key, Tally};
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::decision::{DecidedBy, Decision};
use crate::deny_cache::DenyCache;
use crate::error::{Error, is_outage};
use crate::limit::{Limit, Owner, REFUNDS};
use crate::metrics::LimiterMetrics;
use crate::outage::{OnOutage, Outage};
use crate::permit::{Permit, Place, Places};
use crate::quota::Quota;
use crate::receipt::Receipt;
use crate::scripts::{
    self, LimitReplies, LimitReply, LimitRequest, LimitRequests, Turn, Visit, VisitReply,
};

/// A limiter of units or of places.
pub(crate) struct Inner {
    pub(crate) client: Client,
    /// The same client, whose calls end within the [`decision_timeout`](Self::decision_timeout).
    pub(crate) hasty_client: Client,
    pub(crate) decision_timeout: Duration,
    pub(crate) name: Arc<str>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) on_outage: OnOutage,
    pub(crate) deny_cache: Option<Arc<DenyCache>>,
    pub(crate) max_waiters: u64,
    pub(crate) waiters_first: bool,
    /// Of a limiter of places: the permits that this process holds.
    pub(crate) places: Option<Places>,
    /// The channel on which waiters are woken.
    pub(crate) wake_channel: Bytes,
    /// Counts what should be given back in the background and the server could not be told.
    pub(crate) releases_lost: Arc<Tally>,
    pub(crate) outage: Outage,
    pub(crate) metrics: LimiterMetrics,
}

/// One call of a limiter.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) owner: Owner<'a>,
    pub(crate) cost: u64,
    /// The quota that the call names itself.
    pub(crate) quota: Option<Quota>,
    /// False to look only.
    pub(crate) take: bool,
}

/// The wait that a caller is told when nobody could be asked: nobody knows how long that will be.
const UNTIL_ASKED: Duration = Duration::from_secs(1);

/// The least wait that a caller outside of the wait queue is told when there are units for the waiters in it:
/// at once it would find the same.
pub(crate) const FOR_WAITERS: Duration = Duration::from_millis(100);

impl Inner {
    /// Makes the limiter visible to the client's [`inspect`](Client::inspect).
    pub(crate) fn register(self: &Arc<Self>) {
        let inspected: Weak<Self> = Arc::downgrade(self);
        self.client.register(inspected);
    }

    /// Decides a call: by the server or, while it cannot be asked, as the limiter's
    /// [`OnOutage`] says.
    pub(crate) async fn decide(&self, call: Call<'_>) -> Result<Decision, Error> {
        let requests = self.requests(&call)?;
        let sent = Instant::now();
        match self.ask(&self.hasty_client, &call, &requests).await {
            Ok(reply) => {
                self.outage.end(&self.name);
                let decision = self.charged(&self.client, &call, requests, &reply);
                self.remember_denial(&call, sent, &decision);
                Ok(decision)
            }
            Err(error) if is_outage(&error) => self.decide_in_outage(&call, requests, error).await,
            Err(error) => Err(error.into()),
        }
    }

    /// The server's decision, taking nothing; an error when it cannot be asked, whatever is chosen for an
    /// outage.
    pub(crate) async fn look(&self, call: Call<'_>) -> Result<Decision, Error> {
        let requests = self.requests(&call)?;
        let reply = self.ask(&self.hasty_client, &call, &requests).await?;
        Ok(self.charged(&self.client, &call, requests, &reply))
    }

    /// Answers from the memory of denials.
    pub(crate) fn remembered_denial(&self, call: &Call<'_>) -> Option<Decision> {
        let cache = self.deny_cache.as_ref().filter(|_| call.take)?;
        let verdicts = cache.look_up(&call.owner.in_memory(), call.cost, call.quota)?;
        let by = DecidedBy::DenyCache;
        Some(Decision::new(false, verdicts, Duration::ZERO, by))
    }

    /// Checks a call, and says what it asks of each limit.
    pub(crate) fn requests(&self, call: &Call<'_>) -> Result<LimitRequests, Error> {
        if call.owner.user.is_empty() {
            return Err(Error::EmptyKey);
        }
        if call.quota.is_some() && self.limits.len() > 1 {
            return Err(ConfigError::new(
                "quota",
                "the limiter has several policies, and it is not said which of them it is for",
                "name quotas for calls on a limiter with one policy",
            )
            .into());
        }
        let limits = self.limits.iter();
        limits
            .map(|limit| limit.request(call.owner, call.cost, call.quota))
            .collect()
    }

    /// The same where no call can be told to wait for its turn: it goes at once or not at all.
    pub(crate) fn requests_without_delay(&self, call: &Call<'_>) -> Result<LimitRequests, Error> {
        let mut requests = self.requests(call)?;
        for (limit, request) in self.limits.iter().zip(&mut requests) {
            request.plan = request.plan.without_delay();
            limit.check_cost(request)?;
        }
        Ok(requests)
    }

    /// Asks a server or an engine in one round trip.
    async fn ask(
        &self,
        client: &Client,
        call: &Call<'_>,
        requests: &[LimitRequest],
    ) -> Result<VisitReply, redkit_core::Error> {
        if self.waiters_first && call.take {
            let visit = Visit {
                requests,
                queue: &self.wait_queue(call.owner),
                waiter: None,
                max_wait: Duration::ZERO,
                max_waiters: 0,
            };
            return scripts::visit_queue(client, &visit).await;
        }
        let (allowed, replies) = match requests {
            [request] => {
                let reply = scripts::decide_one(client, request, call.take).await?;
                (reply.allowed, LimitReplies::from([reply]))
            }
            _ => {
                let all = scripts::decide_all(client, requests, &[], call.take).await?;
                (all.allowed, all.replies)
            }
        };
        Ok(VisitReply {
            turn: match allowed {
                true => Turn::Granted,
                false => Turn::NotQueued(0),
            },
            wait_hint: Duration::ZERO,
            replies,
        })
    }

    /// The decision that a server made, with a receipt for the units that it took.
    pub(crate) fn charged(
        &self,
        client: &Client,
        call: &Call<'_>,
        requests: LimitRequests,
        reply: &VisitReply,
    ) -> Decision {
        let allowed = reply.turn == Turn::Granted;
        let limits = self.limits.iter().zip(&requests).zip(&reply.replies);
        let verdicts = limits.map(|((limit, request), one)| {
            let mut verdict = limit.verdict(request, one);
            if call.take && one.allowed && !allowed {
                // Another limit denied the call, or waiters go first, so nothing was taken.
                verdict.remaining += request.cost;
            }
            verdict
        });
        let is_charged = allowed && call.take && self.places.is_none();
        let delay = match reply.replies.first() {
            Some(first) if is_charged => first.wait,
            _ => Duration::ZERO,
        };
        let mut decision = Decision::new(allowed, verdicts.collect(), delay, DecidedBy::Redis);
        if let Turn::Waiting(1..) | Turn::NotQueued(1..) = reply.turn {
            decision.delay_retry(reply.wait_hint.max(FOR_WAITERS));
            decision.is_for_waiters = true;
        }
        if is_charged {
            let receipt = self.receipt(client, call, requests, &reply.replies);
            decision.receipt = Some(Box::new(receipt));
        }
        decision
    }

    /// A receipt for the units that a call took. What was denied of its key holds no longer: it would
    /// have to wait longer now, and not at all once the units are given back.
    pub(crate) fn receipt(
        &self,
        client: &Client,
        call: &Call<'_>,
        requests: LimitRequests,
        replies: &[LimitReply],
    ) -> Receipt {
        let limits = self.limits.iter().zip(requests).zip(replies);
        let charges = limits.map(|((limit, request), one)| {
            let waiters = self.wait_queue(call.owner);
            limit.charge(call.owner, waiters, request, one)
        });
        let receipt = Receipt::new(client, charges);
        self.forget_denials(call.owner);
        match &self.deny_cache {
            Some(cache) => receipt.forgetting(cache, call.owner.in_memory()),
            None => receipt,
        }
    }

    /// Decides a call that the server could not be asked about.
    pub(crate) async fn decide_in_outage(
        &self,
        call: &Call<'_>,
        requests: LimitRequests,
        error: redkit_core::Error,
    ) -> Result<Decision, Error> {
        self.outage.begin(&self.name, &error);
        match &self.on_outage {
            OnOutage::Error => Err(error.into()),
            OnOutage::Open => Ok(self.unasked(&requests, true, DecidedBy::Open)),
            OnOutage::Closed => Ok(self.unasked(&requests, false, DecidedBy::Closed)),
            OnOutage::Local { client, instances } => {
                let Some(shares) = shares(&requests, *instances) else {
                    // More at once than this process's share ever has.
                    return Ok(self.unasked(&requests, false, DecidedBy::Local));
                };
                let reply = self.ask(client, call, &shares).await?;
                let decision = self.charged(client, call, shares, &reply);
                Ok(decision.by(DecidedBy::Local))
            }
        }
    }

    /// The same for a call of a [set](crate::LimitSet), which may ask for a place.
    pub(crate) async fn take_in_outage(
        &self,
        call: &Call<'_>,
        error: redkit_core::Error,
    ) -> Result<(Decision, Option<Permit>), Error> {
        let requests = self.requests_without_delay(call)?;
        match self.places {
            Some(_) => {
                let now = Instant::now();
                self.wait_in_outage(call, requests, now, error).await
            }
            None => {
                let decision = self.decide_in_outage(call, requests, error).await?;
                Ok((decision, None))
            }
        }
    }

    fn unasked(&self, requests: &[LimitRequest], allowed: bool, by: DecidedBy) -> Decision {
        let retry_after = match allowed {
            true => Duration::ZERO,
            false => UNTIL_ASKED,
        };
        let limits = self.limits.iter().zip(requests);
        let verdicts =
            limits.map(|(limit, request)| limit.verdict_unasked(request, allowed, retry_after));
        Decision::new(allowed, verdicts.collect(), Duration::ZERO, by)
    }

    /// The queue in which callers wait for an owner's units or places.
    pub(crate) fn wait_queue(&self, owner: Owner<'_>) -> WaitQueue {
        let (queue, heartbeats) = match self.places {
            Some(_) => ("places-queue", "places-heartbeats"),
            None => ("queue", "heartbeats"),
        };
        // There is a first limit, or the limiter could not have been built.
        let key = |role| {
            let first = self.limits.first();
            first.map_or(Key::from_raw(""), |limit| limit.key(owner, role))
        };
        WaitQueue {
            queue: key(queue),
            heartbeats: key(heartbeats),
            channel: self.wake_channel.clone(),
        }
    }

    /// The queue whose waiters go before a call that does not wait itself, if there is one.
    pub(crate) fn queue_before(&self, owner: Owner<'_>) -> Option<WaitQueue> {
        let is_in_turn = self.places.is_some() || self.waiters_first;
        is_in_turn.then(|| self.wait_queue(owner))
    }

    /// The place that a call asks for; `None` of a limiter of units.
    pub(crate) fn place(&self, call: &Call<'_>, requests: &[LimitRequest]) -> Option<Place> {
        self.places.as_ref()?;
        let request = requests.first()?;
        let waiters = self.wait_queue(call.owner);
        let releases_lost = Arc::clone(&self.releases_lost);
        let id = request.lease_id?;
        Some(Place::new(request.key.clone(), id, waiters, releases_lost))
    }

    /// The permit for the place that a call sent at `sent` was given; `None` of a limiter of units.
    pub(crate) fn permit(
        &self,
        client: &Client,
        call: &Call<'_>,
        requests: &[LimitRequest],
        sent: Instant,
    ) -> Option<Permit> {
        let place = self.place(call, requests)?;
        Some(self.places.as_ref()?.permit(client, place, sent))
    }

    /// Remembers a denial that the server decided.
    pub(crate) fn remember_denial(&self, call: &Call<'_>, sent: Instant, decision: &Decision) {
        if let Some(cache) = &self.deny_cache
            && call.take
            && !decision.is_allowed()
            && !decision.is_for_waiters
        {
            let key = call.owner.in_memory();
            cache.remember(&key, call.cost, call.quota, sent, decision.verdicts());
        }
    }

    /// Gives an owner all its units back.
    pub(crate) async fn reset(&self, owner: Owner<'_>) -> Result<(), Error> {
        if owner.user.is_empty() {
            return Err(Error::EmptyKey);
        }
        let limits = self.limits.iter();
        let of_limit = |limit: &Limit| [limit.role(), REFUNDS].map(|role| limit.key(owner, role));
        let keys: Vec<Key> = limits.flat_map(of_limit).collect();
        let waiters = self.wait_queue(owner);
        if let OnOutage::Local { client, .. } = &self.on_outage {
            scripts::reset(client, &keys, &waiters).await?;
        }
        let done = scripts::reset(&self.client, &keys, &waiters).await;
        // Also when nobody knows whether it was done.
        self.units_came_back(owner);
        done?;
        Ok(())
    }

    /// Forgets what was denied, because units were taken.
    pub(crate) fn forget_denials(&self, owner: Owner<'_>) {
        if let Some(cache) = &self.deny_cache {
            cache.forget(&owner.in_memory());
        }
    }

    /// Forgets what was denied, and is being denied, because units came back.
    pub(crate) fn units_came_back(&self, owner: Owner<'_>) {
        if let Some(cache) = &self.deny_cache {
            cache.units_came_back(&owner.in_memory());
        }
    }
}

/// Where a limiter's waiters are woken.
pub(crate) fn wake_channel(client: &Client, limiter: &str) -> Bytes {
    client.key(format!("ratelimit:{limiter}:wake")).to_bytes()
}

/// Counts what a limiter could not give back in the background.
pub(crate) fn releases_lost(limiter: &str) -> Arc<Tally> {
    Arc::new(Tally::new(metrics::counter!(
        "redkit_ratelimit_releases_lost_total", "limiter" => limiter.to_owned()
    )))
}

/// This process's share of what is asked for; `None` when it is too small for the call.
pub(crate) fn shares(requests: &[LimitRequest], instances: u32) -> Option<LimitRequests> {
    let share = |request: &LimitRequest| {
        let plan = request.plan.divided(instances.into())?;
        (plan.most_units() >= request.cost).then(|| LimitRequest {
            plan,
            ..request.clone()
        })
    };
    requests.iter().map(share).collect::<Option<SmallVec<_>>>()
}
