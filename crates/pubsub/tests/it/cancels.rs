//! Delayed messages that are cancelled.

use std::sync::Arc;
use std::time::Duration;

use redkit_core::ClientConfig;
use redkit_pubsub::topic::{Deduplication, Publication, PublishOutcome};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};
use tokio::time::sleep;

use crate::handling::{Seen, acknowledge, builder, topic, until};

const MS: Duration = Duration::from_millis(1);

fn delayed(id: &str, delay: Duration) -> Publication {
    Publication::new().id(id).delay(delay)
}

redkit_testkit::suite! {
    async fn a_message_that_is_cancelled_is_not_delivered(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("g"), &seen).await;
        for (n, id) in [(1, "a"), (2, "b")] {
            topic.publish_with(&n, delayed(id, 300 * MS)).await.unwrap();
        }
        assert!(topic.cancel("a", "").await.unwrap());
        assert!(!topic.cancel("a", "").await.unwrap(), "it was cancelled before");
        assert!(!topic.cancel("none", "").await.unwrap(), "there never was one");
        until("the other is delivered", || seen.len() == 1).await;
        assert!(!topic.cancel("b", "").await.unwrap(), "it was delivered");
        sleep(100 * MS).await;
        assert_eq!(seen.payloads(), [2]);
        let stats = topic.stats("g").await.unwrap();
        assert_eq!(stats.delayed, 0);
    }

    async fn an_id_that_was_cancelled_can_be_published_again(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("g"), &seen).await;
        for (n, mode) in (0..).zip([
            Deduplication::For(Duration::from_secs(60)),
            Deduplication::UntilDone,
            Deduplication::KeepLast,
            Deduplication::Debounce,
        ]) {
            let id = format!("{mode:?}");
            let publication = |delay| delayed(&id, delay).deduplicate(mode);
            topic.publish_with(&(100 + n), publication(Duration::from_secs(9))).await.unwrap();
            assert!(topic.cancel(&id, "").await.unwrap(), "{id}");
            let again = topic.publish_with(&n, publication(MS)).await.unwrap();
            assert_eq!(again.outcome, PublishOutcome::New, "{id}");
        }
        until("all are delivered", || seen.len() == 4).await;
        assert_eq!(seen.sorted(), [0, 1, 2, 3]);
    }

    async fn the_id_of_a_debounced_message_that_was_cancelled_is_known_no_more_whatever_it_replaced(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let _worker = acknowledge(topic.consumer("g"), &Seen::default()).await;
        for mode in [Deduplication::For(Duration::from_secs(60)), Deduplication::UntilDone, Deduplication::KeepLast] {
            let id = format!("{mode:?}");
            let publish = async |mode| {
                let publication = delayed(&id, Duration::from_secs(9)).deduplicate(mode);
                topic.publish_with(&0, publication).await.unwrap().outcome
            };
            assert_eq!(publish(mode).await, PublishOutcome::New, "{id}");
            assert_eq!(publish(Deduplication::Debounce).await, PublishOutcome::Replaced, "{id}");
            assert!(topic.cancel(&id, "").await.unwrap(), "{id}");
            assert_eq!(publish(mode).await, PublishOutcome::New, "{id}");
        }
    }

    async fn a_message_is_found_by_its_key_in_its_partition(fixture: Fixture) {
        let topic = builder(&fixture.client).partitions(8).build().unwrap();
        for n in 0..8_u32 {
            let publication = delayed("a", Duration::from_secs(60)).key(format!("k{n}"));
            topic.publish_with(&n, publication).await.unwrap();
            assert!(topic.cancel("a", format!("k{n}")).await.unwrap(), "{n}");
        }
        assert_eq!(topic.stats("g").await.unwrap().delayed, 0);
    }

    /// What is due just now is moved by workers.
    async fn a_message_is_cancelled_or_delivered_and_never_both(fixture: Fixture) {
        const MESSAGES: u32 = 60;
        let topic = topic(&fixture.client);
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("g").concurrency(8), &seen).await;
        for n in 0..MESSAGES {
            let at = (100 + 5 * n) * MS;
            topic.publish_with(&n, delayed(&n.to_string(), at)).await.unwrap();
        }
        let mut kept: Vec<u32> = Vec::new();
        for n in 0..MESSAGES {
            if !topic.cancel(&n.to_string(), "").await.unwrap() {
                kept.push(n);
            }
            sleep(4 * MS).await;
        }
        until("the others are delivered", || seen.len() >= kept.len()).await;
        sleep(600 * MS).await;
        assert_eq!(seen.sorted(), kept);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_whose_reply_is_lost_is_told_as_one() {
    let backend = FaultyBackend::embedded();
    let topic = topic(&backend.client_with(&ClientConfig::default()));
    topic
        .publish_with(&1, delayed("a", Duration::from_secs(60)))
        .await
        .unwrap();
    // The script is known.
    assert!(!topic.cancel("none", "").await.unwrap());
    let lose = Rule::new(Injection::LoseReply).on_part(":cancelled:");
    backend.add(lose.times(1));
    assert!(topic.cancel("a", "").await.unwrap());
    assert!(!topic.cancel("a", "").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_message_is_cancelled_though_the_server_is_full() {
    let engine = Arc::new(redkit_embedded::Embedded::new());
    let backend = FaultyBackend::new(Arc::clone(&engine) as _);
    let topic = topic(&backend.client());
    let reminder = delayed("a", Duration::from_secs(60));
    topic.publish_with(&1, reminder).await.unwrap();
    engine.set_full(true);
    assert!(topic.cancel("a", "").await.unwrap());
}
