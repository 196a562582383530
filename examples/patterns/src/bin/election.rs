//! One leader among all processes: its work ends before its leadership does, and another one follows.
//! `cargo run -p patterns --bin election`, with `REDIS_URL` set to use a server.

use std::time::Duration;

use redkit::lock::{Election, LockManager};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:election")?;
    // Two candidates, as two processes have them.
    let candidate = |label: &str| {
        let locks = LockManager::builder(&client, "schedulers")
            .label(label)
            .build()?;
        Election::new(&locks, "outbox-relay")
    };
    let (one, other) = (candidate("web-1")?, candidate("web-2")?);
    let mut leaders = one.observe();

    let lead = |election: Election, name: &'static str| async move {
        election
            .run(|term| async move {
                println!("{name} leads; it writes with the fence {}", term.fence());
                tokio::time::sleep(Duration::from_millis(100)).await;
                name
            })
            .await
    };
    let watch = async {
        loop {
            if let Some(leader) = leaders.next().await? {
                return Ok::<_, redkit::lock::Error>(leader);
            }
        }
    };
    let (first, second, seen) =
        tokio::try_join!(lead(one.clone(), "web-1"), lead(other, "web-2"), watch)?;
    println!("{first} and {second} led, one after the other; seen: {seen}");
    client.shutdown().await;
    Ok(())
}
