//! [`Schedule`]: which faults happen when. [`FaultMenu`]: those that a scenario can stand.

use std::time::Duration;

use rand::RngExt;

use super::fault::{Data, Direction, Fault, FaultKind};
use super::random::{Random, chance};
use super::{ProcessId, ServerId};

/// A fault and its time since the start of the world.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedFault {
    /// When it happens.
    pub at: Duration,
    /// What happens.
    pub fault: Fault,
}

/// The faults of a run, in the order of their times.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Schedule {
    /// The faults.
    pub faults: Vec<PlannedFault>,
}

/// Which faults a scenario can stand, how many there are at most, and when.
///
/// ```
/// use std::time::Duration;
/// use redkit_testkit::simulation::{FaultKind, FaultMenu};
///
/// let menu = FaultMenu::all()
///     .without(&[FaultKind::Failover]) // loses what was acknowledged
///     .at_most(6)
///     .within(Duration::from_secs(3));
/// # let _ = menu;
/// ```
#[derive(Debug, Clone)]
pub struct FaultMenu {
    kinds: Vec<FaultKind>,
    /// Kinds that others follow, with these.
    pairs: Vec<(FaultKind, FaultKind)>,
    most: usize,
    within: Duration,
    longest: Duration,
    /// How long a server that has lost its data is down at least.
    away: Duration,
    /// By how much a server's clock is set at most; by the longest time when it is not said.
    server_leaps: Option<Duration>,
    /// By how much a process's clock leaps at most; as other faults last when it is not said.
    clock_leaps: Option<Duration>,
    /// Servers that restart have their data.
    keeps_data: bool,
}

impl FaultMenu {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self::only(&[])
    }

    /// Every kind but [`LosePush`](FaultKind::LosePush), which happens on clusters alone, and
    /// [`MutePushes`](FaultKind::MutePushes); each as likely as any other; up to 12 faults in the first 5 s, of which
    /// none lasts longer than 3 s.
    pub fn all() -> Self {
        Self::only(&FaultKind::ALL).without(&[FaultKind::LosePush, FaultKind::MutePushes])
    }

    /// Half of the faults of the first kind are followed by one of the second between the same ends, at once or a
    /// little later: when the first is a delay, as soon as it is over. What takes two faults, one right after the
    /// other, would be rare otherwise.
    #[must_use]
    pub fn followed(mut self, first: FaultKind, second: FaultKind) -> Self {
        self.pairs.push((first, second));
        self
    }

    /// With these kinds as well.
    #[must_use]
    pub fn with(mut self, kinds: &[FaultKind]) -> Self {
        self.kinds.extend_from_slice(kinds);
        self
    }

    /// The same of these kinds. A kind that is named twice is twice as likely.
    pub fn only(kinds: &[FaultKind]) -> Self {
        Self {
            kinds: kinds.to_vec(),
            pairs: Vec::new(),
            most: 12,
            within: Duration::from_secs(5),
            longest: Duration::from_secs(3),
            away: Duration::ZERO,
            server_leaps: None,
            clock_leaps: None,
            keeps_data: false,
        }
    }

    /// Without these kinds.
    #[must_use]
    pub fn without(mut self, kinds: &[FaultKind]) -> Self {
        self.kinds.retain(|kind| !kinds.contains(kind));
        self
    }

    /// At most so many in a run.
    #[must_use]
    pub fn at_most(mut self, faults: usize) -> Self {
        self.most = faults;
        self
    }

    /// All of them begin within this time from the start.
    #[must_use]
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// How long a pause, a partition or an outage lasts at most.
    #[must_use]
    pub fn longest(mut self, time: Duration) -> Self {
        self.longest = time;
        self
    }

    /// How long a server that [restarts](FaultKind::RestartServer) without its data is down at least, on top of what
    /// it is down otherwise: an operator keeps it away until what it has forgotten counts no more. Default: it is not
    /// kept away.
    #[must_use]
    pub fn kept_away(mut self, time: Duration) -> Self {
        self.away = time;
        self
    }

    /// Servers that [restart](FaultKind::RestartServer) still have all their data. Default: half of them have none.
    #[must_use]
    pub fn keeping_data(mut self) -> Self {
        self.keeps_data = true;
        self
    }

    /// By how much a server's clock [is set](FaultKind::JumpServerClock) at most, forward or back. Default: by the
    /// longest time.
    #[must_use]
    pub fn server_leaps(mut self, most: Duration) -> Self {
        self.server_leaps = Some(most);
        self
    }

    /// By how much a process's clock [leaps ahead](FaultKind::JumpClock) at most, long leaps as likely as short ones.
    /// Default: as far as other faults last, and rather a little than far. What is decided by a lease of some seconds
    /// takes longer leaps than that.
    #[must_use]
    pub fn clock_leaps(mut self, most: Duration) -> Self {
        self.clock_leaps = Some(most);
        self
    }

    /// Draws the faults of a run of so many processes and servers.
    pub(super) fn draw(&self, random: &mut Random, processes: u32, servers: usize) -> Schedule {
        if self.kinds.is_empty() || processes == 0 || servers == 0 {
            return Schedule::default();
        }
        let number = random.random_range(0..=self.most);
        let mut faults: Vec<PlannedFault> = Vec::new();
        for _ in 0..number {
            let at = self.within.mul_f64(random.random());
            let kind = self.kinds[random.random_range(0..self.kinds.len())];
            let process = ProcessId(random.random_range(0..processes));
            let server = ServerId(random.random_range(0..servers));
            let fault = self.draw_one(random, kind, process, server);
            let then = at + delay_of(&fault);
            faults.push(PlannedFault { at, fault });
            for (_, second) in self.pairs.iter().filter(|(first, _)| *first == kind) {
                if chance(random, 0.5) {
                    let at = then + SOON.mul_f64(random.random());
                    let fault = self.draw_one(random, *second, process, server);
                    faults.push(PlannedFault { at, fault });
                }
            }
        }
        faults.sort_by_key(|planned| planned.at);
        Schedule { faults }
    }

    fn draw_one(
        &self,
        random: &mut Random,
        kind: FaultKind,
        process: ProcessId,
        server: ServerId,
    ) -> Fault {
        match kind {
            FaultKind::Cut => Fault::Cut { process, server },
            FaultKind::LoseRequest => Fault::LoseRequest { process, server },
            FaultKind::LoseReply => Fault::LoseReply { process, server },
            FaultKind::DelayRequest => Fault::DelayRequest {
                process,
                server,
                by: self.some_time(random),
            },
            FaultKind::DelayReply => Fault::DelayReply {
                process,
                server,
                by: self.some_time(random),
            },
            FaultKind::LosePush => Fault::LosePush { process, server },
            FaultKind::MutePushes => Fault::MutePushes {
                process,
                server,
                lasts: self.some_time(random),
            },
            FaultKind::Partition => Fault::Partition {
                process,
                server,
                direction: match random.random_range(0..4) {
                    0 => Direction::Requests,
                    1 => Direction::Replies,
                    _ => Direction::Both,
                },
                lasts: self.some_time(random),
            },
            FaultKind::PauseProcess => Fault::PauseProcess {
                process,
                lasts: self.some_time(random),
            },
            FaultKind::KillProcess => Fault::KillProcess {
                process,
                restart_after: chance(random, 0.8).then(|| self.some_time(random)),
            },
            FaultKind::JumpClock => Fault::JumpClock {
                process,
                by: match self.clock_leaps {
                    Some(most) => most.mul_f64(random.random()),
                    None => self.some_time(random),
                },
            },
            FaultKind::PauseServer => Fault::PauseServer {
                server,
                lasts: self.some_time(random),
            },
            FaultKind::RestartServer => {
                let down = self.some_time(random) / 4;
                let (data, down) = match chance(random, 0.5) || self.keeps_data {
                    true => (Data::Kept, down),
                    false => (Data::Lost, down + self.away),
                };
                Fault::RestartServer { server, down, data }
            }
            FaultKind::Failover => Fault::Failover {
                server,
                lag: self.some_time(random) / 4,
                down: self.some_time(random) / 4,
            },
            FaultKind::FullMemory => Fault::FullMemory {
                server,
                lasts: self.some_time(random),
            },
            FaultKind::ForgetScripts => Fault::ForgetScripts { server },
            FaultKind::FlushAll => Fault::FlushAll { server },
            FaultKind::JumpServerClock => {
                let most = self.server_leaps.unwrap_or(self.longest);
                let most = i64::try_from(most.as_micros()).unwrap_or(i64::MAX);
                Fault::JumpServerClock {
                    server,
                    by_micros: random.random_range(-most..=most),
                }
            }
        }
    }

    /// From a millisecond up to the longest time; short ones are as likely as long ones.
    fn some_time(&self, random: &mut Random) -> Duration {
        const LEAST: f64 = 0.001;
        let longest = self.longest.as_secs_f64().max(LEAST);
        let seconds = LEAST * (longest / LEAST).powf(random.random());
        Duration::from_secs_f64(seconds)
    }
}

/// How long after a fault the one that follows it comes, at most.
const SOON: Duration = Duration::from_millis(40);

/// For how long a fault holds up one message.
fn delay_of(fault: &Fault) -> Duration {
    match *fault {
        Fault::DelayRequest { by, .. } | Fault::DelayReply { by, .. } => by,
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::random::stream;

    #[test]
    fn a_schedule_is_drawn_from_its_seed_in_the_order_of_time_and_of_the_menu() {
        let menu = FaultMenu::all()
            .without(&[FaultKind::FlushAll, FaultKind::Failover])
            .at_most(40);
        let draw = |seed| menu.draw(&mut stream(seed, "faults"), 3, 2);
        assert_eq!(draw(7), draw(7));
        let all: Vec<_> = (0..100).flat_map(|seed| draw(seed).faults).collect();
        for kind in FaultKind::ALL {
            let is_there = all.iter().any(|planned| planned.fault.kind() == kind);
            let is_out = matches!(
                kind,
                FaultKind::FlushAll
                    | FaultKind::Failover
                    | FaultKind::LosePush
                    | FaultKind::MutePushes
            );
            assert_eq!(is_there, !is_out, "{kind}");
        }
        assert!(draw(3).faults.is_sorted_by_key(|planned| planned.at));
        let processes = all.iter().filter_map(|planned| planned.fault.process());
        assert!(processes.map(|id| id.0).max() == Some(2));
        assert!(FaultMenu::none().draw(&mut stream(1, "faults"), 3, 1) == Schedule::default());
    }

    #[test]
    fn a_server_without_its_data_is_kept_away_and_clocks_leap_as_far_as_the_menu_says() {
        let (away, leap) = (Duration::from_secs(2), Duration::from_millis(3));
        let menu = FaultMenu::only(&[FaultKind::RestartServer, FaultKind::JumpServerClock])
            .longest(Duration::from_secs(1))
            .kept_away(away)
            .server_leaps(leap);
        let (mut kept, mut lost, mut leaps) = (0, 0, 0);
        let drawn = |menu: &FaultMenu, seed| menu.draw(&mut stream(seed, "faults"), 1, 1).faults;
        for seed in 0..100 {
            for planned in drawn(&menu.clone().keeping_data(), seed) {
                let is_lost = matches!(planned.fault, Fault::RestartServer { data, .. } if data != Data::Kept);
                assert!(!is_lost);
            }
            for planned in drawn(&menu, seed) {
                match planned.fault {
                    Fault::RestartServer {
                        down,
                        data: Data::Lost,
                        ..
                    } => {
                        assert!(down > away);
                        lost += 1;
                    }
                    Fault::RestartServer { down, .. } => {
                        assert!(down < away);
                        kept += 1;
                    }
                    Fault::JumpServerClock { by_micros, .. } => {
                        assert!(u128::from(by_micros.unsigned_abs()) <= leap.as_micros());
                        leaps += 1;
                    }
                    other => panic!("{other}"),
                }
            }
        }
        assert!(kept > 0 && lost > 0 && leaps > 0);
    }

    #[test]
    fn clocks_leap_as_far_as_the_menu_says() {
        let most = Duration::from_secs(10);
        let menu = FaultMenu::only(&[FaultKind::JumpClock])
            .longest(Duration::from_secs(1))
            .clock_leaps(most);
        let all = (0..100).flat_map(|seed| menu.draw(&mut stream(seed, "faults"), 1, 1).faults);
        let leaps = all.map(|planned| match planned.fault {
            Fault::JumpClock { by, .. } => by,
            other => panic!("{other}"),
        });
        let leaps: Vec<Duration> = leaps.collect();
        let far = leaps.iter().filter(|by| **by > most / 2).count();
        assert!(leaps.iter().all(|by| *by <= most));
        assert!(leaps.len() / 3 < far && far < leaps.len() * 2 / 3, "{far}");
    }

    #[test]
    fn a_late_reply_is_followed_by_a_partition_between_the_same_ends() {
        let menu = FaultMenu::only(&[FaultKind::DelayReply, FaultKind::Cut])
            .followed(FaultKind::DelayReply, FaultKind::Partition);
        let all = (0..100).map(|seed| menu.draw(&mut stream(seed, "faults"), 3, 2).faults);
        let (mut late, mut pairs) = (0, 0);
        for faults in all {
            for planned in &faults {
                let Fault::DelayReply {
                    process,
                    server,
                    by,
                } = planned.fault
                else {
                    continue;
                };
                late += 1;
                let over = planned.at + by;
                pairs += usize::from(faults.iter().any(|other| {
                    let ends = (other.fault.process(), other.fault.server());
                    other.fault.kind() == FaultKind::Partition
                        && ends == (Some(process), Some(server))
                        && (over..=over + SOON).contains(&other.at)
                }));
            }
        }
        assert!(
            late / 3 < pairs && pairs < late * 2 / 3,
            "{pairs} of {late}"
        );
    }
}
