//! The cases of Watermill's universal suite for pub/sub systems, as far as other tests do not have them:
//! https://github.com/ThreeDotsLabs/watermill/tree/master/pubsub/tests

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_pubsub::topic::{Delivery, Outcome, Publication, Retention, Topic};
use redkit_testkit::Fixture;

use crate::handling::{Seen, acknowledge, builder, handle, topic, until, until_stats};

redkit_testkit::suite! {
    /// TestConcurrentSubscribe: many consumers, many messages, none lost.
    async fn many_consumers_lose_none_of_many_messages(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let seen = Seen::default();
        let mut workers = Vec::new();
        for _ in 0..10 {
            workers.push(acknowledge(topic.consumer("g").concurrency(2), &seen).await);
        }
        let numbers: Vec<u32> = (0..500).collect();
        for some in numbers.chunks(50) {
            topic.publish_batch(some.iter().map(|n| (n, Publication::new()))).await.unwrap();
        }
        until("all came", || seen.len() >= 500).await;
        assert_eq!(seen.sorted(), numbers);
    }

    /// TestConcurrentSubscribeMultipleTopics, TestTopic: no cross-talk.
    async fn topics_do_not_mix(fixture: Fixture) {
        let seen = Arc::new(Mutex::new(BTreeMap::<String, Vec<u32>>::new()));
        let (mut workers, mut topics) = (Vec::new(), Vec::new());
        for name in (0..8).map(|n| format!("topic-{n}")) {
            let topic: Topic<u32> = Topic::builder(&fixture.client, name.as_str()).build().unwrap();
            let seen = Arc::clone(&seen);
            let worker = topic.consumer("g").start(move |delivery: Delivery<u32>| {
                seen.lock().entry(name.clone()).or_default().push(delivery.payload);
                async { Outcome::Ack }
            });
            workers.push(worker.await.unwrap());
            topics.push(topic);
        }
        for n in 0..10 {
            for (at, topic) in (0..).zip(&topics) {
                topic.publish(&(at * 100 + n)).await.unwrap();
            }
        }
        until("all came", || seen.lock().values().map(Vec::len).sum::<usize>() == 80).await;
        for (at, topic) in (0..).zip(&topics) {
            let expected: Vec<u32> = (0..10).map(|n| at * 100 + n).collect();
            assert_eq!(seen.lock()[topic.name()], expected);
        }
    }

    /// TestResendOnError: what was refused returns.
    async fn every_message_that_is_refused_returns(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let seen = Seen::default();
        let consumer = topic.consumer("g").backoff(Duration::from_millis(5), Duration::from_millis(5));
        let _worker = handle(consumer, &seen, |delivery| match delivery.attempt {
            1 => Outcome::retry("refused"),
            _ => Outcome::Ack,
        }).await;
        for n in 0..30 {
            topic.publish(&n).await.unwrap();
        }
        until_stats(&topic, "g", |stats| stats.length == 0).await;
        let mut all = seen.all();
        all.sort_unstable();
        let expected: Vec<(u32, u32)> = (0..30).flat_map(|n| [(n, 1), (n, 2)]).collect();
        assert_eq!(all, expected);
    }

    /// TestNoAck: nothing further before an acknowledgement.
    async fn nothing_further_comes_before_an_outcome(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let (seen, go) = (Seen::default(), Arc::new(tokio::sync::Semaphore::new(0)));
        let _worker = {
            let (seen, go) = (seen.clone(), Arc::clone(&go));
            topic.consumer("g").start(move |delivery: Delivery<u32>| {
                seen.add(&delivery);
                let go = Arc::clone(&go);
                async move { go.acquire().await.unwrap().forget(); Outcome::Ack }
            }).await.unwrap()
        };
        topic.publish(&1).await.unwrap();
        topic.publish(&2).await.unwrap();
        until("the first came", || seen.len() == 1).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(seen.payloads(), [1]);
        go.add_permits(1);
        until("the second came", || seen.len() == 2).await;
        go.add_permits(1);
    }

    /// TestContinueAfterSubscribeClose, TestContinueAfterErrors: nothing is lost over many reopenings.
    async fn nothing_is_lost_or_doubled_over_reopenings(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let seen = Seen::default();
        for n in 0..60 {
            topic.publish(&n).await.unwrap();
        }
        for round in 1..=4 {
            let worker = acknowledge(topic.consumer("g").concurrency(2).prefetch(3), &seen).await;
            until("some came", || seen.len() >= round * 10).await;
            worker.shutdown(Duration::from_secs(5)).await;
        }
        let _worker = acknowledge(topic.consumer("g"), &seen).await;
        until_stats(&topic, "g", |stats| stats.length == 0).await;
        assert_eq!(seen.sorted(), (0..60).collect::<Vec<_>>());
    }

    /// TestConcurrentClose: usable after many closings at once.
    async fn a_topic_is_usable_after_many_closings_at_once(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let mut closings = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let worker = acknowledge(topic.consumer("g"), &Seen::default()).await;
            closings.spawn(worker.shutdown(Duration::from_secs(1)));
        }
        closings.join_all().await;
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("g"), &seen).await;
        topic.publish(&1).await.unwrap();
        until("it came", || seen.len() == 1).await;
    }

    /// TestPublisherClose: what was published before the publisher closed is kept.
    async fn messages_outlive_their_publisher(fixture: Fixture) {
        let publisher = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let numbers: Vec<u32> = (0..200).collect();
        let published = topic(&publisher).publish_batch(numbers.iter().map(|n| (n, Publication::new()))).await;
        assert!(published.unwrap().iter().all(Result::is_ok));
        // A clone of the embedded engine is shut down with its client.
        if fixture.kind.is_networked() {
            publisher.shutdown().await;
        }
        drop(publisher);
        let seen = Seen::default();
        let _worker = acknowledge(topic(&fixture.client).consumer("g").concurrency(4), &seen).await;
        until("all came", || seen.len() == 200).await;
        assert_eq!(seen.sorted(), numbers);
    }

    /// TestConsumerGroups, TestNewSubscriberReceivesOldMessages: each group gets all, the late one as well.
    async fn each_group_gets_all_and_a_late_one_the_old_ones(fixture: Fixture) {
        let topic = builder(&fixture.client).retention(Retention::Log { keep: None, most: None }).build().unwrap();
        let (first, second) = (Seen::default(), Seen::default());
        let _first = acknowledge(topic.consumer("first"), &first).await;
        for n in 0..50 {
            topic.publish(&n).await.unwrap();
        }
        until("the first has all", || first.len() == 50).await;
        let _second = acknowledge(topic.consumer("second"), &second).await;
        until("the second has all", || second.len() == 50).await;
        assert_eq!((first.sorted(), second.sorted()), ((0..50).collect(), (0..50).collect()));
    }
}
