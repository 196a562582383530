//! `cargo xtask bench pubsub`: channels beside the raw `redis` crate; topics beside a pipeline that is written by
//! hand, and beside `apalis-redis`.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has nothing to report"
)]

#[path = "pubsub/channels.rs"]
mod channels;
#[path = "pubsub/pipelines.rs"]
mod pipelines;
#[path = "pubsub/topics.rs"]
mod topics;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, IntoConnectionInfo};
use redkit_benches::{Section, Target, server, verdict, write_section};
use redkit_core::{Client, ClientConfig};
use redkit_testkit::{Server, ServerOptions};

/// Measures channels and topics beside their peers.
#[derive(Debug, Parser)]
struct Arguments {
    /// End with an error when a target is missed.
    #[arg(long)]
    check: bool,
    /// Few and short rounds, and nothing is written.
    #[arg(long)]
    quick: bool,
    /// Only the pipelines of which this is a part of the row's first two columns, and nothing is written.
    #[arg(long)]
    only: Option<String>,
}

/// Tasks that publish, one message after the other each.
const PUBLISHERS: usize = 16;

/// The message that every contender sends.
fn message() -> String {
    "m".repeat(64)
}

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
    let client = client(&server).await;
    let quick = arguments.quick;
    let mut targets = Vec::new();
    let only = arguments.only.as_deref();
    let channels = match only {
        None => channels::measure(&server, &client, quick, &mut targets).await,
        Some(_) => String::new(),
    };
    println!("{channels}");
    let topics = topics::measure(&server, &client, quick, only, &mut targets).await;
    println!("{topics}");
    let text = text(&server::version(&server).await, &channels, &topics);
    client.shutdown().await;
    if !quick && only.is_none() {
        let section = Section {
            name: "pubsub",
            text,
        };
        println!("written: {}", write_section(&section).unwrap().display());
    }
    verdict(&targets, arguments.check)
}

async fn client(server: &Server) -> Client {
    let config = ClientConfig::from_url(&server.url()).unwrap();
    Client::connect(config).await.unwrap()
}

/// The raw driver's client, with the socket options of ours.
fn raw(server: &Server) -> redis::Client {
    let info = format!("{}?protocol=resp3", server.url());
    let info = info.into_connection_info().unwrap();
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    redis::Client::open(info).unwrap()
}

/// A connection of the raw driver whose replies may be waited for.
async fn connection(raw: &redis::Client) -> MultiplexedConnection {
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    raw.get_multiplexed_async_connection_with_config(&config)
        .await
        .unwrap()
}

/// A ratio that is to be at least so much.
fn at_least(what: impl Into<String>, value: f64, least: f64) -> Target {
    Target {
        what: what.into(),
        value,
        at_least: Some(least),
        at_most: None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53")]
fn per_second(messages: usize, took: Duration) -> f64 {
    messages as f64 / took.as_secs_f64()
}

fn text(version: &str, channels: &str, topics: &str) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "## pubsub: channels and topics beside their peers\n\n\
         `cargo xtask bench pubsub`, Redis {version} on loopback, {cores} cores shared by client and server. Messages are \
         texts of 64 bytes,\nas JSON on both sides.\n\n{channels}\n{topics}"
    )
}
