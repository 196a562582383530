//! Workers that end while something is under way, in virtual time: what their handlers have done is acknowledged, and
//! what is on its way to them costs no attempt.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_core::{Client, Command, Value};
use redkit_embedded::Embedded;
use redkit_pubsub::ItemId;
use redkit_pubsub::topic::{ConsumerBuilder, Delivery, Outcome, Topic, Worker};
use redkit_testkit::{FaultyBackend, Injection, Rule};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::handling::{Seen, acknowledge, topic, until, until_stats};

pub(crate) const LEASE: Duration = Duration::from_secs(1);
pub(crate) const MOMENT: Duration = Duration::from_millis(10);

pub(crate) fn is_acknowledgement(command: &Command) -> bool {
    command.iter().any(|arg| arg == b"queue")
}

pub(crate) fn consumer(topic: &Topic<u32>, is_ordered: bool) -> ConsumerBuilder<u32> {
    let consumer = topic.consumer("g").lease(LEASE);
    match is_ordered {
        true => consumer.ordered(),
        false => consumer.concurrency(3),
    }
}

/// A worker whose handlers wait for the gate.
pub(crate) async fn gated(consumer: ConsumerBuilder<u32>, go: &Arc<Semaphore>) -> Worker {
    answering(consumer, go, Outcome::Ack).await
}

/// A worker whose handlers wait for the gate, and have this outcome then.
async fn answering(
    consumer: ConsumerBuilder<u32>,
    go: &Arc<Semaphore>,
    outcome: Outcome,
) -> Worker {
    let go = Arc::clone(go);
    let started = consumer.start(move |_: Delivery<u32>| {
        let (go, outcome) = (Arc::clone(&go), outcome.clone());
        async move {
            go.acquire().await.unwrap().forget();
            outcome
        }
    });
    started.await.unwrap()
}

/// Ends a worker in one of the ways.
async fn end(worker: Worker, is_dropped: bool) {
    match is_dropped {
        true => drop(worker),
        false => worker.shutdown(Duration::ZERO).await,
    }
}

/// Another worker is given nothing, and there is nothing.
pub(crate) async fn check_all_is_done(topic: &Topic<u32>, is_ordered: bool, told: &str) {
    let seen = Seen::default();
    let _worker = acknowledge(consumer(topic, is_ordered), &seen).await;
    sleep(10 * LEASE).await;
    assert_eq!(seen.all(), [], "{told}");
    assert_eq!(topic.stats("g").await.unwrap().length, 0, "{told}");
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_whose_script_the_server_has_forgotten_is_told_to_the_end() {
    for (is_ordered, is_dropped) in [(true, true), (true, false), (false, true), (false, false)] {
        let told = format!("ordered: {is_ordered}, dropped: {is_dropped}");
        let backend = FaultyBackend::embedded();
        let client = backend.client();
        let (topic, go) = (topic(&client), Arc::new(Semaphore::new(0)));
        let worker = gated(consumer(&topic, is_ordered), &go).await;
        topic.publish(&1).await.unwrap();
        until("it has begun", || worker.stats().running == 1).await;
        let flush = Command::new("SCRIPT").arg("FLUSH");
        client.call::<Value>(flush).await.unwrap();
        // The answer is that there is no such script.
        let late = Injection::DelayReply(Duration::from_millis(300));
        backend.add(Rule::new(late).on(is_acknowledgement).times(1));
        go.add_permits(1);
        sleep(MOMENT).await;
        assert_eq!(worker.stats().running, 0);
        end(worker, is_dropped).await;
        check_all_is_done(&topic, is_ordered, &told).await;
    }
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_behind_one_that_is_under_way_are_told_to_the_end() {
    for is_dropped in [true, false] {
        let backend = FaultyBackend::embedded();
        let client = backend.client();
        let (topic, go) = (topic(&client), Arc::new(Semaphore::new(0)));
        let worker = gated(consumer(&topic, false), &go).await;
        for n in 0..3 {
            topic.publish(&n).await.unwrap();
        }
        until("all have begun", || worker.stats().running == 3).await;
        let late = Injection::DelayReply(Duration::from_millis(300));
        backend.add(Rule::new(late).on(is_acknowledgement).times(1));
        go.add_permits(1);
        sleep(MOMENT).await;
        go.add_permits(2);
        sleep(MOMENT).await;
        assert_eq!(worker.stats().running, 0);
        end(worker, is_dropped).await;
        check_all_is_done(&topic, false, &format!("dropped: {is_dropped}")).await;
    }
}

/// What is to become of a message whose handler has failed, for good or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    Once,
    ForGood,
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_is_under_way_is_told_to_the_end() {
    let ways = [(true, true), (true, false), (false, true), (false, false)];
    let all = ways.map(|way| [(way, Failed::Once), (way, Failed::ForGood)]);
    for ((is_ordered, is_dropped), failed) in all.into_iter().flatten() {
        let told = format!("ordered: {is_ordered}, dropped: {is_dropped}, {failed:?}");
        let backend = FaultyBackend::embedded();
        let client = backend.client();
        let (topic, go) = (topic(&client), Arc::new(Semaphore::new(0)));
        let outcome = match failed {
            Failed::Once => Outcome::retry("not yet"),
            Failed::ForGood => Outcome::dead("no use"),
        };
        let worker = answering(consumer(&topic, is_ordered), &go, outcome).await;
        topic.publish(&1).await.unwrap();
        until("it has begun", || worker.stats().running == 1).await;
        // It is told again after a pause.
        let fails = Rule::new(Injection::NotSent).on(|command| command.name().starts_with("EVAL"));
        backend.add(fails.times(1));
        go.add_permits(1);
        sleep(MOMENT).await;
        assert_eq!(worker.stats().running, 0, "{told}");
        end(worker, is_dropped).await;
        let seen = Seen::default();
        let _worker = acknowledge(consumer(&topic, is_ordered), &seen).await;
        sleep(60 * LEASE).await;
        let (expected, dead) = match failed {
            Failed::Once => (vec![(1, 2)], 0),
            Failed::ForGood => (Vec::new(), 1),
        };
        let stats = topic.stats("g").await.unwrap();
        assert_eq!((seen.all(), stats.dead), (expected, dead), "{told}");
    }
}

/// A worker whose handler drops the worker, and has this outcome right then.
async fn dropped_by_its_handler(
    consumer: ConsumerBuilder<u32>,
    seen: &Seen,
    outcome: Outcome,
    is_slow: bool,
) -> Arc<Mutex<Option<Worker>>> {
    let worker = Arc::new(Mutex::new(None));
    let (itself, seen) = (Arc::clone(&worker), seen.clone());
    let started = consumer.start(move |delivery: Delivery<u32>| {
        let (itself, outcome) = (Arc::clone(&itself), outcome.clone());
        seen.add(&delivery);
        async move {
            if is_slow {
                sleep(MOMENT).await;
            }
            let worker = itself.lock().take();
            drop(worker);
            outcome
        }
    });
    *worker.lock() = Some(started.await.unwrap());
    worker
}

fn names_an_entry(command: &Command) -> bool {
    let is_entry =
        |arg: &[u8]| std::str::from_utf8(arg).is_ok_and(|arg| arg.parse::<ItemId>().is_ok());
    command.iter().any(is_entry)
}

/// As when another thread drops it between the end of the handler and the first word of it.
#[tokio::test(start_paused = true)]
async fn what_a_handler_says_at_the_moment_of_the_drop_is_told() {
    let outcomes = [
        (Outcome::Ack, vec![(1, 1)], 0),
        (Outcome::HandBack, vec![(1, 1), (1, 1)], 0),
        (Outcome::retry("not yet"), vec![(1, 1), (1, 2)], 0),
        (Outcome::dead("no use"), vec![(1, 1)], 1),
    ];
    for (is_ordered, is_slow) in [(true, true), (true, false), (false, true), (false, false)] {
        for (outcome, expected, dead) in outcomes.clone() {
            let told = format!("ordered: {is_ordered}, slow: {is_slow}, {outcome:?}");
            let backend = FaultyBackend::embedded();
            let topic = topic(&backend.client());
            if is_ordered {
                // Behind what gives the partition up, had the drop sent that.
                let late = Injection::DelayRequest(MOMENT);
                backend.add(Rule::new(late).on(names_an_entry));
            }
            let seen = Seen::default();
            let consumer = consumer(&topic, is_ordered);
            let worker = dropped_by_its_handler(consumer, &seen, outcome, is_slow).await;
            topic.publish(&1).await.unwrap();
            until("it was dropped", || worker.lock().is_none()).await;
            let _worker = acknowledge(self::consumer(&topic, is_ordered), &seen).await;
            sleep(60 * LEASE).await;
            let stats = topic.stats("g").await.unwrap();
            assert_eq!((seen.all(), stats.dead), (expected, dead), "{told}");
        }
    }
}

/// A handler that is dropped with its worker has no outcome: what it had goes back without waiting for a lease.
#[tokio::test(start_paused = true)]
async fn what_a_dropped_worker_was_handling_goes_back_at_once() {
    for is_ordered in [true, false] {
        let (ways, client, other) = two_ways();
        let (topic, go) = (topic(&other), Arc::new(Semaphore::new(0)));
        // Its reader waits for a reply for longer than that.
        let late = Injection::DelayReply(2 * LEASE);
        ways.add(Rule::new(late).on_name("XREADGROUP").skip(1));
        let worker = gated(consumer(&crate::handling::topic(&client), is_ordered), &go).await;
        topic.publish(&1).await.unwrap();
        until("it has begun", || worker.stats().running == 1).await;
        drop(worker);
        let began = Instant::now();
        let seen = Seen::default();
        let _worker = acknowledge(consumer(&topic, is_ordered), &seen).await;
        until("it was handled", || seen.len() == 1).await;
        assert_eq!(seen.all(), [(1, 1)]);
        assert!(began.elapsed() < LEASE, "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_grace_without_an_end_waits_for_the_handlers() {
    for is_ordered in [true, false] {
        let client = FaultyBackend::embedded().client();
        let (topic, go) = (topic(&client), Arc::new(Semaphore::new(0)));
        let worker = gated(consumer(&topic, is_ordered), &go).await;
        topic.publish(&1).await.unwrap();
        until("it has begun", || worker.stats().running == 1).await;
        let later = async {
            sleep(5 * LEASE).await;
            go.add_permits(1);
        };
        tokio::join!(worker.shutdown(Duration::MAX), later);
        check_all_is_done(&topic, is_ordered, &format!("ordered: {is_ordered}")).await;
    }
}

/// Two ways to one server: the calls of the first can be made to fail.
fn two_ways() -> (Arc<FaultyBackend>, Client, Client) {
    let engine = Arc::new(Embedded::new());
    let ways = FaultyBackend::new(Arc::clone(&engine) as _);
    let other = FaultyBackend::new(engine);
    let (first, second) = (ways.client(), other.client());
    (ways, first, second)
}

/// What became of a message that was read when the reply is late by two leases, while its reader stays or ends. It is
/// published so long after its reader's start, by which the heartbeats are before or after the other's looks for the dead.
async fn read_late(ends: Option<bool>, after: Duration) -> Vec<(u32, u32)> {
    let (ways, client, other) = two_ways();
    let late = Injection::DelayReply(2 * LEASE);
    ways.add(Rule::new(late).on_name("XREADGROUP"));
    let seen = Seen::default();
    let first = acknowledge(consumer(&topic(&client), false), &seen).await;
    sleep(after).await;
    topic(&other).publish(&1).await.unwrap();
    until_stats(&topic(&other), "g", |stats| stats.in_flight == 1).await;
    sleep(LEASE / 10).await;
    let _second = acknowledge(consumer(&topic(&other), false), &seen).await;
    let _first = match ends {
        Some(is_dropped) => {
            end(first, is_dropped).await;
            None
        }
        None => Some(first),
    };
    sleep(10 * LEASE).await;
    assert_eq!(topic(&other).stats("g").await.unwrap().length, 0);
    seen.all()
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_reply_is_later_than_a_lease_costs_no_attempt() {
    for ends in [None, Some(true), Some(false)] {
        for tenths in 0..5 {
            let seen = read_late(ends, LEASE * tenths / 10).await;
            assert_eq!(seen, [(1, 1)], "dropped: {ends:?}, after {tenths} tenths");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_is_dropped_gives_back_what_the_worker_had() {
    for is_ordered in [true, false] {
        let client = FaultyBackend::embedded().client();
        let (topic, go) = (topic(&client), Arc::new(Semaphore::new(0)));
        let worker = gated(consumer(&topic, is_ordered), &go).await;
        topic.publish(&1).await.unwrap();
        until("it has begun", || worker.stats().running == 1).await;
        let began = Instant::now();
        let shutdown = worker.shutdown(Duration::from_secs(60));
        tokio::time::timeout(MOMENT, shutdown).await.unwrap_err();
        let seen = Seen::default();
        let _worker = acknowledge(consumer(&topic, is_ordered), &seen).await;
        until("it was handled", || seen.len() == 1).await;
        assert_eq!(seen.all(), [(1, 1)]);
        assert!(began.elapsed() < LEASE, "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_server_does_not_answer_ends_soon_after_its_grace() {
    for is_ordered in [true, false] {
        let (ways, client, other) = two_ways();
        let go = Arc::new(Semaphore::new(0));
        let worker = gated(consumer(&topic(&client), is_ordered), &go).await;
        topic(&other).publish(&1).await.unwrap();
        until("it has begun", || worker.stats().running == 1).await;
        ways.add(Rule::new(Injection::HangBefore));
        go.add_permits(1);
        sleep(MOMENT).await;
        let began = Instant::now();
        worker.shutdown(Duration::from_secs(1)).await;
        assert!(
            began.elapsed() < Duration::from_secs(7),
            "{:?}",
            began.elapsed()
        );
    }
}
