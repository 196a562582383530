//! [`Id`]: random numbers that tell apart entries, leases and generations.

use std::fmt;

use redkit_core::ToArg;

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
        Self(rand::random())
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
