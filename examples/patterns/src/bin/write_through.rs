//! A value that is written: the source first, and then the cache, in an order that no reader can upset.
//! `cargo run -p patterns --bin write_through`, with `REDIS_URL` set to use a server.

use std::time::Duration;

use redkit::cache::{Cache, Loaded, Source};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:write_through")?;
    let prices: Cache<u64> = Cache::builder(&client, "prices")
        .ttl(Duration::from_secs(30))
        .build()?;

    // The write gives the value as the source has it now, with its revision: an older one never takes its place.
    let write = || async { Ok::<_, std::io::Error>(Loaded::new(2499).version(8)) };
    prices.write_through("teapot", write).await?;
    let load = || async { Ok::<_, std::io::Error>(1999) };
    let price = prices.get_or_load("teapot", load).await?;
    println!(
        "{} from the cache: {}",
        *price,
        price.source() == Source::Redis
    );

    // Of a write that fails nobody knows whether it was done: nothing is kept, and the next reader asks the source.
    let failing = || async { Err::<u64, _>(std::io::Error::other("the database is away")) };
    if let Err(error) = prices.write_through("teapot", failing).await {
        println!("not written: {error}");
    }
    println!(
        "kept after the failure: {}",
        prices.get("teapot").await?.is_some()
    );
    client.shutdown().await;
    Ok(())
}
