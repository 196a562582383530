//! The metrics of a layer: see `docs/metrics.md`.

use metrics::{Counter, counter};

/// Counters, made once.
#[derive(Debug, Clone)]
pub(super) struct LayerMetrics {
    pub(super) cross_site: Counter,
    pub(super) without_token: Counter,
}

impl LayerMetrics {
    pub(super) fn new(store: &str) -> Self {
        let store = store.to_owned();
        let rejected = |reason: &'static str| counter!("redkit_session_rejected_requests_total", "store" => store.clone(), "reason" => reason);
        Self {
            cross_site: rejected("cross_site"),
            without_token: rejected("token"),
        }
    }
}
