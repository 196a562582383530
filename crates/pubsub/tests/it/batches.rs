//! Handlers that are given several messages at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redkit_pubsub::Error;
use redkit_pubsub::topic::{Delivery, Outcome, Retention};
use redkit_testkit::Fixture;
use tokio::sync::Semaphore;

use crate::handling::{AtOnce, Seen, builder, topic, until, until_stats};
use crate::lost_replies::PanicsWhenDropped;

/// The batches that came, by the payloads.
type Batches = Arc<Mutex<Vec<Vec<u32>>>>;

fn payloads(deliveries: &[Delivery<u32>]) -> Vec<u32> {
    deliveries.iter().map(|delivery| delivery.payload).collect()
}

redkit_testkit::suite! {
    async fn messages_that_wait_come_in_batches_and_each_once(fixture: Fixture) {
        let topic = topic(&fixture.client);
        for n in 0..250 {
            topic.publish(&n).await.unwrap();
        }
        let batches = Batches::default();
        let consumer = topic.consumer("g").batch(100, Duration::from_millis(300)).prefetch(200);
        let worker = {
            let batches = Arc::clone(&batches);
            consumer.start_batches(move |deliveries: Vec<Delivery<u32>>| {
                batches.lock().push(payloads(&deliveries));
                async { Outcome::Ack }
            })
        };
        let worker = worker.await.unwrap();
        until("all were handled", || worker.stats().acknowledged == 250).await;
        until_stats(&topic, "g", |stats| stats.length == 0 && stats.pending == 0).await;
        let batches = batches.lock().clone();
        assert!(batches.iter().all(|batch| (1..=100).contains(&batch.len())));
        assert_eq!(batches.concat(), (0..250).collect::<Vec<_>>());
        assert!(batches.len() <= 6, "they were gathered: {}", batches.len());
        assert_eq!(worker.stats().running, 0);
    }

    async fn each_message_of_a_batch_has_an_outcome_of_its_own(fixture: Fixture) {
        let topic = topic(&fixture.client);
        for n in 0..6 {
            topic.publish(&n).await.unwrap();
        }
        let seen = Seen::default();
        let consumer = topic.consumer("g").batch(10, Duration::from_millis(200)).max_attempts(2);
        let worker = {
            let seen = seen.clone();
            consumer.start_batches(move |deliveries: Vec<Delivery<u32>>| {
                let answer = |delivery: &Delivery<u32>| {
                    seen.add(delivery);
                    match (delivery.payload, delivery.attempt) {
                        (1, 1) => Outcome::retry_after(Duration::from_millis(20), "not yet"),
                        (2, _) => Outcome::dead("never"),
                        (3, _) => Outcome::retry_after(Duration::from_millis(20), "never either"),
                        _ => Outcome::Ack,
                    }
                };
                let mut outcomes: Vec<_> = deliveries.iter().map(answer).collect();
                if deliveries.last().is_some_and(|last| (last.payload, last.attempt) == (5, 1)) {
                    // The last one is left out: that is a failed attempt.
                    outcomes.pop();
                }
                async move { outcomes }
            })
        };
        let worker = worker.await.unwrap();
        until("all came to an end", || {
            let stats = worker.stats();
            stats.acknowledged == 4 && stats.dead == 2
        })
        .await;
        let mut seen = seen.all();
        seen.sort_unstable();
        let attempts = [(0, 1), (1, 1), (1, 2), (2, 1), (3, 1), (3, 2), (4, 1), (5, 1), (5, 2)];
        assert_eq!(seen, attempts);
        let letters = topic.dead_letters("g").unwrap().list(10).await.unwrap();
        let mut reasons: Vec<_> = letters.iter().map(|letter| letter.reason.as_str()).collect();
        reasons.sort_unstable();
        assert_eq!(reasons, ["never", "never either"]);
    }

    async fn an_error_or_a_panic_is_a_failed_attempt_of_all(fixture: Fixture) {
        let topic = topic(&fixture.client);
        for n in 0..4 {
            topic.publish(&n).await.unwrap();
        }
        let seen = Seen::default();
        let consumer = topic.consumer("g").batch(4, Duration::from_secs(2)).prefetch(4);
        let consumer = consumer.backoff(Duration::from_millis(20), Duration::from_millis(20));
        let worker = {
            let seen = seen.clone();
            consumer.start_batches(move |deliveries: Vec<Delivery<u32>>| {
                deliveries.iter().for_each(|delivery| seen.add(delivery));
                let attempt = deliveries[0].attempt;
                async move {
                    match attempt {
                        1 => Err("no luck"),
                        2 => panic!("worse"),
                        _ => Ok(()),
                    }
                }
            })
        };
        let worker = worker.await.unwrap();
        until("all were handled", || worker.stats().acknowledged == 4).await;
        let mut seen = seen.all();
        seen.sort_unstable();
        let expected: Vec<_> = (0..4).flat_map(|n| (1..=3).map(move |attempt| (n, attempt))).collect();
        assert_eq!(seen, expected);
    }

    async fn a_batch_of_a_log_is_acknowledged_at_once(fixture: Fixture) {
        let retention = Retention::Log { keep: None, most: None };
        let topic = builder(&fixture.client).retention(retention).build().unwrap();
        for n in 0..120 {
            topic.publish(&n).await.unwrap();
        }
        let consumer = topic.consumer("g").batch(50, Duration::from_millis(200)).prefetch(50);
        let consumer = consumer.backoff(Duration::from_millis(20), Duration::from_millis(20));
        let worker = consumer.start_batches(|deliveries: Vec<Delivery<u32>>| {
            let outcome = |delivery: &Delivery<u32>| match (delivery.payload % 10, delivery.attempt) {
                (0, 1) => Outcome::retry("not yet"),
                _ => Outcome::Ack,
            };
            let outcomes: Vec<_> = deliveries.iter().map(outcome).collect();
            async move { outcomes }
        });
        let worker = worker.await.unwrap();
        until("all were handled", || worker.stats().acknowledged == 120).await;
        let stats = until_stats(&topic, "g", |stats| stats.pending == 0).await;
        assert_eq!((stats.length, worker.stats().retried, worker.stats().lost), (120, 12, 0));
    }

    #[paused]
    async fn a_batch_waits_no_longer_than_it_may(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let batches = Batches::default();
        let consumer = topic.consumer("g").batch(10, Duration::from_millis(100)).prefetch(10);
        let worker = {
            let batches = Arc::clone(&batches);
            consumer.start_batches(move |deliveries: Vec<Delivery<u32>>| {
                batches.lock().push(payloads(&deliveries));
                async { Outcome::Ack }
            })
        };
        let _worker = worker.await.unwrap();
        topic.publish(&1).await.unwrap();
        tokio::time::sleep(Duration::from_millis(90)).await;
        topic.publish(&2).await.unwrap();
        tokio::time::sleep(Duration::from_millis(9)).await;
        assert!(batches.lock().is_empty());
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(*batches.lock(), [[1, 2]]);
    }

    async fn a_batch_begins_with_the_messages_that_are_admitted_and_the_others_come_next(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let admission = Arc::new(AtOnce(Arc::new(Semaphore::new(3))));
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut workers = Vec::new();
        for _ in 0..2 {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            let consumer = topic.consumer("g").concurrency(2).batch(4, Duration::from_millis(20));
            let worker = consumer.admission(admission.clone()).start_batches(move |deliveries: Vec<Delivery<u32>>| {
                let (running, most) = (Arc::clone(&running), Arc::clone(&most));
                async move {
                    most.fetch_max(running.fetch_add(deliveries.len(), Ordering::SeqCst) + deliveries.len(), Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    running.fetch_sub(deliveries.len(), Ordering::SeqCst);
                    Outcome::Ack
                }
            });
            workers.push(worker.await.unwrap());
        }
        for n in 0..30 {
            topic.publish(&n).await.unwrap();
        }
        until("all were handled", || workers.iter().map(|worker| worker.stats().acknowledged).sum::<u64>() == 30).await;
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)), "{most:?}");
        assert!(workers.iter().all(|worker| (worker.stats().retried, worker.stats().lost) == (0, 0)));
    }

    #[paused]
    async fn the_messages_behind_one_whose_task_panics_are_handled(fixture: Fixture) {
        let topic = topic(&fixture.client);
        for n in 0..3 {
            topic.publish(&n).await.unwrap();
        }
        let admission = Arc::new(AtOnce(Arc::new(Semaphore::new(1))));
        let seen = Seen::default();
        let worker = {
            let seen = seen.clone();
            let consumer = topic.consumer("g").batch(3, Duration::from_millis(20)).admission(admission);
            consumer.timeout(Duration::from_millis(50)).start_batches(move |deliveries: Vec<Delivery<u32>>| {
                deliveries.iter().for_each(|delivery| seen.add(delivery));
                async move {
                    if (deliveries[0].payload, deliveries[0].attempt) == (0, 1) {
                        let _bomb = PanicsWhenDropped;
                        let _: () = std::future::pending().await;
                    }
                    Outcome::Ack
                }
            })
        };
        let worker = worker.await.unwrap();
        until("all were handled", || worker.stats().acknowledged == 3).await;
        assert_eq!(seen.all(), [(0, 1), (1, 1), (2, 1), (0, 2)]);
    }

    async fn a_message_that_is_not_admitted_at_once_goes_to_another_handler_when_the_batch_before_it_takes_long(fixture: Fixture) {
        let topic = topic(&fixture.client);
        for n in 0..3 {
            topic.publish(&n).await.unwrap();
        }
        let admitted = Arc::new(Semaphore::new(1));
        let begun = Seen::default();
        let worker = {
            let begun = begun.clone();
            let consumer = topic.consumer("g").concurrency(2).batch(3, Duration::from_millis(20));
            let consumer = consumer.admission(Arc::new(AtOnce(Arc::clone(&admitted))));
            consumer.start_batches(move |deliveries: Vec<Delivery<u32>>| {
                deliveries.iter().for_each(|delivery| begun.add(delivery));
                async { std::future::pending::<Outcome>().await }
            })
        };
        let worker = worker.await.unwrap();
        until("the first has begun", || begun.len() == 1).await;
        admitted.add_permits(1);
        until("the second has begun", || begun.len() == 2).await;
        assert_eq!(begun.payloads(), [0, 1]);
        drop(worker);
    }

    #[paused]
    async fn messages_that_were_gathered_once_wait_for_no_others_again(fixture: Fixture) {
        let topic = topic(&fixture.client);
        for n in 0..3 {
            topic.publish(&n).await.unwrap();
        }
        let seen = Seen::default();
        let worker = {
            let seen = seen.clone();
            let consumer = topic.consumer("g").batch(3, Duration::from_secs(10));
            let consumer = consumer.admission(Arc::new(AtOnce(Arc::new(Semaphore::new(1)))));
            consumer.start_batches(move |deliveries: Vec<Delivery<u32>>| {
                deliveries.iter().for_each(|delivery| seen.add(delivery));
                async { Outcome::Ack }
            })
        };
        let _worker = worker.await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(seen.payloads(), [0, 1, 2]);
    }

    #[paused]
    async fn messages_that_were_given_back_to_another_handler_do_not_wait_for_its_batch(fixture: Fixture) {
        let topic = topic(&fixture.client);
        for n in 0..3 {
            topic.publish(&n).await.unwrap();
        }
        let (admitted, seen) = (Arc::new(Semaphore::new(0)), Seen::default());
        let worker = {
            let seen = seen.clone();
            let consumer = topic.consumer("g").concurrency(2).batch(4, Duration::from_secs(10));
            let consumer = consumer.admission(Arc::new(AtOnce(Arc::clone(&admitted))));
            consumer.start_batches(move |deliveries: Vec<Delivery<u32>>| {
                deliveries.iter().for_each(|delivery| seen.add(delivery));
                async { Outcome::Ack }
            })
        };
        let _worker = worker.await.unwrap();
        // The first handler has gathered them, and waits for a permit; the second one begins to gather.
        tokio::time::sleep(Duration::from_secs(11)).await;
        topic.publish(&3).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(seen.len(), 0);
        // For the first message alone: the two behind it are given back.
        admitted.add_permits(1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(seen.sorted(), [0, 1, 2, 3]);
    }

    async fn batches_that_cannot_work_are_refused(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let handler = |_: Vec<Delivery<u32>>| async { Outcome::Ack };
        let second = Duration::from_secs(1);
        for (consumer, word) in [
            (topic.consumer("g").ordered(), "ordered"),
            (topic.consumer("g").batch(0, second), "batch"),
            (topic.consumer("g").batch(1, 60 * second), "lease"),
            (topic.consumer("g").batch(1_000, second).concurrency(11), "concurrency"),
        ] {
            let error = consumer.start_batches(handler).await.unwrap_err();
            assert!(matches!(&error, Error::Invalid { .. }) && error.to_string().contains(word), "{error}");
        }
    }
}
