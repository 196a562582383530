//! Durable messages: handled by one worker of each group, again after a failure. `cargo run -p patterns --bin
//! topic`, with `REDIS_URL` set to use a server.

use std::time::Duration;

use redkit::pubsub::topic::{Delivery, Outcome, Publication, Topic};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:topic")?;
    let orders: Topic<String> = Topic::builder(&client, "orders").build()?;

    // Published once, however often: a client that got no answer may ask again.
    for _ in 0..2 {
        orders
            .publish_with("order 7", Publication::new().id("order-7"))
            .await?;
    }
    orders.publish("order 8").await?;

    let (done, mut handled) = tokio::sync::mpsc::channel(10);
    let worker = orders
        .consumer("mail")
        .concurrency(4)
        .start(move |delivery: Delivery<String>| {
            let done = done.clone();
            async move {
                // The mail server is away at first.
                if delivery.payload == "order 8" && delivery.attempt == 1 {
                    return Outcome::retry_after(Duration::from_millis(100), "no mail server");
                }
                let text = format!("{}, attempt {}", delivery.payload, delivery.attempt);
                match done.send(text).await {
                    Ok(()) => Outcome::Ack,
                    Err(_) => Outcome::HandBack,
                }
            }
        })
        .await?;
    for _ in 0..2 {
        let next = tokio::time::timeout(Duration::from_secs(10), handled.recv());
        println!("sent: {}", next.await?.ok_or("the worker ended")?);
    }
    // What is being handled is finished, what was taken ahead is given back.
    worker.shutdown(Duration::from_secs(10)).await;
    client.shutdown().await;
    Ok(())
}
