//! All keys of a pattern, over every server, page by page: grouped, and deleted without blocking.
//! `cargo run -p patterns --bin scan`, with `REDIS_URL` set to use a server.

use redkit::{Pattern, SetItem};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:scan")?;
    let items = (1..=50).flat_map(|id| {
        ["state", "total"].map(|part| SetItem::new(format!("order:{id}:{part}"), id))
    });
    for written in client.mset(items).await {
        written?;
    }
    // `order:<anything>:…`, counted by what stands in between.
    let orders = Pattern::starting("order:").capture().literal(":").any();
    let groups = client.scan(orders).group().run().await?;
    println!("{groups:?}");

    // `Pattern::all` is all of the client's namespace; without a namespace it is all that the server has.
    let swept = client
        .scan(Pattern::all())
        .delete()
        .on_progress(|swept| println!("deleted {} of {}", swept.deleted, swept.found))
        .run()
        .await;
    println!("complete: {}", swept.is_complete());
    client.shutdown().await;
    Ok(())
}
