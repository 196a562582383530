//! Waiting for units or a place: first come, first served, among all processes.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::Client;
use redkit_core::coordination::{QueueStatus, QueuedCaller, Release, WAITER_ALIVE, WaitQueue};
use tokio::time::Instant;

use crate::core::{Call, Inner, shares};
use crate::decision::{DecidedBy, Decision};
use crate::error::{Error, is_outage};
use crate::outage::OnOutage;
use crate::permit::Permit;
use crate::scripts::{self, Id, LimitRequests, Turn, Visit, VisitReply, text, waiter_id};

impl Inner {
    /// Waits until the call is allowed, or it is clear that it will not be before `deadline`. Gives a
    /// permit with a decision that allows a place.
    pub(crate) async fn wait(
        &self,
        call: Call<'_>,
        deadline: Instant,
    ) -> Result<(Decision, Option<Permit>), Error> {
        let requests = self.requests_without_delay(&call)?;
        let server = &self.client;
        let waited = self.wait_at(server, &call, requests.clone(), deadline);
        match waited.await {
            Ok(granted) => {
                self.outage.end(&self.name);
                Ok(granted)
            }
            Err(Error::Core(error)) if is_outage(&error) => {
                self.wait_in_outage(&call, requests, deadline, error).await
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for this process's share, where it has one; otherwise decides as is chosen for an outage.
    pub(crate) async fn wait_in_outage(
        &self,
        call: &Call<'_>,
        requests: LimitRequests,
        deadline: Instant,
        error: redkit_core::Error,
    ) -> Result<(Decision, Option<Permit>), Error> {
        if let OnOutage::Local { client, instances } = &self.on_outage
            && let Some(shares) = shares(&requests, *instances)
        {
            self.outage.begin(&self.name, &error);
            let waited = self.wait_at(client, call, shares, deadline);
            let (decision, permit) = waited.await?;
            return Ok((decision.by(DecidedBy::Local), permit));
        }
        let decision = self.decide_in_outage(call, requests, error).await?;
        let is_place = self.places.is_some() && decision.is_allowed();
        Ok((decision, is_place.then(Permit::unheld)))
    }

    /// Waits at the server, or at the engine in this process.
    async fn wait_at(
        &self,
        client: &Client,
        call: &Call<'_>,
        requests: LimitRequests,
        deadline: Instant,
    ) -> Result<(Decision, Option<Permit>), Error> {
        let lease_id = requests.first().and_then(|request| request.lease_id);
        let caller = WaitingCaller {
            limiter: self,
            client,
            call,
            requests: &requests,
            queue: self.wait_queue(call.owner),
            id: lease_id.unwrap_or_else(|| waiter_id(call.cost)),
        };
        let waited = client.wait_in_queue(&caller, deadline).await?;
        let permit = match waited.outcome.turn {
            Turn::Granted => self.permit(client, call, &requests, waited.sent),
            Turn::QueueFull => return Err(Error::QueueFull(self.max_waiters)),
            Turn::Waiting(_) | Turn::NotQueued(_) => None,
        };
        let decision = self.charged(client, call, requests, &waited.outcome);
        Ok((decision, permit))
    }
}

/// One caller that waits.
struct WaitingCaller<'a> {
    limiter: &'a Inner,
    client: &'a Client,
    call: &'a Call<'a>,
    requests: &'a LimitRequests,
    queue: WaitQueue,
    /// The waiter's name in the queue, and the name of the lease if one is asked for.
    id: Id,
}

impl QueuedCaller for WaitingCaller<'_> {
    type Outcome = VisitReply;

    fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn id(&self) -> Bytes {
        text(self.id).into()
    }

    async fn visit(
        &self,
        max_wait: Duration,
    ) -> Result<QueueStatus<VisitReply>, redkit_core::Error> {
        let visit = Visit {
            requests: self.requests,
            queue: &self.queue,
            waiter: Some(self.id),
            max_wait,
            max_waiters: self.limiter.max_waiters,
        };
        // A place that is not waited for is a decision like any other.
        let budget = self.limiter.decision_timeout.max(max_wait);
        let client = self.client.with_budget(budget)?;
        let reply = scripts::visit_queue(&client, &visit).await?;
        Ok(match reply.turn {
            Turn::Granted => QueueStatus::Served(reply),
            Turn::Waiting(before) => QueueStatus::Waiting {
                hint: reply.wait_hint,
                before: Some(before),
            },
            Turn::NotQueued(_) | Turn::QueueFull => QueueStatus::Rejected(reply),
        })
    }

    /// The place in the queue, and the lease that may have been given.
    fn abandon(&self) -> Release {
        let now = Instant::now();
        let place = self.limiter.place(self.call, self.requests);
        let runs = self.limiter.places.as_ref().map(|places| places.lease());
        let given = place.map(|place| place.give_back());
        Release::new(given.into_iter().chain([self.queue.leave(&self.id())]))
            .until(now + runs.unwrap_or(WAITER_ALIVE))
            .counted_by(self.limiter.releases_lost.clone())
    }

    /// Where nobody else decides in an outage. The engine in this process has none.
    fn outlives_faults(&self) -> bool {
        let is_server = self.client.is_same_client(&self.limiter.client);
        is_server && self.limiter.on_outage.leaves_it_to_the_caller()
    }
}

/// The moment after which nobody waits any more; a timeout beyond all clocks is a year.
pub(crate) fn deadline(timeout: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(366 * 86_400);
    Instant::now() + timeout.min(YEAR)
}
