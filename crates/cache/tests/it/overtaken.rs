//! An invalidation that overtakes a fill on its way to the server: the fill is refused.

use std::time::Duration;

use redkit_cache::Cache;
use redkit_testkit::{FaultyBackend, Gate, Injection, Rule};

#[tokio::test(start_paused = true)]
async fn a_fill_that_arrives_after_an_invalidation_is_refused() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let gate = Gate::closed();
    let late_fills = Rule::new(Injection::HoldRequest(gate.clone()));
    backend.set(late_fills.on(|command| command.iter().any(|arg| arg.starts_with(b"rk1 "))));
    let numbers: Cache<u64> = Cache::builder(&client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(Duration::from_secs(60))
        .build()
        .unwrap();

    let load = tokio::spawn({
        let numbers = numbers.clone();
        async move {
            numbers
                .get_or_load("k", || async { Ok::<_, std::io::Error>(1) })
                .await
        }
    });
    gate.reached(1).await; // the fill has left, and is not there yet
    numbers.invalidate("k").await.unwrap();
    gate.open();
    assert_eq!(*load.await.unwrap().unwrap(), 1);
    let left = numbers.get("k").await.unwrap();
    assert!(left.is_none(), "it is as old as before the invalidation");
    assert_eq!(numbers.stats().fenced, 1);
}
