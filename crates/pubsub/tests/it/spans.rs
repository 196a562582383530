//! Spans of topics, by OpenTelemetry's names.

use std::time::Duration;

use redkit_pubsub::topic::{Delivery, Outcome, Publication};
use redkit_testkit::{Fixture, RecordedSpan, Spans};

use crate::handling::{topic, until};

/// The spans of this crate of one operation.
fn of(spans: &[RecordedSpan], operation: &str) -> Vec<RecordedSpan> {
    let is = |span: &&RecordedSpan| span.get("messaging.operation.type") == Some(operation);
    spans.iter().filter(is).cloned().collect()
}

redkit_testkit::suite! {
    async fn a_publication_and_a_handler_have_spans_with_the_conventions_attributes(fixture: Fixture) {
        let (spans, _listening) = Spans::listen(&["redkit::pubsub", "redkit::client"]);
        let topic = topic(&fixture.client);
        let secret = Publication::new().id("secret-id").key("secret-key");
        let published = topic.publish_with(&7, secret).await.unwrap();
        let entry = published.entry.unwrap().to_string();

        let recorded = spans.take();
        let [send] = of(&recorded, "send").try_into().unwrap();
        assert_eq!((send.get("otel.name"), send.get("otel.kind")), (Some("send t"), Some("client")));
        assert_eq!(send.get("messaging.system"), Some("redis"));
        assert_eq!(send.get("messaging.destination.name"), Some("t"));
        assert_eq!(send.get("messaging.message.id"), Some(&*entry));
        for absent in ["error.type", "otel.status_code", "messaging.batch.message_count"] {
            assert_eq!(send.get(absent), None, "{absent}");
        }
        let calls: Vec<_> = recorded.iter().filter(|span| span.get("db.system.name").is_some()).collect();
        assert!(!calls.is_empty() && calls.iter().all(|call| call.parent.as_deref() == Some("send t")), "{calls:?}");

        topic.publish_batch([(&1, Publication::new()), (&2, Publication::new())]).await.unwrap();
        let [send] = of(&spans.take(), "send").try_into().unwrap();
        assert_eq!(send.get("messaging.batch.message_count"), Some("2"));

        // What the handler asks Redis stands in its span.
        let client = fixture.client.clone();
        let worker = topic.consumer("mail").timeout(Duration::from_millis(200)).max_attempts(1).start(move |delivery: Delivery<u32>| {
            let client = client.clone();
            async move {
                client.set("handled", &delivery.payload).await.unwrap();
                match delivery.payload {
                    7 => Outcome::Ack,
                    1 => Outcome::retry("no server"),
                    _ => std::future::pending().await,
                }
            }
        });
        let worker = worker.await.unwrap();
        until("all were handled", || {
            let stats = worker.stats();
            stats.acknowledged == 1 && stats.dead == 2
        }).await;
        worker.shutdown(Duration::from_secs(5)).await;

        let recorded = spans.take();
        let handled = of(&recorded, "process");
        assert_eq!(handled.len(), 3, "{handled:?}");
        for span in &handled {
            assert_eq!((span.get("otel.name"), span.get("otel.kind")), (Some("process t"), Some("consumer")));
            assert_eq!(span.get("messaging.consumer.group.name"), Some("mail"));
        }
        let done = handled.iter().find(|span| span.get("messaging.message.id") == Some(&*entry));
        assert_eq!(done.unwrap().get("error.type"), None);
        let mut failures: Vec<_> = handled.iter().filter_map(|span| span.get("error.type")).collect();
        failures.sort_unstable();
        assert_eq!(failures, ["retry", "timeout"]);
        let sets: Vec<_> = recorded.iter().filter(|span| span.get("otel.name") == Some("SET")).collect();
        assert!(sets.len() == 3 && sets.iter().all(|set| set.parent.as_deref() == Some("process t")), "{sets:?}");
        let texts = || recorded.iter().flat_map(|span| span.fields.values());
        assert!(!texts().any(|text| text.contains("secret") || text.contains("no server")), "{recorded:?}");
    }
}
