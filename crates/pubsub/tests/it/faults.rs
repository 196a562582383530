//! Subscriptions under faults of real servers: whatever is missing lies in a gap that was told, and
//! with replay nothing is missing that the server still holds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redkit_core::{Client, ClientConfig, Driver};
use redkit_pubsub::{Channel, Event, GapReason, Inbox, InboxEvent, Overflow, Replay, Subscription};
use redkit_testkit::{Close, Program, Proxy, Server, ServerOptions};

use crate::listening::{next, next_item};

const MESSAGES: u32 = 400;

pub(crate) async fn connect(url: &str, driver: Driver) -> Client {
    let config = ClientConfig::from_url(url).unwrap().driver(driver);
    let config = config.command_timeout(Duration::from_millis(500));
    Client::connect(config.probe_interval(Duration::from_millis(100)))
        .await
        .unwrap()
}

/// A server with a proxy before the subscriber; the publisher reaches it directly.
struct World {
    server: Server,
    proxy: Proxy,
    publisher: Client,
    subscriber: Client,
}

impl World {
    async fn new(program: Program, driver: Driver) -> Self {
        let options = ServerOptions::new()
            .config("appendonly yes")
            .config("appendfsync always");
        let server = Server::start(program, options).await.unwrap();
        let proxy = Proxy::start(server.addr()).await.unwrap();
        Self {
            publisher: connect(&server.url(), Driver::default()).await,
            subscriber: connect(&server.url_at(proxy.addr()), driver).await,
            server,
            proxy,
        }
    }

    /// Breaks the subscriber's connection in several ways while messages are published.
    async fn trouble(&self) {
        for round in 0..8 {
            tokio::time::sleep(Duration::from_millis(60)).await;
            match round % 4 {
                0 => drop(self.server.kill_subscribers().await.unwrap()),
                1 => self.proxy.sever(Close::Rst),
                2 => {
                    self.proxy.black_hole();
                    tokio::time::sleep(Duration::from_millis(250)).await;
                    self.proxy.sever(Close::Rst);
                    self.proxy.pass();
                }
                _ => drop(self.server.kill_clients().await.unwrap()),
            }
        }
    }
}

fn channel(client: &Client, replay: Option<Replay>) -> Channel<u32> {
    let builder = Channel::builder(client, "n").queue(100_000, Overflow::DropOldest);
    match replay {
        Some(replay) => builder.replay(replay),
        None => builder,
    }
    .build()
    .unwrap()
}

/// Publishes each number until it is known to be published; one that may have been published twice is
/// none of the test's business.
async fn publish_all(channel: &Channel<u32>) {
    for n in 0..MESSAGES {
        publish(channel, n).await;
    }
}

async fn publish(channel: &Channel<u32>, n: u32) {
    while let Err(error) = channel.publish("k", &n).await {
        assert!(error.is_retryable(), "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(2)).await;
}

/// Checks that what comes is in order, and that whatever is missing lies where a gap was told, until `last` comes or a
/// number after it. Gives how many were missing.
pub(crate) async fn check(subscription: &mut Subscription<u32>, last: u32) -> u32 {
    let (mut expected, mut missing, mut may_miss) = (0, 0, false);
    loop {
        match next(subscription).await {
            Event::Gap(_) => may_miss = true,
            // It was published twice, because its publisher did not know.
            Event::Message(message) if message.payload + 1 == expected => {}
            Event::Message(message) => {
                let n = message.payload;
                assert!(n >= expected, "{n} came after {expected} was expected");
                assert!(
                    n == expected || may_miss,
                    "{expected} to {n} are missing, and no gap was told"
                );
                missing += n - expected;
                (expected, may_miss) = (n + 1, false);
                if n >= last {
                    return missing;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn whatever_is_missing_lies_in_a_gap(program: Program, driver: Driver) {
    let world = World::new(program, driver).await;
    let mut subscription = channel(&world.subscriber, None)
        .subscribe(["k"])
        .await
        .unwrap();
    let publisher = channel(&world.publisher, None);
    let is_back = AtomicBool::new(false);
    let publish = async {
        tokio::join!(publish_all(&publisher), world.trouble());
        // Each of these is the last one until the next: the subscription must hear one of them, or be told.
        for n in MESSAGES.. {
            if is_back.load(Ordering::SeqCst) {
                return n;
            }
            publish(&publisher, n).await;
        }
        unreachable!("the subscriber hears one of them, or panics")
    };
    let check = async {
        check(&mut subscription, MESSAGES).await;
        is_back.store(true, Ordering::SeqCst);
    };
    let (next_number, ()) = tokio::join!(publish, check);
    let mut after = channel(&world.subscriber, None)
        .subscribe(["k"])
        .await
        .unwrap();
    publisher.publish("k", &next_number).await.unwrap();
    assert!(
        matches!(next(&mut after).await, Event::Message(message) if message.payload == next_number)
    );
}

async fn with_replay_nothing_is_missing(program: Program, driver: Driver) {
    let world = World::new(program, driver).await;
    let replay = Some(Replay::last(10_000));
    let mut subscription = channel(&world.subscriber, replay)
        .subscribe(["k"])
        .await
        .unwrap();
    let publisher = channel(&world.publisher, replay);
    let ((), (), missing) = tokio::join!(
        publish_all(&publisher),
        world.trouble(),
        check(&mut subscription, MESSAGES - 1)
    );
    assert_eq!(missing, 0);
    // Nobody publishes any more who would show that something is missing.
    world.proxy.refuse();
    world.proxy.sever(Close::Rst);
    publisher.publish("k", &MESSAGES).await.unwrap();
    world.proxy.pass();
    assert!(
        matches!(next(&mut subscription).await, Event::Message(message) if message.payload == MESSAGES)
    );
}

async fn an_inbox_loses_and_doubles_nothing(program: Program, driver: Driver) {
    let world = World::new(program, driver).await;
    let inbox = |client| {
        Inbox::<u32>::builder(client, "n")
            .capacity(10_000)
            .build()
            .unwrap()
    };
    let mut subscription = inbox(&world.subscriber)
        .subscribe("ann", None)
        .await
        .unwrap();
    let pushes = inbox(&world.publisher);
    let push = async {
        for n in 0..MESSAGES {
            while let Err(error) = pushes.push("ann", &n).await {
                assert!(error.is_retryable(), "{error}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let read = async {
        let (mut expected, mut last) = (0, None);
        while expected < MESSAGES {
            match next_item(&mut subscription).await {
                InboxEvent::Item(item) => {
                    assert!(Some(item.id) > last, "an item came twice");
                    last = Some(item.id);
                    let n = item.value.unwrap();
                    // Pushed twice, because the pusher did not know.
                    assert!(
                        n == expected || n + 1 == expected,
                        "{n} came in place of {expected}"
                    );
                    expected = expected.max(n + 1);
                }
                InboxEvent::Gap => panic!("nothing was dropped"),
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::join!(push, world.trouble(), read);
}

macro_rules! each_server {
    ($($test:ident),* $(,)?) => {$(
        mod $test {
            use super::*;

            #[tokio::test]
            async fn on_redis() {
                super::$test(Program::Redis, Driver::default()).await;
            }

            #[tokio::test]
            async fn on_valkey() {
                super::$test(Program::Valkey, Driver::default()).await;
            }

            #[tokio::test]
            async fn through_fred() {
                super::$test(Program::Redis, Driver::Fred).await;
            }
        }
    )*};
}
each_server! {
    whatever_is_missing_lies_in_a_gap,
    with_replay_nothing_is_missing,
    an_inbox_loses_and_doubles_nothing,
}

#[tokio::test]
async fn what_a_restarted_server_lost_is_told() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let client = connect(&server.url(), Driver::default()).await;
    let numbers = channel(&client, Some(Replay::last(100)));
    let mut subscription = numbers.subscribe(["k"]).await.unwrap();
    for n in 0..3 {
        numbers.publish("k", &n).await.unwrap();
        assert!(
            matches!(next(&mut subscription).await, Event::Message(message) if message.payload == n)
        );
    }
    // Without persistence: the log is gone, and with it what might have been published meanwhile.
    server.restart().await.unwrap();
    assert!(matches!(
        next(&mut subscription).await,
        Event::Gap(GapReason::NotInLog)
    ));
    numbers.publish("k", &3).await.unwrap();
    assert!(
        matches!(next(&mut subscription).await, Event::Message(message) if message.payload == 3)
    );
    client.shutdown().await;
    assert!(
        subscription.next().await.is_none(),
        "a client that is shut down ends its subscriptions"
    );
}
