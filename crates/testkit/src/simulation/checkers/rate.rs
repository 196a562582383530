//! [`Rate`]: a rate limit holds over every window, and denies nothing that it promises.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::simulation::history::{Outcome, ProcessId};
use crate::simulation::violation::{Violation, earlier};

/// What a way to count promises: how many units at most in any window, and which units it never denies.
///
/// ```
/// use std::time::Duration;
/// use redkit_testkit::simulation::checkers::RatePromise;
///
/// let promise = RatePromise::sliding_log(10, Duration::from_secs(60));
/// assert_eq!(promise.at_most(), 10);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RatePromise {
    window: Duration,
    at_most: u64,
    look_back: Duration,
    allows: u64,
}

impl RatePromise {
    /// Windows that begin with a call that finds none: two of them may meet in a window.
    pub fn fixed_window(limit: u64, window: Duration) -> Self {
        Self::new(window, limit.saturating_mul(2), window, limit)
    }

    /// The exact log of units.
    pub fn sliding_log(limit: u64, window: Duration) -> Self {
        Self::new(window, limit, window, limit)
    }

    /// This window's count, and a share of the one before.
    pub fn sliding_counter(limit: u64, window: Duration) -> Self {
        let at_most = limit.saturating_mul(2).saturating_sub(1);
        Self::new(window, at_most, window.saturating_mul(2), limit)
    }

    /// A window in slices, of which the oldest is counted whole.
    pub fn bucketed(limit: u64, window: Duration, slices: u32) -> Self {
        let slice = window / slices.max(1);
        Self::new(window, limit, window.saturating_add(slice), limit)
    }

    /// A token bucket.
    pub fn gcra(limit: u64, window: Duration, burst: u64) -> Self {
        let at_most = limit.saturating_add(burst);
        Self::new(window, at_most, time_for(burst, limit, window), burst)
    }

    /// A leaky bucket, whose units are told with the time from which they may go: that of the call and its delay.
    /// Denials are not checked, as they depend on the queue.
    pub fn leaky(limit: u64, window: Duration, burst: u64) -> Self {
        Self::new(window, limit.saturating_add(burst), Duration::ZERO, 0)
    }

    /// At most so many units in any window; and a call is never denied with which no more than `allows` units
    /// were taken in the time `look_back` before.
    pub fn new(window: Duration, at_most: u64, look_back: Duration, allows: u64) -> Self {
        Self {
            window,
            at_most,
            look_back,
            allows,
        }
    }

    /// The same limit, and nothing about denials: for a server whose clock is set back, where units stay taken for longer.
    #[must_use]
    pub fn without_denials(mut self) -> Self {
        self.look_back = Duration::ZERO;
        self.allows = 0;
        self
    }

    /// The most units in any window.
    pub fn at_most(&self) -> u64 {
        self.at_most
    }
}

/// How long `units` take to come back.
fn time_for(units: u64, limit: u64, window: Duration) -> Duration {
    let nanos = window.as_nanos() * u128::from(units) / u128::from(limit.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Checks the decisions of a rate limit for each key, over every window.
///
/// A unit was taken at some moment between start and end of its call, so only calls that lie in a window as a
/// whole count against it, and every call that may have taken units excuses a denial.
///
/// ```
/// use std::time::Duration;
/// use redkit_testkit::simulation::checkers::{Rate, RatePromise};
/// use redkit_testkit::simulation::history::{Outcome, ProcessId};
///
/// let second = Duration::from_secs;
/// let mut rate = Rate::new(RatePromise::sliding_log(1, second(10)));
/// rate.asked(ProcessId(1), "alice", 1, second(1), second(1), Outcome::Replied(true));
/// rate.asked(ProcessId(2), "alice", 1, second(2), second(2), Outcome::Replied(false));
/// rate.asked(ProcessId(2), "alice", 1, second(11), second(11), Outcome::Replied(true));
/// assert!(rate.check().is_ok());
/// rate.asked(ProcessId(3), "alice", 1, second(12), second(12), Outcome::Replied(true));
/// assert!(rate.check().is_err());
/// ```
#[derive(Debug, Clone)]
pub struct Rate {
    promise: RatePromise,
    in_flight: Duration,
    keys: BTreeMap<String, Vec<Call>>,
}

#[derive(Debug, Clone, Copy)]
struct Call {
    process: ProcessId,
    cost: u64,
    start: Duration,
    end: Duration,
    allowed: Outcome<bool>,
}

impl Call {
    fn took_units(&self) -> bool {
        self.allowed == Outcome::Replied(true)
    }

    fn may_have_taken_units(&self) -> bool {
        self.took_units() || self.allowed == Outcome::Maybe
    }
}

impl Rate {
    /// Nobody has asked yet.
    pub fn new(promise: RatePromise) -> Self {
        Self {
            promise,
            in_flight: Duration::MAX,
            keys: BTreeMap::new(),
        }
    }

    /// How long a call without an answer may take its units after it was given up. Otherwise it may for ever, and
    /// excuses every later denial.
    #[must_use]
    pub fn in_flight_for(mut self, time: Duration) -> Self {
        self.in_flight = time;
        self
    }

    /// A process asked for `cost` units of a key; the reply is whether it was allowed.
    pub fn asked(
        &mut self,
        process: ProcessId,
        key: &str,
        cost: u64,
        start: Duration,
        end: Duration,
        allowed: Outcome<bool>,
    ) {
        self.keys.entry(key.to_owned()).or_default().push(Call {
            process,
            cost,
            start,
            end,
            allowed,
        });
    }

    /// # Errors
    /// The first window with too many units, or the first call that was denied though it was promised.
    pub fn check(&self) -> Result<(), Violation> {
        let violations = self.keys.iter().map(|(key, calls)| {
            earlier(self.too_many(key, calls), self.denied_in_vain(key, calls))
        });
        violations.fold(None, earlier).map_or(Ok(()), Err)
    }

    fn too_many(&self, key: &str, calls: &[Call]) -> Option<Violation> {
        let RatePromise {
            window, at_most, ..
        } = self.promise;
        let mut taken: Vec<&Call> = calls.iter().filter(|call| call.took_units()).collect();
        taken.sort_by_key(|call| call.start);
        let mut first: Option<Violation> = None;
        for (index, opening) in taken.iter().enumerate() {
            let close = opening.start.saturating_add(window);
            let later = taken.iter().skip(index);
            let in_window = later.take_while(|call| call.start < close);
            let mut in_window: Vec<_> = in_window.filter(|call| call.end < close).collect();
            in_window.sort_by_key(|call| call.end);
            let mut units = 0;
            let excess = in_window.iter().find(|call| {
                units += call.cost;
                units > at_most
            });
            let Some(excess) = excess else { continue };
            let mut violation = Violation::new("the limit of a window", excess.end).fact(
                opening.start,
                format!("a window of {window:?} begins, in which `{key}` has {at_most} units"),
            );
            for call in in_window.iter().filter(|call| call.end <= excess.end) {
                violation = violation.event(call.end, call.process, format!("has {}", call.cost));
            }
            first = earlier(first, Some(violation));
        }
        first
    }

    fn denied_in_vain(&self, key: &str, calls: &[Call]) -> Option<Violation> {
        let RatePromise {
            look_back, allows, ..
        } = self.promise;
        let denied = calls
            .iter()
            .filter(|call| call.allowed == Outcome::Replied(false) && call.cost <= allows);
        let in_vain = denied.filter_map(|denied| {
            let counts = |call: &&Call| {
                let last = match call.allowed {
                    Outcome::Maybe => call.end.saturating_add(self.in_flight),
                    _ => call.end,
                };
                call.may_have_taken_units()
                    && call.start <= denied.end
                    && last.saturating_add(look_back) >= denied.start
            };
            let units: u64 = calls.iter().filter(counts).map(|call| call.cost).sum();
            (units + denied.cost <= allows).then(|| {
                let cost = denied.cost;
                let text = format!(
                    "is denied {cost} of `{key}`, of which at most {units} of {allows} were taken in {look_back:?}"
                );
                Violation::new("a promised unit is given", denied.end)
                    .event(denied.end, denied.process, text)
            })
        });
        in_vain.map(Some).fold(None, earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YES: Outcome<bool> = Outcome::Replied(true);
    const NO: Outcome<bool> = Outcome::Replied(false);
    const WINDOW: Duration = Duration::from_secs(10);

    /// Calls for one unit, as (start, end, outcome).
    fn check(promise: RatePromise, calls: &[(u64, u64, Outcome<bool>)]) -> Result<(), Violation> {
        let second = Duration::from_secs;
        let mut rate = Rate::new(promise);
        for (start, end, allowed) in calls {
            rate.asked(ProcessId(0), "a", 1, second(*start), second(*end), *allowed);
        }
        rate.check()
    }

    #[test]
    fn as_many_units_as_promised_are_accepted() {
        let log = RatePromise::sliding_log(2, WINDOW);
        check(
            log,
            &[(1, 1, YES), (2, 2, YES), (11, 11, YES), (12, 12, YES)],
        )
        .unwrap();
    }

    #[test]
    fn a_window_with_too_many_units_is_refused_wherever_it_begins() {
        let log = RatePromise::sliding_log(2, WINDOW);
        let calls = [(1, 1, YES), (9, 9, YES), (12, 12, YES), (13, 13, YES)];
        let violation = check(log, &calls).unwrap_err();
        assert_eq!(violation.at(), Duration::from_secs(13));
    }

    #[test]
    fn calls_that_may_lie_outside_of_a_window_do_not_count() {
        let log = RatePromise::sliding_log(1, WINDOW);
        check(log, &[(1, 3, YES), (10, 12, YES)]).unwrap();
    }

    #[test]
    fn two_fixed_windows_may_meet_and_not_three() {
        let fixed = RatePromise::fixed_window(1, WINDOW);
        check(fixed, &[(9, 9, YES), (10, 10, YES)]).unwrap();
        check(fixed, &[(9, 9, YES), (10, 10, YES), (11, 11, YES)]).unwrap_err();
    }

    #[test]
    fn a_bucket_gives_its_burst_and_its_rate_in_a_window() {
        let bucket = RatePromise::gcra(2, WINDOW, 2);
        check(
            bucket,
            &[(1, 1, YES), (1, 1, YES), (6, 6, YES), (9, 9, YES)],
        )
        .unwrap();
        let calls = [
            (1, 1, YES),
            (1, 1, YES),
            (2, 2, YES),
            (3, 3, YES),
            (4, 4, YES),
        ];
        check(bucket, &calls).unwrap_err();
    }

    #[test]
    fn a_denial_while_units_are_free_is_refused() {
        let log = RatePromise::sliding_log(2, WINDOW);
        check(log, &[(1, 1, YES), (2, 2, YES), (3, 3, NO)]).unwrap();
        let violation = check(log, &[(1, 1, YES), (3, 3, NO)]).unwrap_err();
        assert_eq!(violation.guarantee(), "a promised unit is given");
        check(log, &[(1, 1, YES), (2, 2, YES), (30, 30, NO)]).unwrap_err();
    }

    #[test]
    fn a_call_without_an_answer_excuses_a_denial() {
        let log = RatePromise::sliding_log(2, WINDOW);
        check(log, &[(1, 1, YES), (2, 2, Outcome::Maybe), (3, 3, NO)]).unwrap();
        check(log, &[(1, 1, YES), (2, 2, Outcome::NotSent), (3, 3, NO)]).unwrap_err();
    }

    #[test]
    fn a_call_without_an_answer_excuses_denials_as_long_as_it_may_be_under_way() {
        let second = Duration::from_secs;
        let denied_at = |at: u64| {
            let log = RatePromise::sliding_log(1, WINDOW);
            let mut rate = Rate::new(log).in_flight_for(second(5));
            rate.asked(ProcessId(0), "a", 1, second(1), second(2), Outcome::Maybe);
            rate.asked(ProcessId(1), "a", 1, second(at), second(at), NO);
            rate.check()
        };
        denied_at(17).unwrap();
        denied_at(18).unwrap_err();
    }
}
