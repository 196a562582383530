//! Readiness that does not empty a fleet, and the servers' figures.
//! `cargo run -p patterns --bin health`, with `REDIS_URL` set to use a server.

use redkit::monitor::{Dependency, Health, Statistics};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:health")?;
    // A cache that is down is a warning; without its sessions the program can serve nothing.
    let health = Health::builder()
        .dependency(Dependency::soft("cache", &client))
        .dependency(Dependency::hard("sessions", &client))
        .build()?;
    println!("live: {:?}", health.live().status);
    let ready = health.ready().await;
    println!(
        "ready: {:?}, status {}",
        ready.status,
        ready.status.http_status()
    );
    for check in &health.deep().await.checks {
        println!(
            "  {}:{} {:?}",
            check.component, check.measurement, check.status
        );
    }
    let servers = Statistics::new(&client).servers().await?;
    println!("{} bytes used", servers.total.used_memory);
    client.shutdown().await;
    Ok(())
}
