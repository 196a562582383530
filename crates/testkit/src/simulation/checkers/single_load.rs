//! [`SingleLoad`]: one load of a key at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::overlap::{Span, first_excess};
use crate::simulation::history::ProcessId;
use crate::simulation::violation::{Violation, earlier};

/// Checks that no two loads of one key were under way at the same time, in all processes together.
///
/// A load whose lease was lost (its process was paused or cut off for longer) may meet the next one: end its
/// span when the lease ran out, or allow more with [`at_most`](Self::at_most).
///
/// ```
/// use std::time::Duration;
/// use redkit_testkit::simulation::checkers::SingleLoad;
/// use redkit_testkit::simulation::history::ProcessId;
///
/// let second = Duration::from_secs;
/// let mut loads = SingleLoad::new();
/// loads.loaded(ProcessId(1), "user:7", second(1), second(2));
/// loads.loaded(ProcessId(2), "user:7", second(2), second(3));
/// assert!(loads.check().is_ok());
/// loads.loaded(ProcessId(3), "user:7", second(2), second(4));
/// assert!(loads.check().is_err());
/// ```
#[derive(Debug, Clone)]
pub struct SingleLoad {
    at_most: u64,
    loads: BTreeMap<String, Vec<Span>>,
}

impl Default for SingleLoad {
    fn default() -> Self {
        Self::new()
    }
}

impl SingleLoad {
    /// No loads yet.
    pub fn new() -> Self {
        Self {
            at_most: 1,
            loads: BTreeMap::new(),
        }
    }

    /// Allows so many loads of a key at a time, for faults after which the guarantee is weaker.
    #[must_use]
    pub fn at_most(mut self, loads: u64) -> Self {
        self.at_most = loads;
        self
    }

    /// A process loaded a key.
    pub fn loaded(&mut self, process: ProcessId, key: &str, from: Duration, until: Duration) {
        self.loads.entry(key.to_owned()).or_default().push(Span {
            process,
            from,
            until,
            weight: 1,
        });
    }

    /// # Errors
    /// The first load that met others.
    pub fn check(&self) -> Result<(), Violation> {
        let violations = self.loads.iter().map(|(key, spans)| {
            let together = first_excess(spans, self.at_most)?;
            let loads: Vec<&Span> = together.iter().filter_map(|at| spans.get(*at)).collect();
            let mut violation = Violation::new("one load at a time", loads.last()?.from);
            for span in loads {
                let text = format!("loads `{key}` until {:.6} s", span.until.as_secs_f64());
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

    fn loaded(loads: SingleLoad, spans: &[(&str, u64, u64)]) -> Result<(), Violation> {
        let mut loads = loads;
        for (process, (key, from, until)) in (0..).zip(spans) {
            let second = Duration::from_secs;
            loads.loaded(ProcessId(process), key, second(*from), second(*until));
        }
        loads.check()
    }

    #[test]
    fn loads_one_after_the_other_are_accepted() {
        loaded(SingleLoad::new(), &[("a", 1, 2), ("a", 2, 3), ("b", 1, 3)]).unwrap();
    }

    #[test]
    fn two_loads_of_a_key_at_a_time_are_refused() {
        let violation = loaded(SingleLoad::new(), &[("a", 1, 3), ("a", 2, 4)]).unwrap_err();
        assert_eq!(violation.at(), Duration::from_secs(2));
    }

    #[test]
    fn more_loads_at_a_time_can_be_allowed() {
        loaded(SingleLoad::new().at_most(2), &[("a", 1, 3), ("a", 2, 4)]).unwrap();
    }
}
