//! A cache in front of something slow: loaded once, kept, and taken out when the source has changed.
//! `cargo run -p patterns --bin cache`, with `REDIS_URL` set to use a server.

use std::time::Duration;

use redkit::cache::{Cache, Source};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:cache")?;
    let teapots: Cache<String> = Cache::builder(&client, "teapots")
        .ttl(Duration::from_secs(30))
        .refresh_ahead(0.8) // loaded anew before its end, by one process
        .stale_for(Duration::from_secs(600)) // when the source fails
        .build()?;
    teapots.clear().await?;

    for _ in 0..2 {
        let teapot = teapots.get_or_load(42, || from_database(42)).await?;
        println!("{} from {:?}", *teapot, teapot.source());
    }
    // After the database was written:
    teapots.invalidate(42).await?;
    let teapot = teapots.get_or_load(42, || from_database(42)).await?;
    println!("loaded again: {}", teapot.source() == Source::Loaded);

    // The loader's own error comes through, and is not kept.
    if let Err(error) = teapots.get_or_load(0, || from_database(0)).await {
        let own = error.load_error::<std::io::Error>();
        println!("number 0: {own:?}");
    }
    println!("hit rate {:.2}", teapots.stats().hit_rate());
    client.shutdown().await;
    Ok(())
}

/// Stands for a database.
async fn from_database(id: u32) -> Result<String, std::io::Error> {
    tokio::time::sleep(Duration::from_millis(50)).await;
    match id {
        1..=1000 => Ok(format!("teapot {id}")),
        _ => Err(std::io::Error::other("no such teapot")),
    }
}
