//! [`StaysTaken`]: what was taken stays taken for a time, though it is given back.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::simulation::history::ProcessId;
use crate::simulation::violation::{Violation, earlier};

/// Checks that nobody has a lock sooner than a time after it was taken the last time, whatever its holder did.
///
/// A lock was taken no sooner than its holder asked for it, and no sooner than the holder before gave it back: the
/// time counts from the later of the two.
///
/// ```
/// use std::time::Duration;
/// use redkit_testkit::simulation::checkers::StaysTaken;
/// use redkit_testkit::simulation::history::ProcessId;
///
/// let second = Duration::from_secs;
/// let mut taken = StaysTaken::new(second(5));
/// taken.held(ProcessId(1), "report", second(0), second(1), second(2));
/// taken.held(ProcessId(2), "report", second(1), second(5), second(6));
/// assert!(taken.check().is_ok());
/// taken.held(ProcessId(3), "report", second(3), second(6), second(9));
/// assert!(taken.check().is_err()); // it was taken no sooner than at second 2, and again at second 6 at the latest
/// ```
#[derive(Debug, Clone)]
pub struct StaysTaken {
    least: Duration,
    keys: BTreeMap<String, Vec<Hold>>,
}

#[derive(Debug, Clone)]
struct Hold {
    process: ProcessId,
    asked: Duration,
    from: Duration,
    until: Duration,
}

impl StaysTaken {
    /// What is taken stays so for this time.
    pub fn new(least: Duration) -> Self {
        Self {
            least,
            keys: BTreeMap::new(),
        }
    }

    /// A process asked for the lock of a key, was told that it has it, and held it until then.
    pub fn held(
        &mut self,
        process: ProcessId,
        key: &str,
        asked: Duration,
        from: Duration,
        until: Duration,
    ) {
        self.keys.entry(key.to_owned()).or_default().push(Hold {
            process,
            asked,
            from,
            until,
        });
    }

    /// # Errors
    /// The first holder that had a lock too soon after the one before.
    pub fn check(&self) -> Result<(), Violation> {
        let violations = self.keys.iter().map(|(key, holds)| {
            let mut holds: Vec<&Hold> = holds.iter().collect();
            holds.sort_by_key(|hold| hold.from);
            let mut free = Duration::ZERO;
            let mut before: Option<(&Hold, Duration)> = None;
            for hold in holds {
                if let Some((last, taken)) = before
                    && hold.from < taken + self.least
                {
                    return Some(self.story(key, last, taken, hold));
                }
                before = Some((hold, hold.asked.max(free)));
                free = free.max(hold.until);
            }
            None
        });
        violations.fold(None, earlier).map_or(Ok(()), Err)
    }

    fn story(&self, key: &str, last: &Hold, taken: Duration, next: &Hold) -> Violation {
        let least = self.least;
        Violation::new("what is taken stays taken", next.from)
            .event(
                taken,
                last.process,
                format!("takes `{key}` here at the earliest, for {least:?} at least"),
            )
            .event(next.from, next.process, format!("has `{key}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stays taken for five seconds. Holds as (asked, from, until).
    fn check(holds: &[(u64, u64, u64)]) -> Result<(), Violation> {
        let second = Duration::from_secs;
        let mut taken = StaysTaken::new(second(5));
        for (process, (asked, from, until)) in (0..).map(ProcessId).zip(holds) {
            taken.held(process, "a", second(*asked), second(*from), second(*until));
        }
        taken.check()
    }

    #[test]
    fn the_next_holder_after_the_time_is_accepted() {
        check(&[(1, 2, 3), (2, 6, 7)]).unwrap();
    }

    #[test]
    fn a_holder_within_the_time_is_refused() {
        let violation = check(&[(1, 2, 3), (2, 5, 7)]).unwrap_err();
        assert_eq!(violation.guarantee(), "what is taken stays taken");
        assert_eq!(violation.processes(), [ProcessId(0), ProcessId(1)]);
    }

    #[test]
    fn the_time_counts_from_the_end_of_the_holder_before_where_that_was_waited_for() {
        check(&[(0, 1, 7), (2, 8, 9), (9, 11, 12)]).unwrap_err();
        check(&[(0, 1, 7), (2, 8, 9), (9, 12, 13)]).unwrap();
    }

    #[test]
    fn another_key_is_not_meant() {
        let second = Duration::from_secs;
        let mut taken = StaysTaken::new(second(5));
        taken.held(ProcessId(0), "a", second(1), second(2), second(3));
        taken.held(ProcessId(0), "b", second(1), second(3), second(4));
        taken.check().unwrap();
    }
}
