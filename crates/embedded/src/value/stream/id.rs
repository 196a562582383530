//! The names of entries: milliseconds and a number within them.

use std::fmt;

use redkit_core::{ServerError, Value};

use crate::error;

/// Orders the entries of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId {
    pub(crate) millis: u64,
    pub(crate) sequence: u64,
}

/// An id as `XADD` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NewId {
    /// `*`
    Auto,
    /// `ms-*`
    Within(u64),
    Given(StreamId),
}

/// One end of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Start,
    Stop,
}

impl StreamId {
    pub(crate) const MIN: Self = Self::new(0, 0);
    pub(crate) const MAX: Self = Self::new(u64::MAX, u64::MAX);

    pub(crate) const fn new(millis: u64, sequence: u64) -> Self {
        Self { millis, sequence }
    }

    /// An id whose sequence, when it is missing, is this one.
    pub(crate) fn parse(arg: &[u8], missing: u64) -> Result<Self, ServerError> {
        Self::read(arg, missing).ok_or_else(invalid)
    }

    fn read(arg: &[u8], missing: u64) -> Option<Self> {
        let mut parts = arg.splitn(2, |&b| b == b'-');
        let millis = unsigned(parts.next()?)?;
        let sequence = match parts.next() {
            Some(sequence) => unsigned(sequence)?,
            None => missing,
        };
        Some(Self::new(millis, sequence))
    }

    /// One end of a range: an id, exclusive after `(`, or `-` and `+` for the least and the
    /// greatest. The result is inclusive.
    pub(crate) fn bound(arg: &[u8], end: End) -> Result<Self, ServerError> {
        let (exclusive, text) = match arg {
            [b'(', rest @ ..] if !rest.is_empty() => (true, rest),
            all => (false, all),
        };
        let missing = match end {
            End::Start => 0,
            End::Stop => u64::MAX,
        };
        let id = match text {
            b"-" if !exclusive => Self::MIN,
            b"+" if !exclusive => Self::MAX,
            text => Self::parse(text, missing)?,
        };
        match (exclusive, end) {
            (false, _) => Ok(id),
            (true, End::Start) => id
                .next()
                .ok_or_else(|| error::err("invalid start ID for the interval")),
            (true, End::Stop) => id
                .previous()
                .ok_or_else(|| error::err("invalid end ID for the interval")),
        }
    }

    pub(crate) fn next(self) -> Option<Self> {
        match self.sequence.checked_add(1) {
            Some(sequence) => Some(Self::new(self.millis, sequence)),
            None => Some(Self::new(self.millis.checked_add(1)?, 0)),
        }
    }

    fn previous(self) -> Option<Self> {
        match self.sequence.checked_sub(1) {
            Some(sequence) => Some(Self::new(self.millis, sequence)),
            None => Some(Self::new(self.millis.checked_sub(1)?, u64::MAX)),
        }
    }

    pub(crate) fn to_value(self) -> Value {
        Value::bulk(self.to_string())
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

impl NewId {
    pub(crate) fn parse(arg: &[u8]) -> Result<Self, ServerError> {
        if arg == b"*" {
            return Ok(NewId::Auto);
        }
        match arg.strip_suffix(b"-*") {
            Some(millis) => unsigned(millis).map(NewId::Within).ok_or_else(invalid),
            None => StreamId::parse(arg, 0).map(NewId::Given),
        }
    }
}

/// As C reads it, apart from negative numbers: blanks before it, leading zeros and a `+` are fine.
fn unsigned(text: &[u8]) -> Option<u64> {
    let blanks = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text.iter().take_while(|byte| blanks(byte)).count();
    std::str::from_utf8(text.get(start..)?).ok()?.parse().ok()
}

fn invalid() -> ServerError {
    error::err("Invalid stream ID specified as stream command argument")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_on_the_server() {
        for (text, expected) in [
            ("1-2", Some((1, 2))),
            ("5", Some((5, 7))),
            ("01-+2", Some((1, 2))),
            (" 1-\t2", Some((1, 2))),
            ("1 -2", None),
            (" ", None),
            (
                "18446744073709551615-18446744073709551615",
                Some((u64::MAX, u64::MAX)),
            ),
            ("", None),
            ("-", None),
            ("-1", None),
            ("1-", None),
            ("1--1", None),
            ("1-2-3", None),
            ("x", None),
            ("18446744073709551616", None),
        ] {
            let id = StreamId::parse(text.as_bytes(), 7).ok();
            assert_eq!(id.map(|id| (id.millis, id.sequence)), expected, "{text:?}");
        }
    }

    #[test]
    fn exclusive_bounds_step_over_the_ends_of_a_millisecond() {
        let bound =
            |text: &str, end| StreamId::bound(text.as_bytes(), end).map(|id| id.to_string());
        assert_eq!(bound("(1-18446744073709551615", End::Start).unwrap(), "2-0");
        assert_eq!(bound("(2-0", End::Stop).unwrap(), "1-18446744073709551615");
        assert_eq!(bound("(2", End::Stop).unwrap(), "2-18446744073709551614");
        assert!(bound("(0-0", End::Stop).is_err());
        assert!(bound("(18446744073709551615-18446744073709551615", End::Start).is_err());
        assert!(bound("(-", End::Start).is_err());
    }
}
