//! [`LoadOutcome`]: how a load ended, for the callers that wait for it.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::fetched::Source;
use crate::id::Id;

/// How a load ended, for the callers that wait for it.
pub(crate) enum LoadOutcome<V> {
    Value {
        value: Option<Arc<V>>,
        source: Source,
        /// Its entry, if it was kept.
        entry: Option<Id>,
        /// Whether a caller that has seen this entry, and asked for another, takes it: the source has been asked, and has
        /// nothing newer.
        is_final: bool,
    },
    /// Nothing was loaded, because the source failed lately or another process loads: callers that
    /// have a value use that, and the next attempt is due in so long.
    Resting(Duration),
    /// The load of another process that was waited for has failed, or takes too long: callers that have a value use that,
    /// also one that they did not take.
    GivenUp,
    Failed(Error),
}

impl<V> Clone for LoadOutcome<V> {
    fn clone(&self) -> Self {
        match self {
            LoadOutcome::Value {
                value,
                source,
                entry,
                is_final,
            } => LoadOutcome::Value {
                value: value.clone(),
                source: *source,
                entry: *entry,
                is_final: *is_final,
            },
            LoadOutcome::Resting(left) => LoadOutcome::Resting(*left),
            LoadOutcome::GivenUp => LoadOutcome::GivenUp,
            LoadOutcome::Failed(error) => LoadOutcome::Failed(error.clone()),
        }
    }
}
