//! Consumers of topics: attempts, retries, dead letters, leases, drains, lost groups.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redkit_core::inspection::Fact;
use redkit_core::{Command, Key, Value};
use redkit_pubsub::topic::{Delivery, Gap, GapReason, Outcome, Publication, Topic};
use redkit_testkit::Fixture;
use tokio::time::sleep;

use crate::handling::{AtOnce, Seen, acknowledge, builder, handle, topic, until, until_stats};

const SHORT: Duration = Duration::from_millis(10);

fn stream(fixture: &Fixture) -> Key {
    fixture.client.keyspace("topic", "t").unwrap().key("t.0")
}

/// As a consumer of another program does.
async fn read_as(fixture: &Fixture, group: &str, consumer: &str) -> String {
    let read = Command::new("XREADGROUP")
        .arg("GROUP")
        .arg(group)
        .arg(consumer);
    let read = read
        .arg("COUNT")
        .arg(1)
        .arg("STREAMS")
        .key(stream(fixture))
        .arg(">");
    let reply: Value = fixture.client.call(read).await.unwrap();
    let streams: Vec<(String, Vec<Value>)> = match reply {
        Value::Map(map) => Value::Map(map),
        other => other,
    }
    .to()
    .unwrap();
    let (id, _): (String, Value) = streams[0].1[0].clone().to().unwrap();
    id
}

async fn owner_of(fixture: &Fixture, group: &str, id: &str) -> Option<String> {
    let pending = Command::new("XPENDING").key(stream(fixture)).arg(group);
    let rows: Vec<Value> = fixture
        .client
        .call(pending.arg(id).arg(id).arg(1))
        .await
        .unwrap();
    rows.into_iter().next().map(|row| match row {
        Value::Array(row) => row[1].clone().to().unwrap(),
        other => panic!("{other:?}"),
    })
}

async fn steal(fixture: &Fixture, group: &str, id: &str) {
    let claim = Command::new("XCLAIM")
        .key(stream(fixture))
        .arg(group)
        .arg("thief");
    let _: Value = fixture.client.call(claim.arg(0).arg(id)).await.unwrap();
}

redkit_testkit::suite! {
    async fn a_failed_attempt_is_followed_by_others_and_then_by_a_dead_letter(fixture: Fixture) {
        let topic: Topic<u32> = topic(&fixture.client);
        let seen = Seen::default();
        let consumer = topic.consumer("g").max_attempts(3).backoff(SHORT, SHORT);
        let worker = handle(consumer, &seen, |delivery| match delivery.payload {
            1 => Outcome::retry("no luck"),
            2 => Outcome::dead("no use"),
            _ => Outcome::Ack,
        }).await;
        let publication = || Publication::new().id("one").key("k").header("a", "b");
        topic.publish_with(&1, publication()).await.unwrap();
        topic.publish(&2).await.unwrap();
        topic.publish(&3).await.unwrap();
        let stats = until_stats(&topic, "g", |stats| stats.dead == 2 && stats.length == 0).await;
        assert_eq!((stats.pending, stats.retries), (0, 0));
        let mut all = seen.all();
        all.sort_unstable();
        assert_eq!(all, [(1, 1), (1, 2), (1, 3), (2, 1), (3, 1)]);
        let letters = topic.dead_letters("g").unwrap();
        assert_eq!(letters.count().await.unwrap(), 2);
        let mut list = letters.list(10).await.unwrap();
        list.sort_by_key(|letter| *letter.payload.as_ref().unwrap());
        assert_eq!((&*list[0].reason, list[0].attempts), ("no luck", 3));
        assert_eq!((&*list[1].reason, list[1].attempts), ("no use", 1));
        assert_eq!((&*list[0].id, &list[0].key[..], &*list[0].headers["a"]), ("one", &b"k"[..], "b"));
        let counts = worker.stats();
        assert_eq!((counts.acknowledged, counts.retried, counts.dead), (1, 2, 2));
        // One of them again, with all its attempts; then the others.
        assert!(letters.redrive(&list[0]).await.unwrap());
        assert!(!letters.redrive(&list[0]).await.unwrap());
        assert!(!letters.redrive_entry(list[0].partition, list[0].entry).await.unwrap());
        assert_eq!(topic.groups().await.unwrap(), ["g"]);
        until("it was tried again", || seen.all().iter().filter(|&&(n, _)| n == 1).count() == 6).await;
        until_stats(&topic, "g", |stats| stats.dead == 2 && stats.length == 0).await;
        assert_eq!(letters.redrive_all().await.unwrap(), 2);
        until_stats(&topic, "g", |stats| stats.dead == 2 && stats.length == 0).await;
        letters.clear().await.unwrap();
        assert_eq!(letters.count().await.unwrap(), 0);
    }

    async fn a_redriven_message_goes_to_its_group_alone(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let (bad, good) = (Seen::default(), Seen::default());
        let is_broken = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let _bad = {
            let is_broken = Arc::clone(&is_broken);
            handle(topic.consumer("bad"), &bad, move |_| match is_broken.load(Ordering::Relaxed) {
                true => Outcome::dead("broken"),
                false => Outcome::Ack,
            }).await
        };
        let _good = acknowledge(topic.consumer("good"), &good).await;
        topic.publish(&1).await.unwrap();
        until_stats(&topic, "bad", |stats| stats.dead == 1 && stats.length == 0).await;
        is_broken.store(false, Ordering::Relaxed);
        assert_eq!(topic.dead_letters("bad").unwrap().redrive_all().await.unwrap(), 1);
        until("it was handled", || bad.len() == 2).await;
        until_stats(&topic, "good", |stats| stats.length == 0).await;
        assert_eq!(good.len(), 1);
    }

    async fn a_panic_and_a_handler_that_never_returns_are_failed_attempts(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let consumer = topic.consumer("g").max_attempts(2).backoff(SHORT, SHORT).concurrency(2);
        let _worker = consumer.timeout(Duration::from_millis(50)).start(|delivery: Delivery<u32>| async move {
            match delivery.payload {
                1 => panic!("oh no"),
                2 => std::future::pending().await,
                _ => Outcome::Ack,
            }
        }).await.unwrap();
        for n in 1..=3 {
            topic.publish(&n).await.unwrap();
        }
        until_stats(&topic, "g", |stats| stats.dead == 2 && stats.length == 0).await;
        let list = topic.dead_letters("g").unwrap().list(10).await.unwrap();
        let reason = |n| &list.iter().find(|letter| *letter.payload.as_ref().unwrap() == n).unwrap().reason;
        assert!(reason(1).contains("panicked: oh no"), "{}", reason(1));
        assert!(reason(2).contains("longer than 50ms"), "{}", reason(2));
        assert!(list.iter().all(|letter| letter.attempts == 2));
    }

    async fn a_message_of_another_type_becomes_a_dead_letter_and_the_next_is_handled(fixture: Fixture) {
        let texts: Topic<String> = Topic::builder(&fixture.client, "t").build().unwrap();
        texts.publish("no number").await.unwrap();
        let add = Command::new("XADD").key(stream(&fixture)).arg("*").arg("other").arg("program");
        let _: String = fixture.client.call(add).await.unwrap();
        let topic = topic(&fixture.client);
        topic.publish(&7).await.unwrap();
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("g"), &seen).await;
        until_stats(&topic, "g", |stats| stats.dead == 2 && stats.length == 0).await;
        assert_eq!(seen.payloads(), [7]);
        let list = topic.dead_letters("g").unwrap().list(10).await.unwrap();
        assert!(list[0].payload.is_err() && list[0].reason.contains("cannot be decoded"), "{}", list[0].reason);
        let texts = texts.dead_letters("g").unwrap().list(1).await.unwrap();
        assert_eq!(texts[0].payload.as_ref().unwrap(), "no number", "its bytes are kept");
    }

    async fn a_drain_costs_no_attempt(fixture: Fixture) {
        let topic = topic(&fixture.client);
        for n in 0..6 {
            topic.publish(&n).await.unwrap();
        }
        let started = Seen::default();
        let worker = {
            let started = started.clone();
            topic.consumer("g").concurrency(2).prefetch(2).start(move |delivery: Delivery<u32>| {
                started.add(&delivery);
                std::future::pending::<Outcome>()
            }).await.unwrap()
        };
        until("two have begun, and two wait", || started.len() == 2 && worker.stats().held == 4).await;
        worker.shutdown(Duration::from_millis(20)).await;
        let stats = topic.stats("g").await.unwrap();
        assert_eq!((stats.in_flight, stats.pending, stats.live_workers), (0, 4, 0), "{stats:?}");
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("g"), &seen).await;
        until("all were handled", || seen.len() == 6).await;
        assert!(seen.all().iter().all(|&(_, attempt)| attempt == 1), "{:?}", seen.all());
    }

    async fn a_dropped_worker_gives_back_what_it_had(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let worker = topic.consumer("g").start(|_: Delivery<u32>| std::future::pending::<Outcome>()).await.unwrap();
        topic.publish(&1).await.unwrap();
        until("it is held", || worker.stats().held == 1).await;
        drop(worker);
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("g"), &seen).await;
        until("it was handled", || seen.len() == 1).await;
        assert_eq!(seen.all(), [(1, 1)]);
    }

    async fn a_message_that_is_handed_back_comes_at_once_and_was_no_attempt(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let (seen, left) = (Seen::default(), AtomicU32::new(3));
        let _worker = handle(topic.consumer("g").max_attempts(1), &seen, move |_| {
            match left.fetch_sub(1, Ordering::Relaxed) {
                1 => Outcome::Ack,
                _ => Outcome::HandBack,
            }
        }).await;
        topic.publish(&1).await.unwrap();
        until_stats(&topic, "g", |stats| stats.length == 0).await;
        assert_eq!(seen.all(), [(1, 1), (1, 1), (1, 1)]);
    }

    async fn the_messages_of_a_dead_consumer_go_to_another_one(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let seen = Seen::default();
        let lease = Duration::from_millis(500);
        let _first = acknowledge(topic.consumer("g").lease(lease).from_now(), &Seen::default()).await;
        topic.pause("g").await.unwrap();
        until("it is paused", || _first.stats().is_paused).await;
        topic.publish(&1).await.unwrap();
        let id = read_as(&fixture, "g", "dead").await;
        drop(_first);
        let _second = acknowledge(topic.consumer("g").lease(lease), &seen).await;
        sleep(Duration::from_millis(50)).await;
        assert_eq!((seen.len(), owner_of(&fixture, "g", &id).await.as_deref()), (0, Some("dead")));
        topic.resume("g").await.unwrap();
        until("it was handled", || seen.len() == 1).await;
        assert_eq!(seen.all(), [(1, 2)], "the death was an attempt");
        // Its empty consumer is removed, and only then.
        let consumers = Command::new("XINFO").arg("CONSUMERS").key(stream(&fixture)).arg("g");
        for _ in 0..200 {
            let rows: Vec<Value> = fixture.client.call(consumers.clone()).await.unwrap();
            if !format!("{rows:?}").contains("dead") {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("the dead consumer stays");
    }

    #[paused]
    async fn a_long_handler_keeps_its_message(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let (first, second) = (Seen::default(), Seen::default());
        let worker = {
            let first = first.clone();
            let consumer = topic.consumer("g").timeout(Duration::from_secs(10_000));
            consumer.start(move |delivery: Delivery<u32>| {
                first.add(&delivery);
                async { sleep(Duration::from_secs(600)).await; Outcome::Ack }
            }).await.unwrap()
        };
        topic.publish(&1).await.unwrap();
        until("it has begun", || first.len() == 1).await;
        let _second = acknowledge(topic.consumer("g"), &second).await;
        until_stats(&topic, "g", |stats| stats.live_workers == 2).await;
        sleep(Duration::from_secs(620)).await;
        assert_eq!((first.len(), second.len(), worker.stats().acknowledged), (1, 0, 1));
    }

    #[paused]
    async fn a_heartbeat_takes_nothing_back_from_another_consumer(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let worker = topic.consumer("g").timeout(Duration::from_secs(10_000)).start(move |delivery: Delivery<u32>| {
            let tell = tell.clone();
            async move {
                tell.send(delivery.entry).unwrap();
                let _: () = std::future::pending().await;
                Outcome::Ack
            }
        }).await.unwrap();
        topic.publish(&1).await.unwrap();
        let id = told.recv().await.unwrap().to_string();
        steal(&fixture, "g", &id).await;
        until("it is lost", || worker.stats().lost == 1 && worker.stats().held == 0).await;
        assert_eq!(worker.stats().running, 0, "its handler was dropped");
        assert_eq!(owner_of(&fixture, "g", &id).await.as_deref(), Some("thief"));
    }

    async fn only_the_owner_retries_or_buries(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let go = Arc::new(tokio::sync::Semaphore::new(0));
        let ids = Arc::new(Mutex::new(Vec::new()));
        let worker = {
            let (go, ids) = (Arc::clone(&go), Arc::clone(&ids));
            topic.consumer("g").concurrency(2).start(move |delivery: Delivery<u32>| {
                ids.lock().push(delivery.entry.to_string());
                let go = Arc::clone(&go);
                async move {
                    go.acquire().await.unwrap().forget();
                    match delivery.payload {
                        1 => Outcome::dead("no use"),
                        _ => Outcome::retry_after(Duration::ZERO, "no luck"),
                    }
                }
            }).await.unwrap()
        };
        topic.publish(&1).await.unwrap();
        topic.publish(&2).await.unwrap();
        until("both have begun", || ids.lock().len() == 2).await;
        let ids = ids.lock().clone();
        for id in &ids {
            steal(&fixture, "g", id).await;
        }
        go.add_permits(2);
        until("both are lost", || worker.stats().lost == 2).await;
        let stats = topic.stats("g").await.unwrap();
        assert_eq!((stats.dead, stats.retries, stats.length), (0, 0, 2));
        for id in &ids {
            assert_eq!(owner_of(&fixture, "g", id).await.as_deref(), Some("thief"));
        }
    }

    /// Another program has put something in a key's place.
    async fn what_is_new_is_handled_though_what_is_due_cannot_be_looked_for(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let delayed = fixture.client.keyspace("topic", "t").unwrap().role_key("t.0", "delayed");
        let set = Command::new("SET").key(&delayed).arg("x");
        fixture.client.call::<()>(set).await.unwrap();
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("g"), &seen).await;
        for n in 0..3 {
            topic.publish(&n).await.unwrap();
        }
        until("all are handled", || seen.len() == 3).await;
        topic.pause("g").await.unwrap();
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        topic.publish(&3).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(seen.len(), 3, "the group is paused");
        topic.resume("g").await.unwrap();
        until("it goes on", || seen.len() == 4).await;
    }

    async fn a_lost_group_is_made_anew_from_the_beginning_with_one_gap(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let (seen, gaps) = (Seen::default(), Arc::new(Mutex::new(Vec::<Gap>::new())));
        let consumer = || {
            let gaps = Arc::clone(&gaps);
            topic.consumer("g").on_gap(move |gap| gaps.lock().push(gap))
        };
        let _a = acknowledge(consumer(), &seen).await;
        let _b = acknowledge(consumer(), &seen).await;
        topic.publish(&1).await.unwrap();
        until("it works", || seen.len() == 1).await;
        assert!(gaps.lock().is_empty(), "a group that is new is no gap");
        let _: u64 = fixture.client.call(Command::new("DEL").key(stream(&fixture))).await.unwrap();
        topic.publish(&2).await.unwrap();
        until("it works again", || seen.len() == 2).await;
        topic.publish(&3).await.unwrap();
        until("it goes on", || seen.len() == 3).await;
        assert_eq!(seen.sorted(), [1, 2, 3]);
        let gaps = gaps.lock().clone();
        assert!(matches!(&gaps[..], [Gap { partition: 0, reason: GapReason::GroupLost, .. }]), "{gaps:?}");
    }

    async fn a_paused_group_is_delivered_nothing_until_it_is_resumed(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let seen = Seen::default();
        let worker = acknowledge(topic.consumer("g"), &seen).await;
        topic.pause("g").await.unwrap();
        until("it is paused", || worker.stats().is_paused).await;
        topic.publish(&1).await.unwrap();
        sleep(Duration::from_millis(700)).await;
        assert_eq!(seen.len(), 0);
        let stats = topic.stats("g").await.unwrap();
        assert!(stats.is_paused && stats.lag == Some(1), "{stats:?}");
        topic.resume("g").await.unwrap();
        until("it goes on", || seen.len() == 1).await;
    }

    async fn an_admission_bounds_how_much_runs(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let admission = Arc::new(AtOnce(Arc::new(tokio::sync::Semaphore::new(2))));
        let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let consumer = || topic.consumer("g").concurrency(5).admission(admission.clone());
        let done = Seen::default();
        let mut workers = Vec::new();
        for _ in 0..2 {
            let (running, most, done) = (Arc::clone(&running), Arc::clone(&most), done.clone());
            workers.push(consumer().start(move |delivery: Delivery<u32>| {
                let (running, most, done) = (Arc::clone(&running), Arc::clone(&most), done.clone());
                async move {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    sleep(Duration::from_millis(5)).await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    done.add(&delivery);
                    Outcome::Ack
                }
            }).await.unwrap());
        }
        for n in 0..30 {
            topic.publish(&n).await.unwrap();
        }
        until("all were handled", || done.len() == 30).await;
        assert_eq!(most.load(Ordering::SeqCst), 2);
    }

    async fn a_worker_can_be_inspected_and_acted_on(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let seen = Seen::default();
        let worker = handle(topic.consumer("g"), &seen, |_| Outcome::dead("no use")).await;
        topic.publish(&1).await.unwrap();
        until("it is dead", || worker.stats().dead == 1).await;
        let inspected = || fixture.client.inspect().into_iter().find(|object| object.kind() == "topic");
        let object = inspected().unwrap();
        assert_eq!(object.name(), "t/g");
        assert_eq!(object.snapshot().get("dead"), Some(&Fact::Count(1)));
        assert_eq!(object.act("redrive", "").await.unwrap(), "1 dead letters were published again");
        until("it is dead again", || worker.stats().dead == 2).await;
        object.act("pause", "").await.unwrap();
        assert!(topic.stats("g").await.unwrap().is_paused);
        object.act("resume", "").await.unwrap();
        assert!(!topic.stats("g").await.unwrap().is_paused);
        assert!(object.act("explode", "").await.is_err());
        drop((worker, object));
        assert!(inspected().is_none());
    }

    #[paused]
    async fn dead_letters_are_bounded_by_number_and_age(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let seen = Seen::default();
        let consumer = topic.consumer("g").dead_letters(5, Duration::from_secs(60));
        let worker = handle(consumer, &seen, |_| Outcome::dead("no use")).await;
        for n in 0..20 {
            topic.publish(&n).await.unwrap();
        }
        until("all are dead", || worker.stats().dead == 20).await;
        let letters = topic.dead_letters("g").unwrap();
        assert_eq!(letters.count().await.unwrap(), 5);
        sleep(Duration::from_secs(50)).await;
        topic.publish(&20).await.unwrap();
        until("one more is dead", || worker.stats().dead == 21).await;
        sleep(Duration::from_secs(20)).await;
        topic.publish(&21).await.unwrap();
        until("one more is dead", || worker.stats().dead == 22).await;
        assert_eq!(letters.count().await.unwrap(), 2);
        sleep(Duration::from_secs(61)).await;
        assert_eq!(letters.count().await.unwrap(), 0);
    }

    #[paused]
    async fn an_entry_in_a_reply_that_was_lost_comes_again_as_its_first_attempt(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let seen = Seen::default();
        let worker = acknowledge(topic.consumer("g"), &seen).await;
        topic.publish(&0).await.unwrap();
        until("it works", || seen.len() == 1).await;
        let consumers = Command::new("XINFO").arg("CONSUMERS").key(stream(&fixture)).arg("g");
        let rows: Vec<Value> = fixture.client.call(consumers).await.unwrap();
        let row: std::collections::HashMap<String, Value> = rows[0].clone().to().unwrap();
        let consumer: String = row["name"].clone().to().unwrap();
        topic.pause("g").await.unwrap();
        until("it is paused", || worker.stats().is_paused).await;
        topic.publish(&1).await.unwrap();
        read_as(&fixture, "g", &consumer).await;
        topic.resume("g").await.unwrap();
        sleep(Duration::from_secs(45)).await;
        assert_eq!(seen.all(), [(0, 1), (1, 1)]);
    }

    async fn a_group_has_a_short_name(fixture: Fixture) {
        let topic = builder(&fixture.client).build().unwrap();
        let _worker = acknowledge(topic.consumer("g"), &Seen::default()).await;
        let bad = topic.consumer("a b").start(|_: Delivery<u32>| async { Outcome::Ack }).await;
        assert!(bad.unwrap_err().to_string().contains("group"));
    }
}
