//! [`Source`]: what is cached, a number for each key that only grows.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_cache::Loaded;
use redkit_testkit::simulation::Process;
use tokio::time::sleep;

/// Keys that all processes write. After them comes one for each process, which no other writes, and last one whose
/// changes no cache is told of.
pub(super) const SHARED: usize = 5;
/// From here on a shared key may have no value.
const MAY_BE_GONE: usize = SHARED - 1;

/// The database of the fleet: it survives all processes.
#[derive(Clone)]
pub(super) struct Source {
    numbers: Arc<Mutex<Vec<u64>>>,
}

impl Source {
    pub(super) fn new(processes: usize) -> Self {
        Self {
            numbers: Arc::new(Mutex::new(vec![1; SHARED + processes + 1])),
        }
    }

    /// The key whose changes no cache is told of.
    pub(super) fn silent(&self) -> usize {
        self.keys() - 1
    }

    pub(super) fn keys(&self) -> usize {
        self.numbers.lock().len()
    }

    /// The number of a key now.
    pub(super) fn number(&self, key: usize) -> u64 {
        self.numbers.lock().get(key).copied().unwrap_or_default()
    }

    /// Raises the number of a key, and gives it.
    pub(super) fn raise(&self, key: usize) -> u64 {
        match self.numbers.lock().get_mut(key) {
            Some(number) => {
                *number += 1;
                *number
            }
            None => 0,
        }
    }

    /// A reading as a loader does it: on its way for a while, now and then for long, and now and then in vain.
    pub(super) async fn read(&self, process: &Process, keys: &[usize]) -> io::Result<Vec<u64>> {
        some_time(process, 2).await;
        let numbers = keys.iter().map(|key| self.number(*key)).collect();
        let longest = if process.chance(0.1) { 60 } else { 4 };
        some_time(process, longest).await;
        match process.chance(0.03) {
            true => Err(io::Error::other("the source is not well")),
            false => Ok(numbers),
        }
    }
}

/// Up to so many milliseconds.
pub(super) async fn some_time(process: &Process, millis: u64) {
    sleep(Duration::from_micros(
        process.random_range(0..=millis * 1000),
    ))
    .await;
}

/// Whether a key may have no value.
pub(super) fn may_be_gone(key: usize) -> bool {
    (MAY_BE_GONE..SHARED).contains(&key)
}

/// The numbers at which a key has no value, where that may be.
pub(super) fn is_gone(number: u64) -> bool {
    number.is_multiple_of(4)
}

/// The keys that always have a value are invalidated together by these.
pub(super) fn tag(key: usize) -> String {
    format!("tag-{}", key % 2)
}

/// The shared keys with this key's tag that always have a value.
pub(super) fn keys_tagged_as(key: usize) -> impl Iterator<Item = usize> {
    (key % 2..MAY_BE_GONE).step_by(2)
}

/// Those of them that writing through is for.
pub(super) fn always_there(key: usize) -> usize {
    key % MAY_BE_GONE
}

/// A number as it is to be kept.
pub(super) fn kept(key: usize, number: u64) -> Loaded<u64> {
    let loaded = Loaded::new(number);
    match key < SHARED {
        true => loaded.tags([tag(key)]),
        // What one process sets is ordered by that process, and by this where its calls overtake each other. Nobody sets
        // the last key.
        false => loaded.version(number),
    }
}

/// The same for a key that may have no value.
pub(super) fn found(key: usize, number: u64) -> Loaded<Option<u64>> {
    Loaded::new((!is_gone(number)).then_some(number)).tags([tag(key)])
}

/// The name of a key.
pub(super) fn name(key: usize) -> String {
    format!("k{key}")
}
