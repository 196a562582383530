//! Scripts' replies, item by item.

use std::vec::IntoIter;

use redkit_core::{Error, FromValue, Value, ValueError};

pub(super) struct Reply(IntoIter<Value>);

impl Reply {
    pub(super) fn new(items: Vec<Value>) -> Self {
        Self(items.into_iter())
    }

    pub(super) fn next<T: FromValue>(&mut self) -> Result<T, Error> {
        match self.0.next() {
            Some(value) => value.to().map_err(unexpected),
            None => Err(wrong("another item", "fewer items")),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }
}

pub(super) fn wrong(expected: &'static str, got: &'static str) -> Error {
    unexpected(ValueError { expected, got })
}

fn unexpected(error: ValueError) -> Error {
    Error::Reply {
        command: "EVALSHA".into(),
        error,
    }
}
