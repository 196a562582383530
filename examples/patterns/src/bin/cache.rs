//! A cache in front of something slow. `cargo run -p patterns --bin cache`, with `REDIS_URL` set to
//! use a server.

use std::time::{Duration, Instant};

use redkit::cache::Cache;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Product {
    name: String,
    cents: u64,
}

#[derive(Debug)]
struct NotFound;

impl std::fmt::Display for NotFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no such product")
    }
}

impl std::error::Error for NotFound {}

/// Stands for a database.
async fn from_database(id: u32) -> Result<Product, NotFound> {
    tokio::time::sleep(Duration::from_millis(50)).await;
    match id {
        1..=1000 => Ok(Product {
            name: format!("Teapot {id}"),
            cents: 1999,
        }),
        _ => Err(NotFound),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url).await?.with_namespace("patterns")?;
    let products: Cache<Product> = Cache::builder(&client, "products")
        .ttl(Duration::from_secs(30))
        .build()?;

    for _ in 0..2 {
        let start = Instant::now();
        let product = products.get_or_load("42", || from_database(42)).await?;
        println!(
            "{} from {:?} in {:?}",
            product.name,
            product.source(),
            start.elapsed()
        );
    }

    if let Err(error) = products.get_or_load("0", || from_database(0)).await {
        let own = error.load_error::<NotFound>();
        println!("product 0: {error}; the loader's own: {own:?}");
    }

    // After the database was written:
    products.invalidate("42").await?;
    println!("{:?}", products.stats());

    client.shutdown().await;
    Ok(())
}
