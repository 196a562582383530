//! Changes that overtake what is under way: a fill that comes too late is refused, a reading that comes too late is
//! not kept in the process.

use std::sync::Arc;
use std::time::Duration;

use redkit_cache::{Cache, L1, Loaded};
use redkit_core::{Client, ClientConfig};
use redkit_embedded::Embedded;
use redkit_testkit::{FaultyBackend, Gate, Injection, Rule};
use tokio::time::sleep;

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

/// A reading that is under way while its value changes: the caller that asked before the change may have it, and
/// nobody after.
#[tokio::test(start_paused = true)]
async fn what_changes_while_it_is_read_is_not_kept_in_the_process() {
    const READING: Duration = Duration::from_millis(100);
    let engine = Arc::new(Embedded::new());
    let (slow, direct) = (FaultyBackend::new(engine.clone()), engine);
    let there = Client::from_backend(direct, &ClientConfig::default()).unwrap();
    let here = slow.client();
    let build = |client| Cache::<u64>::builder(client, "numbers").ttl(Duration::from_secs(60));
    // No message is missed for so long, and nothing else makes a copy end.
    let l1 = L1::entries(1_000).bound(Duration::from_secs(30));
    let here = build(&here)
        .redis_timeout(READING * 2)
        .l1(l1)
        .build()
        .unwrap();
    let there = build(&there).build().unwrap();
    there.set("warm", &0).await.unwrap();
    while here.stats().l1_hits == 0 {
        here.get("warm").await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }

    for change in ["set", "invalidate", "tag", "clear"] {
        there
            .set_with(change, Loaded::new(1).tags(["tag"]))
            .await
            .unwrap();
        sleep(READING).await;
        let late = Rule::new(Injection::DelayReply(READING)).times(1);
        // The last reading that what is kept depends on.
        slow.set(late.on_part(if change == "tag" { "cache-tag" } else { change }));
        let reading = tokio::spawn({
            let here = here.clone();
            async move { here.get(change).await.unwrap().as_deref().copied() }
        });
        sleep(READING / 2).await;
        match change {
            "set" => there.set(change, &2).await.unwrap(),
            "invalidate" => drop(there.invalidate(change).await.unwrap()),
            "tag" => there.invalidate_tag("tag").await.unwrap(),
            _ => there.clear().await.unwrap(),
        }
        let read = reading.await.unwrap();
        slow.clear();
        let after = here.get(change).await.unwrap().as_deref().copied();
        assert_ne!(
            after,
            Some(1),
            "{change}: it was read before ({read:?}), and kept"
        );
    }
}
