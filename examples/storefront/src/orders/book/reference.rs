//! [`Reference`]: what an order is called.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::Malformed;

/// What an order is called. The page with the basket chooses it, at random, so that it is the idempotency key of the
/// order as well: the form that is sent twice has the same one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Reference(String);

impl Reference {
    /// A new one: 80 random bits, in letters that people can tell apart.
    pub(crate) fn random() -> Self {
        const LETTERS: &[u8; 31] = b"23456789abcdefghjkmnpqrstuvwxyz";
        let random: [u8; 16] = rand::random();
        let letter = |byte: &u8| char::from(LETTERS[usize::from(byte % 31)]);
        Self(random.iter().map(letter).collect())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// As the database has it.
    pub(super) fn stored(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Reference {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        match (12..=32).contains(&text.len()) && text.bytes().all(is_letter) {
            true => Ok(Self(text.to_owned())),
            false => Err(Malformed(
                "a reference of 12 to 32 small letters and digits",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_reference_is_one_and_a_strangers_text_is_none() {
        let one = Reference::random();
        assert_eq!(one.as_str().parse::<Reference>(), Ok(one.clone()));
        assert_ne!(one, Reference::random());
        for wrong in [
            "",
            "short",
            "WITHCAPITALS12",
            "with space 123",
            "a:b:c:d:e:f:g",
            &"x".repeat(33),
        ] {
            assert!(wrong.parse::<Reference>().is_err(), "{wrong}");
        }
    }
}
