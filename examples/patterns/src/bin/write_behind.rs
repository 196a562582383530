//! Writes that are durable in Redis at once and in a database a little later, in order and coalesced.
//! `cargo run -p patterns --bin write_behind`, with `REDIS_URL` set to use a server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redkit::cache::write_behind::{Change, Sink, SinkError, Verdict, WriteBehind};

/// The version of a row, and the stock unless it was deleted.
type Row = (u64, Option<u64>);

/// Stands for a database.
#[derive(Clone, Default)]
struct Database(Arc<Mutex<HashMap<String, Row>>>);

impl Sink<u64> for Database {
    async fn write(&self, batch: Vec<Change<u64>>) -> Result<Vec<Verdict>, SinkError> {
        println!("the database is given {} changes", batch.len());
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let write = |change: Change<u64>| {
            let key = String::from_utf8_lossy(change.key()).into_owned();
            if key == "unknown" {
                return Verdict::Reject(SinkError::new("no such product"));
            }
            // As `… WHERE version < $2` would: a batch of a worker that was thought dead may come late.
            if rows.get(&key).map_or(0, |row| row.0) < change.version() {
                rows.insert(key, (change.version(), change.into_value()));
            }
            Verdict::Written
        };
        Ok(batch.into_iter().map(write).collect())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url).await?.with_namespace("patterns")?;
    let stock = WriteBehind::builder(&client, "stock")
        .max_age(Duration::from_millis(200))
        .open()
        .await?;
    let worker = stock.start(Database::default());

    for left in (0..=100).rev() {
        stock.put("teapot", &left).await?;
    }
    stock.delete("kettle").await?;
    stock.put("unknown", &1).await?;
    stock.flush(Duration::from_secs(10)).await?;
    for letter in stock.dead_letters(None, 10).await?.letters {
        let key = String::from_utf8_lossy(letter.key()).into_owned();
        println!("{key} was given up: {}", letter.error());
    }
    stock.discard_all().await?;
    worker.shutdown(Duration::from_secs(10)).await?;
    client.shutdown().await;
    Ok(())
}
