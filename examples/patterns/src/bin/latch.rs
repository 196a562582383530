//! A count-down latch: wait until so many, in whichever processes, are done.
//! `cargo run -p patterns --bin latch`, with `REDIS_URL` set to use a server.

use std::time::Duration;

use redkit::lock::LatchManager;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:latch")?;
    let latches = LatchManager::builder(&client, "imports").build()?;
    let parts = latches.latch("2026-11-29")?;
    parts.delete().await?;
    parts.set(3).await?;

    let workers = async {
        for part in ["north", "south", "south", "west"] {
            // A part that is done twice counts once.
            parts.count_down_as(part, 1).await?;
        }
        Ok::<_, redkit::lock::Error>(())
    };
    let (done, ()) = tokio::try_join!(parts.wait(Duration::from_secs(10)), workers)?;
    println!("all parts are done: {done}");
    parts.delete().await?;
    client.shutdown().await;
    Ok(())
}
