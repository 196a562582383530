//! What the processes of a fleet did, and what they know of it: [`Operation`], [`History`] and the
//! [`Recorder`] that writes one.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// A process of a fleet, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u32);

impl ProcessId {
    /// Its number, as an index.
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.0)
    }
}

/// What a caller may conclude about an operation that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome<R> {
    /// It was certainly not carried out.
    NotSent,
    /// It may have been carried out, may yet be, or may never be.
    Maybe,
    /// It was carried out between its start and its end, and this was the reply.
    Replied(R),
}

impl<R> Outcome<R> {
    /// The outcome of a call of redkit's core. An error that the server replied counts as not carried out:
    /// redkit's scripts refuse before they write.
    ///
    /// ```
    /// use redkit_core::Error;
    /// use redkit_testkit::simulation::history::Outcome;
    ///
    /// let answered: Result<i64, Error> = Ok(7);
    /// assert_eq!(Outcome::of(answered, Error::is_maybe), Outcome::Replied(7));
    /// ```
    pub fn of<E>(result: Result<R, E>, is_maybe: impl FnOnce(&E) -> bool) -> Self {
        match result {
            Ok(reply) => Outcome::Replied(reply),
            Err(error) if is_maybe(&error) => Outcome::Maybe,
            Err(_) => Outcome::NotSent,
        }
    }

    /// The reply, if there was one.
    pub fn reply(&self) -> Option<&R> {
        match self {
            Outcome::Replied(reply) => Some(reply),
            Outcome::NotSent | Outcome::Maybe => None,
        }
    }

    /// The same with another reply.
    pub fn map<S>(self, reply: impl FnOnce(R) -> S) -> Outcome<S> {
        match self {
            Outcome::NotSent => Outcome::NotSent,
            Outcome::Maybe => Outcome::Maybe,
            Outcome::Replied(replied) => Outcome::Replied(reply(replied)),
        }
    }
}

/// One operation of one process. Times are the world's, since its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Operation<C, R> {
    /// The process that called.
    pub process: ProcessId,
    /// When it called.
    pub start: Duration,
    /// When it knew the outcome; `None` when it died before that.
    pub end: Option<Duration>,
    /// What it called.
    pub call: C,
    /// What came of it.
    pub outcome: Outcome<R>,
}

/// The operations of a fleet, in the order in which they were begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History<C, R> {
    operations: Vec<Operation<C, R>>,
}

impl<C, R> Default for History<C, R> {
    fn default() -> Self {
        Self {
            operations: Vec::new(),
        }
    }
}

impl<C, R> History<C, R> {
    /// An empty history.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an operation, where its start belongs.
    pub fn push(&mut self, operation: Operation<C, R>) {
        let later = |other: &Operation<C, R>| other.start <= operation.start;
        let place = self.operations.partition_point(later);
        self.operations.insert(place, operation);
    }

    /// The operations by their start.
    pub fn operations(&self) -> &[Operation<C, R>] {
        &self.operations
    }

    /// A history for each key, for guarantees that hold for each key alone.
    ///
    /// ```
    /// use std::time::Duration;
    /// use redkit_testkit::simulation::history::{History, Operation, Outcome, ProcessId};
    ///
    /// let mut history = History::new();
    /// for (second, key) in [(1, "a"), (2, "b"), (3, "a")] {
    ///     history.push(Operation {
    ///         process: ProcessId(0),
    ///         start: Duration::from_secs(second),
    ///         end: Some(Duration::from_secs(second)),
    ///         call: (key, second),
    ///         outcome: Outcome::Replied(()),
    ///     });
    /// }
    /// let of_keys = history.partition(|(key, _)| *key);
    /// assert_eq!(of_keys["a"].operations().len(), 2);
    /// ```
    pub fn partition<K: Ord>(self, key: impl Fn(&C) -> K) -> BTreeMap<K, Self> {
        let mut partitions: BTreeMap<K, Self> = BTreeMap::new();
        for operation in self.operations {
            let partition = partitions.entry(key(&operation.call)).or_default();
            partition.operations.push(operation);
        }
        partitions
    }

    /// A number that is the same for the same history, in every process: two runs of one seed have the same.
    pub fn digest(&self) -> u64
    where
        C: Hash,
        R: Hash,
    {
        // `new` has fixed keys, other than the hasher of a map.
        let mut hasher = DefaultHasher::new();
        self.operations.hash(&mut hasher);
        hasher.finish()
    }
}

impl<C, R> FromIterator<Operation<C, R>> for History<C, R> {
    fn from_iter<I: IntoIterator<Item = Operation<C, R>>>(operations: I) -> Self {
        let mut operations: Vec<_> = operations.into_iter().collect();
        operations.sort_by_key(|operation| operation.start);
        Self { operations }
    }
}

/// Writes the history of a fleet. Clones write the same one. Times are given, so that it serves every clock.
///
/// ```
/// use std::time::Duration;
/// use redkit_testkit::simulation::history::{Outcome, ProcessId, Recorder};
///
/// let second = Duration::from_secs;
/// let recorder = Recorder::new();
/// let pending = recorder.begin(ProcessId(3), second(1), "increment");
/// // … call …
/// pending.ended(second(2), Outcome::Replied(1));
/// drop(recorder.begin(ProcessId(4), second(3), "increment")); // the process is killed in its call
///
/// let history = recorder.history();
/// assert_eq!(history.operations()[0].outcome, Outcome::Replied(1));
/// assert_eq!(history.operations()[1].outcome, Outcome::Maybe);
/// assert_eq!(history.operations()[1].end, None);
/// ```
pub struct Recorder<C, R> {
    operations: Operations<C, R>,
}

type Operations<C, R> = Arc<Mutex<Vec<Operation<C, R>>>>;

impl<C, R> Clone for Recorder<C, R> {
    fn clone(&self) -> Self {
        Self {
            operations: Arc::clone(&self.operations),
        }
    }
}

impl<C, R> Default for Recorder<C, R> {
    fn default() -> Self {
        Self {
            operations: Arc::default(),
        }
    }
}

impl<C, R> Recorder<C, R> {
    /// An empty history.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that a process calls, before it does.
    pub fn begin(&self, process: ProcessId, start: Duration, call: C) -> Pending<C, R> {
        let mut operations = self.operations.lock();
        let index = operations.len();
        operations.push(Operation {
            process,
            start,
            end: None,
            call,
            outcome: Outcome::Maybe,
        });
        Pending {
            operations: Arc::clone(&self.operations),
            index,
        }
    }

    /// The history so far. Operations that were begun and have not ended are [`Maybe`](Outcome::Maybe), and
    /// have no end.
    pub fn history(&self) -> History<C, R>
    where
        C: Clone,
        R: Clone,
    {
        self.operations.lock().iter().cloned().collect()
    }
}

/// An operation under way, from [`Recorder::begin`]. Dropped before its end it stays without one: its process
/// died.
#[must_use = "an operation without an end counts as one whose process died"]
pub struct Pending<C, R> {
    operations: Operations<C, R>,
    index: usize,
}

impl<C, R> Pending<C, R> {
    /// The operation has ended.
    pub fn ended(self, end: Duration, outcome: Outcome<R>) {
        if let Some(operation) = self.operations.lock().get_mut(self.index) {
            operation.end = Some(end);
            operation.outcome = outcome;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(second: u64, call: &'static str) -> Operation<&'static str, u32> {
        Operation {
            process: ProcessId(0),
            start: Duration::from_secs(second),
            end: Some(Duration::from_secs(second + 1)),
            call,
            outcome: Outcome::Replied(1),
        }
    }

    #[test]
    fn operations_are_in_the_order_of_their_starts() {
        let mut history: History<_, _> = [operation(5, "late"), operation(1, "early")]
            .into_iter()
            .collect();
        history.push(operation(3, "between"));
        let calls: Vec<_> = history.operations().iter().map(|op| op.call).collect();
        assert_eq!(calls, ["early", "between", "late"]);
    }

    #[test]
    fn a_digest_tells_histories_apart() {
        let one: History<_, _> = [operation(1, "a")].into_iter().collect();
        let same: History<_, _> = [operation(1, "a")].into_iter().collect();
        let other: History<_, _> = [operation(2, "a")].into_iter().collect();
        assert_eq!(one.digest(), same.digest());
        assert_ne!(one.digest(), other.digest());
    }

    #[test]
    fn outcomes_follow_from_results() {
        let maybe = |error: &&str| *error == "lost";
        assert_eq!(Outcome::of(Ok(1), maybe), Outcome::Replied(1));
        assert_eq!(Outcome::<u32>::of(Err("lost"), maybe), Outcome::Maybe);
        assert_eq!(Outcome::<u32>::of(Err("refused"), maybe), Outcome::NotSent);
    }
}
