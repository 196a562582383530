//! [`Current`]: what a read through a write-behind queue finds.

use crate::fetched::Fetched;

/// The state of a key now, and where it was found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Current<V> {
    /// A value that was accepted and is not in the database yet.
    Pending(V),
    /// A delete that was accepted and is not in the database yet.
    Deleted,
    /// Nothing is pending: the cache or the database had it.
    Fetched(Fetched<V>),
}

impl<V: Clone> Current<V> {
    /// The value; `None` after a delete.
    pub fn into_value(self) -> Option<V> {
        match self {
            Current::Pending(value) => Some(value),
            Current::Deleted => None,
            Current::Fetched(fetched) => Some(fetched.into_value()),
        }
    }
}
