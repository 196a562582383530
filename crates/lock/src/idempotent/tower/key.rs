//! The key of a request, from its header.

use http::HeaderMap;

use crate::idempotent::LONGEST;

const IDEMPOTENCY_KEY: &str = "idempotency-key";

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Key {
    Given(String),
    Absent,
    /// With what is wrong with it.
    Wrong(&'static str),
}

/// The draft has it as a string in quotation marks; many clients leave these out. With and without, it is
/// the same key.
pub(super) fn of(headers: &HeaderMap) -> Key {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Key::Absent;
    };
    if values.next().is_some() {
        return Key::Wrong("the header `Idempotency-Key` is there more than once");
    }
    let Ok(text) = value.to_str() else {
        return Key::Wrong("the key holds something else than visible ASCII characters");
    };
    let key = match text.strip_prefix('"') {
        None => Some(text.to_owned()),
        Some(quoted) => quoted.strip_suffix('"').and_then(unescaped),
    };
    match key {
        None => Key::Wrong("the key is no string: its quotation marks do not match"),
        Some(key) if key.is_empty() => Key::Wrong("the key is empty"),
        Some(key) if key.len() > LONGEST => Key::Wrong("the key is longer than 255 bytes"),
        Some(key) => Key::Given(key),
    }
}

/// A string of RFC 9651: a backslash stands before quotation marks and backslashes, and nowhere else.
fn unescaped(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return None,
            '\\' => plain.push(characters.next().filter(|c| matches!(c, '"' | '\\'))?),
            other => plain.push(other),
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(values: &[&[u8]]) -> Key {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).unwrap());
        }
        of(&headers)
    }

    #[test]
    fn a_key_is_the_same_with_and_without_quotation_marks() {
        let given = |key: &str| Key::Given(key.to_owned());
        assert_eq!(read(&[b"abc-1"]), given("abc-1"));
        assert_eq!(read(&[b"\"abc-1\""]), given("abc-1"));
        assert_eq!(read(&[br#""a\"b\\c""#]), given("a\"b\\c"));
        assert_eq!(read(&[]), Key::Absent);
    }

    #[test]
    fn wrong_keys_are_told() {
        let long = vec![b'a'; 256];
        for wrong in [
            &[&b""[..]][..],
            &[b"\"\""],
            &[b"\"abc"],
            &[b"\"abc\";p=1"],
            &[br#""a\b""#],
            &[br#""a"b""#],
            &[b"\""],
            &[b"\xff"],
            &[&long],
            &[b"a", b"a"],
        ] {
            assert!(matches!(read(wrong), Key::Wrong(_)), "{wrong:?}");
        }
        assert_eq!(read(&[&long[..255]]), Key::Given("a".repeat(255)));
    }
}
