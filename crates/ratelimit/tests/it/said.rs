//! [`Said`]: the messages of the crate that a test counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How often the crate's messages were heard.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) begun: AtomicUsize,
    pub(crate) ended: AtomicUsize,
    pub(crate) pattern_routes: AtomicUsize,
}

struct Listens(Arc<Said>);

/// Listens to this thread. While there is but one subscriber, a message that another thread reaches first is taken to
/// interest nobody, and is not heard of here either: so there are two.
pub(crate) fn listen(said: &Arc<Said>) -> (tracing::subscriber::DefaultGuard, tracing::Dispatch) {
    let second = tracing::Dispatch::new(Listens(Arc::default()));
    let listening = Listens(Arc::clone(said));
    (tracing::subscriber::set_default(listening), second)
}

impl tracing::Subscriber for Listens {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "redkit::ratelimit"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Message(String);
        impl tracing::field::Visit for Message {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        match message.0.as_str() {
            "the server cannot be asked" => self.0.begun.fetch_add(1, Ordering::Relaxed),
            "the server is asked again" => self.0.ended.fetch_add(1, Ordering::Relaxed),
            "a route's path is text and no pattern: no request may ever have it" => {
                self.0.pattern_routes.fetch_add(1, Ordering::Relaxed)
            }
            _ => 0,
        };
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
