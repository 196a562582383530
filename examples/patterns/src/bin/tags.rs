//! Values that belong together, taken out together, in the time that one takes.
//! `cargo run -p patterns --bin tags`, with `REDIS_URL` set to use a server.

use std::time::Duration;

use redkit::cache::{Cache, Loaded};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:tags")?;
    let teapots: Cache<String> = Cache::builder(&client, "teapots")
        .ttl(Duration::from_secs(30))
        .build()?;

    for id in 1..=100_u32 {
        let load = move || async move {
            let teapot = Loaded::new(format!("teapot {id}"));
            Ok::<_, std::io::Error>(teapot.tags([format!("shelf:{}", id % 10)]))
        };
        teapots.get_or_load(id, load).await?;
    }
    // A whole shelf has changed. No key is scanned for, and none is touched.
    teapots.invalidate_tag("shelf:2").await?;
    let (gone, stays) = (teapots.get(12).await?, teapots.get(13).await?);
    println!(
        "12 is gone: {}, 13 is there: {}",
        gone.is_none(),
        stays.is_some()
    );

    // All of it.
    teapots.clear().await?;
    println!("13 is gone: {}", teapots.get(13).await?.is_none());
    client.shutdown().await;
    Ok(())
}
