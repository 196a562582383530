//! Writes that are durable in Redis at once and in a database a little later.
//! `cargo run -p patterns --bin write_behind`, with `REDIS_URL` set to use a server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redkit::cache::Cache;
use redkit::cache::write_behind::{Change, Sink, SinkError, Verdict, WriteBehind};

/// The version of a row, and the stock unless it was deleted.
type Row = (u64, Option<u64>);

/// Stands for a database.
#[derive(Clone, Default)]
struct Database(Arc<Mutex<HashMap<String, Row>>>);

#[derive(Debug)]
struct NoRow;

impl std::fmt::Display for NoRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no such row")
    }
}

impl std::error::Error for NoRow {}

impl Database {
    async fn load(self, key: &'static str) -> Result<u64, NoRow> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.get(key).and_then(|(_, stock)| *stock).ok_or(NoRow)
    }
}

impl Sink<u64> for Database {
    async fn write(&self, batch: Vec<Change<u64>>) -> Result<Vec<Verdict>, SinkError> {
        println!("the database is given {} changes", batch.len());
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let write = |change: Change<u64>| {
            let key = String::from_utf8_lossy(change.key()).into_owned();
            if key == "unknown" {
                return Verdict::Reject(SinkError::new("no such product"));
            }
            let (version, row) = (change.version(), rows.get(&key));
            if row.is_some_and(|(newest, _)| *newest > version) {
                return Verdict::Stale;
            }
            rows.insert(key, (version, change.into_value()));
            Verdict::Written
        };
        Ok(batch.into_iter().map(write).collect())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url).await?.with_namespace("patterns")?;
    let cache: Cache<u64> = Cache::builder(&client, "stock")
        .ttl(Duration::from_secs(30))
        .build()?;
    let stock = WriteBehind::builder(&client, "stock")
        .cache(&cache)
        .max_age(Duration::from_millis(200))
        .open()
        .await?;
    let database = Database::default();
    let worker = stock.start(database.clone());

    for left in (0..=100).rev() {
        stock.put("teapot", &left).await?;
    }
    stock.put("cup", &12).await?;
    stock.delete("kettle").await?;
    stock.put("unknown", &1).await?;
    let read = stock
        .get_or_load("teapot", || database.clone().load("teapot"))
        .await?;
    println!("teapots: {:?}, not in the database yet", read.into_value());

    stock.flush(Duration::from_secs(10)).await?;
    println!(
        "teapots in the database: {:?}",
        database.load("teapot").await
    );
    for letter in stock.dead_letters(None, 10).await?.letters {
        let key = String::from_utf8_lossy(letter.key()).into_owned();
        println!("{key} was given up: {}", letter.error());
    }
    stock.discard_all().await?;
    println!("{:?}", stock.stats().await?);

    worker.shutdown(Duration::from_secs(10)).await?;
    client.shutdown().await;
    Ok(())
}
