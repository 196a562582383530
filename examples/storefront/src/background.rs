//! What goes on besides requests: packing orders, jobs of the fleet, telling what stands in the outbox, alerts. All of
//! it is owned here, ends with the shop, and is missed by the liveness check when it dies.

use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redkit::Client;
use redkit::monitor::Health;
use redkit::monitor::alerts::{Alert, Alerts, LogSink, Rule, Severity};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::jobs::Jobs;
use crate::notifications::Notifications;
use crate::orders::{Events, Orders};

/// How often the outbox is looked at.
const RELAY: Duration = Duration::from_secs(1);

/// How long a worker that could not start waits before it tries again.
const AGAIN: Duration = Duration::from_secs(1);

/// How long what is being handled has to end.
const GRACE: Duration = Duration::from_secs(3);

/// The tasks of a shop.
pub(crate) struct Background {
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
    /// `None` once they are shut down.
    alerts: Mutex<Option<Alerts>>,
}

/// What the tasks work with.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) orders: Orders,
    pub(crate) events: Events,
    pub(crate) notifications: Notifications,
    pub(crate) jobs: Jobs,
    /// Whether the cache is warmed at the start.
    pub(crate) warms: bool,
}

impl Background {
    /// Starts everything.
    ///
    /// # Errors
    /// When the monitoring's settings are refused.
    pub(crate) fn start(
        client: &Client,
        health: &Health,
        work: &Work,
    ) -> Result<Self, redkit::monitor::Error> {
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        let heartbeat = health.watch_task("orders", None)?;
        let (own, stopped) = (work.clone(), stop.subscribe());
        tasks.spawn(async move {
            pack(own, stopped).await;
            heartbeat.finish();
        });
        let heartbeat = health.watch_task("jobs", None)?;
        let (own, stopped) = (work.clone(), stop.subscribe());
        tasks.spawn(async move {
            do_jobs(own, stopped).await;
            heartbeat.finish();
        });
        let heartbeat = health.watch_task("outbox", Some(Duration::from_secs(60)))?;
        let (own, mut stopped) = (work.clone(), stop.subscribe());
        tasks.spawn(async move {
            while !has_stopped(&mut stopped, RELAY).await {
                own.events.relay(&own.orders).await;
                heartbeat.beat();
            }
            heartbeat.finish();
        });
        Ok(Self {
            alerts: Mutex::new(Some(alerts(client, health, work)?)),
            stop,
            tasks: Mutex::new(tasks),
        })
    }

    /// Turns to `true` when the shop is to end.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// The alerts that fire.
    pub(crate) fn firing(&self) -> Vec<Alert> {
        let alerts = self.alerts.lock().unwrap_or_else(PoisonError::into_inner);
        alerts.as_ref().map(Alerts::firing).unwrap_or_default()
    }

    /// Says that the shop is to end: streams to browsers end, nothing new is begun.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Ends everything, in bounded time.
    pub(crate) async fn shutdown(&self) {
        self.stop();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = async move {
            let mut tasks = tasks;
            while let Some(ended) = tasks.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(error = &error as &dyn Error, "a task of the shop failed");
                }
            }
        };
        if tokio::time::timeout(2 * GRACE, ended).await.is_err() {
            tracing::warn!("some of the shop's tasks are cut off");
        }
        let alerts = self
            .alerts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(alerts) = alerts {
            alerts.shutdown(GRACE).await;
        }
    }
}

async fn pack(work: Work, mut stopped: watch::Receiver<bool>) {
    let start = || {
        let (orders, notifications) = (work.orders.clone(), work.notifications.clone());
        work.events.start(orders, notifications)
    };
    let Some(worker) = started("orders", &mut stopped, start).await else {
        return;
    };
    let _ = stopped.wait_for(|stopped| *stopped).await;
    worker.shutdown(GRACE).await;
}

async fn do_jobs(work: Work, mut stopped: watch::Receiver<bool>) {
    let start = || async {
        if work.warms {
            work.jobs
                .ask_for_warming("at-start", "at the start")
                .await?;
        }
        work.jobs.start().await
    };
    let Some((worker, _schedule)) = started("jobs", &mut stopped, start).await else {
        return;
    };
    let _ = stopped.wait_for(|stopped| *stopped).await;
    worker.shutdown(GRACE).await;
}

/// Tries until it has started: a shop opens, and sells from its database, while Redis is not there yet.
async fn started<W, F>(
    what: &str,
    stopped: &mut watch::Receiver<bool>,
    start: impl Fn() -> F,
) -> Option<W>
where
    F: Future<Output = Result<W, redkit::pubsub::Error>>,
{
    loop {
        match start().await {
            Ok(started) => return Some(started),
            Err(error) => tracing::debug!(
                error = &error as &dyn Error,
                what,
                "a worker cannot start yet"
            ),
        }
        if has_stopped(stopped, AGAIN).await {
            return None;
        }
    }
}

/// Waits so long, or until the shop is to end; gives whether it is.
async fn has_stopped(stopped: &mut watch::Receiver<bool>, wait: Duration) -> bool {
    let stopping = stopped.wait_for(|stopped| *stopped);
    tokio::time::timeout(wait, stopping).await.is_ok()
}

/// The alerts: told in the log, by one process of the fleet.
fn alerts(client: &Client, health: &Health, work: &Work) -> Result<Alerts, redkit::monitor::Error> {
    let events = work.events.clone();
    let figures = move || {
        let events = events.clone();
        async move { events.figures().await }
    };
    Alerts::builder(client, "storefront", health)
        .rule(Rule::unhealthy().severity(Severity::Critical))
        .rule(Rule::latency_over(Duration::from_millis(100)))
        // Of the caches and of the servers, whose look-ups of locks and limits find nothing by design: so it is given
        // time, and a window in which a shop that has just opened is not judged.
        .rule(
            Rule::hit_rate_under(0.8)
                .minimum(10_000)
                .for_at_least(Duration::from_secs(300)),
        )
        .rule(Rule::memory_over(1 << 30))
        .rule(Rule::breaker_open())
        .rule(Rule::oldest_pending_over(Duration::from_secs(60)))
        .rule(Rule::dead_letters_over(0))
        .rule(Rule::no_consumers())
        .rule(Rule::lost_locks())
        .figures("cache", "topic", "orders", figures)
        .sink(LogSink)
        .start()
}
