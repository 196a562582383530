//! Acknowledgements that go to the server together, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use redkit_core::{Client, Command, Value};
use redkit_pubsub::topic::{
    Deduplication, Delivery, Outcome, Publication, PublishOutcome, Retention, Topic,
};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::handling::{Seen, acknowledge, builder, topic, until, until_stats};

fn is_acknowledgement(command: &Command) -> bool {
    command.name() == "XACK" || command.iter().any(|arg| arg == b"queue")
}

fn acknowledgements(backend: &FaultyBackend) -> usize {
    let seen = backend.seen();
    let meant = seen.iter().filter(|command| is_acknowledgement(command));
    meant.count()
}

async fn publish(topic: &Topic<u32>, numbers: std::ops::Range<u32>) {
    let numbers: Vec<u32> = numbers.collect();
    let all = numbers.iter().map(|n| (n, Publication::new()));
    for published in topic.publish_batch(all).await.unwrap() {
        published.unwrap();
    }
}

/// Handlers that all wait for the gate.
async fn gated(
    topic: &Topic<u32>,
    handlers: usize,
    go: &Arc<Semaphore>,
) -> redkit_pubsub::topic::Worker {
    let go = Arc::clone(go);
    let consumer = topic.consumer("g").concurrency(handlers);
    let consumer = consumer.lease(Duration::from_secs(2));
    let started = consumer.start(move |delivery: Delivery<u32>| {
        let go = Arc::clone(&go);
        async move {
            if delivery.payload == 1 {
                // It is the last to wait.
                sleep(Duration::from_millis(1)).await;
            }
            go.acquire().await.unwrap().forget();
            Outcome::Ack
        }
    });
    started.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_that_come_together_go_to_the_server_in_few_calls() {
    for retention in [
        Retention::Queue,
        Retention::Log {
            keep: None,
            most: None,
        },
    ] {
        let backend = FaultyBackend::embedded();
        let topic = builder(&backend.client()).retention(retention);
        let topic = topic.build().unwrap();
        publish(&topic, 0..64).await;
        let go = Arc::new(Semaphore::new(0));
        let worker = gated(&topic, 64, &go).await;
        until("all have begun", || worker.stats().running == 64).await;
        backend.forget();
        go.add_permits(64);
        until("all were handled", || worker.stats().acknowledged == 64).await;
        let calls = acknowledgements(&backend);
        // The first one waits for nobody; a script that the server does not know yet is sent twice.
        assert!(calls <= 4, "{calls} calls");
        let stats = topic.stats("g").await.unwrap();
        let left = if retention == Retention::Queue { 0 } else { 64 };
        assert_eq!((stats.pending, stats.length), (0, left));
        assert_eq!((worker.stats().lost, worker.stats().held), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_keeps_messages_that_another_group_has_not_acknowledged() {
    let client = FaultyBackend::embedded().client();
    let topic = topic(&client);
    let (first, second) = (Seen::default(), Seen::default());
    let worker = acknowledge(topic.consumer("first"), &first).await;
    worker.shutdown(Duration::from_secs(1)).await;
    // One of the groups has seen the first half only.
    let worker = acknowledge(topic.consumer("second"), &second).await;
    publish(&topic, 0..20).await;
    until("it has the first half", || {
        worker.stats().acknowledged == 20
    })
    .await;
    worker.shutdown(Duration::from_secs(1)).await;
    publish(&topic, 20..40).await;
    let worker = acknowledge(topic.consumer("first").concurrency(40), &first).await;
    until("it has all", || worker.stats().acknowledged == 40).await;
    let stats = until_stats(&topic, "second", |stats| stats.length == 20).await;
    assert_eq!(stats.lag, Some(20));
    let _worker = acknowledge(topic.consumer("second").concurrency(40), &second).await;
    until_stats(&topic, "second", |stats| stats.length == 0).await;
    assert_eq!(second.sorted(), (0..40).collect::<Vec<_>>());
}

redkit_testkit::suite! {
    async fn pending_messages_stay_in_a_queue_whatever_is_acknowledged_before_and_behind_them(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let go = Arc::new(Semaphore::new(0));
        // The first of the first twenty, the last of the second, both of the third.
        let slow = |number: u32| matches!(number, 0 | 39 | 40 | 59);
        let gate = Arc::clone(&go);
        let worker = topic.consumer("g").concurrency(20).start(move |delivery: Delivery<u32>| {
            let gate = Arc::clone(&gate);
            async move {
                if slow(delivery.payload) {
                    gate.acquire().await.unwrap().forget();
                }
                Outcome::Ack
            }
        });
        let worker = worker.await.unwrap();
        for (first, waiting) in [(0, 1), (20, 1), (40, 2)] {
            publish(&topic, first..first + 20).await;
            let all = u64::from(first + 20);
            until("the quick ones were handled", || worker.stats().acknowledged == all - waiting).await;
            let stats = topic.stats("g").await.unwrap();
            assert_eq!((stats.pending, stats.length, stats.lag), (waiting, waiting, Some(0)));
            go.add_permits(usize::try_from(waiting).unwrap());
            until("all were handled", || worker.stats().acknowledged == all).await;
            assert_eq!(topic.stats("g").await.unwrap().length, 0);
        }
        assert_eq!(worker.stats().lost, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_id_of_a_message_that_another_group_left_is_let_go_of_while_others_are_acknowledged() {
    let client = FaultyBackend::embedded().client();
    let topic = topic(&client);
    let until_done = || {
        Publication::new()
            .id("a")
            .deduplicate(Deduplication::UntilDone)
    };
    let seen = Seen::default();
    let other = acknowledge(topic.consumer("other"), &Seen::default()).await;
    other.shutdown(Duration::from_secs(1)).await;
    let worker = acknowledge(topic.consumer("g").concurrency(20), &seen).await;
    topic.publish_with(&0, until_done()).await.unwrap();
    until("it was handled", || worker.stats().acknowledged == 1).await;
    // The message is still there for the other group, which is destroyed by hand.
    let stream = client.keyspace("topic", "t").unwrap().key("t.0");
    let destroy = Command::new("XGROUP")
        .arg("DESTROY")
        .key(stream)
        .arg("other");
    assert_eq!(client.call::<u64>(destroy).await.unwrap(), 1);
    publish(&topic, 1..21).await;
    until("all were handled", || worker.stats().acknowledged == 21).await;
    until_stats(&topic, "g", |stats| stats.length == 0).await;
    let again = topic.publish_with(&0, until_done()).await.unwrap();
    assert_eq!(again.outcome, PublishOutcome::New);
}

async fn claim(client: &Client, id: &str) {
    let stream = client.keyspace("topic", "t").unwrap().key("t.0");
    let claim = Command::new("XCLAIM").key(stream).arg("g").arg("thief");
    let _: Value = client.call(claim.arg(0).arg(id)).await.unwrap();
}

async fn owner_of(client: &Client, id: &str) -> Vec<String> {
    let stream = client.keyspace("topic", "t").unwrap().key("t.0");
    let pending = Command::new("XPENDING").key(stream).arg("g");
    let pending = pending.arg(id).arg(id).arg(1);
    let rows: Vec<Vec<Value>> = client.call(pending).await.unwrap();
    let owners = rows.iter().map(|row| row[1].clone().to().unwrap());
    owners.collect()
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_lost_before_its_acknowledgement_is_sent_stays_with_its_new_consumer() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let topic = topic(&client);
    let (go, mut entries) = (Arc::new(Semaphore::new(1)), Vec::new());
    let worker = gated(&topic, 3, &go).await;
    // So that the server knows the script.
    topic.publish(&9).await.unwrap();
    until("it works", || worker.stats().acknowledged == 1).await;
    for n in 0..3 {
        entries.push(topic.publish(&n).await.unwrap().entry.unwrap().to_string());
    }
    until("all have begun", || worker.stats().running == 3).await;
    sleep(Duration::from_millis(10)).await;
    let late = Injection::DelayReply(Duration::from_secs(1));
    backend.add(Rule::new(late).on(is_acknowledgement).times(1));
    go.add_permits(1);
    sleep(Duration::from_millis(10)).await;
    // The others end while the first acknowledgement is on its way, and one of them is another's by then.
    go.add_permits(2);
    claim(&client, &entries[1]).await;
    until("all came to an end", || worker.stats().held == 0).await;
    assert_eq!((worker.stats().acknowledged, worker.stats().lost), (3, 1));
    assert_eq!(owner_of(&client, &entries[1]).await, ["thief"]);
    assert_eq!(topic.stats("g").await.unwrap().length, 1);
}
