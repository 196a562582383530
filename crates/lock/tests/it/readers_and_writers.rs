//! Read/write locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use redkit_core::{Client, Command};
use redkit_lock::{Error, Fence, LockManager, ReadWriteLocks};
use redkit_testkit::{FaultyBackend, Fixture, Gate, Injection, Rule};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::{LONG, SECOND, eventually};

const NOW: Duration = Duration::ZERO;

fn locks(client: &Client) -> ReadWriteLocks {
    LockManager::builder(client, "docs")
        .label("editor")
        .build_read_write()
        .unwrap()
}

async fn another(fixture: &Fixture) -> ReadWriteLocks {
    locks(&fixture.connect(fixture.config().unwrap()).await.unwrap())
}

async fn writers_wait(locks: &ReadWriteLocks, writers: u64) {
    eventually("writers wait", async || {
        locks.inspect("k").await.unwrap().waiting_writers == writers
    })
    .await;
    // And their subscription stands.
    sleep(Duration::from_millis(300)).await;
}

async fn is_free(locks: &ReadWriteLocks) -> bool {
    let state = locks.inspect("k").await.unwrap();
    state.writer.is_none() && state.readers == 0 && state.waiting_writers == 0
}

redkit_testkit::suite! {
    async fn readers_share_and_writers_do_not(fixture: Fixture) {
        let (one, two) = (locks(&fixture.client), another(&fixture).await);
        let readers = [one.read("k", NOW).await.unwrap(), two.read("k", NOW).await.unwrap()];
        assert_eq!(one.inspect("k").await.unwrap().readers, 2);
        assert!(matches!(two.write("k", NOW).await, Err(Error::Taken { holder: None })));
        for reader in readers {
            reader.extend().await.unwrap();
            assert!(reader.release().await.unwrap());
        }
        let writer = one.write("k", NOW).await.unwrap();
        writer.extend().await.unwrap();
        for error in [two.write("k", NOW).await.map(drop), two.read("k", NOW).await.map(drop)] {
            let error = error.unwrap_err();
            let holder = error.holder().expect("it says who");
            assert_eq!((holder.fence, holder.label.as_deref()), (writer.fence(), Some("editor")));
        }
        let fence = writer.fence();
        assert!(writer.release().await.unwrap());
        let writer = two.write("k", NOW).await.unwrap();
        assert!(writer.fence() > fence);
        drop(writer);
        eventually("it is free", async || is_free(&one).await).await;
        assert!(matches!(one.read("", NOW).await, Err(Error::EmptyKey)));
        // Not the locks of a manager of the same name.
        let exclusive = LockManager::builder(&fixture.client, "docs").build().unwrap();
        let _guard = exclusive.try_acquire("k").await.unwrap();
        drop(one.write("k", NOW).await.unwrap());
    }

    #[multi_thread]
    async fn no_writer_is_inside_with_anybody_else(fixture: Fixture) {
        let both = [locks(&fixture.client), another(&fixture).await];
        // Readers count up by one, a writer by a thousand.
        let inside = Arc::new(AtomicI32::new(0));
        let mut tasks = JoinSet::new();
        for task in 0..8_usize {
            let (locks, inside) = (both[task % 2].clone(), Arc::clone(&inside));
            tasks.spawn(async move {
                for round in 0..5 {
                    if (task + round) % 4 == 0 {
                        let guard = locks.write("k", LONG).await.unwrap();
                        assert_eq!(inside.fetch_add(1000, Ordering::SeqCst), 0);
                        tokio::task::yield_now().await;
                        inside.fetch_sub(1000, Ordering::SeqCst);
                        assert!(guard.release().await.unwrap());
                    } else {
                        let guard = locks.read("k", LONG).await.unwrap();
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < 1000);
                        tokio::task::yield_now().await;
                        inside.fetch_sub(1, Ordering::SeqCst);
                        assert!(guard.release().await.unwrap());
                    }
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        assert!(is_free(&both[0]).await);
    }

    async fn a_writer_goes_before_new_readers(fixture: Fixture) {
        let (one, two) = (locks(&fixture.client), another(&fixture).await);
        let reader = one.read("k", NOW).await.unwrap();
        let waits = two.clone();
        let writer = tokio::spawn(async move { waits.write("k", LONG).await.unwrap() });
        writers_wait(&one, 1).await;
        assert!(matches!(one.read("k", NOW).await, Err(Error::Taken { holder: None })));
        let waits = one.clone();
        let second = tokio::spawn(async move { waits.read("k", LONG).await.map(drop) });
        sleep(Duration::from_millis(300)).await;
        let start = Instant::now();
        assert!(reader.release().await.unwrap());
        let writer = writer.await.unwrap();
        assert!(start.elapsed() < SECOND, "woken: {:?}", start.elapsed());
        assert!(!second.is_finished());
        let start = Instant::now();
        assert!(writer.release().await.unwrap());
        second.await.unwrap().unwrap();
        assert!(start.elapsed() < SECOND, "woken: {:?}", start.elapsed());
    }

    async fn a_writer_that_gives_up_lets_readers_in(fixture: Fixture) {
        let (one, two) = (locks(&fixture.client), another(&fixture).await);
        let _reader = one.read("k", NOW).await.unwrap();
        for is_dropped in [false, true] {
            let waits = two.clone();
            let wait = if is_dropped { LONG } else { 3 * SECOND };
            let writer = tokio::spawn(async move { waits.write("k", wait).await.map(drop) });
            writers_wait(&one, 1).await;
            let waits = one.clone();
            let reader = tokio::spawn(async move { waits.read("k", LONG).await.map(drop) });
            sleep(Duration::from_millis(100)).await;
            match is_dropped {
                true => writer.abort(),
                false => assert!(matches!(writer.await.unwrap(), Err(Error::Taken { .. }))),
            }
            // Before the heartbeat of the writer is over.
            timeout(2 * SECOND, reader).await.expect("it is woken").unwrap().unwrap();
            eventually("nobody waits", async || one.inspect("k").await.unwrap().waiting_writers == 0).await;
        }
    }

    async fn a_downgrade_lets_readers_in_and_no_writer_between(fixture: Fixture) {
        let (one, two) = (locks(&fixture.client), another(&fixture).await);
        let writer = one.write("k", NOW).await.unwrap();
        let waits = two.clone();
        let reader = tokio::spawn(async move { waits.read("k", LONG).await.unwrap() });
        sleep(Duration::from_millis(500)).await;
        let start = Instant::now();
        let downgraded = writer.downgrade().await.unwrap();
        let reader = reader.await.unwrap();
        assert!(start.elapsed() < SECOND, "woken: {:?}", start.elapsed());
        let state = one.inspect("k").await.unwrap();
        assert!(state.writer.is_none() && state.readers == 2);
        assert!(two.write("k", NOW).await.is_err());
        assert!(downgraded.release().await.unwrap() && reader.release().await.unwrap());
        assert!(is_free(&one).await);
        // A writer that waits does not come in with the downgrade, but after it.
        let writer = one.write("k", NOW).await.unwrap();
        let waits = two.clone();
        let next = tokio::spawn(async move { waits.write("k", LONG).await.unwrap() });
        writers_wait(&one, 1).await;
        let downgraded = writer.downgrade().await.unwrap();
        sleep(Duration::from_millis(1200)).await;
        let state = one.inspect("k").await.unwrap();
        assert!(state.writer.is_none() && state.readers == 1 && state.waiting_writers == 1, "{state:?}");
        assert!(!next.is_finished() && !downgraded.is_lost());
        let start = Instant::now();
        assert!(downgraded.release().await.unwrap());
        let next = next.await.unwrap();
        assert!(start.elapsed() < SECOND, "woken: {:?}", start.elapsed());
        assert!(next.release().await.unwrap());
    }

    async fn a_writer_whose_lock_was_taken_away_becomes_no_reader(fixture: Fixture) {
        let (one, two) = (locks(&fixture.client), another(&fixture).await);
        let writer = one.write("k", NOW).await.unwrap();
        assert!(two.force_release("k", writer.fence()).await.unwrap());
        let next = two.write("k", LONG).await.unwrap();
        // Its process does not know yet.
        let downgraded = writer.downgrade().await;
        assert!(matches!(downgraded, Err(Error::Lost)), "{downgraded:?}");
        let state = one.inspect("k").await.unwrap();
        assert_eq!((state.readers, state.writer.unwrap().fence), (0, next.fence()));
        next.extend().await.unwrap();
        assert!(next.release().await.unwrap());
    }

    #[paused]
    async fn a_writer_that_died_before_the_clock_went_back_is_forgotten(fixture: Fixture) {
        let all = locks(&fixture.client);
        let key = fixture.client.key("rwlock:docs:{k}:writers");
        let time: (u64, u64) = fixture.client.call(Command::new("TIME")).await.unwrap();
        let ahead = (time.0 + 600) * 1_000_000;
        let add = Command::new("ZADD").key(&key).arg(ahead).arg("dead");
        fixture.client.call::<i64>(add).await.unwrap();
        let start = Instant::now();
        drop(all.read("k", LONG).await.unwrap());
        assert!(start.elapsed() <= 4 * SECOND, "{:?}", start.elapsed());
    }

    /// The wake-up goes to writers, as one of them waits: it is dead.
    #[paused]
    async fn a_writer_that_died_while_it_waited_keeps_no_reader_out_of_a_free_lock(fixture: Fixture) {
        let all = LockManager::builder(&fixture.client, "docs").ttl(LONG).build_read_write().unwrap();
        for is_forced in [false, true] {
            let key = format!("k{is_forced}");
            let writer = all.write(&key, NOW).await.unwrap();
            let (waits, name) = (all.clone(), key.clone());
            let reader = tokio::spawn(async move { waits.read(&name, 2 * LONG).await.map(drop) });
            sleep(Duration::from_millis(300)).await;
            let time: (u64, u64) = fixture.client.call(Command::new("TIME")).await.unwrap();
            let until = (time.0 + 3) * 1_000_000 + time.1;
            let writers = fixture.client.key(format!("rwlock:docs:{{{key}}}:writers"));
            let add = Command::new("ZADD").key(&writers).arg(until).arg("dead");
            fixture.client.call::<i64>(add).await.unwrap();
            let start = Instant::now();
            match is_forced {
                true => assert!(all.force_release(&key, writer.fence()).await.unwrap()),
                false => assert!(writer.release().await.unwrap()),
            }
            reader.await.unwrap().unwrap();
            assert!(start.elapsed() <= 4 * SECOND, "{is_forced}: {:?}", start.elapsed());
        }
    }

    async fn what_is_taken_is_tried_without_waiting(fixture: Fixture) {
        let (one, two) = (locks(&fixture.client), another(&fixture).await);
        let reader = one.try_read("k").await.unwrap();
        drop(two.try_read("k").await.unwrap());
        assert!(matches!(two.try_write("k").await, Err(Error::Taken { .. })));
        assert!(reader.release().await.unwrap());
        eventually("it is free", async || is_free(&one).await).await;
        let writer = one.try_write("k").await.unwrap();
        assert!(matches!(two.try_read("k").await, Err(Error::Taken { holder: Some(_) })));
        assert!(writer.release().await.unwrap());
    }

    async fn a_writer_is_put_out_by_its_fence_and_readers_together(fixture: Fixture) -> Result<(), Error> {
        let (locks, theirs) = (locks(&fixture.client), another(&fixture).await);
        let writer = theirs.write("k", SECOND).await?;
        let waiting = { let locks = locks.clone(); tokio::spawn(async move { locks.read("k", LONG).await }) };
        eventually("a reader waits", async || locks.stats().waiting == 1).await;
        let other = Fence::new(writer.fence().get() - 1);
        assert!(!locks.force_release("k", other).await?, "that is another's fence");
        assert!(locks.force_release("k", writer.fence()).await?);
        let (one, two) = (waiting.await.unwrap()?, locks.read("k", SECOND).await?);
        assert!(matches!(writer.extend().await, Err(Error::Lost)));
        assert!(!locks.force_release("k", writer.fence()).await?);
        // Readers, of all processes, and a writer that waits for them.
        let three = theirs.read("k", SECOND).await?;
        let waiting = { let theirs = theirs.clone(); tokio::spawn(async move { theirs.write("k", LONG).await }) };
        writers_wait(&locks, 1).await;
        assert_eq!(locks.force_release_readers("k").await?, 3);
        let next = waiting.await.unwrap()?;
        for reader in [one, two, three] {
            assert!(matches!(reader.extend().await, Err(Error::Lost)));
        }
        assert_eq!(locks.force_release_readers("k").await?, 0);
        assert!(next.release().await?);
        Ok(())
    }

    async fn inspection_shows_readers_and_writers_and_puts_them_out(fixture: Fixture) -> Result<(), Error> {
        let locks = locks(&fixture.client);
        let (reader, writer) = (locks.read("a", SECOND).await?, locks.write("b\n", SECOND).await?);
        let stats = locks.stats();
        assert_eq!((stats.held, stats.acquired, stats.lost), (2, 2, 0));
        let inspected = fixture.client.inspect().into_iter().find(|object| object.kind() == "read_write_locks");
        let inspected = inspected.unwrap();
        let text = format!("{:?}", inspected.snapshot());
        for shown in ["\"a\"", "b\\\\n", &writer.fence().to_string()] {
            assert!(text.contains(shown), "{shown} in {text}");
        }
        let argument = format!("{} b\\n", writer.fence());
        inspected.act("force_release", &argument).await.unwrap();
        inspected.act("force_release_readers", "a").await.unwrap();
        assert!(matches!(reader.extend().await, Err(Error::Lost)));
        assert!(matches!(writer.extend().await, Err(Error::Lost)));
        for (action, argument) in [("force_release", "b"), ("force_release_readers", ""), ("other", "a")] {
            assert!(inspected.act(action, argument).await.is_err(), "{action} {argument}");
        }
        drop((reader, writer));
        assert_eq!(locks.stats().held, 0);
        Ok(())
    }

    #[paused]
    async fn leases_are_renewed_and_those_of_the_dead_run_out(fixture: Fixture) {
        let all = locks(&fixture.client);
        let reader = all.read("k", NOW).await.unwrap();
        sleep(LONG).await;
        assert!(!reader.is_lost() && all.inspect("k").await.unwrap().readers == 1);
        // A reader, and a writer that waits, whose processes died.
        let key = |role: &str| fixture.client.key(format!("rwlock:docs:{{k}}:{role}"));
        let time: (u64, u64) = fixture.client.call(Command::new("TIME")).await.unwrap();
        let now = time.0 * 1_000_000 + time.1;
        for (role, alive) in [("readers", 10_000_000), ("writers", 3_000_000)] {
            let add = Command::new("ZADD").key(key(role)).arg(now + alive).arg("dead");
            fixture.client.call::<i64>(add).await.unwrap();
        }
        let start = Instant::now();
        drop(all.read("k", LONG).await.unwrap());
        assert!(start.elapsed() <= 4 * SECOND, "{:?}", start.elapsed());
        assert!(reader.release().await.unwrap());
        drop(all.write("k", LONG).await.unwrap());
        let took = start.elapsed();
        assert!(took >= 10 * SECOND && took <= 11 * SECOND, "{took:?}");
        // Nothing is left but the record of the fence.
        sleep(LONG).await;
        for role in ["readers", "writers"] {
            assert!(!crate::exists(&fixture.client, key(role)).await, "{role}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn readers_and_writers_lose_their_locks_at_the_local_deadline() {
    let backend = FaultyBackend::embedded();
    let all = locks(&backend.client());
    let (reader, writer) = (
        all.read("a", NOW).await.unwrap(),
        all.write("b", NOW).await.unwrap(),
    );
    backend.set(Rule::new(Injection::HangBefore));
    let start = Instant::now();
    tokio::join!(reader.lost(), writer.lost());
    assert!(start.elapsed() <= 10 * SECOND, "{:?}", start.elapsed());
    backend.clear();
    assert!(matches!(reader.extend().await, Err(Error::Lost)));
    assert!(matches!(writer.downgrade().await, Err(Error::Lost)));
    // The server's view: nothing was renewed, nothing is revived.
    sleep(SECOND).await;
    assert_eq!(all.inspect("a").await.unwrap().readers, 0);
    assert!(!reader.release().await.unwrap());
    drop(all.write("a", NOW).await.unwrap());
}

/// The release falls between the first look and the subscription.
#[tokio::test(start_paused = true)]
async fn readers_and_writers_miss_no_wake_up_before_they_are_subscribed() {
    let slow = Duration::from_millis(200);
    for is_reader in [false, true] {
        let backend = FaultyBackend::embedded();
        let all = locks(&backend.client());
        let writer = all.write("k", NOW).await.unwrap();
        backend.set(Rule::new(Injection::DelayRequest(slow)).on_name("SUBSCRIBE"));
        let waits = all.clone();
        let start = Instant::now();
        let waited = tokio::spawn(async move {
            match is_reader {
                true => waits.read("k", LONG).await.map(drop),
                false => waits.write("k", LONG).await.map(drop),
            }
        });
        sleep(slow / 2).await;
        assert!(writer.release().await.unwrap());
        waited.await.unwrap().unwrap();
        let took = start.elapsed();
        assert!(
            took <= slow + Duration::from_millis(10),
            "{is_reader}: {took:?}"
        );
    }
}

/// The server keeps a lock for a hundredth longer than its holder does.
#[tokio::test(start_paused = true)]
async fn a_writer_that_is_lost_by_its_own_clock_becomes_no_reader() {
    let backend = FaultyBackend::embedded();
    let all = locks(&backend.client());
    let writer = all.write("k", NOW).await.unwrap();
    backend.set(Rule::new(Injection::HangBefore));
    writer.lost().await;
    backend.clear();
    assert!(all.inspect("k").await.unwrap().writer.is_some());
    let downgraded = writer.downgrade().await;
    assert!(matches!(downgraded, Err(Error::Lost)), "{downgraded:?}");
    assert_eq!(all.inspect("k").await.unwrap().readers, 0);
}

/// The reply comes when the lease of the reader is over: a writer may be inside.
#[tokio::test(start_paused = true)]
async fn a_downgrade_whose_reply_is_later_than_its_lease_gives_no_reader() {
    let backend = FaultyBackend::embedded();
    let ttl = Duration::from_millis(500);
    let all = LockManager::builder(&backend.client(), "docs").ttl(ttl);
    let all = all.build_read_write().unwrap();
    let writer = all.write("warm", NOW).await.unwrap();
    assert!(writer.downgrade().await.unwrap().release().await.unwrap());
    let writer = all.write("k", NOW).await.unwrap();
    backend.set(Rule::new(Injection::DelayReply(ttl * 3 / 2)).times(1));
    let downgraded = writer.downgrade().await;
    assert!(matches!(downgraded, Err(Error::Lost)), "{downgraded:?}");
    sleep(ttl).await;
    assert_eq!(all.inspect("k").await.unwrap().readers, 0);
    assert!(all.write("k", NOW).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_readers_renewal_that_is_late_brings_no_reader_back() {
    let backend = FaultyBackend::embedded();
    let all = locks(&backend.client());
    let reader = all.read("k", NOW).await.unwrap();
    let gate = Gate::closed();
    let renews = |command: &Command| {
        command.iter().any(|arg| arg == b"10000") && command.keys().count() == 3
    };
    backend.set(Rule::new(Injection::HoldRequest(gate.clone())).on(renews));
    gate.reached(1).await;
    assert!(reader.release().await.unwrap());
    let writer = all.write("k", NOW).await.unwrap();
    gate.open();
    sleep(Duration::from_millis(5)).await;
    let state = all.inspect("k").await.unwrap();
    assert!(state.readers == 0 && state.writer.is_some(), "{state:?}");
    assert!(writer.release().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_without_a_reply_is_given_back() {
    let backend = FaultyBackend::embedded();
    let all = locks(&backend.client());
    // So that the server knows the scripts.
    drop(all.write("other", NOW).await.unwrap());
    drop(all.read("other", LONG).await.unwrap());
    for injection in [Injection::LoseReply, Injection::HangAfter] {
        backend.set(Rule::new(injection.clone()).times(1));
        assert!(matches!(all.write("k", NOW).await, Err(Error::Core(_))));
        sleep(Duration::from_millis(10)).await;
        assert!(is_free(&all).await, "{injection:?}");
        backend.set(Rule::new(injection.clone()).times(1));
        assert!(matches!(all.read("k", NOW).await, Err(Error::Core(_))));
        sleep(Duration::from_millis(10)).await;
        assert!(is_free(&all).await, "{injection:?}");
        // And a call that waits gets what its first attempt took.
        backend.set(Rule::new(injection.clone()).times(1));
        assert!(all.write("k", LONG).await.unwrap().release().await.unwrap());
        let reader = all.read("k", LONG).await.unwrap();
        backend.set(Rule::new(injection).times(1));
        assert!(reader.release().await.unwrap(), "it was held");
    }
}

#[tokio::test]
async fn what_readers_and_writers_cannot_have_is_refused() {
    let client = FaultyBackend::embedded().client();
    let of = || LockManager::builder(&client, "docs");
    for builder in [of().fair(true), of().hold_at_least(SECOND), of().ttl(NOW)] {
        let error = builder.build_read_write().unwrap_err();
        assert_eq!(error.kind(), redkit_core::ErrorKind::Usage, "{error}");
    }
}
