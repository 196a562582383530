//! Channels beside the raw `redis` crate.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use hdrhistogram::Histogram;
use redis::aio::{MultiplexedConnection, PubSub};
use redkit_benches::{COMPARISON, Load, Target, Worker, compare, comparison, median};
use redkit_core::Client;
use redkit_pubsub::{Channel, Event, Overflow, Subscription};
use redkit_testkit::Server;
use tokio::sync::{Mutex, Semaphore};

use crate::{PUBLISHERS, at_least, client, connection, message, per_second, raw};

/// Messages under way at most, so that no queue overflows on either side.
const UNDER_WAY: usize = 512;
const LEAST: f64 = 1.0;

pub(crate) async fn measure(
    server: &Server,
    client: &Client,
    quick: bool,
    targets: &mut Vec<Target>,
) -> String {
    let mut text = String::new();
    one_at_a_time(server, client, quick, &mut text, targets).await;
    flood(server, client, quick, &mut text, targets).await;
    slow_subscriber(server, quick, &mut text).await;
    text
}

/// Publishes a message, and waits until its own subscription has it.
struct Ours {
    channel: Channel<String>,
    key: String,
    subscription: Arc<Mutex<Subscription<String>>>,
    message: String,
}

impl Worker for Ours {
    async fn step(&mut self) {
        self.channel
            .publish(self.key.as_str(), self.message.as_str())
            .await
            .unwrap();
        receive(&mut *self.subscription.lock().await).await;
    }
}

async fn receive(subscription: &mut Subscription<String>) {
    match subscription.next().await {
        Some(Event::Message(message)) => assert_eq!(message.payload.len(), 64),
        other => panic!("{other:?}"),
    }
}

struct Raw {
    connection: MultiplexedConnection,
    channel: String,
    subscription: Arc<Mutex<PubSub>>,
    message: String,
}

impl Worker for Raw {
    async fn step(&mut self) {
        publish_raw(&mut self.connection, &self.channel, &self.message).await;
        receive_raw(&mut *self.subscription.lock().await).await;
    }
}

async fn publish_raw(connection: &mut MultiplexedConnection, channel: &str, message: &str) {
    let message = serde_json::to_vec(message).unwrap();
    let mut publish = redis::cmd("PUBLISH");
    let publish = publish.arg(channel).arg(message);
    publish.query_async::<u64>(connection).await.unwrap();
}

async fn receive_raw(subscription: &mut PubSub) {
    let message = subscription.on_message().next().await.unwrap();
    let text: String = serde_json::from_slice(message.get_payload_bytes()).unwrap();
    assert_eq!(text.len(), 64);
}

async fn one_at_a_time(
    server: &Server,
    client: &Client,
    quick: bool,
    text: &mut String,
    targets: &mut Vec<Target>,
) {
    const MOST: usize = 64;
    let channel: Channel<String> = Channel::new(client, "one").unwrap();
    let raw = raw(server);
    let publisher = connection(&raw).await;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for task in 0..MOST {
        let key = task.to_string();
        let subscription = channel.subscribe([key.as_str()]).await.unwrap();
        ours.push((key, Arc::new(Mutex::new(subscription))));
        let name = format!("raw-{task}");
        let mut subscription = raw.get_async_pubsub().await.unwrap();
        subscription.subscribe(&name).await.unwrap();
        theirs.push((name, Arc::new(Mutex::new(subscription))));
    }
    let _ = writeln!(
        text,
        "A message is published, and waited for by its own subscription; each task has a channel. The raw `redis` \
         crate publishes on one\nconnection and has one for each subscription; ours has two in all. Target: at least \
         {LEAST} times its p50 at 1 task.\n\n| channel, beside | {COMPARISON}\n|---|---|---|---|---|---|---|---|---|"
    );
    for tasks in [1, MOST] {
        let load = Load {
            tasks,
            slice: Duration::from_millis(if quick { 300 } else { 400 }),
            rounds: if quick { 4 } else { 8 },
        };
        let paired = compare(
            load,
            |task| Ours {
                channel: channel.clone(),
                key: ours[task].0.clone(),
                subscription: Arc::clone(&ours[task].1),
                message: message(),
            },
            |task| Raw {
                connection: publisher.clone(),
                channel: theirs[task].0.clone(),
                subscription: Arc::clone(&theirs[task].1),
                message: message(),
            },
        )
        .await;
        let _ = writeln!(text, "{}", comparison("`redis`", tasks, &paired));
        if tasks == 1 {
            #[expect(clippy::cast_precision_loss, reason = "microseconds")]
            let p50 = |latency: &Histogram<u64>| latency.value_at_quantile(0.5) as f64;
            let ratio = p50(&paired.peer.latency) / p50(&paired.ours.latency);
            let what = "a channel's p50 at 1 task, the raw driver's / ours";
            targets.push(at_least(what, ratio, LEAST));
        }
    }
}

/// Many publishers and one subscriber.
async fn flood(
    server: &Server,
    client: &Client,
    quick: bool,
    text: &mut String,
    targets: &mut Vec<Target>,
) {
    let (messages, rounds) = if quick { (20_000, 3) } else { (60_000, 7) };
    let channel: Channel<String> = Channel::builder(client, "flood")
        .queue(2 * UNDER_WAY, Overflow::Disconnect)
        .build()
        .unwrap();
    let mut subscription = channel.subscribe(["all"]).await.unwrap();
    let raw = raw(server);
    let publisher = connection(&raw).await;
    let mut raw_subscription = raw.get_async_pubsub().await.unwrap();
    raw_subscription.subscribe("raw-flood").await.unwrap();
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let mut figures = [0.0; 2];
        for turn in 0..2 {
            let took = match (round + turn) % 2 {
                0 => {
                    let room = Arc::new(Semaphore::new(UNDER_WAY));
                    let publishers = (0..PUBLISHERS).map(|_| {
                        let (channel, room, message) =
                            (channel.clone(), Arc::clone(&room), message());
                        tokio::spawn(async move {
                            for _ in 0..messages / PUBLISHERS {
                                room.acquire().await.unwrap().forget();
                                channel.publish("all", message.as_str()).await.unwrap();
                            }
                        })
                    });
                    let started = Instant::now();
                    let publishers: Vec<_> = publishers.collect();
                    for _ in 0..messages {
                        receive(&mut subscription).await;
                        room.add_permits(1);
                    }
                    let took = started.elapsed();
                    futures_util::future::join_all(publishers).await;
                    took
                }
                _ => {
                    let room = Arc::new(Semaphore::new(UNDER_WAY));
                    let publishers = (0..PUBLISHERS).map(|_| {
                        let (mut connection, room, message) =
                            (publisher.clone(), Arc::clone(&room), message());
                        tokio::spawn(async move {
                            for _ in 0..messages / PUBLISHERS {
                                room.acquire().await.unwrap().forget();
                                publish_raw(&mut connection, "raw-flood", &message).await;
                            }
                        })
                    });
                    let started = Instant::now();
                    let publishers: Vec<_> = publishers.collect();
                    let mut received = raw_subscription.on_message();
                    for _ in 0..messages {
                        let message = received.next().await.unwrap();
                        let text: String =
                            serde_json::from_slice(message.get_payload_bytes()).unwrap();
                        assert_eq!(text.len(), 64);
                        room.add_permits(1);
                    }
                    let took = started.elapsed();
                    futures_util::future::join_all(publishers).await;
                    took
                }
            };
            figures[(round + turn) % 2] = per_second(messages, took);
        }
        ours.push(figures[0]);
        theirs.push(figures[1]);
        ratios.push(figures[0] / figures[1]);
    }
    let (ours, theirs, ratio) = (median(ours), median(theirs), median(ratios));
    let _ = writeln!(
        text,
        "\n{PUBLISHERS} tasks publish on one channel with one subscriber, {UNDER_WAY} messages under way at most: {ours:.0} \
         messages a second, the raw crate\n{theirs:.0}: **{ratio:.2}** times as many (target: at least {LEAST})."
    );
    let what = "messages a second from many publishers to one subscriber";
    targets.push(at_least(what, ratio, LEAST));
}

/// Whether a subscriber that does not read holds up others.
async fn slow_subscriber(server: &Server, quick: bool, text: &mut String) {
    const SUBSCRIBERS: usize = 100;
    let messages = if quick { 300 } else { 1_000 };
    let mut p99 = [Vec::new(), Vec::new()];
    for round in 0..if quick { 2 } else { 4 } {
        let has_slow = round % 2 == 1;
        let (listener, sender) = (client(server).await, client(server).await);
        let channel = |client: &Client| {
            let channel = Channel::<u64>::builder(client, "slow");
            channel.queue(256, Overflow::DropOldest).build().unwrap()
        };
        let (channel, sender_channel) = (channel(&listener), channel(&sender));
        let epoch = Instant::now();
        let micros = move || u64::try_from(epoch.elapsed().as_micros()).unwrap();
        let slow = match has_slow {
            true => Some(channel.subscribe(["all"]).await.unwrap()),
            false => None,
        };
        let mut readers = Vec::new();
        for _ in usize::from(has_slow)..SUBSCRIBERS {
            let mut subscription = channel.subscribe(["all"]).await.unwrap();
            readers.push(tokio::spawn(async move {
                let mut latency = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).unwrap();
                while latency.len() < messages {
                    match subscription.next().await {
                        Some(Event::Message(message)) => {
                            latency.saturating_record(micros() - message.payload);
                        }
                        other => panic!("{other:?}"),
                    }
                }
                latency
            }));
        }
        let mut every = tokio::time::interval(Duration::from_millis(3));
        for _ in 0..messages {
            every.tick().await;
            sender_channel.publish("all", &micros()).await.unwrap();
        }
        let mut latency = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).unwrap();
        for reader in readers {
            latency += reader.await.unwrap();
        }
        drop(slow);
        #[expect(clippy::cast_precision_loss, reason = "microseconds")]
        p99[usize::from(has_slow)].push(latency.value_at_quantile(0.99) as f64 / 1e3);
        listener.shutdown().await;
        sender.shutdown().await;
    }
    let [without, with] = p99.map(median);
    let _ = writeln!(
        text,
        "\n{SUBSCRIBERS} subscribers of one process to one channel, a message every 3 ms: p99 is {without:.2} ms when all of \
         them read, and {with:.2} ms for\nthe others when one of them never reads."
    );
}
