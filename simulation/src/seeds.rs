//! Seeds that once failed.

/// Scenarios and seeds that showed a mistake, of redkit or of the simulation, that is mended since. They are run
/// with every test.
pub const FAILED_ONCE: &[(&str, u64)] = &[
    // A rotation that raced with the revocation of the user's other sessions signed the user out.
    ("session", 53),
    // A server whose memory was full refused to prolong the lease of a partition.
    ("topic-ordered", 73),
];
