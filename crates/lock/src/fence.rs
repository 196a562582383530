//! [`Fence`]: a number that grows with every holder of a lock.

use std::fmt;

use redkit_core::ToArg;

/// A fencing token: a number that is greater for every new holder of a lock. Storage that refuses a write
/// with an older fence than it has seen is safe from a holder that lost the lock and does not know it yet: see
/// Martin Kleppmann, *How to do distributed locking* (2016).
///
/// Fences are `max(last fence + 1, the server's time in µs since 1970)`, so that they keep growing when the
/// record of the last fence is lost, by a failover for example, as long as the clocks of the servers do not
/// differ by more than the time between.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(u64);

impl Fence {
    /// A fence from its number, for storage that keeps it as one.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<Fence> for u64 {
    fn from(fence: Fence) -> Self {
        fence.0
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fence({})", self.0)
    }
}

impl ToArg for Fence {
    fn write_to(&self, buffer: &mut Vec<u8>) {
        self.0.write_to(buffer);
    }
}
