//! [`Id`]: random numbers that tell apart entries, leases and generations. [`LeaseToken`]: the owner
//! of a lease.

use std::fmt;

use redkit_core::ToArg;
use redkit_core::random::random;

/// A random number, written in hexadecimal. 64 bits: two of one key or tag are the same once in
/// some billion billion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Id(u64);

impl Id {
    #[cfg(test)]
    pub(crate) fn new(number: u64) -> Self {
        Self(number)
    }

    pub(crate) fn random() -> Self {
        Self(random())
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::read(text.as_bytes())
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() || bytes.len() > 16 {
            return None;
        }
        let mut number = 0;
        for &byte in bytes {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                _ => return None,
            };
            number = (number << 4) | u64::from(digit);
        }
        Some(Self(number))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl ToArg for Id {
    fn write_to(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(format!("{:x}", self.0).as_bytes());
    }
}

/// The owner of a lease: a random number and, for a load, the cache's generation when it asked for the
/// lease. Once the cache has another generation, the load is obsolete and its lease is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LeaseToken {
    pub(crate) number: Id,
    pub(crate) generation: Option<Id>,
}

impl LeaseToken {
    #[cfg(test)]
    pub(crate) fn new(number: u64) -> Self {
        let (number, generation) = (Id::new(number), None);
        Self { number, generation }
    }

    pub(crate) fn random(generation: Option<Id>) -> Self {
        Self {
            number: Id::random(),
            generation,
        }
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut parts = bytes.splitn(2, |&byte| byte == b'.');
        Some(Self {
            number: Id::read(parts.next()?)?,
            generation: match parts.next() {
                Some(generation) => Some(Id::read(generation)?),
                None => None,
            },
        })
    }

    /// Whether the value of a lease's key says that this load still holds it.
    pub(crate) fn holds(&self, lease: Option<&[u8]>) -> bool {
        match lease.and_then(<[u8]>::split_first) {
            Some((b'l' | b'L', token)) => Self::read(token) == Some(*self),
            _ => false,
        }
    }
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.generation {
            Some(generation) => write!(f, "{}.{generation}", self.number),
            None => self.number.fmt(f),
        }
    }
}

impl ToArg for LeaseToken {
    fn write_to(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(self.to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_written() {
        for token in [
            LeaseToken::random(None),
            LeaseToken::random(Some(Id::new(7))),
        ] {
            assert_eq!(LeaseToken::read(token.to_string().as_bytes()), Some(token));
            let lease = |kind| format!("{kind}{token}").into_bytes();
            assert!(token.holds(Some(&lease('l'))) && token.holds(Some(&lease('L'))));
            assert!(!token.holds(Some(&lease('w'))) && !token.holds(Some(&lease('c'))));
            assert!(!LeaseToken::random(None).holds(Some(&lease('l'))));
            assert!(!token.holds(None) && !token.holds(Some(b"")));
        }
        for wrong in ["", ".", "9f.", ".9f", "x", "9f.x"] {
            assert_eq!(LeaseToken::read(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
