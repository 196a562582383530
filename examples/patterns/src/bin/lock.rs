//! A lock with a fence, work that ends with its lock, and a leader.
//! `cargo run -p patterns --bin lock`, with `REDIS_URL` set to use a server.

use std::time::Duration;

use redkit::lock::{Error, FencedRegister, LockManager};

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:lock")?;
    let locks = LockManager::builder(&client, "stock")
        .label("checkout")
        .build()?;
    let stock = FencedRegister::new(&client, "stock")?;

    // Ten buyers at once: each reads and writes alone.
    let buyers = (0..10).map(|_| {
        locks.run("teapot", PATIENCE, |fence| {
            let stock = &stock;
            async move {
                let left = stock
                    .read::<i64>("teapot")
                    .await?
                    .map_or(10, |stored| stored.value)
                    - 1;
                // Rejected once a newer holder has written, should this one have been paused for too long.
                stock.write("teapot", fence, &left).await?;
                Ok::<_, Error>(left)
            }
        })
    });
    let mut left = Vec::new();
    for outcome in futures_util::future::join_all(buyers).await {
        left.push(outcome??);
    }
    left.sort_unstable();
    println!("left after each purchase: {left:?}");

    // Two keys in one guard, all or none, whatever the order in which others ask for them.
    let both = locks.acquire_all(["teapot", "cup"], PATIENCE).await?;
    if let Err(Error::Taken {
        holder: Some(holder),
    }) = locks.try_acquire("cup").await
    {
        println!("the cup is taken by {holder}");
    }
    both.release().await?;
    client.shutdown().await;
    Ok(())
}
