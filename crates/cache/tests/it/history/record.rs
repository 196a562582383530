//! What each process has seen, with the time of a clock that all of them share.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nanoseconds on the machine's monotonic clock, which all processes read and nobody sets.
pub(super) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let part = |part: i64| u64::try_from(part).expect("it began at zero");
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum What {
    /// Changes that were acknowledged: from then on nobody may be given an older number.
    Invalidated,
    Deleted,
    TagInvalidated,
    Cleared,
    WrittenThrough,
    Set,
    /// Readings that gave a number.
    Got,
    GotOrLoaded,
    Found,
    GotOfMany,
    /// A reading that gave "the source has none"; its number is the highest of the source after it.
    FoundNone,
}

impl What {
    pub(super) const CHANGES: [Self; 6] = [
        What::Invalidated,
        What::Deleted,
        What::TagInvalidated,
        What::Cleared,
        What::WrittenThrough,
        What::Set,
    ];

    pub(super) const READINGS: [Self; 5] = [
        What::Got,
        What::GotOrLoaded,
        What::Found,
        What::GotOfMany,
        What::FoundNone,
    ];
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) what: What,
    pub(super) key: u64,
    pub(super) number: u64,
    pub(super) began: u64,
    pub(super) ended: u64,
}

/// A process's own file. Nothing is buffered: what a killed process has seen is there.
pub(super) struct Log(Mutex<File>);

impl Log {
    pub(super) fn open(path: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Self(Mutex::new(file.unwrap()))
    }

    /// Notes what has ended now.
    pub(super) fn note(&self, what: What, key: u64, number: u64, began: u64) {
        let ended = now();
        let event = Event {
            what,
            key,
            number,
            began,
            ended,
        };
        let mut line = serde_json::to_vec(&event).unwrap();
        line.push(b'\n');
        self.0.lock().write_all(&line).unwrap();
    }
}

/// Everything that was noted in a folder.
pub(super) fn read_all(folder: &Path) -> Vec<Event> {
    let mut events = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        // A killed process may have left half a line, after which its successor has gone on.
        let whole = |line| serde_json::from_str::<Event>(line).ok();
        events.extend(text.lines().filter_map(whole));
    }
    events
}

/// How often each thing happened.
pub(super) fn count(events: &[Event]) -> BTreeMap<What, usize> {
    let mut counts = BTreeMap::new();
    for event in events {
        *counts.entry(event.what).or_default() += 1;
    }
    counts
}
