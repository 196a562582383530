//! Faults one by one, in virtual time: what a wait outlives, that the beginning and the end of an
//! outage are noticed, and what becomes of what is told in the background.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redkit_core::inspection::Fact;
use redkit_core::{Backend, Client, ClientConfig};
use redkit_embedded::Embedded;
use redkit_ratelimit::{
    ConcurrencyLimiter, DecidedBy, Error, LimitSet, OnOutage, Policy, Quota, RateLimiter,
};
use redkit_testkit::{FaultyBackend, Injection, Rule};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use crate::said::{Said, listen};
use crate::state::dump;

const MINUTE: Duration = Duration::from_secs(60);

fn engine() -> Client {
    Client::from_backend(Arc::new(Embedded::new()), &ClientConfig::default()).unwrap()
}

fn limiter(client: &Client, on_outage: OnOutage) -> RateLimiter {
    RateLimiter::builder(client, "l")
        .policy(Policy::fixed_window(Quota::per(1, Duration::from_secs(10))))
        .on_outage(on_outage)
        .build()
        .unwrap()
}

fn places(client: &Client, on_outage: OnOutage) -> ConcurrencyLimiter {
    ConcurrencyLimiter::builder(client, "p")
        .limit(1)
        .on_outage(on_outage)
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_wait_outlives_faults_in_which_nothing_was_done() {
    for fault in [Injection::NotSent, Injection::Refuse("LOADING", "wait")] {
        let backend = FaultyBackend::embedded();
        let client = backend.client();
        let limiter = limiter(&client, OnOutage::Error);
        let places = places(&client, OnOutage::Error);
        assert!(limiter.check("k").await.unwrap().is_allowed());
        let held = places.try_acquire("k").await.unwrap().unwrap();
        let waiting = tokio::spawn({
            let (limiter, places) = (limiter.clone(), places.clone());
            async move { tokio::join!(limiter.acquire("k", MINUTE), places.acquire("k", MINUTE)) }
        });
        sleep(Duration::from_secs(1)).await;
        let asked = backend.seen().len();
        backend.set(Rule::new(fault.clone()));
        sleep(Duration::from_secs(12)).await;
        let asked = backend.seen().len() - asked;
        // Two waiters, once a second each, and renewals; a few more at the beginning. Asking all the
        // time would be ten times as much.
        assert!((20..60).contains(&asked), "{fault:?}: {asked} times");
        backend.clear();
        held.release().await.unwrap();
        let start = Instant::now();
        let (units, place) = waiting.await.unwrap();
        assert!(units.unwrap().is_allowed(), "{fault:?}");
        assert!(place.unwrap().is_some(), "{fault:?}");
        assert!(
            start.elapsed() <= Duration::from_millis(1_100),
            "{:?}",
            start.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_could_not_ask_ends_in_time_with_the_reason() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let (limiter, places) = (
        limiter(&client, OnOutage::Error),
        places(&client, OnOutage::Error),
    );
    backend.set(Rule::new(Injection::NotSent));
    let start = Instant::now();
    assert!(limiter.check("k").await.is_err() && places.try_acquire("k").await.is_err());
    assert_eq!(
        start.elapsed(),
        Duration::ZERO,
        "a call that does not wait is told at once"
    );
    let wait = Duration::from_secs(5);
    let error = limiter.acquire("k", wait).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let took = start.elapsed();
    assert!(
        took >= wait && took <= wait + Duration::from_millis(5),
        "{took:?}"
    );
    assert!(places.acquire("k", wait).await.is_err());
    assert!(start.elapsed() <= 2 * wait + Duration::from_millis(10));
    assert_eq!(limiter.stats().in_outage, 0);
}

/// The call may have been let through: asking again could take twice.
#[tokio::test(start_paused = true)]
async fn a_lost_reply_ends_a_wait() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let limiter = limiter(&client, OnOutage::Error);
    // The server knows the scripts.
    let other = limiter.acquire("other", MINUTE).await.unwrap();
    assert!(other.is_allowed());
    let given_up = limiter.acquire("other", MINUTE);
    assert!(timeout(Duration::from_millis(1), given_up).await.is_err());
    sleep(Duration::from_millis(1)).await;
    backend.set(Rule::new(Injection::LoseReply));
    let visits = backend.count("{k}:heartbeats");
    let error = limiter.acquire("k", MINUTE).await.unwrap_err();
    assert!(
        matches!(&error, Error::Core(error) if error.is_maybe()),
        "{error}"
    );
    backend.clear();
    sleep(Duration::from_millis(1)).await;
    let visits = backend.count("{k}:heartbeats") - visits;
    assert_eq!(visits, 2, "one visit, and the place given back");
    let check = limiter.check("k").await.unwrap();
    assert!(!check.is_allowed(), "it had been let through");
}

/// Its connection hung, and what was sent on it arrives when the place was given back on another.
#[tokio::test(start_paused = true)]
async fn a_visit_that_arrives_after_its_place_was_given_back_takes_none() {
    let engine = Arc::new(Embedded::new());
    let backend = FaultyBackend::new(engine.clone());
    let places = places(&backend.client(), OnOutage::Error);
    // The server knows the scripts.
    let held = places.acquire("k", MINUTE).await.unwrap().unwrap();
    held.release().await.unwrap();
    backend.forget();
    backend.set(Rule::new(Injection::LoseRequest).times(1));
    let error = places.acquire("k", MINUTE).await.unwrap_err();
    assert!(
        matches!(&error, Error::Core(error) if error.is_maybe()),
        "{error}"
    );
    let visit = backend.seen().remove(0);
    sleep(Duration::from_secs(1)).await;
    engine.call(&visit).await.unwrap();
    let free = places.try_acquire("k").await.unwrap();
    assert!(free.is_some(), "no lease was taken for nobody");
}

/// A server that hangs costs a decision its own timeout, and not the client's, whatever asks.
#[tokio::test(start_paused = true)]
async fn a_decision_waits_for_a_hung_server_no_longer_than_its_timeout() {
    for (on_outage, by) in [
        (OnOutage::Open, Some(DecidedBy::Open)),
        (OnOutage::Closed, Some(DecidedBy::Closed)),
        (OnOutage::local(engine(), 1), Some(DecidedBy::Local)),
        (OnOutage::Error, None),
    ] {
        let backend = FaultyBackend::embedded();
        let client = backend.client();
        let usual = limiter(&client, on_outage.clone());
        let hasty = RateLimiter::builder(&client, "hasty")
            .policy(Policy::gcra(Quota::per_hour(10)))
            .on_outage(on_outage.clone())
            .decision_timeout(Duration::from_millis(30))
            .build()
            .unwrap();
        let places = places(&client, on_outage);
        backend.set(Rule::new(Injection::HangBefore));
        let start = Instant::now();
        let took = || {
            let took = Instant::now() - start;
            u64::try_from(took.as_millis()).unwrap()
        };
        let decided_by = usual
            .check("k")
            .await
            .ok()
            .map(|decision| decision.decided_by());
        assert_eq!((decided_by, took()), (by, 100), "the default");
        drop(hasty.check("k").await);
        assert_eq!(took(), 130);
        drop(hasty.peek("k").await);
        assert_eq!(took(), 160);
        drop(places.try_acquire("k").await);
        assert_eq!(took(), 260);
        let set = LimitSet::new()
            .limit(&usual, "k")
            .limit(&hasty, "k")
            .lease(&places, "k");
        drop(set.check().await);
        assert_eq!(took(), 290, "the shortest of a set");
        // A wait gives the server as long as it would wait.
        drop(usual.acquire("k", Duration::from_millis(500)).await);
        assert_eq!(took(), 790);
        drop(usual.acquire("k", Duration::from_millis(1)).await);
        assert_eq!(took(), 890);
    }
    let client = FaultyBackend::embedded().client();
    let zero = Duration::ZERO;
    let policy = Policy::gcra(Quota::per_hour(10));
    let units = RateLimiter::builder(&client, "l")
        .policy(policy)
        .decision_timeout(zero);
    let error = units.build().unwrap_err().to_string();
    assert!(error.contains("decision_timeout"), "{error}");
    let places = ConcurrencyLimiter::builder(&client, "p")
        .limit(1)
        .decision_timeout(zero);
    let error = places.build().unwrap_err().to_string();
    assert!(error.contains("decision_timeout"), "{error}");
}

/// What a lost reply may have charged stays charged, once: giving it back blindly could give back
/// what another call took.
#[tokio::test(start_paused = true)]
async fn a_call_whose_reply_was_lost_stays_charged_once_whatever_decided_it() {
    for (on_outage, allowed) in [
        (OnOutage::Open, true),
        (OnOutage::Closed, false),
        (OnOutage::local(engine(), 1), true),
    ] {
        let backend = FaultyBackend::embedded();
        let client = backend.client();
        let limiter = RateLimiter::builder(&client, "l")
            .policy(Policy::sliding_log(Quota::per_hour(10)))
            .on_outage(on_outage)
            .build()
            .unwrap();
        // The server knows the script.
        assert!(limiter.check("k").await.unwrap().is_allowed());
        backend.set(Rule::new(Injection::LoseReply));
        let decision = limiter.check_n("k", 3).await.unwrap();
        assert_eq!(decision.is_allowed(), allowed);
        assert_ne!(decision.decided_by(), DecidedBy::Redis);
        backend.clear();
        sleep(Duration::from_secs(10)).await;
        assert_eq!(limiter.peek("k").await.unwrap().remaining(), 6);
        // A receipt of the outage is one for this process's share, and not for the server's.
        if let Some(receipt) = decision.receipt() {
            receipt.refund().await.unwrap();
        }
        assert_eq!(limiter.peek("k").await.unwrap().remaining(), 6);
    }
}

#[tokio::test(start_paused = true)]
async fn the_choice_for_an_outage_also_holds_for_waiters() {
    for (on_outage, allowed, by) in [
        (OnOutage::Open, true, DecidedBy::Open),
        (OnOutage::Closed, false, DecidedBy::Closed),
        (OnOutage::local(engine(), 1), true, DecidedBy::Local),
    ] {
        let backend = FaultyBackend::embedded();
        let client = backend.client();
        let limiter = limiter(&client, on_outage.clone());
        assert!(limiter.check("k").await.unwrap().is_allowed());
        let waiting = tokio::spawn({
            let limiter = limiter.clone();
            async move { limiter.acquire("k", MINUTE).await.unwrap() }
        });
        sleep(Duration::from_millis(500)).await;
        backend.set(Rule::new(Injection::NotSent));
        let start = Instant::now();
        let decision = waiting.await.unwrap();
        assert_eq!(
            (decision.is_allowed(), decision.decided_by()),
            (allowed, by)
        );
        assert!(
            start.elapsed() <= Duration::from_secs(1),
            "{:?}",
            start.elapsed()
        );
    }
}

/// An operator is told once of each, by whatever calls there are.
#[tokio::test(start_paused = true)]
async fn every_kind_of_call_notices_the_beginning_and_the_end_of_an_outage() {
    let said = Arc::new(Said::default());
    let _listening = listen(&said);
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    for on_outage in [
        OnOutage::Open,
        OnOutage::Closed,
        OnOutage::local(engine(), 1),
    ] {
        let limiter = limiter(&client, on_outage.clone());
        let places = places(&client, on_outage);
        let keys = AtomicUsize::new(0);
        let ask = async |how: &str| {
            let key = format!("k{}", keys.fetch_add(1, Ordering::Relaxed));
            let together = LimitSet::new();
            match how {
                "check" => drop(limiter.check(&key).await.unwrap()),
                "acquire" => drop(limiter.acquire(&key, Duration::ZERO).await.unwrap()),
                "units" => drop(together.limit(&limiter, &key).check().await.unwrap()),
                "place" => drop(places.try_acquire(&key).await.unwrap()),
                _ => drop(together.lease(&places, &key).check().await.unwrap()),
            }
        };
        for kinds in [&["check", "acquire", "units"][..], &["place", "lease"]] {
            for (begins, ends) in kinds
                .iter()
                .flat_map(|b| kinds.iter().map(move |e| (*b, *e)))
            {
                for (is_down, how, expected) in [(true, begins, (1, 0)), (false, ends, (0, 1))] {
                    backend.clear();
                    match is_down {
                        true => backend.set(Rule::new(Injection::NotSent)),
                        // It has ended when it has been calm for this long.
                        false => sleep(Duration::from_secs(5)).await,
                    }
                    ask(how).await;
                    ask(how).await;
                    let take = |count: &AtomicUsize| count.swap(0, Ordering::Relaxed);
                    let counts = (take(&said.begun), take(&said.ended));
                    assert_eq!(counts, expected, "{begins}, then {ends}: {is_down}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_quota_too_small_to_be_divided_is_denied_and_not_an_error() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let limiter = RateLimiter::builder(&client, "l")
        .policy(Policy::fixed_window(Quota::per_hour(100)))
        .on_outage(OnOutage::local(engine(), 4))
        .build()
        .unwrap();
    let three = Quota::per_hour(3);
    let served = limiter.check_with("k", 1, three).await.unwrap();
    assert_eq!(
        (served.is_allowed(), served.decided_by()),
        (true, DecidedBy::Redis)
    );
    backend.set(Rule::new(Injection::NotSent));
    let denied = limiter.check_with("k", 1, three).await.unwrap();
    assert_eq!(
        (denied.is_allowed(), denied.decided_by()),
        (false, DecidedBy::Local)
    );
    assert!(denied.retry_after() >= Duration::from_secs(1));
    // Four can be divided.
    let one = limiter
        .check_with("k", 1, Quota::per_hour(4))
        .await
        .unwrap();
    assert_eq!((one.is_allowed(), one.limit()), (true, 1));
}

/// Beside others nobody is told to wait for their turn, by the server or without it.
#[tokio::test(start_paused = true)]
async fn a_leaky_bucket_beside_others_lets_through_what_can_go_at_once_also_in_an_outage() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let leaky = RateLimiter::builder(&client, "l")
        .policy(Policy::leaky(
            Quota::per_second(10).burst(2),
            Duration::from_secs(1),
        ))
        .on_outage(OnOutage::local(engine(), 2))
        .build()
        .unwrap();
    backend.set(Rule::new(Injection::NotSent));
    let call = async || {
        let decided = LimitSet::new().limit(&leaky, "k").check().await.unwrap();
        assert_eq!(decided.decision.decided_by(), DecidedBy::Local);
        assert_eq!(decided.decision.delay(), Duration::ZERO);
        decided.decision.is_allowed()
    };
    assert_eq!(
        [call().await, call().await],
        [true, false],
        "half of two at once"
    );
    let alone = leaky.check("k").await.unwrap();
    assert_eq!(
        (alone.is_allowed(), alone.delay()),
        (true, Duration::from_millis(200))
    );
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_dropped_still_gives_the_place_back() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let places = places(&client, OnOutage::Error);
    let permit = places.try_acquire("k").await.unwrap().unwrap();
    backend.set(Rule::new(Injection::HangBefore));
    assert!(
        timeout(Duration::from_secs(1), permit.release())
            .await
            .is_err()
    );
    backend.clear();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(dump(&client).await, []);
}

/// The client has the tasks: one that releases, one that renews.
#[tokio::test(start_paused = true)]
async fn the_tasks_end_with_their_owner_and_what_is_to_be_released_still_is() {
    let alive = || Handle::current().metrics().num_alive_tasks();
    let backend = FaultyBackend::embedded();
    let idle = alive();
    let take = async || {
        let places = places(&backend.client(), OnOutage::Error);
        let permit = places.try_acquire("k").await.unwrap().unwrap();
        (places, permit)
    };
    let left = async || dump(&backend.client()).await;
    let (places, permit) = take().await;
    assert!(alive() > idle);
    drop((permit, places));
    sleep(Duration::from_millis(1)).await;
    assert_eq!((alive(), left().await), (idle, vec![]));

    // A server that hangs does not keep them for longer than there is something to release.
    let (places, permit) = take().await;
    backend.set(Rule::new(Injection::HangBefore));
    drop((permit, places));
    sleep(Duration::from_secs(20)).await;
    assert_eq!(alive(), idle + 2, "the lease still runs");
    // A pause between two attempts is over then, too.
    sleep(Duration::from_secs(30)).await;
    assert_eq!(alive(), idle);
    backend.clear();
    assert_eq!(left().await, [], "it ran out by itself");
}

#[tokio::test(start_paused = true)]
async fn the_release_task_is_replaced_when_it_dies() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let places = ConcurrencyLimiter::builder(&client, "p")
        .limit(2)
        .build()
        .unwrap();
    let take = async |key: &str| places.try_acquire(key).await.unwrap().unwrap();
    let (first, second) = (take("a").await, take("b").await);
    backend.set(Rule::new(Injection::Panic).on_part("{a}"));
    drop(first);
    sleep(Duration::from_millis(1)).await;
    backend.clear();
    drop(second);
    sleep(Duration::from_millis(1)).await;
    let left: Vec<_> = dump(&client).await.into_iter().map(|one| one.key).collect();
    assert_eq!(
        left,
        ["ratelimit:p:{a}:concurrency"],
        "what it died of is lost, no more"
    );
}

/// Releases of a shard that hangs do not hold up those of others.
#[tokio::test(start_paused = true)]
async fn a_shard_that_hangs_holds_up_nobody_elses_releases() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let places = ConcurrencyLimiter::builder(&client, "p")
        .limit(1)
        .build()
        .unwrap();
    let take = async |key: String| places.try_acquire(key).await.unwrap().unwrap();
    let healthy = take("healthy".to_owned()).await;
    let mut hung = Vec::new();
    for n in 0..10 {
        hung.push(take(format!("hung-{n}")).await);
    }
    backend.set(Rule::new(Injection::HangBefore).on_part("{hung-").alone());
    for permit in hung {
        drop(permit);
        tokio::task::yield_now().await;
    }
    drop(healthy);
    sleep(Duration::from_millis(1)).await;
    assert!(places.try_acquire("healthy").await.unwrap().is_some());
}

/// Forty keys of a shard that hangs, and one of a shard that does not.
#[tokio::test(start_paused = true)]
async fn a_shard_that_hangs_loses_nobody_elses_leases() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let places = ConcurrencyLimiter::builder(&client, "p")
        .limit(1)
        .lease(Duration::from_secs(3))
        .build()
        .unwrap();
    let mut held = Vec::new();
    for n in 0..40 {
        held.push(
            places
                .try_acquire(format!("hung-{n}"))
                .await
                .unwrap()
                .unwrap(),
        );
    }
    let healthy = places.try_acquire("healthy").await.unwrap().unwrap();
    backend.set(Rule::new(Injection::HangBefore).on_part("{hung-").alone());
    timeout(MINUTE, async {
        for permit in &held {
            permit.lost().await;
        }
    })
    .await
    .expect("they are lost");
    sleep(MINUTE).await;
    assert!(!healthy.is_lost(), "renewed all the while");
    assert_eq!((places.held(), places.lost()), (1, 40));
}

#[tokio::test(start_paused = true)]
async fn a_set_that_ends_with_an_error_is_counted_by_each_of_its_limiters() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let limiter = limiter(&client, OnOutage::Error);
    let places = places(&client, OnOutage::Error);
    backend.set(Rule::new(Injection::HangBefore));
    let set = LimitSet::new().limit(&limiter, "k").lease(&places, "k");
    assert!(matches!(set.check().await.unwrap_err(), Error::Core(_)));
    let mut objects = client.inspect();
    objects.retain(|object| object.kind() == "limiter");
    assert_eq!(objects.len(), 2);
    for object in objects {
        let snapshot = object.snapshot();
        assert_eq!(
            snapshot.get("errors"),
            Some(&Fact::Count(1)),
            "{snapshot:?}"
        );
    }
}
