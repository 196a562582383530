//! Leases are renewed by one task, and are over at a deadline of the local clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redkit_core::coordination::{LeaseConfig, LeaseRenewal, Release};
use redkit_core::{CallError, ClientConfig, Command, FaultKind, Invocation, Value};
use redkit_testkit::{FaultyBackend, Fixture, Gate, Injection, Rule};
use tokio::time::{Instant, sleep, timeout};

use super::{Held, RENEW, exists, tally};

const TTL: Duration = Duration::from_secs(3);
/// What is left of the TTL when the allowance for drift is taken off.
const CERTAIN: Duration = Duration::from_millis(2970);

redkit_testkit::suite! {
    async fn a_lease_is_renewed_until_it_ends(fixture: Fixture) {
        let client = &fixture.client;
        let ttl = Duration::from_secs(2);
        let sent = Instant::now();
        let held = Held::take(client, "held", ttl).await;
        let lease = client.lease(held, LeaseConfig::new(ttl), sent);
        sleep(2 * ttl).await;
        assert!(exists(client, "held").await && !lease.is_lost());
        assert!(lease.renew().await.unwrap());
        assert_eq!(client.held_leases(), 1);
        assert!(lease.end());
        sleep(2 * ttl).await;
        assert!(!exists(client, "held").await);
        assert!(!lease.end() && !lease.renew().await.unwrap(), "it is over");
        assert_eq!(client.held_leases(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_holds_though_the_server_hangs() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let lost = tally("lost");
    let held = Held::take(&client, "held", TTL).await;
    let config = LeaseConfig::new(TTL).counted_by(lost.clone());
    let lease = client.lease(held, config, Instant::now());
    sleep(10 * TTL).await;
    assert!(!lease.is_lost());

    {
        backend.set(Rule::new(Injection::HangBefore).on_part("held"));
        let deadline = lease.valid_until();
        timeout(TTL, lease.lost())
            .await
            .expect("it is lost in time");
        let now = Instant::now();
        assert!(
            now >= deadline && now - deadline < Duration::from_millis(2),
            "{:?}",
            now - deadline
        );
        assert!(lease.is_lost() && lease.remaining().is_zero());
        backend.clear();
        sleep(TTL).await;
        assert!(lease.is_lost(), "for ever");
    }
    assert_eq!(lost.get(), 1);
    assert_eq!(client.held_leases(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_counted_from_the_sending() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let held = Held::take(&client, "held", TTL).await;
    let sent = Instant::now();
    sleep(TTL / 3).await; // the reply was slow
    let lease = client.lease(held, LeaseConfig::new(TTL), sent);
    assert_eq!(lease.remaining(), CERTAIN - TTL / 3);
    let slow = Duration::from_millis(400);
    backend.set(Rule::new(Injection::DelayReply(slow)).on_part("held"));
    let sent = Instant::now();
    assert!(lease.renew().await.unwrap());
    assert_eq!(lease.valid_until(), sent + CERTAIN);
}

#[tokio::test(start_paused = true)]
async fn failures_are_outlived_while_there_is_time() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let held = Held::take(&client, "held", TTL).await;
    let lease = client.lease(held, LeaseConfig::new(TTL), Instant::now());
    for injection in [
        Injection::NotSent,
        Injection::LoseRequest,
        Injection::LoseReply,
        Injection::HangBefore,
        Injection::Refuse("LOADING", "wait"),
    ] {
        backend.set(Rule::new(injection.clone()).on_part("held").times(2));
        sleep(2 * TTL).await;
        assert!(!lease.is_lost(), "{injection:?}");
        assert!(exists(&client, "held").await, "{injection:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_else_has_is_lost_at_once() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let held = Held::take(&client, "held", TTL).await;
    let lease = client.lease(held, LeaseConfig::new(TTL), Instant::now());
    let loss = lease.watch_loss();
    let _other = Held::take(&client, "held", 100 * TTL).await;
    let start = Instant::now();
    timeout(TTL / 2, loss)
        .await
        .expect("the next renewal says so");
    assert!(start.elapsed() >= TTL / 4, "{:?}", start.elapsed());
    assert!(lease.is_lost() && !lease.end());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_late_revives_nothing() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let held = Held::take(&client, "held", TTL).await;
    let release = held.release();
    let lease = client.lease(held, LeaseConfig::new(TTL), Instant::now());
    // The renewal has left, and is not there yet.
    let gate = Gate::closed();
    backend.set(Rule::new(Injection::HoldRequest(gate.clone())).on_script(&RENEW));
    gate.reached(1).await;
    assert!(lease.end());
    client.eval::<i64>(release).await.unwrap();
    gate.open();
    sleep(Duration::from_millis(1)).await;
    assert!(!exists(&client, "held").await);
    assert!(!lease.renew().await.unwrap());
    backend.forget();
    sleep(10 * TTL).await;
    assert!(backend.seen().is_empty(), "nothing is renewed any more");

    // The reply to the last renewal comes after the deadline.
    let held = Held::take(&client, "held", 100 * TTL).await;
    let lease = client.lease(held, LeaseConfig::new(TTL), Instant::now());
    backend.set(Rule::new(Injection::DelayReply(2 * TTL)).on_script(&RENEW));
    let by_hand = tokio::spawn({
        let loss = lease.watch_loss();
        async move {
            loss.await;
            Instant::now()
        }
    });
    sleep(3 * TTL).await;
    backend.clear();
    assert!(by_hand.await.unwrap() < Instant::now() - TTL);
    assert!(lease.is_lost() && !lease.renew().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_held_no_longer_than_it_may() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let sent = Instant::now();
    let held = Held::take(&client, "held", TTL).await;
    let config = LeaseConfig::new(TTL).hold_at_most(Duration::from_secs(10));
    let lease = client.lease(held, config, sent);
    lease.lost().await;
    assert_eq!(sent.elapsed().as_secs(), 10);
    // The last renewal asked for no more than what was left.
    let left = Command::new("PTTL").key(client.key("held"));
    let left: i64 = client.call(left).await.unwrap();
    assert!(left < 50, "{left} ms");
    backend.forget();
    sleep(10 * TTL).await;
    assert!(backend.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn all_leases_of_a_client_are_renewed_together() {
    const LEASES: usize = 10_000;
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let mut leases = Vec::with_capacity(LEASES);
    for n in 0..LEASES {
        let held = Held::take(&client, &format!("held{n}"), TTL).await;
        let of_namespace = client.with_namespace("another").unwrap();
        leases.push(of_namespace.lease(held, LeaseConfig::new(TTL), Instant::now()));
    }
    backend.forget();
    let before = client.stats().calls();
    sleep(2 * TTL).await;
    let seconds = 2 * TTL.as_secs();
    let calls = (client.stats().calls() - before) / seconds;
    let commands = backend.seen().len() as u64 / seconds;
    println!("{LEASES} leases of {TTL:?}: {calls} calls and {commands} commands a second");
    assert!(calls <= 60, "{calls} calls a second");
    assert!(
        (10_000..15_000).contains(&commands),
        "{commands} commands a second"
    );
    assert!(leases.iter().all(|lease| !lease.is_lost()));
    drop(leases);
    assert_eq!(client.held_leases(), 0);
}

/// Code of a user that panics where a lease is renewed.
struct Careless {
    held: Held,
    panics_on_reply: bool,
}

impl LeaseRenewal for Careless {
    fn renew(&self, ttl: Duration) -> Invocation {
        assert!(self.panics_on_reply, "a mistake in a call");
        self.held.renew(ttl)
    }

    fn is_held(&self, _: &Value) -> bool {
        panic!("a mistake in reading a reply");
    }
}

/// The others are renewed on, and by the same task.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_panics_costs_its_own_lease_and_no_other() {
    let (log, _guard) = crate::hints::log();
    let mut told = 0;
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let held = Held::take(&client, "held", TTL).await;
    let lease = client.lease(held, LeaseConfig::new(TTL), Instant::now());
    for panics_on_reply in [false, true] {
        let held = Held::take(&client, "careless", TTL).await;
        let careless = Careless {
            held,
            panics_on_reply,
        };
        let careless = client.lease(careless, LeaseConfig::new(TTL), Instant::now());
        timeout(2 * TTL, careless.lost())
            .await
            .expect("at its deadline");
        told += 1;
        assert_eq!(
            log.lines_with("a `LeaseRenewal` panics"),
            told,
            "once, however often it is tried"
        );
        sleep(10 * TTL).await;
        assert!(!lease.is_lost(), "{panics_on_reply}");
    }
    // A driver that panics has failed, and no more.
    backend.set(Rule::new(Injection::Panic).on_part("held").times(2));
    sleep(10 * TTL).await;
    assert!(!lease.is_lost() && exists(&client, "held").await);
}

struct TooLarge(Held);

impl LeaseRenewal for TooLarge {
    fn renew(&self, ttl: Duration) -> Invocation {
        self.0.renew(ttl).arg(vec![b'x'; 2000])
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_must_not_be_sent_costs_its_own_lease_and_no_other() {
    let (log, _guard) = crate::hints::log();
    let backend = FaultyBackend::embedded();
    let client = backend.client_with(&ClientConfig::default().max_value_bytes(1000));
    let held = Held::take(&client, "held", TTL).await;
    let lease = client.lease(held, LeaseConfig::new(TTL), Instant::now());
    let large = TooLarge(Held::take(&client, "large", TTL).await);
    let large = client.lease(large, LeaseConfig::new(TTL), Instant::now());
    timeout(2 * TTL, large.lost())
        .await
        .expect("at its deadline");
    let warnings = || {
        (
            log.lines_with("cannot renew leases"),
            log.lines_with("`max_value_bytes`"),
        )
    };
    assert_eq!(warnings(), (1, 1), "once, however often it is tried");
    sleep(10 * TTL).await;
    assert!(!lease.is_lost() && exists(&client, "held").await);
    assert_eq!(warnings(), (1, 1));
}

/// The limit is for callers; the server is well and answers each that is let in.
#[tokio::test(start_paused = true)]
async fn callers_that_fill_the_client_cost_it_no_lease_and_no_release() {
    let backend = FaultyBackend::embedded();
    let config = ClientConfig::default()
        .max_in_flight(1)
        .command_timeout(10 * TTL);
    let client = backend.client_with(&config);
    let held = Held::take(&client, "held", TTL).await;
    let release = held.release();
    let lease = client.lease(held, LeaseConfig::new(TTL), Instant::now());
    backend.set(Rule::new(Injection::HangBefore).on_part("hang"));
    let get = || client.call::<Option<String>>(Command::new("GET").key("hang"));
    let look = async {
        sleep(Duration::from_millis(1)).await;
        let error = get().await.unwrap_err();
        let fault = error.call_error().and_then(CallError::fault).unwrap();
        assert_eq!(fault.kind(), FaultKind::Overloaded);
        sleep(3 * TTL).await;
        assert!(lease.renew().await.unwrap());
        assert!(exists(&backend.client(), "held").await);
        lease.end();
        client.release_later(Release::new([release]));
        sleep(Duration::from_millis(10)).await;
        assert!(!exists(&backend.client(), "held").await);
    };
    tokio::select! {
        biased;
        () = look => {}
        answer = get() => panic!("it hangs: {answer:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn leases_are_counted_while_they_are_held() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let count = Arc::new(AtomicUsize::new(0));
    let take = async |key: &str| {
        let held = Held::take(&client, key, TTL).await;
        let config = LeaseConfig::new(TTL).counted_in(Arc::clone(&count));
        client.lease(held, config, Instant::now())
    };
    let (ended, dropped, lost) = (take("a").await, take("b").await, take("c").await);
    let now = || count.load(Ordering::Relaxed);
    assert_eq!(now(), 3);
    ended.end();
    drop((ended, dropped));
    assert_eq!(now(), 1);
    backend.set(Rule::new(Injection::HangBefore));
    lost.lost().await;
    assert_eq!(now(), 0);
    drop(lost);
    assert_eq!(now(), 0);
}

#[tokio::test(start_paused = true)]
async fn leases_of_different_lengths_do_not_hold_each_other_up() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let long = Held::take(&client, "long", 20 * TTL).await;
    let long = client.lease(long, LeaseConfig::new(20 * TTL), Instant::now());
    let short = Held::take(&client, "short", TTL / 10).await;
    let short = client.lease(short, LeaseConfig::new(TTL / 10), Instant::now());
    // Calls for the long one hang until their deadline, which is later than the short one's end.
    backend.set(Rule::new(Injection::HangBefore).on_part("long"));
    sleep(15 * TTL).await;
    assert!(!short.is_lost() && !long.is_lost());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_would_outlast_all_clocks_is_one_of_a_hundred_years() {
    let client = FaultyBackend::embedded().client();
    let held = Held::take(&client, "held", TTL).await;
    let lease = client.lease(held, LeaseConfig::new(Duration::MAX), Instant::now());
    assert!(!lease.is_lost() && lease.remaining() > 3600 * TTL);
    assert!(lease.renew().await.unwrap());
}
