//! [`ItemId`].

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use redkit_core::{FromValue, Value, ValueError};

/// The id of an item: the server's time in ms, and a number. Later items have greater ids. Its text
/// form (`1764428400000-0`) is fit for `Last-Event-ID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId {
    millis: u64,
    number: u64,
}

/// A text that is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is two numbers with a hyphen between them, such as `1764428400000-0`")]
#[non_exhaustive]
pub struct NotAnId;

impl ItemId {
    /// Before the first one.
    pub(crate) const BEGINNING: Self = Self {
        millis: 0,
        number: 0,
    };

    /// The first number of a stream's id.
    pub(crate) fn millis(self) -> u64 {
        self.millis
    }

    /// The least id that is greater.
    pub(super) fn next(self) -> Self {
        match self.number.checked_add(1) {
            Some(number) => Self { number, ..self },
            None => Self {
                millis: self.millis.saturating_add(1),
                number: 0,
            },
        }
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.number)
    }
}

impl FromStr for ItemId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (millis, number) = text.split_once('-').ok_or(NotAnId)?;
        Ok(Self {
            millis: millis.parse().map_err(|_| NotAnId)?,
            number: number.parse().map_err(|_| NotAnId)?,
        })
    }
}

impl FromValue for ItemId {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        let bytes = value.to::<Bytes>()?;
        let id = std::str::from_utf8(&bytes).ok().map(str::parse);
        id.and_then(Result::ok).ok_or(ValueError {
            expected: "the id of an entry",
            got: "another text",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ordered_and_their_text_comes_back() {
        let ids = ["1-0", "1-1", "1-18446744073709551615", "2-0", "10-0"];
        let parsed: Vec<ItemId> = ids.iter().map(|id| id.parse().unwrap()).collect();
        assert!(parsed.is_sorted());
        assert!(parsed.iter().map(ItemId::to_string).eq(ids));
        assert_eq!(parsed[2].next(), parsed[3]);
        assert_eq!(parsed[0].next(), parsed[1]);
        for none in ["", "1", "-", "1-", "a-1", "1-2-3", "1--2"] {
            assert_eq!(none.parse::<ItemId>(), Err(NotAnId), "{none}");
        }
    }
}
