//! So many at the same time, in all processes together: permits under leases, and a queue that is fair.
//! `cargo run -p patterns --bin semaphore`, with `REDIS_URL` set to use a server.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use redkit::lock::{Error, Semaphore};

static RUNNING: AtomicU32 = AtomicU32::new(0);
static MOST: AtomicU32 = AtomicU32::new(0);

async fn export() {
    let running = RUNNING.fetch_add(1, Ordering::SeqCst) + 1;
    MOST.fetch_max(running, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(20)).await;
    RUNNING.fetch_sub(1, Ordering::SeqCst);
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:semaphore")?;
    let exports = Semaphore::builder(&client, "exports").permits(3).build()?;

    let callers = (0..10).map(|_| async {
        let permits = exports.acquire("eu", 1, Duration::from_secs(10)).await?;
        if let Some(permits) = permits {
            tokio::select! {
                () = export() => {}
                () = permits.lost() => println!("somebody else may have it now"),
            }
            permits.release().await?;
        }
        Ok::<_, Error>(())
    });
    try_join_all(callers).await?;
    println!(
        "10 exports, {} at the same time at most",
        MOST.load(Ordering::SeqCst)
    );
    client.shutdown().await;
    Ok(())
}
