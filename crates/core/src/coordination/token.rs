//! [`Token`]: a name that nothing else has.

use std::fmt;

use crate::command::ToArg;
use crate::random::random;

/// A name that nothing else has: 128 random bits. It names the owner of a lease, a waiter in a queue
/// or a receipt, and is sent as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(u128);

impl Token {
    /// A new one.
    pub fn random() -> Self {
        Self(random())
    }

    /// From the digits that were sent; `None` when it is something else.
    pub fn parse(digits: &[u8]) -> Option<Self> {
        let digits = std::str::from_utf8(digits).ok()?;
        let is_token = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        is_token.then(|| u128::from_str_radix(digits, 16).map(Self).ok())?
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({self})")
    }
}

impl ToArg for Token {
    fn write_to(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(self.to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_from_its_digits() {
        let token = Token::random();
        assert_ne!(token, Token::random());
        assert_eq!(Token::parse(token.to_bytes().as_ref()), Some(token));
        for wrong in [
            "",
            "12",
            "+0000000000000000000000000000001",
            "g0000000000000000000000000000000",
        ] {
            assert_eq!(Token::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
