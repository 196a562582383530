//! Two processes with shoppers in them, on one Redis that is killed and started again, and one of the processes is
//! killed: nothing is sold twice, and nothing that was promised is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use redkit::pubsub::Inbox;
use redkit::{Client, ClientConfig};
use redkit_testkit::{Server, ServerOptions};

use crate::database::Database;

/// Lets shoppers walk about for so long, with both faults in between, and checks what is left.
pub(crate) async fn shoppers_and_faults(time: Duration) {
    // Each write is on disk before it is answered: what Redis has said it does not forget.
    let options = ServerOptions::new()
        .config("appendonly yes")
        .config("appendfsync always");
    let server = Server::redis(options).await.unwrap();
    let database = Database::new().await;
    for product in 1..=10 {
        database.set_stock(product, 3).await;
    }
    let before = database.stock().await;
    let args = ["--ship-after", "0", "--drive", "8"];
    let mut one = database.open(&server.url(), &args).await;
    let other = database.open(&server.url(), &args).await;

    tokio::time::sleep(time / 3).await;
    server.restart().await.unwrap();
    tokio::time::sleep(time / 3).await;
    let mut said = other.kill().await;
    tokio::time::sleep(time / 3).await;
    let (status, rest) = one.stop().await;
    assert!(status.success(), "{rest}");
    said.push_str(&rest);

    // What the killed one was at is done by another, within its leases.
    let mut heir = database.open(&server.url(), &["--ship-after", "0"]).await;
    database.all_told().await;
    database.check(&before).await;

    let purchases = database.purchases().await;
    let known: BTreeMap<&str, &str> = purchases
        .iter()
        .map(|one| (one.reference.as_str(), one.state.as_str()))
        .collect();
    let promised = marked(&said, "ordered order=\"");
    assert!(!promised.is_empty(), "nobody ordered anything: {said}");
    for reference in &promised {
        assert!(
            known.contains_key(reference.as_str()),
            "{reference} was promised, and is lost"
        );
    }
    let read = marked(&said, "read news=\"");
    let client = inboxes(&server, &database).await;
    let inbox: Inbox<serde_json::Value> = Inbox::builder(&client, "notifications").build().unwrap();
    for purchase in &purchases {
        let id = match purchase.state.as_str() {
            "shipped" => format!("{}-placed", purchase.reference),
            "cancelled" => format!("{}-cancelled", purchase.reference),
            other => panic!("{other}: {purchase:?}"),
        };
        if read.contains(&id) {
            continue;
        }
        let waiting = inbox.page(purchase.account_id, None, 100).await.unwrap();
        let waits = waiting
            .iter()
            .any(|item| item.value.as_ref().unwrap()["id"] == id);
        // An inbox keeps the last hundred.
        assert!(
            waits || waiting.len() == 100,
            "the customer was never told of {id}"
        );
    }
    let cancelled = purchases
        .iter()
        .filter(|one| one.state == "cancelled")
        .count();
    println!(
        "{} orders ({} promised, {cancelled} cancelled), {} news read, in {time:?} with both faults",
        purchases.len(),
        promised.len(),
        read.len()
    );
    client.shutdown().await;
    assert!(heir.stop().await.0.success());
}

/// What stands behind a mark in the log, up to the quotation mark.
fn marked(said: &str, mark: &str) -> BTreeSet<String> {
    let found = said.split(mark).skip(1);
    found
        .filter_map(|rest| rest.split_once('"').map(|(found, _)| found.to_owned()))
        .collect()
}

/// A client in the shop's namespace.
async fn inboxes(server: &Server, database: &Database) -> Client {
    let identity: String = sqlx::query_scalar("SELECT identity FROM catalogue")
        .fetch_one(&database.pool)
        .await
        .unwrap();
    let config = ClientConfig::from_url(&server.url()).unwrap();
    let client = redkit::connect_with(config).await.unwrap();
    client
        .with_namespace(&format!("storefront-{identity}"))
        .unwrap()
}
