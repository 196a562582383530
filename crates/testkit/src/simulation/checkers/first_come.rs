//! [`FirstCome`]: a waiter that came later is not served before.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::simulation::history::ProcessId;
use crate::simulation::violation::{Violation, earlier};

/// Checks that waiters are served in the order in which they came.
///
/// A waiter has come when its first call is carried out, which nobody sees. So tell how long that takes at most: a
/// waiter that began later by less than this may be served before.
///
/// ```
/// use std::time::Duration;
/// use redkit_testkit::simulation::checkers::FirstCome;
/// use redkit_testkit::simulation::history::ProcessId;
///
/// let second = Duration::from_secs;
/// let mut order = FirstCome::new(second(1));
/// order.waited(ProcessId(1), "export", second(1), second(6));
/// order.served(ProcessId(2), "export", second(2), second(5)); // it may have come first
/// assert!(order.check().is_ok());
/// order.served(ProcessId(3), "export", second(3), second(4));
/// assert!(order.check().is_err());
/// ```
#[derive(Debug, Clone)]
pub struct FirstCome {
    comes_within: Duration,
    keys: BTreeMap<String, Vec<Wait>>,
}

#[derive(Debug, Clone)]
struct Wait {
    process: ProcessId,
    from: Duration,
    until: Duration,
    is_served: bool,
}

impl FirstCome {
    /// A waiter has its place so long after it began to wait, at the latest.
    pub fn new(comes_within: Duration) -> Self {
        Self {
            comes_within,
            keys: BTreeMap::new(),
        }
    }

    /// A process waited, and was told at `until` that it has what it waited for.
    pub fn served(&mut self, process: ProcessId, key: &str, from: Duration, until: Duration) {
        self.add(key, process, from, until, true);
    }

    /// A process waited in vain: it gave up at `until`, or was killed then.
    pub fn waited(&mut self, process: ProcessId, key: &str, from: Duration, until: Duration) {
        self.add(key, process, from, until, false);
    }

    /// # Errors
    /// The first waiter that was served before another that had come before it.
    pub fn check(&self) -> Result<(), Violation> {
        let violations = self.keys.iter().map(|(key, waits)| {
            let served = waits.iter().filter(|wait| wait.is_served);
            let out_of_turn = served.filter_map(|served| {
                // It had its place before the other began, and was still waiting when the other was told.
                let mut before = waits.iter().filter(|other| {
                    other.from + self.comes_within < served.from && served.until < other.until
                });
                before.next().map(|other| story(key, other, served))
            });
            out_of_turn.map(Some).fold(None, earlier)
        });
        violations.fold(None, earlier).map_or(Ok(()), Err)
    }

    fn add(
        &mut self,
        key: &str,
        process: ProcessId,
        from: Duration,
        until: Duration,
        is_served: bool,
    ) {
        self.keys.entry(key.to_owned()).or_default().push(Wait {
            process,
            from,
            until,
            is_served,
        });
    }
}

fn story(key: &str, before: &Wait, served: &Wait) -> Violation {
    let waits = |wait: &Wait| format!("waits for `{key}` until {:.6} s", wait.until.as_secs_f64());
    Violation::new("first come, first served", served.until)
        .event(before.from, before.process, waits(before))
        .event(served.from, served.process, waits(served))
        .event(
            served.until,
            served.process,
            format!("is served with `{key}` before a waiter that came before"),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waiters that come within a second, as (from, until, served).
    fn check(waits: &[(u64, u64, bool)]) -> Result<(), Violation> {
        let second = Duration::from_secs;
        let mut order = FirstCome::new(second(1));
        for (process, (from, until, is_served)) in (0..).map(ProcessId).zip(waits) {
            match is_served {
                true => order.served(process, "a", second(*from), second(*until)),
                false => order.waited(process, "a", second(*from), second(*until)),
            }
        }
        order.check()
    }

    #[test]
    fn waiters_in_their_order_are_accepted() {
        check(&[(0, 4, true), (2, 6, true), (4, 9, true)]).unwrap();
    }

    #[test]
    fn a_later_waiter_that_is_served_first_is_refused() {
        let violation = check(&[(0, 6, true), (2, 4, true)]).unwrap_err();
        assert_eq!(violation.guarantee(), "first come, first served");
        assert_eq!(violation.processes(), [ProcessId(0), ProcessId(1)]);
        check(&[(0, 6, false), (2, 4, true)]).unwrap_err();
    }

    #[test]
    fn waiters_that_came_at_about_the_same_time_may_be_served_in_either_order() {
        check(&[(0, 6, true), (1, 4, true)]).unwrap();
    }

    #[test]
    fn a_waiter_that_has_given_up_is_not_passed_over() {
        check(&[(0, 3, false), (2, 4, true)]).unwrap();
    }

    #[test]
    fn another_key_is_not_meant() {
        let second = Duration::from_secs;
        let mut order = FirstCome::new(second(1));
        order.waited(ProcessId(0), "a", second(0), second(9));
        order.served(ProcessId(1), "b", second(2), second(4));
        order.check().unwrap();
    }
}
