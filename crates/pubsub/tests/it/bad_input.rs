//! What is refused, and how it is said.

use std::time::{Duration, SystemTime};

use redkit_core::{Client, ClientConfig, ErrorKind};
use redkit_pubsub::topic::{Delivery, Outcome, Publication, Topic};
use redkit_pubsub::{Channel, Error, Inbox, Overflow, Position, ReadToken, Replay};
use redkit_testkit::{Fixture, Server, ServerOptions};

#[track_caller]
fn is_refused<T>(result: Result<T, Error>, word: &str) {
    let error = result.err().expect("it is refused");
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert!(
        !error.is_retryable() && error.to_string().contains(word),
        "{error}"
    );
}

redkit_testkit::suite! {
    async fn settings_that_cannot_work_are_refused_by_name(fixture: Fixture) {
        let client = &fixture.client;
        let channel = || Channel::<u32>::builder(client, "n");
        is_refused(channel().queue(0, Overflow::DropOldest).build(), "queue");
        is_refused(channel().replay(Replay::last(0)).build(), "replay");
        is_refused(channel().replay(Replay::last(1).keep_for(Duration::ZERO)).build(), "keep_for");
        is_refused(Channel::<u32>::new(client, "a b"), "name");
        let inbox = || Inbox::<u32>::builder(client, "n");
        is_refused(inbox().capacity(0).build(), "capacity");
        is_refused(inbox().capacity(10_001).build(), "capacity");
        is_refused(inbox().ttl(Duration::ZERO).build(), "ttl");
        is_refused(inbox().reading_time(Duration::ZERO).build(), "reading_time");
        is_refused(Inbox::<u32>::builder(client, "").build(), "name");
    }

    async fn calls_that_cannot_work_are_refused_before_anything_is_sent(fixture: Fixture) {
        let client = &fixture.client;
        let plain = Channel::<u32>::new(client, "n").unwrap();
        let sharded = Channel::<u32>::builder(client, "n").sharded().build().unwrap();
        let replayed = Channel::<u32>::builder(client, "n").replay(Replay::last(1)).build().unwrap();
        is_refused(plain.subscribe(Vec::<&str>::new()).await, "keys");
        is_refused(sharded.subscribe_all().await, "glob");
        is_refused(replayed.subscribe_all().await, "glob");
        let position: Position = "7".parse().unwrap();
        is_refused(plain.subscribe_after("k", position).await, "replay");
        let inbox = Inbox::<u32>::builder(client, "n").build().unwrap();
        is_refused(inbox.read("ann", 0).await, "most");
        for text in ["", "7", "'; drop", &"g".repeat(32), &"a".repeat(33)] {
            is_refused(ReadToken::parse(text), "token");
        }
    }

    async fn consumers_and_publications_that_cannot_work_are_refused_by_name(fixture: Fixture) {
        let topic = Topic::<u32>::builder(&fixture.client, "t").build().unwrap();
        let done = |_: Delivery<u32>| async { Outcome::Ack };
        for lease in [Duration::from_millis(499), Duration::from_secs(86_401), Duration::MAX] {
            is_refused(topic.consumer("g").lease(lease).start(done).await, "lease");
        }
        const YEAR: Duration = Duration::from_secs(365 * 86_400);
        let late = Publication::new().deliver_at(SystemTime::UNIX_EPOCH + 300 * YEAR);
        is_refused(topic.publish_with(&1, late).await, "deliver_at");
        is_refused(topic.publish_with(&1, Publication::new().delay(100 * YEAR)).await, "delay");
    }

    async fn times_beyond_all_clocks_are_as_long_as_the_server_counts(fixture: Fixture) {
        let replay = Replay::last(1).keep_for(Duration::MAX);
        let channel = Channel::<u32>::builder(&fixture.client, "n").replay(replay).build().unwrap();
        channel.publish("k", &1).await.unwrap();
        let inbox = Inbox::<u32>::builder(&fixture.client, "n").ttl(Duration::MAX).reading_time(Duration::MAX);
        let inbox = inbox.build().unwrap();
        inbox.push("ann", &1).await.unwrap();
        assert_eq!(inbox.read("ann", 1).await.unwrap().items.len(), 1);
    }

    async fn a_message_over_the_limit_is_refused_with_both_sizes(fixture: Fixture) {
        let client = &fixture.client;
        let channel = Channel::<String>::builder(client, "n").max_message_bytes(10).build().unwrap();
        let inbox = Inbox::<String>::builder(client, "n").max_message_bytes(10).build().unwrap();
        let long = "x".repeat(9);
        is_refused(channel.publish("k", &long).await, "11 bytes");
        is_refused(channel.broadcast(["k"], &long).await, "limit of 10");
        is_refused(inbox.push("k", &long).await, "11 bytes");
        channel.publish("k", "12345678").await.unwrap();
    }
}

#[tokio::test]
async fn a_missing_right_is_named() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let rules = [
        "ACL",
        "SETUSER",
        "ann",
        "on",
        ">pw",
        "~*",
        "+@all",
        "resetchannels",
        "&channel:mine:*",
    ];
    server.raw(&rules).await.unwrap();
    let url = format!("redis://ann:pw@{}", server.addr());
    let client = Client::connect(ClientConfig::from_url(&url).unwrap())
        .await
        .unwrap();
    let mine = Channel::<u32>::new(&client, "mine").unwrap();
    let other = Channel::<u32>::new(&client, "others").unwrap();
    let _subscription = mine.subscribe(["k"]).await.unwrap();
    mine.publish("k", &1).await.unwrap();
    for error in [
        other.publish("k", &1).await.unwrap_err(),
        other.subscribe(["k"]).await.unwrap_err(),
    ] {
        assert!(
            error.to_string().contains("NOPERM") && !error.to_string().contains("pw"),
            "{error}"
        );
    }
    client.shutdown().await;
}
