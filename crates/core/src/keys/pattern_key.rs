//! [`PatternKey`]: the parts of a key.

use std::fmt;

use super::{check_name, unescape};

/// The parts of a key that a pattern has written, from [`Client::parse_key`](crate::Client::parse_key): what
/// programs go by that look at patterns from outside.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PatternKey<'k> {
    /// `cache`, `lock`, `topic`, …
    pub pattern: &'k str,
    /// The name of the cache, the lock manager and so on.
    pub name: &'k str,
    /// What stands in the braces, unescaped: the user key, or the tag that several share.
    pub user_key: Vec<u8>,
    /// What the key is for, where it is not the pattern's main key.
    pub role: Option<&'k str>,
    /// The user key behind the role, of a key whose braces hold a common tag.
    pub tagged: Option<Vec<u8>>,
}

impl<'k> PatternKey<'k> {
    /// Takes a key apart that has no namespace in front of it.
    pub(crate) fn parse(key: &'k [u8]) -> Option<Self> {
        let open = key.iter().position(|&byte| byte == b'{')?;
        let (names, rest) = (key.get(..open)?, key.get(open + 1..)?);
        let names = std::str::from_utf8(names).ok()?;
        let (pattern, name) = names.strip_suffix(':')?.split_once(':')?;
        let is_name = |name: &str| check_name("name", name).is_ok();
        if !is_name(pattern) || !is_name(name) {
            return None;
        }
        let end = rest.iter().position(|&byte| byte == b'}')?;
        let behind = rest.get(end + 1..)?;
        let (role, tagged) = match behind {
            [] => (None, None),
            [b':', behind @ ..] => match behind.iter().position(|&byte| byte == b':') {
                None => (Some(behind), None),
                Some(colon) => (behind.get(..colon), behind.get(colon + 1..)),
            },
            _ => return None,
        };
        Some(Self {
            pattern,
            name,
            user_key: unescape(rest.get(..end)?)?,
            role: role.map(std::str::from_utf8).transpose().ok()?,
            tagged: match tagged {
                Some(tagged) => Some(unescape(tagged)?),
                None => None,
            },
        })
    }
}

/// Without the user key, which may name a person.
impl fmt::Debug for PatternKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatternKey")
            .field("pattern", &self.pattern)
            .field("name", &self.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_patterns_are_taken_apart() {
        let parts = |key: &[u8]| {
            let key = PatternKey::parse(key)?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Some((
                format!("{} {} {:?}", key.pattern, key.name, key.role),
                text(&key.user_key),
                key.tagged.map(|tagged| text(&tagged)),
            ))
        };
        let of = |what: &str, user: &str, tagged: Option<&str>| {
            Some((what.to_owned(), user.to_owned(), tagged.map(str::to_owned)))
        };
        assert_eq!(
            parts(b"lock:orders:{a%7Bb:c}"),
            of("lock orders None", "a{b:c", None)
        );
        assert_eq!(
            parts(b"ratelimit:api.day:{%}:gcra"),
            of("ratelimit api.day Some(\"gcra\")", "", None)
        );
        assert_eq!(
            parts(b"session:web:{907}:session:a:%7D"),
            of("session web Some(\"session\")", "907", Some("a:}"))
        );
        for foreign in [
            &b"user:42"[..],
            b"lock:orders:wake",
            b"{t}:a",
            b"lock:{t}",
            b"a:b:c:{t}",
            b"lock:orders:{t",
            b"lock:orders:{t}x",
            b"lock:a b:{t}",
            b"lock:orders:{%7}",
        ] {
            assert_eq!(parts(foreign), None, "{}", foreign.escape_ascii());
        }
        assert!(!format!("{:?}", PatternKey::parse(b"lock:a:{ann}")).contains("ann"));
    }
}
