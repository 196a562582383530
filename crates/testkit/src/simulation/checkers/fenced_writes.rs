//! [`FencedWrites`]: an older fence never writes after a newer one.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::simulation::history::{Outcome, ProcessId};
use crate::simulation::violation::{Violation, earlier};

/// Checks a register that compares fences: once a write under a newer fence was accepted, every write under an
/// older one is rejected; and a write is rejected only when a newer fence may have written.
///
/// ```
/// use std::time::Duration;
/// use redkit_testkit::simulation::checkers::FencedWrites;
/// use redkit_testkit::simulation::history::{Outcome, ProcessId};
///
/// let second = Duration::from_secs;
/// let mut writes = FencedWrites::new();
/// writes.written(ProcessId(2), "stock", 8, second(1), second(2), Outcome::Replied(true));
/// writes.written(ProcessId(1), "stock", 7, second(3), second(4), Outcome::Replied(false));
/// assert!(writes.check().is_ok());
/// writes.written(ProcessId(1), "stock", 7, second(5), second(6), Outcome::Replied(true));
/// assert!(writes.check().is_err());
/// ```
#[derive(Debug, Clone, Default)]
pub struct FencedWrites {
    registers: BTreeMap<String, Vec<Write>>,
}

#[derive(Debug, Clone, Copy)]
struct Write {
    process: ProcessId,
    fence: u64,
    start: Duration,
    end: Duration,
    accepted: Outcome<bool>,
}

impl FencedWrites {
    /// Nothing was written yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A process wrote to a register; the reply is whether the write was accepted.
    pub fn written(
        &mut self,
        process: ProcessId,
        register: &str,
        fence: u64,
        start: Duration,
        end: Duration,
        accepted: Outcome<bool>,
    ) {
        let writes = self.registers.entry(register.to_owned()).or_default();
        writes.push(Write {
            process,
            fence,
            start,
            end,
            accepted,
        });
    }

    /// # Errors
    /// The first write that was accepted though it was too old, or rejected though it was not.
    pub fn check(&self) -> Result<(), Violation> {
        let violations = self.registers.iter().flat_map(|(register, writes)| {
            let violation = move |write: &Write| match write.accepted {
                Outcome::Replied(true) => accepted_too_late(register, writes, write),
                Outcome::Replied(false) => rejected_in_vain(register, writes, write),
                Outcome::NotSent | Outcome::Maybe => None,
            };
            writes.iter().map(violation)
        });
        violations.fold(None, earlier).map_or(Ok(()), Err)
    }
}

fn accepted_too_late(register: &str, writes: &[Write], write: &Write) -> Option<Violation> {
    let mut before = writes.iter().filter(|other| other.end <= write.start);
    let newer = before
        .find(|other| other.fence > write.fence && other.accepted == Outcome::Replied(true))?;
    let text = |write: &Write| format!("has written `{register}` under fence {}", write.fence);
    Some(
        Violation::new("fenced writes", write.end)
            .event(newer.end, newer.process, text(newer))
            .event(write.start, write.process, "begins to write")
            .event(write.end, write.process, text(write)),
    )
}

fn rejected_in_vain(register: &str, writes: &[Write], write: &Write) -> Option<Violation> {
    let may_have_written = |other: &&Write| {
        let is_possible = matches!(other.accepted, Outcome::Maybe | Outcome::Replied(true));
        is_possible && other.fence > write.fence && other.start <= write.end
    };
    if writes.iter().any(|other| may_have_written(&other)) {
        return None;
    }
    let text = format!(
        "is rejected by `{register}` under fence {}, and no newer fence has written",
        write.fence
    );
    Some(Violation::new("fenced writes", write.end).event(write.end, write.process, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCEPTED: Outcome<bool> = Outcome::Replied(true);
    const REJECTED: Outcome<bool> = Outcome::Replied(false);

    fn check(writes: &[(u64, u64, u64, Outcome<bool>)]) -> Result<(), Violation> {
        let mut checked = FencedWrites::new();
        for (process, (fence, start, end, accepted)) in (0..).zip(writes) {
            let (start, end) = (Duration::from_secs(*start), Duration::from_secs(*end));
            checked.written(ProcessId(process), "r", *fence, start, end, *accepted);
        }
        checked.check()
    }

    #[test]
    fn growing_and_equal_fences_are_accepted() {
        check(&[
            (7, 1, 2, ACCEPTED),
            (7, 3, 4, ACCEPTED),
            (8, 5, 6, ACCEPTED),
        ])
        .unwrap();
    }

    #[test]
    fn an_older_fence_that_is_accepted_after_a_newer_one_is_refused() {
        let violation = check(&[(8, 1, 2, ACCEPTED), (7, 3, 4, ACCEPTED)]).unwrap_err();
        assert_eq!(violation.at(), Duration::from_secs(4));
    }

    #[test]
    fn writes_that_overlap_may_have_come_in_any_order() {
        check(&[
            (8, 1, 4, ACCEPTED),
            (7, 2, 5, ACCEPTED),
            (7, 3, 4, REJECTED),
        ])
        .unwrap();
    }

    #[test]
    fn a_rejection_after_a_write_of_unknown_outcome_is_accepted() {
        check(&[(8, 1, 2, Outcome::Maybe), (7, 3, 4, REJECTED)]).unwrap();
        check(&[(8, 1, 2, Outcome::Maybe), (7, 3, 4, ACCEPTED)]).unwrap();
    }

    #[test]
    fn a_rejection_without_a_newer_fence_is_refused() {
        check(&[(7, 1, 2, ACCEPTED), (7, 3, 4, REJECTED)]).unwrap_err();
        check(&[(8, 1, 2, Outcome::NotSent), (7, 3, 4, REJECTED)]).unwrap_err();
    }
}
