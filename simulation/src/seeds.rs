//! Seeds that once failed.

/// Scenarios and seeds that showed a mistake, of redkit or of the simulation, that is mended since. They are run
/// with every test.
pub const FAILED_ONCE: &[(&str, u64)] = &[];
