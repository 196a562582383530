//! Outcomes that the server is told twice, or refuses.

use std::time::Duration;

use redkit_core::Command;
use redkit_pubsub::topic::Outcome;
use redkit_testkit::{FaultyBackend, Injection, Rule};
use tokio::time::sleep;

use crate::handling::{Seen, handle, topic, until};
use crate::lost_replies::is_release;

#[tokio::test(start_paused = true)]
async fn an_outcome_that_was_told_twice_is_counted_as_done() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let topic = topic(&client);
    let consumer = topic.consumer("g").concurrency(4).max_attempts(3);
    let worker = handle(consumer, &Seen::default(), |delivery| {
        match (delivery.payload, delivery.attempt) {
            (1, 1) => Outcome::retry_after(Duration::from_secs(5), "not yet"),
            (2, _) => Outcome::dead("never"),
            _ => Outcome::Ack,
        }
    })
    .await;
    let round = async || {
        for n in 0..3 {
            topic.publish(&n).await.unwrap();
        }
        sleep(Duration::from_secs(20)).await;
    };
    // The server knows the scripts then.
    round().await;
    let done = |rounds: u64| (2 * rounds, rounds, rounds, 0);
    let counted = || {
        let stats = worker.stats();
        (stats.acknowledged, stats.retried, stats.dead, stats.lost)
    };
    assert_eq!(counted(), done(1));
    let is_outcome = |command: &Command| {
        let is_ack = command.iter().any(|arg| arg == b"queue");
        is_ack || is_release(command)
    };
    backend.add(Rule::new(Injection::LoseReply).on(is_outcome).times(6));
    round().await;
    assert_eq!(counted(), done(2));
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_the_server_refuses_is_an_attempt_with_the_longest_pause() {
    for is_ordered in [false, true] {
        let backend = FaultyBackend::embedded();
        let client = backend.client();
        let topic = topic(&client);
        let refuse = Injection::Refuse("NOPERM", "this user has no permissions to run 'xadd'");
        let is_burial = |command: &Command| command.iter().any(|arg| arg == b"poison");
        backend.add(Rule::new(refuse).on(is_burial));
        let seen = Seen::default();
        let consumer = topic.consumer("g").lease(Duration::from_secs(5));
        let consumer = consumer.backoff(Duration::from_millis(10), Duration::from_secs(60));
        let consumer = match is_ordered {
            true => consumer.ordered(),
            false => consumer,
        };
        let worker = handle(consumer, &seen, |_| Outcome::dead("poison")).await;
        topic.publish(&1).await.unwrap();
        sleep(Duration::from_secs(30)).await;
        let what = "it is not handled again after each lease";
        assert_eq!(seen.all(), [(1, 1)], "{what}, ordered: {is_ordered}");
        assert_eq!((worker.stats().retried, worker.stats().lost), (1, 0));
        sleep(Duration::from_secs(65)).await;
        assert_eq!(seen.all(), [(1, 1), (1, 2)], "its attempts are counted");
        backend.clear();
        until("it is buried", || worker.stats().dead == 1).await;
    }
}

/// The server counts the attempts, whoever owns the partition.
#[tokio::test(start_paused = true)]
async fn an_outcome_that_the_server_refuses_uses_one_attempt_of_an_ordered_group_over_owners() {
    let backend = FaultyBackend::embedded();
    let topic = topic(&backend.client());
    let refuse = Injection::Refuse("NOPERM", "this user has no permissions to run 'xadd'");
    let is_burial = |command: &Command| command.iter().any(|arg| arg == b"poison");
    backend.add(Rule::new(refuse).on(is_burial));
    let seen = Seen::default();
    topic.publish(&1).await.unwrap();
    for attempt in 1..=3 {
        let worker = handle(topic.consumer("g").ordered(), &seen, |_| {
            Outcome::dead("poison")
        })
        .await;
        until("it was handled", || seen.len() == attempt).await;
        until("it was refused", || worker.stats().retried == 1).await;
        sleep(Duration::from_secs(1)).await;
        worker.shutdown(Duration::from_secs(1)).await;
    }
    assert_eq!(seen.all(), [(1, 1), (1, 2), (1, 3)]);
}

/// The call by which an owner counts a failed attempt: it names the entry, the next attempt and the owner's token.
fn is_attempt(command: &Command) -> bool {
    let mut args = command.iter().skip_while(|arg| *arg != b"ordered").skip(1);
    let entry = args.next().unwrap_or_default();
    entry.contains(&b'-') && args.count() == 2
}

/// Whatever the server refuses: each way costs one handling in the longest pause, and not one after the other.
#[tokio::test(start_paused = true)]
async fn an_owner_tries_again_after_the_longest_pause_when_the_server_refuses() {
    for is_acknowledged in [true, false] {
        let backend = FaultyBackend::embedded();
        let topic = topic(&backend.client());
        let seen = Seen::default();
        let consumer = topic.consumer("g").ordered();
        let consumer = consumer.backoff(Duration::from_millis(10), Duration::from_secs(60));
        let worker = handle(consumer, &seen, move |delivery| {
            match delivery.payload == 0 || is_acknowledged {
                true => Outcome::Ack,
                false => Outcome::retry("not yet"),
            }
        });
        let worker = worker.await;
        topic.publish(&0).await.unwrap();
        until("it works", || worker.stats().acknowledged == 1).await;
        // The acknowledgement, or else the attempt that is noted.
        let is_refused = move |command: &Command| match is_acknowledged {
            true => command.iter().any(|arg| arg == b"queue"),
            false => is_attempt(command),
        };
        let refuse = Injection::Refuse("NOPERM", "this user has no permissions to run a command");
        backend.add(Rule::new(refuse).on(is_refused));
        topic.publish(&1).await.unwrap();
        sleep(Duration::from_secs(30)).await;
        let what = "it waits for the longest pause";
        assert_eq!(seen.all(), [(0, 1), (1, 1)], "{what}: {is_acknowledged}");
        sleep(Duration::from_secs(65)).await;
        assert_eq!(seen.all(), [(0, 1), (1, 1), (1, 2)]);
        assert_eq!(worker.stats().acknowledged, 1);
    }
}
