//! Typed handles: a basket in a hash, best sellers in a sorted set, a stock in a counter.
//! `cargo run -p patterns --bin collections`, with `REDIS_URL` set to use a server.

use std::time::Duration;

use redkit::collections::{Bounded, Counter, Hash, Lifetime, Order, Set, SortedSet};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:collections")?;
    // A basket that ends half an hour after it was last touched: the time is set with the write.
    let idle = Lifetime::on_write(Duration::from_secs(1800))?;
    let basket: Hash<u32> = Hash::new(&client, "basket:7").with_ttl(idle);
    basket.set_many([("teapot", &1), ("cup", &4)]).await?;
    basket.incr("cup", 2).await?;
    println!("basket: {:?}", basket.get_all().await?);

    // What two customers have both looked at. The braces put both sets into one slot of a cluster.
    let seen = |customer| Set::<String>::new(&client, format!("{{seen}}:{customer}"));
    let (ann, bob) = (seen("ann")?, seen("bob")?);
    ann.add_many(["teapot", "cup"]).await?;
    bob.add_many(["cup", "saucer"]).await?;
    println!("both saw {:?}", ann.intersection([&bob]).await?);

    let sales: SortedSet<String> = SortedSet::new(&client, "sales")?;
    sales.increment("teapot", 3.0).await?;
    sales.increment("cup", 12.0).await?;
    let top = sales.range_by_rank(0..10, Order::Descending).await?;
    println!("best sellers: {top:?}");

    // A stock that is never sold twice, however many try.
    let stock = Counter::new(&client, "stock:teapot");
    stock.set(2).await?;
    for _ in 0..3 {
        match stock.decr_down_to(1, 0).await? {
            Bounded::Counted(left) => println!("sold, {left} left"),
            Bounded::Refused(left) => println!("sold out, {left} left"),
        }
    }
    client.shutdown().await;
    Ok(())
}
