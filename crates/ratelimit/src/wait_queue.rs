//! Waiting for units or a place: first come, first served, among all processes.

use std::time::Duration;

use redkit_core::{Client, Key};
use tokio::time::{Instant, sleep};

use crate::core::{Call, Inner, shares};
use crate::decision::{DecidedBy, Decision};
use crate::error::{Error, is_outage};
use crate::outage::OnOutage;
use crate::permit::Permit;
use crate::release_queue::{Release, ReleaseQueue};
use crate::scripts::{
    self, Id, LimitRequest, LimitRequests, QueuePoll, QueueReply, QueueStatus, waiter_id,
};

/// How long a waiter sleeps at most: a third of the time after which it is taken for dead.
const MOST_PAUSE: Duration = Duration::from_secs(1);
/// How often a waiter for a place asks, since nothing says when one will be released.
const PAUSE_FOR_PLACES: Duration = Duration::from_millis(50);
/// How long a waiter that is not first sleeps at least: the waiters before it have to come first.
/// Twice as long each time that they have not come although their units are there.
const LEAST_PAUSE: Duration = Duration::from_millis(2);
/// How long a waiter sleeps after it could not ask. Twice as long each time, up to [`MOST_PAUSE`].
const PAUSE_AFTER_FAULT: Duration = Duration::from_millis(50);

impl Inner {
    /// Waits until the call is allowed, or it is clear that it will not be before `deadline`. Gives a
    /// permit with a decision that allows a place.
    pub(crate) async fn wait(
        &self,
        call: Call<'_>,
        deadline: Instant,
    ) -> Result<(Decision, Option<Permit>), Error> {
        let requests = self.requests_without_delay(&call)?;
        let waited = self.wait_at(&self.client, true, &call, requests.clone(), deadline);
        match waited.await? {
            Ok(granted) => {
                self.outage.end(&self.name);
                Ok(granted)
            }
            Err(error) if is_outage(&error) => {
                self.wait_in_outage(&call, requests, deadline, error).await
            }
            Err(error) => Err(error.into()),
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
            let waited = self.wait_at(client, false, call, shares, deadline).await?;
            let (decision, permit) = waited?;
            return Ok((decision.by(DecidedBy::Local), permit));
        }
        let decision = self.decide_in_outage(call, requests, error).await?;
        let is_place = self.leases.is_some() && decision.is_allowed();
        Ok((decision, is_place.then(Permit::unheld)))
    }

    async fn wait_at(
        &self,
        client: &Client,
        is_server: bool,
        call: &Call<'_>,
        requests: LimitRequests,
        deadline: Instant,
    ) -> Result<Result<(Decision, Option<Permit>), redkit_core::Error>, Error> {
        let (queue, heartbeats) = self.queue_keys(call.owner);
        let lease_id = requests.first().and_then(|request| request.lease_id);
        let wait = Wait {
            client,
            // A place that is not waited for is a decision like any other.
            least_time: self.decision_timeout,
            requests: &requests,
            queue,
            heartbeats,
            max_waiters: self.max_waiters,
            outlives_faults: is_server && self.on_outage.leaves_it_to_the_caller(),
            releases: &self.releases,
            waiter: lease_id.unwrap_or_else(|| waiter_id(call.cost)),
        };
        let (reply, sent) = match wait.until(deadline).await {
            Ok(answered) => answered,
            Err(error) => return Ok(Err(error)),
        };
        let permit = match reply.status {
            QueueStatus::Granted => self.permit(client, &requests, sent),
            QueueStatus::QueueFull => return Err(Error::QueueFull(self.max_waiters)),
            QueueStatus::Waiting(_) | QueueStatus::NotQueued(_) => None,
        };
        Ok(Ok((self.charged(client, call, requests, &reply), permit)))
    }
}

/// One caller's wait.
struct Wait<'a> {
    client: &'a Client,
    /// How long each question may take at least, however short the wait.
    least_time: Duration,
    requests: &'a [LimitRequest],
    queue: Key,
    heartbeats: Key,
    max_waiters: u64,
    /// Whether it goes on when it could not ask, as long as there is time.
    outlives_faults: bool,
    releases: &'a ReleaseQueue,
    /// The waiter's name in the queue, and the name of the lease if one is asked for.
    waiter: Id,
}

impl Wait<'_> {
    /// Waits until the limits let the caller through, or it is clear that they will not before
    /// `deadline`; gives the last reply, and when it was asked for. However it ends, nothing of it
    /// stays behind: what a dropped wait or a lost reply may have left is removed in the background.
    ///
    /// Only what the server certainly did not carry out is asked again: anything else may have let
    /// the caller through already.
    async fn until(&self, deadline: Instant) -> Result<(QueueReply, Instant), redkit_core::Error> {
        self.releases.prepare();
        let mut place = PlaceInQueue {
            wait: self,
            is_taken: true,
        };
        let mut pauses = Pauses::default();
        let mut after_fault = PAUSE_AFTER_FAULT;
        loop {
            let sent = Instant::now();
            let max_wait = deadline.saturating_duration_since(sent);
            let reply = match self.poll(max_wait).await {
                Ok(reply) => reply,
                Err(error)
                    if self.outlives_faults && !max_wait.is_zero() && was_not_done(&error) =>
                {
                    sleep(after_fault.min(max_wait)).await;
                    after_fault = (after_fault * 2).min(MOST_PAUSE);
                    continue;
                }
                Err(error) => return Err(error),
            };
            after_fault = PAUSE_AFTER_FAULT;
            match reply.status {
                QueueStatus::Waiting(before) if !max_wait.is_zero() => {
                    let pause = match self.waits_for_place() {
                        true => reply.wait_hint.clamp(PAUSE_FOR_PLACES, MOST_PAUSE),
                        false => pauses.next(before, reply.wait_hint),
                    };
                    sleep(pause.min(max_wait)).await;
                }
                status => {
                    place.is_taken = matches!(status, QueueStatus::Waiting(_));
                    return Ok((reply, sent));
                }
            }
        }
    }

    async fn poll(&self, max_wait: Duration) -> Result<QueueReply, redkit_core::Error> {
        let poll = QueuePoll {
            requests: self.requests,
            queue: &self.queue,
            heartbeats: &self.heartbeats,
            waiter: Some(self.waiter),
            max_wait,
            max_waiters: self.max_waiters,
        };
        let client = self.client.with_budget(self.least_time.max(max_wait))?;
        scripts::poll_queue(&client, &poll).await
    }

    fn waits_for_place(&self) -> bool {
        self.requests
            .iter()
            .any(|request| request.plan.is_concurrency())
    }
}

/// How long a waiter for units sleeps before it asks again.
struct Pauses {
    least: Duration,
    /// The fewest waiters that were before it.
    nearest: u64,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            least: LEAST_PAUSE,
            nearest: u64::MAX,
        }
    }
}

impl Pauses {
    fn next(&mut self, before: u64, wait_hint: Duration) -> Duration {
        if before == 0 {
            return wait_hint.min(MOST_PAUSE);
        }
        self.least = match wait_hint.is_zero() && before >= self.nearest {
            true => (self.least * 2).min(MOST_PAUSE),
            false => LEAST_PAUSE,
        };
        self.nearest = before;
        wait_hint.clamp(self.least, MOST_PAUSE)
    }
}

/// A place in the queue, and the lease that may have been given with it: given up when dropped.
struct PlaceInQueue<'a> {
    wait: &'a Wait<'a>,
    is_taken: bool,
}

impl Drop for PlaceInQueue<'_> {
    fn drop(&mut self) {
        if !self.is_taken {
            return;
        }
        let wait = self.wait;
        let leases = wait.requests.iter().filter_map(|request| {
            let is_lease = request.lease_id.is_some();
            is_lease.then(|| request.key.clone())
        });
        let queue = [wait.queue.clone(), wait.heartbeats.clone()];
        wait.releases.send(Release {
            client: wait.client.clone(),
            keys: leases.chain(queue).collect(),
            id: wait.waiter,
        });
    }
}

/// Whether a fault passes and the server certainly did nothing.
fn was_not_done(error: &redkit_core::Error) -> bool {
    error.is_retryable() && !error.is_maybe()
}

/// The moment after which nobody waits any more; a timeout beyond all clocks is a year.
pub(crate) fn deadline(timeout: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(366 * 86_400);
    Instant::now() + timeout.min(YEAR)
}
