//! Typed handles: a basket, a leader board, a queue, a stock. `cargo run -p patterns --bin
//! collections`, with `REDIS_URL` set to use a server.

use std::time::Duration;

use redkit::collections::{
    Bounded, Counter, End, Hash, Lifetime, List, Occurrences, Order, Set, SortedSet,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Line {
    sku: String,
    quantity: u32,
}

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
    let items = basket.get_all().await?;
    println!("basket: {items:?}, {:?}", basket.time_left().await?);

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

    // A queue whose items are never lost: they move to a list of work in progress, in one step.
    let orders: List<Line> = List::new(&client, "{orders}:waiting");
    let mine: List<Line> = List::new(&client, "{orders}:in-progress:worker-1");
    let mut consumer = orders.consumer().await?;
    let worker = tokio::spawn(async move {
        let wait = Duration::from_secs(5);
        while let Some(order) = consumer.move_to(&mine, End::Front, End::Back, wait).await? {
            println!("packing {} × {}", order.quantity, order.sku);
            mine.remove(&order, Occurrences::First(1)).await?;
            if order.sku == "the last" {
                break;
            }
        }
        Ok::<(), redkit::collections::Error>(())
    });
    for (sku, quantity) in [("teapot", 1), ("cup", 6), ("the last", 1)] {
        let sku = sku.to_owned();
        orders.push_back(&Line { sku, quantity }).await?;
    }
    worker.await??;

    basket.clear().await?;
    ann.clear().await?;
    bob.clear().await?;
    sales.clear().await?;
    stock.clear().await?;
    client.shutdown().await;
    Ok(())
}
