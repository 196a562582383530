//! [`Freshness`]: no read is older than an invalidation that was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::simulation::history::ProcessId;
use crate::simulation::violation::{Violation, earlier};

/// Checks that a read never gives a value that is older than an invalidation which was acknowledged more than
/// `bound` before the read began.
///
/// Values carry a version that grows with every change of the source. An invalidation is told with the version
/// that the source had when it was called.
///
/// ```
/// use std::time::Duration;
/// use redkit_testkit::simulation::checkers::Freshness;
/// use redkit_testkit::simulation::history::ProcessId;
///
/// let second = Duration::from_secs;
/// let mut freshness = Freshness::new(second(1));
/// freshness.invalidated(ProcessId(1), "user:7", 2, second(10));
/// freshness.read(ProcessId(2), "user:7", 1, second(11), second(11)); // within the bound
/// assert!(freshness.check().is_ok());
/// freshness.read(ProcessId(2), "user:7", 1, second(12), second(12));
/// assert!(freshness.check().is_err());
/// ```
#[derive(Debug, Clone)]
pub struct Freshness {
    bound: Duration,
    own_at_once: bool,
    keys: BTreeMap<String, OfKey>,
}

#[derive(Debug, Clone, Default)]
struct OfKey {
    invalidations: Vec<Invalidation>,
    reads: Vec<Read>,
}

#[derive(Debug, Clone, Copy)]
struct Invalidation {
    process: ProcessId,
    version: u64,
    acknowledged: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Read {
    process: ProcessId,
    version: u64,
    start: Duration,
    end: Duration,
}

impl Freshness {
    /// Nothing was read yet. A read may be older for `bound` after an invalidation was acknowledged.
    pub fn new(bound: Duration) -> Self {
        Self {
            bound,
            own_at_once: false,
            keys: BTreeMap::new(),
        }
    }

    /// A process sees its own invalidations without delay.
    #[must_use]
    pub fn own_at_once(mut self) -> Self {
        self.own_at_once = true;
        self
    }

    /// A process was told that a key is invalidated. The source had this version when it called.
    pub fn invalidated(
        &mut self,
        process: ProcessId,
        key: &str,
        version: u64,
        acknowledged: Duration,
    ) {
        self.of_key(key).invalidations.push(Invalidation {
            process,
            version,
            acknowledged,
        });
    }

    /// A process read a key, and got this version.
    pub fn read(
        &mut self,
        process: ProcessId,
        key: &str,
        version: u64,
        start: Duration,
        end: Duration,
    ) {
        self.of_key(key).reads.push(Read {
            process,
            version,
            start,
            end,
        });
    }

    /// # Errors
    /// The first read that was too old.
    pub fn check(&self) -> Result<(), Violation> {
        let violations = self.keys.iter().map(|(key, of_key)| {
            let stale = of_key.stale_read(self.bound).or_else(|| {
                let own = |process| of_key.of_process(process).stale_read(Duration::ZERO);
                let processes = of_key.processes().filter(|_| self.own_at_once);
                processes.filter_map(own).min_by_key(|(read, _)| read.end)
            })?;
            Some(self.story(key, stale))
        });
        violations.fold(None, earlier).map_or(Ok(()), Err)
    }

    fn of_key(&mut self, key: &str) -> &mut OfKey {
        self.keys.entry(key.to_owned()).or_default()
    }

    fn story(&self, key: &str, (read, invalidation): (Read, Invalidation)) -> Violation {
        let (read_version, version) = (read.version, invalidation.version);
        let known = format!("knows that `{key}` is invalidated as of version {version}");
        let bound = match self.own_at_once && read.process == invalidation.process {
            true => Duration::ZERO,
            false => self.bound,
        };
        let got = format!("has read version {read_version} of `{key}`");
        Violation::new("freshness", read.end)
            .event(invalidation.acknowledged, invalidation.process, known)
            .fact(
                invalidation.acknowledged.saturating_add(bound),
                format!("the bound of {bound:?} has passed"),
            )
            .event(read.start, read.process, format!("reads `{key}`"))
            .event(read.end, read.process, got)
    }
}

impl OfKey {
    /// The processes that read the key.
    fn processes(&self) -> impl Iterator<Item = ProcessId> {
        let all: BTreeSet<_> = self.reads.iter().map(|read| read.process).collect();
        all.into_iter()
    }

    /// What one process did.
    fn of_process(&self, process: ProcessId) -> Self {
        let invalidations = self.invalidations.iter();
        let reads = self.reads.iter();
        Self {
            invalidations: invalidations
                .filter(|invalidation| invalidation.process == process)
                .copied()
                .collect(),
            reads: reads
                .filter(|read| read.process == process)
                .copied()
                .collect(),
        }
    }

    /// The first read that is too old, and the invalidation that it does not know of.
    fn stale_read(&self, bound: Duration) -> Option<(Read, Invalidation)> {
        let mut invalidations = self.invalidations.clone();
        invalidations.sort_by_key(|invalidation| invalidation.acknowledged);
        // The newest version that is known at each acknowledgement.
        let mut newest: Vec<(Duration, Invalidation)> = Vec::with_capacity(invalidations.len());
        for invalidation in invalidations {
            let last = newest.last().map(|(_, last)| *last);
            let newer = last.filter(|last| last.version >= invalidation.version);
            newest.push((invalidation.acknowledged, newer.unwrap_or(invalidation)));
        }
        let stale = self.reads.iter().filter_map(|read| {
            let is_past = |(at, _): &(Duration, _)| at.saturating_add(bound) < read.start;
            let count = newest.partition_point(is_past);
            let (_, known) = newest.get(count.checked_sub(1)?)?;
            (read.version < known.version).then_some((*read, *known))
        });
        stale.min_by_key(|(read, _)| read.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    /// Invalidations as (version, acknowledged), reads as (version, start), with a bound of one second.
    fn check(invalidations: &[(u64, u64)], reads: &[(u64, u64)]) -> Result<(), Violation> {
        let mut freshness = Freshness::new(second(1));
        for (version, at) in invalidations {
            freshness.invalidated(ProcessId(0), "a", *version, second(*at));
        }
        for (version, start) in reads {
            freshness.read(ProcessId(1), "a", *version, second(*start), second(*start));
        }
        freshness.check()
    }

    #[test]
    fn a_read_of_the_newest_version_is_accepted() {
        check(&[(2, 1), (3, 5)], &[(1, 1), (2, 3), (3, 7), (4, 8)]).unwrap();
    }

    #[test]
    fn an_old_read_within_the_bound_is_accepted() {
        check(&[(2, 1)], &[(1, 2)]).unwrap();
    }

    #[test]
    fn an_old_read_after_the_bound_is_refused() {
        let violation = check(&[(2, 1)], &[(1, 3)]).unwrap_err();
        assert_eq!(violation.at(), second(3));
    }

    #[test]
    fn an_own_invalidation_can_be_meant_to_be_seen_at_once() {
        let mut freshness = Freshness::new(second(5)).own_at_once();
        freshness.invalidated(ProcessId(0), "a", 2, second(1));
        freshness.read(ProcessId(1), "a", 1, second(3), second(3));
        freshness.check().unwrap();
        freshness.read(ProcessId(0), "a", 1, second(2), second(2));
        freshness.check().unwrap_err();
    }

    #[test]
    fn an_older_invalidation_that_is_acknowledged_later_hides_no_newer_one() {
        check(&[(5, 1), (4, 2)], &[(4, 9)]).unwrap_err();
    }

    #[test]
    fn another_key_is_not_meant() {
        let mut freshness = Freshness::new(second(0));
        freshness.invalidated(ProcessId(0), "a", 2, second(1));
        freshness.read(ProcessId(0), "b", 1, second(9), second(9));
        freshness.check().unwrap();
    }
}
