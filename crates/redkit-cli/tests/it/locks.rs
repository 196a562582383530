//! `redkit locks`.

use std::time::Duration;

use redkit_lock::{LockManager, Semaphore};

use crate::engine;

#[tokio::test(flavor = "multi_thread")]
async fn locks_of_all_managers_are_listed_with_their_holders() {
    let engine = engine().await;
    let orders = LockManager::builder(&engine.client, "orders")
        .label("checkout")
        .build()
        .unwrap();
    let held = orders.try_acquire("order-7").await.unwrap();
    let documents = LockManager::builder(&engine.client, "documents")
        .build_read_write()
        .unwrap();
    let _reader = documents.read("d", Duration::ZERO).await.unwrap();
    let exports = Semaphore::builder(&engine.client, "exports")
        .permits(5)
        .build()
        .unwrap();
    let _permits = exports.try_acquire("eu", 2).await.unwrap().unwrap();

    let listed = engine.json(&["locks", "list"]).await;
    let locks = listed["locks"].as_array().unwrap();
    assert_eq!(locks.len(), 3, "{listed}");
    let of = |kind: &str| locks.iter().find(|row| row["kind"] == kind).unwrap();
    let lock = of("lock");
    assert_eq!(
        (&lock["name"], &lock["key"]),
        (&"orders".into(), &"order-7".into())
    );
    assert_eq!(lock["holder"]["label"], "checkout");
    assert_eq!(lock["holder"]["process"], std::process::id());
    assert_eq!(lock["holder"]["fence"], held.fence().get());
    assert!(lock["holder"]["expires_in_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(of("rwlock")["readers"], 1);
    assert_eq!(
        (&of("semaphore")["taken"], &of("semaphore")["grants"]),
        (&2.into(), &1.into())
    );

    let one = engine.json(&["locks", "list", "orders"]).await;
    assert_eq!(one["locks"].as_array().unwrap().len(), 1);
    let text = engine.redkit(&["locks", "list"]).await;
    assert!(
        text.out.contains("checkout on ") && text.out.contains("2 permits taken"),
        "{text:?}"
    );
    let free = engine
        .json(&["locks", "inspect", "orders", "order-8"])
        .await;
    assert!(free["holder"].is_null());
    let other = engine
        .redkit(&["--namespace", "other", "locks", "list"])
        .await;
    assert_eq!((other.code, other.out.trim()), (0, "nothing is locked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_taken_away_by_its_fence_and_only_when_that_was_confirmed() {
    let engine = engine().await;
    let orders = LockManager::builder(&engine.client, "orders")
        .build()
        .unwrap();
    let held = orders.try_acquire("7").await.unwrap();
    let fence = held.fence().get().to_string();
    let release = ["locks", "force-release", "orders", "7", "--fence", &fence];

    engine
        .redkit(&release)
        .await
        .failed(2, "no terminal", "--yes");
    assert!(
        orders.inspect("7").await.unwrap().is_some(),
        "nothing was done"
    );
    let other = [
        "locks",
        "force-release",
        "orders",
        "7",
        "--fence",
        "1",
        "--yes",
    ];
    engine
        .redkit(&other)
        .await
        .failed(1, "not held under fence 1: it is held by", "locks list");
    assert!(orders.inspect("7").await.unwrap().is_some());

    let released = engine.json(&[&release[..], &["--yes"]].concat()).await;
    assert_eq!(released["released"], true);
    assert!(orders.inspect("7").await.unwrap().is_none());
    let again = engine.redkit(&[&release[..], &["--yes"]].concat()).await;
    again.failed(1, "it is free", "locks list");
}
