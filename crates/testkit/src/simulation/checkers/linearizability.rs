//! Linearizability: whether there is an order of the calls, each at one moment between its start and its end,
//! in which a sequential [`Model`] gives the same replies.
//!
//! The search is Wing and Gong's (*Testing and Verifying Concurrent Objects*, 1993) with Lowe's memory of the
//! configurations that were seen (*Testing for Linearizability*, 2017). An operation of unknown outcome may take
//! effect at any moment after its start, or never. The property holds for each key alone: divide a history with
//! [`History::partition`](crate::simulation::history::History::partition) first, because the search costs more than
//! proportionally.

mod models;
mod search;

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

pub use self::models::{Counter, CounterCall, Register, RegisterCall, RegisterReply};
use self::search::{Found, Search};
use crate::simulation::history::{History, Operation, Outcome};
use crate::simulation::violation::Violation;

/// What an object does when its calls come one after the other.
///
/// ```
/// use redkit_testkit::simulation::checkers::linearizability::Model;
///
/// /// Gives each number once.
/// struct Numbers;
///
/// impl Model for Numbers {
///     type State = u64;
///     type Call = ();
///     type Reply = u64;
///
///     fn initial(&self) -> u64 {
///         0
///     }
///
///     fn step(&self, last: &u64, (): &(), reply: Option<&u64>) -> Option<u64> {
///         let next = last + 1;
///         reply.is_none_or(|reply| *reply == next).then_some(next)
///     }
/// }
/// ```
pub trait Model {
    /// What the object is between two calls.
    type State: Clone + Eq + Hash;
    /// A call.
    type Call;
    /// A reply.
    type Reply;

    /// The state before the first call.
    fn initial(&self) -> Self::State;

    /// The state after a call that gave this reply; `None` when it cannot give this reply in this state. Without a
    /// reply the caller does not know it, and any will do.
    fn step(
        &self,
        state: &Self::State,
        call: &Self::Call,
        reply: Option<&Self::Reply>,
    ) -> Option<Self::State>;
}

/// Whether a history is linearizable.
///
/// ```
/// use std::time::Duration;
/// use redkit_testkit::simulation::checkers::linearizability::{self, Counter, CounterCall};
/// use redkit_testkit::simulation::history::{History, Operation, Outcome, ProcessId};
///
/// let mut history = History::new();
/// let mut add = |process, start, end, outcome| {
///     history.push(Operation {
///         process: ProcessId(process),
///         start: Duration::from_secs(start),
///         end: Some(Duration::from_secs(end)),
///         call: CounterCall::Add(1),
///         outcome,
///     });
/// };
/// add(1, 1, 3, Outcome::Replied(2)); // came second, though it began first
/// add(2, 2, 4, Outcome::Replied(1));
/// add(3, 5, 6, Outcome::Maybe); // carried out or not
/// add(1, 7, 8, Outcome::Replied(4));
/// assert!(linearizability::check(&Counter, &history).is_ok());
///
/// history.push(Operation {
///     process: ProcessId(2),
///     start: Duration::from_secs(9),
///     end: Some(Duration::from_secs(9)),
///     call: CounterCall::Read,
///     outcome: Outcome::Replied(5), // an increment was applied twice
/// });
/// assert!(linearizability::check(&Counter, &history).is_err());
/// ```
///
/// # Errors
/// The operations for which no order was found. A history for which the search needs more than a million
/// configurations is refused as undecided: make it shorter.
pub fn check<M: Model>(model: &M, history: &History<M::Call, M::Reply>) -> Result<(), Violation>
where
    M::Call: Debug + PartialEq,
    M::Reply: Debug,
{
    let operations: Vec<&Operation<_, _>> = history
        .operations()
        .iter()
        .filter(|operation| !matches!(operation.outcome, Outcome::NotSent))
        .collect();
    match Search::new(model, &operations).run() {
        Found::Order => Ok(()),
        Found::None { longest } => Err(story("linearizability", &operations, &longest)),
        Found::Undecided { longest } => Err(story(
            "linearizability (undecided, the history is too long)",
            &operations,
            &longest,
        )),
    }
}

/// How many of the operations that were put in order the story tells.
const TOLD: usize = 6;

/// The longest order that was found, and the operations of which none can come next.
fn story<C: Debug, R: Debug>(
    guarantee: &'static str,
    operations: &[&Operation<C, R>],
    longest: &[usize],
) -> Violation {
    let is_ordered = |index: &usize| longest.contains(index);
    let left = (0..operations.len()).filter(|index| !is_ordered(index));
    let left: Vec<_> = left.filter_map(|index| operations.get(index)).collect();
    let known = left
        .iter()
        .filter(|operation| operation.outcome.reply().is_some());
    let horizon = known.filter_map(|operation| operation.end).min();
    let horizon = horizon.unwrap_or_default();
    let mut violation = Violation::new(guarantee, horizon);
    let skipped = longest.len().saturating_sub(TOLD);
    for (place, index) in longest.iter().enumerate().skip(skipped) {
        if let Some(operation) = operations.get(*index) {
            let text = format!("{} (number {} in order)", words(operation), place + 1);
            violation = violation.event(operation.start, operation.process, text);
        }
    }
    for operation in left.iter().filter(|operation| operation.start <= horizon) {
        let text = format!("{} (fits nowhere)", words(operation));
        violation = violation.event(operation.start, operation.process, text);
    }
    violation
}

fn words<C: Debug, R: Debug>(operation: &Operation<C, R>) -> String {
    let Operation { call, outcome, .. } = operation;
    let end = operation.end.map(|end: Duration| end.as_secs_f64());
    match (outcome.reply(), end) {
        (Some(reply), Some(end)) => format!("calls {call:?}: {reply:?} until {end:.6} s"),
        (_, Some(end)) => format!("calls {call:?}: unknown at {end:.6} s"),
        (_, None) => format!("calls {call:?} and dies"),
    }
}

#[cfg(test)]
mod tests;
