//! A database for the tests of write-behind: it records every change that it applied, in order, and
//! fails as it is told to.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use redkit_cache::write_behind::{Change, Sink, SinkError, Verdict};
use tokio::sync::Notify;

/// What a call of the database does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Mood {
    Fine,
    /// This key is refused, and may succeed later.
    Fails(&'static str),
    /// This key is refused for good.
    Rejects(&'static str),
    /// A batch with this key panics.
    PanicsAt(&'static str),
    /// A batch with this key never ends.
    HangsAt(&'static str),
    /// A batch with this key gets too few verdicts.
    ForgetsAt(&'static str),
    /// The connection to it fails.
    Errs,
    /// As a whole.
    Down,
    /// Every call waits until it is let through.
    Held,
    /// The same, and then this key is refused.
    HeldThenFails(&'static str),
}

#[derive(Debug, Clone)]
pub(crate) struct Database(Arc<State>);

#[derive(Debug)]
struct State {
    mood: Mutex<Mood>,
    rows: Mutex<HashMap<String, (u64, Option<u64>)>>,
    applied: Mutex<Vec<Applied>>,
    batches: Mutex<Vec<usize>>,
    /// Whether it refuses versions older than what it has.
    is_fenced: bool,
    /// A call has begun.
    pub(crate) called: Notify,
    pub(crate) go: Notify,
}

/// One change, as it was applied.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Applied {
    pub(crate) key: String,
    pub(crate) version: u64,
    pub(crate) value: Option<u64>,
}

impl Database {
    pub(crate) fn new() -> Self {
        Self::with_fence(false)
    }

    pub(crate) fn with_fence(is_fenced: bool) -> Self {
        Self(Arc::new(State {
            mood: Mutex::new(Mood::Fine),
            rows: Mutex::default(),
            applied: Mutex::default(),
            batches: Mutex::default(),
            is_fenced,
            called: Notify::new(),
            go: Notify::new(),
        }))
    }

    pub(crate) fn mood(&self, mood: Mood) {
        *self.0.mood.lock() = mood;
    }

    /// Lets one held call through.
    pub(crate) fn go(&self) {
        self.0.go.notify_one();
    }

    /// Waits until a call has begun that was not waited for yet.
    pub(crate) async fn called(&self) {
        self.0.called.notified().await;
    }

    pub(crate) fn row(&self, key: &str) -> Option<u64> {
        self.0.rows.lock().get(key).and_then(|(_, value)| *value)
    }

    /// Whether there is, or was, anything at the key.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.0.rows.lock().contains_key(key)
    }

    /// For loaders.
    pub(crate) async fn load(self, key: String) -> Result<u64, NoRow> {
        self.row(&key).ok_or(NoRow)
    }

    pub(crate) fn applied(&self) -> Vec<Applied> {
        self.0.applied.lock().clone()
    }

    pub(crate) fn values_of(&self, key: &str) -> Vec<Option<u64>> {
        let applied = self.applied().into_iter();
        applied.filter(|a| a.key == key).map(|a| a.value).collect()
    }

    /// The sizes of the batches that it was given.
    pub(crate) fn batches(&self) -> Vec<usize> {
        self.0.batches.lock().clone()
    }

    pub(crate) fn apply(&self, change: &Change<u64>) -> Verdict {
        let key = change.key_str().unwrap().to_owned();
        let (version, value) = (change.version(), change.value().copied());
        let mut rows = self.0.rows.lock();
        if self.0.is_fenced && rows.get(&key).is_some_and(|(newest, _)| *newest > version) {
            return Verdict::Stale;
        }
        rows.insert(key.clone(), (version, value));
        self.0.applied.lock().push(Applied {
            key,
            version,
            value,
        });
        Verdict::Written
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no such row")]
pub(crate) struct NoRow;

impl Sink<u64> for Database {
    async fn write(&self, batch: Vec<Change<u64>>) -> Result<Vec<Verdict>, SinkError> {
        self.0.batches.lock().push(batch.len());
        let mood = self.0.mood.lock().clone();
        self.0.called.notify_one();
        let holds = |key: &str| batch.iter().any(|change| change.key_str() == Some(key));
        match mood {
            Mood::PanicsAt(key) if holds(key) => panic!("the sink's own panic, wanted here"),
            Mood::HangsAt(key) if holds(key) => std::future::pending().await,
            Mood::ForgetsAt(key) if holds(key) => return Ok(Verdict::written(batch.len() - 1)),
            Mood::Errs => return Err(SinkError::new("lost postgres://shop:hunter2@db/shop")),
            Mood::Down => return Err(SinkError::unavailable("connection refused")),
            Mood::Held | Mood::HeldThenFails(_) => self.0.go.notified().await,
            _ => {}
        }
        Ok(batch
            .iter()
            .map(|change| match &mood {
                Mood::Fails(key) | Mood::HeldThenFails(key) if change.key_str() == Some(key) => {
                    Verdict::Retry(SinkError::new("deadlock"))
                }
                Mood::Rejects(key) if change.key_str() == Some(key) => {
                    Verdict::Reject(SinkError::new("violates a constraint"))
                }
                _ => self.apply(change),
            })
            .collect())
    }
}
