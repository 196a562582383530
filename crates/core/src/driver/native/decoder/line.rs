//! Lines: where one ends, and what stands in it.

use std::borrow::Cow;

use bytes::Bytes;

use super::Violation;

/// The longest line that is accepted: a status, an error, a number.
const LONGEST: usize = 64 * 1024;

pub(super) enum Scan {
    /// The line ends before this byte.
    End(usize),
    /// It has not come whole; so many of its bytes need not be looked at again.
    NotYet(usize),
}

/// Where the line at the start of `bytes` ends; its first `scanned` bytes are known not to end it.
pub(super) fn scan(bytes: &[u8], scanned: usize) -> Result<Scan, Violation> {
    let rest = bytes.get(scanned..).unwrap_or_default();
    let found = rest.iter().position(|&byte| byte == b'\r' || byte == b'\n');
    let at = found.map_or(bytes.len(), |at| scanned + at);
    if at > LONGEST {
        return Err(Violation::Line("longer than 64 KiB"));
    }
    match (bytes.get(at), bytes.get(at + 1)) {
        (Some(b'\r'), Some(b'\n')) => Ok(Scan::End(at)),
        (None, _) | (Some(b'\r'), None) => match bytes.first() {
            // The byte that says what comes is known to be wrong before its line ends.
            Some(&marker) if !is_marker(marker) => Err(Violation::Marker(marker)),
            _ => Ok(Scan::NotYet(at)),
        },
        _ => match bytes.first() {
            Some(&marker) if !is_marker(marker) => Err(Violation::Marker(marker)),
            _ => Err(Violation::Line("not ended by CR LF")),
        },
    }
}

fn is_marker(byte: u8) -> bool {
    b"+-:_#,($!=*~%>|".contains(&byte)
}

pub(super) fn text(line: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(line)
}

pub(super) fn integer(line: &[u8]) -> Result<i64, Violation> {
    let (negative, digits) = match line.split_first() {
        Some((b'-', digits)) => (true, digits),
        Some((b'+', digits)) => (false, digits),
        _ => (false, line),
    };
    if digits.is_empty() {
        return Err(NUMBER);
    }
    // Towards the sign, so that the least number fits.
    digits
        .iter()
        .try_fold(0_i64, |number, &byte| {
            let digit = i64::from(byte.wrapping_sub(b'0'));
            if digit > 9 {
                return None;
            }
            let number = number.checked_mul(10)?;
            match negative {
                true => number.checked_sub(digit),
                false => number.checked_add(digit),
            }
        })
        .ok_or(NUMBER)
}

/// A length; `None` for the old way to say that there is nothing.
pub(super) fn length(line: &[u8]) -> Result<Option<u64>, Violation> {
    match integer(line)? {
        -1 => Ok(None),
        length => u64::try_from(length).map(Some).map_err(|_| NUMBER),
    }
}

pub(super) fn boolean(line: &[u8]) -> Result<bool, Violation> {
    match line {
        b"t" => Ok(true),
        b"f" => Ok(false),
        _ => Err(Violation::Line("a truth value")),
    }
}

pub(super) fn double(line: &[u8]) -> Result<f64, Violation> {
    std::str::from_utf8(line)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(NUMBER)
}

pub(super) fn big_number(line: &[u8]) -> Result<Bytes, Violation> {
    let digits = line
        .strip_prefix(b"-")
        .or(line.strip_prefix(b"+"))
        .unwrap_or(line);
    match !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) {
        true => Ok(Bytes::copy_from_slice(line)),
        false => Err(NUMBER),
    }
}

const NUMBER: Violation = Violation::Line("a number");
