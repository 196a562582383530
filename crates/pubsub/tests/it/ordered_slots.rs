//! Ordered groups with more partitions than handlers that may run: owners wait for a place.

use std::sync::Arc;
use std::time::Duration;

use redkit_pubsub::topic::{ConsumerBuilder, Delivery, Outcome, Publication, Topic, Worker};
use redkit_testkit::{FaultyBackend, Gate, Injection, Rule};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::handling::{Seen, acknowledge, until};

const MESSAGES: u32 = 80;

/// A topic with messages in all its four partitions.
async fn full(backend: &Arc<FaultyBackend>) -> Topic<u32> {
    let topic = Topic::<u32>::builder(&backend.client(), "t").partitions(4);
    let topic = topic.build().unwrap();
    for n in 0..MESSAGES {
        let publication = Publication::new().key(n.to_string());
        topic.publish_with(&n, publication).await.unwrap();
    }
    topic
}

/// A worker for one message at a time, whose handler takes so long.
async fn slow(consumer: ConsumerBuilder<u32>, time: Duration, seen: &Seen) -> Worker {
    let seen = seen.clone();
    let started = consumer.start(move |delivery: Delivery<u32>| {
        seen.add(&delivery);
        async move {
            sleep(time).await;
            Outcome::Ack
        }
    });
    started.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_ordered_group_runs_as_many_handlers_as_were_asked_for_and_begins_none_when_it_ends() {
    let topic = full(&FaultyBackend::embedded()).await;
    let seen = Seen::default();
    let consumer = topic.consumer("g").ordered().concurrency(1).prefetch(20);
    let worker = slow(consumer, Duration::from_secs(1), &seen).await;
    sleep(Duration::from_millis(3_500)).await;
    assert_eq!(worker.stats().running, 1);
    let begun = seen.len();
    assert!((3..=4).contains(&begun), "{begun}");
    worker.shutdown(Duration::from_secs(60)).await;
    assert_eq!(seen.len(), begun);
}

#[tokio::test(start_paused = true)]
async fn partitions_that_wait_for_a_place_are_given_up_while_a_handler_runs() {
    let topic = full(&FaultyBackend::embedded()).await;
    let (go, begun) = (Arc::new(Semaphore::new(0)), Seen::default());
    let worker = {
        let (go, begun) = (Arc::clone(&go), begun.clone());
        let consumer = topic.consumer("g").ordered().concurrency(1);
        consumer.start(move |delivery: Delivery<u32>| {
            begun.add(&delivery);
            let go = Arc::clone(&go);
            async move {
                go.acquire().await.unwrap().forget();
                Outcome::Ack
            }
        })
    };
    let worker = worker.await.unwrap();
    until("a handler runs", || worker.stats().running == 1).await;
    let seen = Seen::default();
    let consumer = topic.consumer("g").ordered().concurrency(4);
    let other = acknowledge(consumer, &seen).await;
    // Its share is half of them.
    until("another worker has some of them", || {
        !seen.payloads().is_empty()
    })
    .await;
    let ends = tokio::spawn(worker.shutdown(Duration::from_secs(600)));
    sleep(Duration::from_secs(5)).await;
    assert!(!ends.is_finished(), "the handler runs");
    let most = usize::try_from(MESSAGES).unwrap();
    assert!(seen.len() > most / 2, "of three partitions: {}", seen.len());
    go.add_permits(1);
    ends.await.unwrap();
    assert_eq!(begun.len(), 1);
    until("all were handled", || seen.len() == most - 1).await;
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn no_message_is_begun_in_a_paused_group_whose_owners_wait_for_a_place() {
    let topic = full(&FaultyBackend::embedded()).await;
    let seen = Seen::default();
    let consumer = topic.consumer("g").ordered().concurrency(1);
    let worker = slow(consumer, Duration::from_secs(2), &seen).await;
    until("a handler runs", || worker.stats().running == 1).await;
    topic.pause("g").await.unwrap();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(seen.len(), 1);
    topic.resume("g").await.unwrap();
    sleep(Duration::from_secs(30)).await;
    assert!(seen.len() > 10, "{}", seen.len());
    let mut each = seen.sorted();
    each.dedup();
    assert_eq!(each.len(), seen.len(), "each once");
    worker.shutdown(Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_place_is_free_while_an_outcome_is_on_its_way() {
    let backend = FaultyBackend::embedded();
    let topic = full(&backend).await;
    let seen = Seen::default();
    let worker = acknowledge(topic.consumer("g").ordered().concurrency(1), &seen);
    let never = Rule::new(Injection::HoldRequest(Gate::closed()));
    let is_entry = |arg: &[u8]| {
        let mut parts = arg.split(|byte| *byte == b'-');
        let is_number = |part: Option<&[u8]>| {
            part.is_some_and(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit))
        };
        arg.len() > 12
            && is_number(parts.next())
            && is_number(parts.next())
            && parts.next().is_none()
    };
    backend.set(never.on(move |command| command.iter().any(is_entry)));
    let worker = worker.await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(seen.len(), 4, "one of each partition");
    backend.clear();
    drop(worker);
}
