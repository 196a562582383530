//! An inbox: the last messages of each user, kept until they are confirmed as read, and handed on while the
//! user is there.
//! `cargo run -p patterns --bin inbox`, with `REDIS_URL` set to use a server.

use redkit::pubsub::{Inbox, InboxEvent};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:inbox")?;
    let inbox: Inbox<String> = Inbox::builder(&client, "notes").capacity(100).build()?;
    for user in ["ann", "bob"] {
        inbox.clear(user).await?;
    }
    inbox.push_to_many(["ann", "bob"], "sale").await?;

    let batch = inbox.read("ann", 50).await?;
    println!(
        "ann reads {}, {} are there",
        batch.items.len(),
        inbox.unread("ann").await?
    );
    // Only now they are gone: a reader that dies before loses nothing.
    inbox.confirm("ann", &batch.token).await?;
    println!("ann has {}", inbox.unread("ann").await?);

    // What waits, and then what comes, without loss or doubles in between.
    let mut connected = inbox.subscribe("bob", None).await?;
    inbox.push("bob", "your order was shipped").await?;
    for _ in 0..2 {
        if let Some(InboxEvent::Item(item)) = connected.next().await {
            println!("bob sees {:?}", item.value?);
            inbox.confirm_up_to("bob", item.id).await?;
        }
    }
    client.shutdown().await;
    Ok(())
}
