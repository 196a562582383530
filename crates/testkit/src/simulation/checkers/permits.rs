//! [`Permits`]: permits are never more than the limit.

use std::collections::BTreeMap;
use std::time::Duration;

use super::overlap::{Span, first_excess};
use crate::simulation::history::ProcessId;
use crate::simulation::violation::{Violation, earlier};

/// Checks that the permits of each key, held at the same time by all processes together, are never more than
/// the limit.
///
/// A permit is held from when its caller was told, until its caller began to give it back, was told that it is
/// lost, or died, whichever was first.
///
/// ```
/// use std::time::Duration;
/// use redkit_testkit::simulation::checkers::Permits;
/// use redkit_testkit::simulation::history::ProcessId;
///
/// let second = Duration::from_secs;
/// let mut permits = Permits::new(3);
/// permits.held(ProcessId(1), "eu", 2, second(1), second(4));
/// permits.held(ProcessId(2), "eu", 1, second(2), second(4));
/// assert!(permits.check().is_ok());
/// permits.held(ProcessId(3), "eu", 1, second(3), second(4));
/// assert!(permits.check().is_err());
/// ```
#[derive(Debug, Clone)]
pub struct Permits {
    limit: u64,
    held: BTreeMap<String, Vec<Span>>,
}

impl Permits {
    /// No permits were held yet, of which there may be `limit` for each key.
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            held: BTreeMap::new(),
        }
    }

    /// A process held permits of a key.
    pub fn held(
        &mut self,
        process: ProcessId,
        key: &str,
        permits: u64,
        from: Duration,
        until: Duration,
    ) {
        self.held.entry(key.to_owned()).or_default().push(Span {
            process,
            from,
            until,
            weight: permits,
        });
    }

    /// # Errors
    /// The first moment at which more were held.
    pub fn check(&self) -> Result<(), Violation> {
        let violations = self.held.iter().map(|(key, spans)| {
            let excess = first_excess(spans, self.limit)?;
            let holders: Vec<&Span> = excess.iter().filter_map(|at| spans.get(*at)).collect();
            let last = holders.last()?;
            let mut violation = Violation::new("the limit of permits", last.from)
                .fact(last.from, format!("`{key}` has {} permits", self.limit));
            for span in holders {
                let (permits, until) = (span.weight, span.until.as_secs_f64());
                let text = format!("has {permits} of `{key}` until {until:.6} s");
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

    fn held(limit: u64, spans: &[(&str, u64, u64, u64)]) -> Result<(), Violation> {
        let mut permits = Permits::new(limit);
        for (process, (key, count, from, until)) in (0..).zip(spans) {
            let second = Duration::from_secs;
            permits.held(
                ProcessId(process),
                key,
                *count,
                second(*from),
                second(*until),
            );
        }
        permits.check()
    }

    #[test]
    fn as_many_permits_as_the_limit_are_accepted() {
        held(2, &[("a", 1, 1, 5), ("a", 1, 2, 3), ("a", 1, 3, 5)]).unwrap();
    }

    #[test]
    fn each_key_has_a_limit_of_its_own() {
        held(1, &[("a", 1, 1, 5), ("b", 1, 1, 5)]).unwrap();
    }

    #[test]
    fn permits_above_the_limit_are_refused_with_their_holders() {
        let violation = held(2, &[("a", 1, 1, 5), ("a", 1, 2, 4), ("a", 1, 3, 5)]).unwrap_err();
        assert_eq!(violation.at(), Duration::from_secs(3));
        assert_eq!(violation.processes(), [0, 1, 2].map(ProcessId));
    }

    #[test]
    fn the_permits_of_one_call_are_counted_each() {
        held(2, &[("a", 3, 1, 2)]).unwrap_err();
    }
}
