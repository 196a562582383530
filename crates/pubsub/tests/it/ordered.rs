//! Ordered groups: order by key, partitions under leases, handing over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redkit_core::{Client, ClientConfig, Command};
use redkit_embedded::Embedded;
use redkit_pubsub::topic::{ConsumerBuilder, Delivery, Outcome, Publication, Topic, Worker};
use redkit_pubsub::{Error, topic};
use redkit_testkit::Fixture;
use tokio::time::sleep;

use crate::handling::{Seen, acknowledge, builder, handle, until, until_stats};

const SHORT: Duration = Duration::from_millis(5);

/// What was handled to its end, by key, in the order in which that happened.
#[derive(Clone, Default)]
struct ByKey(Arc<Mutex<BTreeMap<Vec<u8>, Vec<u32>>>>);

impl ByKey {
    fn count(&self) -> usize {
        self.0.lock().values().map(Vec::len).sum()
    }

    /// Each key's messages came in their order, each once.
    fn check(&self, of_each: u32) {
        for (key, seen) in &*self.0.lock() {
            assert_eq!(seen, &(0..of_each).collect::<Vec<_>>(), "{key:?}");
        }
    }

    async fn worker(&self, consumer: ConsumerBuilder<u32>) -> Worker {
        let all = self.clone();
        consumer
            .ordered()
            .concurrency(8)
            .prefetch(3)
            .backoff(SHORT, SHORT)
            .start(move |delivery: Delivery<u32>| {
                let all = all.clone();
                async move {
                    sleep(Duration::from_millis(rand::random_range(0..3))).await;
                    if delivery.attempt == 1 && rand::random_range(0..10) == 0 {
                        return Outcome::retry("no luck");
                    }
                    all.0
                        .lock()
                        .entry(delivery.key.to_vec())
                        .or_default()
                        .push(delivery.payload);
                    Outcome::Ack
                }
            })
            .await
            .unwrap()
    }
}

async fn publish(topic: &Topic<u32>, keys: u32, numbers: std::ops::Range<u32>) {
    for n in numbers {
        let keyed = (0..keys).map(|key| (&n, Publication::new().key(format!("key-{key}"))));
        for published in topic.publish_batch(keyed).await.unwrap() {
            published.unwrap();
        }
    }
}

fn parted(fixture: &Fixture, partitions: u32) -> Topic<u32> {
    builder(&fixture.client)
        .partitions(partitions)
        .build()
        .unwrap()
}

redkit_testkit::suite! {
    async fn messages_of_a_key_are_handled_in_their_order(fixture: Fixture) {
        let (topic, all) = (parted(&fixture, 4), ByKey::default());
        let _a = all.worker(topic.consumer("g")).await;
        let _b = all.worker(topic.consumer("g")).await;
        publish(&topic, 10, 0..20).await;
        until("all were handled", || all.count() == 200).await;
        all.check(20);
        until_stats(&topic, "g", |stats| stats.length == 0).await;
    }

    async fn partitions_are_handed_over_without_reordering_or_doubling(fixture: Fixture) {
        let (topic, all) = (parted(&fixture, 6), ByKey::default());
        let first = all.worker(topic.consumer("g")).await;
        until("the first has all", || first.stats().partitions == 6).await;
        publish(&topic, 12, 0..10).await;
        let second = all.worker(topic.consumer("g")).await;
        let third = all.worker(topic.consumer("g")).await;
        publish(&topic, 12, 10..20).await;
        let shares = || [&first, &second, &third].map(|worker| worker.stats().partitions);
        until("they share", || shares() == [2, 2, 2]).await;
        publish(&topic, 12, 20..30).await;
        first.shutdown(Duration::from_secs(5)).await;
        publish(&topic, 12, 30..40).await;
        until("the others share", || second.stats().partitions == 3 && third.stats().partitions == 3).await;
        until("all were handled", || all.count() == 480).await;
        all.check(40);
        assert!([&second, &third].iter().all(|worker| worker.stats().lost == 0));
    }

    async fn a_message_that_fails_is_tried_again_before_those_behind_it(fixture: Fixture) {
        let (topic, seen) = (parted(&fixture, 1), Seen::default());
        let consumer = topic.consumer("g").ordered().prefetch(5).max_attempts(3).backoff(SHORT, SHORT);
        let _worker = handle(consumer, &seen, |delivery| match delivery.payload {
            1 => Outcome::retry("never"),
            2 if delivery.attempt < 2 => Outcome::retry("not yet"),
            _ => Outcome::Ack,
        }).await;
        for n in 0..4 {
            topic.publish(&n).await.unwrap();
        }
        until_stats(&topic, "g", |stats| stats.length == 0 && stats.dead == 1).await;
        assert_eq!(seen.all(), [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (3, 1)]);
    }

    async fn a_drain_of_an_ordered_group_costs_no_attempt(fixture: Fixture) {
        let topic = parted(&fixture, 1);
        let started = Seen::default();
        let worker = {
            let started = started.clone();
            topic.consumer("g").ordered().prefetch(3).start(move |delivery: Delivery<u32>| {
                started.add(&delivery);
                std::future::pending::<Outcome>()
            }).await.unwrap()
        };
        for n in 0..3 {
            topic.publish(&n).await.unwrap();
        }
        until("it has begun", || started.len() == 1).await;
        worker.shutdown(SHORT).await;
        let worker = topic.consumer("g").ordered().start(move |_: Delivery<u32>| std::future::pending::<Outcome>());
        let worker = worker.await.unwrap();
        until("it has begun", || worker.stats().running == 1).await;
        drop(worker);
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("g").ordered(), &seen).await;
        until("all were handled", || seen.len() == 3).await;
        assert_eq!(seen.all(), [(0, 1), (1, 1), (2, 1)]);
    }

    async fn an_owner_that_lost_its_partition_settles_nothing(fixture: Fixture) {
        let topic = parted(&fixture, 1);
        let (has_begun, goes_on) = (Arc::new(AtomicBool::new(false)), Arc::new(tokio::sync::Semaphore::new(0)));
        let worker = {
            let (has_begun, goes_on) = (Arc::clone(&has_begun), Arc::clone(&goes_on));
            topic.consumer("g").ordered().start(move |_: Delivery<u32>| {
                has_begun.store(true, Ordering::Relaxed);
                let goes_on = Arc::clone(&goes_on);
                async move { goes_on.acquire().await.unwrap().forget(); Outcome::Ack }
            }).await.unwrap()
        };
        topic.publish(&1).await.unwrap();
        until("it has begun", || has_begun.load(Ordering::Relaxed)).await;
        let owner = fixture.client.keyspace("topic", "t").unwrap().tagged_key("t.0", "owner", "g");
        let _: () = fixture.client.call(Command::new("SET").key(&owner).arg("another")).await.unwrap();
        goes_on.add_permits(1);
        until("it is lost", || worker.stats().lost == 1).await;
        let stats = topic.stats("g").await.unwrap();
        assert_eq!((stats.length, stats.pending, worker.stats().acknowledged), (1, 1, 0));
        let kept: String = fixture.client.call(Command::new("GET").key(&owner)).await.unwrap();
        assert_eq!(kept, "another");
    }

    async fn the_partitions_of_a_dead_worker_go_to_another_one(fixture: Fixture) {
        let topic = parted(&fixture, 1);
        let owner = fixture.client.keyspace("topic", "t").unwrap().tagged_key("t.0", "owner", "g");
        topic.publish(&1).await.unwrap();
        // A worker that took the message and died.
        let group = Command::new("XGROUP").arg("CREATE");
        let stream = fixture.client.keyspace("topic", "t").unwrap().key("t.0");
        let _: () = fixture.client.call(group.key(&stream).arg("g").arg("0")).await.unwrap();
        let read = Command::new("XREADGROUP").arg("GROUP").arg("g").arg("ordered").arg("STREAMS");
        let _: redkit_core::Value = fixture.client.call(read.key(&stream).arg(">")).await.unwrap();
        let set = Command::new("SET").key(&owner).arg("dead").arg("PX").arg(600);
        let _: () = fixture.client.call(set).await.unwrap();
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("g").ordered(), &seen).await;
        sleep(Duration::from_millis(100)).await;
        assert_eq!(seen.len(), 0);
        until("it was handled", || seen.len() == 1).await;
        assert_eq!(seen.all(), [(1, 2)], "the death was an attempt");
    }

    async fn a_lost_group_stays_ordered(fixture: Fixture) {
        let topic = parted(&fixture, 1);
        let gaps = Arc::new(Mutex::new(Vec::<topic::Gap>::new()));
        let consumer = {
            let gaps = Arc::clone(&gaps);
            topic.consumer("g").ordered().on_gap(move |gap| gaps.lock().push(gap))
        };
        let seen = Seen::default();
        let _worker = acknowledge(consumer, &seen).await;
        topic.publish(&1).await.unwrap();
        until("it works", || seen.len() == 1).await;
        let stream = fixture.client.keyspace("topic", "t").unwrap().key("t.0");
        let _: u64 = fixture.client.call(Command::new("DEL").key(&stream)).await.unwrap();
        topic.publish(&2).await.unwrap();
        until("it works again", || seen.len() == 2).await;
        assert_eq!(gaps.lock().len(), 1);
    }

    #[paused]
    async fn the_workers_of_an_ordered_group_are_counted_while_they_live(fixture: Fixture) {
        let topic = parted(&fixture, 2);
        let stays = |_: Delivery<u32>| async { sleep(Duration::from_secs(40)).await; Outcome::Ack };
        let first = topic.consumer("g").ordered().start(stays).await.unwrap();
        let second = topic.consumer("g").ordered().start(stays).await.unwrap();
        topic.publish(&1).await.unwrap();
        sleep(Duration::from_secs(35)).await;
        assert_eq!(topic.stats("g").await.unwrap().live_workers, 2);
        topic.pause("g").await.unwrap();
        second.shutdown(Duration::from_secs(1)).await;
        sleep(Duration::from_secs(60)).await;
        assert_eq!(topic.stats("g").await.unwrap().live_workers, 1);
        first.shutdown(Duration::from_secs(1)).await;
        assert_eq!(topic.stats("g").await.unwrap().live_workers, 0);
    }

    async fn a_group_is_ordered_or_not(fixture: Fixture) {
        let topic = parted(&fixture, 1);
        let _worker = acknowledge(topic.consumer("g"), &Seen::default()).await;
        let clash = topic.consumer("g").ordered().start(|_: Delivery<u32>| async { Outcome::Ack }).await;
        assert!(matches!(clash, Err(Error::GroupClash { group }) if &*group == "g"));
        let _ordered = acknowledge(topic.consumer("o").ordered(), &Seen::default()).await;
        let clash = topic.consumer("o").start(|_: Delivery<u32>| async { Outcome::Ack }).await;
        assert!(matches!(clash, Err(Error::GroupClash { .. })));
    }
}

/// The memory of the server is full for some leases, while a message is being handled.
#[tokio::test(start_paused = true)]
async fn a_full_server_does_not_cost_an_owner_its_partition() {
    let engine = Arc::new(Embedded::new());
    let backend = Arc::clone(&engine);
    let client = Client::from_backend(backend, &ClientConfig::default()).unwrap();
    let topic = Topic::<u32>::builder(&client, "t").build().unwrap();
    topic.publish(&1).await.unwrap();
    let attempts: Arc<Mutex<Vec<u32>>> = Arc::default();
    let seen = Arc::clone(&attempts);
    let consumer = topic.consumer("g").ordered();
    let worker = consumer
        .lease(Duration::from_millis(600))
        .start(move |delivery: Delivery<u32>| {
            seen.lock().push(delivery.attempt);
            async {
                sleep(Duration::from_secs(4)).await;
                Outcome::Ack
            }
        })
        .await
        .unwrap();
    sleep(Duration::from_secs(1)).await;
    engine.set_full(true);
    sleep(Duration::from_secs(2)).await;
    engine.set_full(false);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(*attempts.lock(), [1]);
    let stats = worker.stats();
    assert_eq!((stats.acknowledged, stats.lost), (1, 0));
}
