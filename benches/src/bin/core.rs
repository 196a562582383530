//! `cargo xtask bench core`: the client beside the `redis` and `fred` crates, and beside its own
//! connection without the client above it.
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has nothing to report"
)]

#[path = "core/peers.rs"]
mod peers;
#[path = "core/table.rs"]
mod table;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use redkit_benches::{Load, Section, Worker, compare, run_alone, write_section};
use redkit_core::{Backend, Client, ClientConfig, Command, Key, Script, Value};
use redkit_testkit::{Server, ServerOptions};
use tokio::time::Instant;

use self::peers::{Fred, Raw};
use self::table::{Peer, Row};

/// Measures the client beside the `redis` and `fred` crates: GET, SET, a script, MGET of 1,000 keys,
/// and values of a megabyte.
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
    /// Only this operation (GET, SET, EVALSHA, MGET, GET 1 MB).
    #[arg(long)]
    operation: Option<String>,
    /// Only this peer (redis, fred, bare).
    #[arg(long)]
    peer: Option<String>,
    /// Run only this side (ours, bare, redis, fred) for some seconds, to be looked at with a profiler.
    #[arg(long)]
    profile: Option<String>,
}

const KEYS: usize = 1000;
const LARGE: usize = 1 << 20;

static SCRIPT: Script = Script::new("return redis.call('GET', KEYS[1])");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Get,
    Set,
    Script,
    Many,
    Large,
}

impl Operation {
    const ALL: [Self; 5] = [Self::Get, Self::Set, Self::Script, Self::Many, Self::Large];

    fn name(self) -> &'static str {
        match self {
            Operation::Get => "GET",
            Operation::Set => "SET",
            Operation::Script => "EVALSHA",
            Operation::Many => "MGET",
            Operation::Large => "GET 1 MB",
        }
    }

    /// How many tasks it is measured with.
    fn tasks(self) -> &'static [usize] {
        match self {
            Operation::Get | Operation::Set | Operation::Script => &[1, 16, 256, 1024],
            Operation::Many | Operation::Large => &[1, 16],
        }
    }
}

/// What every contender does.
#[derive(Clone)]
struct Work {
    operation: Operation,
    keys: Arc<[Key]>,
    large: Key,
    next: usize,
}

impl Work {
    fn key(&mut self) -> Key {
        let key = self.keys[self.next % KEYS].clone();
        self.next += 1;
        key
    }
}

struct Ours {
    client: Client,
    work: Work,
}

impl Worker for Ours {
    async fn step(&mut self) {
        let key = self.work.key();
        match self.work.operation {
            Operation::Get => {
                let get = Command::new("GET").key(key);
                let value: Option<Bytes> = self.client.call(get).await.unwrap();
                assert_eq!(value.map(|value| value.len()), Some(VALUE.len()));
            }
            Operation::Set => {
                let command = Command::with_capacity("SET", 128).key(key).arg(VALUE);
                self.client.call::<()>(command).await.unwrap();
            }
            Operation::Script => {
                let value: Option<Bytes> = self.client.eval(SCRIPT.invoke([key])).await.unwrap();
                assert_eq!(value.map(|value| value.len()), Some(VALUE.len()));
            }
            Operation::Many => {
                let mget =
                    Command::with_capacity("MGET", KEYS * 16).keys_from(self.work.keys.iter());
                let values: Vec<Bytes> = self.client.call(mget).await.unwrap();
                assert_eq!(values.len(), KEYS);
            }
            Operation::Large => {
                let get = Command::new("GET").key(&self.work.large);
                let value: Option<Bytes> = self.client.call(get).await.unwrap();
                assert_eq!(value.map(|value| value.len()), Some(LARGE));
            }
        }
    }
}

/// The connection that the client stands on.
struct Bare {
    backend: Arc<dyn Backend>,
    work: Work,
}

impl Worker for Bare {
    async fn step(&mut self) {
        let key = self.work.key();
        let deadline = Instant::now() + Duration::from_secs(1);
        let command = match self.work.operation {
            Operation::Set => Command::with_capacity("SET", 128).key(key).arg(VALUE),
            _ => Command::new("GET").key(key),
        };
        let reply = self
            .backend
            .call(&command.deadline(deadline))
            .await
            .unwrap();
        match reply {
            Value::Ok => {}
            other => assert_eq!(other.to::<Bytes>().unwrap().len(), VALUE.len()),
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

async fn run(arguments: &Arguments) -> ExitCode {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let url = server.url();
    let config = ClientConfig::from_url(&url).unwrap();
    let client = Client::connect(config).await.unwrap();
    let redis = peers::redis(&url).await;
    let fred = peers::fred(&url).await;
    let keys: Arc<[Key]> = (0..KEYS)
        .map(|i| client.key(format!("bench:{i:08}")))
        .collect();
    let large = client.key("bench:large");
    let set =
        |key: &Key, value: Vec<u8>| client.call::<()>(Command::new("SET").key(key).arg(value));
    for key in keys.iter() {
        set(key, VALUE.to_vec()).await.unwrap();
    }
    set(&large, vec![b'v'; LARGE]).await.unwrap();
    let script = SCRIPT.invoke([&keys[0]]);
    client.eval::<Option<Bytes>>(script).await.unwrap();

    let (rounds, slice) = if arguments.quick { (4, 300) } else { (5, 1000) };
    let mut rows = Vec::new();
    for operation in Operation::ALL {
        let named = arguments.operation.as_ref();
        if named.is_some_and(|only| only != operation.name()) {
            continue;
        }
        for &tasks in operation.tasks() {
            if arguments.tasks.is_some_and(|only| only != tasks) {
                continue;
            }
            let load = Load {
                tasks,
                slice: Duration::from_millis(slice),
                rounds,
            };
            let work = |next: usize| Work {
                operation,
                keys: Arc::clone(&keys),
                large: large.clone(),
                next,
            };
            let ours = |i: usize| Ours {
                client: client.clone(),
                work: work(i),
            };
            let bare = |i: usize| Bare {
                backend: Arc::clone(client.backend()),
                work: work(i),
            };
            let redis = |i: usize| Raw {
                connection: redis.clone(),
                work: work(i),
            };
            let fred = |i: usize| Fred {
                client: fred.clone(),
                work: work(i),
            };
            if let Some(side) = &arguments.profile {
                let load = Load {
                    slice: Duration::from_secs(3),
                    ..load
                };
                let sample = match side.as_str() {
                    "ours" => run_alone(load, ours).await,
                    "bare" => run_alone(load, bare).await,
                    "fred" => run_alone(load, fred).await,
                    _ => run_alone(load, redis).await,
                };
                let (per_second, cpu) = (sample.throughput, sample.cpu);
                println!(
                    "{side} {} {tasks}: {per_second:.0}/s, {cpu:.2} µs",
                    operation.name()
                );
                continue;
            }
            for peer in Peer::ALL {
                let is_chosen = arguments
                    .peer
                    .as_ref()
                    .is_none_or(|only| only == peer.name());
                if !is_chosen || !peer.does(operation) {
                    continue;
                }
                let paired = match peer {
                    Peer::Redis => compare(load, ours, redis).await,
                    Peer::Fred => compare(load, ours, fred).await,
                    Peer::Bare => compare(load, ours, bare).await,
                };
                let row = Row {
                    operation,
                    tasks,
                    peer,
                    paired,
                };
                println!("{row}");
                rows.push(row);
            }
        }
    }
    let version = client.capabilities().version;
    client.shutdown().await;
    let is_whole = arguments.tasks.is_none() && arguments.operation.is_none();
    if !arguments.quick && is_whole && arguments.peer.is_none() && arguments.profile.is_none() {
        let text = table::text(&rows, version);
        let path = write_section(&Section { name: "core", text }).unwrap();
        println!("written: {}", path.display());
    }
    table::verdict(&rows, arguments.check)
}
