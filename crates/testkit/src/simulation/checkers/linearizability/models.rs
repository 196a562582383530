//! [`Register`] and [`Counter`]: the objects that most services keep on a server.

use std::hash::Hash;

use super::Model;

/// A value that is read, written, and compared and set.
///
/// ```
/// use redkit_testkit::simulation::checkers::linearizability::{
///     Model, Register, RegisterCall, RegisterReply,
/// };
///
/// let register = Register::new("old");
/// let written = register.step(&"old", &RegisterCall::Write("new"), None);
/// assert_eq!(written, Some("new"));
/// let read = RegisterReply::Value("old");
/// assert_eq!(register.step(&"new", &RegisterCall::Read, Some(&read)), None);
/// ```
#[derive(Debug, Clone)]
pub struct Register<V> {
    initial: V,
}

impl<V> Register<V> {
    /// A register that holds `initial` at first.
    pub fn new(initial: V) -> Self {
        Self { initial }
    }
}

/// A call of a [`Register`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RegisterCall<V> {
    /// Reads the value.
    Read,
    /// Puts another value in its place.
    Write(V),
    /// Puts `to` in the place of `from`, if that is the value.
    CompareAndSet {
        /// The value that is expected.
        from: V,
        /// The value in its place.
        to: V,
    },
}

/// A reply of a [`Register`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RegisterReply<V> {
    /// The value that was read.
    Value(V),
    /// It was written.
    Written,
    /// Whether the value was the one that was expected, and was set.
    Set(bool),
}

impl<V: Clone + Eq + Hash> Model for Register<V> {
    type State = V;
    type Call = RegisterCall<V>;
    type Reply = RegisterReply<V>;

    fn initial(&self) -> V {
        self.initial.clone()
    }

    fn step(
        &self,
        state: &V,
        call: &RegisterCall<V>,
        reply: Option<&RegisterReply<V>>,
    ) -> Option<V> {
        let (next, expected) = match call {
            RegisterCall::Read => (state, RegisterReply::Value(state.clone())),
            RegisterCall::Write(value) => (value, RegisterReply::Written),
            RegisterCall::CompareAndSet { from, to } if from == state => {
                (to, RegisterReply::Set(true))
            }
            RegisterCall::CompareAndSet { .. } => (state, RegisterReply::Set(false)),
        };
        let fits = reply.is_none_or(|reply| *reply == expected);
        fits.then(|| next.clone())
    }
}

/// A number that calls add to, and that begins at zero. Every reply is the number after the call.
///
/// ```
/// use redkit_testkit::simulation::checkers::linearizability::{Counter, CounterCall, Model};
///
/// assert_eq!(Counter.step(&4, &CounterCall::Add(3), Some(&7)), Some(7));
/// assert_eq!(Counter.step(&4, &CounterCall::Add(3), Some(&8)), None);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Counter;

/// A call of a [`Counter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CounterCall {
    /// Reads the number.
    Read,
    /// Adds to the number.
    Add(i64),
}

impl Model for Counter {
    type State = i64;
    type Call = CounterCall;
    type Reply = i64;

    fn initial(&self) -> i64 {
        0
    }

    fn step(&self, state: &i64, call: &CounterCall, reply: Option<&i64>) -> Option<i64> {
        let next = match call {
            CounterCall::Read => *state,
            CounterCall::Add(number) => state.wrapping_add(*number),
        };
        reply.is_none_or(|reply| *reply == next).then_some(next)
    }
}
