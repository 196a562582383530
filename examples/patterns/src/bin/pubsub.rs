//! Live messages: a subscription that outlives reconnections, and tells where messages may be missing.
//! `cargo run -p patterns --bin pubsub`, with `REDIS_URL` set to use a server.

use redkit::pubsub::{Channel, Event, Replay};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:pubsub")?;
    // Sharded: on a cluster a message goes only where its subscribers are.
    let orders: Channel<String> = Channel::builder(&client, "orders")
        .sharded()
        .replay(Replay::last(1_000))
        .build()?;
    let mut subscription = orders.subscribe(["42"]).await?;
    let packed = orders.publish("42", "packed").await?;
    orders.publish("42", "shipped").await?;
    for _ in 0..2 {
        match subscription.next().await {
            Some(Event::Message(message)) => println!("order 42: {}", message.payload),
            Some(Event::Gap(reason)) => println!("messages may be missing: {reason}"),
            other => println!("{other:?}"),
        }
    }

    // A browser that comes back with its `Last-Event-ID`.
    if let Some(position) = packed.position {
        let mut missed = orders.subscribe_after("42", position).await?;
        if let Some(Event::Message(message)) = missed.next().await {
            println!("missed: {}", message.payload);
        }
    }
    client.shutdown().await;
    Ok(())
}
