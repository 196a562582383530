//! Many readers or one writer, and a writer that readers cannot keep out.
//! `cargo run -p patterns --bin read_write`, with `REDIS_URL` set to use a server.

use std::time::Duration;

use redkit::lock::LockManager;

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:read_write")?;
    let locks = LockManager::builder(&client, "catalogue").build_read_write()?;

    let (one, other) = (
        locks.read("prices", PATIENCE).await?,
        locks.read("prices", PATIENCE).await?,
    );
    println!("two read at once: {:?}", locks.inspect("prices").await?);
    let write = async {
        let writer = locks.write("prices", PATIENCE).await?;
        println!("written under the fence {}", writer.fence());
        writer.release().await
    };
    let readers = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        one.release().await?;
        other.release().await
    };
    let (was_held, _) = tokio::try_join!(write, readers)?;
    println!("held to the end: {was_held}");
    client.shutdown().await;
    Ok(())
}
