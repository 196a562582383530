//! [`MutualExclusion`]: one holder at a time, with fences that grow.

use std::collections::BTreeMap;
use std::time::Duration;

use super::overlap::{Span, first_excess};
use crate::simulation::history::ProcessId;
use crate::simulation::violation::{Violation, earlier};

/// Checks that no two processes held one lock at the same time, and that each holder has a greater fence than
/// the holders before.
///
/// A lock is held from when its holder was told, until the holder began to give it back, was told that it is
/// lost, or died, whichever was first: what a holder does after it was told of the loss is not protected.
///
/// ```
/// use std::time::Duration;
/// use redkit_testkit::simulation::checkers::MutualExclusion;
/// use redkit_testkit::simulation::history::ProcessId;
///
/// let second = Duration::from_secs;
/// let mut locks = MutualExclusion::new();
/// locks.held(ProcessId(1), "order-7", Some(100), second(1), second(3));
/// locks.held(ProcessId(2), "order-7", Some(101), second(3), second(5));
/// assert!(locks.check().is_ok());
/// locks.held(ProcessId(1), "order-7", Some(102), second(4), second(6));
/// assert!(locks.check().is_err());
/// ```
#[derive(Debug, Clone)]
pub struct MutualExclusion {
    held: BTreeMap<String, Vec<(Span, Option<u64>)>>,
    /// For so long two holders may meet; for any time when it is not said.
    together: Option<Duration>,
}

impl Default for MutualExclusion {
    fn default() -> Self {
        Self::new()
    }
}

impl MutualExclusion {
    /// Nothing was held yet.
    pub fn new() -> Self {
        Self {
            held: BTreeMap::new(),
            together: Some(Duration::ZERO),
        }
    }

    /// Checks fences alone: for faults that lose locks which are held, such as a failover. Two may hold a lock
    /// then, and what protects data is the fence.
    #[must_use]
    pub fn fences_only(mut self) -> Self {
        self.together = None;
        self
    }

    /// Two may hold a lock for so long: for faults that lose locks which are held, of which the holder finds out when it
    /// renews its lease.
    #[must_use]
    pub fn together_for(mut self, time: Duration) -> Self {
        self.together = Some(time);
        self
    }

    /// A process held the lock of a key, under this fence if it has one.
    pub fn held(
        &mut self,
        process: ProcessId,
        key: &str,
        fence: Option<u64>,
        from: Duration,
        until: Duration,
    ) {
        let span = Span {
            process,
            from,
            until,
            weight: 1,
        };
        self.held
            .entry(key.to_owned())
            .or_default()
            .push((span, fence));
    }

    /// # Errors
    /// The first holder that met another, or whose fence is not greater than one before.
    pub fn check(&self) -> Result<(), Violation> {
        let violations = self.held.iter().map(|(key, held)| {
            let together = match self.together {
                None => None,
                Some(Duration::ZERO) => two_holders(key, held),
                Some(longest) => too_long_together(key, held, longest),
            };
            earlier(together, old_fence(key, held))
        });
        violations.fold(None, earlier).map_or(Ok(()), Err)
    }
}

fn two_holders(key: &str, held: &[(Span, Option<u64>)]) -> Option<Violation> {
    let spans: Vec<Span> = held.iter().map(|(span, _)| span.clone()).collect();
    let together = first_excess(&spans, 1)?;
    let holders: Vec<_> = together.iter().filter_map(|at| held.get(*at)).collect();
    let last = holders.last()?;
    let mut violation = Violation::new("mutual exclusion", last.0.from);
    for (span, fence) in holders {
        violation = violation.event(span.from, span.process, story(key, span, *fence));
    }
    Some(violation)
}

/// Two holders who met for longer than that.
fn too_long_together(
    key: &str,
    held: &[(Span, Option<u64>)],
    longest: Duration,
) -> Option<Violation> {
    let pairs = held.iter().enumerate().flat_map(|(index, first)| {
        let others = held.iter().skip(index + 1);
        others.map(move |second| (first, second))
    });
    let together = pairs.filter_map(|(first, second)| {
        let (from, until) = (
            first.0.from.max(second.0.from),
            first.0.until.min(second.0.until),
        );
        let is_too_long = until.saturating_sub(from) > longest;
        let event = |violation: Violation, (span, fence): &(Span, Option<u64>)| {
            violation.event(span.from, span.process, story(key, span, *fence))
        };
        is_too_long.then(|| {
            let violation = Violation::new("a lost lock is noticed", from + longest);
            event(event(violation, first), second)
        })
    });
    together.map(Some).fold(None, earlier)
}

/// A holder whose fence is not greater than that of a holder before, with that holder.
fn old_fence(key: &str, held: &[(Span, Option<u64>)]) -> Option<Violation> {
    let fenced = held
        .iter()
        .filter_map(|(span, fence)| Some((span, (*fence)?)));
    let mut fenced: Vec<(&Span, u64)> = fenced.collect();
    fenced.sort_by_key(|(span, _)| span.from);
    for (index, (span, fence)) in fenced.iter().enumerate() {
        // Holders that met took the lock in an order that is not known, and yet not under the same fence.
        let is_wrong = |earlier: &Span, other: u64| {
            other == *fence || (earlier.until <= span.from && other > *fence)
        };
        let mut before = fenced.iter().take(index);
        let newer = before.find(|(earlier, other)| is_wrong(earlier, *other));
        if let Some((earlier, other)) = newer {
            return Some(
                Violation::new("growing fences", span.from)
                    .event(
                        earlier.from,
                        earlier.process,
                        story(key, earlier, Some(*other)),
                    )
                    .event(span.from, span.process, story(key, span, Some(*fence))),
            );
        }
    }
    None
}

fn story(key: &str, span: &Span, fence: Option<u64>) -> String {
    let until = span.until.as_secs_f64();
    match fence {
        Some(fence) => format!("holds `{key}` under fence {fence} until {until:.6} s"),
        None => format!("holds `{key}` until {until:.6} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locks(held: &[(u64, u64, u64)]) -> MutualExclusion {
        let mut locks = MutualExclusion::new();
        for (process, (fence, from, until)) in (0..).zip(held) {
            let second = Duration::from_secs;
            locks.held(
                ProcessId(process),
                "a",
                Some(*fence),
                second(*from),
                second(*until),
            );
        }
        locks
    }

    #[test]
    fn holders_one_after_the_other_are_accepted() {
        locks(&[(7, 1, 2), (8, 2, 3), (11, 5, 6)]).check().unwrap();
    }

    #[test]
    fn two_holders_at_a_time_are_refused() {
        let violation = locks(&[(7, 1, 3), (8, 2, 4)]).check().unwrap_err();
        assert_eq!(violation.guarantee(), "mutual exclusion");
        assert_eq!(violation.processes(), [ProcessId(0), ProcessId(1)]);
    }

    #[test]
    fn a_fence_that_does_not_grow_is_refused() {
        for fence in [6, 7] {
            let violation = locks(&[(7, 1, 2), (fence, 3, 4)]).check().unwrap_err();
            assert_eq!(violation.guarantee(), "growing fences");
        }
    }

    #[test]
    fn a_smaller_fence_than_that_of_any_earlier_holder_is_refused() {
        locks(&[(9, 1, 2), (10, 3, 4), (8, 5, 6)])
            .check()
            .unwrap_err();
    }

    #[test]
    fn two_holders_after_a_failover_can_be_allowed() {
        let locks = locks(&[(8, 1, 3), (7, 2, 4)]).fences_only();
        locks.check().unwrap();
    }

    #[test]
    fn two_holders_after_a_failover_are_refused_when_they_meet_for_longer_than_a_lease() {
        let second = Duration::from_secs;
        let meet = locks(&[(7, 1, 4), (8, 2, 9)]);
        meet.clone().together_for(second(2)).check().unwrap();
        let violation = meet.together_for(second(1)).check().unwrap_err();
        assert_eq!(violation.guarantee(), "a lost lock is noticed");
    }

    #[test]
    fn two_holders_under_one_fence_are_refused_in_any_case() {
        let locks = locks(&[(8, 1, 3), (8, 2, 4)]).fences_only();
        locks.check().unwrap_err();
    }
}
