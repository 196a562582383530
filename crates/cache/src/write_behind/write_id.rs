//! [`WriteId`]: what makes a write accepted once, however often it is sent.

use redkit_core::ToArg;
use redkit_core::random::random;

/// The identity of a write. Repeat a write whose outcome is unknown with the same id: when it was
/// accepted the first time, that is all that happens, also when the key was written by others since.
///
/// It counts for each key by itself: a request that writes several keys may use one id for all of
/// them, and needs several to write one key several times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WriteId([u8; 16]);

impl WriteId {
    /// A new one.
    pub fn random() -> Self {
        Self(random())
    }

    /// From bytes of yours that are the same for the same write, such as a request's UUID.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl ToArg for WriteId {
    fn write_to(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self.0);
    }
}
