//! A window that slides in slices: never more than the limit, and small for large limits.
//! `cargo run -p patterns --bin bucketed`, with `REDIS_URL` set to use a server.

use std::time::Duration;

use redkit::ratelimit::{Policy, Quota, RateLimiter};

/// A machine that builds something else meanwhile is slow; usually a decision has 100 ms.
const PATIENCE: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:bucketed")?;
    let limiter = RateLimiter::builder(&client, "api")
        .policy(Policy::bucketed(Quota::per_minute(30)))
        .decision_timeout(PATIENCE)
        .build()?;
    limiter.reset("ann").await?;

    // All of it or nothing.
    let many = limiter.check_n("ann", 28).await?;
    let more = limiter.check_n("ann", 5).await?;
    println!(
        "28 of 30: {}, 5 more: {}",
        many.is_allowed(),
        more.is_allowed()
    );
    // A call that turned out not to count is given back, once.
    if let Some(receipt) = many.receipt() {
        limiter.refund(receipt).await?;
    }
    let decision = limiter.peek("ann").await?;
    println!("given back: {} left", decision.remaining());
    client.shutdown().await;
    Ok(())
}
