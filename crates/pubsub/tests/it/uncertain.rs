//! Consumers that cannot reach the server, in virtual time: they begin nothing that another may have, and start all
//! the same.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use redkit_core::{Admission, AdmissionPermit, Admitted, Client, Command};
use redkit_embedded::Embedded;
use redkit_pubsub::Error;
use redkit_pubsub::topic::{ConsumerBuilder, Delivery, Gap, Outcome, Topic};
use redkit_testkit::{FaultyBackend, Injection, Rule};
use serde::{Deserialize, Deserializer};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::handling::{Seen, acknowledge, handle, topic, until, until_stats};

const LEASE: Duration = Duration::from_secs(1);

/// Two ways to one server: the calls of the first can be made to fail.
fn two_ways() -> (Arc<FaultyBackend>, Client, Client) {
    let engine = Arc::new(Embedded::new());
    let (ways, other) = (
        FaultyBackend::new(Arc::clone(&engine) as _),
        FaultyBackend::new(engine),
    );
    let (first, second) = (ways.client(), other.client());
    (ways, first, second)
}

/// Lets nobody begin before the gate is open.
struct Closed(Arc<Semaphore>);

#[async_trait]
impl Admission for Closed {
    async fn admit(&self, _key: &[u8], wait: Duration) -> Result<Admitted, redkit_core::Error> {
        match tokio::time::timeout(wait, Arc::clone(&self.0).acquire_owned()).await {
            Ok(permit) => Ok(Admitted::Now(AdmissionPermit::holding(permit.unwrap()))),
            Err(_) => Ok(Admitted::Later(Duration::from_millis(10))),
        }
    }
}

/// A consumer has messages that wait in its process when its calls begin to fail so. Another one claims, handles and
/// acknowledges them after the lease; when they could be begun by the first, nothing is known to it.
async fn begun_by_both(fault: Injection, waits_for_admission: bool) -> (Vec<u32>, Vec<u32>) {
    let (ways, client, other) = two_ways();
    let (numbers, go) = (topic(&client), Arc::new(Semaphore::new(0)));
    let consumer = numbers.consumer("g").lease(LEASE).prefetch(3);
    let consumer = match waits_for_admission {
        true => consumer.admission(Arc::new(Closed(Arc::clone(&go)))),
        false => consumer,
    };
    let (first, second) = (Seen::default(), Seen::default());
    let _first = {
        let (seen, go) = (first.clone(), Arc::clone(&go));
        let started = consumer.start(move |delivery: Delivery<u32>| {
            seen.add(&delivery);
            let go = Arc::clone(&go);
            async move {
                if !waits_for_admission && delivery.payload == 0 {
                    drop(go.acquire().await.unwrap());
                }
                Outcome::Ack
            }
        });
        started.await.unwrap()
    };
    for n in 0..4 {
        numbers.publish(&n).await.unwrap();
    }
    until_stats(&topic(&other), "g", |stats| stats.in_flight == 4).await;
    sleep(LEASE / 2).await;
    ways.add(Rule::new(fault));
    let worker = acknowledge(topic(&other).consumer("g").lease(LEASE), &second).await;
    until("the other has them", || worker.stats().acknowledged == 4).await;
    go.add_permits(10);
    sleep(Duration::from_secs(5)).await;
    ways.clear();
    sleep(Duration::from_secs(20)).await;
    (first.sorted(), second.sorted())
}

fn faults() -> [Injection; 5] {
    [
        Injection::NotSent,
        Injection::LoseRequest,
        Injection::HangBefore,
        Injection::DelayRequest(Duration::from_secs(2)),
        Injection::DelayReply(Duration::from_secs(2)),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_message_that_waited_while_another_may_have_taken_it_is_not_begun() {
    for fault in faults() {
        let told = format!("{fault:?}");
        let (first, second) = begun_by_both(fault, false).await;
        // The first of them was begun while it was certainly its own.
        assert_eq!((first, second), (vec![0], (0..4).collect()), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_admitted_when_another_may_have_it_is_not_begun() {
    for fault in faults() {
        let told = format!("{fault:?}");
        let (first, second) = begun_by_both(fault, true).await;
        assert_eq!((first, second), (vec![], (0..4).collect()), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_let_go_of_and_is_nobodys_comes_again_without_an_attempt() {
    let (ways, client, other) = two_ways();
    let (numbers, go) = (topic(&client), Arc::new(Semaphore::new(0)));
    let seen = Seen::default();
    let _worker = {
        let (seen, go) = (seen.clone(), Arc::clone(&go));
        let consumer = numbers.consumer("g").lease(LEASE).prefetch(1);
        let started = consumer.start(move |delivery: Delivery<u32>| {
            seen.add(&delivery);
            let go = Arc::clone(&go);
            async move {
                drop(go.acquire().await.unwrap());
                Outcome::Ack
            }
        });
        started.await.unwrap()
    };
    numbers.publish(&0).await.unwrap();
    numbers.publish(&1).await.unwrap();
    until_stats(&topic(&other), "g", |stats| stats.in_flight == 2).await;
    ways.add(Rule::new(Injection::NotSent));
    sleep(LEASE * 3).await;
    go.add_permits(10);
    sleep(LEASE).await;
    assert_eq!(seen.all(), [(0, 1)]);
    ways.clear();
    until_stats(&topic(&other), "g", |stats| stats.length == 0).await;
    assert_eq!(seen.all(), [(0, 1), (1, 1)]);
}

/// It waited in the process all the while: its group was paused when its handler took it up.
#[tokio::test(start_paused = true)]
async fn a_message_that_comes_again_after_a_cut_off_is_not_begun_as_its_earlier_delivery_too() {
    let (ways, client, other) = two_ways();
    let (numbers, published) = (topic(&client), topic(&other));
    let (seen, go) = (Seen::default(), Arc::new(Semaphore::new(0)));
    let _worker = {
        let (seen, go) = (seen.clone(), Arc::clone(&go));
        let consumer = numbers.consumer("g").lease(LEASE).concurrency(2);
        let started = consumer.prefetch(1).start(move |delivery: Delivery<u32>| {
            seen.add(&delivery);
            let go = Arc::clone(&go);
            async move {
                drop(go.acquire().await.unwrap());
                Outcome::Ack
            }
        });
        started.await.unwrap()
    };
    for n in 0..3 {
        published.publish(&n).await.unwrap();
    }
    until_stats(&published, "g", |stats| stats.in_flight == 3).await;
    published.pause("g").await.unwrap();
    sleep(LEASE).await;
    go.add_permits(10);
    until_stats(&published, "g", |stats| stats.pending == 1).await;
    ways.add(Rule::new(Injection::NotSent));
    // Handlers hang from now on.
    go.forget_permits(10);
    published.resume("g").await.unwrap();
    let others = Seen::default();
    let consumer = published.consumer("g").lease(LEASE);
    let retry = |_: &Delivery<u32>| Outcome::retry_after(Duration::from_millis(10), "not here");
    let worker = handle(consumer, &others, retry).await;
    until("the other has put it off", || worker.stats().retried == 1).await;
    worker.shutdown(LEASE).await;
    ways.clear();
    sleep(LEASE * 10).await;
    let attempts: Vec<_> = seen.all().into_iter().filter(|seen| seen.0 == 2).collect();
    assert_eq!(attempts, [(2, 3)]);
}

/// As after a process was stopped: its timers have not fired yet when it goes on.
#[tokio::test(start_paused = true)]
async fn an_owner_whose_lease_is_over_when_its_message_is_admitted_does_not_begin_it() {
    let (_, client, _) = two_ways();
    let (numbers, go) = (topic(&client), Arc::new(Semaphore::new(0)));
    let consumer = numbers.consumer("g").lease(LEASE).ordered();
    let consumer = consumer.admission(Arc::new(Closed(Arc::clone(&go))));
    let seen = Seen::default();
    let _worker = acknowledge(consumer, &seen).await;
    numbers.publish(&1).await.unwrap();
    until_stats(&numbers, "g", |stats| stats.in_flight == 1).await;
    go.add_permits(1);
    tokio::time::advance(2 * LEASE).await;
    until("it was handled", || seen.len() > 0).await;
    assert_eq!(seen.all(), [(1, 2)], "the owner that had it is an attempt");
}

static IS_SLOW: AtomicBool = AtomicBool::new(true);

/// It takes two leases to read it, once, for which its thread is blocked.
#[derive(Debug)]
struct Slow(u32);

impl<'de> Deserialize<'de> for Slow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(deserializer)?;
        if IS_SLOW.swap(false, Ordering::SeqCst) {
            // Its first poll moves the clock.
            let mut advance = pin!(tokio::time::advance(2 * LEASE));
            let _ = advance
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
        }
        Ok(Self(number))
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_lease_is_over_when_its_message_is_decoded_does_not_begin_it() {
    let (_, client, _) = two_ways();
    topic(&client).publish(&7).await.unwrap();
    let slow: Topic<Slow> = Topic::builder(&client, "t").build().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let _worker = {
        let seen = Arc::clone(&seen);
        let consumer = slow.consumer("g").lease(LEASE).ordered();
        let started = consumer.start(move |delivery: Delivery<Slow>| {
            seen.lock().push((delivery.payload.0, delivery.attempt));
            async { Outcome::Ack }
        });
        started.await.unwrap()
    };
    until("it was handled", || !seen.lock().is_empty()).await;
    assert_eq!(*seen.lock(), [(7, 2)]);
}

/// The owner's lease goes on by its own clock.
#[tokio::test(start_paused = true)]
async fn an_owner_of_which_the_server_knows_nothing_begins_nothing() {
    let (_, client, other) = two_ways();
    let (numbers, seen) = (topic(&client), Seen::default());
    let worker = acknowledge(numbers.consumer("g").ordered(), &seen).await;
    until("it owns the partition", || worker.stats().partitions == 1).await;
    let owner = client.keyspace("topic", "t").unwrap();
    let owner = owner.tagged_key("t.0", "owner", "g");
    let set = Command::new("SET").key(&owner).arg("another");
    other.call::<()>(set).await.unwrap();
    numbers.publish(&1).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(seen.len(), 0);
    assert_eq!(numbers.stats("g").await.unwrap().pending, 0);
}

fn of_kind(consumer: ConsumerBuilder<u32>, is_ordered: bool) -> ConsumerBuilder<u32> {
    match is_ordered {
        true => consumer.ordered(),
        false => consumer,
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_starts_while_the_server_is_away_consumes_when_it_is_back() {
    for is_ordered in [false, true] {
        let (ways, client, other) = two_ways();
        for fault in [
            Injection::NotSent,
            Injection::HangBefore,
            Injection::LoseReply,
        ] {
            let numbers = Topic::<u32>::builder(&client, format!("t-{}", ways.seen().len()))
                .partitions(3)
                .build()
                .unwrap();
            let published = Topic::<u32>::builder(&other, numbers.name()).partitions(3);
            let published = published.build().unwrap();
            ways.set(Rule::new(fault));
            let gaps = Arc::new(Mutex::new(Vec::<Gap>::new()));
            let consumer = {
                let gaps = Arc::clone(&gaps);
                numbers
                    .consumer("g")
                    .on_gap(move |gap| gaps.lock().push(gap))
            };
            let seen = Seen::default();
            let worker = acknowledge(of_kind(consumer, is_ordered), &seen).await;
            sleep(Duration::from_secs(120)).await;
            for n in 0..10 {
                published.publish(&n).await.unwrap();
            }
            ways.clear();
            let back = tokio::time::Instant::now();
            until("all came", || worker.stats().acknowledged == 10).await;
            assert!(back.elapsed() < Duration::from_secs(5), "{back:?}");
            assert_eq!(seen.sorted(), (0..10).collect::<Vec<_>>());
            assert!(gaps.lock().is_empty(), "nothing was lost");
            worker.shutdown(Duration::from_secs(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_from_now_begins_when_it_could_be_made() {
    let (ways, client, other) = two_ways();
    ways.set(Rule::new(Injection::NotSent));
    let seen = Seen::default();
    let _worker = acknowledge(topic(&client).consumer("g").from_now(), &seen).await;
    topic(&other).publish(&1).await.unwrap();
    ways.clear();
    sleep(Duration::from_secs(5)).await;
    topic(&other).publish(&2).await.unwrap();
    until("it came", || seen.len() == 1).await;
    assert_eq!(seen.payloads(), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_the_group_is_an_error() {
    let (ways, client, _) = two_ways();
    ways.set(Rule::new(Injection::Refuse(
        "NOPERM",
        "this user has no permissions to run 'xgroup|create'",
    )));
    let started = topic(&client)
        .consumer("g")
        .start(|_: Delivery<u32>| async { Outcome::Ack });
    let error = started.await.unwrap_err();
    assert!(error.to_string().contains("NOPERM"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_group_of_the_other_kind_is_consumed_by_nobody_who_started_while_the_server_was_away() {
    for is_ordered in [false, true] {
        let (ways, client, other) = two_ways();
        let others = of_kind(topic(&other).consumer("g"), !is_ordered);
        let others = acknowledge(others, &Seen::default()).await;
        others.shutdown(Duration::from_secs(1)).await;
        ways.set(Rule::new(Injection::NotSent));
        let seen = Seen::default();
        let consumer = of_kind(topic(&client).consumer("g"), is_ordered);
        let worker = handle(consumer, &seen, |_| Outcome::Ack).await;
        topic(&other).publish(&1).await.unwrap();
        ways.clear();
        sleep(Duration::from_secs(30)).await;
        assert_eq!(seen.len(), 0);
        let error = of_kind(topic(&client).consumer("g"), is_ordered)
            .start(|_: Delivery<u32>| async { Outcome::Ack })
            .await
            .unwrap_err();
        assert!(matches!(error, Error::GroupClash { .. }), "{error}");
        worker.shutdown(Duration::from_secs(1)).await;
    }
}
