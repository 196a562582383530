//! Aggregates whose items are still coming.

use crate::value::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Array,
    Set,
    Map,
    Push,
    /// What a server says about the value that follows. Nobody here asks for it.
    Attribute,
}

/// An aggregate, and how many of its values are to come.
#[derive(Debug)]
pub(super) struct Open {
    left: u64,
    items: Items,
}

#[derive(Debug)]
enum Items {
    Array(Vec<Value>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    Map {
        pairs: Vec<(Value, Value)>,
        key: Option<Value>,
    },
    Skipped,
}

/// An aggregate that has come whole.
pub(super) enum Whole {
    Value(Value),
    Push(Vec<Value>),
    Nothing,
}

impl Open {
    /// `length` as the server says it; pairs count as two values. `None` when that is no number.
    pub(super) fn new(kind: Kind, length: u64, room: usize) -> Option<Self> {
        let items = match kind {
            Kind::Array => Items::Array(Vec::with_capacity(room)),
            Kind::Set => Items::Set(Vec::with_capacity(room)),
            Kind::Push => Items::Push(Vec::with_capacity(room)),
            Kind::Map => Items::Map {
                pairs: Vec::with_capacity(room),
                key: None,
            },
            Kind::Attribute => Items::Skipped,
        };
        let left = match kind {
            Kind::Map | Kind::Attribute => length.checked_mul(2)?,
            _ => length,
        };
        Some(Self { left, items })
    }

    /// Adds a value; says whether it was the last.
    pub(super) fn push(&mut self, value: Value) -> bool {
        match &mut self.items {
            Items::Array(items) | Items::Set(items) | Items::Push(items) => items.push(value),
            Items::Map { pairs, key } => match key.take() {
                None => *key = Some(value),
                Some(key) => pairs.push((key, value)),
            },
            Items::Skipped => {}
        }
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }

    pub(super) fn close(self) -> Whole {
        match self.items {
            Items::Array(items) => Whole::Value(Value::Array(items)),
            Items::Set(items) => Whole::Value(Value::Set(items)),
            Items::Map { pairs, .. } => Whole::Value(Value::Map(pairs)),
            Items::Push(items) => Whole::Push(items),
            Items::Skipped => Whole::Nothing,
        }
    }
}
