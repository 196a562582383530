//! Limits by user and by address, tiers, places and waiting. `cargo run -p patterns --bin ratelimit`,
//! with `REDIS_URL` set to use a server.

use std::time::{Duration, Instant};

use redkit::ratelimit::{ConcurrencyLimiter, LimitSet, OnOutage, Policy, Quota, RateLimiter};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url).await?.with_namespace("patterns")?;

    // 100 a minute, 5 of them at once; when Redis is down everybody may.
    let api = RateLimiter::builder(&client, "api")
        .policy(Policy::gcra(Quota::per_minute(100).burst(5)))
        .on_outage(OnOutage::Open)
        .build()?;
    api.reset("alice").await?;
    for call in 1..=6 {
        let decision = api.check("alice").await?;
        println!(
            "call {call}: allowed {}, {} of {} left, again in {:?}",
            decision.is_allowed(),
            decision.remaining(),
            decision.limit(),
            decision.retry_after(),
        );
    }

    // Waits for its turn instead, first come, first served.
    let start = Instant::now();
    let decision = api.acquire("alice", Duration::from_secs(5)).await?;
    println!("waited {:?}: {}", start.elapsed(), decision.is_allowed());

    // A call that turned out not to count is given back, once.
    if let Some(receipt) = decision.receipt() {
        println!("given back: {}", api.refund(receipt).await?);
    }

    // Two tiers, an address and a place, all or nothing in one round trip.
    let users = RateLimiter::builder(&client, "users")
        .policy(Policy::fixed_window(Quota::per_second(10)).named("second"))
        .policy(Policy::sliding_counter(Quota::per_hour(1000)).named("hour"))
        .build()?;
    let addresses = RateLimiter::builder(&client, "addresses")
        .policy(Policy::sliding_log(Quota::per_hour(2)))
        .build()?;
    let reports = ConcurrencyLimiter::builder(&client, "reports")
        .limit(3)
        .build()?;
    addresses.tagged("tenant-7").reset("192.0.2.7").await?;
    for _ in 0..3 {
        let decided = LimitSet::new()
            .limit(&users, "alice")
            .limit(&addresses, "192.0.2.7")
            .lease(&reports, "alice")
            .tag("tenant-7")
            .check()
            .await?;
        let decision = &decided.decision;
        match decision.is_allowed() {
            true => println!("together: go, with {} place(s) held", decided.permits.len()),
            false => println!("together: `{}` says no", decision.policy()),
        }
    }

    client.shutdown().await;
    Ok(())
}
