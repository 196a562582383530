//! [`Sink`]: what writes changes to a database, and what it is given and gives back.

use std::fmt;

use bytes::Bytes;

use super::sink_error::SinkError;

/// Writes changes to your database. Implement it with an `async fn`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not write changes of `{V}`",
    label = "not a sink for these changes",
    note = "implement `Sink<{V}>` with `async fn write(&self, batch: Vec<Change<{V}>>) -> Result<Vec<Verdict>, SinkError>`"
)]
pub trait Sink<V>: Send + Sync + 'static {
    /// Writes a batch and gives a verdict for each change, in the order of the batch. No key is
    /// twice in it, and no other batch with one of its keys is being written.
    ///
    /// The call is in a task of its own. It is dropped at an await when it takes longer than
    /// `sink_timeout`, when the worker loses its lease, and when the worker is dropped.
    ///
    /// # Errors
    /// An error means that nothing is known of any change of the batch: all are tried again, in
    /// smaller batches. So does a panic, and another number of verdicts than of changes.
    fn write(
        &self,
        batch: Vec<Change<V>>,
    ) -> impl Future<Output = Result<Vec<Verdict>, SinkError>> + Send;
}

/// One change of one key.
#[derive(Clone)]
pub struct Change<V> {
    pub(super) key: Bytes,
    pub(super) version: u64,
    pub(super) value: Option<V>,
    pub(super) attempt: u32,
}

impl<V> Change<V> {
    /// The key.
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// The key, when it is text.
    pub fn key_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.key).ok()
    }

    /// The version: larger than that of every earlier change of this key. Store it beside the data,
    /// and refuse a change with a smaller one than is stored. It fits an `i64`.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The new value; `None` when the key was deleted.
    pub fn value(&self) -> Option<&V> {
        self.value.as_ref()
    }

    /// The new value to keep; `None` when the key was deleted.
    pub fn into_value(self) -> Option<V> {
        self.value
    }

    /// Which attempt this is, from 1, as far as is known.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// Shows no value.
impl<V> fmt::Debug for Change<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("version", &self.version)
            .field("is_delete", &self.value.is_none())
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// How the database took a change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It is in the database.
    Written,
    /// The database has a newer version of this key: nothing is to be done.
    Stale,
    /// It failed and may succeed later. After `max_attempts` of them it becomes a dead letter.
    Retry(SinkError),
    /// It will never succeed: it becomes a dead letter at once.
    Reject(SinkError),
}

impl Verdict {
    /// The verdict on a batch of which everything was written.
    pub fn written(changes: usize) -> Vec<Self> {
        vec![Verdict::Written; changes]
    }
}

impl<E: Into<SinkError>> From<Result<(), E>> for Verdict {
    fn from(result: Result<(), E>) -> Self {
        match result {
            Ok(()) => Verdict::Written,
            Err(error) => Verdict::Retry(error.into()),
        }
    }
}
