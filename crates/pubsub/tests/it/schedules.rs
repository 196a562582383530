//! Schedules: every process takes part, each time is published once.
#![cfg(feature = "schedule")]

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use parking_lot::Mutex;
use redkit_core::breaker::BreakerConfig;
use redkit_core::{Client, ClientConfig, Command, FromValue};
use redkit_embedded::Embedded;
use redkit_pubsub::topic::{Delivery, Missed, Outcome, Topic};
use redkit_testkit::simulation::{Fault, ProcessOptions, World, WorldOptions};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};
use tokio::time::sleep;

use crate::clocks::{Stretch, check_each_time_comes_once, expected_of_both, start, start_both};

async fn call<T: FromValue>(client: &Client, command: Command) -> T {
    client.call(command).await.unwrap()
}

async fn server_time(client: &Client) -> Timestamp {
    let (seconds, micros): (i64, i64) = call(client, Command::new("TIME")).await;
    Timestamp::from_microsecond(seconds * 1_000_000 + micros).unwrap()
}

fn topic(client: &Client) -> Topic<String> {
    Topic::builder(client, "t").build().unwrap()
}

/// What was published and waits for its time, or stands in the stream: nobody consumes.
async fn published(client: &Client) -> Vec<String> {
    let keys = client.keyspace("topic", "t").unwrap();
    let delayed = Command::new("ZRANGE")
        .key(keys.role_key("t.0", "delayed"))
        .arg(0)
        .arg(-1);
    let mut ids: Vec<String> = call(client, delayed).await;
    let range = Command::new("XRANGE")
        .key(keys.key("t.0"))
        .arg("-")
        .arg("+");
    let entries: Vec<redkit_core::Value> = call(client, range).await;
    for entry in entries {
        let (_, fields): (String, Vec<String>) = entry.to().unwrap();
        ids.push(fields[1].clone());
    }
    ids.sort();
    ids
}

/// In a world of its own: five processes whose clocks run at their own paces and leap, and that die, around a night.
/// Gives what was published, and when the world began and ended.
fn publish_around(night: &str) -> (Vec<String>, Timestamp, Timestamp) {
    let begin: Timestamp = night.parse().unwrap();
    let epoch = Duration::from_secs(begin.as_second().unsigned_abs());
    let mut world = World::new(1, WorldOptions::new().epoch(epoch));
    let processes = [-100, -40, 0, 30, 100].map(|drift| {
        let name = format!("process {drift}");
        let options = ProcessOptions::new(&name).drift(drift);
        world.process_with(options, |process| async move {
            let topic: Topic<String> = Topic::builder(&process.client(), "t").build().unwrap();
            let _schedules = start_both(&topic);
            std::future::pending::<()>().await;
        })
    });
    for (n, process) in (0..8).zip(processes.into_iter().cycle()) {
        world.run_for(Duration::from_secs(30));
        world.inject(match n % 3 {
            2 => Fault::KillProcess {
                process,
                restart_after: Some(Duration::from_secs(60)),
            },
            _ => Fault::JumpClock {
                process,
                by: Duration::from_secs(3 + n),
            },
        });
    }
    let seen = Arc::new(Mutex::new(None));
    let tell = Arc::clone(&seen);
    world.process("eve", move |process| {
        let tell = Arc::clone(&tell);
        async move {
            let client = process.client();
            let (seconds, _): (i64, i64) = call(&client, Command::new("TIME")).await;
            *tell.lock() = Some((seconds, published(&client).await));
        }
    });
    world.run_for(Duration::from_secs(10));
    let (end, ids) = seen.lock().take().unwrap();
    (ids, begin, Timestamp::from_second(end).unwrap())
}

#[test]
fn processes_whose_clocks_disagree_publish_each_time_once() {
    for (night, time) in [
        // The leap day, and the nights in which the clocks of Berlin change.
        ("2028-02-29T01:27:00Z", "2028-02-29T01:30:00Z"),
        ("2028-03-26T00:57:00Z", "2028-03-26T01:00:00Z"),
        ("2028-10-29T00:27:00Z", "2028-10-29T00:30:00Z"),
    ] {
        let (ids, begin, end) = publish_around(night);
        assert_eq!(ids, [format!("daily@{time}")]);
        assert_eq!(ids, expected_of_both(begin, end));
    }
}

/// The hour in which the clocks of Berlin change. A year: `cargo xtask chaos pubsub year`.
#[test]
fn processes_whose_clocks_run_apart_publish_each_minute_of_an_hour_once() {
    let figures = check_each_time_comes_once(&Stretch {
        begin: "2028-03-26T00:30:00Z",
        lasts: Duration::from_secs(3_600),
        look: Duration::from_secs(20),
        often: ("* * * * *", 60),
        notice: Duration::from_secs(1),
    });
    assert!(figures.ticks >= 61, "{figures:?}");
    assert!(figures.apart > Duration::from_secs(60), "{figures:?}");
    assert!(figures.kills > 10 && figures.cuts > 10, "{figures:?}");
}

/// Sleeps until a few days before the next year with a leap day, and gives the time.
async fn before_a_leap_year(client: &Client) -> Timestamp {
    let year =
        (server_time(client).await.to_zoned(TimeZone::UTC).year() + 1..).find(|year| year % 4 == 0);
    let new_year = jiff::civil::date(year.unwrap(), 1, 1)
        .to_zoned(TimeZone::UTC)
        .unwrap()
        .timestamp();
    let wait = new_year
        .duration_since(server_time(client).await)
        .unsigned_abs();
    sleep(wait - Duration::from_secs(3 * 86_400)).await;
    server_time(client).await
}

/// A client whose every call reaches the server so much later, as if the clock of its process were behind.
fn behind(engine: &Arc<Embedded>, by: Duration) -> (Arc<FaultyBackend>, Client) {
    let backend = FaultyBackend::new(Arc::clone(engine) as _);
    backend.add(Rule::new(Injection::DelayRequest(by)));
    let mut breaker = BreakerConfig::default();
    breaker.enabled = false;
    let config = ClientConfig::default()
        .breaker(breaker)
        .command_timeout(Duration::from_secs(300));
    let client = backend.client_with(&config);
    (backend, client)
}

/// Takes what was published when its time has come, and once more a while later.
async fn collect(client: &Client, ticks: &[Timestamp]) -> Vec<String> {
    let (topic, ids) = (topic(client), Arc::new(Mutex::new(Vec::new())));
    for tick in ticks {
        for late in [100.milliseconds(), 2.minutes()] {
            let wait = (*tick + late).duration_since(server_time(client).await);
            sleep(Duration::try_from(wait).unwrap_or_default()).await;
            let ids = Arc::clone(&ids);
            let worker = topic
                .consumer("g")
                .start(move |delivery: Delivery<String>| {
                    ids.lock().push(delivery.id);
                    async { Outcome::Ack }
                });
            let worker = worker.await.unwrap();
            sleep(Duration::from_secs(1)).await;
            worker.shutdown(Duration::from_secs(1)).await;
        }
    }
    let mut ids = ids.lock().clone();
    ids.sort();
    ids
}

/// One of them is so far behind that it publishes each time when it was handled already.
#[tokio::test(start_paused = true)]
async fn five_processes_with_clocks_apart_by_seconds_publish_each_time_of_a_leap_year_once() {
    let engine = Arc::new(Embedded::new());
    let client = FaultyBackend::new(Arc::clone(&engine) as _).client();
    let begin = before_a_leap_year(&client).await;
    let processes = [0, 2, 5, 20, 95].map(|seconds| behind(&engine, Duration::from_secs(seconds)));
    let schedules = processes
        .each_ref()
        .map(|(_, client)| start_both(&topic(client)));
    let expected = expected_of_both(begin, begin + Duration::from_secs(371 * 86_400));
    assert!(expected.len() >= 366 + 12 && expected.iter().any(|id| id.contains("-02-29T")));
    let of_id = |id: &String| id.split_once('@').unwrap().1.parse().unwrap();
    let mut ticks: Vec<Timestamp> = expected.iter().map(of_id).collect();
    ticks.sort();
    assert_eq!(collect(&client, &ticks).await, expected);
    drop(schedules);
}

#[tokio::test(start_paused = true)]
async fn five_processes_publish_each_time_of_a_year_once() {
    let client = FaultyBackend::embedded().client();
    let begin = before_a_leap_year(&client).await;
    let topic = topic(&client);
    let mut schedules = Vec::new();
    for seconds in [0, 3, 7, 11, 20] {
        sleep(Duration::from_secs(seconds)).await;
        schedules.extend(start_both(&topic));
    }
    sleep(Duration::from_secs(362 * 86_400)).await;
    // Some processes come and go.
    schedules.truncate(4);
    sleep(Duration::from_secs(9 * 86_400)).await;
    // What comes within a minute waits on the server.
    let end = server_time(&client).await + 60.seconds();
    let expected = expected_of_both(begin, end);
    assert!(expected.len() >= 366 + 12 && expected.iter().any(|id| id.contains("-02-29T")));
    assert_eq!(published(&client).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_time_that_two_processes_make_up_for_at_once_is_published_once() {
    let backend = FaultyBackend::embedded();
    let topic = topic(&backend.client());
    let start = || start(&topic, "hourly", "0 0 * * * *", "UTC", Missed::Once);
    let first = start();
    sleep(Duration::from_secs(1)).await;
    drop(first);
    sleep(Duration::from_secs(5 * 3_600)).await;
    // Both have looked before either has published.
    let is_publication = |command: &Command| command.iter().any(|arg| arg.contains(&b'@'));
    let late = Injection::DelayRequest(Duration::from_millis(500));
    backend.add(Rule::new(late).on(is_publication));
    let _both = [start(), start()];
    sleep(Duration::from_secs(10)).await;
    let ids = published(&backend.client()).await;
    assert!(
        !ids.is_empty() && ids.is_sorted_by(|one, other| one < other),
        "{ids:?}"
    );
}

redkit_testkit::suite! {
    #[paused]
    async fn times_that_passed_are_made_up_for_by_the_policy(fixture: Fixture) {
        let topic = topic(&fixture.client);
        for (name, missed) in [("skip", Missed::Skip), ("once", Missed::Once), ("all", Missed::All(3)), ("many", Missed::All(100))] {
            let before = published(&fixture.client).await.len();
            let first = start(&topic, name, "0 0 * * * *", "UTC", missed);
            sleep(Duration::from_millis(10)).await;
            drop(first);
            let known = published(&fixture.client).await;
            sleep(Duration::from_secs(5 * 3600)).await;
            let now = server_time(&fixture.client).await;
            let _again = start(&topic, name, "0 0 * * * *", "UTC", missed);
            sleep(Duration::from_millis(10)).await;
            let new: Vec<String> = published(&fixture.client).await.into_iter().filter(|id| !known.contains(id)).collect();
            let past = new.iter().filter(|id| id.split_once('@').unwrap().1.parse::<Timestamp>().unwrap() <= now).count();
            let expected = match missed {
                Missed::Skip => 0,
                Missed::Once => 1,
                Missed::All(most) => most.min(5) as usize,
                _ => unreachable!(),
            };
            // One of the five may have been published ahead before.
            let ahead = known.len() - before;
            assert!(past == expected || (past + ahead == expected && expected == 5), "{name}: {new:?}");
        }
    }

    async fn each_second_comes_once_and_none_early(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let _worker = topic.consumer("g").start(move |delivery: Delivery<String>| {
            tell.send((delivery.id, delivery.payload)).unwrap();
            async { Outcome::Ack }
        }).await.unwrap();
        let schedules: Vec<_> = (0..3).map(|_| start(&topic, "s", "* * * * * *", "UTC", Missed::Skip)).collect();
        let mut last: Option<Timestamp> = None;
        for _ in 0..3 {
            let (id, payload) = told.recv().await.unwrap();
            let tick: Timestamp = payload.parse().unwrap();
            assert_eq!(id, format!("s@{tick}"));
            assert!(tick <= server_time(&fixture.client).await, "{tick} came early");
            if let Some(last) = last {
                assert_eq!(tick, last + 1.second());
            }
            last = Some(tick);
        }
        drop(schedules);
    }

    async fn a_schedule_that_cannot_work_is_refused_by_name(fixture: Fixture) {
        let topic = topic(&fixture.client);
        for (name, cron, zone, word) in [
            ("a b", "0 0 * * *", "UTC", "name"),
            ("s", "0 0 * *", "UTC", "cron"),
            ("s", "61 0 * * *", "UTC", "cron"),
            ("s", "0 0 30 2 *", "UTC", "never comes"),
            ("s", "0 0 * * *", "Mars/Olympus", "time_zone"),
        ] {
            let error = topic.schedule(name, cron, zone).start(|_| String::new()).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
