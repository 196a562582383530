//! `cargo xtask bench core`: the client beside the raw `redis` crate.
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has nothing to report"
)]

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use redis::IntoConnectionInfo;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redkit_benches::{Load, Paired, Section, Target, Worker, compare, run_alone, write_section};
use redkit_core::{Client, ClientConfig, Command, Key, Script};
use redkit_testkit::{Server, ServerOptions};

/// Measures the client beside the raw `redis` crate: GET, SET and a script.
#[derive(Debug, Parser)]
struct Arguments {
    /// End with an error when a target is missed.
    #[arg(long)]
    check: bool,
    /// Few and short rounds, and nothing is written.
    #[arg(long)]
    quick: bool,
    /// Only rows with this many tasks.
    #[arg(long)]
    tasks: Option<usize>,
    /// Only this operation (GET, SET, EVALSHA).
    #[arg(long)]
    operation: Option<String>,
    /// Run only this side (ours, raw) for some seconds, to be looked at with a profiler.
    #[arg(long)]
    profile: Option<String>,
}

const KEYS: usize = 1000;
const LEAST_THROUGHPUT: f64 = 0.95;
const MOST_CPU: f64 = 1.08;

static SCRIPT: Script = Script::new("return redis.call('GET', KEYS[1])");

#[derive(Debug, Clone, Copy)]
enum Operation {
    Get,
    Set,
    Script,
}

impl Operation {
    const ALL: [Self; 3] = [Self::Get, Self::Set, Self::Script];

    fn name(self) -> &'static str {
        match self {
            Operation::Get => "GET",
            Operation::Set => "SET",
            Operation::Script => "EVALSHA",
        }
    }
}

struct Ours {
    client: Client,
    operation: Operation,
    keys: Vec<Key>,
    next: usize,
}

impl Worker for Ours {
    async fn step(&mut self) {
        let key = &self.keys[self.next % KEYS];
        self.next += 1;
        match self.operation {
            Operation::Get => {
                let value: Option<Vec<u8>> = self
                    .client
                    .call(Command::new("GET").key(key))
                    .await
                    .unwrap();
                assert_eq!(value.map(|value| value.len()), Some(VALUE.len()));
            }
            Operation::Set => {
                let command = Command::with_capacity("SET", 128).key(key).arg(VALUE);
                self.client.call::<()>(command).await.unwrap();
            }
            Operation::Script => {
                let value: Option<Vec<u8>> = self.client.eval(SCRIPT.invoke([key])).await.unwrap();
                assert_eq!(value.map(|value| value.len()), Some(VALUE.len()));
            }
        }
    }
}

struct Raw {
    connection: MultiplexedConnection,
    operation: Operation,
    keys: Vec<Key>,
    next: usize,
}

impl Worker for Raw {
    async fn step(&mut self) {
        let key = self.keys[self.next % KEYS].as_bytes();
        self.next += 1;
        match self.operation {
            Operation::Get => {
                let value: Option<Vec<u8>> = redis::cmd("GET")
                    .arg(key)
                    .query_async(&mut self.connection)
                    .await
                    .unwrap();
                assert_eq!(value.map(|value| value.len()), Some(VALUE.len()));
            }
            Operation::Set => {
                let mut command = redis::cmd("SET");
                command.arg(key).arg(VALUE);
                command
                    .query_async::<()>(&mut self.connection)
                    .await
                    .unwrap();
            }
            Operation::Script => {
                let mut command = redis::cmd("EVALSHA");
                command.arg(SCRIPT.sha()).arg(1).arg(key);
                let value: Option<Vec<u8>> =
                    command.query_async(&mut self.connection).await.unwrap();
                assert_eq!(value.map(|value| value.len()), Some(VALUE.len()));
            }
        }
    }
}

const VALUE: &[u8] = &[b'v'; 64];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(&arguments))
}

/// The raw driver with the same socket option as ours: without `TCP_NODELAY`, its default, commands
/// wait for the acknowledgement of earlier ones, which batches well on loopback and costs a round
/// trip on a network.
async fn raw(url: &str) -> MultiplexedConnection {
    let info = format!("{url}?protocol=resp3")
        .into_connection_info()
        .unwrap();
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    redis::Client::open(info)
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .unwrap()
}

async fn run(arguments: &Arguments) -> ExitCode {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let url = server.url();
    let client = Client::connect(ClientConfig::from_url(&url).unwrap())
        .await
        .unwrap();
    let connection = raw(&url).await;
    let keys: Vec<Key> = (0..KEYS)
        .map(|i| client.key(format!("bench:{i:08}")))
        .collect();
    for key in &keys {
        client
            .call::<()>(Command::new("SET").key(key).arg(VALUE))
            .await
            .unwrap();
    }
    client
        .eval::<Option<Vec<u8>>>(SCRIPT.invoke([&keys[0]]))
        .await
        .unwrap();

    let (rounds, slice) = if arguments.quick { (4, 300) } else { (10, 700) };
    let mut rows = Vec::new();
    for operation in Operation::ALL {
        if arguments
            .operation
            .as_ref()
            .is_some_and(|only| only != operation.name())
        {
            continue;
        }
        for tasks in [1, 16, 256, 1024] {
            if arguments.tasks.is_some_and(|only| only != tasks) {
                continue;
            }
            let load = Load {
                tasks,
                slice: Duration::from_millis(slice),
                rounds,
            };
            let ours = |i: usize| Ours {
                client: client.clone(),
                operation,
                keys: keys.clone(),
                next: i,
            };
            let raw = |i: usize| Raw {
                connection: connection.clone(),
                operation,
                keys: keys.clone(),
                next: i,
            };
            if let Some(side) = &arguments.profile {
                let load = Load {
                    slice: Duration::from_secs(3),
                    ..load
                };
                let sample = match side.as_str() {
                    "ours" => run_alone(load, ours).await,
                    _ => run_alone(load, raw).await,
                };
                println!(
                    "{side} {} {tasks}: {:.0}/s, {:.2} µs",
                    operation.name(),
                    sample.throughput,
                    sample.cpu
                );
                continue;
            }
            let paired = compare(load, ours, raw).await;
            println!("{}", row(operation, tasks, &paired));
            rows.push((operation, tasks, paired));
        }
    }
    let version = client.capabilities().version;
    client.shutdown().await;
    if !arguments.quick && arguments.tasks.is_none() && arguments.operation.is_none() {
        let text = text(&rows, version);
        let path = write_section(&Section { name: "core", text }).unwrap();
        println!("written: {}", path.display());
    }
    verdict(&rows, arguments.check)
}

const HEAD: &str = "| operation | tasks | redkit ops/s | raw ops/s | ratio | redkit CPU µs/op | raw CPU µs/op | ratio | redkit p50/p99 µs | raw p50/p99 µs |\n|---|---|---|---|---|---|---|---|---|---|";

fn row(operation: Operation, tasks: usize, paired: &Paired) -> String {
    let Paired { ours, peer, .. } = paired;
    format!(
        "| {} | {tasks} | {:.0} | {:.0} | **{:.2}** | {:.2} | {:.2} | **{:.2}** | {}/{} | {}/{} |",
        operation.name(),
        ours.throughput,
        peer.throughput,
        paired.throughput_ratio,
        ours.cpu,
        peer.cpu,
        paired.cpu_ratio,
        ours.latency.value_at_quantile(0.5),
        ours.latency.value_at_quantile(0.99),
        peer.latency.value_at_quantile(0.5),
        peer.latency.value_at_quantile(0.99),
    )
}

fn text(rows: &[(Operation, usize, Paired)], version: (u16, u16, u16)) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut text = format!(
        "## core: the client beside the raw driver\n\n\
         `cargo xtask bench core`, Redis {}.{}.{} on loopback, {cores} cores shared by client and \
         server.\nThe peer is `MultiplexedConnection` of the `redis` crate with its defaults and, as \
         ours, `TCP_NODELAY`:\nno breaker, no retry, no reconnection. Values of 64 bytes; the script is one `GET`. Targets: \
         throughput at least {LEAST_THROUGHPUT}, CPU at\nmost {MOST_CPU} times the raw driver's.\n\n{HEAD}\n",
        version.0, version.1, version.2
    );
    for (operation, tasks, paired) in rows {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}", row(*operation, *tasks, paired));
    }
    text
}

fn verdict(rows: &[(Operation, usize, Paired)], check: bool) -> ExitCode {
    let targets = rows.iter().flat_map(|(operation, tasks, paired)| {
        let what = format!("{} at {tasks} tasks", operation.name());
        [
            Target {
                what: format!("{what}: throughput ratio"),
                value: paired.throughput_ratio,
                at_least: Some(LEAST_THROUGHPUT),
                at_most: None,
            },
            Target {
                what: format!("{what}: CPU ratio"),
                value: paired.cpu_ratio,
                at_least: None,
                at_most: Some(MOST_CPU),
            },
        ]
    });
    let missed: Vec<_> = targets.filter(|target| !target.is_met()).collect();
    for target in &missed {
        println!("missed: {} is {:.3}", target.what, target.value);
    }
    if check && !missed.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
