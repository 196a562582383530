//! Waiting: woken and not polled, in order where that is asked for, and never for ever.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_core::{Client, ClientConfig, Command};
use redkit_lock::{Error, LockManager};
use redkit_testkit::{FaultyBackend, Fixture, Gate, Injection, Rule, Server, ServerOptions};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::{LONG, SECOND, another, builder, eventually, exists, key_of, manager};

fn fair(client: &Client) -> LockManager {
    builder(client).fair(true).build().unwrap()
}

async fn waiting(locks: &LockManager, callers: usize) {
    eventually("they wait", async || locks.stats().waiting == callers).await;
    // And their subscription stands.
    sleep(Duration::from_millis(300)).await;
}

redkit_testkit::suite! {
    async fn a_waiter_is_woken_on_release(fixture: Fixture) {
        let (one, two) = (manager(&fixture.client), another(&fixture).await);
        for is_dropped in [false, true] {
            let guard = one.try_acquire("k").await.unwrap();
            let waiter = two.clone();
            let waited = tokio::spawn(async move {
                let guard = waiter.acquire("k", LONG).await.unwrap();
                (Instant::now(), guard.release().await.unwrap())
            });
            waiting(&two, 1).await;
            let released = Instant::now();
            match is_dropped {
                true => drop(guard),
                false => assert!(guard.release().await.unwrap()),
            }
            let (woken, was_held) = waited.await.unwrap();
            // The lock's time to live is ten seconds.
            assert!(was_held && woken - released < SECOND, "{:?}", woken - released);
        }
        assert_eq!(two.stats().waiting, 0);
    }

    async fn a_waiter_is_woken_when_a_lock_is_taken_away(fixture: Fixture) {
        let (one, two) = (manager(&fixture.client), another(&fixture).await);
        for is_fair in [false, true] {
            let guard = one.try_acquire("k").await.unwrap();
            let waiter = builder(&fixture.client).fair(is_fair).build().unwrap();
            let locks = waiter.clone();
            let waited = tokio::spawn(async move { locks.acquire("k", LONG).await.map(drop) });
            waiting(&waiter, 1).await;
            let start = Instant::now();
            assert!(two.force_release("k", guard.fence()).await.unwrap());
            waited.await.unwrap().unwrap();
            assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
            eventually("it is free", async || one.inspect("k").await.unwrap().is_none()).await;
        }
    }

    async fn a_wait_ends_with_its_time_and_says_who_has_it(fixture: Fixture) {
        for is_fair in [false, true] {
            let locks = builder(&fixture.client).fair(is_fair).build().unwrap();
            let guard = locks.try_acquire("k").await.unwrap();
            let start = Instant::now();
            let waits = Duration::from_millis(400);
            let mut tasks = JoinSet::new();
            for _ in 0..3 {
                let locks = locks.clone();
                tasks.spawn(async move { locks.acquire("k", waits).await });
            }
            while let Some(ended) = tasks.join_next().await {
                let error = ended.unwrap().unwrap_err();
                assert_eq!(error.holder().unwrap().fence, guard.fence());
                let took = start.elapsed();
                assert!(took >= waits && took < 10 * waits, "{took:?}");
            }
            assert!(guard.release().await.unwrap());
            assert!(!exists(&fixture.client, key_of(&fixture.client, "k", ":queue")).await);
        }
    }

    async fn a_waiter_that_is_dropped_hands_on(fixture: Fixture) {
        let (one, two) = (manager(&fixture.client), another(&fixture).await);
        let guard = one.try_acquire("k").await.unwrap();
        let wait = |locks: &LockManager| {
            let locks = locks.clone();
            tokio::spawn(async move { locks.acquire("k", LONG).await.unwrap().release().await })
        };
        let gives_up = wait(&two);
        waiting(&two, 1).await;
        let stays = wait(&two);
        waiting(&two, 2).await;
        // It is woken, and dropped before it can take the lock, if the test is lucky; in any case the other is
        // not left asleep.
        let start = Instant::now();
        guard.release().await.unwrap();
        gives_up.abort();
        stays.await.unwrap().unwrap();
        assert!(start.elapsed() < 5 * SECOND, "{:?}", start.elapsed());
        eventually("it is free", async || one.inspect("k").await.unwrap().is_none()).await;
    }

    async fn waiters_of_the_fleet_are_served_in_order(fixture: Fixture) {
        let managers = [fair(&fixture.client), fair(&fixture.connect(fixture.config().unwrap()).await.unwrap())];
        let guard = managers[0].try_acquire("k").await.unwrap();
        let served = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for n in 0..8 {
            let locks = managers[n % 2].clone();
            let served = Arc::clone(&served);
            tasks.spawn(async move {
                let guard = locks.acquire("k", LONG).await.unwrap();
                served.lock().push((n, guard.fence()));
                guard.release().await.unwrap();
            });
            let queue = Command::new("ZCARD").key(key_of(&fixture.client, "k", ":queue"));
            eventually("it has joined", async || {
                fixture.client.call::<usize>(queue.clone()).await.unwrap() == n + 1
            })
            .await;
        }
        assert!(guard.release().await.unwrap());
        // Those who do not wait stand behind those who do.
        let error = managers[0].try_acquire("k").await;
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        let served = served.lock();
        let order: Vec<_> = served.iter().map(|(n, _)| *n).collect();
        assert_eq!(order, (0..8).collect::<Vec<_>>());
        assert!(served.is_sorted_by(|(_, one), (_, two)| one < two));
        assert!(error.is_err(), "a late caller went ahead");
    }

    async fn a_dead_head_of_the_queue_is_skipped(fixture: Fixture) {
        let locks = fair(&fixture.client);
        let guard = locks.try_acquire("k").await.unwrap();
        // A waiter whose process died: it has a place, and its heartbeat is over in three seconds.
        let client = &fixture.client;
        let time: (u64, u64) = client.call(Command::new("TIME")).await.unwrap();
        let now = time.0 * 1_000_000 + time.1;
        for (role, score) in [(":queue", now), (":heartbeats", now + 3_000_000)] {
            let add = Command::new("ZADD").key(key_of(client, "k", role)).arg(score).arg("dead");
            client.call::<i64>(add).await.unwrap();
        }
        let waiter = locks.clone();
        let waited = tokio::spawn(async move { waiter.acquire("k", LONG).await.map(drop) });
        waiting(&locks, 1).await;
        let start = Instant::now();
        guard.release().await.unwrap();
        timeout(LONG, waited).await.unwrap().unwrap().unwrap();
        assert!(start.elapsed() < 8 * SECOND, "{:?}", start.elapsed());
    }
}

/// Gated so that the release falls between the first look and the subscription.
#[tokio::test(start_paused = true)]
async fn no_wake_up_is_lost_between_the_first_try_and_the_subscription() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let locks = manager(&client);
    let guard = locks.try_acquire("k").await.unwrap();
    // The subscription comes about late, and the lock is released before it stands.
    let slow = Duration::from_millis(200);
    backend.set(Rule::new(Injection::DelayRequest(slow)).on_name("SUBSCRIBE"));
    let waiter = locks.clone();
    let start = Instant::now();
    let waited = tokio::spawn(async move { waiter.acquire("k", LONG).await.map(drop) });
    sleep(slow / 2).await;
    guard.release().await.unwrap();
    waited.await.unwrap().unwrap();
    assert!(
        start.elapsed() <= slow + Duration::from_millis(10),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_waiters_cost_a_few_commands_a_minute() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let locks = manager(&client);
    let guard = locks.try_acquire("k").await.unwrap();
    let of_one = locks.acquire("k", LONG);
    let bytes = std::mem::size_of_val(&of_one);
    drop(of_one);
    let wait = || {
        let locks = locks.clone();
        async move {
            let guard = locks.acquire("k", 1000 * LONG).await.unwrap();
            guard.release().await.unwrap();
        }
    };
    let mut tasks = JoinSet::new();
    for _ in 0..500 {
        tasks.spawn(wait());
    }
    waiting(&locks, 500).await;
    let mut others = JoinSet::new();
    for _ in 0..9500 {
        others.spawn(wait());
    }
    waiting(&locks, 10_000).await;
    backend.forget();
    sleep(60 * SECOND).await;
    let commands = backend.seen().len();
    println!("10,000 waiters: {commands} commands in a minute, a future of {bytes} bytes each");
    // A renewal every third of ten seconds, and the first waiter's look when the lock could have run out.
    assert!(commands <= 40, "{commands} commands in a minute");
    assert!(bytes <= 8192, "{bytes} bytes");
    others.shutdown().await;
    waiting(&locks, 500).await;
    backend.forget();
    guard.release().await.unwrap();
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let commands = backend.seen().len();
    assert!(
        commands <= 4 * 500 + 100,
        "{commands} commands for 500 hand-overs"
    );
    assert_eq!(locks.stats().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn a_wait_outlives_faults_and_ends_with_its_time() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let locks = manager(&client);
    backend.set(Rule::new(Injection::NotSent));
    let waiter = locks.clone();
    let waited = tokio::spawn(async move { waiter.acquire("k", LONG).await.map(drop) });
    sleep(5 * SECOND).await;
    backend.clear();
    waited.await.unwrap().unwrap();
    backend.set(Rule::new(Injection::NotSent));
    let start = Instant::now();
    assert!(matches!(
        locks.acquire("k", 5 * SECOND).await,
        Err(Error::Core(_))
    ));
    assert!(start.elapsed() < 6 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_wait_in_order_outlives_lost_replies() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let locks = fair(&client);
    let visits = |command: &Command| command.keys().count() == 4;
    for injection in [
        Injection::LoseReply,
        Injection::LoseRequest,
        Injection::HangAfter,
    ] {
        let guard = locks.try_acquire("k").await.unwrap();
        let waiter = locks.clone();
        let waited = tokio::spawn(async move { waiter.acquire("k", LONG).await });
        waiting(&locks, 1).await;
        backend.set(Rule::new(injection.clone()).on(visits));
        sleep(5 * SECOND).await;
        // It is served by a visit of which it hears nothing, and gets what that took.
        assert!(guard.release().await.unwrap());
        sleep(5 * SECOND).await;
        backend.clear();
        let guard = waited.await.unwrap().unwrap();
        sleep(LONG).await;
        assert!(!guard.is_lost(), "{injection:?}");
        assert!(guard.release().await.unwrap(), "{injection:?}");
        // Nor does it leave anything when its time is over.
        backend.set(Rule::new(injection.clone()).on(visits));
        let waited = locks.acquire("k", 3 * SECOND).await;
        assert!(matches!(waited, Err(Error::Core(_))), "{waited:?}");
        backend.clear();
        sleep(SECOND / 10).await;
        assert!(locks.inspect("k").await.unwrap().is_none());
    }
    // An unanswered visit may be carried out when the caller was told that its time is over: its place, and what
    // it may have taken, are given up though the last visit left none.
    let guard = locks.try_acquire("k").await.unwrap();
    backend.set(Rule::new(Injection::LoseRequest).on(visits).times(1));
    let waited = locks.acquire("k", SECOND).await;
    assert!(matches!(waited, Err(Error::Taken { .. })), "{waited:?}");
    backend.forget();
    sleep(SECOND / 10).await;
    assert!(backend.count(":queue") > 0, "it gave its place up");
    assert!(guard.release().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_hangs_makes_no_wait_longer() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let subscribes = |command: &Command| command.name().ends_with("SUBSCRIBE");
    backend.set(Rule::new(Injection::HangBefore).on(subscribes));
    let short = Duration::from_millis(20);
    for is_fair in [false, true] {
        let locks = builder(&client).fair(is_fair).build().unwrap();
        let guard = locks.try_acquire("k").await.unwrap();
        let start = Instant::now();
        let waited = locks.acquire("k", short).await;
        assert!(
            matches!(waited, Err(Error::Taken { holder: Some(_) })),
            "{waited:?}"
        );
        assert!(
            start.elapsed() < 2 * short,
            "{is_fair}: {:?}",
            start.elapsed()
        );
        assert!(guard.release().await.unwrap());
        assert!(!exists(&client, key_of(&client, "k", ":queue")).await);
    }
    let both = builder(&client).build_read_write().unwrap();
    let reader = both.read("k", short).await.unwrap();
    let start = Instant::now();
    assert!(both.write("k", short).await.is_err());
    assert!(start.elapsed() < 2 * short, "{:?}", start.elapsed());
    sleep(Duration::from_millis(5)).await;
    assert_eq!(both.inspect("k").await.unwrap().waiting_writers, 0);
    drop(reader);
    let writer = both.write("k", SECOND).await.unwrap();
    let start = Instant::now();
    assert!(both.read("k", short).await.is_err());
    assert!(start.elapsed() < 2 * short, "{:?}", start.elapsed());
    drop(writer);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_dropped_after_it_was_woken_wakes_the_next() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    // Two managers, whose waiters do not stand in one line, though they hear one subscription.
    let managers = [manager(&client), manager(&client)];
    let guard = managers[0].try_acquire("k").await.unwrap();
    let wait = |locks: &LockManager| {
        let locks = locks.clone();
        tokio::spawn(async move { locks.acquire("k", LONG).await.unwrap().release().await })
    };
    let gives_up = wait(&managers[0]);
    waiting(&managers[0], 1).await;
    let stays = wait(&managers[1]);
    waiting(&managers[1], 1).await;
    let gate = Gate::closed();
    let attempts = |command: &Command| command.keys().count() == 2 && command.arg_count() > 8;
    let held = Rule::new(Injection::HoldRequest(gate.clone())).on(attempts);
    backend.set(held.times(1));
    let start = Instant::now();
    assert!(guard.release().await.unwrap());
    gate.reached(1).await;
    assert!(!stays.is_finished());
    gives_up.abort();
    assert!(stays.await.unwrap().unwrap());
    // The lock's time to live is ten seconds.
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
}

/// While a caller waits, in order or not, something happens to the server's clients. The caller has the lock soon
/// after it is released all the same.
async fn gets_the_lock_though(server: &Server, soon: Duration, it_happens: impl AsyncFn()) {
    let connect = || Client::connect(ClientConfig::from_url(&server.url()).unwrap());
    let (one, two) = (connect().await.unwrap(), connect().await.unwrap());
    for is_fair in [false, true] {
        let of = |client: &Client| builder(client).fair(is_fair).build().unwrap();
        let guard = of(&one).try_acquire("k").await.unwrap();
        let waiter = of(&two);
        let locks = waiter.clone();
        let waited = tokio::spawn(async move { locks.acquire("k", LONG).await.map(drop) });
        waiting(&waiter, 1).await;
        it_happens().await;
        sleep(SECOND).await;
        let start = Instant::now();
        assert!(guard.release().await.unwrap());
        waited.await.unwrap().unwrap();
        assert!(start.elapsed() < soon, "{:?}", start.elapsed());
        eventually("it is free", async || {
            waiter.inspect("k").await.unwrap().is_none()
        })
        .await;
    }
}

#[tokio::test]
async fn a_user_who_may_not_subscribe_waits_by_asking() {
    let server = Server::redis(ServerOptions::default()).await.unwrap();
    let rules = [
        "ACL",
        "SETUSER",
        "default",
        "resetchannels",
        "-subscribe",
        "-psubscribe",
        "-ssubscribe",
    ];
    assert!(!server.raw(&rules).await.unwrap().is_error());
    gets_the_lock_though(&server, 3 * SECOND, async || {}).await;
}

#[tokio::test]
async fn waiters_and_holders_outlive_their_connections() {
    let server = Server::redis(ServerOptions::default()).await.unwrap();
    gets_the_lock_though(&server, 5 * SECOND, async || {
        server.kill_clients().await.unwrap();
        server.kill_subscribers().await.unwrap();
    })
    .await;
}

/// Replies are lost while it waits in order, also that of the visit by which it is served.
#[tokio::test(start_paused = true)]
async fn a_fair_wait_outlives_lost_replies() {
    let sound = FaultyBackend::embedded();
    let backend = FaultyBackend::new(sound.clone());
    let held = fair(&sound.client()).try_acquire("k").await.unwrap();
    let waiter = fair(&backend.client());
    let waited = tokio::spawn(async move { waiter.acquire("k", LONG).await });
    sleep(2 * SECOND).await;
    backend.set(Rule::new(Injection::LoseReply));
    sleep(2 * SECOND).await;
    assert!(held.release().await.unwrap());
    sleep(5 * SECOND).await;
    backend.clear();
    let guard = waited.await.unwrap().unwrap();
    let pttl = Command::new("PTTL").key(key_of(&sound.client(), "k", ""));
    let left: u64 = sound.client().call(pttl).await.unwrap();
    assert!(guard.remaining() <= Duration::from_millis(left));
    assert!(guard.release().await.unwrap());
}
