//! Consumers whose calls fail in one place, in virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redkit_core::{ClientConfig, Command, Value};
use redkit_pubsub::topic::{
    ConsumerBuilder, Deduplication, Delivery, Gap, Outcome, Publication, Worker,
};
use redkit_pubsub::{Error, Inbox};
use redkit_testkit::{FaultyBackend, Injection, Rule};
use tokio::time::sleep;

use crate::handling::{Seen, acknowledge, handle, topic, until};

const WAITING: &[u8] = b"~waiting";

/// What follows the name of `waiting`: in a release the first entry, in a heartbeat a time.
fn after_waiting(command: &Command) -> Option<&[u8]> {
    let mut args = command.iter().skip_while(|arg| *arg != WAITING);
    args.next()?;
    args.next()
}

pub(crate) fn is_release(command: &Command) -> bool {
    after_waiting(command).is_some_and(|arg| arg.contains(&b'-'))
}

/// A heartbeat has two keys, and a tick has five.
fn is_heartbeat(command: &Command) -> bool {
    let is_of_two = command.iter().nth(1).is_some_and(|arg| arg == b"2");
    is_of_two && after_waiting(command).is_some() && !is_release(command)
}

/// A heartbeat that names several entries.
fn is_heartbeat_for_several(command: &Command) -> bool {
    is_heartbeat(command) && command.iter().count() > 10
}

/// The first attempt ends so; the second takes three seconds. Gives what was seen, and how much was lost.
async fn repeated(outcome: fn() -> Outcome) -> Vec<(u32, u32)> {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let topic = topic(&client);
    backend.add(
        Rule::new(Injection::LoseReply)
            .on(is_release)
            .skip(1)
            .times(8),
    );
    let (seen, count) = (Seen::default(), Arc::new(AtomicU32::new(0)));
    let worker = {
        let seen = seen.clone();
        topic
            .consumer("g")
            .concurrency(4)
            .start(move |delivery: Delivery<u32>| {
                seen.add(&delivery);
                let is_first = count.fetch_add(1, Ordering::Relaxed) == 0;
                async move {
                    if is_first {
                        return outcome();
                    }
                    sleep(Duration::from_secs(3)).await;
                    Outcome::Ack
                }
            })
    };
    let worker = worker.await.unwrap();
    topic.publish(&1).await.unwrap();
    until("it was handled", || worker.stats().acknowledged == 1).await;
    sleep(Duration::from_secs(40)).await;
    seen.all()
}

#[tokio::test(start_paused = true)]
async fn a_retry_whose_reply_is_lost_takes_nothing_from_the_next_attempt() {
    let seen = repeated(|| Outcome::retry_after(Duration::ZERO, "no luck")).await;
    assert_eq!(seen, [(1, 1), (1, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_handed_back_is_not_taken_from_its_next_handler() {
    assert_eq!(repeated(|| Outcome::HandBack).await, [(1, 1), (1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn asking_for_one_message_gives_none_of_the_others_away() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let topic = topic(&client);
    backend.add(Rule::new(Injection::NotSent).on(is_heartbeat_for_several));
    let seen = Seen::default();
    let consumer = topic.consumer("g").lease(Duration::from_secs(1));
    let _worker = {
        let seen = seen.clone();
        let consumer = consumer.concurrency(2).prefetch(8);
        consumer.start(move |delivery: Delivery<u32>| {
            seen.add(&delivery);
            async move {
                match delivery.payload {
                    0 => sleep(Duration::from_secs(30)).await,
                    1 => sleep(Duration::from_secs(3)).await,
                    _ => {}
                }
                Outcome::Ack
            }
        })
    };
    let _worker = _worker.await.unwrap();
    for n in 0..10 {
        topic.publish(&n).await.unwrap();
    }
    until("most were handled", || seen.len() >= 10).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(seen.all(), (0..10).map(|n| (n, 1)).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_publication_until_done_is_not_repeated_by_the_client() {
    let backend = FaultyBackend::embedded();
    let client = backend.client_with(&ClientConfig::default());
    let topic = topic(&client);
    let seen = Seen::default();
    let _worker = acknowledge(topic.consumer("g"), &seen).await;
    // So that the server knows the script.
    let other = Publication::new()
        .id("other")
        .deduplicate(Deduplication::UntilDone);
    topic.publish_with(&0, other).await.unwrap();
    let is_publication = |command: &Command| command.iter().any(|arg| arg == b"done");
    backend.add(Rule::new(Injection::LoseReply).on(is_publication).times(1));
    let publication = || {
        Publication::new()
            .id("a")
            .deduplicate(Deduplication::UntilDone)
    };
    let error = topic.publish_with(&1, publication()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Core(error) if error.is_maybe()),
        "{error}"
    );
    sleep(Duration::from_secs(5)).await;
    assert_eq!(seen.all(), [(0, 1), (1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_to_a_dropped_worker_costs_no_attempt() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let topic = topic(&client);
    let worker = acknowledge(topic.consumer("g"), &Seen::default()).await;
    sleep(Duration::from_secs(2)).await;
    let late = Injection::DelayReply(Duration::from_millis(300));
    backend.add(Rule::new(late).on_name("XREADGROUP"));
    sleep(Duration::from_secs(2)).await;
    for n in 0..3 {
        topic.publish(&n).await.unwrap();
    }
    sleep(Duration::from_millis(1)).await;
    assert_eq!(worker.stats().acknowledged, 0);
    drop(worker);
    // What was delivered to it is on its way.
    sleep(Duration::from_millis(1)).await;
    backend.clear();
    let seen = Seen::default();
    let _worker = acknowledge(topic.consumer("g"), &seen).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(
        seen.all()
            .iter()
            .filter(|&&(_, attempt)| attempt == 1)
            .count(),
        3
    );
    let stream = client.keyspace("topic", "t").unwrap().key("t.0");
    let consumers = Command::new("XINFO").arg("CONSUMERS").key(stream).arg("g");
    let rows: Vec<Value> = client.call(consumers).await.unwrap();
    // Its own, and that of what waited for another.
    assert!(rows.len() <= 2, "{rows:?}");
}

/// A new owner's first call for the messages of a partition.
fn is_first_take(command: &Command) -> bool {
    let mut args = command.iter().skip_while(|arg| *arg != b"ordered").skip(2);
    args.next().is_some_and(|arg| arg == b"1")
}

/// The command by which an owner gives its partition up: it names the group, the consumer and, last, the owner's token.
fn is_disowning(command: &Command) -> bool {
    let args = command.iter().skip_while(|arg| *arg != b"g").skip(1);
    args.clone().next() == Some(b"ordered") && args.count() == 2
}

/// A worker that begins messages and is never done with one.
async fn never_done(consumer: ConsumerBuilder<u32>, begun: &Seen) -> Worker {
    let begun = begun.clone();
    let handler = move |delivery: Delivery<u32>| {
        begun.add(&delivery);
        std::future::pending::<Outcome>()
    };
    consumer.start(handler).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_lost_replies_brought_to_a_new_owner_costs_one_attempt_at_most() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let topic = topic(&client);
    let consumer = || topic.consumer("g").ordered().lease(Duration::from_secs(5));
    let lose = |times| {
        backend.add(
            Rule::new(Injection::LoseReply)
                .on(is_first_take)
                .times(times),
        )
    };
    // The server knows the script by this.
    let worker = acknowledge(consumer(), &Seen::default()).await;
    topic.publish(&0).await.unwrap();
    until("it was handled", || worker.stats().acknowledged == 1).await;
    worker.shutdown(Duration::from_secs(5)).await;

    // Nobody has begun it.
    topic.publish(&1).await.unwrap();
    lose(3);
    let seen = Seen::default();
    let worker = acknowledge(consumer(), &seen).await;
    until("it was handled", || worker.stats().acknowledged == 1).await;
    assert_eq!(seen.all(), [(1, 1)]);
    worker.shutdown(Duration::from_secs(5)).await;

    // The owner before died with it: that was an attempt, and only that.
    let begun = Seen::default();
    let worker = never_done(consumer(), &begun).await;
    topic.publish(&2).await.unwrap();
    until("it was begun", || begun.len() == 1).await;
    backend.add(Rule::new(Injection::LoseRequest).on(is_disowning));
    drop(worker);
    lose(3);
    let seen = Seen::default();
    let worker = acknowledge(consumer(), &seen).await;
    until("it was handled", || worker.stats().acknowledged == 1).await;
    assert_eq!(seen.all(), [(2, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_new_owners_first_call_that_arrives_once_more_costs_no_attempt() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let topic = topic(&client);
    let consumer = || topic.consumer("g").ordered();
    // The server knows the script by this.
    let worker = acknowledge(consumer(), &Seen::default()).await;
    topic.publish(&0).await.unwrap();
    until("it was handled", || worker.stats().acknowledged == 1).await;
    worker.shutdown(Duration::from_secs(5)).await;

    let late: Arc<Mutex<Option<Command>>> = Arc::default();
    let sent = Arc::clone(&late);
    let keep = move |command: &Command| {
        if is_first_take(command) {
            *sent.lock() = Some(command.clone());
        }
        false
    };
    backend.add(Rule::new(Injection::Pass).on(keep));
    let begun = Seen::default();
    let worker = never_done(consumer(), &begun).await;
    // It has found nothing.
    sleep(Duration::from_secs(2)).await;
    topic.publish(&1).await.unwrap();
    until("it was begun", || begun.len() == 1).await;
    let late = late.lock().take().unwrap();
    client.call::<Value>(late).await.unwrap();
    worker.shutdown(Duration::from_millis(1)).await;
    let seen = Seen::default();
    let _worker = acknowledge(consumer(), &seen).await;
    until("it was handled", || seen.len() == 1).await;
    assert_eq!((begun.all(), seen.all()), (vec![(1, 1)], vec![(1, 1)]));
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_reply_brought_to_a_worker_that_ends_costs_no_attempt() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let topic = topic(&client);
    let seen = Seen::default();
    let worker = acknowledge(topic.consumer("g"), &seen).await;
    sleep(Duration::from_secs(2)).await;
    backend.add(Rule::new(Injection::LoseReply).on_name("XREADGROUP"));
    for n in 0..3 {
        topic.publish(&n).await.unwrap();
    }
    sleep(Duration::from_millis(10)).await;
    worker.shutdown(Duration::from_secs(1)).await;
    backend.clear();
    let _worker = acknowledge(topic.consumer("g"), &seen).await;
    sleep(Duration::from_secs(5)).await;
    // The first came to the worker itself, by a read that was sent before.
    assert_eq!(seen.all(), [(0, 1), (1, 1), (2, 1)]);
}

#[tokio::test(start_paused = true)]
async fn giving_back_what_a_lost_reply_brought_takes_nothing_that_was_read_since_when_it_arrives_late()
 {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let topic = topic(&client);
    let begun = Seen::default();
    let _first = never_done(topic.consumer("g").concurrency(3), &begun).await;
    sleep(Duration::from_secs(2)).await;
    let sent: Arc<Mutex<Vec<Command>>> = Arc::default();
    let all = Arc::clone(&sent);
    let keep = move |command: &Command| {
        if is_heartbeat(command) {
            all.lock().push(command.clone());
        }
        false
    };
    backend.add(Rule::new(Injection::Pass).on(keep));
    backend.add(
        Rule::new(Injection::LoseReply)
            .on_name("XREADGROUP")
            .times(1),
    );
    // The first comes by a read that was sent before.
    for n in 1..3 {
        topic.publish(&n).await.unwrap();
        let begun = begun.clone();
        until("it was begun", move || begun.len() == n as usize).await;
    }
    backend.clear();
    topic.publish(&3).await.unwrap();
    until("it was begun", || begun.len() == 3).await;
    let sent = std::mem::take(&mut *sent.lock());
    assert!(!sent.is_empty());
    for late in sent {
        client.call::<Value>(late).await.unwrap();
    }
    let seen = Seen::default();
    let _second = acknowledge(topic.consumer("g"), &seen).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(
        (begun.all(), seen.all()),
        (vec![(1, 1), (2, 1), (3, 1)], vec![])
    );
}

#[tokio::test(start_paused = true)]
async fn all_of_a_large_reply_that_was_lost_comes_again_at_once() {
    let backend = FaultyBackend::embedded();
    let topic = topic(&backend.client());
    let seen = Seen::default();
    let consumer = topic.consumer("g").concurrency(500);
    let worker = acknowledge(consumer, &seen).await;
    sleep(Duration::from_secs(2)).await;
    let lose = Rule::new(Injection::LoseReply).on_name("XREADGROUP");
    backend.add(lose.times(1));
    let all: Vec<u32> = (0..400).collect();
    let batch = all.iter().map(|n| (n, Publication::new()));
    topic.publish_batch(batch).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!((worker.stats().acknowledged, seen.sorted()), (400, all));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_hand_back_takes_no_message_along() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let topic = topic(&client);
    let stays = |_: Delivery<u32>| std::future::pending::<Outcome>();
    let worker = topic.consumer("g").start(stays).await.unwrap();
    topic.publish(&1).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    // The consumer is removed all the same, if its entries do not keep it.
    let is_hand_back = |command: &Command| command.iter().any(|arg| arg == b"~waiting");
    backend.add(Rule::new(Injection::NotSent).on(is_hand_back));
    worker.shutdown(Duration::ZERO).await;
    backend.clear();
    let seen = Seen::default();
    let _worker = acknowledge(topic.consumer("g"), &seen).await;
    sleep(Duration::from_secs(120)).await;
    assert_eq!(seen.payloads(), [1]);
}

pub(crate) struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("a handler panicked while it was dropped");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_while_it_is_dropped_is_a_failed_attempt() {
    let client = FaultyBackend::embedded().client();
    let topic = topic(&client);
    let seen = Seen::default();
    let _worker = {
        let seen = seen.clone();
        topic
            .consumer("g")
            .timeout(Duration::from_millis(50))
            .start(move |delivery: Delivery<u32>| {
                seen.add(&delivery);
                async move {
                    if delivery.attempt == 1 {
                        let _bomb = PanicsWhenDropped;
                        let _: () = std::future::pending().await;
                    }
                    Outcome::Ack
                }
            })
    };
    let worker = _worker.await.unwrap();
    topic.publish(&1).await.unwrap();
    until("it was tried again", || worker.stats().acknowledged == 1).await;
    assert_eq!(seen.all(), [(1, 1), (1, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_group_is_told_of_although_the_reply_of_its_making_is_lost() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let topic = topic(&client);
    let gaps = Arc::new(Mutex::new(Vec::<Gap>::new()));
    let consumer = {
        let gaps = Arc::clone(&gaps);
        topic.consumer("g").on_gap(move |gap| gaps.lock().push(gap))
    };
    let seen = Seen::default();
    let _worker = handle(consumer, &seen, |_| Outcome::Ack).await;
    let is_making = |command: &Command| command.iter().any(|arg| arg == b"shared");
    backend.add(Rule::new(Injection::LoseReply).on(is_making).times(1));
    let stream = client.keyspace("topic", "t").unwrap().key("t.0");
    client
        .call::<u64>(Command::new("DEL").key(stream))
        .await
        .unwrap();
    topic.publish(&1).await.unwrap();
    until("it goes on", || seen.len() == 1).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(gaps.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_group_that_a_new_worker_finds_is_a_gap_and_begins_at_the_beginning() {
    let client = FaultyBackend::embedded().client();
    let topic = topic(&client);
    let (seen, gaps) = (Seen::default(), Arc::new(Mutex::new(Vec::<Gap>::new())));
    let consumer = || {
        let gaps = Arc::clone(&gaps);
        topic
            .consumer("g")
            .from_now()
            .on_gap(move |gap| gaps.lock().push(gap))
    };
    let first = handle(consumer(), &seen, |_| Outcome::Ack).await;
    first.shutdown(Duration::from_secs(1)).await;
    let stream = client.keyspace("topic", "t").unwrap().key("t.0");
    client
        .call::<u64>(Command::new("DEL").key(stream))
        .await
        .unwrap();
    topic.publish(&1).await.unwrap();
    let _second = handle(consumer(), &seen, |_| Outcome::Ack).await;
    until("it was handled", || seen.len() == 1).await;
    assert_eq!(gaps.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn messages_in_the_process_are_not_begun_while_the_group_is_paused() {
    let client = FaultyBackend::embedded().client();
    for is_ordered in [false, true] {
        let name = format!("t{}", u8::from(is_ordered));
        let topic = redkit_pubsub::topic::Topic::<u32>::builder(&client, name);
        let topic = topic.build().unwrap();
        for n in 0..20 {
            topic.publish(&n).await.unwrap();
        }
        let seen = Seen::default();
        let consumer = topic.consumer("g").prefetch(20);
        let consumer = match is_ordered {
            true => consumer.ordered(),
            false => consumer,
        };
        let worker = {
            let seen = seen.clone();
            consumer.start(move |delivery: Delivery<u32>| {
                seen.add(&delivery);
                async {
                    sleep(Duration::from_secs(1)).await;
                    Outcome::Ack
                }
            })
        };
        let worker = worker.await.unwrap();
        sleep(Duration::from_millis(3_500)).await;
        topic.pause("g").await.unwrap();
        sleep(Duration::from_secs(2)).await;
        let begun = seen.len();
        assert!(begun <= 6, "{begun} of 20 were begun");
        sleep(Duration::from_secs(60)).await;
        assert_eq!(seen.len(), begun, "none is begun while it is paused");
        topic.resume("g").await.unwrap();
        until("all were handled", || worker.stats().acknowledged == 20).await;
        let first_attempts: Vec<_> = (0..20).map(|n| (n, 1)).collect();
        assert_eq!(seen.all(), first_attempts);
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_with_an_id_whose_replies_are_lost_is_in_the_inbox_once() {
    let backend = FaultyBackend::embedded();
    let client = backend.client_with(&ClientConfig::default());
    let inbox: Inbox<u32> = Inbox::builder(&client, "notes").build().unwrap();
    // So that the server knows the script.
    inbox.push_once("bob", "a", &0).await.unwrap();
    let is_push = |command: &Command| command.iter().any(|arg| arg.ends_with(b":state"));
    let late = Duration::from_millis(300);
    for (n, fault) in (0..).zip([
        Injection::LoseReply,
        Injection::LoseRequest,
        Injection::DelayRequest(late),
        Injection::DelayReply(late),
    ]) {
        backend.set(Rule::new(fault).on(is_push).times(1));
        let id = n.to_string();
        // The client repeats it by itself, and the caller once more.
        inbox.push_once("ann", &id, &n).await.unwrap();
        inbox.push_once("ann", &id, &n).await.unwrap();
        backend.clear();
        assert_eq!(inbox.unread("ann").await.unwrap(), u64::from(n) + 1);
    }
    // Without an id nobody repeats it.
    backend.set(Rule::new(Injection::LoseReply).on(is_push).times(1));
    let error = inbox.push("ann", &9).await.unwrap_err();
    assert!(
        matches!(&error, Error::Core(error) if error.is_maybe()),
        "{error}"
    );
    assert_eq!(inbox.unread("ann").await.unwrap(), 5);
}
