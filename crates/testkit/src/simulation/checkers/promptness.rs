//! [`Promptness`]: nobody waits for what is to be had, and nobody is refused it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::overlap::Span;
use crate::simulation::history::ProcessId;
use crate::simulation::violation::{Violation, earlier};

/// Checks that no process waits for a place while one is free for longer than a bound: that each waiter is woken.
///
/// A place is held from when its holder sent the call that took it until the holder knew that it is given back. Where that is
/// not known (a call without an answer, a holder that was killed), tell the longest time for which it may have
/// been held: such places excuse every wait.
///
/// ```
/// use std::time::Duration;
/// use redkit_testkit::simulation::checkers::Promptness;
/// use redkit_testkit::simulation::history::ProcessId;
///
/// let second = Duration::from_secs;
/// let mut promptness = Promptness::new(1, second(1));
/// promptness.held(ProcessId(1), "export", second(1), second(3));
/// promptness.waited(ProcessId(2), "export", second(2), second(4));
/// assert!(promptness.check().is_ok());
/// promptness.waited(ProcessId(3), "export", second(2), second(5)); // it was free for two seconds
/// assert!(promptness.check().is_err());
/// ```
#[derive(Debug, Clone)]
pub struct Promptness {
    places: u64,
    bound: Duration,
    keys: BTreeMap<String, OfKey>,
}

#[derive(Debug, Clone, Default)]
struct OfKey {
    held: Vec<Span>,
    waits: Vec<Span>,
    refusals: Vec<Span>,
}

impl Promptness {
    /// Each key has so many places; a waiter may overlook for `bound` that one is free.
    pub fn new(places: u64, bound: Duration) -> Self {
        Self {
            places,
            bound,
            keys: BTreeMap::new(),
        }
    }

    /// A process held a place of a key, or may have.
    pub fn held(&mut self, process: ProcessId, key: &str, from: Duration, until: Duration) {
        self.of_key(key).held.push(span(process, from, until));
    }

    /// A process waited for a place of a key. The wait ended when it got one, gave up, or was killed.
    pub fn waited(&mut self, process: ProcessId, key: &str, from: Duration, until: Duration) {
        self.of_key(key).waits.push(span(process, from, until));
    }

    /// A process asked and was told that all places of a key are held.
    pub fn refused(&mut self, process: ProcessId, key: &str, from: Duration, until: Duration) {
        self.of_key(key).refusals.push(span(process, from, until));
    }

    /// # Errors
    /// The first waiter that waited in vain, or that was refused what was free all the while.
    pub fn check(&self) -> Result<(), Violation> {
        let violations = self.keys.iter().map(|(key, of_key)| {
            let free = of_key.free(self.places);
            let in_vain = |refusal: &&Span| {
                let mut stretches = free.iter();
                stretches.any(|(from, until)| *from < refusal.from && refusal.until < *until)
            };
            if let Some(refusal) = of_key.refusals.iter().find(in_vain) {
                let text = format!("is refused `{key}`, which nobody has");
                let violation = Violation::new("what is free is given", refusal.until);
                return Some(violation.event(refusal.from, refusal.process, text));
            }
            let waits = of_key.waits.iter();
            let in_vain = waits.filter_map(|wait| {
                let mut stretches = free.iter().map(|(from, until)| {
                    let from = wait.from.max(*from);
                    (from, wait.until.min(*until))
                });
                let too_long =
                    |(from, until): &(Duration, Duration)| until.saturating_sub(*from) > self.bound;
                let (from, until) = stretches.find(too_long)?;
                Some(self.story(key, of_key, wait, from, until))
            });
            in_vain.map(Some).fold(None, earlier)
        });
        violations.fold(None, earlier).map_or(Ok(()), Err)
    }

    fn of_key(&mut self, key: &str) -> &mut OfKey {
        self.keys.entry(key.to_owned()).or_default()
    }

    fn story(
        &self,
        key: &str,
        of_key: &OfKey,
        wait: &Span,
        free_from: Duration,
        free_until: Duration,
    ) -> Violation {
        let before = of_key.held.iter().filter(|held| held.until <= free_from);
        let last = before.max_by_key(|held| held.until);
        let seconds = wait.until.as_secs_f64();
        let text = format!("waits for `{key}` until {seconds:.6} s");
        let free = format!(
            "`{key}` is free until {:.6} s, for longer than {:?}",
            free_until.as_secs_f64(),
            self.bound
        );
        let mut violation = Violation::new("a waiter is woken", free_from + self.bound);
        if let Some(last) = last {
            violation = violation.event(last.until, last.process, format!("gives `{key}` back"));
        }
        violation
            .event(wait.from, wait.process, text)
            .fact(free_from, free)
    }
}

impl OfKey {
    /// When fewer than all places were held.
    fn free(&self, places: u64) -> Vec<(Duration, Duration)> {
        // Ends before beginnings of the same time: a place that changes hands is free in between, for no time.
        let mut changes: Vec<(Duration, bool)> = Vec::with_capacity(self.held.len() * 2);
        for held in &self.held {
            changes.push((held.from, true));
            changes.push((held.until, false));
        }
        changes.sort_unstable();
        let (mut free, mut since, mut taken) = (Vec::new(), Some(Duration::ZERO), 0_u64);
        for (at, is_taken) in changes {
            taken = match is_taken {
                true => taken + 1,
                false => taken.saturating_sub(1),
            };
            match since {
                Some(from) if taken >= places => {
                    free.push((from, at));
                    since = None;
                }
                None if taken < places => since = Some(at),
                _ => {}
            }
        }
        free.extend(since.map(|from| (from, Duration::MAX)));
        free
    }
}

fn span(process: ProcessId, from: Duration, until: Duration) -> Span {
    Span {
        process,
        from,
        until,
        weight: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a bound of one second. Spans as (from, until).
    fn check(places: u64, held: &[(u64, u64)], waits: &[(u64, u64)]) -> Result<(), Violation> {
        let second = Duration::from_secs;
        let mut promptness = Promptness::new(places, second(1));
        for (from, until) in held {
            promptness.held(ProcessId(0), "a", second(*from), second(*until));
        }
        for (from, until) in waits {
            promptness.waited(ProcessId(1), "a", second(*from), second(*until));
        }
        promptness.check()
    }

    #[test]
    fn a_wait_while_everything_is_held_is_accepted() {
        check(1, &[(0, 5), (5, 9)], &[(1, 9)]).unwrap();
        check(2, &[(0, 5), (1, 6), (5, 9), (6, 9)], &[(1, 9)]).unwrap();
    }

    #[test]
    fn a_wait_beyond_the_end_of_the_last_holder_is_refused() {
        let violation = check(1, &[(0, 5)], &[(1, 7)]).unwrap_err();
        assert_eq!(violation.at(), Duration::from_secs(6));
        check(1, &[(0, 5)], &[(1, 6)]).unwrap();
    }

    #[test]
    fn a_wait_while_one_place_of_two_is_free_is_refused() {
        check(2, &[(0, 9), (0, 3), (6, 9)], &[(1, 9)]).unwrap_err();
    }

    #[test]
    fn a_refusal_without_a_holder_is_refused() {
        let second = Duration::from_secs;
        let mut promptness = Promptness::new(1, second(1));
        promptness.held(ProcessId(0), "a", second(1), second(3));
        promptness.refused(ProcessId(1), "a", second(2), second(4));
        promptness.check().unwrap();
        promptness.refused(ProcessId(1), "a", second(4), second(5));
        promptness.check().unwrap_err();
    }

    #[test]
    fn short_stretches_do_not_add_up() {
        check(1, &[(0, 2), (3, 4), (5, 6)], &[(0, 7)]).unwrap();
    }

    #[test]
    fn another_key_is_not_meant() {
        let second = Duration::from_secs;
        let mut promptness = Promptness::new(1, second(1));
        promptness.held(ProcessId(0), "a", second(0), second(9));
        promptness.waited(ProcessId(1), "b", second(1), second(9));
        promptness.check().unwrap_err();
    }
}
