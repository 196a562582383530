//! The metrics of a store: see `docs/metrics.md`.

use metrics::{Counter, counter};

/// Handles of counters, made once.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) found: Counter,
    /// A text that is no id, or an id of an unknown pepper.
    pub(crate) malformed: Counter,
    /// No session has this id: it has ended, or was never issued.
    pub(crate) absent: Counter,
    pub(crate) past_deadline: Counter,
    pub(crate) revoked: Counter,
    pub(crate) committed: Counter,
    /// Changes of a session that has ended.
    pub(crate) gone: Counter,
    pub(crate) rotated: Counter,
    /// Rotations after which the old session may be left until its idle timeout.
    pub(crate) left: Counter,
}

impl Metrics {
    pub(crate) fn new(store: &str) -> Self {
        let store = store.to_owned();
        let load = |result: &'static str| counter!("redkit_session_loads_total", "store" => store.clone(), "result" => result);
        let commit = |outcome: &'static str| counter!("redkit_session_commits_total", "store" => store.clone(), "outcome" => outcome);
        let rotation = |outcome: &'static str| counter!("redkit_session_rotations_total", "store" => store.clone(), "outcome" => outcome);
        Self {
            found: load("found"),
            malformed: load("malformed"),
            absent: load("absent"),
            past_deadline: load("past_deadline"),
            revoked: load("revoked"),
            committed: commit("committed"),
            gone: commit("gone"),
            rotated: rotation("rotated"),
            left: rotation("left"),
        }
    }
}
