//! The removal of an entry that the caller has seen, and of no other.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use redkit_cache::{Cache, CacheBuilder, Error, Fetched, L1, Loaded, Source};
use redkit_core::{Backend, Client, ClientConfig, Command, Topology};
use redkit_testkit::{FaultyBackend, Fixture, Gate, Injection, Rule};
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

const LONG: Duration = Duration::from_secs(60);

fn numbers(client: &Client) -> CacheBuilder<u64> {
    Cache::builder(client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(LONG)
        .load_timeout(5 * LONG)
        .wait_timeout(5 * LONG)
}

/// What two versions of a program share as an error under one name.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[error("failure {0}")]
struct OfOneVersion(u64);

#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[error("failure {0}")]
struct OfAnother(String);

async fn two(fixture: &Fixture) -> (Cache<u64>, Cache<u64>) {
    let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
    let build = |client| numbers(client).build().unwrap();
    (build(&fixture.client), build(&other))
}

async fn seen(cache: &Cache<u64>) -> Fetched<u64> {
    cache.peek("k").await.unwrap().expect("there is an entry")
}

/// A level that is trusted for longer than a test takes.
fn level() -> L1<u64> {
    L1::entries(10).ttl(60 * LONG).bound(60 * LONG)
}

/// The value as this process keeps it.
async fn kept_here(cache: &Cache<u64>) -> Fetched<u64> {
    let local = async {
        loop {
            let found = cache.get("k").await.unwrap().unwrap();
            if found.source() == Source::Local {
                return found;
            }
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(LONG, local).await.expect("the level is trusted")
}

type Caller = tokio::task::JoinHandle<Result<Fetched<u64>, Error>>;

/// A load that has begun and gives this value once the sender is used.
async fn hold(cache: &Cache<u64>, value: u64) -> (oneshot::Sender<()>, Caller) {
    let (began, begins) = oneshot::channel();
    let (go, told) = oneshot::channel::<()>();
    let cache = cache.clone();
    let caller = tokio::spawn(async move {
        let load = || async move {
            began.send(()).unwrap();
            told.await.unwrap();
            Ok::<_, io::Error>(value)
        };
        cache.get_or_load("k", load).await
    });
    begins.await.unwrap();
    (go, caller)
}

redkit_testkit::suite! {
    async fn an_entry_is_removed_only_while_it_is_the_one_that_a_caller_saw(fixture: Fixture) -> Result<(), Error> {
        let (a, b) = two(&fixture).await;
        a.set("k", &1).await?;
        let first = seen(&b).await;
        a.set("k", &2).await?;
        assert!(!b.invalidate_seen("k", &first).await?);
        assert_eq!(a.get("k").await?.as_deref(), Some(&2), "another entry stays");
        let second = seen(&b).await;
        assert!(a.invalidate_seen("k", &second).await?);
        assert!(a.get("k").await?.is_none());
        assert!(!b.invalidate_seen("k", &second).await?, "it is not there any more");

        // A caller that loads or writes an entry has seen it.
        let load = || async { Ok::<_, io::Error>(3) };
        let loaded = a.get_or_load("k", load).await?;
        assert!(b.invalidate_seen("k", &loaded).await?);
        let written = a.write_through("k", load).await?;
        assert!(b.invalidate_seen("k", &written).await?);
        a.get_or_load("k", load).await?;
        let hit = b.get_or_load("k", load).await?;
        assert_eq!(hit.source(), Source::Redis);
        assert!(a.invalidate_seen("k", &hit.clone()).await?);

        // A key of another type holds no entry.
        let list = fixture.client.keyspace("cache", "numbers")?.key("k");
        fixture.client.call::<i64>(Command::new("RPUSH").key(&list).arg("x")).await?;
        assert!(!a.invalidate_seen("k", &hit).await?);
        assert_eq!(fixture.client.call::<i64>(Command::new("LLEN").key(&list)).await?, 1);
        Ok(())
    }

    async fn a_caller_that_saw_the_same_entry_does_not_take_the_load_along(fixture: Fixture) -> Result<(), Error> {
        let (a, b) = two(&fixture).await;
        a.set("k", &1).await?;
        let (by_a, by_b, by_other) = (seen(&a).await, seen(&b).await, seen(&a).await);
        assert!(a.invalidate_seen("k", &by_a).await?);
        let (go, caller) = hold(&a, 2).await;
        assert!(!b.invalidate_seen("k", &by_b).await?);
        assert!(!a.invalidate_seen("k", &by_other).await?, "nor in its own process");
        let own = a.get_or_load("k", || async { Err::<u64, _>(io::Error::other("a second load here")) });
        let waits = b.get_or_load("k", || async { Err::<u64, _>(io::Error::other("a second load there")) });
        let (own, waits, ()) = tokio::join!(own, waits, async {
            while b.stats().waits == 0 {
                sleep(Duration::from_millis(1)).await;
            }
            go.send(()).unwrap();
        });
        let (own, waits) = (own?, waits?);
        assert_eq!((*own, own.source()), (2, Source::Shared));
        assert_eq!((*waits, waits.source()), (2, Source::Shared));
        assert_eq!(*caller.await.unwrap()?, 2);
        assert_eq!(b.get("k").await?.as_deref(), Some(&2), "the load was kept");
        Ok(())
    }

    async fn a_load_from_before_goes_with_what_was_seen(fixture: Fixture) -> Result<(), Error> {
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let build = |client| numbers(client).stale_for(LONG).build().unwrap();
        let (a, b) = (build(&fixture.client), build(&other));
        a.set_with("k", redkit_cache::Loaded::new(1).ttl(Duration::from_millis(1))).await?;
        sleep(Duration::from_millis(20)).await;
        let stale = seen(&b).await;
        assert_eq!(stale.source(), Source::Stale);
        let (go, caller) = hold(&a, 2).await;
        assert!(b.invalidate_seen("k", &stale).await?);
        let anew = a.get_or_load("k", || async { Ok::<_, io::Error>(3) });
        let anew = timeout(Duration::from_secs(8), anew).await.expect("no caller waits for the load of before")?;
        assert_eq!(*anew, 3);
        go.send(()).unwrap();
        assert_eq!(*caller.await.unwrap()?, 2);
        assert_eq!(a.get("k").await?.as_deref(), Some(&3), "the load of before was not kept");
        Ok(())
    }

    async fn a_reload_leaves_the_value_to_the_others_until_it_has_another(fixture: Fixture) -> Result<(), Error> {
        let (a, b) = two(&fixture).await;
        a.set("k", &1).await?;
        let (by_a, by_b) = (seen(&a).await, seen(&b).await);
        let (began, begins) = oneshot::channel();
        let (go, told) = oneshot::channel::<()>();
        let held = || async move {
            began.send(()).unwrap();
            told.await.unwrap();
            Ok::<_, io::Error>(2)
        };
        let first = a.reload("k", &by_a, held);
        let meanwhile = async {
            begins.await.unwrap();
            let hit = b.get_or_load("k", || async { Err::<u64, _>(io::Error::other("not now")) }).await?;
            assert_eq!((*hit, hit.source()), (1, Source::Redis));
            let second = b.reload("k", &by_b, || async { Err::<u64, _>(io::Error::other("a second load")) });
            let (second, ()) = tokio::join!(second, async {
                while b.stats().waits == 0 {
                    sleep(Duration::from_millis(1)).await;
                }
                go.send(()).unwrap();
            });
            second
        };
        let (first, second) = tokio::join!(first, meanwhile);
        let (first, second) = (first?, second?);
        assert_eq!((*first, first.source()), (2, Source::Loaded));
        assert_eq!((*second, second.source()), (2, Source::Shared));
        let late = b.reload("k", &by_b, || async { Err::<u64, _>(io::Error::other("another is there")) }).await?;
        assert_eq!((*late, late.source()), (2, Source::Redis));
        Ok(())
    }

    async fn a_reload_that_fails_gives_what_was_seen_and_leaves_it(fixture: Fixture) -> Result<(), Error> {
        let (a, b) = two(&fixture).await;
        a.set("k", &1).await?;
        let kept = a.reload("k", &seen(&a).await, || async { Err::<u64, _>(io::Error::other("the source is down")) }).await?;
        assert_eq!((*kept, kept.source()), (1, Source::Stale));
        let hit = b.get("k").await?.unwrap();
        assert_eq!((*hit, hit.source()), (1, Source::Redis));
        // A value that a reload reads before an invalidation is not kept after it.
        let cache = b.clone();
        let anew = || async move {
            cache.invalidate("k").await?;
            Ok::<_, Error>(2)
        };
        assert_eq!(*a.reload("k", &seen(&a).await, anew).await?, 2);
        assert!(b.get("k").await?.is_none());
        Ok(())
    }

    async fn a_reload_asks_a_source_that_has_just_failed(fixture: Fixture) -> Result<(), Error> {
        let (a, b) = two(&fixture).await;
        a.set("k", &1).await?;
        let (by_a, by_b) = (seen(&a).await, seen(&b).await);
        let kept = a.reload("k", &by_a, || async { Err::<u64, _>(io::Error::other("the source is down")) }).await?;
        assert_eq!((*kept, kept.source()), (1, Source::Stale));
        let loaded = b.reload("k", &by_b, || async { Ok::<_, io::Error>(2) }).await?;
        assert_eq!((*loaded, loaded.source()), (2, Source::Loaded));
        Ok(())
    }

    async fn reloads_that_wait_for_another_process_share_its_failure(fixture: Fixture) -> Result<(), Error> {
        let (a, b) = two(&fixture).await;
        let third = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let c = numbers(&third).build().unwrap();
        a.set("k", &1).await?;
        let (calls, (fail, fails)) = (Arc::new(AtomicU64::new(0)), watch::channel(false));
        let reload = async |cache: &Cache<u64>| {
            let load = || {
                let (calls, mut fails) = (Arc::clone(&calls), fails.clone());
                async move {
                    calls.fetch_add(1, Ordering::Relaxed);
                    fails.wait_for(|fails| *fails).await.unwrap();
                    Err::<u64, _>(io::Error::other("the source is down"))
                }
            };
            cache.reload("k", &seen(cache).await, load).await
        };
        let processes = [&a, &b, &c];
        let all = join_all((0..9).map(|n| reload(processes[n % 3])));
        let all_wait = async {
            while processes.iter().filter(|cache| cache.stats().waits > 0).count() < 2
                || processes.iter().any(|cache| cache.stats().shared < 2)
            {
                sleep(Duration::from_millis(2)).await;
            }
            fail.send_replace(true);
        };
        let (all, ()) = tokio::join!(all, all_wait);
        for given in all {
            let given = given?;
            assert_eq!((*given, given.source()), (1, Source::Stale));
        }
        assert_eq!(calls.load(Ordering::Relaxed), 1, "the source is asked once for all of them");
        Ok(())
    }

    async fn a_reload_that_cannot_read_the_failure_of_another_process_is_given_what_it_has_seen(fixture: Fixture) -> Result<(), Error> {
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let a = numbers(&fixture.client).share_errors::<OfOneVersion>().build()?;
        let b = numbers(&other).share_errors::<OfAnother>().build()?;
        a.set("k", &1).await?;
        let (by_a, by_b) = (seen(&a).await, seen(&b).await);
        let (fail, fails) = oneshot::channel::<()>();
        let failing = a.reload("k", &by_a, || {
            let fails = fails;
            async move {
                fails.await.unwrap();
                Err::<u64, _>(OfOneVersion(7))
            }
        });
        let waiting = b.reload("k", &by_b, || async { Ok::<_, OfAnother>(2) });
        let b_waits = async {
            while b.stats().waits == 0 {
                sleep(Duration::from_millis(2)).await;
            }
            fail.send(()).unwrap();
        };
        let begun = async {
            while a.stats().misses == 0 {
                sleep(Duration::from_millis(2)).await;
            }
            tokio::join!(waiting, b_waits).0
        };
        let (failed, given) = tokio::join!(failing, begun);
        for given in [failed?, given?] {
            assert_eq!((*given, given.source()), (1, Source::Stale), "the source has just failed");
        }
        Ok(())
    }

    async fn an_entry_that_this_process_saw_is_gone_here_whoever_removed_it(fixture: Fixture) -> Result<(), Error> {
        // No message reaches this process in time: the level's bound is long.
        let backend = FaultyBackend::new(Arc::clone(fixture.client.backend()));
        let far = backend.client_with(&fixture.config().unwrap());
        let build = |client| numbers(client).ttl(60 * LONG).l1(level()).build().unwrap();
        let (a, b) = (build(&fixture.client), build(&far));
        backend.take_over(|_| true);
        a.set("k", &1).await?;
        let local = kept_here(&b).await;
        let by_a = seen(&a).await;
        assert!(a.invalidate_seen("k", &by_a).await?);
        assert_eq!(b.get("k").await?.unwrap().source(), Source::Local, "it was not told");
        assert!(!b.invalidate_seen("k", &local).await?, "another process was first");
        assert_eq!(*b.get_or_load("k", || async { Ok::<_, io::Error>(2) }).await?, 2);
        Ok(())
    }
}

#[tokio::test]
async fn for_what_was_not_kept_nothing_is_asked() {
    let backend = FaultyBackend::embedded();
    let cache = numbers(&backend.client())
        .redis_timeout(Duration::from_millis(50))
        .build()
        .unwrap();
    backend.set(Rule::new(Injection::NotSent));
    let load = || async { Ok::<_, io::Error>(1) };
    let bypassed = cache.get_or_load("k", load).await.unwrap();
    assert_eq!(bypassed.source(), Source::Bypassed);
    backend.clear();
    let given = || async { Ok::<_, io::Error>(redkit_cache::Loaded::new(1).do_not_cache()) };
    let given = cache.get_or_load("k", given).await.unwrap();
    backend.forget();
    for fetched in [bypassed, given] {
        assert!(!cache.invalidate_seen("k", &fetched).await.unwrap());
    }
    assert!(backend.seen().is_empty());
}

/// The process hears of no change, and keeps what it has.
#[tokio::test]
async fn a_look_past_what_this_process_keeps_takes_it_from_nobody_until_redis_has_answered() {
    let near = FaultyBackend::embedded();
    let others = numbers(&near.client()).build().unwrap();
    let far = FaultyBackend::new(Arc::clone(&near) as Arc<dyn Backend>);
    far.take_over(|_| true);
    let client = far.client_with(&ClientConfig::default());
    let cache = numbers(&client).l1(level()).build().unwrap();
    let source = async || {
        let found = cache.get("k").await.unwrap();
        found.map(|found| (*found, found.source()))
    };
    others.set("k", &1).await.unwrap();
    kept_here(&cache).await;
    for failure in [Injection::NotSent, Injection::Refuse("LOADING", "wait")] {
        far.set(Rule::new(failure));
        assert!(cache.peek_in_redis("k").await.is_err());
        assert_eq!(source().await, Some((1, Source::Local)));
    }
    far.clear();
    let same = cache.peek_in_redis("k").await.unwrap().unwrap();
    assert_eq!((*same, same.source()), (1, Source::Redis));
    assert_eq!(source().await, Some((1, Source::Local)));
    others.set("k", &2).await.unwrap();
    let newer = cache.peek_in_redis("k").await.unwrap().unwrap();
    assert_eq!((*newer, newer.source()), (2, Source::Redis));
    assert_eq!(source().await, Some((2, Source::Local)), "it is replaced");
    others.invalidate("k").await.unwrap();
    assert!(cache.peek_in_redis("k").await.unwrap().is_none());
    assert_eq!(source().await, None, "it is dropped");
}

#[tokio::test(start_paused = true)]
async fn a_value_that_this_process_keeps_is_loaded_anew_for_a_caller_that_does_not_take_it() {
    let backend = FaultyBackend::embedded();
    let cache = numbers(&backend.client()).l1(level()).build().unwrap();
    cache.set("k", &1).await.unwrap();
    let local = kept_here(&cache).await;
    let load = || async { Ok::<_, io::Error>(2) };
    let loaded = cache.reload("k", &local, load).await.unwrap();
    assert_eq!((*loaded, loaded.source()), (2, Source::Loaded));
}

/// The other caller waits for a load of another process, and is not woken when that has ended.
#[tokio::test(start_paused = true)]
async fn a_reload_that_waits_with_another_caller_is_not_given_what_it_has_seen() {
    let near = FaultyBackend::embedded();
    let far = FaultyBackend::new(Arc::clone(&near) as Arc<dyn Backend>);
    far.take_over(|_| true);
    let a = numbers(&near.client()).build().unwrap();
    let b = numbers(&far.client_with(&ClientConfig::default()));
    let b = b.build().unwrap();
    let (go, caller) = hold(&a, 1).await;
    let waits = {
        let b = b.clone();
        let load = || async { Err::<u64, _>(io::Error::other("another loads")) };
        tokio::spawn(async move { b.get_or_load("k", load).await })
    };
    while b.stats().waits == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    go.send(()).unwrap();
    assert_eq!(*caller.await.unwrap().unwrap(), 1);
    let load = || async { Ok::<_, io::Error>(2) };
    let loaded = b.reload("k", &seen(&b).await, load).await.unwrap();
    assert_eq!((*loaded, loaded.source()), (2, Source::Loaded));
    assert_eq!(*waits.await.unwrap().unwrap(), 1);
}

/// The refresh ends at once, because another process loads.
#[tokio::test(start_paused = true)]
async fn a_reload_that_follows_a_refresh_is_not_given_what_it_has_seen() {
    let near = FaultyBackend::embedded();
    let far = FaultyBackend::new(Arc::clone(&near) as Arc<dyn Backend>);
    let a = numbers(&near.client()).build().unwrap();
    let b = numbers(&far.client_with(&ClientConfig::default())).refresh_ahead(0.5);
    let b = b.build().unwrap();
    a.set("k", &1).await.unwrap();
    let (by_a, by_b) = (seen(&a).await, seen(&b).await);
    let (began, begins) = oneshot::channel();
    let (go, told) = oneshot::channel::<()>();
    let loads = tokio::spawn(async move {
        let load = || async move {
            began.send(()).unwrap();
            told.await.unwrap();
            Ok::<_, io::Error>(2)
        };
        a.reload("k", &by_a, load).await
    });
    begins.await.unwrap();
    sleep(LONG * 2 / 3).await;
    let gate = Gate::closed();
    let looks_up = |command: &Command| command.name().starts_with("EVAL");
    far.set(
        Rule::new(Injection::HoldRequest(gate.clone()))
            .on(looks_up)
            .times(1),
    );
    let refuse = || async { Err::<u64, _>(io::Error::other("another process loads")) };
    let hit = b.get_or_load("k", refuse).await.unwrap();
    assert_eq!((*hit, hit.source()), (1, Source::Redis));
    gate.reached(1).await;
    let meanwhile = async {
        while b.stats().shared == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        gate.open();
        while b.stats().waits == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        go.send(()).unwrap();
    };
    let both = async { tokio::join!(b.reload("k", &by_b, refuse), meanwhile) };
    let (reloaded, ()) = timeout(LONG / 6, both)
        .await
        .expect("it waits for the other process");
    let reloaded = reloaded.unwrap();
    assert_eq!((*reloaded, reloaded.source()), (2, Source::Shared));
    assert_eq!(*loads.await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_waits_too_long_for_another_process_is_given_what_it_has_seen() {
    let backend = FaultyBackend::embedded();
    let a = numbers(&backend.client()).build().unwrap();
    let b = numbers(&backend.client()).wait_timeout(LONG);
    let b = b.build().unwrap();
    a.set("k", &1).await.unwrap();
    let (by_a, by_b) = (seen(&a).await, seen(&b).await);
    let (began, begins) = oneshot::channel();
    let hangs = tokio::spawn(async move {
        let load = || async move {
            began.send(()).unwrap();
            sleep(2 * LONG).await;
            Ok::<_, io::Error>(2)
        };
        a.reload("k", &by_a, load).await
    });
    begins.await.unwrap();
    let load = || async { Ok::<_, io::Error>(3) };
    let given = b.reload("k", &by_b, load).await.unwrap();
    assert_eq!((*given, given.source()), (1, Source::Stale));
    assert_eq!(*hangs.await.unwrap().unwrap(), 2);
}

/// As with a source whose replica answers.
#[tokio::test(start_paused = true)]
async fn reloads_at_a_source_that_is_behind_share_one_load() {
    let cache = numbers(&FaultyBackend::embedded().client())
        .build()
        .unwrap();
    cache
        .set_with("k", Loaded::new(1).version(2))
        .await
        .unwrap();
    let newer = seen(&cache).await;
    let loads = AtomicU64::new(0);
    let load = || {
        loads.fetch_add(1, Ordering::Relaxed);
        async {
            sleep(Duration::from_millis(50)).await;
            Ok::<_, io::Error>(Loaded::new(0).version(1))
        }
    };
    let reloads = (0..10).map(|_| cache.reload("k", &newer, load));
    let mut outcomes = Vec::new();
    for outcome in join_all(reloads).await {
        let value = outcome.unwrap();
        assert_eq!(*value, 1);
        outcomes.push(value);
    }
    assert_eq!(loads.load(Ordering::Relaxed), 1);
    // Each caller has seen the entry by now: one asks the source again, and one removes it.
    for value in &outcomes {
        assert_eq!(*cache.reload("k", value, load).await.unwrap(), 1);
    }
    assert_eq!(loads.load(Ordering::Relaxed), 11);
    let removed = join_all(
        outcomes
            .iter()
            .map(|value| cache.invalidate_seen("k", value)),
    )
    .await;
    let removed = removed
        .into_iter()
        .filter(|removed| *removed.as_ref().unwrap());
    assert_eq!(removed.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_removal_takes_what_this_process_keeps_before_and_after_it() {
    let backend = FaultyBackend::embedded();
    let cache = numbers(&backend.client()).l1(level()).build().unwrap();
    cache.set("k", &1).await.unwrap();
    let local = kept_here(&cache).await;
    let gate = Gate::closed();
    let rule = Rule::new(Injection::HoldRequest(gate.clone()));
    let removes = |command: &Command| command.name().starts_with("EVAL");
    backend.set(rule.on(removes).times(1));
    let meanwhile = async {
        gate.reached(1).await;
        let found = cache.get("k").await.unwrap().unwrap();
        assert_eq!(found.source(), Source::Redis, "it is still there");
        kept_here(&cache).await;
        gate.open();
    };
    let (removed, ()) = tokio::join!(cache.invalidate_seen("k", &local), meanwhile);
    assert!(removed.unwrap());
    assert!(cache.get("k").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn no_caller_waits_for_a_load_from_before_a_removal_while_redis_is_down() {
    let backend = FaultyBackend::embedded();
    let cache = numbers(&backend.client()).stale_for(LONG);
    let cache = cache.build().unwrap();
    let short = redkit_cache::Loaded::new(1).ttl(Duration::from_millis(1));
    cache.set_with("k", short).await.unwrap();
    sleep(Duration::from_millis(20)).await;
    let stale = seen(&cache).await;
    let (go, caller) = hold(&cache, 2).await;
    assert!(cache.invalidate_seen("k", &stale).await.unwrap());
    backend.set(Rule::new(Injection::NotSent));
    let anew = cache.get_or_load("k", || async { Ok::<_, io::Error>(3) });
    let anew = timeout(LONG, anew)
        .await
        .expect("it does not wait")
        .unwrap();
    assert_eq!((*anew, anew.source()), (3, Source::Bypassed));
    go.send(()).unwrap();
    assert_eq!(*caller.await.unwrap().unwrap(), 2);
}

/// "There was none" may be the answer to a repetition of the call that has removed it.
#[tokio::test]
async fn on_a_cluster_a_removal_is_told_whatever_its_answer() {
    let backend = FaultyBackend::embedded();
    backend.set_topology(Topology::Cluster);
    let cache = numbers(&backend.client()).l1(level()).build().unwrap();
    cache.set("k", &1).await.unwrap();
    let first = seen(&cache).await;
    let scripts = || {
        let seen = backend.seen();
        let names = seen.iter().map(Command::name);
        names.filter(|name| name.starts_with("EVAL")).count()
    };
    for removed in [true, false] {
        // The engine knows the scripts the second time.
        backend.forget();
        assert_eq!(cache.invalidate_seen("k", &first).await.unwrap(), removed);
        assert!(scripts() >= 2, "the removal, and the news of it");
    }
}
