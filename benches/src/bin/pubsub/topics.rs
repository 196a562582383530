//! Topics beside a pipeline that is written by hand, and beside `apalis-redis`.

use std::fmt::Write as _;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redkit_benches::{COMPARISON, Load, Target, Worker, compare, comparison, median};
use redkit_core::Client;
use redkit_pubsub::topic::{Publication, Retention, Topic};
use redkit_testkit::Server;

use crate::pipelines::{Acknowledge, Apalis, ByHand, Pipeline, Redkit, Settings};
use crate::{at_least, connection, message, per_second, raw};

const LEAST_BY_HAND: f64 = 0.9;
const LEAST_APALIS: f64 = 2.0;

pub(crate) async fn measure(
    server: &Server,
    client: &Client,
    quick: bool,
    targets: &mut Vec<Target>,
) -> String {
    let mut text = String::new();
    publishing(server, client, quick, &mut text).await;
    let _ = writeln!(
        text,
        "\nPublished by {} tasks, taken by one worker with 64 handlers and a prefetch of 128, acknowledged; messages a \
         second until the last\nis acknowledged. By hand: `XADD`, `XREADGROUP` of 128 at once, 64 tasks, an `XACK` for each \
         message or one for each read, and\nnothing else: no claims, no retries, no heartbeats. Targets: {LEAST_BY_HAND} \
         times the pipeline by hand that acknowledges each,\n{LEAST_APALIS} times `apalis-redis` (0.7).\n\n\
         | redkit | beside | redkit messages/s | peer's | ratio |\n|---|---|---|---|---|",
        crate::PUBLISHERS,
    );
    let (messages, rounds) = if quick { (5_000, 3) } else { (20_000, 7) };
    let log = Settings {
        retention: Retention::Log {
            keep: None,
            most: None,
        },
        with_ids: false,
        in_batches: false,
    };
    let queue = Settings {
        retention: Retention::Queue,
        with_ids: false,
        in_batches: false,
    };
    let with_ids = Settings {
        with_ids: true,
        ..queue
    };
    let mut row = |ours: &str, peer: &str, run: &Run, least: Option<f64>| {
        let _ = writeln!(
            text,
            "| {ours} | {peer} | {:.0} | {:.0} | **{:.2}** |",
            run.ours, run.peer, run.ratio
        );
        if let Some(least) = least {
            let what = format!("a topic ({ours}) beside {peer}");
            targets.push(at_least(what, run.ratio, least));
        }
    };
    for (what, settings, least) in [
        ("log", log, Some(LEAST_BY_HAND)),
        ("queue, which deletes", queue, None),
        ("queue, with ids", with_ids, None),
    ] {
        let ours = Redkit::start(client, settings).await;
        let each = ByHand::start(server, Acknowledge::Each).await;
        let run = beside(&ours, &each, messages, rounds).await;
        row(what, "by hand, each acknowledged", &run, least);
    }
    let batches = Settings {
        in_batches: true,
        ..log
    };
    for (what, settings) in [("log", log), ("log, in batches of 128", batches)] {
        let ours = Redkit::start(client, settings).await;
        let read = ByHand::start(server, Acknowledge::EachRead).await;
        let run = beside(&ours, &read, messages, rounds).await;
        row(what, "by hand, each read acknowledged", &run, None);
    }

    // So few messages that the peer ends: it takes 10 every 100 ms unless it is told otherwise.
    for (peer, poll, buffer, messages) in [
        ("`apalis-redis` as it comes", 100, 10, 200),
        ("`apalis-redis`, 1,000 every 5 ms", 5, 1_000, messages / 10),
    ] {
        let ours = Redkit::start(client, queue).await;
        let apalis = Apalis::start(server, Duration::from_millis(poll), buffer).await;
        let run = beside(&ours, &apalis, messages, rounds.min(5)).await;
        row("queue, which deletes", peer, &run, Some(LEAST_APALIS));
    }
    text
}

struct Run {
    ours: f64,
    peer: f64,
    ratio: f64,
}

/// Both in turns, each first in every other round.
async fn beside(ours: &impl Pipeline, peer: &impl Pipeline, messages: usize, rounds: usize) -> Run {
    ours.run(messages / 10).await;
    peer.run(messages / 10).await;
    let (mut of_ours, mut of_peer, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let (one, other) = match round % 2 {
            0 => {
                let one = ours.run(messages).await;
                (one, peer.run(messages).await)
            }
            _ => {
                let other = peer.run(messages).await;
                (ours.run(messages).await, other)
            }
        };
        of_ours.push(per_second(messages, one));
        of_peer.push(per_second(messages, other));
        ratios.push(other.as_secs_f64() / one.as_secs_f64());
    }
    Run {
        ours: median(of_ours),
        peer: median(of_peer),
        ratio: median(ratios),
    }
}

/// Publishes.
struct Publisher {
    topic: Topic<String>,
    message: String,
    with_ids: bool,
    id: String,
    next: u64,
}

impl Worker for Publisher {
    async fn step(&mut self) {
        let publication = match self.with_ids {
            true => Publication::new().id(format!("{}-{}", self.id, self.next)),
            false => Publication::new(),
        };
        self.next += 1;
        self.topic
            .publish_with(self.message.as_str(), publication)
            .await
            .unwrap();
    }
}

struct Xadd {
    connection: MultiplexedConnection,
    message: String,
}

impl Worker for Xadd {
    async fn step(&mut self) {
        add(&mut self.connection, "raw:published", &self.message).await;
    }
}

/// Adds a message to a stream.
pub(crate) async fn add(connection: &mut MultiplexedConnection, stream: &str, message: &str) {
    let message = serde_json::to_vec(message).unwrap();
    let mut add = redis::cmd("XADD");
    let add = add.arg(stream).arg("*").arg("m").arg(message);
    add.query_async::<String>(connection).await.unwrap();
}

async fn publishing(server: &Server, client: &Client, quick: bool, text: &mut String) {
    let _ = writeln!(
        text,
        "A topic's publications beside a bare `XADD` of the raw crate (no target):\n\n\
         | publication | {COMPARISON}\n|---|---|---|---|---|---|---|---|---|"
    );
    let connection = connection(&raw(server)).await;
    for (what, with_ids) in [
        ("without an id", false),
        ("with an id, deduplicated for a day", true),
    ] {
        for tasks in [1, 64] {
            let load = Load {
                tasks,
                slice: Duration::from_millis(if quick { 300 } else { 400 }),
                rounds: if quick { 4 } else { 8 },
            };
            let topic = Topic::builder(client, "published").build().unwrap();
            // A round's ids are new ones.
            let rounds = std::cell::Cell::new(0);
            let paired = compare(
                load,
                |task| {
                    rounds.set(rounds.get() + 1);
                    Publisher {
                        topic: topic.clone(),
                        message: message(),
                        with_ids,
                        id: format!("{tasks}-{task}-{}", rounds.get()),
                        next: 0,
                    }
                },
                |_| Xadd {
                    connection: connection.clone(),
                    message: message(),
                },
            )
            .await;
            let _ = writeln!(text, "{}", comparison(what, tasks, &paired));
            server.raw(&["FLUSHALL"]).await.unwrap();
        }
    }
}
