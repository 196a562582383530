//! Topics beside a pipeline that is written by hand, and beside `apalis-redis`.

use std::fmt::Write as _;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redkit_benches::{COMPARISON, Load, Target, Worker, compare, comparison, median, server};
use redkit_core::Client;
use redkit_pubsub::topic::{Publication, Retention, Topic};
use redkit_testkit::Server;

use crate::pipelines::{Acknowledge, Apalis, ByHand, Pipeline, Redkit, Settings, Took};
use crate::{at_least, connection, message, per_second, raw};

const LEAST_BY_HAND: f64 = 0.9;
const LEAST_APALIS: f64 = 2.0;

pub(crate) async fn measure(
    server: &Server,
    client: &Client,
    quick: bool,
    only: Option<&str>,
    targets: &mut Vec<Target>,
) -> String {
    let mut text = String::new();
    if only.is_none() {
        publishing(server, client, quick, &mut text).await;
    }
    let _ = writeln!(
        text,
        "\nPublished by {} tasks, taken by one worker with 64 handlers and a prefetch of 128, acknowledged; messages a \
         second until the last\nis acknowledged. By hand: `XADD`, `XREADGROUP` of 128 at once, 64 tasks, an `XACK` for each \
         message or one for each read, and\nnothing else: no claims, no retries, no heartbeats. `apalis-redis` (0.7) counts \
         until the set of what is done has the last one, as\nours until the server has answered; \"handled\" is until the \
         last handler has run, on both sides. The sides run in turns, each from an\nempty queue. Targets: {LEAST_BY_HAND} \
         times the pipeline by hand that acknowledges each, {LEAST_APALIS} times `apalis-redis`.\n\n\
         | redkit | beside | redkit messages/s | peer's | ratio |\n|---|---|---|---|---|",
        crate::PUBLISHERS,
    );
    let (messages, rounds) = if quick { (5_000, 3) } else { (20_000, 7) };
    let mut table = Table {
        server,
        only,
        targets,
        rows: String::new(),
        costs: String::new(),
    };
    for (what, settings, least) in [
        ("log", LOG, Some(LEAST_BY_HAND)),
        ("queue, which deletes", QUEUE, Some(LEAST_BY_HAND)),
        ("queue, with ids", WITH_IDS, None),
    ] {
        let peer = "by hand, each acknowledged";
        if table.leaves_out(what, peer) {
            continue;
        }
        let ours = Redkit::start(client, settings).await;
        let each = ByHand::start(server, Acknowledge::Each).await;
        let run = beside(&ours, &each, messages, rounds).await;
        table.row(what, peer, &run.acknowledged, least);
        table.cost(what, &ours, messages).await;
        if least.is_some() {
            table.cost(peer, &each, messages).await;
        }
    }
    for (what, settings) in [("log", LOG), ("log, in batches of 128", IN_BATCHES)] {
        let peer = "by hand, each read acknowledged";
        if table.leaves_out(what, peer) {
            continue;
        }
        let ours = Redkit::start(client, settings).await;
        let read = ByHand::start(server, Acknowledge::EachRead).await;
        let run = beside(&ours, &read, messages, rounds).await;
        table.row(what, peer, &run.acknowledged, None);
    }

    // So few messages that the peer ends: it takes 10 every 100 ms unless it is told otherwise.
    for (peer, poll, buffer, messages) in [
        ("`apalis-redis` as it comes", 100, 10, 200),
        ("`apalis-redis`, 1,000 every 5 ms", 5, 1_000, messages / 10),
    ] {
        let what = "queue, which deletes";
        if table.leaves_out(what, peer) {
            continue;
        }
        let ours = Redkit::start(client, QUEUE).await;
        let apalis = Apalis::start(server, Duration::from_millis(poll), buffer).await;
        let run = beside(&ours, &apalis, messages, rounds).await;
        table.row(what, peer, &run.acknowledged, Some(LEAST_APALIS));
        let of_handled = format!("{peer}, handled");
        table.row(what, &of_handled, &run.handled, None);
        table.cost(peer, &apalis, messages).await;
    }
    let _ = writeln!(
        text,
        "{}\nWhat a message costs, in a round alone: CPU time of the client (its process, with the other side's idle worker, and the questions whether `apalis-redis` is done) and of the \
         server, and the calls\nthat come to the server or are made by its scripts.\n\n\
         | pipeline | client µs | server µs | calls for each message |\n|---|---|---|---|\n{}",
        table.rows, table.costs
    );
    text
}

const LOG: Settings = Settings {
    retention: Retention::Log {
        keep: None,
        most: None,
    },
    with_ids: false,
    in_batches: false,
};
const QUEUE: Settings = Settings {
    retention: Retention::Queue,
    ..LOG
};
const WITH_IDS: Settings = Settings {
    with_ids: true,
    ..QUEUE
};
const IN_BATCHES: Settings = Settings {
    in_batches: true,
    ..LOG
};

struct Table<'a> {
    server: &'a Server,
    only: Option<&'a str>,
    targets: &'a mut Vec<Target>,
    rows: String,
    costs: String,
}

impl Table<'_> {
    fn leaves_out(&self, what: &str, peer: &str) -> bool {
        let row = format!("{what} | {peer}");
        self.only.is_some_and(|only| !row.contains(only))
    }

    fn row(&mut self, ours: &str, peer: &str, run: &Rates, least: Option<f64>) {
        let _ = writeln!(
            self.rows,
            "| {ours} | {peer} | {:.0} | {:.0} | **{:.2}** |",
            run.ours, run.peer, run.ratio
        );
        if let Some(least) = least {
            let what = format!("a topic ({ours}) beside {peer}");
            self.targets.push(at_least(what, run.ratio, least));
        }
    }

    async fn cost(&mut self, what: &str, pipeline: &impl Pipeline, messages: usize) {
        let cost = server::cost_of(self.server, messages, pipeline.run(messages)).await;
        let calls = cost.calls.iter().filter(|(_, calls)| *calls >= 0.005);
        let calls: Vec<_> = calls
            .map(|(name, calls)| format!("{name} {calls:.2}"))
            .collect();
        let _ = writeln!(
            self.costs,
            "| {what} | {:.1} | {:.1} | {} |",
            cost.client,
            cost.server,
            calls.join(", ")
        );
    }
}

struct Rates {
    ours: f64,
    peer: f64,
    ratio: f64,
}

struct Run {
    handled: Rates,
    acknowledged: Rates,
}

/// Both in turns, each first in every other round.
async fn beside(ours: &impl Pipeline, peer: &impl Pipeline, messages: usize, rounds: usize) -> Run {
    ours.run(messages / 10).await;
    peer.run(messages / 10).await;
    let mut took = Vec::new();
    for round in 0..rounds {
        took.push(match round % 2 {
            0 => {
                let one = ours.run(messages).await;
                (one, peer.run(messages).await)
            }
            _ => {
                let other = peer.run(messages).await;
                (ours.run(messages).await, other)
            }
        });
    }
    let rates = |of: fn(&Took) -> Duration| {
        let took = || took.iter().map(|(one, other)| (of(one), of(other)));
        Rates {
            ours: median(took().map(|(one, _)| per_second(messages, one)).collect()),
            peer: median(took().map(|(_, one)| per_second(messages, one)).collect()),
            ratio: median(
                took()
                    .map(|(one, other)| other.as_secs_f64() / one.as_secs_f64())
                    .collect(),
            ),
        }
    };
    Run {
        handled: rates(|took| took.handled),
        acknowledged: rates(|took| took.acknowledged),
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
