//! [`WriteBehind`]: values that are written behind keep their order, and none is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::simulation::history::{Outcome, ProcessId};
use crate::simulation::violation::{Violation, earlier};

/// Checks a queue of writes between its callers and a store: for each key, a write that was accepted before
/// another was called is never stored after it; and every accepted write is stored, or a later one of its key
/// is, or it is a dead letter.
///
/// Each write of a key has a version of its own, in no particular order. Stores are told as they take effect:
/// what a sink rejects, because of a fence say, was not stored. Call [`check`](Self::check) once all has
/// settled.
///
/// ```
/// use std::time::Duration;
/// use redkit_testkit::simulation::checkers::WriteBehind;
/// use redkit_testkit::simulation::history::{Outcome, ProcessId};
///
/// let second = Duration::from_secs;
/// let mut writes = WriteBehind::new();
/// writes.accepted(ProcessId(1), "user:7", 1, second(1), second(2), Outcome::Replied(()));
/// writes.accepted(ProcessId(1), "user:7", 2, second(3), second(4), Outcome::Replied(()));
/// writes.stored(ProcessId(2), "user:7", 2, second(5)); // version 1 was coalesced into it
/// assert!(writes.check().is_ok());
/// writes.stored(ProcessId(3), "user:7", 1, second(6));
/// assert!(writes.check().is_err());
/// ```
#[derive(Debug, Clone, Default)]
pub struct WriteBehind {
    keys: BTreeMap<String, OfKey>,
}

#[derive(Debug, Clone, Default)]
struct OfKey {
    accepted: BTreeMap<u64, Accepted>,
    stored: Vec<Stored>,
    dead: Vec<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Accepted {
    process: ProcessId,
    start: Duration,
    end: Duration,
    outcome: Outcome<()>,
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    process: ProcessId,
    version: u64,
    at: Duration,
}

impl WriteBehind {
    /// Nothing was written yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A process gave a write to the queue.
    pub fn accepted(
        &mut self,
        process: ProcessId,
        key: &str,
        version: u64,
        start: Duration,
        end: Duration,
        outcome: Outcome<()>,
    ) {
        let accepted = Accepted {
            process,
            start,
            end,
            outcome,
        };
        self.of_key(key).accepted.insert(version, accepted);
    }

    /// A process stored a write.
    pub fn stored(&mut self, process: ProcessId, key: &str, version: u64, at: Duration) {
        let stored = Stored {
            process,
            version,
            at,
        };
        let of_key = self.of_key(key);
        let place = of_key.stored.partition_point(|other| other.at <= at);
        of_key.stored.insert(place, stored);
    }

    /// A write was put among the dead letters.
    pub fn dead_lettered(&mut self, key: &str, version: u64) {
        self.of_key(key).dead.push(version);
    }

    /// # Errors
    /// The first write that was stored out of order, that nobody wrote, or that is lost.
    pub fn check(&self) -> Result<(), Violation> {
        let violations = self.keys.iter().map(|(key, of_key)| {
            let misplaced = earlier(of_key.invented(key), of_key.out_of_order(key));
            earlier(misplaced, of_key.lost(key))
        });
        violations.fold(None, earlier).map_or(Ok(()), Err)
    }

    fn of_key(&mut self, key: &str) -> &mut OfKey {
        self.keys.entry(key.to_owned()).or_default()
    }
}

impl OfKey {
    /// Whether `first` was accepted before `second` was called.
    fn is_before(&self, first: u64, second: u64) -> bool {
        let (Some(first), Some(second)) = (self.accepted.get(&first), self.accepted.get(&second))
        else {
            return false;
        };
        first.outcome == Outcome::Replied(()) && first.end <= second.start
    }

    fn invented(&self, key: &str) -> Option<Violation> {
        let was_written = |stored: &Stored| {
            let accepted = self.accepted.get(&stored.version);
            accepted.is_some_and(|accepted| {
                accepted.outcome != Outcome::NotSent && accepted.start <= stored.at
            })
        };
        let stored = self.stored.iter().find(|stored| !was_written(stored))?;
        let version = stored.version;
        let text = format!("stores version {version} of `{key}`, which the queue did not get");
        Some(Violation::new("write-behind", stored.at).event(stored.at, stored.process, text))
    }

    fn out_of_order(&self, key: &str) -> Option<Violation> {
        for (index, stored) in self.stored.iter().enumerate() {
            let mut before = self.stored.iter().take(index);
            let newer = before.find(|other| self.is_before(stored.version, other.version));
            if let Some(newer) = newer {
                let text =
                    |stored: &Stored| format!("stores version {} of `{key}`", stored.version);
                let violation = Violation::new("order of writes", stored.at)
                    .event(newer.at, newer.process, text(newer))
                    .event(stored.at, stored.process, text(stored));
                return Some(self.with_acceptance(violation, &[stored.version, newer.version]));
            }
        }
        None
    }

    fn lost(&self, key: &str) -> Option<Violation> {
        let stands_for =
            |known: u64, version: u64| known == version || !self.is_before(known, version);
        let is_kept = |version: u64, accepted: &Accepted| {
            // What was stored before the call says nothing of it, whatever its outcome.
            let mut stored = self
                .stored
                .iter()
                .filter(|stored| stored.version == version || stored.at >= accepted.start);
            let mut dead = self.dead.iter();
            stored.any(|stored| stands_for(stored.version, version))
                || dead.any(|dead| stands_for(*dead, version))
        };
        let accepted = self.accepted.iter();
        let mut lost = accepted
            .filter(|(_, accepted)| accepted.outcome == Outcome::Replied(()))
            .filter(|(version, accepted)| !is_kept(**version, accepted));
        let (version, accepted) = lost.next()?;
        let text = format!("version {version} of `{key}` was never stored");
        let violation = Violation::new("no write is lost", accepted.end).fact(accepted.end, text);
        Some(self.with_acceptance(violation, &[*version]))
    }

    fn with_acceptance(&self, violation: Violation, versions: &[u64]) -> Violation {
        let known = versions
            .iter()
            .filter_map(|version| Some((version, self.accepted.get(version)?)));
        known.fold(violation, |violation, (version, accepted)| {
            let text = format!("has given version {version} to the queue");
            violation.event(accepted.end, accepted.process, text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YES: Outcome<()> = Outcome::Replied(());

    /// Writes as (version, start, end, outcome), stores as (version, at).
    fn writes(accepted: &[(u64, u64, u64, Outcome<()>)], stored: &[(u64, u64)]) -> WriteBehind {
        let second = Duration::from_secs;
        let mut writes = WriteBehind::new();
        for (version, start, end, outcome) in accepted {
            writes.accepted(
                ProcessId(0),
                "a",
                *version,
                second(*start),
                second(*end),
                *outcome,
            );
        }
        for (version, at) in stored {
            writes.stored(ProcessId(1), "a", *version, second(*at));
        }
        writes
    }

    #[test]
    fn writes_in_order_are_accepted_whole_or_coalesced() {
        let accepted = [(1, 1, 2, YES), (2, 3, 4, YES), (3, 5, 6, YES)];
        writes(&accepted, &[(1, 3), (2, 5), (3, 7)])
            .check()
            .unwrap();
        writes(&accepted, &[(3, 7)]).check().unwrap();
        writes(&accepted, &[(1, 3), (1, 4), (3, 7), (3, 8)])
            .check()
            .unwrap();
    }

    #[test]
    fn an_older_write_that_is_stored_over_a_newer_one_is_refused() {
        let accepted = [(1, 1, 2, YES), (2, 3, 4, YES)];
        let violation = writes(&accepted, &[(2, 5), (1, 6)]).check().unwrap_err();
        assert_eq!(violation.guarantee(), "order of writes");
    }

    #[test]
    fn writes_that_overlapped_may_be_stored_in_any_order() {
        let accepted = [(1, 1, 4, YES), (2, 3, 5, YES), (3, 1, 2, Outcome::Maybe)];
        writes(&accepted, &[(2, 6), (1, 7), (3, 8)])
            .check()
            .unwrap();
    }

    #[test]
    fn a_write_that_was_accepted_and_not_stored_is_refused() {
        let accepted = [(1, 1, 2, YES), (2, 3, 4, YES)];
        let violation = writes(&accepted, &[(1, 3)]).check().unwrap_err();
        assert_eq!(violation.guarantee(), "no write is lost");
    }

    #[test]
    fn a_write_of_unknown_outcome_may_be_stored_or_not() {
        let accepted = [(1, 1, 2, YES), (2, 3, 4, Outcome::Maybe)];
        writes(&accepted, &[(1, 3)]).check().unwrap();
        writes(&accepted, &[(1, 3), (2, 9)]).check().unwrap();
    }

    #[test]
    fn a_write_of_unknown_outcome_that_was_stored_before_stands_for_no_later_one() {
        let accepted = [(1, 1, 2, Outcome::Maybe), (2, 5, 6, YES)];
        let violation = writes(&accepted, &[(1, 3)]).check().unwrap_err();
        assert_eq!(violation.guarantee(), "no write is lost");
        writes(&accepted, &[(1, 7)]).check().unwrap();
    }

    #[test]
    fn a_dead_letter_is_not_lost() {
        let mut writes = writes(&[(1, 1, 2, YES)], &[]);
        writes.check().unwrap_err();
        writes.dead_lettered("a", 1);
        writes.check().unwrap();
    }

    #[test]
    fn a_write_that_nobody_gave_is_refused() {
        writes(&[(1, 1, 2, YES)], &[(1, 3), (7, 4)])
            .check()
            .unwrap_err();
        let not_sent = [(1, 1, 2, YES), (2, 3, 4, Outcome::NotSent)];
        writes(&not_sent, &[(1, 3), (2, 5)]).check().unwrap_err();
    }
}
