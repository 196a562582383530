//! [`Spans`]: what a subscriber of traces would see.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

/// A span, by what it was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordedSpan {
    /// Its fields as texts.
    pub fields: BTreeMap<&'static str, String>,
    /// The field `otel.name` of the span around it, when that is one of the target's as well.
    pub parent: Option<String>,
}

impl RecordedSpan {
    /// A field, if the span was given it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

/// The spans of some targets that were begun on this thread, while [`Listening`] lives.
#[derive(Debug, Clone)]
pub struct Spans {
    targets: &'static [&'static str],
    /// By the subscriber's ids, in the order in which they were begun.
    recorded: Arc<Mutex<Vec<(u64, RecordedSpan)>>>,
}

/// Spans are recorded as long as this lives.
pub struct Listening {
    _subscriber: DefaultGuard,
    /// While there is only one subscriber, `tracing` asks the thread that first comes to a span whether anybody listens: a
    /// thread of another test would say no for all threads.
    _second: Dispatch,
}

impl Spans {
    /// Records spans of these targets on this thread.
    pub fn listen(targets: &'static [&'static str]) -> (Self, Listening) {
        let spans = Self {
            targets,
            recorded: Arc::default(),
        };
        let second = Dispatch::new(Registry::default());
        let registry = Registry::default().with(spans.clone());
        let listening = Listening {
            _subscriber: tracing::subscriber::set_default(registry),
            _second: second,
        };
        (spans, listening)
    }

    /// The spans since the last time, in the order in which they were begun.
    pub fn take(&self) -> Vec<RecordedSpan> {
        let recorded = std::mem::take(&mut *self.recorded.lock());
        recorded.into_iter().map(|(_, span)| span).collect()
    }
}

struct Into<'f>(&'f mut RecordedSpan);

impl Visit for Into<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.fields.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.fields.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if !self.targets.contains(&attributes.metadata().target()) {
            return;
        }
        let around = context.span(id).and_then(|span| span.parent());
        let around = around.map(|span| span.id().into_u64());
        let mut recorded = self.recorded.lock();
        let around = around.and_then(|around| recorded.iter().rfind(|(id, _)| *id == around));
        let mut span = RecordedSpan {
            parent: around.and_then(|(_, span)| span.get("otel.name").map(str::to_owned)),
            ..RecordedSpan::default()
        };
        attributes.record(&mut Into(&mut span));
        recorded.push((id.into_u64(), span));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut recorded = self.recorded.lock();
        let id = id.into_u64();
        if let Some((_, span)) = recorded.iter_mut().rfind(|(known, _)| *known == id) {
            values.record(&mut Into(span));
        }
    }
}
