//! Deliveries: one task for each sink, which delivers what is about one subject in order, tries again, and lets one
//! instance of the fleet deliver.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use metrics::Counter;
use redkit_core::coordination::Backoff;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::alert::Alert;
use super::fleet::{Claim, Fleet};
use super::sink::{Sink, SinkError};

/// How many alerts wait for a sink at most: half of them to be taken up, half to be delivered or tried again.
const MOST: usize = 1_000;

/// How many attempts a sink has under way at most.
const AT_ONCE: usize = 4;

/// The longest that a sink may take.
const LONGEST: Duration = Duration::from_secs(60);

/// How long a claim outlives the attempt that it is for.
const MARGIN: Duration = Duration::from_secs(5);

/// For how long an alert is tried to be delivered.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(15 * 60);

/// The way to one sink.
pub(super) struct Outlet {
    queue: Option<mpsc::Sender<Alert>>,
    task: JoinHandle<()>,
    is_shared: bool,
    dropped: Counter,
    name: String,
}

impl Outlet {
    pub(super) fn start(sink: Arc<dyn Sink>, fleet: Arc<Fleet>) -> Self {
        let (queue, alerts) = mpsc::channel(MOST / 2);
        let counts = Counts::new(sink.name());
        Self {
            queue: Some(queue),
            is_shared: sink.is_shared(),
            dropped: counts.of("dropped"),
            name: sink.name().to_owned(),
            task: tokio::spawn(deliver_all(sink, fleet, alerts, counts)),
        }
    }

    /// Whether all instances send to the same receiver.
    pub(super) fn is_shared(&self) -> bool {
        self.is_shared
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn send(&self, alert: &Alert) {
        let queue = self.queue.as_ref();
        if queue.is_none_or(|queue| queue.try_send(alert.clone()).is_err()) {
            self.dropped.increment(1);
            tracing::error!(
                target: "redkit::alerts", sink = self.name, key = alert.key,
                "an alert was dropped: a thousand wait for the sink, or its task has ended"
            );
        }
    }

    /// Delivers what waits, for at most `grace`. Gives whether all was.
    pub(super) async fn close(mut self, grace: Duration) -> bool {
        drop(self.queue.take());
        matches!(timeout(grace, &mut self.task).await, Ok(Ok(())))
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Deliveries by outcome.
struct Counts(String);

impl Counts {
    fn new(sink: &str) -> Self {
        Self(sink.to_owned())
    }

    fn of(&self, outcome: &'static str) -> Counter {
        metrics::counter!("redkit_alert_deliveries_total", "sink" => self.0.clone(), "outcome" => outcome)
    }
}

async fn deliver_all(
    sink: Arc<dyn Sink>,
    fleet: Arc<Fleet>,
    mut alerts: mpsc::Receiver<Alert>,
    counts: Counts,
) {
    let (sent, elsewhere) = (counts.of("sent"), counts.of("by_another"));
    let (failed, retried) = (counts.of("failed"), counts.of("retried"));
    let slots = Semaphore::new(AT_ONCE);
    let deliver = async |lane: Lane, alert: Alert| {
        match deliver(&*sink, &fleet, &slots, &alert, &retried).await {
            Ok(true) => sent.increment(1),
            Ok(false) => elsewhere.increment(1),
            Err(error) => {
                failed.increment(1);
                tracing::error!(
                    target: "redkit::alerts", sink = sink.name(), key = alert.key, %error, "an alert was not delivered"
                );
            }
        }
        lane
    };
    // What waits behind an alert about the same. One that cannot be delivered holds up no other lane.
    let mut lanes: HashMap<Lane, VecDeque<Alert>> = HashMap::new();
    let (mut running, mut waiting, mut is_open) = (FuturesUnordered::new(), 0_usize, true);
    while is_open || !running.is_empty() {
        tokio::select! {
            alert = alerts.recv(), if is_open && waiting < MOST / 2 => {
                let Some(alert) = alert else {
                    is_open = false;
                    continue;
                };
                waiting += 1;
                let lane = (alert.rule.clone(), alert.subject.clone());
                match lanes.get_mut(&lane) {
                    Some(behind) => behind.push_back(alert),
                    None => {
                        lanes.insert(lane.clone(), VecDeque::new());
                        running.push(deliver(lane, alert));
                    }
                }
            }
            Some(lane) = running.next(), if !running.is_empty() => {
                waiting -= 1;
                match lanes.get_mut(&lane).and_then(VecDeque::pop_front) {
                    Some(alert) => running.push(deliver(lane, alert)),
                    None => {
                        lanes.remove(&lane);
                    }
                }
            }
        }
    }
}

/// Rule and subject: what is about one thing is delivered in order.
type Lane = (String, String);

/// Delivers an alert, once in the fleet if the sink is shared. Gives whether this instance did.
async fn deliver(
    sink: &dyn Sink,
    fleet: &Fleet,
    slots: &Semaphore,
    alert: &Alert,
    retried: &Counter,
) -> Result<bool, SinkError> {
    let end = Instant::now() + GIVEN_UP_AFTER;
    let limit = sink.timeout().min(LONGEST);
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    loop {
        // Held during an attempt, not while it is waited for the next one.
        let slot = slots.acquire().await;
        let pause = match claim(sink, fleet, alert, limit).await {
            Claim::Delivered => return Ok(false),
            Claim::Theirs(left) => left.clamp(Duration::from_millis(100), Duration::from_secs(2)),
            Claim::Ours => {
                let send = AssertUnwindSafe(async { sink.send(alert).await }).catch_unwind();
                let sent = match timeout(limit, send).await {
                    Ok(Ok(sent)) => sent,
                    // It is the program's code, and must not end the deliveries of others.
                    Ok(Err(_)) => Err(SinkError::permanent("the sink panicked")),
                    Err(_) => Err(SinkError::retryable(format!("no answer within {limit:?}"))),
                };
                match sent {
                    Ok(()) => {
                        if sink.is_shared() {
                            note(sink, fleet, alert).await;
                        }
                        return Ok(true);
                    }
                    Err(error) if !error.is_retryable || Instant::now() >= end => {
                        return Err(error);
                    }
                    Err(error) => {
                        retried.increment(1);
                        tracing::debug!(target: "redkit::alerts", sink = sink.name(), %error, "a delivery failed; it is tried again");
                        backoff.next_pause()
                    }
                }
            }
        };
        drop(slot);
        if Instant::now() >= end {
            return Err(SinkError::retryable(
                "another instance claims the delivery, and does not deliver",
            ));
        }
        sleep(pause).await;
    }
}

/// Without Redis every instance delivers: rather twice than never.
async fn claim(sink: &dyn Sink, fleet: &Fleet, alert: &Alert, limit: Duration) -> Claim {
    match sink.is_shared() {
        true => fleet
            .claim(sink.name(), &alert.key, limit + MARGIN)
            .await
            .unwrap_or(Claim::Ours),
        false => Claim::Ours,
    }
}

/// Notes the delivery; twice, because the other instances wait for the note.
async fn note(sink: &dyn Sink, fleet: &Fleet, alert: &Alert) {
    for _ in 0..2 {
        if fleet.delivered(sink.name(), &alert.key).await.is_ok() {
            return;
        }
    }
}
