//! Alerts: [`Alerts`] compares what it sees with [rules](Rule), and tells what begins and ends.
//!
//! ```
//! use std::time::Duration;
//! use redkit_monitor::alerts::{Alerts, LogSink, Rule};
//! use redkit_monitor::{Dependency, Health};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let config = redkit_core::ClientConfig::from_url("embedded://")?;
//! # let client = redkit_core::Client::from_backend(std::sync::Arc::new(redkit_embedded::Embedded::new()), &config)?;
//! let health = Health::builder().dependency(Dependency::soft("cache", &client)).build()?;
//! let alerts = Alerts::builder(&client, "shop", &health)
//!     .rule(Rule::unhealthy())
//!     .rule(Rule::latency_over(Duration::from_millis(100)))
//!     .rule(Rule::hit_rate_under(0.8).minimum(1_000))
//!     .rule(Rule::memory_over(1 << 30))
//!     .sink(LogSink)
//!     .start()?;
//! // … when the program ends:
//! alerts.shutdown(Duration::from_secs(5)).await;
//! # Ok(()) }
//! ```
//!
//! # Once in a fleet
//! Every instance of a program looks for itself. Those that see the same alert at the same time are in one
//! *episode* of it, whose number is part of the alert's [key](Alert::key). A [shared sink](Sink::is_shared) is
//! told by one instance, which holds a claim in Redis while it does so, and the alert is over when the last
//! instance says so. When the instances in which it fires end or die, another one, or the program's next start, tells
//! its end once it has seen for three periods that all is well, or that what the alert is about is there no more;
//! until then the episode goes on. While Redis cannot be asked whether others still fire, an end is held back for three
//! periods and then told; what fires after that, here or elsewhere, is a new episode. An alert is delivered at least once: twice only when an instance dies between
//! delivering and noting it, or while Redis cannot be reached, when every instance delivers, under one key as far
//! as they knew the same before. Receivers tell doubles by the key.

mod alert;
mod compare;
mod delivery;
mod ending;
mod engine;
mod fleet;
mod observation;
mod rule;
mod sink;
#[cfg(feature = "webhook")]
mod webhook;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use metrics::{Counter, Gauge};
use parking_lot::Mutex;
use redkit_core::inspection::{Inspect, Snapshot};
use redkit_core::{Client, ConfigError};
use tokio::time::{Instant, timeout_at};

pub use self::alert::{Alert, AlertState, Context};
use self::delivery::Outlet;
use self::ending::Ending;
use self::engine::Engine;
use self::fleet::Fleet;
use self::observation::Figures;
pub use self::rule::{Rule, Severity};
pub use self::sink::{ChannelSink, LogSink, Sink, SinkError};
#[cfg(feature = "webhook")]
pub use self::webhook::{Template, Webhook, WebhookBuilder};
use crate::error::{Error, check_name};
use crate::health::Health;
use crate::scheduler::{Job, Scheduler};

/// Alerts of this process, which are compared as long as this is held.
///
/// While an alert fires nothing is repeated: a sink is told that it begins and that it is over.
pub struct Alerts {
    scheduler: Scheduler,
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    health: Health,
    figures: Vec<Figures>,
    timeout: Duration,
    needs_servers: bool,
    needs_measures: bool,
    fleet: Arc<Fleet>,
    engine: Mutex<Engine>,
    /// The episodes that this instance is in.
    episodes: Mutex<HashMap<String, u64>>,
    /// The ends that Redis has not been told of, by alert.
    endings: Mutex<HashMap<String, Ending>>,
    /// The alerts that others have left open, and since when that is so as far as this instance has seen.
    left_open: Mutex<HashMap<String, Instant>>,
    /// When the notes of deliveries were last prolonged.
    remembered: Mutex<Instant>,
    outlets: Mutex<Vec<Outlet>>,
    fired: Vec<[Counter; 2]>,
    /// How many alerts of each rule fire.
    firing: Vec<Gauge>,
    evaluations: Counter,
}

impl Alerts {
    /// Settings of alerts about the dependencies of `health`. The instances of a program have one `name`, and
    /// agree through `client`.
    pub fn builder(client: &Client, name: &str, health: &Health) -> AlertsBuilder {
        AlertsBuilder {
            client: client.clone(),
            name: name.to_owned(),
            health: health.clone(),
            rules: Vec::new(),
            figures: Vec::new(),
            sinks: Vec::new(),
            every: Duration::from_secs(10),
            check_failed_after: Duration::from_secs(60),
        }
    }

    /// The alerts that fire in this instance.
    pub fn firing(&self) -> Vec<Alert> {
        self.shared.firing()
    }

    /// Compares no more, and delivers what waits, for at most `grace`. Gives whether all was delivered; what was
    /// not is another instance's to deliver, if it sees the same.
    pub async fn shutdown(self, grace: Duration) -> bool {
        let end = Instant::now() + grace;
        self.scheduler.shutdown(grace).await;
        let _ = timeout_at(end, self.shared.end_all(Instant::now(), Duration::ZERO)).await;
        let episodes = std::mem::take(&mut *self.shared.episodes.lock());
        let left = self.shared.fleet.leave(episodes.into_keys());
        let _ = timeout_at(end, left).await;
        let outlets = std::mem::take(&mut *self.shared.outlets.lock());
        let closed = outlets
            .into_iter()
            .map(|outlet| outlet.close(end.saturating_duration_since(Instant::now())));
        futures_util::future::join_all(closed)
            .await
            .into_iter()
            .all(|all| all)
    }
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alerts")
            .field("name", &self.shared.name)
            .field("firing", &self.firing().len())
            .finish_non_exhaustive()
    }
}

/// Settings of [`Alerts`].
#[must_use = "it does nothing until `start`"]
pub struct AlertsBuilder {
    client: Client,
    name: String,
    health: Health,
    rules: Vec<Rule>,
    figures: Vec<Figures>,
    sinks: Vec<Arc<dyn Sink>>,
    every: Duration,
    check_failed_after: Duration,
}

impl AlertsBuilder {
    /// Adds a rule.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Adds figures that the program reads itself at every look, for the rules about patterns. Objects of redkit need none:
    /// what topics keep at the server is [measured](Inspect::measure) at every look for the rules that are about it. They
    /// have the time of a look; an error is an alert of its own (`check_failed`), and resolves nothing.
    ///
    /// ```
    /// # async fn oldest_email() -> Result<std::time::Duration, std::io::Error> { Ok(Default::default()) }
    /// use redkit_core::inspection::Snapshot;
    /// use redkit_monitor::alerts::{AlertsBuilder, Rule};
    ///
    /// fn about_emails(alerts: AlertsBuilder) -> AlertsBuilder {
    ///     let limit = std::time::Duration::from_secs(60);
    ///     alerts.rule(Rule::oldest_pending_over(limit)).figures("orders", "topic", "emails", || async {
    ///         let oldest = oldest_email().await.map_err(|error| error.to_string())?;
    ///         Ok(Snapshot::default().fact("oldest_pending", oldest).fact("consumers", 2_u64))
    ///     })
    /// }
    /// ```
    pub fn figures<F>(
        mut self,
        dependency: &str,
        kind: &'static str,
        name: &str,
        read: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Snapshot, String>> + Send + 'static,
    {
        self.figures.push(Figures {
            dependency: dependency.to_owned(),
            kind,
            name: name.to_owned(),
            read: Box::new(move || Box::pin(read())),
        });
        self
    }

    /// Adds a sink.
    pub fn sink(mut self, sink: impl Sink) -> Self {
        self.sinks.push(Arc::new(sink));
        self
    }

    /// How often everything is looked at. Default: 10 seconds.
    pub fn every(mut self, period: Duration) -> Self {
        self.every = period;
        self
    }

    /// After which time it is an alert of its own (`check_failed`) that figures cannot be read. Default: a
    /// minute.
    pub fn check_failed_after(mut self, time: Duration) -> Self {
        self.check_failed_after = time;
        self
    }

    /// Starts comparing, at once and then periodically. Must be called from within a runtime.
    ///
    /// # Errors
    /// [`Error::Core`] with the setting that cannot work.
    pub fn start(mut self) -> Result<Alerts, Error> {
        check_name("name", &self.name)?;
        let limits = Duration::from_millis(100)..=Duration::from_secs(3_600);
        if !limits.contains(&self.every) {
            return Err(ConfigError::new(
                "every",
                format!("it is {:?}", self.every),
                "choose 100 ms to an hour",
            )
            .into());
        }
        self.rules.push(Rule::check_failed(self.check_failed_after));
        for (index, rule) in self.rules.iter().enumerate() {
            rule.check()?;
            rule.check_latency(self.health.timeout())?;
            let is_other = |other: &Rule| other.name == rule.name;
            if self.rules.iter().take(index).any(is_other) {
                let problem = format!("there are two of the name `{}`", rule.name);
                return Err(ConfigError::new(
                    "rule",
                    problem,
                    "give each a name of its own, by `Rule::named`",
                )
                .into());
            }
            if let Some(of) = &rule.dependency
                && !self.health.dependencies().any(|(name, _)| name == of)
            {
                let problem = format!("`{}` is about `{of}`, which is no dependency", rule.name);
                return Err(
                    ConfigError::new("rule", problem, "name a dependency of the `Health`").into(),
                );
            }
        }
        for figures in &self.figures {
            check_name("figures", &figures.name)?;
            if !self
                .health
                .dependencies()
                .any(|(name, _)| name == figures.dependency)
            {
                let problem = format!(
                    "`{}` is of `{}`, which is no dependency",
                    figures.name, figures.dependency
                );
                return Err(ConfigError::new(
                    "figures",
                    problem,
                    "name a dependency of the `Health`",
                )
                .into());
            }
        }
        for (index, sink) in self.sinks.iter().enumerate() {
            check_name("sink", sink.name())?;
            if sink.is_shared()
                && self
                    .sinks
                    .iter()
                    .take(index)
                    .any(|other| other.name() == sink.name())
            {
                let problem = format!("there are two of the name `{}`", sink.name());
                return Err(
                    ConfigError::new("sink", problem, "give each a name of its own").into(),
                );
            }
        }
        self.begin()
    }

    fn begin(self) -> Result<Alerts, Error> {
        // An instance that has not said for three periods that it fires has died.
        let alive = (self.every * 3).max(Duration::from_secs(10));
        let fleet = Arc::new(Fleet::new(&self.client, &self.name, alive)?);
        let fired = |rule: &Rule| {
            ["firing", "resolved"].map(|state| {
                metrics::counter!("redkit_alerts_total", "rule" => rule.name.clone(), "state" => state)
            })
        };
        let outlets = self
            .sinks
            .iter()
            .map(|sink| Outlet::start(Arc::clone(sink), Arc::clone(&fleet)));
        let shared = Arc::new(Shared {
            health: self.health,
            figures: self.figures,
            timeout: self.every.min(Duration::from_secs(2)),
            needs_servers: self.rules.iter().any(|rule| rule.condition.needs_servers()),
            needs_measures: self.rules.iter().any(|rule| rule.condition.needs_measures()),
            outlets: Mutex::new(outlets.collect()),
            fired: self.rules.iter().map(fired).collect(),
            firing: self.rules.iter().map(|rule| {
                metrics::gauge!("redkit_alerts_firing", "rule" => rule.name.clone(), "severity" => rule.severity.as_str())
            }).collect(),
            evaluations: metrics::counter!("redkit_alert_evaluations_total", "alerts" => self.name.clone()),
            engine: Mutex::new(Engine::new(self.rules)),
            episodes: Mutex::default(),
            endings: Mutex::default(),
            left_open: Mutex::default(),
            remembered: Mutex::new(Instant::now()),
            name: self.name,
            fleet,
        });
        self.client
            .register(Arc::downgrade(&shared) as Weak<dyn Inspect>);
        let scheduler = Scheduler::new();
        let job =
            // The scheduler has no other.
            Job::new("alerts", self.every).first_after(Duration::ZERO);
        let work = Arc::clone(&shared);
        scheduler.add(job, move || {
            let shared = Arc::clone(&work);
            async move { shared.compare().await }
        })?;
        Ok(Alerts { scheduler, shared })
    }
}

impl fmt::Debug for AlertsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlertsBuilder")
            .field("name", &self.name)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}
