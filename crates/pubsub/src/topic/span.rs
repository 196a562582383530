//! Spans of messages, by OpenTelemetry's semantic conventions for messaging (1.44). They hold no payload, no key and
//! no id that a program gave.

use tracing::Span;
use tracing::field::Empty;

use super::delivery::{Delivery, Outcome};
use super::publication::Published;
use crate::error::Error;

/// The span of a publication, in which its calls to the server are.
pub(super) fn send(topic: &str, messages: usize) -> Span {
    let span = tracing::debug_span!(
        target: "redkit::pubsub",
        "send",
        "otel.name" = Empty,
        // The conventions keep `producer` for spans whose context goes with the message: here the publisher's own does.
        "otel.kind" = "client",
        "otel.status_code" = Empty,
        "messaging.system" = "redis",
        "messaging.operation.name" = "send",
        "messaging.operation.type" = "send",
        "messaging.destination.name" = topic,
        "messaging.message.id" = Empty,
        "messaging.batch.message_count" = Empty,
        "error.type" = Empty,
    );
    if !span.is_disabled() {
        span.record("otel.name", format!("send {topic}"));
        if messages > 1 {
            span.record("messaging.batch.message_count", messages);
        }
    }
    span
}

/// Notes what became of the messages of a publication.
pub(super) fn sent(span: &Span, results: &[Result<Published, Error>]) {
    if span.is_disabled() {
        return;
    }
    if let [
        Ok(Published {
            entry: Some(entry), ..
        }),
    ] = results
    {
        span.record("messaging.message.id", entry.to_string());
    }
    if let Some(error) = results.iter().find_map(|result| result.as_ref().err()) {
        not_sent(span, error);
    }
}

/// Notes that nothing is known of a publication.
pub(super) fn not_sent(span: &Span, error: &Error) {
    span.record("otel.status_code", "ERROR");
    let kind = format!("{:?}", error.kind()).to_lowercase();
    span.record("error.type", kind);
}

/// The span in which a handler runs.
pub(super) fn process<T>(topic: &str, group: &str, deliveries: &[Delivery<T>]) -> Span {
    let span = tracing::debug_span!(
        target: "redkit::pubsub",
        "process",
        "otel.name" = Empty,
        "otel.kind" = "consumer",
        "otel.status_code" = Empty,
        "messaging.system" = "redis",
        "messaging.operation.name" = "process",
        "messaging.operation.type" = "process",
        "messaging.destination.name" = topic,
        "messaging.consumer.group.name" = group,
        "messaging.message.id" = Empty,
        "messaging.batch.message_count" = Empty,
        "error.type" = Empty,
    );
    if !span.is_disabled() {
        span.record("otel.name", format!("process {topic}"));
        match deliveries {
            [delivery] => span.record("messaging.message.id", delivery.entry.to_string()),
            several => span.record("messaging.batch.message_count", several.len()),
        };
    }
    span
}

/// How a handler ended that gave no outcome.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cut {
    Panic,
    Timeout,
}

/// Notes that a handler ended without an outcome.
pub(super) fn cut(span: &Span, how: Cut) {
    span.record("otel.status_code", "ERROR");
    let kind = match how {
        Cut::Panic => "panic",
        Cut::Timeout => "timeout",
    };
    span.record("error.type", kind);
}

/// Notes the outcomes that a handler gave: the first failure of them.
pub(super) fn handled(span: &Span, outcomes: &[Outcome]) {
    let failure = outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Retry { .. } => Some("retry"),
        Outcome::Dead { .. } => Some("dead"),
        Outcome::Ack | Outcome::HandBack => None,
    });
    if let Some(kind) = failure {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", kind);
    }
}
