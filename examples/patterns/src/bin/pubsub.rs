//! Live messages that tell of gaps, and an inbox for who was away. `cargo run -p patterns --bin
//! pubsub`, with `REDIS_URL` set to use a server.

use redkit::pubsub::{Channel, Event, Inbox, InboxEvent, Replay};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Note {
    text: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:pubsub")?;
    let note = |text: &str| Note {
        text: text.to_owned(),
    };

    // Sharded: on a cluster a message goes only where its subscribers are.
    let orders: Channel<Note> = Channel::builder(&client, "orders")
        .sharded()
        .replay(Replay::last(1_000))
        .build()?;
    let mut subscription = orders.subscribe(["42"]).await?;
    let packed = orders.publish("42", &note("packed")).await?;
    orders.publish("42", &note("shipped")).await?;
    for _ in 0..2 {
        match subscription.next().await {
            Some(Event::Message(message)) => println!("order 42: {}", message.payload.text),
            Some(Event::Gap(reason)) => println!("messages may be missing: {reason}"),
            other => println!("{other:?}"),
        }
    }
    // A browser that comes back with its `Last-Event-ID`.
    if let Some(position) = packed.position {
        let mut missed = orders.subscribe_after("42", position).await?;
        println!("missed: {:?}", missed.next().await);
    }

    let inbox: Inbox<Note> = Inbox::builder(&client, "notes").capacity(100).build()?;
    inbox.push_to_many(["ann", "bob"], &note("sale")).await?;
    let batch = inbox.read("ann", 50).await?;
    println!(
        "ann reads {} of {}",
        batch.items.len(),
        inbox.unread("ann").await?
    );
    // Only now they are gone: a reader that dies before loses nothing.
    inbox.confirm("ann", &batch.token).await?;

    let mut connected = inbox.subscribe("bob", None).await?;
    if let Some(InboxEvent::Item(item)) = connected.next().await {
        println!("bob sees {:?}", item.value?);
        inbox.confirm_up_to("bob", item.id).await?;
    }
    client.shutdown().await;
    Ok(())
}
