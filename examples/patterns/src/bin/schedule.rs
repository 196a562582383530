//! Messages at the times of a cron pattern, once each, however many processes take part.
//! `cargo run -p patterns --bin schedule`, with `REDIS_URL` set to use a server.

use std::time::Duration;

use redkit::pubsub::topic::{Delivery, Outcome, Topic};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:schedule")?;
    let reports: Topic<String> = Topic::builder(&client, "reports").build()?;
    // Every process starts it; there is no leader. Here: every second, in Berlin.
    let start = || {
        reports
            .schedule("ticks", "* * * * * *", "Europe/Berlin")
            .start(|tick| format!("the report of {}", tick.strftime("%H:%M:%S")))
    };
    let (_one, _other) = (start()?, start()?);

    let (done, mut handled) = tokio::sync::mpsc::channel(10);
    let worker = reports
        .consumer("printer")
        .start(move |delivery: Delivery<String>| {
            let done = done.clone();
            async move {
                match done.send(delivery.payload).await {
                    Ok(()) => Outcome::Ack,
                    Err(_) => Outcome::HandBack,
                }
            }
        })
        .await?;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let report = tokio::time::timeout(Duration::from_secs(10), handled.recv()).await?;
        seen.push(report.ok_or("the worker ended")?);
    }
    println!("{seen:?}");
    println!("each once: {}", seen[0] != seen[1]);
    worker.shutdown(Duration::from_secs(5)).await;
    client.shutdown().await;
    Ok(())
}
