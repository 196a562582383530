//! Work that is done once for a key, however often it is asked for.
//! `cargo run -p patterns --bin idempotent`, with `REDIS_URL` set to use a server.

use std::sync::atomic::{AtomicU32, Ordering};

use redkit::lock::{Error, IdempotentError, IdempotentExecution};

static PAYMENTS: AtomicU32 = AtomicU32::new(0);

async fn pay(cents: u32) -> Result<String, std::io::Error> {
    let number = PAYMENTS.fetch_add(1, Ordering::SeqCst) + 1;
    Ok(format!("payment {number} of {cents} cents"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:idempotent")?;
    let payments = IdempotentExecution::builder(&client, "payments").build()?;
    payments.forget("ann", "order-7").await?;

    // The scope is the caller who chose the key; the fingerprint says what is asked for.
    for _ in 0..3 {
        let paid = payments.run("ann", "order-7", "9900", pay(9900)).await?;
        println!("{} (again: {})", paid.value, paid.is_replayed);
    }
    let other = payments.run("ann", "order-7", "1", pay(1)).await;
    if let Err(IdempotentError::NotExecuted(Error::OtherFingerprint)) = other {
        println!("the same key for something else is a mistake");
    }
    println!("paid {} time(s)", PAYMENTS.load(Ordering::SeqCst));
    client.shutdown().await;
    Ok(())
}
