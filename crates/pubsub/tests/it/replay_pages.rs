//! How channels with replay read their logs: how often, and which of several first.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::{Command, GapReason as ConnectionGap, Push};
use redkit_pubsub::{Channel, Event, GapReason, Overflow, Position, Replay, Subscription};
use redkit_testkit::{FaultyBackend, Injection, Rule};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::listening::{gap, is_silent, message, next, payloads};

/// A channel whose subscribers hear what the test tells them alone.
pub(crate) fn told(replay: Replay, queue: (usize, Overflow)) -> (Arc<FaultyBackend>, Channel<u32>) {
    let backend = FaultyBackend::embedded();
    backend.take_over(|_| true);
    let builder = Channel::builder(&backend.client(), "numbers").replay(replay);
    let channel = builder.queue(queue.0, queue.1).build().unwrap();
    (backend, channel)
}

pub(crate) async fn publish(channel: &Channel<u32>, key: &str, count: u32) -> Vec<Position> {
    let mut positions = Vec::new();
    let all: Vec<u32> = (0..count).collect();
    for some in all.chunks(100) {
        for published in channel.publish_batch(key, some).await.unwrap() {
            positions.push(published.unwrap().position.unwrap());
        }
    }
    positions
}

/// The connection was away, and is there again.
pub(crate) fn reconnect(backend: &Arc<FaultyBackend>) {
    assert_eq!(backend.push(&Push::Gap(ConnectionGap::Reconnected)), 1);
}

/// As a message is heard.
pub(crate) fn tell(
    backend: &Arc<FaultyBackend>,
    key: &str,
    before: &str,
    number: &str,
    message: u32,
) {
    let channel = backend.client().key(format!("channel:numbers:{{{key}}}"));
    let push = Push::Message {
        channel: channel.to_bytes(),
        pattern: None,
        payload: Bytes::from(format!("{before} {number}\n{message}")),
    };
    assert_eq!(backend.push(&push), 1);
}

/// Reads messages, and publishes another one to the channel of each, until one of this key comes: the logs grow as fast as
/// the subscriber reads.
async fn read_until(subscription: &mut Subscription<u32>, channel: &Channel<u32>, key: &str) {
    for _ in 0..400 {
        let message = match next(subscription).await {
            Event::Message(message) => message,
            // What comes live finds a full queue, as the subscriber has not read what came from the logs.
            Event::Gap(GapReason::Overflowed(_)) => continue,
            other => panic!("{other:?}"),
        };
        if message.key == *key.as_bytes() {
            return;
        }
        let of = String::from_utf8(message.key.to_vec()).unwrap();
        channel.publish(&of, &0).await.unwrap();
    }
    panic!("the channel of {key} is held up");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_read_to_its_end_is_not_read_again_for_the_pages_of_others() {
    let (backend, channel) = told(Replay::last(3_000), (100_000, Overflow::DropOldest));
    let keys = (0..50).map(|n| format!("k{n}"));
    let mut subscription = channel.subscribe(keys).await.unwrap();
    assert!(is_silent(&mut subscription).await);
    publish(&channel, "k0", 2_000).await;
    backend.forget();
    reconnect(&backend);
    payloads(&mut subscription, 2_000).await;
    sleep(Duration::from_secs(1)).await;
    let readings = backend.count("XRANGE");
    assert!(readings <= 50 + 8 + 2, "{readings}");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_is_one_gap_whatever_others_hold() {
    let (backend, channel) = told(Replay::last(3_000), (100_000, Overflow::DropOldest));
    let mut subscription = channel.subscribe(["k0", "k1"]).await.unwrap();
    assert!(is_silent(&mut subscription).await);
    publish(&channel, "k0", 2_000).await;
    publish(&channel, "k1", 1).await;
    let refuse = Injection::Refuse("NOPERM", "this user has no permissions to access a key");
    let is_reading = |command: &Command| {
        command.name() == "XRANGE" && command.iter().any(|arg| arg.ends_with(b"{k1}:log"))
    };
    backend.add(Rule::new(refuse).on(is_reading).alone());
    reconnect(&backend);
    let (mut messages, mut gaps) = (0, 0);
    while messages < 2_000 || gaps == 0 {
        match next(&mut subscription).await {
            Event::Message(_) => messages += 1,
            Event::Gap(GapReason::NotInLog) => gaps += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(is_silent(&mut subscription).await);
    assert_eq!((messages, gaps), (2_000, 1));
}

#[tokio::test(start_paused = true)]
async fn logs_that_grow_as_fast_as_the_subscriber_reads_hold_up_no_other_channel() {
    let (backend, channel) = told(Replay::last(10_000), (16, Overflow::DropOldest));
    let mut subscription = channel.subscribe(["a", "b", "c"]).await.unwrap();
    assert!(is_silent(&mut subscription).await);
    for key in ["a", "b"] {
        publish(&channel, key, 100).await;
    }
    reconnect(&backend);
    for key in ["a", "b"] {
        read_until(&mut subscription, &channel, key).await;
    }
    // What comes live is not held up either: it stands in its log when it is told.
    let number = publish(&channel, "c", 1).await[0].to_string();
    tell(&backend, "c", "0", &number, 0);
    read_until(&mut subscription, &channel, "c").await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_a_log_is_read_waits_there_for_the_subscriber() {
    let (backend, channel) = told(Replay::last(10_000), (16, Overflow::DropOldest));
    let mut subscription = channel.subscribe(["k"]).await.unwrap();
    assert!(is_silent(&mut subscription).await);
    let mut before = publish(&channel, "k", 100).await[99].to_string();
    reconnect(&backend);
    for n in 0..160 {
        payloads(&mut subscription, 1).await;
        if n < 60 {
            let number = publish(&channel, "k", 1).await[0].to_string();
            tell(&backend, "k", &before, &number, 0);
            before = number;
        }
    }
    assert!(is_silent(&mut subscription).await);
}

/// Reads messages one by one, and publishes one to the channel of `a` after each of the first 60, until the subscriber has so many
/// of both channels.
async fn read_while_a_grows(
    subscription: &mut Subscription<u32>,
    (backend, channel): &(Arc<FaultyBackend>, Channel<u32>),
    before: &str,
    expected: (u32, u32),
) {
    let (mut of_a, mut of_b) = (0, 0);
    let mut before = before.to_owned();
    for n in 0..expected.0 + expected.1 {
        // Neither a gap nor a message twice.
        let message = message(subscription).await;
        match *message.key == *b"a" {
            true => of_a += 1,
            false => of_b += 1,
        }
        if n < 60 {
            let number = publish(channel, "a", 1).await[0].to_string();
            tell(backend, "a", &before, &number, 0);
            before = number;
        }
    }
    assert_eq!((of_a, of_b), expected);
    assert!(is_silent(subscription).await);
}

#[tokio::test(start_paused = true)]
async fn what_comes_on_a_channel_waits_in_its_log_while_another_log_is_read() {
    let channels = told(Replay::last(10_000), (16, Overflow::DropOldest));
    let (backend, channel) = &channels;
    let before = publish(channel, "a", 1).await[0].to_string();
    let mut subscription = channel.subscribe(["a", "b"]).await.unwrap();
    assert!(is_silent(&mut subscription).await);
    publish(channel, "b", 100).await;
    // The log of `a` is at its end, and is read first or second: it is not read for as long as that of `b`.
    reconnect(backend);
    read_while_a_grows(&mut subscription, &channels, &before, (60, 100)).await;
}

/// The subscriber has room for what the log holds, and not for all that comes live meanwhile.
#[tokio::test(start_paused = true)]
async fn what_comes_on_a_channel_waits_in_its_log_while_another_log_is_read_from_a_slow_server() {
    let (backend, channel) = told(Replay::last(10_000), (16, Overflow::DropOldest));
    let mut before = publish(&channel, "a", 1).await[0].to_string();
    let mut subscription = channel.subscribe(["a", "b"]).await.unwrap();
    assert!(is_silent(&mut subscription).await);
    publish(&channel, "b", 1).await;
    let slow = Injection::DelayReply(Duration::from_millis(200));
    let log_of_b = |command: &Command| {
        let key = command.get(0).unwrap_or_default();
        command.name() == "XRANGE" && String::from_utf8_lossy(key).contains("{b}")
    };
    backend.add(Rule::new(slow).on(log_of_b));
    reconnect(&backend);
    sleep(Duration::from_millis(50)).await;
    for position in publish(&channel, "a", 40).await {
        tell(&backend, "a", &before, &position.to_string(), 0);
        before = position.to_string();
    }
    sleep(Duration::from_secs(1)).await;
    payloads(&mut subscription, 41).await;
    assert!(is_silent(&mut subscription).await);
}

#[tokio::test(start_paused = true)]
async fn what_comes_on_a_channel_waits_in_its_log_while_a_hole_of_another_is_filled() {
    let channels = told(Replay::last(10_000), (16, Overflow::DropOldest));
    let (backend, channel) = &channels;
    let mut subscription = channel.subscribe(["a", "b"]).await.unwrap();
    assert!(is_silent(&mut subscription).await);
    let positions = publish(channel, "b", 100).await;
    let [before, last] = [98, 99].map(|n: usize| positions[n].to_string());
    tell(backend, "b", &before, &last, 99);
    read_while_a_grows(&mut subscription, &channels, "0", (60, 100)).await;
}

#[tokio::test(start_paused = true)]
async fn a_hole_in_a_log_that_grows_as_fast_as_the_subscriber_reads_holds_up_no_other_channel() {
    let (backend, channel) = told(Replay::last(10_000), (16, Overflow::DropOldest));
    let mut subscription = channel.subscribe(["a", "c"]).await.unwrap();
    assert!(is_silent(&mut subscription).await);
    let positions = publish(&channel, "a", 100).await;
    let [before, last] = [98, 99].map(|n: usize| positions[n].to_string());
    tell(&backend, "a", &before, &last, 99);
    tell(&backend, "c", "0", "1", 7);
    read_until(&mut subscription, &channel, "c").await;
}

/// The subscriber is told of what comes live meanwhile, as of a program without replay: no log has it.
async fn assert_is_told_of_others(
    backend: &Arc<FaultyBackend>,
    subscription: &mut Subscription<u32>,
) {
    let push = Push::Message {
        channel: backend.client().key("channel:numbers:{k}").to_bytes(),
        pattern: None,
        payload: Bytes::from_static(b"7"),
    };
    assert_eq!(backend.push(&push), 1);
    for _ in 0..60 {
        if payloads(subscription, 1).await == [7] {
            return;
        }
    }
    panic!("the subscriber is kept at the log");
}

/// The log has one more message whenever it is looked at.
#[tokio::test(start_paused = true)]
async fn a_quick_subscriber_is_not_kept_at_a_log_by_messages_that_never_cease() {
    const PUBLISH: &str = "local number = redis.call('GET', KEYS[2])
        local text = string.format('%.0f', number + 1)
        redis.call('XADD', KEYS[1], text .. '-0', 'p', number, 'm', '1')
        redis.call('SET', KEYS[2], text)";
    let (backend, channel) = told(Replay::last(10_000), (16, Overflow::DropOldest));
    let mut subscription = channel.subscribe(["k"]).await.unwrap();
    assert!(is_silent(&mut subscription).await);
    publish(&channel, "k", 1).await;
    let client = backend.client();
    let keys = ["log", "last"].map(|role| client.key(format!("channel:numbers:{{k}}:{role}")));
    let last = keys[1].to_bytes();
    let publish = Injection::precede(move |_| {
        let publish = Command::new("EVAL").arg(PUBLISH).arg(2);
        publish.key(&keys[0]).key(&keys[1])
    });
    let is_look = move |command: &Command| command.name() == "GET" && command.get(0) == Some(&last);
    backend.add(Rule::new(publish).on(is_look));
    reconnect(&backend);
    assert_is_told_of_others(&backend, &mut subscription).await;
}

#[tokio::test(start_paused = true)]
async fn a_quick_subscriber_is_not_kept_at_the_log_of_a_slow_server_by_messages_that_never_cease() {
    let (backend, channel) = told(Replay::last(10_000), (16, Overflow::DropOldest));
    let mut subscription = channel.subscribe(["k"]).await.unwrap();
    assert!(is_silent(&mut subscription).await);
    let _publisher = AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            publish(&channel, "k", 1).await;
            sleep(Duration::from_millis(50)).await;
        }
    }));
    sleep(Duration::from_millis(1)).await;
    let slow = Injection::DelayReply(Duration::from_millis(150));
    backend.add(Rule::new(slow).on(|command| ["GET", "XRANGE"].contains(&command.name())));
    reconnect(&backend);
    assert_is_told_of_others(&backend, &mut subscription).await;
}

/// A replica may not have the message yet, and then it would be taken for one that was lost.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_looked_for_in_the_log_is_looked_for_at_the_master() {
    let (backend, channel) = told(Replay::last(100), (1_000, Overflow::DropOldest));
    let client = backend.client();
    let [log, last] =
        ["log", "last"].map(|role| client.key(format!("channel:numbers:{{k}}:{role}")));
    let begin_anew = async |number: u64| {
        client
            .call::<u64>(Command::new("DEL").key(&log).key(&last))
            .await
            .unwrap();
        let add = Command::new("XADD").key(&log).arg(format!("{number}-0"));
        let add = add.arg("p").arg(0).arg("m").arg("1");
        client.call::<String>(add).await.unwrap();
        let set = Command::new("SET").key(&last).arg(number);
        client.call::<()>(set).await.unwrap();
    };
    let at = publish(&channel, "k", 1).await[0].to_string();
    let at: u64 = at.parse().unwrap();
    let told = |number: u64| tell(&backend, "k", "0", &number.to_string(), 1);
    begin_anew(at - 1_000).await;
    let position = at.to_string().parse().unwrap();
    let mut subscription = channel.subscribe_after("k", position).await.unwrap();
    assert_eq!(gap(&mut subscription).await, GapReason::NotInLog);
    begin_anew(at - 500).await;
    told(at - 500);
    assert_eq!(gap(&mut subscription).await, GapReason::NotInLog);
    payloads(&mut subscription, 1).await;
    begin_anew(at - 700).await;
    backend.forget();
    told(at - 700);
    assert_eq!(gap(&mut subscription).await, GapReason::WentBack);
    let seen = backend.seen();
    let looks: Vec<&Command> = seen
        .iter()
        .filter(|command| command.name() == "XRANGE" && command.get(1) == command.get(2))
        .collect();
    assert_eq!(looks.len(), 1);
    assert!(looks.iter().all(|command| command.is_from_master()));
}

/// They come live when the subscriber has them from the log, and are more than are known again.
#[tokio::test(start_paused = true)]
async fn live_messages_that_came_from_the_log_long_before_are_neither_doubled_nor_a_gap() {
    let (backend, channel) = told(Replay::last(10_000), (100_000, Overflow::DropOldest));
    let mut subscription = channel.subscribe(["k"]).await.unwrap();
    assert!(is_silent(&mut subscription).await);
    let first = publish(&channel, "k", 1).await[0].to_string();
    tell(&backend, "k", "0", &first, 0);
    payloads(&mut subscription, 1).await;
    let positions = publish(&channel, "k", 5_000).await;
    reconnect(&backend);
    payloads(&mut subscription, 5_000).await;
    let mut before = first;
    for position in positions {
        let number = position.to_string();
        tell(&backend, "k", &before, &number, 0);
        before = number;
    }
    assert!(is_silent(&mut subscription).await);
    let next = publish(&channel, "k", 1).await[0].to_string();
    tell(&backend, "k", &before, &next, 5);
    assert_eq!(payloads(&mut subscription, 1).await, [5]);
}

/// What the log holds waits for the subscriber, but not for one that has stopped reading.
#[tokio::test(start_paused = true)]
async fn a_subscriber_that_reads_nothing_of_the_log_is_disconnected_by_that_policy() {
    for overflow in [Overflow::DropOldest, Overflow::Disconnect] {
        let hours = Duration::from_secs(7_200);
        let (backend, channel) = told(Replay::last(1_000).keep_for(hours), (16, overflow));
        let mut subscription = channel.subscribe(["k"]).await.unwrap();
        assert!(is_silent(&mut subscription).await);
        publish(&channel, "k", 100).await;
        reconnect(&backend);
        // Slow, and it reads: none is missing.
        for _ in 0..20 {
            sleep(Duration::from_secs(40)).await;
            payloads(&mut subscription, 1).await;
        }
        let stopped = Instant::now();
        sleep(Duration::from_secs(180)).await;
        let mut rest = 0;
        while let Ok(Some(event)) = timeout(Duration::from_secs(1), subscription.next()).await {
            assert!(matches!(event, Event::Message(_)), "{event:?}");
            rest += 1;
        }
        assert!(stopped.elapsed() < Duration::from_secs(190));
        match overflow {
            Overflow::Disconnect => {
                assert!(rest <= 16, "{rest}");
                assert!(subscription.next().await.is_none());
            }
            _ => assert_eq!(rest, 80),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_is_busy_is_not_disconnected_when_its_log_has_nothing_for_it() {
    let (backend, channel) = told(Replay::last(1_000), (16, Overflow::Disconnect));
    let mut subscription = channel.subscribe(["k"]).await.unwrap();
    assert!(is_silent(&mut subscription).await);
    let first = publish(&channel, "k", 1).await[0].to_string();
    tell(&backend, "k", "0", &first, 0);
    sleep(Duration::from_secs(1)).await;
    reconnect(&backend);
    sleep(Duration::from_secs(180)).await;
    payloads(&mut subscription, 1).await;
    let second = publish(&channel, "k", 1).await[0].to_string();
    tell(&backend, "k", &first, &second, 0);
    payloads(&mut subscription, 1).await;
}
