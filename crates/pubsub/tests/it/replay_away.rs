//! Channels with replay of which one log's server gives no answer, or refuses, while the others are served.

use std::sync::Arc;
use std::time::Duration;

use redkit_core::{Command, GapReason as ConnectionGap, Push};
use redkit_pubsub::{Channel, Event, GapReason, Overflow, Position, Replay, Subscription};
use redkit_testkit::{FaultyBackend, Injection, Rule};
use tokio::time::{Instant, sleep, timeout};

use crate::listening::{gap, is_silent, message, payloads};
use crate::replay_pages::{reconnect, tell, told};

/// Subscriptions to `a` and `b`, and what the first is behind.
async fn two_channels() -> (Arc<FaultyBackend>, Channel<u32>, Subscription<u32>) {
    let (backend, channel) = told(Replay::last(1_000), (1_000, Overflow::DropOldest));
    let mut subscription = channel.subscribe(["a", "b"]).await.unwrap();
    assert!(is_silent(&mut subscription).await);
    (backend, channel, subscription)
}

/// As on a cluster whose master of `a` is so: nothing else is touched.
fn of_a(fault: Injection, names: &'static [&'static str]) -> Rule {
    let is_meant = move |command: &Command| {
        let is_of_a = command
            .iter()
            .any(|arg| String::from_utf8_lossy(arg).contains("{a}"));
        is_of_a && names.contains(&command.name())
    };
    Rule::new(fault).on(is_meant).alone()
}

/// Publishes a message, tells it as it is heard, and gives its position.
async fn publish_and_tell(
    (backend, channel): (&Arc<FaultyBackend>, &Channel<u32>),
    key: &str,
    before: Option<Position>,
    message: u32,
) -> Position {
    let position = publish(channel, key, message).await;
    let before = before.map_or("0".to_owned(), |before| before.to_string());
    tell(backend, key, &before, &position.to_string(), message);
    position
}

async fn publish(channel: &Channel<u32>, key: &str, message: u32) -> Position {
    let published = channel.publish(key, &message).await.unwrap();
    published.position.unwrap()
}

/// So many messages with their channels; nothing else may come.
async fn messages(subscription: &mut Subscription<u32>, count: usize) -> Vec<(Vec<u8>, u32)> {
    let mut messages = Vec::new();
    while messages.len() < count {
        let message = message(subscription).await;
        messages.push((message.key.to_vec(), message.payload));
    }
    messages
}

fn of(key: &str, payloads: impl IntoIterator<Item = u32>) -> Vec<(Vec<u8>, u32)> {
    let payloads = payloads.into_iter();
    payloads.map(|n| (key.as_bytes().to_vec(), n)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_log_whose_server_is_away_holds_up_no_other_channel_and_its_messages_come_in_order_later()
{
    for (fault, names) in [
        (Injection::NotSent, &["GET", "XRANGE"][..]),
        (Injection::NotSent, &["XRANGE"]),
        (Injection::HangBefore, &["GET", "XRANGE"]),
        (Injection::LoseReply, &["GET"]),
    ] {
        let context = format!("{fault:?} {names:?}");
        let (backend, channel, mut subscription) = two_channels().await;
        for n in 0..3 {
            publish(&channel, "a", n).await;
        }
        let at_b = publish(&channel, "b", 10).await;
        backend.add(of_a(fault, names));
        reconnect(&backend);
        assert_eq!(
            messages(&mut subscription, 1).await,
            of("b", [10]),
            "{context}"
        );
        let mut before = at_b;
        let mut at_a = None;
        for n in 0..30 {
            // What comes on `a` waits in its log.
            at_a = Some(publish_and_tell((&backend, &channel), "a", at_a, 3 + n).await);
            before = publish_and_tell((&backend, &channel), "b", Some(before), 11 + n).await;
            let told = Instant::now();
            assert_eq!(
                messages(&mut subscription, 1).await,
                of("b", [11 + n]),
                "{context}"
            );
            assert!(told.elapsed() < Duration::from_millis(2_500), "{context}");
            sleep(Duration::from_secs(5)).await;
        }
        backend.clear();
        let back = Instant::now();
        assert_eq!(
            messages(&mut subscription, 33).await,
            of("a", 0..33),
            "{context}"
        );
        assert!(back.elapsed() < Duration::from_secs(4), "{context}");
        publish_and_tell((&backend, &channel), "a", at_a, 33).await;
        assert_eq!(
            messages(&mut subscription, 1).await,
            of("a", [33]),
            "{context}"
        );
        assert!(is_silent(&mut subscription).await, "{context}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hole_in_a_log_whose_server_is_away_holds_up_no_other_channel() {
    let (backend, channel, mut subscription) = two_channels().await;
    let first = publish_and_tell((&backend, &channel), "a", None, 0).await;
    assert_eq!(payloads(&mut subscription, 1).await, [0]);
    let lost_on_its_way = publish(&channel, "a", 1).await;
    assert!(lost_on_its_way > first);
    backend.add(of_a(Injection::NotSent, &["GET", "XRANGE"]));
    publish_and_tell((&backend, &channel), "a", Some(lost_on_its_way), 2).await;
    publish_and_tell((&backend, &channel), "b", None, 10).await;
    assert_eq!(messages(&mut subscription, 1).await, of("b", [10]));
    sleep(Duration::from_secs(60)).await;
    assert!(is_silent(&mut subscription).await);
    backend.clear();
    assert_eq!(messages(&mut subscription, 2).await, of("a", 1..3));
    assert!(is_silent(&mut subscription).await);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_its_log_has_dropped_before_its_server_is_back_comes_behind_a_gap() {
    let (backend, channel, mut subscription) = two_channels().await;
    let first = publish_and_tell((&backend, &channel), "a", None, 0).await;
    assert_eq!(payloads(&mut subscription, 1).await, [0]);
    let lost_on_its_way = publish(&channel, "a", 1).await;
    assert!(lost_on_its_way > first);
    backend.add(of_a(Injection::NotSent, &["GET", "XRANGE"]));
    let third = publish_and_tell((&backend, &channel), "a", Some(lost_on_its_way), 2).await;
    sleep(Duration::from_secs(3_600)).await;
    backend.clear();
    assert_eq!(gap(&mut subscription).await, GapReason::NotInLog);
    assert_eq!(messages(&mut subscription, 1).await, of("a", [2]));
    publish_and_tell((&backend, &channel), "a", Some(third), 3).await;
    assert_eq!(messages(&mut subscription, 1).await, of("a", [3]));
    assert!(is_silent(&mut subscription).await);
}

/// Its master died with it, and the one that took over does not have it.
#[tokio::test(start_paused = true)]
async fn a_message_that_was_heard_and_lost_while_its_server_was_away_comes_behind_a_gap() {
    let (backend, channel, mut subscription) = two_channels().await;
    let first = publish(&channel, "a", 0).await;
    backend.add(of_a(Injection::NotSent, &["GET", "XRANGE"]));
    reconnect(&backend);
    sleep(Duration::from_secs(1)).await;
    let first: u64 = first.to_string().parse().unwrap();
    let [lost, heard] = [first + 1, first + 2].map(|number| number.to_string());
    tell(&backend, "a", &lost, &heard, 2);
    sleep(Duration::from_secs(1)).await;
    backend.clear();
    assert_eq!(messages(&mut subscription, 1).await, of("a", [0]));
    assert_eq!(gap(&mut subscription).await, GapReason::NotInLog);
    assert_eq!(messages(&mut subscription, 1).await, of("a", [2]));
    assert!(is_silent(&mut subscription).await);
}

/// The server's answer comes from before the connection was lost once more.
#[tokio::test(start_paused = true)]
async fn what_is_published_behind_the_answer_of_a_server_that_was_away_is_not_passed_over() {
    let (backend, channel, mut subscription) = two_channels().await;
    backend.set(of_a(Injection::NotSent, &["GET"]));
    reconnect(&backend);
    sleep(Duration::from_millis(10)).await;
    backend.set(of_a(Injection::DelayReply(Duration::from_secs(1)), &["GET"]).times(1));
    // The question is under way.
    sleep(Duration::from_millis(300)).await;
    publish(&channel, "a", 0).await;
    reconnect(&backend);
    assert_eq!(messages(&mut subscription, 1).await, of("a", [0]));
    assert!(is_silent(&mut subscription).await);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_whose_log_cannot_be_read_ends_with_its_connection() {
    let (backend, channel, mut subscription) = two_channels().await;
    publish(&channel, "a", 0).await;
    backend.add(of_a(Injection::NotSent, &["GET", "XRANGE"]));
    reconnect(&backend);
    assert!(is_silent(&mut subscription).await);
    backend.end_subscriptions();
    let end = timeout(Duration::from_secs(5), subscription.next()).await;
    assert!(end.unwrap().is_none());
}

/// As where the connection comes and goes while the program ends.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_shut_down_is_no_gap() {
    for keys in [&["a"][..], &["a", "b"]] {
        let backend = FaultyBackend::embedded();
        backend.take_over(|_| true);
        let client = backend.client();
        let builder = Channel::builder(&client, "numbers").replay(Replay::last(1_000));
        let channel: Channel<u32> = builder.build().unwrap();
        let mut subscription = channel.subscribe(keys).await.unwrap();
        publish(&channel, "a", 0).await;
        client.shutdown().await;
        reconnect(&backend);
        assert!(is_silent(&mut subscription).await);
        backend.end_subscriptions();
        let end = timeout(Duration::from_secs(5), subscription.next()).await;
        assert!(end.unwrap().is_none());
    }
}

/// However many channels a server has that dies after so many calls, it is waited for a few times.
async fn many_logs_of_a_server_that_dies(after: usize) {
    let (backend, channel) = told(Replay::last(100), (1_000, Overflow::DropOldest));
    let keys = (0..200).map(|n| format!("a{n}"));
    let keys = keys.chain(["b".to_owned()]);
    let mut subscription = channel.subscribe(keys).await.unwrap();
    assert!(is_silent(&mut subscription).await);
    for n in 0..200 {
        publish(&channel, &format!("a{n}"), n).await;
    }
    let is_of_a = |command: &Command| {
        let mut args = command.iter();
        let is_of_a = args.any(|arg| String::from_utf8_lossy(arg).contains("{a"));
        is_of_a && ["GET", "XRANGE"].contains(&command.name())
    };
    let dies = Rule::new(Injection::HangBefore).on(is_of_a).alone();
    backend.add(dies.skip(after));
    reconnect(&backend);
    publish_and_tell((&backend, &channel), "b", None, 10).await;
    let told = Instant::now();
    assert_eq!(messages(&mut subscription, 1).await, of("b", [10]));
    assert!(
        told.elapsed() < Duration::from_secs(5),
        "{:?}",
        told.elapsed()
    );
    backend.forget();
    sleep(Duration::from_secs(60)).await;
    let asked = backend.count("GET");
    assert!(asked <= 200 * 30, "{asked}");
}

#[tokio::test(start_paused = true)]
async fn many_logs_of_a_server_that_is_away_are_asked_for_at_once() {
    many_logs_of_a_server_that_dies(0).await;
}

#[tokio::test(start_paused = true)]
async fn many_logs_of_a_server_that_dies_after_it_was_asked_are_not_waited_for_one_by_one() {
    many_logs_of_a_server_that_dies(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_hole_that_cannot_be_read_is_one_gap() {
    let (backend, channel, mut subscription) = two_channels().await;
    let refuse = Injection::Refuse("NOPERM", "this user has no permissions to access a key");
    backend.add(of_a(refuse, &["XRANGE"]));
    let before = publish(&channel, "a", 0).await;
    reconnect(&backend);
    assert_eq!(gap(&mut subscription).await, GapReason::NotInLog);
    // No message was handed on in between.
    reconnect(&backend);
    assert!(is_silent(&mut subscription).await);
    let second = publish_and_tell((&backend, &channel), "a", Some(before), 1).await;
    assert_eq!(payloads(&mut subscription, 1).await, [1]);
    let lost_on_its_way = publish(&channel, "a", 2).await;
    assert!(lost_on_its_way > second);
    publish_and_tell((&backend, &channel), "a", Some(lost_on_its_way), 3).await;
    assert_eq!(gap(&mut subscription).await, GapReason::NotInLog);
    assert_eq!(payloads(&mut subscription, 1).await, [3]);
    assert!(is_silent(&mut subscription).await);
}

/// A replica may lack the last messages, and then they would be told as lost, and come once more later.
#[tokio::test(start_paused = true)]
async fn logs_are_read_at_the_master() {
    let (backend, channel, mut subscription) = two_channels().await;
    publish(&channel, "a", 0).await;
    reconnect(&backend);
    assert_eq!(payloads(&mut subscription, 1).await, [0]);
    let seen = backend.seen();
    let reads = ["GET", "XRANGE", "XREVRANGE"];
    let mut reads = seen.iter().filter(|seen| reads.contains(&seen.name()));
    assert!(reads.all(Command::is_from_master));
}

/// A subscriber under [`Overflow::Disconnect`] that has not read a whole queue of messages.
async fn busy(key: &str) -> (Arc<FaultyBackend>, Channel<u32>, Subscription<u32>) {
    let (backend, channel) = told(Replay::last(1_000), (4, Overflow::Disconnect));
    let mut subscription = channel.subscribe([key]).await.unwrap();
    assert!(is_silent(&mut subscription).await);
    let mut before = None;
    for n in 0..4 {
        before = Some(publish_and_tell((&backend, &channel), key, before, n).await);
    }
    sleep(Duration::from_secs(1)).await;
    (backend, channel, subscription)
}

#[tokio::test(start_paused = true)]
async fn a_busy_subscriber_is_not_disconnected_for_a_channel_that_never_had_a_message() {
    let (backend, channel) = told(Replay::last(1_000), (4, Overflow::Disconnect));
    let mut subscription = channel.subscribe(["k"]).await.unwrap();
    assert!(is_silent(&mut subscription).await);
    for n in 0..4 {
        // Published by a program without replay.
        let push = Push::Message {
            channel: backend.client().key("channel:numbers:{k}").to_bytes(),
            pattern: None,
            payload: n.to_string().into(),
        };
        assert_eq!(backend.push(&push), 1);
    }
    sleep(Duration::from_secs(1)).await;
    reconnect(&backend);
    sleep(Duration::from_secs(600)).await;
    assert_eq!(payloads(&mut subscription, 4).await, [0, 1, 2, 3]);
    publish_and_tell((&backend, &channel), "k", None, 4).await;
    assert_eq!(payloads(&mut subscription, 1).await, [4]);
}

#[tokio::test(start_paused = true)]
async fn a_busy_subscriber_is_not_disconnected_because_a_question_was_lost() {
    for calls in [1, 10, 1_000] {
        let (backend, channel, mut subscription) = busy("a").await;
        backend.add(of_a(Injection::NotSent, &["GET"]).times(calls));
        reconnect(&backend);
        sleep(Duration::from_secs(300)).await;
        backend.clear();
        sleep(Duration::from_secs(300)).await;
        assert_eq!(payloads(&mut subscription, 4).await, [0, 1, 2, 3]);
        publish(&channel, "a", 4).await;
        reconnect(&backend);
        assert_eq!(payloads(&mut subscription, 1).await, [4]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_subscriber_is_disconnected_once_the_server_says_that_something_waits() {
    let (backend, channel, mut subscription) = busy("a").await;
    publish(&channel, "a", 4).await;
    backend.add(of_a(Injection::NotSent, &["GET"]));
    assert_eq!(backend.push(&Push::Gap(ConnectionGap::Reconnected)), 1);
    sleep(Duration::from_secs(300)).await;
    backend.clear();
    sleep(Duration::from_secs(200)).await;
    assert_eq!(payloads(&mut subscription, 4).await, [0, 1, 2, 3]);
    let next = subscription.next().await;
    assert!(next.is_none(), "{next:?}");
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_is_disconnected_is_told_first_that_the_server_has_lost_its_data() {
    let (backend, channel, mut subscription) = busy("a").await;
    let client = backend.client();
    for role in ["log", "last"] {
        let key = client.key(format!("channel:numbers:{{a}}:{role}"));
        let deleted: u32 = client.call(Command::new("DEL").key(&key)).await.unwrap();
        assert_eq!(deleted, 1, "{role}");
    }
    reconnect(&backend);
    sleep(Duration::from_secs(200)).await;
    assert_eq!(payloads(&mut subscription, 4).await, [0, 1, 2, 3]);
    assert_eq!(gap(&mut subscription).await, GapReason::NotInLog);
    let next = subscription.next().await;
    assert!(next.is_none(), "{next:?}");
    drop(channel);
}

#[tokio::test(start_paused = true)]
async fn messages_of_many_channels_come_once_whatever_their_servers_do() {
    let (backend, channel) = told(Replay::last(1_000), (1_000, Overflow::DropOldest));
    let mut subscription = channel.subscribe(["a", "b", "c"]).await.unwrap();
    assert!(is_silent(&mut subscription).await);
    backend.random(7, 0.3, Duration::from_millis(300));
    let mut published = Vec::new();
    let publisher = {
        let (backend, channel) = (Arc::clone(&backend), channel.clone());
        async move {
            let mut before = std::collections::BTreeMap::new();
            for n in 0..300_u32 {
                let key = ["a", "b", "c"][n as usize % 3];
                let Ok(one) = channel.publish(key, &n).await else {
                    continue;
                };
                let at = one.position.unwrap().to_string();
                let was = before.insert(key, at.clone());
                if n % 4 != 0 {
                    let was = was.unwrap_or_else(|| "0".to_owned());
                    tell(&backend, key, &was, &at, n);
                }
                if n % 50 == 0 {
                    reconnect(&backend);
                }
                published.push((key.as_bytes().to_vec(), n));
                sleep(Duration::from_millis(20)).await;
            }
            backend.clear();
            sleep(Duration::from_secs(5)).await;
            reconnect(&backend);
            published
        }
    };
    let published = tokio::spawn(publisher).await.unwrap();
    let mut came: std::collections::BTreeMap<Vec<u8>, Vec<u32>> = Default::default();
    while let Ok(Some(event)) = timeout(Duration::from_secs(30), subscription.next()).await {
        let Event::Message(message) = event else {
            panic!("{event:?}");
        };
        came.entry(message.key.to_vec())
            .or_default()
            .push(message.payload);
    }
    for (key, n) in published {
        assert!(came[&key].contains(&n), "{n} of {key:?} is missing");
    }
    for (key, payloads) in came {
        assert!(payloads.is_sorted_by(|a, b| a < b), "{key:?}: {payloads:?}");
    }
}
