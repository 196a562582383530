//! A small shop, and everything that a service does with Redis, in one program: sessions, a catalogue behind a cache,
//! limits, orders under a lock, notifications, work in the background, health, metrics.
//!
//! ```text
//! cargo run -p storefront                    a shop on http://localhost:3000, nothing to install
//! cargo run -p storefront -- --drive         the same, with shoppers in it
//! cargo run -p storefront -- --instances 3   three processes that are one shop
//! REDIS_URL=redis://… cargo run -p storefront
//! cargo run -p storefront -- --smoke         drives itself, says what it saw, and ends
//! ```

mod accounts;
mod background;
mod cached;
mod catalogue;
mod connection;
mod context;
mod counted;
mod drive;
mod fleet;
mod format;
mod jobs;
mod limits;
mod model;
mod notifications;
mod orders;
mod pages;
mod popular;
mod refusal;
mod routes;
mod secrets;
mod seed;
mod server;
mod shop;
mod smoke;

use std::error::Error;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use crate::fleet::Fleet;
use crate::shop::{Settings, Shop};

/// A small shop on redkit. It uses the server that REDIS_URL names, or an engine in its own process when that is not
/// set.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000")]
    listen: String,

    /// The catalogue's SQLite file, made and filled when there is none; without it, a temporary one
    #[arg(long, value_name = "PATH")]
    database: Option<PathBuf>,

    /// Let redis-cli and other programs look into the engine of this process, on this loopback address
    #[arg(long, value_name = "ADDRESS", conflicts_with = "smoke")]
    listen_redis: Option<SocketAddr>,

    /// Let so many shoppers walk about in the shop, so that there is something to see
    #[arg(long, value_name = "SHOPPERS", num_args = 0..=1, default_missing_value = "6", conflicts_with = "smoke",
          value_parser = clap::value_parser!(u16).range(1..=200))]
    drive: Option<u16>,

    /// Run so many processes that are one shop, on the ports from --listen on; without REDIS_URL the others use the
    /// engine of this one
    #[arg(long, value_name = "NUMBER", default_value_t = 1, conflicts_with = "smoke",
          value_parser = clap::value_parser!(u16).range(1..=16))]
    instances: u16,

    /// How many seconds an order can be cancelled, before it is packed
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    ship_after: u64,

    /// A proxy (address or network) that says, in X-Forwarded-For, which address a visitor has; may be repeated
    #[arg(long, value_name = "NETWORK")]
    trust_proxy: Vec<String>,

    /// End when standard input ends: how the first of several processes takes the others with it
    #[arg(long, hide = true)]
    until_stdin_ends: bool,

    /// Serve on a free port with a temporary catalogue, visit every page over HTTP, say what came,
    /// and end with a status that tells whether all was as it should be
    #[arg(long, conflicts_with_all = ["listen", "database"])]
    smoke: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn")),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let outcome = match args.smoke {
        true => smoke::run().await,
        false => serve(&args).await.map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("storefront: {}", with_causes(error.as_ref()));
        ExitCode::FAILURE
    })
}

async fn serve(args: &Args) -> Result<(), Box<dyn Error>> {
    let mut trusted = args.trust_proxy.clone();
    // Shoppers come from this machine, each with an address of its own in the header.
    trusted.extend(args.drive.map(|_| "127.0.0.0/8".to_owned()));
    let shop = Shop::open(&Settings {
        database: args.database.clone(),
        needs_redis: false,
        look_in: fleet::engine_port(args)?,
        trusted,
        ship_after: Duration::from_secs(args.ship_after),
        warms: true,
    })
    .await?;
    let served = serve_shop(args, &shop).await;
    shop.close().await;
    served
}

async fn serve_shop(args: &Args, shop: &Shop) -> Result<(), Box<dyn Error>> {
    // Before anybody is told that the shop is open, and may ask it to end.
    let signal = server::stop_signal()?;
    let listener = TcpListener::bind(&args.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", args.listen))?;
    let address = listener.local_addr()?;
    println!("storefront: http://{address} | {shop}");
    println!("storefront: {}", shop.connection.server_found().await);
    println!("storefront: {}", where_to_sign_in(address));
    let fleet = Fleet::start(args, address, shop)?;
    let stop_streams = shop.stop();
    let follows = args.until_stdin_ends;
    let stop = async move {
        tokio::select! {
            () = signal => {}
            () = fleet::stdin_end(), if follows => {}
        }
        stop_streams.await;
    };
    let driving = async {
        match args.drive {
            Some(shoppers) => {
                let doors = fleet.addresses(address);
                drive::run(shop, doors, shoppers).await;
            }
            None => std::future::pending().await,
        }
    };
    let router = shop.router()?;
    let outcome = tokio::select! {
        served = server::serve(listener, router, stop) => served.map_err(Into::into),
        () = driving => Err("the shoppers are gone".into()),
    };
    fleet.stop().await;
    outcome
}

/// Browsers keep a cookie with the prefix `__Host-` on this machine's own name and over TLS only.
fn where_to_sign_in(address: SocketAddr) -> String {
    let port = address.port();
    match address.ip() {
        ip if ip.is_loopback() => format!(
            "open http://localhost:{port} (sign-in works at localhost, and over TLS: its cookie is `__Host-shop`)"
        ),
        ip if ip.is_unspecified() => format!(
            "open http://localhost:{port} (sign-in works there; at this machine's other names only behind a proxy \
             with TLS: its cookie is `__Host-shop`)"
        ),
        _ => format!(
            "sign-in needs TLS here: put a proxy before http://{address}, or listen on 127.0.0.1 (its cookie is \
             `__Host-shop`)"
        ),
    }
}

/// An error with what caused it, on one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some errors quote their cause already.
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
