//! Many values at once: one look at the cache, one question to the source for what is not there, and warming
//! ahead.
//! `cargo run -p patterns --bin bulk`, with `REDIS_URL` set to use a server.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::stream;
use redkit::cache::Cache;

/// Stands for `SELECT … WHERE id IN (…)`.
async fn from_database(ids: Vec<u32>) -> Result<HashMap<u32, String>, std::io::Error> {
    println!("the database is asked for {} at once", ids.len());
    let found = ids.into_iter().filter(|id| *id <= 1000);
    Ok(found.map(|id| (id, format!("teapot {id}"))).collect())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:bulk")?;
    let teapots: Cache<String> = Cache::builder(&client, "teapots")
        .ttl(Duration::from_secs(30))
        .negative_ttl(Duration::from_secs(5)) // that there is none is kept as well
        .build()?;
    teapots.clear().await?;

    let warmed = teapots
        .warm(stream::iter(1..=20_u32))
        .concurrency(4)
        .run(async |id| Ok::<_, std::io::Error>(format!("teapot {id}")))
        .await;
    println!("{} warmed, {} failed", warmed.loaded, warmed.failed);

    for _ in 0..2 {
        let found = teapots
            .get_many_or_load([1, 2, 21, 22, 5000], from_database)
            .await;
        for teapot in found {
            match teapot? {
                Some(teapot) => println!("{} from {:?}", *teapot, teapot.source()),
                None => println!("no such teapot"),
            }
        }
    }
    client.shutdown().await;
    Ok(())
}
