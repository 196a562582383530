//! Calls that are let through evenly: each is told how long it has to wait for its turn.
//! `cargo run -p patterns --bin leaky_bucket`, with `REDIS_URL` set to use a server.

use std::time::Duration;

use redkit::ratelimit::{Policy, Quota, RateLimiter};

/// A machine that builds something else meanwhile is slow; usually a decision has 100 ms.
const PATIENCE: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:leaky_bucket")?;
    let limiter = RateLimiter::builder(&client, "api")
        .policy(Policy::leaky(
            Quota::per_second(10),
            Duration::from_millis(250),
        ))
        .decision_timeout(PATIENCE)
        .build()?;
    limiter.reset("ann").await?;

    for call in 1..=4 {
        let decision = limiter.check("ann").await?;
        match decision.is_allowed() {
            true => println!("call {call}: after {:?}", decision.delay()),
            false => println!("call {call}: the queue is too long, denied"),
        }
    }
    client.shutdown().await;
    Ok(())
}
