//! A small shop whose catalogue is read through the cache, whose changes are rate limited, and which
//! counts what its visitors look at.
//!
//! ```text
//! cargo run -p storefront                 a shop on http://127.0.0.1:3000, nothing to install
//! REDIS_URL=redis://… cargo run -p storefront
//! cargo run -p storefront -- --smoke      drives itself, says what it saw, and ends
//! ```

mod cached;
mod catalogue;
mod format;
mod model;
mod pages;
mod popular;
mod refusal;
mod routes;
mod seed;
mod server;
mod shop;
mod smoke;

use std::error::Error;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use crate::shop::Shop;

/// A small shop whose catalogue is read through the cache. It uses the server that REDIS_URL names,
/// or an engine in its own process when that is not set.
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
    let shop = Shop::open(args.database.as_deref(), false, args.listen_redis).await?;
    let served = async {
        let listener = TcpListener::bind(&args.listen)
            .await
            .map_err(|error| format!("cannot listen on {}: {error}", args.listen))?;
        println!("storefront: http://{} | {shop}", listener.local_addr()?);
        println!("storefront: {}", shop.server_found().await);
        server::serve(listener, shop.router(), server::stop_signal()?).await?;
        Ok(())
    };
    let outcome = served.await;
    shop.close().await;
    outcome
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
