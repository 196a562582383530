//! [`Recorder`]: what programs count goes here, and [`RecorderHandle`] shows it.

use std::fmt;
use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::descriptions;
use super::durations::Durations;

/// A recorder of metrics for Prometheus, from [`recorder`](super::recorder). Histograms whose names end with
/// `_seconds` have [`DURATION_BUCKETS`](super::DURATION_BUCKETS), and leave out what is no duration: values below zero,
/// infinite ones, and what is no number. Others are summaries, as [`metrics_exporter_prometheus`] makes them.
pub struct Recorder {
    inner: PrometheusRecorder,
    durations: Arc<Durations>,
}

impl Recorder {
    pub(super) fn new() -> Self {
        let recorder = Self {
            inner: PrometheusBuilder::new().build_recorder(),
            durations: Arc::default(),
        };
        descriptions::describe(&recorder);
        recorder
    }

    /// A handle that shows what this recorder has counted.
    pub fn handle(&self) -> RecorderHandle {
        RecorderHandle {
            inner: self.inner.handle(),
            durations: Arc::clone(&self.durations),
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.inner.describe_counter(name, unit, text);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.inner.describe_gauge(name, unit, text);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        match Durations::are_meant(name.as_str()) {
            true => self.durations.describe(name.as_str(), text),
            false => self.inner.describe_histogram(name, unit, text),
        }
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.inner.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.inner.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        match Durations::are_meant(key.name()) {
            true => self.durations.register(key),
            false => self.inner.register_histogram(key, metadata),
        }
    }
}

/// Shows what a recorder has counted: a [`Recorder`] of this crate, or a
/// [`PrometheusRecorder`] that the program has made itself, by its handle.
#[derive(Clone)]
pub struct RecorderHandle {
    inner: PrometheusHandle,
    durations: Arc<Durations>,
}

impl From<PrometheusHandle> for RecorderHandle {
    fn from(inner: PrometheusHandle) -> Self {
        Self {
            inner,
            durations: Arc::default(),
        }
    }
}

impl RecorderHandle {
    /// The counts of the recorder, in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = self.inner.render();
        self.durations.write(&mut text);
        text
    }

    /// Sums up what summaries have taken in, which is kept until then. An [`Exporter`](super::Exporter) does so by
    /// itself.
    pub fn run_upkeep(&self) {
        self.inner.run_upkeep();
    }
}

impl fmt::Debug for RecorderHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecorderHandle").finish_non_exhaustive()
    }
}
