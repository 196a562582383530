//! A cache in front of something slow. `cargo run -p patterns --bin cache`, with `REDIS_URL` set to
//! use a server.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redkit::cache::{Cache, L1, Loaded};
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

/// With a level in the process, stale values, tags, and several keys at once.
async fn fleet(client: &redkit::Client) -> Result<(), Box<dyn std::error::Error>> {
    let products: Cache<Product> = Cache::builder(client, "catalogue")
        .ttl(Duration::from_secs(30))
        .stale_for(Duration::from_secs(600))
        .refresh_ahead(0.8)
        .l1(L1::entries(10_000))
        .build()?;
    let load_all = |ids: Vec<u32>| async move {
        let mut found = HashMap::new();
        for id in ids {
            if let Ok(product) = from_database(id).await {
                let tags = [format!("shelf:{}", id % 10)];
                found.insert(id, Loaded::new(product).tags(tags));
            }
        }
        Ok::<_, NotFound>(found)
    };
    for _ in 0..2 {
        for product in products.get_many_or_load([1, 2, 3, 5000], load_all).await {
            match product? {
                Some(product) => println!("{} from {:?}", product.name, product.source()),
                None => println!("no such product"),
            }
        }
    }
    // A whole shelf is out of date: however many products it has, this takes the same time.
    products.invalidate_tag("shelf:2").await?;
    let gone = products.get(2).await?.is_none();
    println!(
        "product 2 is gone: {gone}; product 1 is not: {}",
        products.get(1).await?.is_some()
    );

    let dearer = || async {
        Ok::<_, NotFound>(Product {
            name: "Teapot 2".to_owned(),
            cents: 2499,
        })
    };
    let written = products.write_through(2, dearer).await?;
    println!("{} now costs {} cents", written.name, written.cents);
    Ok(())
}

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

    fleet(&client).await?;
    println!("{:?}", products.stats());

    client.shutdown().await;
    Ok(())
}
