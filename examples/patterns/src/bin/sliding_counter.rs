//! A window that slides, from two counts: small and smooth, and a guess where calls were uneven.
//! `cargo run -p patterns --bin sliding_counter`, with `REDIS_URL` set to use a server.

use std::time::Duration;

use redkit::ratelimit::{Policy, Quota, RateLimiter};

/// A machine that builds something else meanwhile is slow; usually a decision has 100 ms.
const PATIENCE: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:sliding_counter")?;
    let limiter = RateLimiter::builder(&client, "api")
        .policy(Policy::sliding_counter(Quota::per_minute(3)))
        .decision_timeout(PATIENCE)
        .build()?;
    limiter.reset("ann").await?;

    for call in 1..=4 {
        let decision = limiter.check("ann").await?;
        println!(
            "call {call}: {}, {} left, again in {:?}",
            if decision.is_allowed() {
                "allowed"
            } else {
                "denied"
            },
            decision.remaining(),
            decision.retry_after(),
        );
    }
    client.shutdown().await;
    Ok(())
}
