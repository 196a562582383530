//! [`Entry`]: how a value lies in Redis. One line of text, and then the value as the codec wrote it:
//!
//! ```text
//! rk1 <id> <written> <ttl> <grace> <cost> <version> <kind> <generation> <tags>\n<value>
//! ```
//!
//! | field | what it is |
//! |---|---|
//! | `rk1` | this format |
//! | `id` | a random number in hexadecimal, another for every writing |
//! | `written` | when, in microseconds since the epoch by the server's clock |
//! | `ttl`, `grace` | for how long it is fresh, and for how long after that it is there to be served stale, in milliseconds; the key's own expiry is their sum |
//! | `cost` | how long the load took, in microseconds |
//! | `version` | of the source, or `-` |
//! | `kind` | `v` a value; `n` the source has none, and nothing follows |
//! | `generation` | of the cache, or `-` when it cannot be cleared |
//! | `tags` | `tag=generation`, with commas between, or `-`; bytes that could be mistaken are written as `%XX` |

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::fetched::{Fetched, Source};
use crate::id::Id;

/// These bytes stand in a tag's name only as `%XX`.
const RESERVED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b',').add(b'=');

/// Everything about an entry but its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) id: Id,
    pub(crate) ttl: Duration,
    pub(crate) grace: Duration,
    pub(crate) cost: Duration,
    pub(crate) version: Option<u64>,
    /// The source has no value.
    pub(crate) is_negative: bool,
    pub(crate) generation: Option<Id>,
    pub(crate) tags: Vec<(Box<str>, Id)>,
}

/// An entry as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) head: Head,
    pub(crate) value: Bytes,
}

/// An entry to be written: a script puts the time of the writing between the two.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) head: String,
    pub(crate) rest: Bytes,
}

/// A value that was read.
#[derive(Debug)]
pub(crate) struct Hit<V> {
    pub(crate) id: Id,
    /// `None` when the source is known to have no value.
    pub(crate) value: Option<Arc<V>>,
    pub(crate) life: Life,
    pub(crate) tags: Vec<(Box<str>, Id)>,
}

impl<V> Hit<V> {
    /// The value as callers get it.
    pub(crate) fn fetched(self, source: Source) -> Option<Fetched<V>> {
        let Self { id, value, .. } = self;
        value.map(|value| Fetched::new(value, source, Some(id)))
    }
}

/// How old a value is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) ttl: Duration,
    /// How long it stays fresh; the whole of its time when that is not known and does not matter.
    pub(crate) left: Duration,
    pub(crate) cost: Duration,
}

impl Head {
    /// How long the server keeps the entry, in whole milliseconds.
    pub(crate) fn lifetime_ms(&self) -> u64 {
        millis(self.ttl).saturating_add(millis(self.grace))
    }

    pub(crate) fn encode(&self, value: &[u8]) -> Encoded {
        use std::fmt::Write as _;

        let mut text = format!(
            " {} {} {} ",
            millis(self.ttl),
            millis(self.grace),
            u64::try_from(self.cost.as_micros()).unwrap_or(u64::MAX),
        );
        text.push_str(&version_text(self.version));
        text.push_str(if self.is_negative { " n " } else { " v " });
        text.push_str(&generation_text(self.generation));
        text.push(' ');
        for (index, (tag, generation)) in self.tags.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let tag = utf8_percent_encode(tag, RESERVED);
            // Writing into a text cannot fail.
            let _ = write!(text, "{comma}{tag}={generation}");
        }
        text.push_str(if self.tags.is_empty() { "-\n" } else { "\n" });
        let mut rest = text.into_bytes();
        rest.extend_from_slice(value);
        Encoded {
            head: format!("rk1 {} ", self.id),
            rest: rest.into(),
        }
    }
}

impl Entry {
    /// Gives the bytes back when they are not an entry. Every hit goes through here: it allocates
    /// for tags alone.
    pub(crate) fn parse(mut raw: Bytes) -> Result<Self, Bytes> {
        match parse_head(&raw) {
            Some((head, length)) => {
                raw.advance(length);
                Ok(Self { head, value: raw })
            }
            None => Err(raw),
        }
    }
}

/// The first line, and how long it is.
fn parse_head(raw: &[u8]) -> Option<(Head, usize)> {
    let mut line = Line { rest: raw };
    if line.field()? != b"rk1" {
        return None;
    }
    let id = Id::read(line.field()?)?;
    // When it was written.
    line.number()?;
    let ttl = Duration::from_millis(line.number()?);
    let grace = Duration::from_millis(line.number()?);
    let cost = Duration::from_micros(line.number()?);
    let version = match line.rest {
        [b'-', b' ', rest @ ..] => {
            line.rest = rest;
            None
        }
        _ => Some(line.number()?),
    };
    let is_negative = match line.field()? {
        b"v" => false,
        b"n" => true,
        _ => return None,
    };
    let generation = match line.field()? {
        b"-" => None,
        generation => Some(Id::read(generation)?),
    };
    let end = line.rest.iter().position(|&byte| byte == b'\n')?;
    let (tags, value) = (line.rest.get(..end)?, line.rest.get(end + 1..)?);
    let tags = match tags {
        b"-" => Vec::new(),
        tags => parse_tags(std::str::from_utf8(tags).ok()?)?,
    };
    let head = Head {
        id,
        ttl,
        grace,
        cost,
        version,
        is_negative,
        generation,
        tags,
    };
    Some((head, raw.len().checked_sub(value.len())?))
}

/// Fields with a space behind each.
struct Line<'r> {
    rest: &'r [u8],
}

impl<'r> Line<'r> {
    fn field(&mut self) -> Option<&'r [u8]> {
        let end = self.rest.iter().position(|&byte| byte == b' ')?;
        let (field, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest.get(1..)?;
        Some(field)
    }

    /// A decimal number, read in one go.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for (at, &byte) in self.rest.iter().enumerate() {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                self.rest = self.rest.get(at + 1..)?;
                return (byte == b' ' && at > 0).then_some(number);
            }
            number = number.checked_mul(10)?.checked_add(digit.into())?;
        }
        None
    }
}

/// A version as the scripts take it.
pub(crate) fn version_text(version: Option<u64>) -> String {
    version.map_or_else(|| "-".to_owned(), |version| version.to_string())
}

/// A generation as it stands in an entry.
pub(crate) fn generation_text(generation: Option<Id>) -> String {
    generation.map_or_else(|| "-".to_owned(), |generation| generation.to_string())
}

/// Whole milliseconds, as the server counts.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn parse_tags(text: &str) -> Option<Vec<(Box<str>, Id)>> {
    // Another field: this is not our format.
    if text.contains(' ') {
        return None;
    }
    text.split(',')
        .map(|text| {
            let (tag, generation) = text.rsplit_once('=')?;
            let tag = percent_decode_str(tag).decode_utf8().ok()?;
            Some((tag.into(), Id::parse(generation)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The entry as the scripts write it.
    fn written(encoded: &Encoded) -> Bytes {
        let mut raw = encoded.head.clone().into_bytes();
        raw.extend_from_slice(b"1764000000000000");
        raw.extend_from_slice(&encoded.rest);
        raw.into()
    }

    #[test]
    fn the_value_follows_the_first_line_as_it_is() {
        let head = Head {
            id: Id::new(0x9f3c),
            ttl: Duration::from_secs(60),
            grace: Duration::ZERO,
            cost: Duration::from_micros(1200),
            version: Some(7),
            is_negative: false,
            generation: Some(Id::new(1)),
            tags: vec![("a b".into(), Id::new(2)), ("c".into(), Id::new(3))],
        };
        let raw = written(&head.encode(b"{\"n\":1}\n"));
        assert_eq!(
            raw,
            "rk1 9f3c 1764000000000000 60000 0 1200 7 v 1 a%20b=2,c=3\n{\"n\":1}\n"
        );
        assert_eq!(Entry::parse(raw).unwrap().head, head);
    }

    #[test]
    fn text_with_a_wrong_field_is_not_an_entry() {
        let right = "rk1 9f3c 1 60000 0 0 - v - -\n7";
        assert!(Entry::parse(right.into()).is_ok());
        for (field, wrong) in [
            (0, "rk2"),
            (1, ""),
            (1, "x"),
            (1, "11112222333344445"),
            (2, ""),
            (2, "+1"),
            (3, "18446744073709551616"),
            (4, "-1"),
            (6, "x"),
            (7, "w"),
            (8, "g"),
            (9, "shoes"),
            (9, "- more"),
        ] {
            let mut fields: Vec<_> = right.trim_end_matches("\n7").split(' ').collect();
            fields[field] = wrong;
            let raw = Bytes::from(fields.join(" ") + "\n7");
            assert_eq!(Entry::parse(raw.clone()), Err(raw), "{field}: {wrong}");
        }
        assert!(Entry::parse("rk1 9f3c 1 60000 0 0 - v - -".into()).is_err());
    }

    fn head() -> impl Strategy<Value = Head> {
        let tags = proptest::collection::vec((".{0,6}", any::<u64>()), 0..4);
        let times = (any::<u32>(), any::<u32>(), any::<u32>());
        let marks = (any::<Option<u64>>(), any::<bool>(), any::<Option<u64>>());
        (any::<u64>(), times, marks, tags).prop_map(|(id, times, marks, tags)| Head {
            id: Id::new(id),
            ttl: Duration::from_millis(times.0.into()),
            grace: Duration::from_millis(times.1.into()),
            cost: Duration::from_micros(times.2.into()),
            version: marks.0,
            is_negative: marks.1,
            generation: marks.2.map(Id::new),
            tags: tags
                .into_iter()
                .map(|(tag, generation)| (tag.into(), Id::new(generation)))
                .collect(),
        })
    }

    proptest! {
        #[test]
        fn a_written_entry_is_read_as_it_was(head in head(), value in proptest::collection::vec(any::<u8>(), 0..40)) {
            let entry = Entry::parse(written(&head.encode(&value)));
            prop_assert_eq!(entry, Ok(Entry { head, value: value.into() }));
        }

        #[test]
        fn anything_else_is_not_an_entry_and_no_panic(raw in proptest::collection::vec(any::<u8>(), 0..80)) {
            let entry = Entry::parse(Bytes::from(raw.clone()));
            prop_assert!(entry.is_err() || raw.starts_with(b"rk1 "));
        }

        #[test]
        fn damage_is_no_panic(head in head(), at in 0usize..120, byte in any::<u8>()) {
            let mut raw = written(&head.encode(b"v")).to_vec();
            let at = at % raw.len();
            raw[at] = byte;
            let _ = Entry::parse(raw.into());
        }
    }
}
