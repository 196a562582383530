//! [`Pattern`]: which keys are meant, with literal text and wildcards kept apart.

use std::fmt;

use crate::command::ToArg;
use crate::error::Error;
use crate::keys::escape_glob;

use super::expiry::wrong;

/// Which keys are meant. Literal parts are taken literally whatever they hold, so text from users
/// cannot widen it:
///
/// ```
/// use redkit_core::Pattern;
///
/// let user = "*"; // a user's name, of all things
/// let carts = Pattern::starting("cart:").literal(user).literal(":").any();
/// assert_eq!(carts.to_string(), r"cart:\*:*");
/// ```
///
/// The namespace stands before it by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pattern {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    /// `*`, and whether it is captured.
    Any {
        captured: bool,
    },
    /// `?`
    One,
    /// `[…]`, as it is written.
    Class(Vec<u8>),
}

impl Pattern {
    /// Every key of the namespace.
    pub fn all() -> Self {
        Self::default().any()
    }

    /// Every key that begins with this text, literally.
    pub fn prefix(text: impl ToArg) -> Self {
        Self::starting(text).any()
    }

    /// A pattern that begins with this text, literally; more parts follow. Without any it is the
    /// one key of that name.
    pub fn starting(text: impl ToArg) -> Self {
        Self::default().literal(text)
    }

    /// A glob as servers know it, with `*`, `?`, `[a-z]`, `[^a-z]` and `\` to escape them. For
    /// patterns that a programmer writes: put nothing into it that a user chose.
    pub fn glob(glob: &str) -> Self {
        let mut pattern = Self::default();
        let mut rest = glob.as_bytes();
        while let Some((&first, behind)) = rest.split_first() {
            rest = behind;
            match first {
                b'*' => pattern = pattern.any(),
                b'?' => pattern = pattern.one(),
                b'[' => match class_end(behind) {
                    Some(end) => {
                        let (class, behind) = behind.split_at(end + 1);
                        pattern.parts.push(Part::Class([b"[", class].concat()));
                        rest = behind;
                    }
                    None => pattern = pattern.literal([b'[']),
                },
                b'\\' => match behind.split_first() {
                    Some((&escaped, behind)) => {
                        pattern = pattern.literal([escaped]);
                        rest = behind;
                    }
                    None => pattern = pattern.literal([b'\\']),
                },
                other => pattern = pattern.literal([other]),
            }
        }
        pattern
    }

    /// Text, literally.
    #[must_use]
    pub fn literal(mut self, text: impl ToArg) -> Self {
        match self.parts.last_mut() {
            Some(Part::Literal(before)) => text.write_to(before),
            _ => {
                let mut literal = Vec::new();
                text.write_to(&mut literal);
                self.parts.push(Part::Literal(literal));
            }
        }
        self
    }

    /// Anything, or nothing (`*`).
    #[must_use]
    pub fn any(mut self) -> Self {
        self.parts.push(Part::Any { captured: false });
        self
    }

    /// One byte (`?`).
    #[must_use]
    pub fn one(mut self) -> Self {
        self.parts.push(Part::One);
        self
    }

    /// Anything, or nothing, by which [`Scan::group`](crate::Scan::group) groups: as little as lets
    /// the rest of the pattern follow.
    #[must_use]
    pub fn capture(mut self) -> Self {
        self.parts.push(Part::Any { captured: true });
        self
    }

    /// The glob as it is sent, for scans of other things than keys, which have no namespace.
    pub fn to_glob(&self) -> Vec<u8> {
        self.glob_in("")
    }

    /// The glob behind a namespace.
    pub(super) fn glob_in(&self, prefix: &str) -> Vec<u8> {
        let mut glob = escape_glob(prefix.as_bytes());
        for part in &self.parts {
            match part {
                Part::Literal(text) => glob.extend_from_slice(&escape_glob(text)),
                Part::Any { .. } => glob.push(b'*'),
                Part::One => glob.push(b'?'),
                Part::Class(class) => glob.extend_from_slice(class),
            }
        }
        glob
    }

    /// Whether every key matches.
    pub(super) fn is_all(&self) -> bool {
        matches!(self.parts.as_slice(), [Part::Any { .. }])
    }

    /// What finds the captured part; an error unless there is exactly one.
    pub(super) fn capturer(&self) -> Result<Capturer, Error> {
        let mut segments = vec![Vec::new()];
        let mut captured = None;
        for part in &self.parts {
            let Some(open) = segments.last_mut() else {
                continue;
            };
            match part {
                Part::Literal(text) => open.extend(text.iter().copied().map(Some)),
                Part::One => open.push(None),
                Part::Any { captured: here } => {
                    if *here && captured.replace(segments.len()).is_some() {
                        return Err(wrong("SCAN", "two parts of the pattern are captured"));
                    }
                    segments.push(Vec::new());
                }
                Part::Class(_) => {
                    return Err(wrong(
                        "SCAN",
                        "a pattern with `[…]` captures nothing; use `any` and `one`",
                    ));
                }
            }
        }
        match captured {
            Some(captured) => Ok(Capturer { segments, captured }),
            None => Err(wrong(
                "SCAN",
                "no part of the pattern is captured; use `Pattern::capture`",
            )),
        }
    }
}

/// As a glob, without the namespace.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.glob_in("")))
    }
}

/// Where a class ends for a server, counted from behind its bracket. The end of a range stands for
/// itself, whatever it is: in `[a-]` the class goes on.
fn class_end(bytes: &[u8]) -> Option<usize> {
    let mut at = usize::from(bytes.first() == Some(&b'^'));
    loop {
        at += match bytes.get(at..)? {
            [] => return None,
            [b'\\', _, ..] => 2,
            [b']', ..] => return Some(at),
            [_, b'-', _, ..] => 3,
            [_, ..] => 1,
        };
    }
}

/// Finds the captured part of a key that matches.
pub(super) struct Capturer {
    /// What stands between the `*`; `None` is any byte.
    segments: Vec<Vec<Option<u8>>>,
    /// The captured `*` stands before this segment.
    captured: usize,
}

impl Capturer {
    /// Each `*` takes as little as it can, except the last, which takes what is left: if any way
    /// matches, this one does.
    pub(super) fn find<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        let (first, rest) = self.segments.split_first()?;
        if !matches_at(first, key) {
            return None;
        }
        let mut position = first.len();
        let mut found = None;
        for (i, segment) in rest.iter().enumerate() {
            let fits = |&start: &usize| {
                start >= position && key.get(start..).is_some_and(|at| matches_at(segment, at))
            };
            let start = match i + 1 == rest.len() {
                true => key.len().checked_sub(segment.len()).filter(fits)?,
                false => (position..=key.len()).find(fits)?,
            };
            if i + 1 == self.captured {
                found = key.get(position..start);
            }
            position = start + segment.len();
        }
        found
    }
}

fn matches_at(segment: &[Option<u8>], bytes: &[u8]) -> bool {
    bytes.len() >= segment.len()
        && segment
            .iter()
            .zip(bytes)
            .all(|(wanted, byte)| wanted.is_none_or(|wanted| wanted == *byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn captured<'k>(pattern: &Pattern, key: &'k str) -> Option<&'k str> {
        let found = pattern.capturer().unwrap().find(key.as_bytes())?;
        Some(std::str::from_utf8(found).unwrap())
    }

    #[test]
    fn user_text_is_no_glob() {
        let pattern = Pattern::starting("a:")
            .literal("*?[x]\\")
            .literal(":")
            .any()
            .one();
        assert_eq!(pattern.to_string(), r"a:\*\?\[x\]\\:*?");
        assert_eq!(pattern.glob_in("n*:"), br"n\*:a:\*\?\[x\]\\:*?");
        assert!(Pattern::all().is_all() && !Pattern::prefix("a").is_all());
    }

    #[test]
    fn a_glob_stays_what_it_was() {
        for glob in [
            "user:*",
            "a?c",
            "[a-c]x",
            "[^]x]y",
            r"\*literal",
            "[open",
            "",
            r"x[\]]",
        ] {
            let shown = Pattern::glob(glob).to_string();
            let again = Pattern::glob(&shown).to_string();
            assert_eq!(shown, again, "{glob}");
        }
        assert_eq!(Pattern::glob("user:*"), Pattern::prefix("user:"));
        assert_eq!(Pattern::glob(r"\*x").to_string(), r"\*x");
        assert_eq!(Pattern::glob("[a-c]x").to_string(), "[a-c]x");
        assert_eq!(Pattern::glob(r"x\").to_string(), r"x\\");
        // Where the server goes on reading, nothing that follows may become a part of the class.
        for (glob, shown) in [
            ("[a-]", r"\[a\-\]x\]"),
            ("[^a-]", r"\[\^a\-\]x\]"),
            ("[a-]b]", r"[a-]b]x\]"),
            ("[-]", r"[-]x\]"),
            ("[^-]", r"[^-]x\]"),
            (r"[\]-]", r"[\]-]x\]"),
            (r"[a-\]", r"[a-\]x\]"),
        ] {
            assert_eq!(Pattern::glob(glob).literal("x]").to_string(), shown);
        }
    }

    #[test]
    fn the_captured_part_is_found() {
        let orders = Pattern::starting("order:").capture().literal(":").any();
        assert_eq!(captured(&orders, "order:42:lines"), Some("42"));
        assert_eq!(captured(&orders, "order:42:lines:7"), Some("42"));
        assert_eq!(captured(&orders, "order:42"), None);
        let last = Pattern::default().any().literal(":").capture();
        assert_eq!(captured(&last, "a:b:c"), Some("b:c"));
        let dated = Pattern::default()
            .one()
            .one()
            .literal("-")
            .capture()
            .literal("!");
        assert_eq!(captured(&dated, "07-x!y!"), Some("x!y"));
        assert_eq!(captured(&dated, "7-x!"), None);
        for wrong in [
            Pattern::all(),
            Pattern::default().capture().capture(),
            Pattern::glob("[a]").capture(),
        ] {
            assert!(wrong.capturer().is_err(), "{wrong}");
        }
    }

    proptest! {
        /// Against the obvious matcher, which tries everything.
        #[test]
        fn it_matches_when_any_way_does(
            parts in proptest::collection::vec(0_u8..4, 1..6),
            key in "[ab]{0,7}",
        ) {
            let pattern = parts.iter().fold(Pattern::default(), |pattern, part| match part {
                0 => pattern.any(),
                1 => pattern.one(),
                2 => pattern.literal("a"),
                _ => pattern.literal("ab"),
            });
            let pattern = pattern.capture();
            let found = pattern.capturer().unwrap().find(key.as_bytes()).is_some();
            prop_assert_eq!(found, naive(&pattern.parts, key.as_bytes()));
        }
    }

    fn naive(parts: &[Part], key: &[u8]) -> bool {
        match parts {
            [] => key.is_empty(),
            [Part::Any { .. }, rest @ ..] => {
                (0..=key.len()).any(|taken| naive(rest, &key[taken..]))
            }
            [Part::One, rest @ ..] => !key.is_empty() && naive(rest, &key[1..]),
            [Part::Literal(text), rest @ ..] => {
                key.starts_with(text) && naive(rest, &key[text.len()..])
            }
            [Part::Class(_), ..] => false,
        }
    }
}
