//! Topics: publishing, delays, retention. What ids do is in `records`.

use std::time::{Duration, SystemTime};

use redkit_core::{Command, FromValue, Value};
use redkit_pubsub::topic::{
    Deduplication, Delivery, Outcome, Publication, PublishOutcome, Retention, TRACEPARENT, Topic,
};
use redkit_testkit::Fixture;

use crate::handling::{Seen, acknowledge, builder, handle, topic, until, until_stats};

pub(crate) fn with_id(id: &str) -> Publication {
    Publication::new().id(id)
}

pub(crate) async fn call<T: FromValue>(fixture: &Fixture, command: Command) -> T {
    fixture.client.call(command).await.unwrap()
}

redkit_testkit::suite! {
    async fn every_group_handles_every_message_once(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let (mail, stock) = (Seen::default(), Seen::default());
        let _a = acknowledge(topic.consumer("mail").concurrency(4), &mail).await;
        let _b = acknowledge(topic.consumer("mail").concurrency(4).prefetch(8), &mail).await;
        let _c = acknowledge(topic.consumer("stock"), &stock).await;
        for n in 0..50 {
            topic.publish(&n).await.unwrap();
        }
        until("both groups have all", || mail.len() >= 50 && stock.len() >= 50).await;
        until_stats(&topic, "mail", |stats| stats.length == 0 && stats.pending == 0).await;
        assert_eq!(mail.sorted(), (0..50).collect::<Vec<_>>());
        assert_eq!(stock.payloads(), (0..50).collect::<Vec<_>>());
        assert!(mail.all().iter().all(|&(_, attempt)| attempt == 1));
    }

    async fn headers_key_and_id_arrive_with_the_message(fixture: Fixture) {
        let topic: Topic<String> = Topic::builder(&fixture.client, "t").build().unwrap();
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let publication = with_id("order-7").key("ann").header(TRACEPARENT, parent).header("x", "\"ü\n");
        topic.publish_with("packed", publication).await.unwrap();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let _worker = topic.consumer("mail").start(move |delivery: Delivery<String>| {
            tell.send(delivery).unwrap();
            async { Outcome::Ack }
        });
        let _worker = _worker.await.unwrap();
        let delivery = told.recv().await.unwrap();
        assert_eq!((&*delivery.payload, &*delivery.id, &delivery.key[..]), ("packed", "order-7", &b"ann"[..]));
        assert_eq!((delivery.traceparent(), &*delivery.headers["x"]), (Some(parent), "\"ü\n"));
    }

    async fn a_debounced_message_takes_the_place_of_the_one_that_waits(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let mut outcomes = Vec::new();
        for n in 0..3 {
            let debounced = with_id("a").deduplicate(Deduplication::Debounce);
            let debounced = debounced.delay(Duration::from_millis(400));
            outcomes.push(topic.publish_with(&n, debounced).await.unwrap().outcome);
        }
        use PublishOutcome::{New, Replaced};
        assert_eq!(outcomes, [New, Replaced, Replaced]);
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("g"), &seen).await;
        until("the last came", || seen.len() == 1).await;
        assert_eq!(seen.payloads(), [2]);
        assert_eq!(topic.stats("g").await.unwrap().delayed, 0);
    }

    async fn the_last_message_is_kept_while_the_first_is_handled(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let publication = || with_id("a").deduplicate(Deduplication::KeepLast);
        let (seen, go) = (Seen::default(), std::sync::Arc::new(tokio::sync::Semaphore::new(0)));
        let _worker = {
            let (seen, go) = (seen.clone(), go.clone());
            topic.consumer("g").start(move |delivery: Delivery<u32>| {
                seen.add(&delivery);
                let go = go.clone();
                async move { go.acquire().await.unwrap().forget(); Outcome::Ack }
            }).await.unwrap()
        };
        topic.publish_with(&0, publication()).await.unwrap();
        until("the first is handled", || seen.len() == 1).await;
        for n in 1..=3 {
            assert_eq!(topic.publish_with(&n, publication()).await.unwrap().outcome, PublishOutcome::Kept);
        }
        go.add_permits(2);
        until_stats(&topic, "g", |stats| stats.length == 0).await;
        assert_eq!(seen.payloads(), [0, 3]);
        assert_eq!(topic.publish_with(&4, publication()).await.unwrap().outcome, PublishOutcome::New);
    }

    async fn a_delayed_message_comes_when_its_time_has_come(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("g"), &seen).await;
        let delayed = Publication::new().delay(Duration::from_millis(600));
        assert_eq!(topic.publish_with(&2, delayed).await.unwrap().entry, None);
        let past = Publication::new().deliver_at(SystemTime::UNIX_EPOCH);
        assert!(topic.publish_with(&1, past).await.unwrap().entry.is_some());
        assert_eq!(topic.stats("g").await.unwrap().delayed, 1);
        until("both came", || seen.len() == 2).await;
        assert_eq!(seen.payloads(), [1, 2]);
    }

    #[paused]
    async fn a_delay_is_kept_to_half_a_second(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let _worker = topic.consumer("g").start(move |delivery: Delivery<u32>| {
            tell.send((delivery.payload, tokio::time::Instant::now())).unwrap();
            async { Outcome::Ack }
        }).await.unwrap();
        let start = tokio::time::Instant::now();
        for (n, minutes) in [(0, 50), (1, 1), (2, 30)] {
            let delayed = Publication::new().delay(Duration::from_secs(minutes * 60));
            topic.publish_with(&n, delayed).await.unwrap();
        }
        for (n, minutes) in [(1, 1), (2, 30), (0, 50)] {
            let (payload, at) = told.recv().await.unwrap();
            let late = at - start - Duration::from_secs(minutes * 60);
            assert!(payload == n && late <= Duration::from_millis(520), "{payload}: {late:?}");
        }
    }

    async fn a_new_group_begins_with_what_the_log_holds_or_with_now(fixture: Fixture) {
        let topic = builder(&fixture.client).retention(Retention::Log { keep: None, most: None }).build().unwrap();
        for n in 0..10 {
            topic.publish(&n).await.unwrap();
        }
        let (first, second, third) = (Seen::default(), Seen::default(), Seen::default());
        let _first = acknowledge(topic.consumer("first"), &first).await;
        until("the first group has all", || first.len() == 10).await;
        let _second = acknowledge(topic.consumer("second"), &second).await;
        let _third = acknowledge(topic.consumer("third").from_now(), &third).await;
        topic.publish(&10).await.unwrap();
        until("the others have theirs", || second.len() == 11 && third.len() == 1).await;
        assert_eq!(third.payloads(), [10]);
        assert_eq!(topic.stats("first").await.unwrap().length, 11);
    }

    #[paused]
    async fn a_log_is_trimmed_by_size_and_never_what_is_pending_or_undelivered(fixture: Fixture) {
        let retention = Retention::Log { keep: None, most: Some(10) };
        let topic = builder(&fixture.client).retention(retention).build().unwrap();
        let seen = Seen::default();
        let stream = fixture.client.keyspace("topic", "t").unwrap().key("t.0");
        // A group that has been delivered nothing, and one that holds the 20th message.
        call::<()>(&fixture, Command::new("XGROUP").arg("CREATE").key(&stream).arg("idle").arg("0").arg("MKSTREAM")).await;
        let _worker = handle(topic.consumer("g").timeout(Duration::from_secs(1_000_000)), &seen, |_| Outcome::Ack).await;
        for n in 0..100 {
            topic.publish(&n).await.unwrap();
        }
        until("all were handled", || seen.len() == 100).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(topic.stats("g").await.unwrap().length, 100, "a group has not seen them");
        let read = Command::new("XREADGROUP").arg("GROUP").arg("idle").arg("c").arg("COUNT").arg(20);
        let read = read.arg("STREAMS").key(&stream).arg(">");
        let Value::Map(read) = call::<Value>(&fixture, read).await else { panic!("a map is expected") };
        let entries: Vec<(String, Value)> = read.into_iter().next().unwrap().1.to().unwrap();
        call::<()>(&fixture, Command::new("XGROUP").arg("SETID").key(&stream).arg("idle").arg("$")).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(topic.stats("g").await.unwrap().length, 100, "the first is pending");
        for (id, _) in &entries[..19] {
            call::<u64>(&fixture, Command::new("XACK").key(&stream).arg("idle").arg(id)).await;
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(topic.stats("g").await.unwrap().length, 81, "the 20th is pending");
        call::<u64>(&fixture, Command::new("XGROUP").arg("DESTROY").key(&stream).arg("idle")).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(topic.stats("g").await.unwrap().length, 10);
    }

    #[paused]
    async fn a_log_is_trimmed_by_age(fixture: Fixture) {
        let retention = Retention::Log { keep: Some(Duration::from_secs(60)), most: None };
        let topic = builder(&fixture.client).retention(retention).build().unwrap();
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("g"), &seen).await;
        for n in 0..1_500 {
            topic.publish(&n).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(40)).await;
        topic.publish(&0).await.unwrap();
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(topic.stats("g").await.unwrap().length, 1);
    }

    #[paused]
    async fn a_log_keeps_what_a_group_has_not_seen_whatever_its_age(fixture: Fixture) {
        let retention = Retention::Log { keep: Some(Duration::from_secs(60)), most: None };
        let topic = builder(&fixture.client).retention(retention).build().unwrap();
        let stream = fixture.client.keyspace("topic", "t").unwrap().key("t.0");
        let group = Command::new("XGROUP").arg("CREATE").key(&stream).arg("idle").arg("0").arg("MKSTREAM");
        call::<()>(&fixture, group).await;
        let _worker = acknowledge(topic.consumer("g"), &Seen::default()).await;
        for n in 0..10 {
            topic.publish(&n).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(200)).await;
        assert_eq!(topic.stats("g").await.unwrap().length, 10);
        call::<u64>(&fixture, Command::new("XGROUP").arg("DESTROY").key(&stream).arg("idle")).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(topic.stats("g").await.unwrap().length, 0);
    }

    async fn a_message_of_a_queue_is_deleted_once_every_group_has_acknowledged_it(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let (first, second) = (Seen::default(), Seen::default());
        let _first = acknowledge(topic.consumer("first"), &first).await;
        let slow = topic.consumer("second").start(|_: Delivery<u32>| std::future::pending::<Outcome>()).await.unwrap();
        for n in 0..10 {
            topic.publish(&n).await.unwrap();
        }
        until_stats(&topic, "first", |stats| stats.pending == 0 && first.len() == 10).await;
        assert_eq!(topic.stats("first").await.unwrap().length, 10);
        slow.shutdown(Duration::ZERO).await;
        let _second = acknowledge(topic.consumer("second"), &second).await;
        until_stats(&topic, "second", |stats| stats.length == 0).await;
        assert_eq!(second.sorted(), (0..10).collect::<Vec<_>>());
    }

    async fn messages_spread_over_partitions_and_all_are_handled(fixture: Fixture) {
        let topic = builder(&fixture.client).partitions(4).build().unwrap();
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("g").concurrency(8), &seen).await;
        let keyed = |n: &u32| Publication::new().key(n.to_string());
        let numbers: Vec<u32> = (0..40).collect();
        let published = topic.publish_batch(numbers.iter().map(|n| (n, keyed(n)))).await.unwrap();
        assert!(published.iter().all(Result::is_ok));
        until("all were handled", || seen.len() == 40).await;
        assert_eq!(seen.sorted(), numbers);
    }

    #[paused]
    async fn one_handler_at_a_time_reads_a_busy_partition_without_waiting_for_the_empty_ones(fixture: Fixture) {
        let topic = builder(&fixture.client).partitions(16).build().unwrap();
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("g"), &seen).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let start = tokio::time::Instant::now();
        for n in 0..200 {
            topic.publish_with(&n, Publication::new().key("busy")).await.unwrap();
        }
        until("all were handled", || seen.len() == 200).await;
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(seen.all().iter().all(|&(_, attempt)| attempt == 1));
        // Each partition on its own is not slow, either.
        for n in 0..50 {
            let start = tokio::time::Instant::now();
            topic.publish_with(&n, Publication::new().key(n.to_string())).await.unwrap();
            until("it was handled", || seen.len() == 201 + n as usize).await;
            assert!(start.elapsed() < Duration::from_millis(50), "{:?}", start.elapsed());
        }
    }

    #[paused]
    async fn a_retry_is_tried_again_while_there_is_a_backlog(fixture: Fixture) {
        let topic = topic(&fixture.client);
        for n in 0..2_000 {
            topic.publish(&n).await.unwrap();
        }
        let seen = Seen::default();
        let _worker = {
            let seen = seen.clone();
            topic.consumer("g").start(move |delivery: Delivery<u32>| {
                seen.add(&delivery);
                async move {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    match (delivery.payload, delivery.attempt) {
                        (0, 1) => Outcome::retry_after(Duration::from_secs(1), "no luck"),
                        _ => Outcome::Ack,
                    }
                }
            }).await.unwrap()
        };
        until("it was tried again", || seen.all().contains(&(0, 2))).await;
        assert!(seen.len() < 100, "{}", seen.len());
    }

    #[paused]
    async fn an_entry_that_comes_while_all_handlers_are_busy_goes_to_another_worker(fixture: Fixture) {
        let topic = builder(&fixture.client).partitions(16).build().unwrap();
        let (slow, fast) = (Seen::default(), Seen::default());
        let worker = {
            let slow = slow.clone();
            topic.consumer("g").timeout(Duration::from_secs(10_000)).start(move |delivery: Delivery<u32>| {
                slow.add(&delivery);
                std::future::pending::<Outcome>()
            }).await.unwrap()
        };
        tokio::time::sleep(Duration::from_secs(2)).await;
        topic.publish_with(&0, Publication::new().key("first")).await.unwrap();
        until("its only handler is busy", || slow.len() == 1).await;
        for n in 1..=50 {
            topic.publish_with(&n, Publication::new().key(n.to_string())).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((slow.len(), worker.stats().held), (1, 1));
        let _other = acknowledge(topic.consumer("g").concurrency(4), &fast).await;
        until("the other has all", || fast.len() == 50).await;
        assert!(fast.all().iter().all(|&(_, attempt)| attempt == 1), "{:?}", fast.all());
    }

    async fn a_log_of_large_messages_is_trimmed_in_small_steps(fixture: Fixture) {
        let retention = Retention::Log { keep: None, most: Some(2) };
        let topic: Topic<String> = Topic::builder(&fixture.client, "t").retention(retention).build().unwrap();
        let text = "x".repeat(200_000);
        for _ in 0..20 {
            topic.publish(&*text).await.unwrap();
        }
        let _worker = topic.consumer("g").start(|_: Delivery<String>| async { Outcome::Ack }).await.unwrap();
        for _ in 0..1_500 {
            if topic.stats("g").await.unwrap().length == 2 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", topic.stats("g").await);
    }

    async fn a_group_that_is_deleted_leaves_no_messages_and_no_ids(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let publish = |id, mode| topic.publish_with(&1, with_id(id).deduplicate(mode));
        let seen = Seen::default();
        let idle = handle(topic.consumer("idle"), &Seen::default(), |_| Outcome::HandBack).await;
        idle.shutdown(Duration::from_secs(1)).await;
        let _worker = acknowledge(topic.consumer("g"), &seen).await;
        publish("done", Deduplication::UntilDone).await.unwrap();
        publish("last", Deduplication::KeepLast).await.unwrap();
        for n in 0..600 {
            topic.publish(&n).await.unwrap();
        }
        assert_eq!(publish("last", Deduplication::KeepLast).await.unwrap().outcome, PublishOutcome::Kept);
        until_stats(&topic, "g", |stats| stats.pending == 0 && seen.len() == 602).await;
        assert_eq!(topic.stats("g").await.unwrap().length, 602);
        assert!(topic.delete_group("idle").await.unwrap());
        until_stats(&topic, "g", |stats| stats.length == 0 && seen.len() == 603).await;
        assert_eq!(publish("done", Deduplication::UntilDone).await.unwrap().outcome, PublishOutcome::New);
        assert!(!topic.delete_group("idle").await.unwrap());
        assert!(topic.delete_group("a b").await.is_err());
    }

    #[paused]
    async fn workers_delete_what_a_group_that_was_destroyed_by_hand_left(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let seen = Seen::default();
        let stream = fixture.client.keyspace("topic", "t").unwrap().key("t.0");
        let _worker = acknowledge(topic.consumer("g"), &seen).await;
        call::<()>(&fixture, Command::new("XGROUP").arg("CREATE").key(&stream).arg("idle").arg("0")).await;
        let publish = || topic.publish_with(&1, with_id("a").deduplicate(Deduplication::UntilDone));
        publish().await.unwrap();
        topic.publish(&2).await.unwrap();
        until("both were handled", || seen.len() == 2).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(publish().await.unwrap().outcome, PublishOutcome::Known);
        call::<u64>(&fixture, Command::new("XGROUP").arg("DESTROY").key(&stream).arg("idle")).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(topic.stats("g").await.unwrap().length, 0);
        assert_eq!(publish().await.unwrap().outcome, PublishOutcome::New);
    }

    async fn a_delayed_message_stays_when_it_cannot_be_moved(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("g"), &seen).await;
        let stream = fixture.client.keyspace("topic", "t").unwrap().key("t.0");
        topic.publish_with(&1, Publication::new().delay(Duration::from_millis(300))).await.unwrap();
        // Of another type: nothing can be added.
        call::<()>(&fixture, Command::new("SET").key(&stream).arg("x")).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        call::<u64>(&fixture, Command::new("DEL").key(&stream)).await;
        until("it came", || seen.len() == 1).await;
    }

    #[paused]
    async fn one_script_trims_few_bytes(fixture: Fixture) {
        let retention = Retention::Log { keep: None, most: Some(2) };
        let topic: Topic<String> = Topic::builder(&fixture.client, "t").retention(retention).build().unwrap();
        let text = "x".repeat(200_000);
        for _ in 0..20 {
            topic.publish(&*text).await.unwrap();
        }
        let _worker = topic.consumer("g").start(|_: Delivery<String>| async { Outcome::Ack }).await.unwrap();
        let mut length = 20;
        for _ in 0..1_000 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = topic.stats("g").await.unwrap().length;
            assert!(length - now <= 4, "{} at once", length - now);
            length = now;
        }
        assert_eq!(length, 2);
    }
}
