//! Deliveries: one task for each sink, which delivers in order, tries again, and lets one instance of the fleet
//! deliver.

use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;
use redkit_core::coordination::Backoff;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::alert::Alert;
use super::fleet::{Claim, Fleet};
use super::sink::{Sink, SinkError};

/// How many alerts wait for a sink at most.
const MOST: usize = 1_000;

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
        let (queue, alerts) = mpsc::channel(MOST);
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
        timeout(grace, &mut self.task).await.is_ok()
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
    while let Some(alert) = alerts.recv().await {
        match deliver(&*sink, &fleet, &alert, &retried).await {
            Ok(true) => sent.increment(1),
            Ok(false) => elsewhere.increment(1),
            Err(error) => {
                failed.increment(1);
                tracing::error!(
                    target: "redkit::alerts", sink = sink.name(), key = alert.key, %error, "an alert was not delivered"
                );
            }
        }
    }
}

/// Delivers an alert, once in the fleet if the sink is shared. Gives whether this instance did.
async fn deliver(
    sink: &dyn Sink,
    fleet: &Fleet,
    alert: &Alert,
    retried: &Counter,
) -> Result<bool, SinkError> {
    let end = Instant::now() + GIVEN_UP_AFTER;
    let limit = sink.timeout().min(LONGEST);
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    loop {
        let pause = match claim(sink, fleet, alert, limit).await {
            Claim::Delivered => return Ok(false),
            Claim::Theirs(left) => left.clamp(Duration::from_millis(100), Duration::from_secs(2)),
            Claim::Ours => {
                let sent = timeout(limit, sink.send(alert)).await;
                let sent = sent.unwrap_or_else(|_| {
                    Err(SinkError::retryable(format!("no answer within {limit:?}")))
                });
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
