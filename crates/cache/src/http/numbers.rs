//! What the layer has done: metrics. Handles are made once.

use metrics::{Counter, counter};

pub(super) struct Numbers {
    pub(super) hits: Counter,
    pub(super) stale: Counter,
    /// Answers of handlers that were kept, or tried to be.
    pub(super) filled: Counter,
    /// Answers of handlers for which others waited.
    pub(super) collapsed: Counter,
    /// Answers of handlers that are not kept.
    pub(super) passed: Counter,
    /// `only-if-cached`, and it was not.
    pub(super) refused: Counter,
    pub(super) not_modified: Counter,
    pub(super) invalidations: Counter,
    pub(super) failed_invalidations: Counter,
    /// The cache failed a request, which went on without it.
    pub(super) errors: Counter,
}

impl Numbers {
    pub(super) fn new(cache: &str) -> Self {
        let responses = |result: &'static str| {
            let name = "redkit_cache_responses_total";
            counter!(name, "cache" => cache.to_owned(), "result" => result)
        };
        let invalidations = |outcome: &'static str| {
            let name = "redkit_cache_response_invalidations_total";
            counter!(name, "cache" => cache.to_owned(), "outcome" => outcome)
        };
        Self {
            hits: responses("hit"),
            stale: responses("stale"),
            filled: responses("filled"),
            collapsed: responses("collapsed"),
            passed: responses("passed"),
            refused: responses("refused"),
            not_modified: counter!("redkit_cache_responses_not_modified_total", "cache" => cache.to_owned()),
            invalidations: invalidations("removed"),
            failed_invalidations: invalidations("failed"),
            errors: counter!("redkit_cache_response_errors_total", "cache" => cache.to_owned()),
        }
    }
}
