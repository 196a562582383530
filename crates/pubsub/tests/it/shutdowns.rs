//! Programs that end: a worker is dropped, and its client is shut down right after, or before.

use std::sync::Arc;
use std::time::Duration;

use redkit_core::Client;
use redkit_embedded::Embedded;
use redkit_pubsub::Topic;
use redkit_pubsub::topic::Publication;
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::endings::{LEASE, MOMENT, check_all_is_done, consumer, gated, is_acknowledgement};
use crate::handling::{Seen, acknowledge, topic, until, until_stats};

/// A server whose clients may be shut down.
struct Site {
    engine: Embedded,
    backend: Arc<FaultyBackend>,
    began: Instant,
}

const EPOCH: Duration = Duration::from_secs(1_700_000_000);

impl Site {
    fn new() -> Self {
        let engine = Embedded::starting_at(EPOCH);
        Self {
            backend: FaultyBackend::new(Arc::new(engine.clone())),
            engine,
            began: Instant::now(),
        }
    }

    /// A client after the first one's shutdown, with which the engine ends: the data go on in another engine.
    fn next_client(&self) -> Client {
        let next = Embedded::starting_at(EPOCH + self.began.elapsed());
        next.restore(&self.engine.snapshot());
        FaultyBackend::new(Arc::new(next)).client()
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_shut_down_behind_a_dropped_worker_waits_for_its_outcomes() {
    let late = Injection::DelayReply(Duration::from_millis(300));
    for (is_ordered, fault) in [
        (false, late.clone()),
        (false, Injection::NotSent),
        (true, Injection::NotSent),
    ] {
        let told = format!("ordered: {is_ordered}, {fault:?}");
        let site = Site::new();
        let client = site.backend.client();
        let (numbers, go) = (topic(&client), Arc::new(Semaphore::new(0)));
        let worker = gated(consumer(&numbers, is_ordered), &go).await;
        let count = if is_ordered { 1 } else { 3 };
        for n in 0..count {
            numbers.publish(&n).await.unwrap();
        }
        until("all have begun", || {
            worker.stats().running == u64::from(count)
        })
        .await;
        site.backend
            .add(Rule::new(fault).on(is_acknowledgement).times(1));
        // One is under way, or is told again after a pause, and the others are behind it.
        go.add_permits(1);
        sleep(MOMENT).await;
        go.add_permits(2);
        sleep(MOMENT).await;
        assert_eq!(worker.stats().running, 0, "{told}");
        drop(worker);
        client.shutdown().await;
        check_all_is_done(&topic(&site.next_client()), is_ordered, &told).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_to_a_dropped_worker_goes_back_before_its_client_is_shut_down() {
    let site = Site::new();
    let client = site.backend.client();
    let late = Injection::DelayReply(Duration::from_millis(300));
    site.backend.add(Rule::new(late).on_name("XREADGROUP"));
    let worker = acknowledge(consumer(&topic(&client), false), &Seen::default()).await;
    topic(&client).publish(&1).await.unwrap();
    until_stats(&topic(&client), "g", |stats| stats.in_flight == 1).await;
    drop(worker);
    client.shutdown().await;
    let (next, seen) = (site.next_client(), Seen::default());
    let began = Instant::now();
    let _worker = acknowledge(consumer(&topic(&next), false), &seen).await;
    until("it was handled", || seen.len() == 1).await;
    assert_eq!(seen.all(), [(1, 1)]);
    assert!(began.elapsed() < LEASE, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_shut_down_waits_a_second_for_a_worker_whose_server_is_away() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let (topic, go) = (topic(&client), Arc::new(Semaphore::new(0)));
    let worker = gated(consumer(&topic, false), &go).await;
    topic.publish(&1).await.unwrap();
    until("it has begun", || worker.stats().running == 1).await;
    backend.add(Rule::new(Injection::NotSent));
    go.add_permits(1);
    sleep(MOMENT).await;
    let began = Instant::now();
    drop(worker);
    client.shutdown().await;
    let took = began.elapsed();
    let second = Duration::from_millis(900)..Duration::from_millis(1_500);
    assert!(second.contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_a_client_which_is_shut_down_cannot_tell_is_neither_refused_nor_lost() {
    for is_ordered in [true, false] {
        let backend = FaultyBackend::embedded();
        let client = backend.client();
        let (topic, go) = (topic(&client), Arc::new(Semaphore::new(0)));
        let worker = gated(consumer(&topic, is_ordered), &go).await;
        topic.publish(&1).await.unwrap();
        until("it has begun", || worker.stats().running == 1).await;
        backend.add(Rule::new(Injection::NotSent).on(is_acknowledgement));
        go.add_permits(1);
        sleep(MOMENT).await;
        client.shutdown().await;
        sleep(LEASE / 10).await;
        let stats = worker.stats();
        let is_held = u64::from(!is_ordered);
        assert_eq!(
            (stats.lost, stats.held, stats.acknowledged),
            (0, is_held, 0),
            "ordered: {is_ordered}"
        );
    }
}

redkit_testkit::suite! {
    /// More than one call acknowledges: those behind the first are told before the client is shut down.
    #[networked]
    async fn a_program_that_drops_its_worker_and_shuts_its_client_down_has_acknowledged_what_it_handled(fixture: Fixture) {
        const COUNT: u32 = 250;
        for attempt in 0..20 {
            let client = fixture.connect(fixture.config().unwrap()).await.unwrap();
            let numbers = |client: &Client| {
                Topic::<u32>::builder(client, format!("numbers-{attempt}")).build().unwrap()
            };
            let (topic, go) = (numbers(&client), Arc::new(Semaphore::new(0)));
            let worker = gated(topic.consumer("g").concurrency(COUNT as usize), &go).await;
            let all: Vec<u32> = (0..COUNT).collect();
            let published = topic.publish_batch(all.iter().map(|n| (n, Publication::new()))).await;
            assert!(published.unwrap().iter().all(Result::is_ok));
            until("all have begun", || worker.stats().running == u64::from(COUNT)).await;
            go.add_permits(all.len());
            while worker.stats().running > 0 {
                tokio::task::yield_now().await;
            }
            drop(worker);
            let began = Instant::now();
            client.shutdown().await;
            let took = began.elapsed();
            let length = numbers(&fixture.client).stats("g").await.unwrap().length;
            // The shutdown waits a second: when this machine stood still for it, another attempt tells.
            if length == 0 || took < Duration::from_millis(700) {
                assert_eq!(length, 0, "{took:?}");
                return;
            }
        }
        panic!("each shutdown took a second");
    }
}
