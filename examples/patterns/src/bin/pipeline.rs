//! Several commands in one round trip, and several that stand or fall together.
//! `cargo run -p patterns --bin pipeline`, with `REDIS_URL` set to use a server.

use redkit::{Pipeline, SetOptions, Transaction};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:pipeline")?;
    let mut pipeline = Pipeline::new(&client);
    let visits = pipeline.increment("visits", 1);
    let name = pipeline.get::<String>("name");
    let mut replies = pipeline.send().await?;
    println!(
        "visit {}, name {:?}",
        replies.take(visits)?,
        replies.take(name)?
    );

    // The braces put both into one slot of a cluster.
    let mut transaction = Transaction::new(&client);
    let paid = transaction.set("order:{7}:state", "paid", SetOptions::new());
    let count = transaction.increment("order:{7}:payments", 1);
    let mut replies = transaction.send().await?;
    println!(
        "paid: {}, payments: {}",
        replies.take(paid)?,
        replies.take(count)?
    );
    client.shutdown().await;
    Ok(())
}
