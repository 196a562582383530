//! Values, scans, pipelines and encryption. `cargo run -p patterns --bin values`, with `REDIS_URL`
//! set to use a server.

use std::time::Duration;

use redkit::{
    Change, Codec, EncryptionKey, KeyRing, Pattern, Pipeline, SetItem, SetOptions, Transaction,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Cart {
    items: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url).await?.with_namespace("values")?;

    // One value: typed, with a time to live.
    let cart = Cart {
        items: vec!["teapot".to_owned()],
    };
    client
        .set("cart:ann", &cart)
        .ttl(Duration::from_secs(600))
        .await?;
    println!(
        "ann: {:?}, {:?}",
        client.get::<Cart>("cart:ann").await?,
        client.ttl("cart:ann").await?
    );

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
    println!(
        "{} prices written",
        written.iter().filter(|one| matches!(one, Ok(true))).count()
    );
    for price in client.mget::<u32>(["price:1", "price:501"]).await {
        println!("price: {:?}", price?);
    }

    // Several commands in one round trip, and several that stand or fall together.
    let mut pipeline = Pipeline::new(&client);
    let visits = pipeline.increment("visits", 1);
    let cart = pipeline.get::<Cart>("cart:ann");
    let mut replies = pipeline.send().await?;
    println!("visit {}, {:?}", replies.take(visits)?, replies.take(cart)?);
    let mut transaction = Transaction::new(&client);
    let paid = transaction.set("order:{7}:state", "paid", SetOptions::new());
    let count = transaction.increment("order:{7}:payments", 1);
    let mut replies = transaction.send().await?;
    println!(
        "paid: {}, payments: {}",
        replies.take(paid)?,
        replies.take(count)?
    );

    // Encrypted, with a key that is rotated: what the old one wrote is renewed when it is read.
    let (old, new) = (EncryptionKey::generate()?, EncryptionKey::generate()?);
    let before = client.with_codec(Codec::json().encrypt(KeyRing::new(1, old.clone())));
    before.set("card:ann", "4111 1111 1111 1111").await?;
    let ring = KeyRing::new(2, new).with_older(1, old)?;
    let after = client.with_codec(Codec::json().encrypt(ring));
    println!(
        "card: {:?}",
        after.get_renewing::<String>("card:ann").await?
    );
    if let Err(error) = client.get::<String>("card:ann").await {
        println!("without the key: {error}");
    }

    // Scanned, grouped and deleted, page by page.
    let orders = Pattern::starting("order:").capture().literal(":").any();
    println!("{:?}", client.scan(orders).group().run().await?);
    let swept = client
        .scan(Pattern::all())
        .delete()
        .on_progress(|swept| println!("deleted {} of {}", swept.deleted, swept.found))
        .run()
        .await;
    println!("complete: {}", swept.is_complete());

    client.shutdown().await;
    Ok(())
}
