//! A lock is lost at a deadline of the process's own clock, whatever server and network do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redkit_core::{Client, ClientConfig, Command};
use redkit_lock::{Error, LockManager};
use redkit_testkit::{FaultyBackend, Fixture, Gate, Injection, Proxy, Rule, Server, ServerOptions};
use tokio::time::{Instant, sleep, timeout};

use crate::{LONG, SECOND, builder, eventually, key_of, manager};

const TTL: Duration = Duration::from_secs(3);

fn with_ttl(client: &Client) -> LockManager {
    builder(client).ttl(TTL).build().unwrap()
}

/// Sets a flag when it is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

redkit_testkit::suite! {
    #[paused]
    async fn a_held_lock_is_renewed_for_as_long_as_it_is_held(fixture: Fixture) {
        let locks = with_ttl(&fixture.client);
        let guard = locks.try_acquire("k").await.unwrap();
        sleep(20 * TTL).await;
        assert!(!guard.is_lost() && locks.try_acquire("k").await.is_err());
        assert!(locks.stats().renewed >= 40, "{:?}", locks.stats());
        assert!(guard.release().await.unwrap());
    }

    #[paused]
    async fn a_lock_is_held_no_longer_than_it_may(fixture: Fixture) {
        let locks = builder(&fixture.client).ttl(TTL).hold_at_most(10 * SECOND).build().unwrap();
        let start = Instant::now();
        let ran = locks.run("k", SECOND, |_| std::future::pending::<()>()).await;
        assert!(matches!(ran, Err(Error::Lost)));
        assert_eq!(start.elapsed().as_secs(), 10);
        drop(locks.acquire("k", SECOND).await.unwrap());
    }

    #[paused]
    async fn a_lock_stays_taken_for_as_long_as_it_is_to(fixture: Fixture) {
        let locks = builder(&fixture.client).ttl(TTL).hold_at_least(10 * SECOND).build().unwrap();
        let start = Instant::now();
        let guard = locks.try_acquire("k").await.unwrap();
        let fence = guard.fence();
        sleep(SECOND).await;
        assert!(guard.release().await.unwrap());
        let error = locks.try_acquire("k").await.unwrap_err();
        let holder = error.holder().unwrap();
        assert!(holder.is_resting && holder.fence == fence, "{holder:?}");
        assert!(error.to_string().ends_with("gave it back early"), "{error}");
        let next = locks.acquire("k", LONG).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 10);
        // A renewal does not shorten it.
        sleep(2 * SECOND).await;
        next.extend().await.unwrap();
        std::mem::forget(next);
        drop(locks);
        let other = manager(&fixture.client);
        let left = other.inspect("k").await.unwrap().unwrap().expires_in.unwrap();
        assert!(left > 7 * SECOND, "{left:?}");
    }

    #[paused]
    async fn a_lock_with_a_longest_time_outlives_it_on_the_server_by_what_clocks_may_differ(fixture: Fixture) {
        let client = &fixture.client;
        let of = || builder(client).hold_at_most(5 * SECOND);
        let left = async |key: String| -> Duration {
            let left: i64 = client.call(Command::new("PTTL").key(client.key(key))).await.unwrap();
            Duration::from_millis(u64::try_from(left).unwrap())
        };
        // A hundredth of the time to live, which is ten seconds.
        let allowance = SECOND / 10;
        let guard = of().build().unwrap().try_acquire("k").await.unwrap();
        assert!(left("lock:jobs:{k}".into()).await >= guard.remaining() + allowance);
        assert!(guard.remaining() > 4 * SECOND);
        let both = of().build_read_write().unwrap();
        let reader = both.read("r", SECOND).await.unwrap();
        assert!(left("rwlock:jobs:{r}:readers".into()).await >= reader.remaining() + allowance);
        let writer = both.write("w", SECOND).await.unwrap();
        assert!(left("rwlock:jobs:{w}".into()).await >= writer.remaining() + allowance);
        let reader = writer.downgrade().await.unwrap();
        assert!(left("rwlock:jobs:{w}:readers".into()).await >= reader.remaining() + allowance);
        // But no longer than its time to live.
        let guard = builder(client).hold_at_most(20 * SECOND).build().unwrap().try_acquire("l").await.unwrap();
        assert!(left("lock:jobs:{l}".into()).await <= 10 * SECOND);
        drop(guard);
    }

    async fn a_longest_time_beyond_all_clocks_is_none(fixture: Fixture) {
        let of = || builder(&fixture.client).hold_at_most(Duration::MAX);
        let guard = of().build().unwrap().try_acquire("k").await.unwrap();
        guard.extend().await.unwrap();
        assert!(guard.release().await.unwrap());
        let both = of().build_read_write().unwrap();
        assert!(both.read("k", SECOND).await.unwrap().release().await.unwrap());
        assert!(both.write("k", SECOND).await.unwrap().release().await.unwrap());
    }

    /// A replica that took over has a clock that is behind the old master's, by which the lock was taken.
    async fn a_lock_rests_no_longer_than_it_is_to_though_the_clock_went_back(fixture: Fixture) {
        let locks = builder(&fixture.client).hold_at_least(30 * SECOND).build().unwrap();
        let guard = locks.try_acquire("k").await.unwrap();
        let key = key_of(&fixture.client, "k", "");
        let held: String = fixture.client.call(Command::new("GET").key(&key)).await.unwrap();
        let mut parts: Vec<String> = held.split(' ').map(str::to_owned).collect();
        let since: u64 = parts[2].parse().unwrap();
        parts[2] = (since + 120_000_000).to_string();
        let ahead = Command::new("SET").key(&key).arg(parts.join(" ")).arg("KEEPTTL");
        let _: () = fixture.client.call(ahead).await.unwrap();
        assert!(guard.release().await.unwrap());
        let holder = locks.inspect("k").await.unwrap().unwrap();
        assert!(holder.is_resting && holder.expires_in.unwrap() <= 30 * SECOND, "{holder:?}");
    }

    async fn what_no_work_was_done_under_does_not_rest(fixture: Fixture) {
        // One by one, so that the first is taken before the second is found taken.
        let locks = builder(&fixture.client).hold_at_least(30 * SECOND).fair(true).build().unwrap();
        let other = builder(&fixture.client).fair(true).build().unwrap();
        let taken = other.try_acquire("b").await.unwrap();
        let both = locks.acquire_all(["a", "b"], Duration::from_millis(50)).await;
        assert!(matches!(both, Err(Error::Taken { .. })), "{both:?}");
        assert!(other.inspect("a").await.unwrap().is_none(), "it was given back");
        // Also when the caller is dropped while it waits for the second.
        let dropped = timeout(SECOND / 2, locks.acquire_all(["a", "b"], LONG)).await;
        assert!(dropped.is_err());
        eventually("it is given back", async || other.inspect("a").await.unwrap().is_none()).await;
        assert!(taken.release().await.unwrap());
    }

    async fn work_that_met_another_holder_is_not_said_to_be_done(fixture: Fixture) {
        let locks = manager(&fixture.client);
        let operator = locks.clone();
        let ran = locks
            .run("k", SECOND, |fence| async move {
                assert!(operator.force_release("k", fence).await.unwrap());
            })
            .await;
        assert!(matches!(ran, Err(Error::Lost)), "{ran:?}");
        locks.run("k", SECOND, async |_| ()).await.unwrap();
    }

    async fn a_lock_that_was_taken_away_is_lost(fixture: Fixture) {
        let locks = builder(&fixture.client).ttl(SECOND).build().unwrap();
        let guard = locks.try_acquire("k").await.unwrap();
        let lost = guard.lost();
        assert!(locks.force_release("k", guard.fence()).await.unwrap());
        timeout(LONG, lost).await.expect("the next renewal says so");
        assert!(guard.is_lost() && guard.remaining().is_zero());
        assert!(!guard.release().await.unwrap());
        assert_eq!(locks.stats().lost, 1);
    }

    async fn a_guard_that_is_given_back_while_somebody_watches_is_not_lost(fixture: Fixture) {
        let locks = builder(&fixture.client).ttl(Duration::from_millis(200)).build().unwrap();
        let guard = locks.try_acquire("k").await.unwrap();
        let lost = guard.lost();
        assert!(guard.release().await.unwrap());
        assert!(timeout(Duration::from_millis(500), lost).await.is_err());
        let guard = locks.try_acquire("k").await.unwrap();
        let lost = guard.lost();
        drop(guard);
        assert!(timeout(Duration::from_millis(500), lost).await.is_err());
        assert_eq!(locks.stats().lost, 0);
    }

    async fn the_next_gets_the_lock_of_a_holder_that_died(fixture: Fixture) {
        let ttl = Duration::from_millis(500);
        let config = fixture.config().unwrap();
        // A process that dies renews nothing and releases nothing.
        let dying = fixture.connect(config).await.unwrap();
        let guard = builder(&dying).ttl(ttl).build().unwrap().try_acquire("k").await.unwrap();
        let fence = guard.fence();
        let token_gone = key_of(&fixture.client, "k", "");
        let value: String = fixture.client.call(Command::new("GET").key(&token_gone)).await.unwrap();
        drop(guard);
        let locks = manager(&fixture.client);
        eventually("it is free", async || locks.inspect("k").await.unwrap().is_none()).await;
        let put = Command::new("SET").key(&token_gone).arg(value).arg("PX").arg(500);
        fixture.client.call::<()>(put).await.unwrap();
        let start = Instant::now();
        let guard = locks.acquire("k", LONG).await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
        assert!(guard.fence() > fence);
    }
}

#[tokio::test(start_paused = true)]
async fn work_is_dropped_at_the_local_deadline_though_the_server_hangs() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let locks = with_ttl(&client);
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = Dropped(Arc::clone(&dropped));
    let start = Instant::now();
    let hang = Arc::clone(&backend);
    let ran = locks
        .run("k", SECOND, |_| async move {
            let _flag = flag;
            hang.set(Rule::new(Injection::HangBefore));
            std::future::pending::<()>().await;
        })
        .await;
    assert!(matches!(ran, Err(Error::Lost)), "{ran:?}");
    assert!(
        dropped.load(Ordering::SeqCst),
        "the work is dropped before `run` returns"
    );
    let took = start.elapsed();
    assert!(took >= TTL - TTL / 50 && took <= TTL, "{took:?}");
    assert_eq!(locks.stats().lost, 1);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_late_never_revives_a_lock_that_was_released() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let locks = with_ttl(&client);
    for is_taken_again in [false, true] {
        let guard = locks.try_acquire("k").await.unwrap();
        let gate = Gate::closed();
        let renews = |command: &Command| {
            command.iter().any(|arg| arg == b"3000") && command.keys().count() == 1
        };
        backend.set(Rule::new(Injection::HoldRequest(gate.clone())).on(renews));
        gate.reached(1).await;
        assert!(guard.release().await.unwrap());
        let other = builder(&client).ttl(60 * SECOND).build().unwrap();
        let next = match is_taken_again {
            true => Some(other.try_acquire("k").await.unwrap()),
            false => None,
        };
        gate.open();
        sleep(Duration::from_millis(5)).await;
        let stands = other.inspect("k").await.unwrap();
        assert_eq!(stands.is_some(), is_taken_again);
        if let Some(holder) = stands {
            assert!(holder.expires_in.unwrap() > 50 * SECOND, "{holder:?}");
            assert!(next.unwrap().release().await.unwrap());
        }
        backend.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_without_a_reply_does_not_rest() {
    for is_fair in [false, true] {
        let backend = FaultyBackend::embedded();
        let client = backend.client();
        let locks = builder(&client).fair(is_fair).hold_at_least(3600 * SECOND);
        let locks = locks.build().unwrap();
        // So that the server knows the script.
        drop(locks.try_acquire("other").await.unwrap());
        for injection in [Injection::LoseReply, Injection::HangAfter] {
            backend.set(Rule::new(injection.clone()).times(1));
            locks.try_acquire("k").await.unwrap_err();
            sleep(Duration::from_millis(10)).await;
            let left = locks.inspect("k").await.unwrap();
            assert!(left.is_none(), "{is_fair} {injection:?}: {left:?}");
        }
        backend.set(Rule::new(Injection::DelayReply(SECOND)).times(1));
        assert!(timeout(SECOND / 2, locks.acquire("k", LONG)).await.is_err());
        sleep(Duration::from_millis(10)).await;
        assert!(locks.inspect("k").await.unwrap().is_none());
        // The reply came too late to be of use.
        let short = builder(&client)
            .ttl(SECOND)
            .fair(is_fair)
            .hold_at_least(3600 * SECOND);
        backend.set(Rule::new(Injection::DelayReply(3 * SECOND / 2)).times(1));
        let late = short.build().unwrap().try_acquire("k").await;
        assert!(matches!(late, Err(Error::Lost)), "{late:?}");
        sleep(Duration::from_millis(10)).await;
        assert!(locks.inspect("k").await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_server_without_memory_renews_and_takes_back() {
    let server = Server::redis(ServerOptions::default()).await.unwrap();
    let config = ClientConfig::from_url(&server.url()).unwrap();
    let client = Client::connect(config).await.unwrap();
    let locks = builder(&client).hold_at_least(30 * SECOND).build().unwrap();
    let both = builder(&client).build_read_write().unwrap();
    let guard = locks.try_acquire("k").await.unwrap();
    let (reader, writer) = (
        both.read("r", SECOND).await.unwrap(),
        both.write("w", SECOND).await.unwrap(),
    );
    server
        .raw(&["CONFIG", "SET", "maxmemory", "1"])
        .await
        .unwrap();
    let refused = locks.try_acquire("other").await.unwrap_err();
    assert!(refused.to_string().contains("OOM"), "{refused}");
    guard.extend().await.unwrap();
    reader.extend().await.unwrap();
    writer.extend().await.unwrap();
    assert!(guard.release().await.unwrap());
    assert!(locks.inspect("k").await.unwrap().unwrap().is_resting);
    assert!(reader.release().await.unwrap() && writer.release().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_lock_whose_reply_was_lost_is_given_back_or_runs_out() {
    for injection in [Injection::LoseReply, Injection::HangAfter] {
        let backend = FaultyBackend::embedded();
        let client = backend.client();
        let locks = with_ttl(&client);
        // So that the server knows the script.
        drop(locks.try_acquire("other").await.unwrap());
        let acquires = |command: &Command| command.keys().count() == 2 && command.arg_count() > 8;
        backend.set(Rule::new(injection.clone()).on(acquires).times(1));
        let error = locks.try_acquire("k").await.unwrap_err();
        assert!(
            matches!(&error, Error::Core(core) if core.is_maybe()),
            "{error:?}"
        );
        sleep(Duration::from_millis(10)).await;
        assert!(
            locks.inspect("k").await.unwrap().is_none(),
            "{injection:?}: it was given back"
        );
        // And when that is in vain it runs out by itself.
        backend.set(Rule::new(injection.clone()).on(acquires).times(1));
        backend.add(Rule::new(Injection::NotSent).on(move |command| !acquires(command)));
        locks.try_acquire("k").await.unwrap_err();
        backend.clear();
        sleep(TTL).await;
        assert!(locks.try_acquire("k").await.is_ok(), "{injection:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_acquisition_that_is_repeated_gets_what_the_first_attempt_took() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let locks = with_ttl(&client);
    // So that the server knows the script.
    drop(locks.try_acquire("other").await.unwrap());
    let acquires = |command: &Command| command.keys().count() == 2 && command.arg_count() > 8;
    backend.set(Rule::new(Injection::LoseReply).on(acquires).times(2));
    let start = Instant::now();
    let guard = locks.acquire("k", LONG).await.unwrap();
    assert!(
        start.elapsed() < SECOND,
        "it did not wait for its own lock: {:?}",
        start.elapsed()
    );
    assert_eq!(
        locks.inspect("k").await.unwrap().unwrap().fence,
        guard.fence()
    );
    // Neither does what was queued for the first attempts give this one back.
    sleep(TTL * 3).await;
    assert!(!guard.is_lost());
    assert!(guard.release().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_release_whose_reply_was_lost_knows_whether_the_lock_was_held() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let locks = with_ttl(&client);
    for injection in [Injection::LoseReply, Injection::LoseRequest] {
        let guard = locks.try_acquire("k").await.unwrap();
        backend.set(Rule::new(injection).times(1));
        assert!(guard.release().await.unwrap());
        assert!(locks.inspect("k").await.unwrap().is_none());
    }
    // Redis is gone: the release goes on in the background.
    let guard = locks.try_acquire("k").await.unwrap();
    backend.set(Rule::new(Injection::NotSent));
    assert!(guard.release().await.is_err());
    backend.clear();
    sleep(SECOND).await;
    assert!(locks.inspect("k").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_acquisition_that_is_dropped_leaves_nothing() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let locks = with_ttl(&client);
    // So that the server knows the script.
    drop(locks.try_acquire("other").await.unwrap());
    backend.set(Rule::new(Injection::DelayReply(SECOND)).times(1));
    let dropped = timeout(SECOND / 2, locks.acquire("k", LONG)).await;
    assert!(dropped.is_err());
    sleep(Duration::from_millis(10)).await;
    assert!(locks.inspect("k").await.unwrap().is_none());
    // A reply that comes after the lock's time is no lock.
    backend.set(Rule::new(Injection::DelayReply(2 * SECOND)).times(1));
    let short = builder(&client).ttl(SECOND).build().unwrap();
    assert!(matches!(short.try_acquire("k").await, Err(Error::Lost)));
}

#[tokio::test]
async fn work_is_dropped_in_time_behind_a_link_that_swallows() {
    let server = Server::redis(ServerOptions::default()).await.unwrap();
    let proxy = Proxy::start(server.addr()).await.unwrap();
    let config = ClientConfig::from_url(&server.url_at(proxy.addr())).unwrap();
    let client = Client::connect(config).await.unwrap();
    let ttl = Duration::from_millis(900);
    let locks = builder(&client).ttl(ttl).build().unwrap();
    let start = std::time::Instant::now();
    let ran = locks
        .run("k", SECOND, |_| async {
            sleep(ttl).await; // a renewal has come through
            proxy.black_hole();
            std::future::pending::<()>().await;
        })
        .await;
    assert!(matches!(ran, Err(Error::Lost)), "{ran:?}");
    let took = start.elapsed();
    assert!(took >= ttl && took <= 2 * ttl + SECOND, "{took:?}");
}
