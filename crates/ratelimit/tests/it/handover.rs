//! A place that comes free has its next holder at once: waiters are woken, and no wake-up is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redkit_core::coordination::WAITER_ALIVE;
use redkit_core::{Client, Command};
use redkit_ratelimit::ConcurrencyLimiter;
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::state::{dump, now};

const MINUTE: Duration = Duration::from_secs(60);
/// What passes in virtual time while a waiter that was woken takes its place.
const AT_ONCE: Duration = Duration::from_millis(2);

fn places(client: &Client, limit: u64) -> ConcurrencyLimiter {
    ConcurrencyLimiter::builder(client, "places")
        .decision_timeout(crate::PATIENT)
        .limit(limit)
        .lease(Duration::from_secs(30))
        .build()
        .unwrap()
}

/// Which share of the places is used when 24 callers ask for three, hold one for 15 ms and ask again.
async fn share_of_places_used(clients: &[Client]) -> f64 {
    const CALLERS: u32 = 24;
    const HOLDS: u32 = 10;
    const PLACES: u32 = 3;
    const HELD: Duration = Duration::from_millis(15);
    let mut callers = JoinSet::new();
    let start = Instant::now();
    for n in 0..CALLERS {
        let places = places(&clients[n as usize % clients.len()], PLACES.into());
        callers.spawn(async move {
            for _ in 0..HOLDS {
                let permit = places
                    .acquire("k", MINUTE)
                    .await
                    .unwrap()
                    .expect("there is time");
                sleep(HELD).await;
                drop(permit);
            }
        });
    }
    callers.join_all().await;
    let ideal = HELD * CALLERS * HOLDS / PLACES;
    ideal.as_secs_f64() / start.elapsed().as_secs_f64()
}

async fn waiting(client: &Client) -> usize {
    let queue = client.key("ratelimit:places:{k}:places-queue");
    client
        .call(Command::new("ZCARD").key(&queue))
        .await
        .unwrap()
}

async fn until_so_many_wait(client: &Client, count: usize) {
    while waiting(client).await < count {
        sleep(Duration::from_millis(1)).await;
    }
}

redkit_testkit::suite! {
    /// A waiter that asked each 50 ms would come after 25 ms in the middle, wherever in its pause the
    /// place comes free.
    #[networked]
    async fn a_place_that_comes_free_has_its_next_holder_before_any_asking_would_find_it(fixture: Fixture) {
        const HANDOVERS: usize = 60;
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let sides = [places(&fixture.client, 1), places(&other, 1)];
        let mut random = StdRng::seed_from_u64(7);
        let mut held = sides[1].try_acquire("k").await.unwrap().unwrap();
        let mut took = Vec::new();
        for n in 0..HANDOVERS {
            let next = sides[n % 2].clone();
            let waits = tokio::spawn(async move {
                let permit = next.acquire("k", MINUTE).await.unwrap();
                (permit.expect("there is time"), Instant::now())
            });
            until_so_many_wait(&fixture.client, 1).await;
            sleep(Duration::from_millis(random.random_range(10..60))).await;
            let released = Instant::now();
            drop(held);
            let at;
            (held, at) = waits.await.unwrap();
            took.push(at - released);
        }
        took.sort();
        let median = took[HANDOVERS / 2];
        println!("{median:?}, at most {:?}", took[HANDOVERS - 1]);
        assert!(median < Duration::from_millis(15), "{median:?}");
        drop(held);
    }

    #[paused]
    async fn no_place_is_unused_while_callers_wait(fixture: Fixture) {
        let share = share_of_places_used(std::slice::from_ref(&fixture.client)).await;
        assert!(share >= 0.99, "{share:.3}");
    }

    #[paused]
    async fn a_waiter_is_woken_on_release_and_asks_once_a_second_until_then(fixture: Fixture) {
        drop(fixture);
        let backend = FaultyBackend::embedded();
        let (here, elsewhere) = (backend.client(), backend.client());
        let held = places(&here, 1).try_acquire("k").await.unwrap().unwrap();
        let waiting_for = places(&elsewhere, 1);
        let waits = tokio::spawn(async move {
            let permit = waiting_for.acquire("k", MINUTE).await.unwrap();
            (permit, Instant::now())
        });
        until_so_many_wait(&here, 1).await;
        let visits = || backend.count("{k}:places-heartbeats");
        let before = visits();
        sleep(Duration::from_millis(10_123)).await;
        let visits = visits() - before;
        assert!(visits <= 12, "{visits}");
        let released = Instant::now();
        held.release().await.unwrap();
        let (permit, at) = waits.await.unwrap();
        assert!(permit.is_some());
        assert!(at - released < AT_ONCE, "{:?}", at - released);
    }

    #[paused]
    async fn a_waiter_takes_the_place_of_a_dead_holder_when_its_lease_has_passed(fixture: Fixture) {
        let client = &fixture.client;
        let leases = client.key("ratelimit:places:{k}:concurrency");
        for (id, runs) in [("one", 7_317_000), ("two", 9_000_000)] {
            let ends = i64::try_from(now(client).await).unwrap() + runs;
            let lease = Command::new("ZADD").key(&leases).arg(ends).arg(id);
            client.call::<i64>(lease).await.unwrap();
        }
        let places = places(client, 2);
        let start = Instant::now();
        let waits = [(); 2].map(|()| async {
            let permit = places.acquire("k", MINUTE).await.unwrap();
            (permit.expect("there is time"), start.elapsed())
        });
        let taken = futures_util::future::join_all(waits).await;
        for ((_, took), runs) in taken.into_iter().zip([7_317, 9_000]) {
            let runs = Duration::from_millis(runs);
            assert!(took >= runs && took - runs < AT_ONCE, "{took:?}");
        }
    }

    /// The place is free and the first waiter has been told, when it gives up.
    #[paused]
    async fn a_waiter_that_is_dropped_when_it_is_woken_passes_its_turn_on(fixture: Fixture) {
        let places = places(&fixture.client, 1);
        let held = places.try_acquire("k").await.unwrap().unwrap();
        let wait = || {
            let places = places.clone();
            async move { places.acquire("k", MINUTE).await.unwrap().map(|permit| (permit, Instant::now())) }
        };
        let mut first = Box::pin(wait());
        assert!(timeout(Duration::from_millis(700), &mut first).await.is_err());
        let second = tokio::spawn(wait());
        until_so_many_wait(&fixture.client, 2).await;
        held.release().await.unwrap();
        let released = Instant::now();
        drop(first);
        let (_permit, at) = second.await.unwrap().expect("there is time");
        assert!(at - released < AT_ONCE, "{:?}", at - released);
        assert_eq!(waiting(&fixture.client).await, 0);
    }

    /// As a user without the right to subscribe waits: by asking now and then.
    #[paused]
    async fn waiters_that_cannot_be_woken_ask(fixture: Fixture) {
        drop(fixture);
        let backend = FaultyBackend::embedded();
        backend.set(Rule::new(Injection::Refuse("NOPERM", "no channels for you")).on_name("SUBSCRIBE"));
        let share = share_of_places_used(&[backend.client(), backend.client()]).await;
        assert!(share >= 0.2, "{share:.3}");
    }

    /// A thousand of them cost little more than their heartbeats, which are one a second each.
    #[paused]
    async fn waiters_that_cannot_be_woken_ask_the_more_seldom_the_more_stand_before_them(fixture: Fixture) {
        const WAITERS: usize = 200;
        drop(fixture);
        let backend = FaultyBackend::embedded();
        backend.set(Rule::new(Injection::Refuse("NOPERM", "no channels for you")).on_name("SUBSCRIBE"));
        let client = backend.client();
        let held = places(&client, 1).try_acquire("k").await.unwrap().unwrap();
        let mut waits = JoinSet::new();
        for _ in 0..WAITERS {
            let places = places(&client, 1);
            waits.spawn(async move { places.acquire("k", MINUTE).await.unwrap().is_some() });
        }
        until_so_many_wait(&client, WAITERS).await;
        sleep(Duration::from_secs(2)).await;
        let visits = || backend.count("{k}:places-heartbeats");
        let before = visits();
        sleep(Duration::from_secs(10)).await;
        let each_second = (visits() - before) / 10;
        assert!((WAITERS..3 * WAITERS).contains(&each_second), "{each_second}");
        let released = Instant::now();
        held.release().await.unwrap();
        assert!(waits.join_next().await.unwrap().unwrap());
        assert!(released.elapsed() <= Duration::from_millis(55), "{:?}", released.elapsed());
        waits.abort_all();
    }

    /// The connection for subscriptions hangs.
    #[paused]
    async fn a_wait_ends_in_time_and_a_free_place_is_seen_while_the_subscription_is_being_made(fixture: Fixture) {
        drop(fixture);
        let backend = FaultyBackend::embedded();
        backend.set(Rule::new(Injection::HangBefore).on_name("SUBSCRIBE"));
        let places = places(&backend.client(), 1);
        let held = places.try_acquire("k").await.unwrap().unwrap();
        let start = Instant::now();
        let short = Duration::from_millis(20);
        assert!(places.acquire("k", short).await.unwrap().is_none());
        assert!(start.elapsed() <= short + AT_ONCE, "{:?}", start.elapsed());

        let waits = tokio::spawn({
            let places = places.clone();
            async move { (places.acquire("k", MINUTE).await.unwrap(), Instant::now()) }
        });
        sleep(Duration::from_millis(70)).await;
        let released = Instant::now();
        held.release().await.unwrap();
        let (permit, at) = waits.await.unwrap();
        assert!(permit.is_some());
        assert!(at - released <= Duration::from_millis(50) + AT_ONCE, "{:?}", at - released);
    }

    /// Waiters come, give up and hold for random times in three processes; whenever a place is free,
    /// one of them has it at once.
    #[paused]
    async fn no_wake_up_is_lost_whoever_gives_up(fixture: Fixture) {
        drop(fixture);
        for seed in 0..20 {
            let backend = FaultyBackend::embedded();
            let clients = [(); 3].map(|()| backend.client());
            let (done, served) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicUsize::new(0)));
            let mut callers = JoinSet::new();
            for n in 0..18 {
                let places = places(&clients[n % 3], 2);
                let (done, served) = (Arc::clone(&done), Arc::clone(&served));
                let mut random = StdRng::seed_from_u64(seed * 100 + n as u64);
                callers.spawn(async move {
                    for _ in 0..15 {
                        let [gives_up, holds, rests] = [400, 60, 30].map(|most| Duration::from_micros(random.random_range(0..most * 1000)));
                        let waited = timeout(gives_up, places.acquire("k", MINUTE)).await;
                        if let Ok(permit) = waited {
                            let permit = permit.unwrap().expect("there is time");
                            served.fetch_add(1, Ordering::Relaxed);
                            sleep(holds).await;
                            match random.random_bool(0.5) {
                                true => drop(permit),
                                false => permit.release().await.unwrap(),
                            }
                        }
                        sleep(rests).await;
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
            let watching = places(&clients[0], 2);
            let mut unused = Duration::ZERO;
            while done.load(Ordering::Relaxed) < 18 {
                let is_unused = watching.peek("k").await.unwrap().remaining() > 0 && waiting(&clients[0]).await > 0;
                unused = if is_unused { unused + Duration::from_millis(1) } else { Duration::ZERO };
                assert!(unused <= 3 * AT_ONCE, "seed {seed}: a place is free for {unused:?} and nobody comes");
                sleep(Duration::from_millis(1)).await;
            }
            assert!(served.load(Ordering::Relaxed) > 100, "{served:?}");
            callers.join_all().await;
            // For so long a visit that arrives late gets nothing.
            sleep(2 * WAITER_ALIVE).await;
            assert_eq!(dump(&clients[0]).await, [], "seed {seed}: nothing stays behind");
        }
    }
}
