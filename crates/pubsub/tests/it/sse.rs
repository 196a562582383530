//! Server-Sent Events: ids, gaps, the end.
#![cfg(feature = "axum")]

use std::time::Duration;

use axum::body::to_bytes;
use axum::http::HeaderMap;
use axum::response::Response;
use redkit_core::Command;
use redkit_pubsub::topic::{LogPosition, ReadFrom, Retention, Topic};
use redkit_pubsub::{Channel, Inbox, ItemId, Position, Replay, sse};
use redkit_testkit::Fixture;
use tokio::time::sleep;

/// What comes within a moment, after which the response ends.
async fn text(response: Response) -> String {
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let body = tokio::time::timeout(
        Duration::from_secs(20),
        to_bytes(response.into_body(), usize::MAX),
    );
    let body = body.await.expect("it ends with the future").unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

fn soon() -> impl Future<Output = ()> + Send + 'static {
    sleep(Duration::from_millis(400))
}

fn headers(id: &impl ToString) -> HeaderMap {
    HeaderMap::from_iter([(
        "last-event-id".parse().unwrap(),
        id.to_string().parse().unwrap(),
    )])
}

redkit_testkit::suite! {
    async fn a_browser_goes_on_behind_its_last_event(fixture: Fixture) {
        let channel: Channel<String> =
            Channel::builder(&fixture.client, "n").replay(Replay::last(3)).build().unwrap();
        let mut positions = Vec::new();
        for text in ["a", "b", "c\nd"] {
            positions.push(channel.publish("k", text).await.unwrap().position.unwrap());
        }
        let last: Position = sse::last_event_id(&headers(&positions[0])).unwrap();
        let subscription = channel.subscribe_after("k", last).await.unwrap();
        let text = text(sse::of_channel(subscription, soon())).await;
        let expected = format!(
            "event: message\ndata: \"b\"\nid: {}\n\nevent: message\ndata: \"c\\nd\"\nid: {}\n\n",
            positions[1], positions[2]
        );
        assert_eq!(text, expected);
    }

    async fn an_id_that_is_not_held_any_more_is_one_gap(fixture: Fixture) {
        let channel: Channel<u32> =
            Channel::builder(&fixture.client, "n").replay(Replay::last(2)).build().unwrap();
        let first = channel.publish("k", &0).await.unwrap().position.unwrap();
        for n in 1..6 {
            channel.publish("k", &n).await.unwrap();
        }
        let subscription = channel.subscribe_after("k", first).await.unwrap();
        let of_channel = text(sse::of_channel(subscription, soon())).await;
        let inbox: Inbox<u32> = Inbox::builder(&fixture.client, "n").capacity(2).build().unwrap();
        let first = inbox.push("k", &0).await.unwrap().id;
        for n in 1..6 {
            inbox.push("k", &n).await.unwrap();
        }
        let last: ItemId = sse::last_event_id(&headers(&first)).unwrap();
        let subscription = inbox.subscribe("k", Some(last)).await.unwrap();
        let of_inbox = text(sse::of_inbox(subscription, soon())).await;
        for text in [of_channel, of_inbox] {
            assert!(text.starts_with("event: gap\n"), "{text}");
            let count = |what: &str| text.matches(what).count();
            assert_eq!((count("event: gap"), count("event: message")), (1, 2), "{text}");
        }
    }

    async fn a_browser_reads_a_topic_behind_its_last_event(fixture: Fixture) {
        let retention = Retention::Log { keep: None, most: None };
        let topic: Topic<String> = Topic::builder(&fixture.client, "t").retention(retention).build().unwrap();
        for text in ["a", "b"] {
            topic.publish(text).await.unwrap();
        }
        let reader = topic.read(ReadFrom::Beginning).await.unwrap();
        let all = text(sse::of_topic(reader, soon())).await;
        let ids: Vec<&str> = all.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
        assert_eq!(ids.len(), 2, "{all}");
        let last: Option<LogPosition> = sse::last_event_id(&headers(&ids[0]));
        let reader = topic.read(last.into()).await.unwrap();
        let rest = text(sse::of_topic(reader, soon())).await;
        assert_eq!(rest, format!("event: message\ndata: \"b\"\nid: {}\n\n", ids[1]));
        // What it saw last, and more, is gone: one gap, behind which it goes on.
        let stream = fixture.client.keyspace("topic", "t").unwrap().key("t.0");
        topic.publish("c").await.unwrap();
        let trim = Command::new("XTRIM").key(stream).arg("MAXLEN").arg("=").arg(1);
        fixture.client.call::<u64>(trim).await.unwrap();
        let last: Option<LogPosition> = sse::last_event_id(&headers(&ids[0]));
        let reader = topic.read(last.into()).await.unwrap();
        let gap = text(sse::of_topic(reader, soon())).await;
        assert!(gap.starts_with("event: gap\n"), "{gap}");
        let count = |what: &str| gap.matches(what).count();
        assert_eq!((count("event: gap"), count("event: message"), count("id: ")), (1, 1, 2), "{gap}");
    }

    async fn a_value_of_another_type_is_an_event(fixture: Fixture) {
        let inbox: Inbox<u32> = Inbox::builder(&fixture.client, "n").build().unwrap();
        let texts: Inbox<String> = Inbox::builder(&fixture.client, "n").build().unwrap();
        texts.push("k", "no number").await.unwrap();
        inbox.push("k", &1).await.unwrap();
        let subscription = inbox.subscribe("k", None).await.unwrap();
        let text = text(sse::of_inbox(subscription, soon())).await;
        assert!(text.contains("event: undecodable\n") && text.contains("event: message\ndata: 1\n"), "{text}");
        // A browser that comes back goes on behind it.
        let retention = Retention::Log { keep: None, most: None };
        let texts: Topic<String> = Topic::builder(&fixture.client, "t").retention(retention).build().unwrap();
        let topic: Topic<u32> = Topic::builder(&fixture.client, "t").retention(retention).build().unwrap();
        texts.publish("no number").await.unwrap();
        let of_topic = sse::of_topic(topic.read(ReadFrom::Beginning).await.unwrap(), soon());
        let of_topic = self::text(of_topic).await;
        let texts: Channel<String> = Channel::builder(&fixture.client, "n").replay(Replay::last(3)).build().unwrap();
        let channel: Channel<u32> = Channel::builder(&fixture.client, "n").replay(Replay::last(3)).build().unwrap();
        let first = texts.publish("k", "before").await.unwrap().position.unwrap();
        texts.publish("k", "no number").await.unwrap();
        let subscription = channel.subscribe_after("k", first).await.unwrap();
        let of_channel = self::text(sse::of_channel(subscription, soon())).await;
        for text in [of_topic, of_channel] {
            assert!(text.starts_with("event: undecodable\n") && text.contains("\nid: "), "{text}");
        }
        assert_eq!(sse::last_event_id::<ItemId>(&headers(&"nonsense")), None);
        assert_eq!(sse::last_event_id::<ItemId>(&HeaderMap::new()), None);
    }
}
