//! Topics that are logs, read without a group.

use std::sync::Arc;
use std::time::Duration;

use redkit_core::{Client, ClientConfig, Command};
use redkit_embedded::Embedded;
use redkit_pubsub::Error;
use redkit_pubsub::topic::{
    LogEvent, LogMessage, LogPosition, LogReader, Publication, ReadFrom, Retention, Topic,
};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};

use crate::handling::{Seen, acknowledge, builder};

fn log(fixture: &Fixture, most: Option<u64>) -> Topic<u32> {
    let retention = Retention::Log { keep: None, most };
    builder(&fixture.client)
        .retention(retention)
        .build()
        .unwrap()
}

async fn event(reader: &mut LogReader<u32>) -> LogEvent<u32> {
    tokio::time::timeout(Duration::from_secs(20), reader.next())
        .await
        .expect("something comes")
        .expect("it goes on")
}

async fn message(reader: &mut LogReader<u32>) -> LogMessage<u32> {
    match event(reader).await {
        LogEvent::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

async fn payloads(reader: &mut LogReader<u32>, count: usize) -> Vec<u32> {
    let mut payloads = Vec::new();
    for _ in 0..count {
        payloads.push(message(reader).await.payload);
    }
    payloads
}

async fn gap(reader: &mut LogReader<u32>) -> LogPosition {
    match event(reader).await {
        LogEvent::Gap { position, .. } => position,
        other => panic!("{other:?}"),
    }
}

async fn is_silent(reader: &mut LogReader<u32>) -> bool {
    let wait = Duration::from_millis(300);
    tokio::time::timeout(wait, reader.next()).await.is_err()
}

async fn publish(topic: &Topic<u32>, range: std::ops::Range<u32>) {
    for n in range {
        topic.publish(&n).await.unwrap();
    }
}

/// Removes all but the newest.
async fn trim(fixture: &Fixture, keep: u64) {
    let stream = fixture.client.keyspace("topic", "t").unwrap().key("t.0");
    let trim = Command::new("XTRIM").key(stream).arg("MAXLEN").arg("=");
    fixture.client.call::<u64>(trim.arg(keep)).await.unwrap();
}

/// A server was restarted, or another one took over, without the last entries; `more` are published then.
async fn last_entries_are_lost(more: u32) {
    let engine = Arc::new(Embedded::new());
    let backend = Arc::clone(&engine);
    let client = Client::from_backend(backend, &ClientConfig::default()).unwrap();
    let retention = Retention::Log {
        keep: None,
        most: None,
    };
    let topic = builder(&client).retention(retention).build().unwrap();
    publish(&topic, 0..3).await;
    let snapshot = engine.snapshot();
    tokio::time::sleep(Duration::from_millis(5)).await;
    publish(&topic, 3..5).await;
    let mut reader = topic.read(ReadFrom::Beginning).await.unwrap();
    assert_eq!(payloads(&mut reader, 5).await, [0, 1, 2, 3, 4]);
    engine.restore(&snapshot);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let count = usize::try_from(more).unwrap();
    let new: Vec<u32> = (9..9 + more).collect();
    publish(&topic, 9..9 + more).await;
    let behind = gap(&mut reader).await;
    assert_eq!(payloads(&mut reader, count).await, new);
    assert!(is_silent(&mut reader).await);
    // A reader that was told of the gap is not told again.
    let mut again = topic.read(ReadFrom::After(behind)).await.unwrap();
    assert_eq!(payloads(&mut again, count).await, new);
    // What is dropped later and was read is no gap, and what was not is one.
    let stream = client.keyspace("topic", "t").unwrap().key("t.0");
    for (first, keep) in [(1_000, 2), (2_000, 1)] {
        publish(&topic, first..first + 1).await;
        for reader in [&mut reader, &mut again] {
            assert_eq!(payloads(reader, 1).await, [first]);
        }
        let trim = Command::new("XTRIM").key(&stream).arg("MAXLEN").arg("=");
        client.call::<u64>(trim.arg(keep)).await.unwrap();
    }
    publish(&topic, 3_000..3_004).await;
    let trim = Command::new("XTRIM").key(&stream).arg("MAXLEN").arg("=");
    client.call::<u64>(trim.arg(2)).await.unwrap();
    for reader in [&mut reader, &mut again] {
        gap(reader).await;
        assert_eq!(payloads(reader, 2).await, [3_002, 3_003]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_lost_its_last_entries_is_one_gap_and_not_read_once_more() {
    last_entries_are_lost(1).await;
    // More than a page.
    last_entries_are_lost(300).await;
}

/// By partition.
fn parted(messages: Vec<LogMessage<u32>>) -> [Vec<u32>; 3] {
    let mut parted = [const { Vec::new() }; 3];
    for message in messages {
        parted[message.partition as usize].push(message.payload);
    }
    parted
}

async fn messages(reader: &mut LogReader<u32>, count: usize) -> [Vec<u32>; 3] {
    let mut messages = Vec::new();
    for _ in 0..count {
        messages.push(message(reader).await);
    }
    parted(messages)
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_cannot_be_read_holds_up_no_other() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let retention = Retention::Log {
        keep: None,
        most: None,
    };
    let topic = builder(&client).partitions(3).retention(retention);
    let topic = topic.build().unwrap();
    let publish = async |n: u32| {
        let publication = Publication::new().key(format!("key-{n}"));
        topic.publish_with(&n, publication).await.unwrap();
    };
    for n in 0..300 {
        publish(n).await;
    }
    let mut all = topic.read(ReadFrom::Beginning).await.unwrap();
    let [away, first, second] = messages(&mut all, 300).await;
    drop(all);
    for fault in [
        Injection::NotSent,
        Injection::HangBefore,
        Injection::LoseReply,
    ] {
        backend.set(Rule::new(fault).on_part("{t.0}").alone());
        let mut reader = topic.read(ReadFrom::Beginning).await.unwrap();
        let read = messages(&mut reader, first.len() + second.len()).await;
        assert_eq!(read, [vec![], first.clone(), second.clone()]);
        backend.clear();
        let began = tokio::time::Instant::now();
        let read = messages(&mut reader, away.len()).await;
        assert_eq!(read, [away.clone(), vec![], vec![]]);
        // Its own pause is over sooner than the time of the next look into all partitions.
        assert!(began.elapsed() <= Duration::from_secs(2));
    }
    // What comes is told at once, whatever another partition's state is.
    let mut reader = topic.read(ReadFrom::Now).await.unwrap();
    assert!(is_silent(&mut reader).await);
    backend.set(Rule::new(Injection::NotSent).on_part("{t.0}").alone());
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(is_silent(&mut reader).await);
    for n in 1_000..1_050 {
        let published = Publication::new().key(format!("key-{n}"));
        if topic.publish_with(&n, published).await.is_err() {
            continue;
        }
        let came = tokio::time::timeout(Duration::from_millis(20), reader.next());
        let came = came.await.expect("it comes at once").unwrap();
        assert!(matches!(came, LogEvent::Message(message) if message.payload == n));
    }
    // A refusal for good ends the reader, behind what was read.
    let refuse = Injection::Refuse("NOPERM", "this user has no permissions to run 'xrange'");
    backend.set(Rule::new(refuse).on_part("{t.0}").alone());
    let mut reader = topic.read(ReadFrom::Beginning).await.unwrap();
    let mut count = 0;
    while let Some(event) = reader.next().await {
        assert!(matches!(event, LogEvent::Message(message) if message.partition != 0));
        count += 1;
    }
    assert!(count > 0);
}

redkit_testkit::suite! {
    async fn a_reader_has_what_was_there_and_what_comes(fixture: Fixture) {
        let topic = log(&fixture, None);
        publish(&topic, 0..5).await;
        let mut all = topic.read(ReadFrom::Beginning).await.unwrap();
        let mut new = topic.read(ReadFrom::Now).await.unwrap();
        assert_eq!(payloads(&mut all, 5).await, [0, 1, 2, 3, 4]);
        assert!(is_silent(&mut all).await && is_silent(&mut new).await);
        publish(&topic, 5..8).await;
        assert_eq!(payloads(&mut all, 3).await, [5, 6, 7]);
        assert_eq!(payloads(&mut new, 3).await, [5, 6, 7]);
        // A reader takes nothing from the groups.
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("g"), &seen).await;
        crate::handling::until("the group has all", || seen.len() == 8).await;
    }

    async fn what_comes_is_told_at_once(fixture: Fixture) {
        let topic = log(&fixture, None);
        let mut reader = topic.read(ReadFrom::Now).await.unwrap();
        assert!(is_silent(&mut reader).await);
        let started = std::time::Instant::now();
        for n in 0..5 {
            topic.publish(&n).await.unwrap();
            assert_eq!(message(&mut reader).await.payload, n);
        }
        // Far less than by looking now and then.
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    }

    async fn a_reader_goes_on_behind_a_position(fixture: Fixture) {
        let topic = log(&fixture, None);
        topic.publish_with(&0, Publication::new().id("a").key("k").header("x", "y")).await.unwrap();
        publish(&topic, 1..300).await;
        let mut reader = topic.read(ReadFrom::Beginning).await.unwrap();
        let first = message(&mut reader).await;
        assert_eq!((&*first.id, &first.key[..], &*first.headers["x"]), ("a", &b"k"[..], "y"));
        let before = payloads(&mut reader, 150).await;
        let text = reader.position().to_string();
        drop(reader);
        let position: LogPosition = text.parse().unwrap();
        let mut reader = topic.read(ReadFrom::After(position)).await.unwrap();
        let after = payloads(&mut reader, 149).await;
        assert_eq!([before, after].concat(), (1..300).collect::<Vec<_>>());
        assert!(is_silent(&mut reader).await, "none comes twice");
    }

    async fn what_the_log_has_dropped_is_one_gap(fixture: Fixture) {
        let topic = log(&fixture, None);
        publish(&topic, 0..10).await;
        let mut reader = topic.read(ReadFrom::Beginning).await.unwrap();
        let second = { payloads(&mut reader, 1).await; message(&mut reader).await.position };
        let sixth = { payloads(&mut reader, 3).await; message(&mut reader).await.position };
        drop(reader);
        trim(&fixture, 4).await;
        let mut reader = topic.read(ReadFrom::After(second)).await.unwrap();
        let behind = gap(&mut reader).await;
        assert_eq!(payloads(&mut reader, 4).await, [6, 7, 8, 9]);
        // Just all of it is there, though the last one that was read is not.
        let mut reader = topic.read(ReadFrom::After(sixth)).await.unwrap();
        assert_eq!(payloads(&mut reader, 4).await, [6, 7, 8, 9]);
        // Who was told of the gap is not told again.
        let mut reader = topic.read(ReadFrom::After(behind)).await.unwrap();
        assert_eq!(payloads(&mut reader, 4).await, [6, 7, 8, 9]);
        // What was gone before a reader began was never to be read.
        let mut reader = topic.read(ReadFrom::Beginning).await.unwrap();
        assert_eq!(payloads(&mut reader, 4).await, [6, 7, 8, 9]);
    }

    async fn a_reader_that_is_too_slow_for_the_log_is_told(fixture: Fixture) {
        let topic = log(&fixture, None);
        let mut reader = topic.read(ReadFrom::Now).await.unwrap();
        publish(&topic, 0..8).await;
        trim(&fixture, 3).await;
        gap(&mut reader).await;
        assert_eq!(payloads(&mut reader, 3).await, [5, 6, 7]);
        trim(&fixture, 0).await;
        assert!(is_silent(&mut reader).await, "everything had been read");
        publish(&topic, 8..9).await;
        assert_eq!(message(&mut reader).await.payload, 8);
    }

    async fn a_log_that_was_lost_is_one_gap(fixture: Fixture) {
        let topic = log(&fixture, None);
        publish(&topic, 0..3).await;
        let mut reader = topic.read(ReadFrom::Beginning).await.unwrap();
        assert_eq!(payloads(&mut reader, 3).await, [0, 1, 2]);
        let stream = fixture.client.keyspace("topic", "t").unwrap().key("t.0");
        fixture.client.call::<u64>(Command::new("DEL").key(stream)).await.unwrap();
        // Ids are times. More than there were.
        tokio::time::sleep(Duration::from_millis(5)).await;
        publish(&topic, 3..9).await;
        gap(&mut reader).await;
        assert_eq!(payloads(&mut reader, 6).await, (3..9).collect::<Vec<_>>());
        assert!(is_silent(&mut reader).await);
    }

    #[paused]
    async fn a_delayed_message_of_a_log_that_nobody_consumes_comes(fixture: Fixture) {
        let topic = log(&fixture, None);
        let mut reader = topic.read(ReadFrom::Now).await.unwrap();
        topic.publish_with(&1, Publication::new().delay(Duration::from_secs(1))).await.unwrap();
        let first = tokio::time::timeout(Duration::from_secs(7), reader.next()).await;
        assert!(matches!(first, Ok(Some(LogEvent::Message(message))) if message.payload == 1));
        assert!(is_silent(&mut reader).await);
    }

    #[paused]
    async fn a_delayed_message_comes_though_other_partitions_never_rest(fixture: Fixture) {
        let retention = Retention::Log { keep: None, most: None };
        let topic = builder(&fixture.client).partitions(2).retention(retention).build().unwrap();
        let mut reader = topic.read(ReadFrom::Now).await.unwrap();
        // Keys of both partitions: one rests, but for what is due in it.
        let partition_of = async |reader: &mut LogReader<u32>, key: &str| {
            topic.publish_with(&0, Publication::new().key(key)).await.unwrap();
            message(reader).await.partition
        };
        let busy = "a";
        let first = partition_of(&mut reader, busy).await;
        let mut resting = None;
        for key in ["b", "c", "d", "e", "f", "g"] {
            if partition_of(&mut reader, key).await != first {
                resting = Some(key);
                break;
            }
        }
        let due = Publication::new().key(resting.unwrap()).delay(Duration::from_secs(1));
        topic.publish_with(&7, due).await.unwrap();
        let talk = async {
            loop {
                topic.publish_with(&1, Publication::new().key(busy)).await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let heard = async { while message(&mut reader).await.payload != 7 {} };
        tokio::select! {
            biased;
            heard = tokio::time::timeout(Duration::from_secs(8), heard) => heard.expect("within eight seconds"),
            () = talk => {}
        }
    }

    async fn partitions_are_read_each_in_its_order(fixture: Fixture) {
        let retention = Retention::Log { keep: None, most: None };
        let topic = builder(&fixture.client).partitions(4).retention(retention).build().unwrap();
        let mut reader = topic.read(ReadFrom::Now).await.unwrap();
        for n in 0..60_u32 {
            topic.publish_with(&n, Publication::new().key(format!("{}", n % 6))).await.unwrap();
        }
        let mut messages = Vec::new();
        for _ in 0..30 {
            messages.push(message(&mut reader).await);
        }
        let position = messages[29].position.clone();
        let mut reader = topic.read(ReadFrom::After(position)).await.unwrap();
        for _ in 30..60 {
            messages.push(message(&mut reader).await);
        }
        for key in 0..6_u32 {
            let of_key = messages.iter().filter(|message| message.payload % 6 == key);
            let of_key: Vec<_> = of_key.map(|message| message.payload).collect();
            assert_eq!(of_key, (0..10).map(|n| n * 6 + key).collect::<Vec<_>>());
        }
        assert!(is_silent(&mut reader).await);
    }

    async fn what_cannot_be_read_is_refused_by_name(fixture: Fixture) {
        let queue = builder(&fixture.client).build().unwrap();
        let retention = Retention::Log { keep: None, most: None };
        let many = builder(&fixture.client).partitions(65).retention(retention).build().unwrap();
        let position: LogPosition = "0-0:0,0-0:0".parse().unwrap();
        let log = log(&fixture, None);
        for (refused, word) in [
            (queue.read(ReadFrom::Now).await, "queue"),
            (many.read(ReadFrom::Now).await, "64"),
            (log.read(ReadFrom::After(position)).await, "position"),
        ] {
            let error = refused.unwrap_err();
            assert!(matches!(&error, Error::Invalid { .. }) && error.to_string().contains(word), "{error}");
        }
    }

    async fn a_message_of_another_type_is_an_event(fixture: Fixture) {
        let retention = Retention::Log { keep: None, most: None };
        let texts: Topic<String> = Topic::builder(&fixture.client, "t").retention(retention).build().unwrap();
        let topic = log(&fixture, None);
        texts.publish("no number").await.unwrap();
        publish(&topic, 1..2).await;
        let mut reader = topic.read(ReadFrom::Beginning).await.unwrap();
        assert!(matches!(event(&mut reader).await, LogEvent::Undecodable { .. }));
        assert_eq!(message(&mut reader).await.payload, 1);
    }

    #[paused]
    async fn a_log_that_nobody_consumes_is_trimmed_by_its_publishers(fixture: Fixture) {
        let topic = log(&fixture, Some(10));
        publish(&topic, 0..50).await;
        let length = async || topic.stats("none").await.unwrap().length;
        assert_eq!(length().await, 50);
        tokio::time::sleep(Duration::from_secs(16)).await;
        publish(&topic, 50..51).await;
        assert!((10..=11).contains(&length().await), "{}", length().await);
        // Much at once as well.
        let many: Vec<u32> = (0..5_000).collect();
        for _ in 0..3 {
            let batch = many.iter().map(|n| (n, Publication::new()));
            topic.publish_batch(batch).await.unwrap();
            tokio::time::sleep(Duration::from_secs(16)).await;
        }
        publish(&topic, 0..1).await;
        assert!(length().await <= 5_011, "{}", length().await);
    }
}
