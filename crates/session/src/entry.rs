//! Entries of a session, as they are stored and as they are about to be changed.

use std::time::Duration;

use bytes::Bytes;

/// A stored entry: the bytes that the codec made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) value: Bytes,
    /// When it expires (µs since 1970 by the server's clock), where it has an expiry of its own.
    pub(crate) expires: Option<u64>,
}

/// What is to become of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Set { value: Bytes, ttl: Option<Duration> },
    Remove,
}

impl Entry {
    /// From the bytes of the stored field: see `scripts/bucket.lua`.
    pub(crate) fn read(stored: &Bytes) -> Option<Self> {
        match stored.first()? {
            b'=' => Some(Self {
                value: stored.slice(1..),
                expires: None,
            }),
            b'E' => {
                let end = stored.iter().position(|&byte| byte == b':')?;
                let expires = std::str::from_utf8(stored.get(1..end)?).ok()?;
                Some(Self {
                    value: stored.slice(end + 1..),
                    expires: Some(expires.parse().ok()?),
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_fields_are_read_and_damaged_ones_refused() {
        let read = |text: &'static str| Entry::read(&Bytes::from_static(text.as_bytes()));
        let entry = read("E1700:\"a:b\"").unwrap();
        assert_eq!(
            (&entry.value[..], entry.expires),
            (&b"\"a:b\""[..], Some(1_700))
        );
        let entry = read("=").unwrap();
        assert_eq!((entry.value.len(), entry.expires), (0, None));
        for damaged in ["", "x", "E", "E:", "Ex:1", "E-1:2"] {
            assert_eq!(read(damaged), None, "{damaged}");
        }
    }
}
