//! Reading arguments the way the server reads them: which texts are integers, floats, ranges.

use std::ops::Bound;

use bytes::Bytes;
use redkit_core::ServerError;

use crate::{error, number};

/// An owned copy of an argument.
pub(crate) fn owned(arg: &[u8]) -> Bytes {
    Bytes::copy_from_slice(arg)
}

/// Whether an argument is this keyword, which is given in upper case.
pub(crate) fn is(arg: &[u8], keyword: &str) -> bool {
    arg.eq_ignore_ascii_case(keyword.as_bytes())
}

/// A 64-bit integer in its only canonical form: no sign `+`, no leading zero, no blanks.
pub(crate) fn parse_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        [] => return None,
        [b'0', ..] if text.len() > 1 => return None,
        _ if !digits.iter().all(u8::is_ascii_digit) => return None,
        _ => {}
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

pub(crate) fn integer(arg: &[u8]) -> Result<i64, ServerError> {
    parse_integer(arg).ok_or_else(error::not_integer)
}

/// A count that must not be negative.
pub(crate) fn positive(arg: &[u8]) -> Result<usize, ServerError> {
    let count = parse_integer(arg).ok_or_else(error::not_positive)?;
    usize::try_from(count).map_err(|_| error::not_positive())
}

/// A float as `strtod` reads it, without blanks before it and without `nan`. Values that do not
/// fit a double are refused.
pub(crate) fn parse_float(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let number: f64 = text.parse().ok().or_else(|| number::parse_hex_f64(text))?;
    let is_infinity = text.bytes().any(|b| b == b'i' || b == b'I');
    let lost = (number.is_infinite() && !is_infinity)
        || (number == 0.0 && mantissa_has_digit(text) && !is_infinity);
    (!number.is_nan() && !lost).then_some(number)
}

pub(crate) fn float(arg: &[u8]) -> Result<f64, ServerError> {
    parse_float(arg).ok_or_else(error::not_float)
}

fn mantissa_has_digit(text: &str) -> bool {
    text.bytes()
        .take_while(|b| !matches!(b, b'e' | b'E'))
        .any(|b| matches!(b, b'1'..=b'9'))
}

/// One end of a range of scores: a float, exclusive after `(`.
pub(crate) fn score_bound(arg: &[u8]) -> Result<Bound<f64>, ServerError> {
    let refused = || error::err("min or max is not a float");
    let (exclusive, text) = match arg {
        [b'(', rest @ ..] => (true, rest),
        all => (false, all),
    };
    let text = text.trim_ascii_start();
    // The server reads an empty text as zero here.
    let number = match text {
        [] => 0.0,
        text => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok().or_else(|| number::parse_hex_f64(text)))
            .filter(|number: &f64| !number.is_nan())
            .ok_or_else(refused)?,
    };
    Ok(match exclusive {
        true => Bound::Excluded(number),
        false => Bound::Included(number),
    })
}

/// One end of a lexicographical range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LexBound<'a> {
    /// `-`: before everything.
    Least,
    /// `+`: after everything.
    Greatest,
    /// `[member`.
    Included(&'a [u8]),
    /// `(member`.
    Excluded(&'a [u8]),
}

pub(crate) fn lex_bound(arg: &[u8]) -> Result<LexBound<'_>, ServerError> {
    match arg {
        b"-" => Ok(LexBound::Least),
        b"+" => Ok(LexBound::Greatest),
        [b'[', member @ ..] => Ok(LexBound::Included(member)),
        [b'(', member @ ..] => Ok(LexBound::Excluded(member)),
        _ => Err(error::err("min or max not valid string range item")),
    }
}

/// `start` and `stop` that may count from the end, as indexes into `len` items; `None` when the
/// range is empty. The second index is inclusive.
pub(crate) fn index_range(start: i64, stop: i64, len: usize) -> Option<(usize, usize)> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let from_end = |index: i64| match index < 0 {
        true => index.saturating_add(len),
        false => index,
    };
    let start = from_end(start).max(0);
    let stop = from_end(stop).min(len - 1);
    if start > stop || start >= len {
        return None;
    }
    Some((usize::try_from(start).ok()?, usize::try_from(stop).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_canonical() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-7", Some(-7)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("+1", None),
            ("01", None),
            (" 1", None),
            ("1.0", None),
        ] {
            assert_eq!(parse_integer(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn floats_that_do_not_fit_are_refused() {
        assert_eq!(parse_float(b"-inf"), Some(f64::NEG_INFINITY));
        assert_eq!(parse_float(b"1.5e3"), Some(1500.0));
        assert_eq!(parse_float(b"0e5"), Some(0.0));
        for text in ["nan", "1e999", "1e-999", "", " 1", "1 ", "x"] {
            assert_eq!(parse_float(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn ranges_clamp_and_count_from_the_end() {
        assert_eq!(index_range(0, -1, 3), Some((0, 2)));
        assert_eq!(index_range(-100, 100, 3), Some((0, 2)));
        assert_eq!(index_range(2, 1, 3), None);
        assert_eq!(index_range(3, 5, 3), None);
        assert_eq!(index_range(0, -1, 0), None);
        assert_eq!(index_range(i64::MIN, i64::MAX, 2), Some((0, 1)));
    }
}
