//! A stampede that is none: however many ask at once, in however many processes, the source is asked once.
//! `cargo run -p patterns --bin stampede`, with `REDIS_URL` set to use a server.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use redkit::Client;
use redkit::cache::Cache;

/// How often the source was asked.
static LOADS: AtomicU32 = AtomicU32::new(0);

async fn slow(id: u32) -> Result<u32, std::io::Error> {
    LOADS.fetch_add(1, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(200)).await;
    Ok(id * 100)
}

/// A cache as another process has it: nothing is shared with the first but Redis.
fn cache(client: &Client) -> Result<Cache<u32>, redkit::cache::Error> {
    Cache::builder(client, "prices")
        .ttl(Duration::from_secs(30))
        .build()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:stampede")?;
    let (here, there) = (cache(&client)?, cache(&client)?);
    here.clear().await?;

    let asked = (0..100).map(|number| {
        let cache = if number % 2 == 0 { &here } else { &there };
        cache.get_or_load(7, || slow(7))
    });
    let mut prices = Vec::new();
    for price in join_all(asked).await {
        prices.push(*price?);
    }
    prices.dedup();
    let loads = LOADS.load(Ordering::SeqCst);
    println!("100 callers got {prices:?}, the source was asked {loads} time(s)");
    client.shutdown().await;
    Ok(())
}
