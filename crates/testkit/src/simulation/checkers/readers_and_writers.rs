//! [`ReadersAndWriters`]: many readers, or one writer.

use std::collections::BTreeMap;
use std::time::Duration;

use super::overlap::{Span, first_excess};
use crate::simulation::history::ProcessId;
use crate::simulation::violation::{Violation, earlier};

/// Checks that a writer of a key never met another writer or a reader. Spans are those of
/// [`MutualExclusion`](super::MutualExclusion).
///
/// ```
/// use std::time::Duration;
/// use redkit_testkit::simulation::checkers::ReadersAndWriters;
/// use redkit_testkit::simulation::history::ProcessId;
///
/// let second = Duration::from_secs;
/// let mut locks = ReadersAndWriters::new();
/// locks.read(ProcessId(1), "document", second(1), second(3));
/// locks.read(ProcessId(2), "document", second(2), second(3));
/// locks.wrote(ProcessId(3), "document", second(3), second(4));
/// assert!(locks.check().is_ok());
/// locks.read(ProcessId(1), "document", second(3), second(5));
/// assert!(locks.check().is_err());
/// ```
#[derive(Debug, Clone, Default)]
pub struct ReadersAndWriters {
    held: BTreeMap<String, Vec<Span>>,
}

/// A writer takes all, a reader one of these.
const ALL: u64 = 1 << 32;

impl ReadersAndWriters {
    /// Nothing was held yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A process held a key for reading.
    pub fn read(&mut self, process: ProcessId, key: &str, from: Duration, until: Duration) {
        self.held(process, key, 1, from, until);
    }

    /// A process held a key for writing.
    pub fn wrote(&mut self, process: ProcessId, key: &str, from: Duration, until: Duration) {
        self.held(process, key, ALL, from, until);
    }

    fn held(
        &mut self,
        process: ProcessId,
        key: &str,
        weight: u64,
        from: Duration,
        until: Duration,
    ) {
        self.held.entry(key.to_owned()).or_default().push(Span {
            process,
            from,
            until,
            weight,
        });
    }

    /// # Errors
    /// The first holder that met a writer, or the first writer that met another holder.
    pub fn check(&self) -> Result<(), Violation> {
        let violations = self.held.iter().map(|(key, spans)| {
            let together = first_excess(spans, ALL)?;
            let holders: Vec<&Span> = together.iter().filter_map(|at| spans.get(*at)).collect();
            let last = holders.last()?.from;
            let mut violation = Violation::new("many readers or one writer", last);
            for span in holders {
                let verb = if span.weight == ALL {
                    "writes"
                } else {
                    "reads"
                };
                let text = format!("{verb} `{key}` until {:.6} s", span.until.as_secs_f64());
                violation = violation.event(span.from, span.process, text);
            }
            Some(violation)
        });
        violations.fold(None, earlier).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn many_readers_are_accepted() {
        let mut locks = ReadersAndWriters::new();
        for process in 0..100 {
            locks.read(ProcessId(process), "a", second(1), second(2));
        }
        locks.wrote(ProcessId(0), "a", second(2), second(3));
        locks.wrote(ProcessId(1), "b", second(1), second(3));
        locks.check().unwrap();
    }

    #[test]
    fn a_reader_beside_a_writer_is_refused() {
        let mut locks = ReadersAndWriters::new();
        locks.wrote(ProcessId(0), "a", second(1), second(3));
        locks.read(ProcessId(1), "a", second(2), second(4));
        assert_eq!(locks.check().unwrap_err().at(), second(2));
    }

    #[test]
    fn two_writers_are_refused() {
        let mut locks = ReadersAndWriters::new();
        locks.wrote(ProcessId(0), "a", second(1), second(3));
        locks.wrote(ProcessId(1), "a", second(2), second(4));
        locks.check().unwrap_err();
    }
}
