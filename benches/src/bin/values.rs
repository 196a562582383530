//! `cargo xtask bench values`: many values at once beside the raw `redis` crate, and what codecs
//! cost.
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has nothing to report"
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use redis::IntoConnectionInfo;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redkit_benches::{Load, Paired, Section, Target, Worker, compare, write_section};
use redkit_core::{Client, ClientConfig, Codec, Compression, EncryptionKey, KeyRing, SetItem};
use redkit_testkit::{Server, ServerOptions};
use serde::{Deserialize, Serialize};

/// Measures reads of 1,000 values beside the raw `redis` crate, and codecs by themselves.
#[derive(Debug, Parser)]
struct Arguments {
    /// End with an error when a target is missed.
    #[arg(long)]
    check: bool,
    /// Few and short rounds, and nothing is written.
    #[arg(long)]
    quick: bool,
}

const KEYS: usize = 1000;
const LEAST_THROUGHPUT: f64 = 0.9;

#[derive(Debug, Clone, Copy)]
enum Reading {
    /// Bytes as they are stored.
    Bytes,
    /// Text from JSON.
    Json,
}

impl Reading {
    const ALL: [Self; 2] = [Self::Bytes, Self::Json];

    fn name(self) -> &'static str {
        match self {
            Reading::Bytes => "bytes",
            Reading::Json => "JSON text",
        }
    }
}

struct Ours {
    client: Client,
    reading: Reading,
    keys: Vec<String>,
}

impl Worker for Ours {
    async fn step(&mut self) {
        let found = match self.reading {
            Reading::Bytes => {
                let values = self.client.mget_bytes(&self.keys).await;
                let values = values
                    .into_iter()
                    .map(|value| value.unwrap().unwrap().len());
                values.sum::<usize>()
            }
            Reading::Json => {
                let values = self.client.mget::<String>(&self.keys).await;
                let values = values
                    .into_iter()
                    .map(|value| value.unwrap().unwrap().len());
                values.sum::<usize>()
            }
        };
        assert!(found >= KEYS * VALUE.len());
    }
}

struct Raw {
    connection: MultiplexedConnection,
    reading: Reading,
    keys: Vec<String>,
}

impl Worker for Raw {
    async fn step(&mut self) {
        let values: Vec<Option<Vec<u8>>> = redis::cmd("MGET")
            .arg(&self.keys)
            .query_async(&mut self.connection)
            .await
            .unwrap();
        let found = values.into_iter().map(|value| {
            let value = value.unwrap();
            match self.reading {
                Reading::Bytes => value.len(),
                Reading::Json => serde_json::from_slice::<String>(&value).unwrap().len(),
            }
        });
        assert!(found.sum::<usize>() >= KEYS * VALUE.len());
    }
}

const VALUE: &str = "a value of thirty-two characters";

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
    // With a namespace, as programs have one: the raw driver is given the whole names.
    let config = ClientConfig::from_url(&url).unwrap().namespace("bench");
    let client = Client::connect(config).await.unwrap();
    let connection = raw(&url).await;
    let keys: Vec<String> = (0..KEYS).map(|i| format!("value:{i:08}")).collect();
    let whole: Vec<String> = keys.iter().map(|key| format!("bench:{key}")).collect();
    let items = keys.iter().map(|key| SetItem::new(key, VALUE));
    assert!(
        client
            .mset(items)
            .await
            .iter()
            .all(|one| matches!(one, Ok(true)))
    );

    let (rounds, slice) = if arguments.quick { (4, 300) } else { (10, 700) };
    let mut rows = Vec::new();
    for reading in Reading::ALL {
        for tasks in [1, 8] {
            let load = Load {
                tasks,
                slice: Duration::from_millis(slice),
                rounds,
            };
            let ours = |_| Ours {
                client: client.clone(),
                reading,
                keys: keys.clone(),
            };
            let raw = |_| Raw {
                connection: connection.clone(),
                reading,
                keys: whole.clone(),
            };
            let paired = compare(load, ours, raw).await;
            println!("{}", row(reading, tasks, &paired));
            rows.push((reading, tasks, paired));
        }
    }
    let version = client.capabilities().version;
    client.shutdown().await;

    let costs = costs(if arguments.quick { 30 } else { 300 });
    for cost in &costs {
        println!("{}", cost.row());
    }
    if !arguments.quick {
        let text = text(&rows, &costs, version);
        let path = write_section(&Section {
            name: "values",
            text,
        })
        .unwrap();
        println!("written: {}", path.display());
    }
    verdict(&rows, arguments.check)
}

/// The raw driver with the same socket option as ours: see `bench-core`.
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

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Line {
    product: u64,
    title: String,
    cents: i64,
    tags: Vec<String>,
    discount: Option<f32>,
}

/// About 4 KB as JSON, with the repetitions that such values have.
fn order() -> Vec<Line> {
    (0..32_u64)
        .map(|i| Line {
            product: i * 7_919,
            title: format!("Teapot number {i}, glazed"),
            cents: 1999 + i64::try_from(i).unwrap(),
            tags: vec!["kitchen".to_owned(), format!("shelf-{}", i % 5)],
            discount: (i % 3 == 0).then_some(0.25),
        })
        .collect()
}

struct Cost {
    codec: &'static str,
    encode: f64,
    decode: f64,
    size: f64,
}

impl Cost {
    fn row(&self) -> String {
        format!(
            "| {} | {:.2} | {:.2} | {:.2} |",
            self.codec, self.encode, self.decode, self.size
        )
    }
}

/// Every codec on the same value; microseconds per KB of it as JSON.
fn costs(millis: u64) -> Vec<Cost> {
    let ring = || KeyRing::new(1, EncryptionKey::generate().unwrap());
    let value = order();
    let size = serde_json::to_vec(&value).unwrap().len();
    let codecs = [
        ("JSON", Codec::json()),
        ("MessagePack", Codec::message_pack()),
        ("postcard", Codec::postcard()),
        ("JSON, zstd", Codec::json().compress(Compression::zstd())),
        ("JSON, LZ4", Codec::json().compress(Compression::lz4())),
        ("JSON, encrypted", Codec::json().encrypt(ring())),
        (
            "JSON, zstd, encrypted",
            Codec::json().compress(Compression::zstd()).encrypt(ring()),
        ),
        (
            "postcard, LZ4, encrypted",
            Codec::postcard()
                .compress(Compression::lz4())
                .encrypt(ring()),
        ),
    ];
    #[expect(clippy::cast_precision_loss, reason = "some thousand bytes")]
    let per_kb = |bytes: usize| bytes as f64 / size as f64;
    #[expect(clippy::cast_precision_loss, reason = "some thousand bytes")]
    let kilobytes = size as f64 / 1000.0;
    let codecs = codecs.into_iter().map(|(name, codec)| {
        let raw = codec.encode(b"bench:order", &value).unwrap();
        let encode = micros(millis, || {
            codec.encode(b"bench:order", black_box(&value)).unwrap()
        });
        let decode = micros(millis, || {
            let raw: Bytes = black_box(&raw).clone();
            codec.decode::<Vec<Line>>(b"bench:order", raw).unwrap()
        });
        Cost {
            codec: name,
            encode: encode / kilobytes,
            decode: decode / kilobytes,
            size: per_kb(raw.len()),
        }
    });
    codecs.collect()
}

/// The median over short runs, so that what else the machine does weighs little.
fn micros<T>(millis: u64, mut work: impl FnMut() -> T) -> f64 {
    const RUN: u32 = 50;
    let end = Instant::now() + Duration::from_millis(millis);
    let mut runs = Vec::new();
    while Instant::now() < end || runs.len() < 5 {
        let start = Instant::now();
        for _ in 0..RUN {
            black_box(work());
        }
        runs.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(RUN));
    }
    runs.sort_by(f64::total_cmp);
    runs.get(runs.len() / 2).copied().unwrap_or(f64::NAN)
}

const HEAD: &str = "| read as | tasks | redkit reads/s | raw reads/s | ratio | redkit CPU µs | raw CPU µs | ratio | redkit p50/p99 µs | raw p50/p99 µs |\n|---|---|---|---|---|---|---|---|---|---|";

fn row(reading: Reading, tasks: usize, paired: &Paired) -> String {
    let Paired { ours, peer, .. } = paired;
    format!(
        "| {} | {tasks} | {:.0} | {:.0} | **{:.2}** | {:.0} | {:.0} | **{:.2}** | {}/{} | {}/{} |",
        reading.name(),
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

fn text(rows: &[(Reading, usize, Paired)], costs: &[Cost], version: (u16, u16, u16)) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut text = format!(
        "## values: many at once, and what codecs cost\n\n\
         `cargo xtask bench values`, Redis {}.{}.{} on loopback, {cores} cores shared by client and \
         server.\n\nOne read is `mget` of {KEYS} values of {} characters; the raw driver's is one `MGET`, \
         with `serde_json` where\nvalues are JSON. Target: throughput at least {LEAST_THROUGHPUT} times the \
         raw driver's.\n\n{HEAD}\n",
        version.0,
        version.1,
        version.2,
        VALUE.len(),
    );
    for (reading, tasks, paired) in rows {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}", row(*reading, *tasks, paired));
    }
    text.push_str(
        "\nCodecs by themselves, one core, on an order of 32 lines (about 4 KB as JSON): microseconds \
         per KB of the JSON\nform, and the stored size as a part of it. Encoding under encryption \
         includes the system call for the nonce.\n\n\
         | codec | encode µs/KB | decode µs/KB | size |\n|---|---|---|---|\n",
    );
    for cost in costs {
        let _ = writeln!(text, "{}", cost.row());
    }
    text
}

fn verdict(rows: &[(Reading, usize, Paired)], check: bool) -> ExitCode {
    let targets = rows.iter().map(|(reading, tasks, paired)| Target {
        what: format!(
            "mget of {} at {tasks} tasks: throughput ratio",
            reading.name()
        ),
        value: paired.throughput_ratio,
        at_least: Some(LEAST_THROUGHPUT),
        at_most: None,
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
