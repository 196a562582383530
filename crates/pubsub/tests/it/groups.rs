//! Groups that are made ahead of their workers.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_core::Command;
use redkit_pubsub::Error;
use redkit_pubsub::topic::{CreatedGroup, Gap, GapReason, Publication, Topic};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};
use tokio::time::Instant;

use crate::handling::{Seen, acknowledge, builder, until, until_stats};

fn topic(fixture: &Fixture) -> Topic<u32> {
    builder(&fixture.client).partitions(4).build().unwrap()
}

async fn publish(topic: &Topic<u32>, range: std::ops::Range<u32>) {
    for n in range {
        let publication = Publication::new().key(format!("key-{n}"));
        topic.publish_with(&n, publication).await.unwrap();
    }
}

redkit_testkit::suite! {
    async fn a_group_that_is_created_first_has_what_other_groups_are_done_with(fixture: Fixture) {
        let topic = topic(&fixture);
        let later = || topic.consumer("later");
        let created = later().create_group().await.unwrap();
        assert_eq!((&*created.new, created.is_lost()), (&[0, 1, 2, 3][..], false));
        assert_eq!(later().create_group().await.unwrap(), CreatedGroup::default(), "it is there");
        let seen = Seen::default();
        let _first = acknowledge(topic.consumer("first"), &seen).await;
        publish(&topic, 0..40).await;
        until("the first group has all", || seen.len() == 40).await;
        until_stats(&topic, "first", |stats| stats.pending == 0 && stats.lag == Some(0)).await;
        assert_eq!(later().create_group().await.unwrap(), CreatedGroup::default());
        let seen = Seen::default();
        let worker = acknowledge(later(), &seen).await;
        until("the later group has all", || worker.stats().acknowledged == 40).await;
        assert_eq!(seen.sorted(), (0..40).collect::<Vec<_>>());
        until_stats(&topic, "later", |stats| stats.length == 0).await;
    }

    async fn a_group_that_is_created_from_now_has_what_is_published_then(fixture: Fixture) {
        let topic = topic(&fixture);
        publish(&topic, 0..20).await;
        assert!(topic.consumer("g").from_now().create_group().await.unwrap().is_new());
        publish(&topic, 20..40).await;
        let seen = Seen::default();
        let worker = acknowledge(topic.consumer("g"), &seen).await;
        until("it has all", || worker.stats().acknowledged == 20).await;
        assert_eq!(seen.sorted(), (20..40).collect::<Vec<_>>());
    }

    async fn a_group_is_created_in_one_way_ordered_or_not(fixture: Fixture) {
        let topic = topic(&fixture);
        topic.consumer("shared").create_group().await.unwrap();
        topic.consumer("ordered").ordered().create_group().await.unwrap();
        let clashes = [topic.consumer("shared").ordered(), topic.consumer("ordered")];
        for consumer in clashes {
            let error = consumer.create_group().await.unwrap_err();
            assert!(matches!(error, Error::GroupClash { .. }), "{error}");
            let error = consumer.start(|_| async { redkit_pubsub::topic::Outcome::Ack }).await.unwrap_err();
            assert!(matches!(error, Error::GroupClash { .. }), "{error}");
        }
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("ordered").ordered(), &seen).await;
        publish(&topic, 0..10).await;
        until("it has all", || seen.len() == 10).await;
        let error = topic.consumer("").create_group().await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }

    async fn a_group_that_was_lost_is_left_to_its_workers_which_are_told(fixture: Fixture) {
        let topic = topic(&fixture);
        assert!(topic.consumer("g").create_group().await.unwrap().is_new());
        let stream = fixture.client.keyspace("topic", "t").unwrap().key("t.2");
        assert_eq!(fixture.client.call::<u64>(Command::new("DEL").key(&stream)).await.unwrap(), 1);
        for _ in 0..2 {
            let created = topic.consumer("g").create_group().await.unwrap();
            assert_eq!((created.is_new(), &*created.lost), (false, &[2][..]));
        }
        let gaps = Arc::new(Mutex::new(Vec::new()));
        let consumer = {
            let gaps = Arc::clone(&gaps);
            topic.consumer("g").on_gap(move |gap| gaps.lock().push(gap))
        };
        let seen = Seen::default();
        let worker = acknowledge(consumer, &seen).await;
        publish(&topic, 0..40).await;
        until("it has all", || seen.len() == 40).await;
        worker.shutdown(Duration::from_secs(5)).await;
        let gaps: Vec<Gap> = gaps.lock().clone();
        assert!(matches!(&gaps[..], [Gap { partition: 2, reason: GapReason::GroupLost, .. }]), "{gaps:?}");
        // A group that was deleted is none that was lost.
        assert!(topic.delete_group("g").await.unwrap());
        let created = topic.consumer("g").create_group().await.unwrap();
        assert_eq!((&*created.new, created.is_lost()), (&[0, 1, 2, 3][..], false));
    }

    async fn a_group_of_the_other_kind_is_made_in_no_partition_that_does_not_know_it(fixture: Fixture) {
        let topic = topic(&fixture);
        topic.consumer("g").ordered().create_group().await.unwrap();
        let keys = fixture.client.keyspace("topic", "t").unwrap();
        let of_first = [keys.key("t.0"), keys.role_key("t.0", "state")];
        for key in &of_first {
            assert_eq!(fixture.client.call::<u64>(Command::new("DEL").key(key)).await.unwrap(), 1);
        }
        let error = topic.consumer("g").create_group().await.unwrap_err();
        assert!(matches!(error, Error::GroupClash { .. }), "{error}");
        for key in &of_first {
            assert_eq!(fixture.client.call::<u64>(Command::new("EXISTS").key(key)).await.unwrap(), 0);
        }
        let created = topic.consumer("g").ordered().create_group().await.unwrap();
        assert_eq!((&*created.new, created.is_lost()), (&[0][..], false));
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_of_many_partitions_is_created_in_two_round_trips() {
    let backend = FaultyBackend::embedded();
    let topic = builder(&backend.client()).partitions(64).build().unwrap();
    // The server has the script from now on.
    topic.consumer("earlier").create_group().await.unwrap();
    let second = Duration::from_secs(1);
    backend.add(Rule::new(Injection::DelayReply(second)));
    let began = Instant::now();
    let created = topic.consumer("g").create_group().await.unwrap();
    assert_eq!(created.new, (0..64).collect::<Vec<_>>());
    assert!(began.elapsed() < 3 * second, "{:?}", began.elapsed());
}
