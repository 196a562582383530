//! The exporter: everything that this process counts, and its servers' figures, for Prometheus.
//!
//! ```
//! use redkit_monitor::prometheus::{self, Exporter};
//! use redkit_monitor::{Dependency, Health};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Before any client is built: handles of metrics are made once.
//! let recorder = prometheus::install()?;
//! # let config = redkit_core::ClientConfig::from_url("embedded://")?;
//! # let client = redkit_core::Client::from_backend(std::sync::Arc::new(redkit_embedded::Embedded::new()), &config)?;
//! let health = Health::builder().dependency(Dependency::soft("cache", &client)).build()?;
//! let exporter = Exporter::new(recorder, &health)?;
//! let text = exporter.render().await;
//! assert!(text.contains("redis_up{dependency=\"cache\",server=\"embedded\"} 1"));
//! # Ok(()) }
//! ```
//!
//! `docs/metrics.md` lists every metric; `docs/grafana` has a dashboard and `docs/prometheus` rules for alerts.

mod descriptions;
mod durations;
mod recorder;
mod servers;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
pub use metrics_exporter_prometheus::{PrometheusHandle, PrometheusRecorder};
use redkit_core::ConfigError;

pub use self::descriptions::METRICS;
pub use self::recorder::{Recorder, RecorderHandle};
pub use self::servers::{SERVER_METRICS, ServerMetric};
use crate::error::Error;
use crate::health::Health;
use crate::scheduler::Scheduler;
use crate::shared_answer::SharedAnswer;

/// Bounds of the classes of durations, in seconds: those of OpenTelemetry's `db.client.operation.duration`, and
/// three below a millisecond, where most calls of Redis end.
pub const DURATION_BUCKETS: [f64; 12] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0,
];

/// How often what summaries have taken in is summed up, when nobody asks.
const UPKEEP: Duration = Duration::from_secs(5);

/// A recorder whose durations have [`DURATION_BUCKETS`] and which knows what redkit's metrics are, to be installed by
/// yourself.
pub fn recorder() -> Recorder {
    Recorder::new()
}

/// Makes a [`recorder`] this process's recorder of metrics, and gives what an [`Exporter`] needs.
///
/// # Errors
/// [`Error::Core`] when the process has a recorder already.
pub fn install() -> Result<RecorderHandle, Error> {
    let recorder = recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| {
        ConfigError::new(
            "recorder",
            "the process has one already",
            "give the `Exporter` that one's handle",
        )
    })?;
    Ok(handle)
}

/// Shows metrics to Prometheus. Cloning is cheap. The servers are asked once per
/// [`fresh_for`](crate::HealthBuilder::fresh_for), however many ask.
#[derive(Clone)]
pub struct Exporter {
    inner: Arc<Inner>,
}

struct Inner {
    handle: RecorderHandle,
    health: Health,
    servers: Arc<SharedAnswer<String>>,
    _upkeep: Scheduler,
}

impl Exporter {
    /// Shows what `handle`'s recorder has counted, and the servers of the dependencies of `health`. Must be
    /// called from within a runtime. The handle may also be a [`PrometheusHandle`], of a recorder that the program
    /// has made itself: it keeps every duration until it is summed up, which costs a call of Redis about a
    /// twentieth of its processor time.
    ///
    /// # Errors
    /// [`Error::Core`], which cannot happen with the settings that there are.
    pub fn new(handle: impl Into<RecorderHandle>, health: &Health) -> Result<Self, Error> {
        let handle = handle.into();
        let upkeep = Scheduler::new();
        let upkept = handle.clone();
        upkeep.every("metrics-upkeep", UPKEEP, move || {
            upkept.run_upkeep();
            std::future::ready(())
        })?;
        Ok(Self {
            inner: Arc::new(Inner {
                handle,
                servers: SharedAnswer::new(health.fresh_for()),
                health: health.clone(),
                _upkeep: upkeep,
            }),
        })
    }

    /// Everything in Prometheus' text format. Ends in time also when servers do not answer: these have
    /// `redis_up` 0.
    pub async fn render(&self) -> String {
        let health = self.inner.health.clone();
        let servers = self.inner.servers.get(move || async move {
            let dependencies: Vec<_> = health.all().cloned().collect();
            let scraped = join_all(dependencies.iter().map(servers::scrape));
            let (report, scraped) = tokio::join!(health.ready(), scraped);
            servers::write(&scraped, &report)
        });
        let servers = servers.await;
        let mut text = self.inner.handle.render();
        text.push_str(servers.as_deref().map_or("", String::as_str));
        text
    }

    /// The route `/metrics`, for `app.merge(exporter.routes())`. It names servers: keep it from the public.
    #[cfg(feature = "axum")]
    pub fn routes<S: Clone + Send + Sync + 'static>(&self) -> axum::Router<S> {
        use axum::http::header::CONTENT_TYPE;

        let exporter = self.clone();
        let route = axum::routing::get(async move || {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            ([(CONTENT_TYPE, kind)], exporter.render().await)
        });
        axum::Router::new().route("/metrics", route)
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter")
            .field("health", &self.inner.health)
            .finish_non_exhaustive()
    }
}
