//! The source of what is cached: a number for each key, which only grows. It is kept by a server
//! that nothing happens to, so that all processes share it.

use std::io;

use redkit_cache::Loaded;
use redkit_core::{Client, Command};

/// Keys that everybody writes, and after them one for each worker, which nobody else writes.
pub(super) const SHARED: u64 = 6;

/// The last two of the shared ones may have no value.
pub(super) fn may_be_gone(key: u64) -> bool {
    (SHARED - 2..SHARED).contains(&key)
}

/// The numbers at which the source has no value, where that may be.
pub(super) fn is_gone(number: u64) -> bool {
    number.is_multiple_of(4)
}

/// Everybody's keys have a tag, so that they can be invalidated together.
pub(super) fn tag(key: u64) -> String {
    format!("tag:{}", key % 2)
}

/// A number as it is to be kept.
pub(super) fn kept(key: u64, number: u64) -> Loaded<u64> {
    let loaded = Loaded::new(number);
    match key < SHARED {
        true => loaded.tags([tag(key)]),
        // What one worker sets is ordered by that worker, and by this where its calls overtake
        // each other.
        false => loaded.version(number),
    }
}

/// The same for a key that may have none.
pub(super) fn found(key: u64, number: u64) -> Loaded<Option<u64>> {
    Loaded::new((!is_gone(number)).then_some(number)).tags([tag(key)])
}

#[derive(Clone)]
pub(super) struct Source(pub(super) Client);

impl Source {
    pub(super) async fn raise(&self, key: u64) -> io::Result<u64> {
        let raise = Command::new("INCR").key(self.0.key(format!("number:{key}")));
        self.0.call(raise).await.map_err(io::Error::other)
    }

    pub(super) async fn read(&self, key: u64) -> io::Result<u64> {
        let read = Command::new("GET").key(self.0.key(format!("number:{key}")));
        let number: Option<u64> = self.0.call(read).await.map_err(io::Error::other)?;
        Ok(number.unwrap_or(1))
    }
}
