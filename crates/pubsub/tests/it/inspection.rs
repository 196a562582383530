//! What monitoring sees of a topic's group, and can do.

use std::time::Duration;

use redkit_core::inspection::{Fact, Inspect, InspectError, Item, Query, Snapshot};
use redkit_pubsub::topic::{Outcome, Publication};
use redkit_testkit::Fixture;

use crate::handling::{Seen, builder, handle, topic, until, until_stats};

fn count(snapshot: &Snapshot, fact: &str) -> Option<u64> {
    match snapshot.get(fact) {
        Some(Fact::Count(count)) => Some(*count),
        _ => None,
    }
}

fn text(facts: &[(&'static str, Fact)], name: &str) -> String {
    match facts.iter().find(|(other, _)| *other == name) {
        Some((_, Fact::Text(text))) => text.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

/// All items, page by page.
async fn all(shown: &dyn Inspect, list: &str, count: usize) -> Vec<Item> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let query = Query {
            cursor,
            count,
            ..Query::default()
        };
        let page = shown.list(list, &query).await.unwrap();
        assert!(page.items.len() <= count, "{}", page.items.len());
        items.extend(page.items);
        match page.next {
            Some(next) => cursor = next,
            None => return items,
        }
    }
}

redkit_testkit::suite! {
    async fn a_group_without_workers_is_measured_by_its_publisher(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let shown = topic.inspect("g").unwrap();
        // No group yet.
        assert_eq!(count(&shown.measure().await.unwrap(), "pending"), Some(0));
        assert!(all(&*shown, "pending", 10).await.is_empty());
        let worker = topic.consumer("g").start(|_| async { Outcome::Ack }).await.unwrap();
        until_stats(&topic, "g", |stats| stats.live_workers == 1).await;
        worker.shutdown(Duration::from_secs(5)).await;
        topic.publish(&1).await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        let measured = shown.measure().await.unwrap();
        assert_eq!((count(&measured, "consumers"), count(&measured, "dead_letters")), (Some(0), Some(0)));
        // It was delivered to nobody, and its age is told all the same.
        let Some(Fact::Number(age)) = measured.get("oldest_pending") else { panic!("{measured:?}") };
        assert!((0.02..60.0).contains(age), "{age}");
        let kinds: Vec<_> = fixture.client.inspect().iter().map(|object| (object.kind(), object.name())).collect();
        assert!(kinds.contains(&("topic", "t/g".to_owned())), "{kinds:?}");
        drop(shown);
        assert!(fixture.client.inspect().iter().all(|object| object.kind() != "topic"));
        assert!(topic.inspect("no group").is_err());
    }

    async fn a_delayed_message_that_is_due_was_not_delivered_though_nobody_has_moved_it(fixture: Fixture) {
        let topic = topic(&fixture.client);
        topic.consumer("g").create_group().await.unwrap();
        for delay in [1, 600_000] {
            let delayed = Publication::new().delay(Duration::from_millis(delay));
            topic.publish_with(&1, delayed).await.unwrap();
        }
        let stats = until_stats(&topic, "g", |stats| stats.lag == Some(1)).await;
        assert_eq!((stats.length, stats.delayed, stats.pending), (0, 1, 0));
        tokio::time::sleep(Duration::from_millis(30)).await;
        for (group, counts) in [("g", (Some(1), 1)), ("no-group", (None, 2))] {
            let stats = topic.stats(group).await.unwrap();
            assert_eq!((stats.lag, stats.delayed), counts, "{group}");
            let age = stats.oldest_undelivered;
            assert!(age.is_some_and(|age| (20..60_000).contains(&age.as_millis())), "{group} {age:?}");
        }
        let _worker = topic.consumer("g").start(|_| async { Outcome::Ack }).await.unwrap();
        let stats = until_stats(&topic, "g", |stats| stats.lag == Some(0) && stats.pending == 0).await;
        assert_eq!((stats.delayed, stats.oldest_undelivered, stats.oldest_pending), (1, None, None));
    }

    async fn dead_letters_are_listed_page_by_page_and_redriven_one_by_one(fixture: Fixture) {
        let topic = builder(&fixture.client).partitions(3).build().unwrap();
        let seen = Seen::default();
        let _worker = handle(topic.consumer("g"), &seen, |delivery| match delivery.attempt {
            _ if delivery.payload < 10 => Outcome::dead("no use"),
            _ => Outcome::Ack,
        }).await;
        for n in 0..7_u32 {
            let publication = Publication::new().id(format!("id-{n}")).key(format!("key-{n}")).header("a", "b");
            topic.publish_with(&n, publication).await.unwrap();
        }
        until_stats(&topic, "g", |stats| stats.dead == 7).await;
        let objects = fixture.client.inspect();
        let shown = objects.iter().find(|object| object.kind() == "topic").unwrap();
        assert_eq!(count(&shown.measure().await.unwrap(), "dead_letters"), Some(7));
        let letters = all(&**shown, "dead_letters", 2).await;
        let mut ids: Vec<_> = letters.iter().map(|item| text(&item.facts, "id")).collect();
        ids.sort();
        assert_eq!(ids, (0..7).map(|n| format!("id-{n}")).collect::<Vec<_>>());
        let third = letters.iter().find(|item| text(&item.facts, "id") == "id-3").unwrap();
        assert_eq!(text(&third.facts, "reason"), "no use");
        // What may be personal stands apart.
        let shown_of = |name: &str| text(&third.payload, name);
        assert_eq!((shown_of("payload"), shown_of("key"), shown_of("headers")), ("3".to_owned(), "key-3".to_owned(), "{\"a\":\"b\"}".to_owned()));
        assert!(!format!("{:?}", third.facts).contains("key-3"));
        let (action, argument) = &third.actions[0];
        let before = seen.payloads().iter().filter(|&&n| n == 3).count();
        assert_eq!(shown.act(action, argument).await.unwrap(), "the dead letter was published again");
        assert_eq!(shown.act(action, argument).await.unwrap(), "this dead letter is not there any more");
        until("it came again", || seen.payloads().iter().filter(|&&n| n == 3).count() == before + 1).await;
        for wrong in ["x", "0", "9/1-0", "0/x", "/1-0"] {
            let refused = shown.act("redrive", wrong).await;
            assert!(matches!(refused, Err(InspectError::Argument(_))), "{wrong} {refused:?}");
        }
        let wrong = Query { cursor: "x".to_owned(), ..Query::default() };
        assert!(matches!(shown.list("dead_letters", &wrong).await, Err(InspectError::Argument(_))));
        assert!(matches!(shown.list("letters", &Query::default()).await, Err(InspectError::UnknownList { .. })));
    }

    async fn what_is_pending_is_listed_with_its_attempts(fixture: Fixture) {
        let topic = topic(&fixture.client);
        let seen = Seen::default();
        let long = Duration::from_secs(600);
        let consumer = topic.consumer("g").backoff(long, long);
        let _worker = handle(consumer, &seen, |_| Outcome::retry("later")).await;
        for n in 0..5 {
            topic.publish(&n).await.unwrap();
        }
        until_stats(&topic, "g", |stats| stats.retries == 5).await;
        let shown = topic.inspect("g").unwrap();
        let pending = all(&*shown, "pending", 2).await;
        assert_eq!(pending.len(), 5);
        for item in &pending {
            assert!(item.facts.contains(&("attempts", Fact::Count(1))), "{item:?}");
            assert!(item.facts.contains(&("waits_for_retry", Fact::Flag(true))), "{item:?}");
            assert!(item.actions.is_empty());
        }
        let mut payloads: Vec<_> = pending.iter().map(|item| text(&item.payload, "payload")).collect();
        payloads.sort();
        assert_eq!(payloads, ["0", "1", "2", "3", "4"]);
    }
}
