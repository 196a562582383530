//! The calls that are out, oldest first, so that those which have been out for too long are found
//! without looking at the others.
//!
//! A slab of entries, each linked to its neighbours in the order of starting: adding, removing and
//! finding the next overdue call cost the same however many are out, and no call allocates once
//! the slab has grown to the usual number. Two cursors walk along the list, one for slowness and
//! one for probes that are given up; each passes every entry at most once.

use super::tick::Tick;
use super::window::Mark;

/// No entry.
const NONE: u32 = u32::MAX;

/// The place of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u32);

/// What is known of a call that is out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    started: Tick,
    older: u32,
    /// The next younger entry, or the next free one when this one is free.
    younger: u32,
    /// Whether and where it was counted as slow while it ran.
    pub(super) noted: Noted,
    /// It was a probe, and counted as failed because it did not end in time.
    pub(super) given_up: bool,
}

/// What was counted of a call before it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    Nothing,
    /// Slow, as an observation in the window.
    InWindow(Mark),
    /// Slow, as a probe.
    AsProbe,
}

/// The list of calls that are out.
#[derive(Debug)]
pub(super) struct InFlight {
    entries: Vec<Entry>,
    free: u32,
    oldest: u32,
    youngest: u32,
    /// The oldest entry that was not passed as slow.
    slow: u32,
    /// The oldest entry that was not passed as given up.
    expiry: u32,
    count: u64,
}

impl InFlight {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: NONE,
            oldest: NONE,
            youngest: NONE,
            slow: NONE,
            expiry: NONE,
            count: 0,
        }
    }

    /// Adds a call. `started` must not lie before that of an earlier call.
    pub(super) fn add(&mut self, started: Tick) -> Slot {
        self.count += 1;
        let entry = Entry {
            started,
            older: self.youngest,
            younger: NONE,
            noted: Noted::Nothing,
            given_up: false,
        };
        let index = match self.entries.get_mut(self.free as usize) {
            Some(unused) => {
                let index = std::mem::replace(&mut self.free, unused.younger);
                *unused = entry;
                index
            }
            None => {
                let Ok(index) = u32::try_from(self.entries.len()) else {
                    // Four thousand million calls out at once: one more cannot be watched.
                    return Slot(NONE);
                };
                self.entries.push(entry);
                index
            }
        };
        match self.entries.get_mut(self.youngest as usize) {
            Some(youngest) => youngest.younger = index,
            None => self.oldest = index,
        }
        self.youngest = index;
        if self.slow == NONE {
            self.slow = index;
        }
        if self.expiry == NONE {
            self.expiry = index;
        }
        Slot(index)
    }

    /// Takes a call off the list and tells what was counted of it. Each slot is removed once.
    pub(super) fn remove(&mut self, slot: Slot) -> (Noted, bool) {
        self.count = self.count.saturating_sub(1);
        let Slot(index) = slot;
        let free = self.free;
        let Some(entry) = self.entries.get_mut(index as usize) else {
            return (Noted::Nothing, false);
        };
        let Entry {
            older,
            younger,
            noted,
            given_up,
            ..
        } = *entry;
        entry.younger = free;
        self.free = index;
        match self.entries.get_mut(older as usize) {
            Some(older) => older.younger = younger,
            None => self.oldest = younger,
        }
        match self.entries.get_mut(younger as usize) {
            Some(younger) => younger.older = older,
            None => self.youngest = older,
        }
        if self.slow == index {
            self.slow = younger;
        }
        if self.expiry == index {
            self.expiry = younger;
        }
        (noted, given_up)
    }

    /// The next call that has been out for longer than `limit`; each is returned once.
    pub(super) fn next_slow(&mut self, now: Tick, limit: u64) -> Option<&mut Entry> {
        let entry = overdue(&mut self.entries, self.slow, now, limit)?;
        self.slow = entry.younger;
        Some(entry)
    }

    /// The next call that is to be given up after `limit`; each is returned once.
    pub(super) fn next_expired(&mut self, now: Tick, limit: u64) -> Option<&mut Entry> {
        let entry = overdue(&mut self.entries, self.expiry, now, limit)?;
        self.expiry = entry.younger;
        Some(entry)
    }

    /// Stops watching the calls that are out now; they stay on the list until they are removed.
    pub(super) fn unwatch_all(&mut self) {
        self.slow = NONE;
        self.expiry = NONE;
    }

    /// When the oldest call that is out started.
    pub(super) fn oldest(&self) -> Option<Tick> {
        self.entries.get(self.oldest as usize).map(|e| e.started)
    }

    /// When the oldest call that is not given up started.
    pub(super) fn oldest_unexpired(&self) -> Option<Tick> {
        self.entries.get(self.expiry as usize).map(|e| e.started)
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

fn overdue(entries: &mut [Entry], at: u32, now: Tick, limit: u64) -> Option<&mut Entry> {
    entries
        .get_mut(at as usize)
        .filter(|entry| now.since(entry.started) > limit)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const SLOW: u64 = 10;
    const EXPIRY: u64 = 25;

    /// A call as the obvious list keeps it.
    #[derive(Debug)]
    struct Plain {
        slot: Slot,
        started: u64,
        slow: bool,
        expired: bool,
    }

    #[derive(Debug, Clone)]
    enum Step {
        Add,
        Pass(u64),
        Remove(prop::sample::Index),
        Unwatch,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => Just(Step::Add),
            4 => (0u64..8).prop_map(Step::Pass),
            4 => any::<prop::sample::Index>().prop_map(Step::Remove),
            1 => Just(Step::Unwatch),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]
        #[test]
        fn overdue_calls_come_once_each_and_in_order(steps in vec(step(), 1..150)) {
            let mut subject = InFlight::new();
            let mut plain: Vec<Plain> = Vec::new();
            let mut now = 0u64;
            for step in steps {
                let tick = Tick::default().plus(now);
                match step {
                    Step::Add => plain.push(Plain {
                        slot: subject.add(tick),
                        started: now,
                        slow: false,
                        expired: false,
                    }),
                    Step::Pass(nanos) => now += nanos,
                    Step::Remove(_) if plain.is_empty() => {}
                    Step::Remove(index) => {
                        let call = plain.remove(index.index(plain.len()));
                        let (noted, given_up) = subject.remove(call.slot);
                        // Unwatching sets both marks in the plain list, hence one direction only.
                        prop_assert!(noted == Noted::Nothing || call.slow);
                        prop_assert!(!given_up || call.expired);
                    }
                    Step::Unwatch => {
                        subject.unwatch_all();
                        plain.iter_mut().for_each(|call| {
                            call.slow = true;
                            call.expired = true;
                        });
                    }
                }
                let tick = Tick::default().plus(now);
                for call in plain.iter_mut().filter(|c| !c.slow && now - c.started > SLOW) {
                    call.slow = true;
                    let entry = subject.next_slow(tick, SLOW).expect("one more is slow");
                    prop_assert_eq!(entry.noted, Noted::Nothing);
                    prop_assert_eq!(entry.started, Tick::default().plus(call.started));
                    entry.noted = Noted::AsProbe;
                }
                prop_assert!(subject.next_slow(tick, SLOW).is_none());
                for call in plain.iter_mut().filter(|c| !c.expired && now - c.started > EXPIRY) {
                    call.expired = true;
                    let entry = subject.next_expired(tick, EXPIRY).expect("one more is late");
                    prop_assert!(!entry.given_up);
                    entry.given_up = true;
                }
                prop_assert!(subject.next_expired(tick, EXPIRY).is_none());
                prop_assert_eq!(subject.count(), plain.len() as u64);
                prop_assert_eq!(
                    subject.oldest(),
                    plain.first().map(|call| Tick::default().plus(call.started))
                );
                prop_assert_eq!(
                    subject.oldest_unexpired(),
                    plain
                        .iter()
                        .find(|call| !call.expired)
                        .map(|call| Tick::default().plus(call.started))
                );
            }
        }
    }

    #[test]
    fn slots_are_used_again() {
        let mut list = InFlight::new();
        for _ in 0..1_000 {
            let first = list.add(Tick::default());
            let second = list.add(Tick::default());
            list.remove(first);
            list.remove(second);
        }
        assert_eq!((list.entries.len(), list.count()), (2, 0));
    }
}
