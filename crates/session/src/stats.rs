//! The metrics of a store: see `docs/metrics.md`.

use std::sync::Arc;

use metrics::counter;
use redkit_core::Tally;

/// Counters, made once.
pub(crate) struct Metrics {
    pub(crate) found: Tally,
    /// A text that is no id, or an id of an unknown pepper.
    pub(crate) malformed: Tally,
    /// No session has this id: it has ended, or was never issued.
    pub(crate) absent: Tally,
    pub(crate) past_deadline: Tally,
    pub(crate) revoked: Tally,
    pub(crate) committed: Tally,
    /// Changes of a session that has ended.
    pub(crate) gone: Tally,
    pub(crate) rotated: Tally,
    /// Rotations after which the old session may be left until its idle timeout, since no answer came for so
    /// long.
    pub(crate) left: Arc<Tally>,
    /// Sign-ins and rotations after which Redis could not be told in time what was to end, or to be given back.
    pub(crate) given_up: Arc<Tally>,
}

impl Metrics {
    pub(crate) fn new(store: &str) -> Self {
        let store = store.to_owned();
        let load = |result: &'static str| {
            Tally::new(
                counter!("redkit_session_loads_total", "store" => store.clone(), "result" => result),
            )
        };
        let commit = |outcome: &'static str| {
            Tally::new(
                counter!("redkit_session_commits_total", "store" => store.clone(), "outcome" => outcome),
            )
        };
        let rotation = |outcome: &'static str| {
            Tally::new(
                counter!("redkit_session_rotations_total", "store" => store.clone(), "outcome" => outcome),
            )
        };
        Self {
            found: load("found"),
            malformed: load("malformed"),
            absent: load("absent"),
            past_deadline: load("past_deadline"),
            revoked: load("revoked"),
            committed: commit("committed"),
            gone: commit("gone"),
            rotated: rotation("rotated"),
            left: Arc::new(rotation("left")),
            given_up: Arc::new(rotation("given_up")),
        }
    }
}
