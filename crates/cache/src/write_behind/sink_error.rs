//! [`SinkError`]: why a change could not be written, in a text that can be kept and shown.

use std::error::Error as StdError;
use std::fmt;

/// Why the database did not take a change or a batch. Only a text is kept: at most 300 characters of
/// one line, with the user and password of URLs taken out. It is stored with dead letters, so do not
/// put values into it.
///
/// Any error becomes one with `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkError {
    text: Box<str>,
    is_unavailable: bool,
}

impl SinkError {
    /// A failure that counts as an attempt.
    pub fn new(error: impl fmt::Display) -> Self {
        Self {
            text: scrub(&error.to_string()).into(),
            is_unavailable: false,
        }
    }

    /// The database as a whole cannot be reached. Given for a batch, nothing counts as an attempt:
    /// the worker pauses, longer each time, and goes on. Dead letters do not pile up meanwhile.
    pub fn unavailable(error: impl fmt::Display) -> Self {
        Self {
            is_unavailable: true,
            ..Self::new(error)
        }
    }

    /// The text that is kept.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the database as a whole cannot be reached.
    pub fn is_unavailable(&self) -> bool {
        self.is_unavailable
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `SinkError` itself is no [`std::error::Error`], so that this can be.
impl<E: StdError> From<E> for SinkError {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

const MAX_CHARS: usize = 300;

fn scrub(text: &str) -> String {
    let line: String = text
        .chars()
        // A bound before the search below; credentials that are cut off are taken out as well.
        .take(4 * MAX_CHARS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let mut scrubbed = String::with_capacity(line.len());
    let mut rest = line.as_str();
    while let Some((before, after)) = rest.split_once("://") {
        scrubbed.push_str(before);
        scrubbed.push_str("://");
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | '?' | '#'))
            .unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                scrubbed.push_str("***@");
                scrubbed.push_str(host);
            }
            None => scrubbed.push_str(authority),
        }
        rest = tail;
    }
    scrubbed.push_str(rest);
    match scrubbed.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => {
            scrubbed.truncate(end);
            scrubbed.push('…');
            scrubbed
        }
        None => scrubbed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_bounded_line_without_credentials() {
        let text = |text: &str| SinkError::new(text).text().to_owned();
        assert_eq!(text("a\nb\u{7}c"), "a b c");
        assert_eq!(
            text("cannot reach postgres://shop:hunter2@db:5432/shop, nor redis://:p@ss@b"),
            "cannot reach postgres://***@db:5432/shop, nor redis://***@b"
        );
        assert_eq!(
            text("see https://example.org/a@b"),
            "see https://example.org/a@b"
        );
        let long = text(&"ü".repeat(10_000));
        assert_eq!(long.chars().count(), MAX_CHARS + 1);
    }

    #[test]
    fn any_error_becomes_one() {
        fn fails() -> Result<(), SinkError> {
            Err(std::io::Error::other("disk full"))?;
            Ok(())
        }
        let error = fails().unwrap_err();
        assert_eq!((error.text(), error.is_unavailable()), ("disk full", false));
        assert!(SinkError::unavailable("down").is_unavailable());
    }
}
