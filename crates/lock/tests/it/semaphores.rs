//! Semaphores: never more permits than there are, fair waiting, leases and resizes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redkit_core::{Client, Command, ErrorKind};
use redkit_lock::{Error, Semaphore, SemaphoreBuilder};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const LONG: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(30);

pub(crate) fn builder(client: &Client, permits: u32) -> SemaphoreBuilder {
    Semaphore::builder(client, "exports").permits(permits)
}

pub(crate) fn semaphore(client: &Client, permits: u32) -> Semaphore {
    builder(client, permits).build().unwrap()
}

/// Lets the server know all scripts, so that a reply that is lost is not `NOSCRIPT`.
pub(crate) async fn warm_up(semaphore: &Semaphore) {
    let mut permits = semaphore.try_acquire("warm", 2).await.unwrap().unwrap();
    permits.release_some(1).await.unwrap();
    assert!(permits.release().await.unwrap());
    semaphore.state("warm").await.unwrap();
}

pub(crate) async fn free(semaphore: &Semaphore) -> u32 {
    semaphore.state("k").await.unwrap().free()
}

/// Every key of the semaphore that is there.
async fn keys(fixture: &Fixture) -> Vec<redkit_core::Key> {
    let of = |role: &str| fixture.client.key(format!("semaphore:exports:{{k}}{role}"));
    let mut found = Vec::new();
    for role in ["", ":grants", ":permits", ":queue", ":heartbeats"] {
        let key = of(role);
        let there: i64 = fixture
            .client
            .call(Command::new("EXISTS").key(&key))
            .await
            .unwrap();
        if there == 1 {
            found.push(key);
        }
    }
    found
}

redkit_testkit::suite! {
    async fn permits_are_taken_together_and_given_back(fixture: Fixture) {
        let semaphore = semaphore(&fixture.client, 5);
        let three = semaphore.try_acquire("k", 3).await.unwrap().unwrap();
        assert_eq!((three.count(), semaphore.held()), (3, 3));
        assert!(!three.is_lost() && three.remaining() > Duration::from_secs(20));
        // All or none.
        assert!(semaphore.try_acquire("k", 3).await.unwrap().is_none());
        let two = semaphore.try_acquire("k", 2).await.unwrap().unwrap();
        let state = semaphore.state("k").await.unwrap();
        assert_eq!((state.permits, state.taken, state.grants, state.waiters), (5, 5, 2, 0));
        // Of another key there are as many.
        assert!(semaphore.try_acquire("other", 5).await.unwrap().is_some());
        assert!(three.release().await.unwrap());
        assert_eq!(free(&semaphore).await, 3);
        assert!(two.release().await.unwrap());
        assert_eq!(free(&semaphore).await, 5);
        assert_eq!(semaphore.held(), 0);
    }

    async fn a_part_is_given_back_and_the_rest_is_held(fixture: Fixture) {
        let semaphore = semaphore(&fixture.client, 5);
        let mut permits = semaphore.try_acquire("k", 4).await.unwrap().unwrap();
        permits.release_some(1).await.unwrap();
        assert_eq!((permits.count(), free(&semaphore).await, semaphore.held()), (3, 2, 3));
        permits.release_some(2).await.unwrap();
        assert_eq!((permits.count(), free(&semaphore).await), (1, 4));
        assert!(matches!(permits.release_some(0).await, Err(Error::NoPermits)));
        let all = permits.release_some(1).await.unwrap_err();
        assert!(matches!(all, Error::AbovePermits { permits: 1, there_are: 1 }));
        assert!(permits.release().await.unwrap());
        assert_eq!(free(&semaphore).await, 5);
    }

    async fn impossible_calls_and_settings_are_refused_with_a_remedy(fixture: Fixture) {
        let semaphore = semaphore(&fixture.client, 5);
        for (error, says) in [
            (semaphore.try_acquire("k", 0).await.unwrap_err(), "ask for 1 or more"),
            (semaphore.acquire("k", 6, LONG).await.unwrap_err(), "6 permits, and there are 5"),
            (semaphore.acquire("k", u32::MAX, LONG).await.unwrap_err(), "there are 5"),
            (semaphore.try_acquire("", 1).await.unwrap_err(), "the key is empty"),
            (semaphore.resize("k", 0).await.unwrap_err(), "`permits`"),
            (semaphore.resize("", 1).await.unwrap_err(), "the key is empty"),
        ] {
            assert!(error.to_string().contains(says), "{error}");
            assert!(error.kind() == ErrorKind::Usage && !error.is_retryable(), "{error}");
        }
        assert_eq!(keys(&fixture).await, []);
        let client = &fixture.client;
        for (builder, field) in [
            (Semaphore::builder(client, "a b").permits(1), "name"),
            (builder(client, 0), "permits"),
            (builder(client, 1_000_001), "permits"),
            (builder(client, 1).lease(Duration::from_millis(99)), "lease"),
            (builder(client, 1).hold_at_most(SECOND), "hold_at_most"),
        ] {
            let error = builder.build().unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }

    async fn a_waiter_is_woken_on_release(fixture: Fixture) {
        let semaphore = semaphore(&fixture.client, 2);
        let both = semaphore.try_acquire("k", 2).await.unwrap().unwrap();
        let other = semaphore.clone();
        let waiting = tokio::spawn(async move {
            let permits = other.acquire("k", 1, LONG).await.unwrap().unwrap();
            (permits, Instant::now())
        });
        while semaphore.state("k").await.unwrap().waiters == 0 {
            sleep(Duration::from_millis(5)).await;
        }
        sleep(Duration::from_millis(100)).await;
        let released = Instant::now();
        both.release().await.unwrap();
        let (permits, got) = waiting.await.unwrap();
        // Long before the lease of thirty seconds is over. To the millisecond below, on a paused clock.
        let hand_off = got - released;
        assert!(hand_off < 10 * SECOND, "{hand_off:?}");
        drop(permits);
    }

    async fn a_dropped_waiter_leaves_the_queue(fixture: Fixture) {
        let semaphore = semaphore(&fixture.client, 2);
        let one = semaphore.try_acquire("k", 1).await.unwrap().unwrap();
        {
            let wants_two = semaphore.acquire("k", 2, LONG);
            assert!(timeout(Duration::from_millis(200), wants_two).await.is_err());
        }
        // The next is not kept waiting by it.
        let next = timeout(2 * SECOND, semaphore.acquire("k", 1, LONG)).await;
        assert!(next.unwrap().unwrap().is_some());
        drop(one);
    }

    /// Though a late visit of its is still to get nothing.
    #[paused]
    async fn a_dropped_waiter_is_not_counted_as_waiting(fixture: Fixture) {
        let semaphore = semaphore(&fixture.client, 1);
        let held = semaphore.try_acquire("k", 1).await.unwrap().unwrap();
        let other = semaphore.clone();
        let waiting = tokio::spawn(async move { other.acquire("k", 1, LONG).await });
        for _ in 0..3 {
            let dropped = timeout(Duration::from_millis(200), semaphore.acquire("k", 1, LONG));
            assert!(dropped.await.is_err());
        }
        sleep(Duration::from_millis(100)).await;
        assert_eq!(semaphore.state("k").await.unwrap().waiters, 1);
        drop(held);
        assert!(waiting.await.unwrap().unwrap().is_some());
    }

    async fn a_full_queue_refuses_and_names_its_setting(fixture: Fixture) {
        let semaphore = builder(&fixture.client, 1).max_waiters(1).build().unwrap();
        let held = semaphore.try_acquire("k", 1).await.unwrap().unwrap();
        let other = semaphore.clone();
        let waiting = tokio::spawn(async move { other.acquire("k", 1, LONG).await });
        while semaphore.state("k").await.unwrap().waiters == 0 {
            sleep(Duration::from_millis(5)).await;
        }
        let error = semaphore.acquire("k", 1, LONG).await.unwrap_err();
        assert!(matches!(error, Error::QueueFull { waiters: 1 }) && error.is_retryable());
        assert!(error.to_string().contains("max_waiters"));
        drop(held);
        assert!(waiting.await.unwrap().unwrap().is_some());
    }

    async fn a_resize_counts_for_all_and_wakes_waiters(fixture: Fixture) {
        let semaphore = semaphore(&fixture.client, 2);
        let both = semaphore.try_acquire("k", 2).await.unwrap().unwrap();
        let other = semaphore.clone();
        let waiting = tokio::spawn(async move { other.acquire("k", 1, LONG).await });
        while semaphore.state("k").await.unwrap().waiters == 0 {
            sleep(Duration::from_millis(5)).await;
        }
        sleep(Duration::from_millis(100)).await;
        semaphore.resize("k", 3).await.unwrap();
        let woken = timeout(10 * SECOND, waiting).await;
        let third = woken.unwrap().unwrap().unwrap().unwrap();
        // Smaller than what is taken: nothing is given until enough came back.
        semaphore.resize("k", 1).await.unwrap();
        let state = semaphore.state("k").await.unwrap();
        assert_eq!((state.permits, state.taken, state.free()), (1, 3, 0));
        let error = semaphore.try_acquire("k", 2).await.unwrap_err();
        assert!(matches!(error, Error::AbovePermits { permits: 2, there_are: 1 }));
        both.release().await.unwrap();
        assert!(semaphore.try_acquire("k", 1).await.unwrap().is_none());
        third.release().await.unwrap();
        assert!(semaphore.try_acquire("k", 1).await.unwrap().is_some());
        semaphore.reset_size("k").await.unwrap();
        assert_eq!(semaphore.state("k").await.unwrap().permits, 2);
        assert!(keys(&fixture).await.iter().all(|key| !key.to_string().ends_with(":permits")));
    }

    async fn a_waiter_for_more_than_a_resize_left_is_told(fixture: Fixture) {
        let semaphore = semaphore(&fixture.client, 3);
        let one = semaphore.try_acquire("k", 1).await.unwrap().unwrap();
        let other = semaphore.clone();
        let waiting = tokio::spawn(async move { other.acquire("k", 3, LONG).await });
        while semaphore.state("k").await.unwrap().waiters == 0 {
            sleep(Duration::from_millis(5)).await;
        }
        semaphore.resize("k", 2).await.unwrap();
        let told = timeout(5 * SECOND, waiting).await.unwrap().unwrap();
        assert!(matches!(told, Err(Error::AbovePermits { permits: 3, there_are: 2 })));
        assert!(semaphore.try_acquire("k", 1).await.unwrap().is_some());
        drop(one);
    }

    #[multi_thread]
    async fn there_are_never_more_permits_taken_than_there_are(fixture: Fixture) {
        let clients = [
            fixture.client.clone(),
            fixture.connect(fixture.config().unwrap()).await.unwrap(),
        ];
        let taken = Arc::new(AtomicU32::new(0));
        let mut tasks = JoinSet::new();
        for number in 0..12_u32 {
            let semaphore = semaphore(&clients[number as usize % 2], 4);
            let taken = Arc::clone(&taken);
            tasks.spawn(async move {
                for round in 0..12 {
                    let wanted = 1 + (number + round) % 4;
                    let permits = semaphore.acquire("k", wanted, LONG).await.unwrap().unwrap();
                    let now = taken.fetch_add(wanted, Ordering::SeqCst) + wanted;
                    assert!(now <= 4, "{now} of 4 are taken");
                    tokio::task::yield_now().await;
                    taken.fetch_sub(wanted, Ordering::SeqCst);
                    match round % 2 {
                        0 => drop(permits),
                        _ => assert!(permits.release().await.unwrap()),
                    }
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        let semaphore = semaphore(&fixture.client, 4);
        let all = semaphore.acquire("k", 4, LONG).await.unwrap().unwrap();
        all.release().await.unwrap();
        assert_eq!(semaphore.state("k").await.unwrap().grants, 0);
    }

    #[paused]
    async fn waiters_are_woken_at_once_by_a_release_and_by_a_resize(fixture: Fixture) {
        let semaphore = semaphore(&fixture.client, 1);
        let mut held = Some(semaphore.try_acquire("k", 1).await.unwrap().unwrap());
        let mut kept = Vec::new();
        for permits in [1, 2] {
            let other = semaphore.clone();
            let waiting = tokio::spawn(async move { other.acquire("k", 1, LONG).await });
            // Between two of the waiter's own looks, which are once a second.
            sleep(Duration::from_millis(2_345)).await;
            let start = Instant::now();
            match (permits, held.take()) {
                (1, Some(first)) => assert!(first.release().await.unwrap()),
                _ => semaphore.resize("k", permits).await.unwrap(),
            }
            let woken = waiting.await.unwrap().unwrap().unwrap();
            assert!(start.elapsed() < Duration::from_millis(20), "{:?}", start.elapsed());
            kept.push(woken);
        }
    }

    #[paused]
    async fn a_large_wish_is_not_overtaken_by_small_ones(fixture: Fixture) {
        let semaphore = semaphore(&fixture.client, 4);
        let mut ones = Vec::new();
        for _ in 0..4 {
            ones.push(semaphore.try_acquire("k", 1).await.unwrap().unwrap());
        }
        let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for (name, wanted) in [("large", 4), ("small", 1), ("second small", 1)] {
            let (semaphore, order) = (semaphore.clone(), Arc::clone(&order));
            tasks.spawn(async move {
                let permits = semaphore.acquire("k", wanted, LONG).await.unwrap().unwrap();
                order.lock().push(name);
                sleep(SECOND).await;
                permits.release().await.unwrap();
            });
            sleep(Duration::from_millis(10)).await;
        }
        for one in ones {
            sleep(SECOND).await;
            one.release().await.unwrap();
        }
        tasks.join_all().await;
        assert_eq!(*order.lock(), ["large", "small", "second small"]);
    }

    #[paused]
    async fn permits_are_renewed_for_as_long_as_they_are_held(fixture: Fixture) {
        let semaphore = semaphore(&fixture.client, 1);
        let permits = semaphore.try_acquire("k", 1).await.unwrap().unwrap();
        sleep(10 * LEASE).await;
        assert!(!permits.is_lost());
        assert!(semaphore.try_acquire("k", 1).await.unwrap().is_none());
        assert!(permits.release().await.unwrap());
    }

    #[paused]
    async fn the_permits_of_a_dead_process_are_free_after_the_lease(fixture: Fixture) {
        // A process that dies neither renews nor releases.
        let backend = FaultyBackend::new(Arc::clone(fixture.client.backend()));
        let dying = backend.client_with(&fixture.config().unwrap());
        let dead = semaphore(&dying, 4).try_acquire("k", 2).await.unwrap().unwrap();
        backend.set(Rule::new(Injection::LoseRequest));
        let semaphore = semaphore(&fixture.client, 4);
        // Another that lives keeps the keys.
        let alive = semaphore.try_acquire("k", 1).await.unwrap().unwrap();
        let start = Instant::now();
        let three = semaphore.acquire("k", 3, 2 * LEASE).await.unwrap().unwrap();
        let waited = start.elapsed();
        assert!(waited <= LEASE + 5 * Duration::from_millis(1), "{waited:?}");
        assert!(waited >= LEASE - SECOND, "{waited:?}");
        assert!(dead.is_lost() && !alive.is_lost());
        drop(three);
    }

    #[paused]
    async fn a_dead_waiter_is_passed_over_within_its_heartbeat(fixture: Fixture) {
        let semaphore = semaphore(&fixture.client, 1);
        let held = semaphore.try_acquire("k", 1).await.unwrap().unwrap();
        let backend = FaultyBackend::new(Arc::clone(fixture.client.backend()));
        let dying = crate::semaphores::semaphore(&backend.client_with(&fixture.config().unwrap()), 1);
        let dead = tokio::spawn(async move { dying.acquire("k", 1, LONG).await });
        sleep(SECOND).await;
        backend.set(Rule::new(Injection::LoseRequest));
        let start = Instant::now();
        held.release().await.unwrap();
        assert!(semaphore.acquire("k", 1, LONG).await.unwrap().is_some());
        assert!(start.elapsed() <= 4 * SECOND, "{:?}", start.elapsed());
        dead.abort();
    }

    async fn keys_of_any_bytes_are_keys_of_their_own(fixture: Fixture) {
        let semaphore = semaphore(&fixture.client, 1);
        let mut held = Vec::new();
        for key in [&b"a"[..], b"a}", b"{a", b"a:grants", b"%", b"a%7D", b"\r\n", b"\xff\x00", b"*"] {
            held.push(semaphore.try_acquire(key, 1).await.unwrap().unwrap());
            assert!(semaphore.try_acquire(key, 1).await.unwrap().is_none());
        }
        for permits in held {
            assert!(permits.release().await.unwrap());
        }
    }

    #[paused]
    async fn lost_permits_are_told_at_the_local_deadline_while_redis_hangs(fixture: Fixture) {
        let _ = &fixture;
        let backend = FaultyBackend::embedded();
        let semaphore = semaphore(&backend.client(), 1);
        let start = Instant::now();
        let permits = semaphore.try_acquire("k", 1).await.unwrap().unwrap();
        backend.set(Rule::new(Injection::HangBefore));
        permits.lost().await;
        let told = start.elapsed();
        assert!(told <= LEASE && told >= LEASE - SECOND, "{told:?}");
        assert_eq!(semaphore.lost(), 1);
        backend.clear();
        assert!(!permits.release().await.unwrap());
    }

    #[paused]
    async fn permits_that_were_lost_are_not_revived_by_a_late_renewal(fixture: Fixture) {
        let semaphore = semaphore(&fixture.client, 1);
        let permits = semaphore.try_acquire("k", 1).await.unwrap().unwrap();
        // The server forgets everything.
        for key in keys(&fixture).await {
            let _: i64 = fixture.client.call(Command::new("DEL").key(&key)).await.unwrap();
        }
        let other = semaphore.try_acquire("k", 1).await.unwrap().unwrap();
        timeout(LEASE / 2, permits.lost()).await.unwrap();
        assert!(!permits.release().await.unwrap());
        // The other's is not touched by it.
        assert_eq!(free(&semaphore).await, 0);
        assert!(other.release().await.unwrap());
    }

    /// As after an eviction of one key, or by hand.
    async fn permits_whose_leases_are_deleted_are_there_again(fixture: Fixture) {
        let semaphore = semaphore(&fixture.client, 2);
        let gone = semaphore.try_acquire("k", 2).await.unwrap().unwrap();
        let leases = fixture.client.key("semaphore:exports:{k}");
        let deleted: i64 = fixture.client.call(Command::new("DEL").key(&leases)).await.unwrap();
        let next = semaphore.try_acquire("k", 1).await.unwrap();
        assert!(deleted == 1 && next.is_some());
        let state = semaphore.state("k").await.unwrap();
        assert_eq!((state.taken, state.grants), (1, 1));
        drop(gone);
    }

    /// Replies are lost while it waits, also that of the visit by which it is served: it waits on, and no lease
    /// is believed to run longer than it does.
    #[paused]
    async fn a_waiter_outlives_lost_replies(fixture: Fixture) {
        let held = semaphore(&fixture.client, 1).try_acquire("k", 1).await.unwrap().unwrap();
        let backend = FaultyBackend::new(Arc::clone(fixture.client.backend()));
        let waiting = semaphore(&backend.client_with(&fixture.config().unwrap()), 1);
        warm_up(&semaphore(&fixture.client, 2)).await;
        let waiting = tokio::spawn(async move { waiting.acquire("k", 1, LONG).await });
        sleep(2 * SECOND).await;
        backend.set(Rule::new(Injection::LoseReply));
        sleep(2 * SECOND).await;
        assert!(held.release().await.unwrap());
        // It is served by the next visit, and does not know.
        sleep(10 * SECOND).await;
        backend.clear();
        let permits = waiting.await.unwrap().unwrap().unwrap();
        let key = fixture.client.key("semaphore:exports:{k}");
        let ttl: u64 = fixture.client.call(Command::new("PTTL").key(&key)).await.unwrap();
        let remaining = permits.remaining();
        assert!(remaining <= Duration::from_millis(ttl), "{remaining:?} of {ttl} ms");
        assert!(permits.release().await.unwrap());
    }

    #[paused]
    async fn the_longest_time_of_holding_may_be_without_end(fixture: Fixture) {
        let semaphore = builder(&fixture.client, 1).hold_at_most(Duration::MAX).build().unwrap();
        let permits = semaphore.try_acquire("k", 1).await.unwrap().unwrap();
        sleep(3 * LEASE).await;
        assert!(permits.release().await.unwrap());
    }

    #[paused]
    async fn permits_are_lost_after_the_longest_time_of_holding(fixture: Fixture) {
        let limit = 3 * LEASE;
        let semaphore = builder(&fixture.client, 1).hold_at_most(limit).build().unwrap();
        let start = Instant::now();
        let permits = semaphore.try_acquire("k", 1).await.unwrap().unwrap();
        permits.lost().await;
        assert_eq!(start.elapsed().as_secs(), limit.as_secs());
        assert!(semaphore.acquire("k", 1, SECOND).await.unwrap().is_some());
    }

    #[paused]
    async fn nothing_is_left_when_the_last_lease_has_run_out(fixture: Fixture) {
        let semaphore = semaphore(&fixture.client, 2);
        let short = builder(&fixture.client, 2).lease(SECOND).build().unwrap();
        let one = semaphore.try_acquire("k", 1).await.unwrap().unwrap();
        let other = short.try_acquire("k", 1).await.unwrap().unwrap();
        assert!(semaphore.acquire("k", 1, Duration::from_millis(500)).await.unwrap().is_none());
        one.release().await.unwrap();
        // The key lives no longer than the longest lease that is left.
        let key = fixture.client.key("semaphore:exports:{k}");
        let ttl: i64 = fixture.client.call(Command::new("PTTL").key(&key)).await.unwrap();
        assert!((1..=1000).contains(&ttl), "{ttl}");
        other.release().await.unwrap();
        sleep(5 * SECOND).await;
        assert_eq!(keys(&fixture).await, []);
    }
}

/// The scripts are sent anew after the server forgot them.
#[tokio::test]
async fn forgotten_scripts_are_sent_again() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let semaphore = semaphore(&client, 2);
    let flush = async || {
        let _: () = client
            .call(Command::new("SCRIPT").arg("FLUSH"))
            .await
            .unwrap();
    };
    flush().await;
    let mut permits = semaphore.try_acquire("k", 2).await.unwrap().unwrap();
    flush().await;
    permits.release_some(1).await.unwrap();
    flush().await;
    assert_eq!(free(&semaphore).await, 1);
    flush().await;
    assert!(permits.release().await.unwrap());
}

/// A held semaphore shows in the client's inspection, and its clones are the same.
#[tokio::test]
async fn inspection_counts_what_is_held() {
    let client = FaultyBackend::embedded().client();
    let semaphore = semaphore(&client, 3);
    let permits = semaphore.clone().try_acquire("k", 2).await.unwrap();
    let inspected = client.inspect();
    let found = inspected.iter().find(|object| object.kind() == "semaphore");
    let snapshot = found.unwrap().snapshot();
    assert_eq!(snapshot.get("held"), Some(&2_u64.into()));
    assert_eq!(found.unwrap().name(), "exports");
    drop(permits);
    assert_eq!(found.unwrap().snapshot().get("held"), Some(&0_u64.into()));
}
