//! What is known of a message by its id: for how long, and which message a later one replaces or waits behind.

use std::time::{Duration, SystemTime};

use redkit_core::Command;
use redkit_pubsub::Error;
use redkit_pubsub::topic::{
    Deduplication, Delivery, Outcome, Publication, PublishOutcome, Published,
};
use redkit_testkit::Fixture;

use crate::handling::{Seen, acknowledge, topic, until, until_stats};
use crate::topics::{call, with_id};

#[track_caller]
fn publish_and_expect(published: Result<Published, Error>, outcome: PublishOutcome) {
    assert_eq!(published.unwrap().outcome, outcome);
}
redkit_testkit::suite! {
    async fn an_id_that_is_known_gives_the_first_entry_again(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let first = topic.publish_with(&1, with_id("a")).await.unwrap();
        let again = topic.publish_with(&2, with_id("a")).await.unwrap();
        assert_eq!((first.outcome, again.outcome), (PublishOutcome::New, PublishOutcome::Known));
        assert!(first.entry.is_some() && first.entry == again.entry);
        let batch = [with_id("a"), with_id("b"), with_id("b"), Publication::new()];
        let batch = topic.publish_batch(batch.into_iter().map(|publication| (&3, publication))).await.unwrap();
        let outcomes: Vec<_> = batch.into_iter().map(|published| published.unwrap().outcome).collect();
        use PublishOutcome::{Known, New};
        assert_eq!(outcomes, [Known, New, Known, New]);
        assert_eq!(topic.stats("none").await.unwrap().length, 3);
    }

    async fn a_message_that_waits_is_known_whatever_became_of_its_record(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let waits = Publication::new().id("a").delay(Duration::from_secs(60));
        assert_eq!(topic.publish_with(&1, waits).await.unwrap().outcome, PublishOutcome::New);
        let record = fixture.client.keyspace("topic", "t").unwrap().tagged_key("t.0", "id", "a");
        assert_eq!(fixture.client.call::<u64>(Command::new("DEL").key(&record)).await.unwrap(), 1);
        let again = topic.publish_with(&2, Publication::new().id("a")).await.unwrap();
        assert_eq!(again.outcome, PublishOutcome::Known);
    }

    #[paused]
    async fn an_id_is_known_for_its_time(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let publish = || topic.publish_with(&1, with_id("a").deduplicate(Deduplication::For(Duration::from_secs(60))));
        publish().await.unwrap();
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert_eq!(publish().await.unwrap().outcome, PublishOutcome::Known);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(publish().await.unwrap().outcome, PublishOutcome::New);
    }

    async fn an_id_is_known_until_every_group_is_done(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let publish = || topic.publish_with(&1, with_id("a").deduplicate(Deduplication::UntilDone));
        let (mail, stock) = (Seen::default(), Seen::default());
        let slow = topic.consumer("stock").start(|_: Delivery<u32>| std::future::pending::<Outcome>()).await.unwrap();
        publish().await.unwrap();
        let _mail = acknowledge(topic.consumer("mail"), &mail).await;
        until("one group is done", || mail.len() == 1).await;
        until_stats(&topic, "mail", |stats| stats.pending == 0).await;
        assert_eq!(publish().await.unwrap().outcome, PublishOutcome::Known);
        slow.shutdown(Duration::ZERO).await;
        let _stock = acknowledge(topic.consumer("stock"), &stock).await;
        until_stats(&topic, "stock", |stats| stats.length == 0).await;
        assert_eq!(publish().await.unwrap().outcome, PublishOutcome::New);
        until("both have the second", || mail.len() == 2 && stock.len() == 2).await;
    }

    #[paused]
    async fn a_message_that_waits_is_known_for_longer_than_its_record(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let short = Deduplication::For(Duration::from_secs(1));
        let publish = || topic.publish_with(&1, with_id("a").deduplicate(short).delay(Duration::from_secs(60)));
        publish().await.unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(publish().await.unwrap().outcome, PublishOutcome::Known);
        let past = with_id("b").deliver_at(SystemTime::UNIX_EPOCH);
        topic.publish_with(&1, past.clone()).await.unwrap();
        assert_eq!(topic.publish_with(&1, past).await.unwrap().outcome, PublishOutcome::Known);
    }

    #[paused]
    async fn the_kept_message_outlives_the_record_of_the_first(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let stream = fixture.client.keyspace("topic", "t").unwrap().key("t.0");
        call::<()>(&fixture, Command::new("XGROUP").arg("CREATE").key(&stream).arg("g").arg("0").arg("MKSTREAM")).await;
        let publish = |n: &'static u32| topic.publish_with(n, with_id("a").deduplicate(Deduplication::KeepLast));
        const DAY: Duration = Duration::from_secs(86_400);
        publish_and_expect(publish(&0).await, PublishOutcome::New);
        tokio::time::advance(29 * DAY).await;
        publish_and_expect(publish(&1).await, PublishOutcome::Kept);
        tokio::time::advance(2 * DAY).await;
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("g"), &seen).await;
        until("both were handled", || seen.len() == 2).await;
        assert_eq!(seen.payloads(), [0, 1]);
    }

    #[paused]
    async fn a_message_that_is_kept_behind_one_with_a_long_delay_is_published(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let stream = fixture.client.keyspace("topic", "t").unwrap().key("t.0");
        call::<()>(&fixture, Command::new("XGROUP").arg("CREATE").key(&stream).arg("g").arg("0").arg("MKSTREAM")).await;
        const DAY: Duration = Duration::from_secs(86_400);
        let keep = with_id("a").deduplicate(Deduplication::KeepLast);
        publish_and_expect(topic.publish_with(&0, keep.clone().delay(40 * DAY)).await, PublishOutcome::New);
        publish_and_expect(topic.publish_with(&1, keep.clone()).await, PublishOutcome::Kept);
        tokio::time::advance(41 * DAY).await;
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("g"), &seen).await;
        until("both were handled", || seen.len() == 2).await;
        assert_eq!(seen.payloads(), [0, 1]);
    }

    #[paused]
    async fn a_message_that_is_kept_comes_though_the_one_before_was_put_off_for_longer_than_its_record(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let stream = fixture.client.keyspace("topic", "t").unwrap().key("t.0");
        call::<()>(&fixture, Command::new("XGROUP").arg("CREATE").key(&stream).arg("g").arg("0").arg("MKSTREAM")).await;
        const DAY: Duration = Duration::from_secs(86_400);
        let publish = async |n: u32, mode, delay| {
            topic.publish_with(&n, with_id("a").deduplicate(mode).delay(delay)).await
        };
        publish_and_expect(publish(0, Deduplication::KeepLast, DAY).await, PublishOutcome::New);
        publish_and_expect(publish(1, Deduplication::KeepLast, DAY).await, PublishOutcome::Kept);
        publish_and_expect(publish(2, Deduplication::Debounce, 40 * DAY).await, PublishOutcome::Replaced);
        tokio::time::advance(41 * DAY).await;
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("g"), &seen).await;
        until("the one that was put off was handled", || !seen.payloads().is_empty()).await;
        until("the kept one was handled", || seen.len() == 2).await;
        assert_eq!(seen.payloads(), [2, 1]);
    }

    async fn a_message_that_a_debounced_one_replaced_leaves_its_record_to_it(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let seen = Seen::default();
        let _worker = acknowledge(topic.consumer("g"), &seen).await;
        let publish = async |n: u32, mode, delay| {
            let publication = with_id("a").deduplicate(mode).delay(Duration::from_millis(delay));
            topic.publish_with(&n, publication).await.unwrap().outcome
        };
        use Deduplication::{Debounce, KeepLast, UntilDone};
        // Longer than any of the calls takes: what is to be replaced waits still.
        let long = 60_000;
        assert_eq!(publish(0, UntilDone, long).await, PublishOutcome::New);
        assert_eq!(publish(1, Debounce, 500).await, PublishOutcome::Replaced);
        until("it was handled", || seen.len() == 1).await;
        until_stats(&topic, "g", |stats| stats.length == 0).await;
        assert_eq!(publish(2, UntilDone, 0).await, PublishOutcome::New, "the one before is done");
        until_stats(&topic, "g", |stats| stats.length == 0).await;
        assert_eq!(publish(3, KeepLast, long).await, PublishOutcome::New);
        assert_eq!(publish(4, KeepLast, 0).await, PublishOutcome::Kept);
        assert_eq!(publish(5, Debounce, 500).await, PublishOutcome::Replaced);
        until("the kept one was handled as well", || seen.len() == 4).await;
        assert_eq!(seen.payloads(), [1, 2, 5, 4]);
    }

    async fn the_end_of_a_message_ends_nothing_of_a_later_one_with_its_id(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let keys = fixture.client.keyspace("topic", "t").unwrap();
        for mode in [Deduplication::UntilDone, Deduplication::KeepLast] {
            let group = format!("{mode:?}");
            let publish = async |n: u32, delay| {
                let publication = with_id("a").deduplicate(mode).delay(Duration::from_millis(delay));
                topic.publish_with(&n, publication).await.unwrap().outcome
            };
            let (seen, go) = (Seen::default(), std::sync::Arc::new(tokio::sync::Semaphore::new(0)));
            let worker = {
                let (seen, go) = (seen.clone(), go.clone());
                topic.consumer(&group).concurrency(2).start(move |delivery: Delivery<u32>| {
                    seen.add(&delivery);
                    let go = go.clone();
                    async move { go.acquire().await.unwrap().forget(); Outcome::Ack }
                }).await.unwrap()
            };
            assert_eq!(publish(1, 1).await, PublishOutcome::New);
            until("the first is handled", || seen.len() == 1).await;
            // Its record has had its time.
            call::<u64>(&fixture, Command::new("DEL").key(keys.tagged_key("t.0", "id", "a"))).await;
            assert_eq!(publish(2, 1_500).await, PublishOutcome::New);
            if mode == Deduplication::KeepLast {
                assert_eq!(publish(3, 0).await, PublishOutcome::Kept);
            }
            go.add_permits(1);
            until_stats(&topic, &group, |stats| stats.length == 0).await;
            until("the second is handled", || seen.len() == 2).await;
            assert_eq!(seen.payloads(), [1, 2], "the third waits for the end of the second");
            if mode == Deduplication::UntilDone {
                assert_eq!(publish(4, 0).await, PublishOutcome::Known);
            }
            go.add_permits(10);
            let all = if mode == Deduplication::KeepLast { vec![1, 2, 3] } else { vec![1, 2] };
            until("all were handled", || seen.len() == all.len()).await;
            until_stats(&topic, &group, |stats| stats.length == 0).await;
            assert_eq!(seen.payloads(), all);
            worker.shutdown(Duration::from_secs(1)).await;
            topic.delete_group(&group).await.unwrap();
        }
    }

    async fn nothing_is_kept_behind_a_message_whose_end_nobody_looks_at(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let publish = async |deduplication, delay| {
            let publication = with_id("a").deduplicate(deduplication).delay(Duration::from_millis(delay));
            topic.publish_with(&1, publication).await.unwrap().outcome
        };
        let hour = Duration::from_secs(3_600);
        assert_eq!(publish(Deduplication::For(hour), 0).await, PublishOutcome::New);
        assert_eq!(publish(Deduplication::KeepLast, 0).await, PublishOutcome::Known);
        let debounced = with_id("b").deduplicate(Deduplication::Debounce).delay(hour);
        assert_eq!(topic.publish_with(&1, debounced).await.unwrap().outcome, PublishOutcome::New);
        let last = with_id("b").deduplicate(Deduplication::KeepLast);
        assert_eq!(topic.publish_with(&1, last).await.unwrap().outcome, PublishOutcome::Known);
    }
}
