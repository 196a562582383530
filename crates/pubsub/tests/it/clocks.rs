//! A fleet whose processes have clocks of their own, which run at different paces and leap, that die and come again, and
//! that all take part in the same schedules: what it publishes, beside what the calendar says.
#![cfg(feature = "schedule")]

use std::time::Duration;

use jiff::civil::{Date, time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use redkit_core::{Command, FromValue, Key, Keyspace};
use redkit_pubsub::topic::{Missed, Schedule, Topic};
use redkit_testkit::FaultyBackend;
use redkit_testkit::simulation::history::ProcessId;
use redkit_testkit::simulation::{Fault, ProcessOptions, ServerId, World, WorldOptions};

/// A stretch of time, and how closely it is looked at.
pub(crate) struct Stretch {
    /// When it begins, by the server.
    pub(crate) begin: &'static str,
    pub(crate) lasts: Duration,
    /// The server is asked so often for messages that are due, as a consumer asks.
    pub(crate) look: Duration,
    /// A third pattern, beside the time of day and the time of the month, and how many seconds lie between its times.
    pub(crate) often: (&'static str, i64),
    /// A message is noticed so much late: the longer, the faster the stretch is over.
    pub(crate) notice: Duration,
}

/// The outcome of a stretch.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) ticks: usize,
    pub(crate) leaps: u32,
    pub(crate) kills: u32,
    pub(crate) cuts: u32,
    /// By how much the first and the last of the clocks were apart, at most.
    pub(crate) apart: Duration,
}

/// By how many millionths of a second in a second the clocks are fast.
const DRIFTS: [i32; 5] = [-100, -40, 0, 30, 100];
const PLACE: &str = "Europe/Berlin";
const SERVER: ServerId = ServerId(0);

pub(crate) fn start(
    topic: &Topic<String>,
    name: &str,
    cron: &str,
    zone: &str,
    missed: Missed,
) -> Schedule {
    let schedule = topic.schedule(name, cron, zone).missed(missed);
    schedule.start(|tick| tick.timestamp().to_string()).unwrap()
}

/// Two schedules: a time of day in Berlin, where the clocks change twice a year, and a time of the month.
pub(crate) fn start_both(topic: &Topic<String>) -> [Schedule; 2] {
    [
        start(topic, "daily", "30 2 * * *", PLACE, Missed::Skip),
        start(topic, "first", "0 12 1 * *", "UTC", Missed::Skip),
    ]
}

/// The publications after one moment and up to another, by the calendar.
pub(crate) fn expected_of_both(begin: Timestamp, end: Timestamp) -> Vec<String> {
    let berlin = TimeZone::get(PLACE).unwrap();
    let is_within = |tick: Timestamp| tick > begin && tick <= end;
    let mut expected = Vec::new();
    let mut day: Date = begin.to_zoned(berlin.clone()).date();
    let mut month = begin.to_zoned(TimeZone::UTC).date().first_of_month();
    while day <= end.to_zoned(berlin.clone()).date() {
        let at = |hour, minute| day.to_datetime(time(hour, minute, 0, 0));
        // In spring there is no half past two: the next time is three.
        let tick = match berlin.to_ambiguous_timestamp(at(2, 30)).is_ambiguous() && day.month() < 6
        {
            true => at(3, 0),
            false => at(2, 30),
        };
        let tick = tick.to_zoned(berlin.clone()).unwrap().timestamp();
        if is_within(tick) {
            expected.push(format!("daily@{tick}"));
        }
        day = day.tomorrow().unwrap();
    }
    for _ in 0..14 {
        let tick = month.to_datetime(time(12, 0, 0, 0));
        let tick = tick.to_zoned(TimeZone::UTC).unwrap().timestamp();
        if is_within(tick) {
            expected.push(format!("first@{tick}"));
        }
        month += 1.month();
    }
    expected.sort();
    expected
}

/// Lets the fleet publish, and compares it with the calendar: each time once, and none early.
pub(crate) fn check_each_time_comes_once(stretch: &Stretch) -> Figures {
    let begin: Timestamp = stretch.begin.parse().unwrap();
    let mut fleet = Fleet::new(begin, stretch);
    let mut published = Vec::new();
    while fleet.world.now() < stretch.lasts {
        fleet.world.run_for(stretch.look);
        published.extend(fleet.take());
        fleet.trouble();
    }
    // Ticks that a process which is late still publishes.
    fleet.world.heal();
    fleet.world.run_for(Duration::from_secs(120));
    published.extend(fleet.take());
    let end = fleet.server_time();
    published.sort();
    let mut expected = expected_of_both(begin, end);
    let (_, often) = stretch.often;
    let ticks = (begin.as_second() / often + 1)..=(end.as_second() / often);
    expected.extend(ticks.map(|tick| {
        let tick = Timestamp::from_second(tick * often).unwrap();
        format!("often@{tick}")
    }));
    expected.sort();
    for (published, expected) in published.iter().zip(&expected) {
        assert_eq!(published, expected);
    }
    assert_eq!(published.len(), expected.len());
    Figures {
        ticks: published.len(),
        ..fleet.figures
    }
}

struct Fleet {
    world: World,
    processes: [ProcessId; DRIFTS.len()],
    /// By how much their clocks have leapt.
    leapt: [Duration; DRIFTS.len()],
    keys: Keyspace,
    random: SmallRng,
    figures: Figures,
}

impl Fleet {
    fn new(begin: Timestamp, stretch: &Stretch) -> Self {
        let epoch = Duration::from_secs(begin.as_second().unsigned_abs());
        let options = WorldOptions::new().epoch(epoch).notice(stretch.notice);
        // So that an answer is there while the process that has asked still looks.
        let options = options.delay(Duration::from_micros(100)..Duration::from_millis(1));
        let mut world = World::new(1, options);
        let (often, _) = stretch.often;
        let processes = DRIFTS.map(|drift| {
            let options = ProcessOptions::new(&format!("process {drift}")).drift(drift);
            world.process_with(options, move |process| async move {
                let topic: Topic<String> = Topic::builder(&process.client(), "t").build().unwrap();
                let _both = start_both(&topic);
                let _often = start(&topic, "often", often, PLACE, Missed::Skip);
                std::future::pending::<()>().await;
            })
        });
        Self {
            world,
            processes,
            leapt: Default::default(),
            keys: FaultyBackend::embedded()
                .client()
                .keyspace("topic", "t")
                .unwrap(),
            random: SmallRng::seed_from_u64(1),
            figures: Figures {
                ticks: 0,
                leaps: 0,
                kills: 0,
                cuts: 0,
                apart: Duration::ZERO,
            },
        }
    }

    fn ask<T: FromValue>(&mut self, command: Command) -> T {
        self.world.ask(SERVER, command).unwrap().to().unwrap()
    }

    fn server_time(&mut self) -> Timestamp {
        let (seconds, micros): (i64, i64) = self.ask(Command::new("TIME"));
        Timestamp::from_microsecond(seconds * 1_000_000 + micros).unwrap()
    }

    /// Takes what is due, and what was published when its time had come: a process that publishes it once more does not
    /// find it any more.
    fn take(&mut self) -> Vec<String> {
        let (delayed, bodies): (Key, Key) = (
            self.keys.role_key("t.0", "delayed"),
            self.keys.role_key("t.0", "bodies"),
        );
        let now = self.server_time();
        let due = Command::new("ZRANGEBYSCORE").key(&delayed).arg("-inf");
        let mut ids: Vec<String> = self.ask(due.arg(now.as_microsecond()));
        for id in &ids {
            self.ask::<u64>(Command::new("ZREM").key(&delayed).arg(id));
            self.ask::<u64>(Command::new("HDEL").key(&bodies).arg(id));
        }
        let stream = self.keys.key("t.0");
        let range = Command::new("XRANGE").key(&stream).arg("-").arg("+");
        let entries: Vec<(String, Vec<String>)> = self.ask(range);
        for (entry, fields) in entries {
            self.ask::<u64>(Command::new("XDEL").key(&stream).arg(entry));
            ids.push(fields[1].clone());
        }
        for id in &ids {
            let time: Timestamp = id.split_once('@').unwrap().1.parse().unwrap();
            assert!(time <= now, "{id} comes early, at {now}");
        }
        ids
    }

    /// Something befalls one of them. The others go on.
    fn trouble(&mut self) {
        let index = self.random.random_range(0..self.processes.len());
        let process = self.processes[index];
        let fault = match self.random.random_range(0..6) {
            0 | 1 => {
                self.figures.leaps += 1;
                let by = Duration::from_millis(self.random.random_range(1_000..30_000));
                self.leapt[index] += by;
                Fault::JumpClock { process, by }
            }
            2 => {
                self.figures.kills += 1;
                self.leapt[index] = Duration::ZERO;
                let restart_after = Duration::from_secs(self.random.random_range(1..20));
                Fault::KillProcess {
                    process,
                    restart_after: Some(restart_after),
                }
            }
            3 => {
                self.figures.cuts += 1;
                Fault::LoseReply {
                    process,
                    server: SERVER,
                }
            }
            _ => return,
        };
        self.world.inject(fault);
        let shown = self.leapt.iter().zip(DRIFTS).map(|(leapt, drift)| {
            leapt.as_secs_f64() + self.world.now().as_secs_f64() * f64::from(drift) / 1e6
        });
        let (least, most) = shown.fold((f64::MAX, f64::MIN), |(least, most), shown| {
            (shown.min(least), shown.max(most))
        });
        let apart = Duration::from_secs_f64(most - least);
        self.figures.apart = self.figures.apart.max(apart);
    }
}
