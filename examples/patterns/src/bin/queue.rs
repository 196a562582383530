//! A queue in lists whose items are never lost: they move to a list of work in progress, in one step.
//! `cargo run -p patterns --bin queue`, with `REDIS_URL` set to use a server.

use std::time::Duration;

use redkit::collections::{End, List, Occurrences};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:queue")?;
    let orders: List<String> = List::new(&client, "{orders}:waiting");
    let mine: List<String> = List::new(&client, "{orders}:in-progress:worker-1");
    let mut consumer = orders.consumer().await?;
    let waiting = orders.clone();
    let worker = tokio::spawn(async move {
        let wait = Duration::from_secs(5);
        let mut packed = 0;
        // What an earlier run of this worker had taken and not finished goes back to its place, in front.
        while mine
            .move_to(&waiting, End::Back, End::Front)
            .await?
            .is_some()
        {}
        loop {
            let Some(order) = consumer.move_to(&mine, End::Front, End::Back, wait).await? else {
                continue; // nothing came for so long
            };
            packed += 1;
            // A worker that dies here leaves it in its list, and finds it there when it starts again.
            mine.remove(&order, Occurrences::First(1)).await?;
            if order == "the last" {
                break Ok::<u32, redkit::collections::Error>(packed);
            }
        }
    });
    for order in ["a teapot", "six cups", "the last"] {
        orders.push_back(&order.to_owned()).await?;
    }
    println!("packed {}", worker.await??);
    client.shutdown().await;
    Ok(())
}
