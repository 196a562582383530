//! Streams of randomness from one seed. What draws more or less than before changes its own stream and
//! no other, so that a shrunk run stays like the one that it came from.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// The generator of a simulation: a fixed algorithm, so that a seed stays worth keeping.
pub(super) type Random = Xoshiro256PlusPlus;

/// The stream of this name.
pub(super) fn stream(seed: u64, name: &str) -> Random {
    Random::seed_from_u64(seed ^ fnv1a(name.as_bytes()))
}

/// True in this share (0 to 1) of the cases.
pub(super) fn chance(random: &mut Random, share: f64) -> bool {
    random.random::<f64>() < share
}

fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01B3;
    bytes.iter().fold(OFFSET, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_same_for_a_seed_and_a_name_and_another_otherwise() {
        let first = |seed, name| stream(seed, name).random::<u64>();
        assert_eq!(first(1, "network"), first(1, "network"));
        assert_ne!(first(1, "network"), first(2, "network"));
        assert_ne!(first(1, "network"), first(1, "faults"));
    }
}
