//! The layer's metrics. Handles are made once.

use metrics::{Counter, counter};

pub(crate) struct Metrics {
    pub(crate) hits: Counter,
    pub(crate) stale: Counter,
    /// Answers of handlers that were kept, or tried to be.
    pub(crate) filled: Counter,
    /// Answers of handlers for which others waited.
    pub(crate) collapsed: Counter,
    /// Answers of handlers that are not kept.
    pub(crate) passed: Counter,
    /// `only-if-cached`, and it was not.
    pub(crate) refused: Counter,
    pub(crate) not_modified: Counter,
    pub(crate) invalidations: Counter,
    pub(crate) failed_invalidations: Counter,
    /// The cache failed a request, which went on without it.
    pub(crate) errors: Counter,
}

impl Metrics {
    pub(crate) fn new(cache: &str) -> Self {
        let responses = |result: &'static str| {
            let name = "redkit_http_cache_responses_total";
            counter!(name, "cache" => cache.to_owned(), "result" => result)
        };
        let invalidations = |outcome: &'static str| {
            let name = "redkit_http_cache_invalidations_total";
            counter!(name, "cache" => cache.to_owned(), "outcome" => outcome)
        };
        Self {
            hits: responses("hit"),
            stale: responses("stale"),
            filled: responses("filled"),
            collapsed: responses("collapsed"),
            passed: responses("passed"),
            refused: responses("refused"),
            not_modified: counter!("redkit_http_cache_not_modified_total", "cache" => cache.to_owned()),
            invalidations: invalidations("removed"),
            failed_invalidations: invalidations("failed"),
            errors: counter!("redkit_http_cache_errors_total", "cache" => cache.to_owned()),
        }
    }
}
