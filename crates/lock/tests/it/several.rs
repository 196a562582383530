//! Several locks in one guard.

use std::time::Duration;

use redkit_core::{Command, Topology};
use redkit_lock::{Error, LockManager};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{LONG, SECOND, another, eventually, manager};

async fn is_free(locks: &LockManager, key: &str) -> bool {
    locks.inspect(key).await.unwrap().is_none()
}

redkit_testkit::suite! {
    async fn all_are_taken_or_none(fixture: Fixture) {
        let locks = manager(&fixture.client);
        let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
        let taken = locks.try_acquire("k7").await.unwrap();
        let error = locks.acquire_all(&keys, Duration::ZERO).await.unwrap_err();
        assert_eq!(error.holder().unwrap().fence, taken.fence());
        for key in keys.iter().filter(|key| *key != "k7") {
            assert!(is_free(&locks, key).await, "{key} was given back");
        }
        taken.release().await.unwrap();
        // In any order, and named twice.
        let named = keys.iter().rev().chain(&keys);
        let guard = locks.acquire_all(named, SECOND).await.unwrap();
        for key in &keys {
            let fence = guard.fence_of(key).unwrap();
            assert_eq!(locks.inspect(key).await.unwrap().unwrap().fence, fence, "{key}");
        }
        assert_eq!(guard.fence_of("k20"), None);
        guard.extend().await.unwrap();
        assert!(guard.release().await.unwrap());
        for key in &keys {
            assert!(is_free(&locks, key).await);
        }
    }

    async fn one_that_is_lost_loses_all(fixture: Fixture) {
        let locks = crate::builder(&fixture.client).ttl(SECOND).build().unwrap();
        let guard = locks.acquire_all(["a", "b", "c"], SECOND).await.unwrap();
        let lost = guard.lost();
        let fence = guard.fence_of("b").unwrap();
        assert!(locks.force_release("b", fence).await.unwrap());
        timeout(LONG, lost).await.expect("it is lost");
        assert!(matches!(guard.extend().await, Err(Error::Lost)));
        assert!(!guard.release().await.unwrap());
        for key in ["a", "b", "c"] {
            assert!(is_free(&locks, key).await);
        }
    }

    #[multi_thread]
    async fn callers_who_want_the_same_ones_do_not_wait_in_a_circle(fixture: Fixture) {
        let managers = [manager(&fixture.client), another(&fixture).await];
        let mut tasks = JoinSet::new();
        for task in 0..8_usize {
            let locks = managers[task % 2].clone();
            tasks.spawn(async move {
                for round in 0..4 {
                    let keys = (0..3).map(|n| format!("k{}", (task + round + n) % 5));
                    let guard = locks.acquire_all(keys, LONG).await.unwrap();
                    tokio::task::yield_now().await;
                    assert!(guard.release().await.unwrap());
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    }

    async fn a_waiter_for_several_is_woken_by_each(fixture: Fixture) {
        let locks = manager(&fixture.client);
        let other = another(&fixture).await;
        let (one, two) = (locks.try_acquire("a").await.unwrap(), locks.try_acquire("b").await.unwrap());
        let waiting = tokio::spawn(async move {
            let start = std::time::Instant::now();
            let guard = other.acquire_all(["a", "b", "c"], LONG).await.unwrap();
            (guard.release().await.unwrap(), start.elapsed())
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        one.release().await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        two.release().await.unwrap();
        let (was_held, took) = waiting.await.unwrap();
        assert!(was_held && took < 5 * SECOND, "{took:?}: before the TTL");
    }

    #[paused]
    async fn in_the_fair_mode_they_are_taken_one_by_one(fixture: Fixture) {
        let locks = crate::builder(&fixture.client).fair(true).build().unwrap();
        let guard = locks.acquire_all(["b", "a"], SECOND).await.unwrap();
        assert!(guard.fence_of("a").unwrap() <= guard.fence_of("b").unwrap());
        let error = locks.acquire_all(["0", "b"], SECOND).await.unwrap_err();
        assert!(error.holder().is_some());
        assert!(is_free(&locks, "0").await);
        drop(guard);
        eventually("both are free", async || is_free(&locks, "a").await && is_free(&locks, "b").await).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_before_a_failure_is_given_back() {
    let backend = FaultyBackend::embedded();
    backend.set_topology(Topology::Cluster);
    let client = backend.client();
    let locks = manager(&client);
    let keys: Vec<String> = (0..6).map(|n| format!("k{n}")).collect();
    // On a cluster there is a call for each slot; the fourth fails.
    let acquires = |command: &Command| command.keys().count() == 2 && command.arg_count() > 8;
    backend.set(
        Rule::new(Injection::LoseReply)
            .on(acquires)
            .skip(3)
            .times(1),
    );
    let error = locks.acquire_all(&keys, Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, Error::Core(_)), "{error:?}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    for key in &keys {
        assert!(is_free(&locks, key).await, "{key}");
    }
    let guard = locks.acquire_all(&keys, SECOND).await.unwrap();
    assert!(guard.release().await.unwrap());
}
