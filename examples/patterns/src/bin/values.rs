//! Typed values with a time to live, changed by what they are, and many at once.
//! `cargo run -p patterns --bin values`, with `REDIS_URL` set to use a server.

use std::time::Duration;

use redkit::{Change, SetItem};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Cart {
    items: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:values")?;
    let cart = Cart {
        items: vec!["teapot".to_owned()],
    };
    client
        .set("cart:ann", &cart)
        .ttl(Duration::from_secs(600))
        .await?;
    println!("ann: {:?}", client.get::<Cart>("cart:ann").await?);

    // Changed by what it is, although others write it meanwhile.
    let add = |cart: Option<Cart>| {
        let mut cart = cart.unwrap_or(Cart { items: Vec::new() });
        cart.items.push("cups".to_owned());
        Change::Set(cart)
    };
    println!("ann: {:?}", client.update("cart:ann").apply(add).await?);

    // Many, wherever they are in a cluster, with an outcome each.
    let prices = (1..=500).map(|id| SetItem::new(format!("price:{id}"), id * 100));
    let written = client.mset(prices).await;
    let written = written.iter().filter(|one| matches!(one, Ok(true))).count();
    println!("{written} prices written");
    for price in client.mget::<u32>(["price:1", "price:501"]).await {
        println!("price: {:?}", price?);
    }
    client.shutdown().await;
    Ok(())
}
