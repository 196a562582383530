//! Random picks from indexed collections, as `SRANDMEMBER`, `HRANDFIELD` and `ZRANDMEMBER` make
//! them.

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::index;
use redkit_core::ServerError;
use redkit_core::random::{random, random_range};

use crate::args::integer;
use crate::error;

/// Picks with repetition beyond this are refused: the reply would only use up the memory.
const MAX_REPEATED: i64 = 1 << 24;

/// How many to pick; negative to pick with repetition.
pub(super) fn random_count(arg: &[u8]) -> Result<i64, ServerError> {
    let count = integer(arg)?;
    match count < -MAX_REPEATED {
        true => Err(error::err("value is out of range")),
        false => Ok(count),
    }
}

/// How many pairs to pick, which are two items each.
pub(super) fn random_pairs(arg: &[u8]) -> Result<i64, ServerError> {
    match random_count(arg)? {
        count if count > i64::MAX / 2 => Err(error::err("value is out of range")),
        count => Ok(count),
    }
}

/// Indexes of the picked items.
pub(super) enum Picks {
    /// Everything: more was wanted than there is.
    All(std::ops::Range<usize>),
    Distinct(index::IndexVecIntoIter),
    Repeated {
        left: u64,
        len: usize,
    },
}

impl Picks {
    pub(super) fn new(count: i64, len: usize) -> Self {
        match usize::try_from(count) {
            Ok(count) if count >= len => Picks::All(0..len),
            Ok(count) => {
                let mut source = Xoshiro256PlusPlus::seed_from_u64(random());
                Picks::Distinct(index::sample(&mut source, len, count).into_iter())
            }
            Err(_) => Picks::Repeated {
                left: if len == 0 { 0 } else { count.unsigned_abs() },
                len,
            },
        }
    }
}

impl Iterator for Picks {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        match self {
            Picks::All(range) => range.next(),
            Picks::Distinct(indexes) => indexes.next(),
            Picks::Repeated { left, len } => {
                *left = left.checked_sub(1)?;
                Some(random_range(0..*len))
            }
        }
    }
}
