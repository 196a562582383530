//! Several limits at once: a user, an address and a place, all or nothing in one round trip.
//! `cargo run -p patterns --bin ratelimit`, with `REDIS_URL` set to use a server.

use std::time::Duration;

use redkit::ratelimit::{ConcurrencyLimiter, LimitSet, OnOutage, Policy, Quota, RateLimiter};

/// A machine that builds something else meanwhile is slow; usually a decision has 100 ms.
const PATIENCE: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:ratelimit")?;
    // Two tiers: a few at once, and not too many in an hour. While Redis is down everybody may.
    let users = RateLimiter::builder(&client, "users")
        .policy(Policy::fixed_window(Quota::per_second(10)).named("second"))
        .policy(Policy::sliding_counter(Quota::per_hour(1000)).named("hour"))
        .on_outage(OnOutage::Open)
        .decision_timeout(PATIENCE)
        .build()?;
    let addresses = RateLimiter::builder(&client, "addresses")
        .policy(Policy::sliding_log(Quota::per_hour(2)))
        .decision_timeout(PATIENCE)
        .build()?;
    let reports = ConcurrencyLimiter::builder(&client, "reports")
        .limit(3)
        .decision_timeout(PATIENCE)
        .build()?;
    addresses.tagged("tenant-7").reset("192.0.2.7").await?;

    for _ in 0..3 {
        let decided = LimitSet::new()
            .limit(&users, "ann")
            .limit(&addresses, "192.0.2.7")
            .lease(&reports, "ann")
            .tag("tenant-7") // one slot of a cluster, so that one step decides
            .check()
            .await?;
        let decision = &decided.decision;
        match decision.is_allowed() {
            true => println!("go, with {} place(s) held", decided.permits.len()),
            false => println!("`{}` says no, and nothing was taken", decision.policy()),
        }
    }
    client.shutdown().await;
    Ok(())
}
