//! A steady rate, with a burst after a pause (GCRA), and a caller that waits for its turn.
//! `cargo run -p patterns --bin token_bucket`, with `REDIS_URL` set to use a server.

use std::time::{Duration, Instant};

use redkit::ratelimit::{Policy, Quota, RateLimiter};

/// A machine that builds something else meanwhile is slow; usually a decision has 100 ms.
const PATIENCE: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:token_bucket")?;
    let limiter = RateLimiter::builder(&client, "api")
        .policy(Policy::token_bucket(Quota::per_second(5).burst(2)))
        .decision_timeout(PATIENCE)
        .build()?;
    limiter.reset("ann").await?;

    for call in 1..=3 {
        let decision = limiter.check("ann").await?;
        println!("call {call}: allowed {}", decision.is_allowed());
    }
    // First come, first served, among all processes.
    let start = Instant::now();
    let decision = limiter.acquire("ann", Duration::from_secs(5)).await?;
    println!(
        "waited {:?}: allowed {}",
        start.elapsed(),
        decision.is_allowed()
    );
    client.shutdown().await;
    Ok(())
}
