//! What is known of the request that a task is serving: who the visitor is, and what the toolkit did for it.
//! Pages show both around their content.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

tokio::task_local! {
    static CONTEXT: Arc<Context>;
}

/// Figures of a request for the browser's tools (W3C Server Timing).
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// One request.
#[derive(Debug)]
struct Context {
    started: Instant,
    round_trips: AtomicU32,
    notes: Mutex<Vec<Note>>,
    viewer: OnceLock<Viewer>,
    basket: AtomicU32,
}

/// A visitor who is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Viewer {
    pub(crate) name: String,
    pub(crate) is_staff: bool,
}

/// Something that a pattern did for the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) pattern: Pattern,
    pub(crate) text: Cow<'static, str>,
}

/// The patterns that the shop uses, each with a guide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pattern {
    Cache,
    Encryption,
    Inbox,
    Limit,
    Lock,
    Once,
    Session,
    Topic,
}

impl Pattern {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Pattern::Cache => "cache",
            Pattern::Encryption => "encryption",
            Pattern::Inbox => "inbox",
            Pattern::Limit => "rate limit",
            Pattern::Lock => "lock",
            Pattern::Once => "idempotency",
            Pattern::Session => "session",
            Pattern::Topic => "topic",
        }
    }

    /// The name of its guide at `/guides`.
    pub(crate) fn guide(self) -> &'static str {
        match self {
            Pattern::Cache => "cache",
            Pattern::Encryption => "core",
            Pattern::Inbox | Pattern::Topic => "pubsub",
            Pattern::Limit => "ratelimit",
            Pattern::Lock | Pattern::Once => "lock",
            Pattern::Session => "session",
        }
    }
}

/// What a page shows of its request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Summary {
    pub(crate) viewer: Option<Viewer>,
    /// How many units are in the basket.
    pub(crate) basket: u32,
    pub(crate) notes: Vec<Note>,
    pub(crate) round_trips: u32,
    pub(crate) took: Duration,
}

/// Middleware, the outermost: everything that it wraps can [`note`].
pub(crate) async fn layer(request: Request, next: Next) -> Response {
    let context = Arc::new(Context {
        started: Instant::now(),
        round_trips: AtomicU32::new(0),
        notes: Mutex::default(),
        viewer: OnceLock::new(),
        basket: AtomicU32::new(0),
    });
    let mut response = CONTEXT.scope(Arc::clone(&context), next.run(request)).await;
    let trips = context.round_trips.load(Ordering::Relaxed);
    let millis = context.started.elapsed().as_secs_f64() * 1000.0;
    let timing = format!("redis;desc=\"{trips} round trips\", total;dur={millis:.1}");
    if let Ok(timing) = HeaderValue::try_from(timing) {
        response.headers_mut().insert(SERVER_TIMING, timing);
    }
    response
}

/// Counts a round trip to Redis that the request waits for. What goes on in tasks of their own, such as a load
/// that several visitors share, is nobody's round trip.
pub(crate) fn round_trip() {
    let _ = CONTEXT.try_with(|context| context.round_trips.fetch_add(1, Ordering::Relaxed));
}

/// Notes what a pattern did. Outside of a request it does nothing.
pub(crate) fn note(pattern: Pattern, text: impl Into<Cow<'static, str>>) {
    let _ = CONTEXT.try_with(|context| {
        let mut notes = context.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let text = text.into();
        notes.push(Note { pattern, text });
    });
}

/// Says who the visitor is, once.
pub(crate) fn set_viewer(viewer: Viewer) {
    let _ = CONTEXT.try_with(|context| context.viewer.set(viewer));
}

/// Says how many units are in the visitor's basket.
pub(crate) fn set_basket(units: u32) {
    let _ = CONTEXT.try_with(|context| context.basket.store(units, Ordering::Relaxed));
}

/// What is known so far.
pub(crate) fn summary() -> Summary {
    let summary = CONTEXT.try_with(|context| Summary {
        viewer: context.viewer.get().cloned(),
        basket: context.basket.load(Ordering::Relaxed),
        notes: context
            .notes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone(),
        round_trips: context.round_trips.load(Ordering::Relaxed),
        took: context.started.elapsed(),
    });
    summary.unwrap_or_default()
}
