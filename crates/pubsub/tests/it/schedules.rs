//! Schedules: every process takes part, each time is published once.
#![cfg(feature = "schedule")]

use std::time::Duration;

use jiff::civil::{Date, time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use redkit_core::{Command, FromValue};
use redkit_pubsub::topic::{Delivery, Missed, Outcome, Schedule, Topic};
use redkit_testkit::Fixture;
use tokio::time::sleep;

async fn call<T: FromValue>(fixture: &Fixture, command: Command) -> T {
    fixture.client.call(command).await.unwrap()
}

async fn server_time(fixture: &Fixture) -> Timestamp {
    let (seconds, micros): (i64, i64) = call(fixture, Command::new("TIME")).await;
    Timestamp::from_microsecond(seconds * 1_000_000 + micros).unwrap()
}

fn topic(fixture: &Fixture) -> Topic<String> {
    Topic::builder(&fixture.client, "t").build().unwrap()
}

fn start(topic: &Topic<String>, name: &str, cron: &str, zone: &str, missed: Missed) -> Schedule {
    let schedule = topic.schedule(name, cron, zone).missed(missed);
    schedule.start(|tick| tick.timestamp().to_string()).unwrap()
}

/// What was published and waits for its time, or stands in the stream: nobody consumes.
async fn published(fixture: &Fixture) -> Vec<String> {
    let keys = fixture.client.keyspace("topic", "t").unwrap();
    let delayed = Command::new("ZRANGE")
        .key(keys.role_key("t.0", "delayed"))
        .arg(0)
        .arg(-1);
    let mut ids: Vec<String> = call(fixture, delayed).await;
    let range = Command::new("XRANGE")
        .key(keys.key("t.0"))
        .arg("-")
        .arg("+");
    let entries: Vec<redkit_core::Value> = call(fixture, range).await;
    for entry in entries {
        let (_, fields): (String, Vec<String>) = entry.to().unwrap();
        ids.push(fields[1].clone());
    }
    ids.sort();
    ids
}

redkit_testkit::suite! {
    #[paused]
    async fn five_processes_publish_each_time_of_a_year_once(fixture: Fixture) {
        let begin = server_time(&fixture).await;
        let topic = topic(&fixture);
        let mut schedules = Vec::new();
        for seconds in [0, 3, 7, 11, 20] {
            sleep(Duration::from_secs(seconds)).await;
            schedules.push(start(&topic, "daily", "30 6 * * *", "Europe/Berlin", Missed::Skip));
            schedules.push(start(&topic, "first", "0 12 1 * *", "UTC", Missed::Skip));
        }
        sleep(Duration::from_secs(360 * 86_400)).await;
        // Some processes come and go.
        schedules.truncate(4);
        sleep(Duration::from_secs(5 * 86_400)).await;
        let end = server_time(&fixture).await + 60.seconds();
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let mut expected = Vec::new();
        let mut day: Date = begin.to_zoned(berlin.clone()).date();
        loop {
            let tick = day.to_datetime(time(6, 30, 0, 0)).to_zoned(berlin.clone()).unwrap().timestamp();
            if tick > end {
                break;
            }
            if tick > begin {
                expected.push(format!("daily@{tick}"));
            }
            day = day.tomorrow().unwrap();
        }
        let mut month = begin.to_zoned(TimeZone::UTC).date().first_of_month();
        for _ in 0..14 {
            let tick = month.to_datetime(time(12, 0, 0, 0)).to_zoned(TimeZone::UTC).unwrap().timestamp();
            if tick > begin && tick <= end {
                expected.push(format!("first@{tick}"));
            }
            month += 1.month();
        }
        assert!(expected.len() >= 364);
        expected.sort();
        assert_eq!(published(&fixture).await, expected);
    }

    #[paused]
    async fn times_that_passed_are_made_up_for_by_the_policy(fixture: Fixture) {
        let topic = topic(&fixture);
        for (name, missed) in [("skip", Missed::Skip), ("once", Missed::Once), ("all", Missed::All(3)), ("many", Missed::All(100))] {
            let before = published(&fixture).await.len();
            let first = start(&topic, name, "0 0 * * * *", "UTC", missed);
            sleep(Duration::from_millis(10)).await;
            drop(first);
            let known = published(&fixture).await;
            sleep(Duration::from_secs(5 * 3600)).await;
            let now = server_time(&fixture).await;
            let _again = start(&topic, name, "0 0 * * * *", "UTC", missed);
            sleep(Duration::from_millis(10)).await;
            let new: Vec<String> = published(&fixture).await.into_iter().filter(|id| !known.contains(id)).collect();
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
        let topic = topic(&fixture);
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
            assert!(tick <= server_time(&fixture).await, "{tick} came early");
            if let Some(last) = last {
                assert_eq!(tick, last + 1.second());
            }
            last = Some(tick);
        }
        drop(schedules);
    }

    async fn a_schedule_that_cannot_work_is_refused_by_name(fixture: Fixture) {
        let topic = topic(&fixture);
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
