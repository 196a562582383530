//! [`MasterElection`]: what each sentinel said last, and which master follows from it.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Address;
use crate::error::{Fault, FaultKind};

/// How long the word of a sentinel counts that cannot be asked any more. A sentinel that is behind
/// must not win because the one that knew better went down a moment ago.
const MEMORY: Duration = Duration::from_secs(10);

/// What a sentinel reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MasterReport {
    pub(super) master: Address,
    /// Grows with every failover; 0 from a sentinel that does not tell it.
    pub(super) epoch: u64,
}

/// What all sentinels reported, and the master that follows.
#[derive(Debug)]
pub(super) struct MasterElection {
    entries: Vec<Entry>,
    /// Who was named and does not serve as master, and since when.
    useless: Option<(Address, Instant)>,
}

#[derive(Debug, Clone, Default)]
struct Entry {
    report: Option<MasterReport>,
    /// Why it cannot be asked, and since when.
    fault: Option<(Fault, Instant)>,
}

/// What can be made of it.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Every sentinel has been heard, or cannot be reached.
    Settled(Address),
    /// Some have not been heard yet.
    Provisional(Address),
    /// Nobody has been heard yet.
    Open,
    /// None of them names a master, and why.
    Failed(Fault),
}

impl MasterElection {
    pub(super) fn new(sentinels: usize) -> Self {
        Self {
            entries: vec![Entry::default(); sentinels],
            useless: None,
        }
    }

    /// Notes whether a server serves as master.
    pub(super) fn judge(&mut self, address: &Address, serves: bool) {
        let known = self.useless.as_ref().is_some_and(|(one, _)| one == address);
        match serves {
            true if known => self.useless = None,
            false if !known => self.useless = Some((address.clone(), Instant::now())),
            _ => {}
        }
    }

    pub(super) fn note(&mut self, sentinel: usize, said: Result<MasterReport, Fault>) {
        if let Some(entry) = self.entries.get_mut(sentinel) {
            match said {
                Ok(report) => {
                    entry.report = Some(report);
                    entry.fault = None;
                }
                // The time is that of the first failure: from then on its word grows old.
                Err(fault) => {
                    let since = entry.fault.take().map_or_else(Instant::now, |(_, at)| at);
                    entry.fault = Some((fault, since));
                }
            }
        }
        self.forgive();
    }

    /// A server that no sentinel names any more is judged anew when one names it again: it may have come back since, and be the
    /// master of a later failover, of which most sentinels have not heard yet.
    fn forgive(&mut self) {
        let is_named = |address: &Address| self.fresh().any(|report| report.master == *address);
        if self.useless.as_ref().is_some_and(|(one, _)| !is_named(one)) {
            self.useless = None;
        }
    }

    /// The master: of the latest failover that anybody knows of, then by the number of sentinels
    /// that name it, and when that does not decide either, `present`.
    ///
    /// A sentinel left over from another life of the name may know a failover later than all that
    /// are to come. So when the one of the latest has been useless for long, the one that most of
    /// the sentinels name is the master. Not before: they may only be behind, and the old master
    /// would take writes that are lost.
    pub(super) fn master(&self, present: Option<&Address>) -> Option<Address> {
        let latest = self.of_the_latest(present)?;
        let is_useless =
            |(one, since): &(Address, Instant)| *one == latest && since.elapsed() >= MEMORY;
        if self.useless.as_ref().is_some_and(is_useless) {
            let votes = |address: &Address| {
                let for_it = self.fresh().filter(|report| report.master == *address);
                for_it.count()
            };
            let mut named = self.fresh().map(|report| &report.master);
            if let Some(most) = named.find(|named| votes(named) * 2 > self.entries.len()) {
                return Some(most.clone());
            }
        }
        Some(latest)
    }

    fn of_the_latest(&self, present: Option<&Address>) -> Option<Address> {
        let latest = self.fresh().map(|report| report.epoch).max()?;
        let mut votes: HashMap<&Address, usize> = HashMap::new();
        for report in self.fresh().filter(|report| report.epoch == latest) {
            *votes.entry(&report.master).or_default() += 1;
        }
        votes
            .into_iter()
            .max_by_key(|(address, votes)| {
                let by_name = std::cmp::Reverse((&address.host, address.port));
                (*votes, present == Some(*address), by_name)
            })
            .map(|(address, _)| address.clone())
    }

    pub(super) fn verdict(&self, present: Option<&Address>) -> Verdict {
        let is_heard = |entry: &Entry| entry.report.is_some() || entry.fault.is_some();
        let all_heard = self.entries.iter().all(is_heard);
        match (self.master(present), all_heard) {
            (Some(address), true) => Verdict::Settled(address),
            (Some(address), false) => Verdict::Provisional(address),
            (None, false) => Verdict::Open,
            (None, true) => Verdict::Failed(self.fault()),
        }
    }

    fn fresh(&self) -> impl Iterator<Item = &MasterReport> {
        self.entries.iter().filter_map(|entry| {
            let is_fresh = |(_, since): &(Fault, Instant)| since.elapsed() < MEMORY;
            let counts = entry.fault.as_ref().is_none_or(is_fresh);
            entry.report.as_ref().filter(|_| counts)
        })
    }

    /// That a sentinel does not know the name says more than that another is down.
    fn fault(&self) -> Fault {
        let mut faults = self.entries.iter().filter_map(|entry| entry.fault.as_ref());
        let said = |(fault, _): &&(Fault, Instant)| fault.kind() == FaultKind::Handshake;
        faults
            .clone()
            .find(said)
            .or_else(|| faults.next_back())
            .map_or_else(
                || Fault::new(FaultKind::Connect, "no sentinel is configured"),
                |(fault, _)| fault.clone(),
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Address {
        Address {
            host: "h".to_owned(),
            port,
        }
    }

    fn saw(port: u16, epoch: u64) -> Result<MasterReport, Fault> {
        Ok(MasterReport {
            master: at(port),
            epoch,
        })
    }

    fn down() -> Result<MasterReport, Fault> {
        Err(Fault::new(FaultKind::Connect, "down"))
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_failover_wins_however_many_are_behind() {
        let mut election = MasterElection::new(3);
        assert!(matches!(election.verdict(None), Verdict::Open));
        election.note(0, saw(1, 4));
        assert!(matches!(election.verdict(None), Verdict::Provisional(a) if a == at(1)));
        election.note(1, saw(1, 4));
        election.note(2, saw(2, 5));
        assert!(matches!(election.verdict(None), Verdict::Settled(a) if a == at(2)));

        // Also for a while after the one that knew went down, but not for ever: epochs begin anew
        // when a master is taken out of the sentinels and put in again.
        election.note(2, down());
        assert_eq!(election.master(None), Some(at(2)));
        tokio::time::advance(MEMORY / 2).await;
        election.note(2, down());
        tokio::time::advance(MEMORY / 2).await;
        assert_eq!(election.master(None), Some(at(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_left_over_sentinel_does_not_lock_out_for_ever() {
        let mut election = MasterElection::new(3);
        for (sentinel, port, epoch) in [(0, 1, 4), (1, 1, 4), (2, 2, 9)] {
            election.note(sentinel, saw(port, epoch));
        }
        election.judge(&at(2), false);
        tokio::time::advance(MEMORY / 2).await;
        election.judge(&at(2), false);
        assert_eq!(
            election.master(None),
            Some(at(2)),
            "the others may be behind"
        );
        tokio::time::advance(MEMORY / 2).await;
        assert_eq!(election.master(None), Some(at(1)));
        // One of three is not most of them, and a server that serves is none the worse.
        election.note(0, saw(3, 4));
        assert_eq!(election.master(None), Some(at(2)));
        election.note(0, saw(1, 4));
        election.judge(&at(2), true);
        assert_eq!(election.master(None), Some(at(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_failed_long_ago_is_the_master_of_a_later_failover_at_once() {
        let mut election = MasterElection::new(3);
        let all_say = |election: &mut MasterElection, port, epoch| {
            (0..3).for_each(|sentinel| election.note(sentinel, saw(port, epoch)));
        };
        all_say(&mut election, 1, 4);
        election.judge(&at(1), false);
        all_say(&mut election, 2, 5);
        election.judge(&at(2), true);
        tokio::time::advance(MEMORY * 100).await;
        election.note(0, saw(1, 6));
        assert_eq!(
            election.master(Some(&at(2))),
            Some(at(1)),
            "the others are behind"
        );
    }

    #[tokio::test]
    async fn without_epochs_the_majority_decides_and_a_draw_changes_nothing() {
        let mut election = MasterElection::new(3);
        for (sentinel, port) in [(0, 1), (1, 1), (2, 2)] {
            election.note(sentinel, saw(port, 0));
        }
        assert_eq!(election.master(None), Some(at(1)));
        election.note(0, saw(2, 0));
        assert_eq!(election.master(Some(&at(1))), Some(at(2)));
        let mut draw = MasterElection::new(2);
        draw.note(0, saw(1, 0));
        draw.note(1, saw(2, 0));
        assert_eq!(draw.master(Some(&at(1))), Some(at(1)));
        assert_eq!(draw.master(Some(&at(2))), Some(at(2)));
    }

    #[tokio::test]
    async fn when_none_knows_the_fault_that_says_most_is_told() {
        let mut election = MasterElection::new(2);
        election.note(0, Err(Fault::new(FaultKind::Handshake, "no such name")));
        assert!(matches!(election.verdict(None), Verdict::Open));
        election.note(1, down());
        let Verdict::Failed(fault) = election.verdict(None) else {
            panic!("nobody names a master")
        };
        assert_eq!(fault.kind(), FaultKind::Handshake);
        assert!(matches!(
            MasterElection::new(0).verdict(None),
            Verdict::Failed(_)
        ));
    }
}
