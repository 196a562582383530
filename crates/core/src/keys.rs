//! Keys: the only place that builds, parses and escapes the names under which patterns store
//! anything. `docs/keyspace.md` lists them all.
//!
//! A pattern's key is `namespace:pattern:name:{user-key}` with an optional `:role` behind it. The
//! braces are the [hash tag](https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags)
//! of Redis Cluster: all keys of one user key share a slot. Whatever bytes the user key holds,
//! they stay inside the braces.

mod pattern_key;

use std::fmt;

use bytes::Bytes;
use crc::{CRC_16_XMODEM, Crc};

use crate::command::ToArg;
use crate::config::ConfigError;

pub use self::pattern_key::PatternKey;

/// A full key, as the server stores it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Bytes);

impl Key {
    /// From bytes that are the whole key already.
    pub fn from_raw(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, shared and not copied.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// The slot of Redis Cluster that the key belongs to (0 to 16,383).
    pub fn slot(&self) -> u16 {
        slot(&self.0)
    }
}

impl ToArg for Key {
    fn write_to(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self.0);
    }
}

/// Printable: bytes that are not text are escaped.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// The keys of one use of one pattern, such as the cache named `products`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyspace {
    /// `namespace:pattern:name:{`
    prefix: Bytes,
}

impl Keyspace {
    pub(crate) fn new(namespace: &str, pattern: &str, name: &str) -> Result<Self, ConfigError> {
        check_name("pattern", pattern)?;
        check_name("name", name)?;
        let prefix = format!("{}{pattern}:{name}:{{", namespace_prefix(namespace));
        Ok(Self {
            prefix: prefix.into(),
        })
    }

    /// The key of a user key.
    pub fn key(&self, user_key: impl ToArg) -> Key {
        self.key_of(&user_key, "")
    }

    /// A further key of the same user key, in the same slot: `…:{user-key}:role`. Roles are fixed
    /// words of the pattern.
    pub fn role_key(&self, user_key: impl ToArg, role: &'static str) -> Key {
        self.key_of(&user_key, role)
    }

    /// A key whose slot is that of `tag`, so that different user keys can share one:
    /// `…:{tag}:role:user-key`, the user key escaped like a tag.
    pub fn tagged_key(&self, tag: impl ToArg, role: &'static str, user_key: impl ToArg) -> Key {
        let mut bytes = self.key_of(&tag, role).as_bytes().to_vec();
        bytes.push(b':');
        let start = bytes.len();
        user_key.write_to(&mut bytes);
        escape_from(start, &mut bytes);
        Key(bytes.into())
    }

    /// The user key and the role within a full key; `None` when the key is not of this keyspace.
    pub fn parse<'k>(&self, key: &'k [u8]) -> Option<(Vec<u8>, Option<&'k str>)> {
        let rest = key.strip_prefix(&*self.prefix)?;
        let end = rest.iter().position(|&b| b == b'}')?;
        let user_key = unescape(rest.get(..end)?)?;
        let role = match rest.get(end + 1..)? {
            [] => None,
            [b':', role @ ..] => Some(std::str::from_utf8(role).ok()?),
            _ => return None,
        };
        Some((user_key, role))
    }

    /// What every key of this keyspace begins with, and no other: for
    /// [`Interest::Invalidations`](crate::Interest::Invalidations).
    pub fn prefix(&self) -> Bytes {
        self.prefix.clone()
    }

    /// A glob that matches every key of this keyspace and no other.
    pub fn glob(&self) -> Vec<u8> {
        let mut glob = escape_glob(&self.prefix);
        glob.push(b'*');
        glob
    }

    fn key_of(&self, user_key: &dyn ToArg, role: &str) -> Key {
        let mut bytes = Vec::with_capacity(self.prefix.len() + 32 + role.len());
        bytes.extend_from_slice(&self.prefix);
        let start = bytes.len();
        user_key.write_to(&mut bytes);
        escape_from(start, &mut bytes);
        bytes.push(b'}');
        if !role.is_empty() {
            bytes.push(b':');
            bytes.extend_from_slice(role.as_bytes());
        }
        Key(bytes.into())
    }
}

/// The slot of a key: CRC-16/XMODEM of its hash tag, or of all of it when it has none.
pub fn slot(key: &[u8]) -> u16 {
    static CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);
    let tag = key.iter().position(|&b| b == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let close = rest
            .iter()
            .position(|&b| b == b'}')
            .filter(|&close| close > 0)?;
        rest.get(..close)
    });
    CRC.checksum(tag.unwrap_or(key)) % 16_384
}

/// Escapes what a glob of `SCAN … MATCH` or `PSUBSCRIBE` would not take literally.
pub fn escape_glob(literal: &[u8]) -> Vec<u8> {
    let mut glob = Vec::with_capacity(literal.len() + 8);
    for &byte in literal {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\' | b'^' | b'-') {
            glob.push(b'\\');
        }
        glob.push(byte);
    }
    glob
}

/// What stands in front of a key in `namespace`.
pub(crate) fn namespace_prefix(namespace: &str) -> String {
    match namespace {
        "" => String::new(),
        name => format!("{name}:"),
    }
}

/// A namespace may hold colons (it nests), but no braces: they would take over the hash tag.
pub(crate) fn check_namespace(namespace: &str) -> Result<(), ConfigError> {
    let valid = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '{' | '}');
    if namespace.chars().all(valid) && !namespace.starts_with(':') && !namespace.ends_with(':') {
        return Ok(());
    }
    Err(ConfigError::new(
        "namespace",
        "it holds spaces, braces or control characters, or starts or ends with a colon",
        "use letters, digits and inner colons, such as `shop` or `shop:eu`",
    ))
}

fn check_name(field: &'static str, name: &str) -> Result<(), ConfigError> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !name.is_empty() && name.bytes().all(valid) {
        return Ok(());
    }
    Err(ConfigError::new(
        field,
        "it is empty or holds something else than letters, digits, `-`, `_` and `.`",
        "choose a short name such as `products`",
    ))
}

/// Escapes the bytes from `start` so that they can stand between braces: braces, percent signs
/// and control characters as %XX. Everything else stays readable. Nothing at all becomes a lone
/// `%`, because an empty tag would not be one.
fn escape_from(start: usize, bytes: &mut Vec<u8>) {
    let Some(user_key) = bytes.get(start..) else {
        return;
    };
    if user_key.is_empty() {
        bytes.push(b'%');
        return;
    }
    if !user_key.iter().any(|&b| must_escape(b)) {
        return;
    }
    let raw = bytes.split_off(start);
    for byte in raw {
        if must_escape(byte) {
            bytes.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            bytes.push(byte);
        }
    }
}

fn must_escape(byte: u8) -> bool {
    matches!(byte, b'{' | b'}' | b'%') || byte.is_ascii_control()
}

fn unescape(escaped: &[u8]) -> Option<Vec<u8>> {
    if escaped == b"%" {
        return Some(Vec::new());
    }
    let mut raw = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        if byte != b'%' {
            raw.push(byte);
            continue;
        }
        let mut digit = || char::from(*bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        raw.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(raw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keyspace() -> Keyspace {
        Keyspace::new("app:eu", "cache", "products").unwrap()
    }

    #[test]
    fn readable_keys_stay_readable() {
        assert_eq!(
            keyspace().key("42").as_bytes(),
            b"app:eu:cache:products:{42}"
        );
        assert_eq!(
            keyspace().role_key("a:b/ü", "lease").as_bytes(),
            "app:eu:cache:products:{a:b/ü}:lease".as_bytes()
        );
        assert_eq!(
            Keyspace::new("", "lock", "x").unwrap().key("k").as_bytes(),
            b"lock:x:{k}"
        );
    }

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        assert_eq!(slot(b"123456789"), 0x31C3);
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        assert_eq!(
            slot(b"foo{}{bar}"),
            Crc::<u16>::new(&CRC_16_XMODEM).checksum(b"foo{}{bar}") % 16384
        );
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
    }

    #[test]
    fn names_are_checked() {
        for name in ["", "a b", "a:b", "a{b", "a*"] {
            assert_eq!(
                Keyspace::new("", "cache", name).unwrap_err().field(),
                "name",
                "{name}"
            );
        }
        assert!(Keyspace::new("", "cache", "a-b_c.d1").is_ok());
    }

    #[test]
    fn a_common_tag_gives_different_user_keys_one_slot() {
        let of = |user: &str| keyspace().tagged_key("t{1}", "gcra", user);
        assert_eq!(
            of("a}{b").as_bytes(),
            b"app:eu:cache:products:{t%7B1%7D}:gcra:a%7D%7Bb"
        );
        assert_eq!(of("a").slot(), of("b").slot());
        assert_ne!(of("a"), of("b"));
    }

    proptest! {
        #[test]
        fn user_bytes_never_change_the_shape(user in proptest::collection::vec(any::<u8>(), 0..40)) {
            let keyspace = keyspace();
            let (key, lease) = (keyspace.key(&user), keyspace.role_key(&user, "lease"));
            prop_assert_eq!(key.slot(), lease.slot());
            prop_assert!(key.to_bytes().starts_with(&keyspace.prefix()));
            prop_assert_eq!(keyspace.parse(key.as_bytes()), Some((user.clone(), None)));
            prop_assert_eq!(keyspace.parse(lease.as_bytes()), Some((user, Some("lease"))));
            let braces = key.as_bytes().iter().filter(|b| matches!(b, b'{' | b'}')).count();
            prop_assert_eq!(braces, 2);
        }

        #[test]
        fn different_user_keys_have_different_keys(a in ".{0,8}", b in ".{0,8}") {
            prop_assert_eq!(a == b, keyspace().key(&a) == keyspace().key(&b));
        }
    }
}
