//! What dropped guards leave is released in the background: batched, bounded, repeated, counted.

use std::time::Duration;

use redkit_core::breaker::BreakerConfig;
use redkit_core::coordination::{Release, Token};
use redkit_core::{ClientConfig, Command};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};
use tokio::time::{Instant, sleep};

use super::{Held, exists, tally};

const MINUTE: Duration = Duration::from_secs(60);

redkit_testkit::suite! {
    #[networked]
    async fn what_a_guard_leaves_is_released_and_a_shutdown_waits_for_it(fixture: Fixture) {
        let client = fixture.connect(fixture.config().unwrap()).await.unwrap();
        for n in 0..100 {
            let held = Held::take(&client, &format!("held{n}"), MINUTE).await;
            client.release_later(Release::new([held.release()]));
        }
        client.shutdown().await;
        for n in 0..100 {
            assert!(!exists(&fixture.client, &format!("held{n}")).await, "{n}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_outlives_the_last_handle_of_its_client() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let held = Held::take(&client, "held", MINUTE).await;
    client.release_later(Release::new([held.release()]));
    drop(client);
    sleep(Duration::from_millis(10)).await;
    assert!(!exists(&backend.client(), "held").await);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_a_second_for_a_task_that_releases() {
    for (takes, waits) in [(400, 400), (5_000, 1_000)] {
        let backend = FaultyBackend::embedded();
        let client = backend.client();
        let (releasing, releases) = (client.releasing(), client.clone());
        let task = tokio::spawn(async move {
            sleep(Duration::from_millis(takes)).await;
            let released = releases.call::<u64>(Command::new("DEL").key("k")).await;
            drop(releasing);
            released.is_ok()
        });
        let start = Instant::now();
        client.shutdown().await;
        let took = start.elapsed();
        assert!(
            took.abs_diff(Duration::from_millis(waits)) < Duration::from_millis(20),
            "{took:?}"
        );
        assert_eq!(task.await.unwrap(), takes == waits);
    }
}

#[tokio::test(start_paused = true)]
async fn releases_go_together() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    client.prepare_releases();
    let mut all = Vec::new();
    for n in 0..64 {
        all.push(Held::take(&client, &format!("held{n}"), MINUTE).await);
    }
    backend.set(Rule::new(Injection::DelayRequest(Duration::from_secs(1))));
    let start = Instant::now();
    for held in &all {
        client.release_later(Release::new([held.release()]));
    }
    while exists_at_once(&backend, "held63").await {
        sleep(Duration::from_millis(100)).await;
    }
    // Two round trips, because the server did not know the script.
    assert!(
        start.elapsed() < Duration::from_millis(2500),
        "{:?}",
        start.elapsed()
    );
}

async fn exists_at_once(backend: &FaultyBackend, key: &'static str) -> bool {
    let seen = backend.seen();
    !seen
        .iter()
        .any(|c| c.name().starts_with("EVAL") && c.keys().any(|k| k == key.as_bytes()))
}

#[tokio::test(start_paused = true)]
async fn a_release_that_fails_is_repeated_while_it_is_worth_it() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let lost = tally("lost");
    for injection in [
        Injection::NotSent,
        Injection::LoseRequest,
        Injection::LoseReply,
    ] {
        let held = Held::take(&client, "held", MINUTE).await;
        backend.set(Rule::new(injection).on_part("held").times(5));
        let release = Release::new([held.release()]);
        let release = release
            .until(Instant::now() + MINUTE)
            .counted_by(lost.clone());
        client.release_later(release);
        sleep(MINUTE / 2).await;
        assert!(!exists(&client, "held").await);
    }
    assert_eq!(lost.get(), 0);

    let held = Held::take(&client, "held", MINUTE).await;
    backend.set(Rule::new(Injection::NotSent).on_part("held"));
    let release = || Release::new([held.release()]).counted_by(lost.clone());
    client.release_later(release().until(Instant::now() + Duration::from_secs(5)));
    client.release_later(release());
    sleep(Duration::from_secs(4)).await;
    assert_eq!(lost.get(), 1, "without an end it is tried once");
    sleep(Duration::from_secs(4)).await;
    assert_eq!(lost.get(), 2);
    backend.forget();
    sleep(MINUTE).await;
    assert!(backend.seen().is_empty(), "it is not tried for ever");
}

/// The server is away for hours.
#[tokio::test(start_paused = true)]
async fn a_patient_release_outlives_an_outage_of_hours_at_a_gentle_pace() {
    let hour = 60 * MINUTE;
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let lost = tally("lost");
    let patient = |held: &Held, time| {
        let release = Release::new([held.release()]).patiently_until(Instant::now() + time);
        client.release_later(release.counted_by(lost.clone()));
    };
    let held = Held::take(&client, "held", 10 * hour).await;
    backend.set(Rule::new(Injection::NotSent).on_part("held"));
    backend.forget();
    patient(&held, 10 * hour);
    sleep(8 * hour).await;
    let attempts = backend.seen().len();
    assert!(
        (8 * 60 * 4..8 * 60 * 10).contains(&attempts),
        "four to eight a minute, and a few more at first: {attempts}"
    );
    backend.clear();
    sleep(MINUTE / 4).await;
    assert!(!exists(&client, "held").await);
    assert_eq!(lost.get(), 0);
    // To its end, and no longer.
    let held = Held::take(&client, "held", hour).await;
    let until = Instant::now() + hour / 2;
    backend.set(Rule::new(Injection::NotSent).on_part("held"));
    patient(&held, hour / 2);
    tokio::time::sleep_until(until - Duration::from_secs(1)).await;
    backend.forget();
    assert_eq!(lost.get(), 0);
    sleep(Duration::from_millis(990)).await;
    assert!(
        !backend.seen().is_empty(),
        "it is tried just before the end"
    );
    sleep(Duration::from_secs(1)).await;
    assert_eq!(lost.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_soon_after_a_long_outage_sends_the_releases_that_wait() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let lost = tally("lost");
    let held = Held::take(&client, "held", 60 * MINUTE).await;
    backend.set(Rule::new(Injection::NotSent).on_part("held"));
    let release = Release::new([held.release()]).patiently_until(Instant::now() + 60 * MINUTE);
    client.release_later(release.counted_by(lost.clone()));
    // By then the pauses are many seconds.
    sleep(10 * MINUTE).await;
    backend.clear();
    assert!(exists(&client, "held").await);
    let start = Instant::now();
    client.shutdown().await;
    // It had nothing to wait for after the release.
    assert!(start.elapsed() < Duration::from_millis(100));
    sleep(MINUTE).await;
    assert_eq!(lost.get(), 0);
}

/// A node that is away for long leaves the others their room.
#[tokio::test(start_paused = true)]
async fn of_the_patient_no_more_than_half_of_the_places_are_for_longer_than_a_minute() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let lost = tally("lost");
    backend.set(Rule::new(Injection::NotSent));
    for _ in 0..8_192 + 100 {
        let remove = Command::new("DEL").key("k").idempotent(true);
        let release = Release::new([remove]).patiently_until(Instant::now() + 2 * MINUTE);
        client.release_later(release.counted_by(lost.clone()));
    }
    sleep(3 * MINUTE / 2).await;
    assert_eq!(lost.get(), 100);
    sleep(MINUTE).await;
    assert_eq!(lost.get(), 8_192 + 100);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_idempotent_is_not_repeated_when_its_reply_is_lost() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let lost = tally("lost");
    backend.set(Rule::new(Injection::LoseReply).on_name("INCR").times(1));
    let add = Command::new("INCR").key(client.key("n"));
    let release = Release::new([add]).until(Instant::now() + MINUTE);
    client.release_later(release.counted_by(lost.clone()));
    sleep(MINUTE).await;
    let get = Command::new("GET").key(client.key("n"));
    assert_eq!(client.call::<i64>(get).await.unwrap(), 1);
    assert_eq!(lost.get(), 1);
}

/// As when one node of a cluster cannot be reached: its requests were not sent, those of the others were
/// carried out.
#[tokio::test(start_paused = true)]
async fn of_a_release_only_the_requests_that_were_not_carried_out_are_repeated() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let lost = tally("lost");
    let add = |key: &str| Command::new("INCR").key(client.key(key));
    let count = async |key: &str| {
        let get = Command::new("GET").key(client.key(key));
        client.call::<Option<i64>>(get).await.unwrap()
    };
    let release = |keys: [&str; 3]| {
        let release = Release::new(keys.map(add)).until(Instant::now() + MINUTE);
        client.release_later(release.counted_by(lost.clone()));
    };
    let down = |injection, times| {
        let rule = Rule::new(injection).on_part("down").alone();
        backend.set(rule.times(times));
    };
    down(Injection::NotSent, 3);
    release(["up", "down", "also-up"]);
    sleep(MINUTE).await;
    assert_eq!(
        count("down").await,
        Some(1),
        "when the node was there again"
    );
    assert_eq!(
        (count("up").await, count("also-up").await),
        (Some(1), Some(1))
    );
    assert_eq!(lost.get(), 0);

    // Nobody knows whether it was done, and twice is not as good as once.
    down(Injection::LoseRequest, 1);
    release(["up", "down", "also-up"]);
    sleep(MINUTE).await;
    assert_eq!((count("down").await, lost.get()), (Some(1), 1));
    assert_eq!(
        (count("up").await, count("also-up").await),
        (Some(2), Some(2))
    );
}

/// The server is healthy: it is the client that refuses what is too large for its connection.
#[tokio::test(start_paused = true)]
async fn a_release_that_must_not_be_sent_takes_no_other_with_it() {
    let backend = FaultyBackend::embedded();
    let client = backend.client_with(&ClientConfig::default().max_value_bytes(1000));
    let (lost, others) = (tally("lost"), tally("lost"));
    let held = Held::take(&client, "held", MINUTE).await;
    let until = Instant::now() + MINUTE;
    let large = held.release().arg(vec![b'x'; 2000]);
    let large = Release::new([large]).until(until).counted_by(lost.clone());
    client.release_later(large);
    let release = Release::new([held.release()]).until(until);
    client.release_later(release.counted_by(others.clone()));
    sleep(Duration::from_millis(10)).await;
    assert!(!exists(&client, "held").await);
    assert_eq!((lost.get(), others.get()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_bounded_and_what_is_lost_is_counted() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let lost = tally("lost");
    backend.set(Rule::new(Injection::HangBefore));
    for _ in 0..16_384 + 500 {
        let remove = Command::new("DEL").key("k").arg(Token::random());
        let release = Release::new([remove.idempotent(true)]);
        client.release_later(release.counted_by(lost.clone()));
    }
    assert_eq!(lost.get(), 500);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(client.stats().in_flight, 32);
    // 256 batches of which 32 go at once, two seconds each.
    sleep(Duration::from_secs(17)).await;
    assert_eq!(lost.get(), 16_384 + 500);
}

/// Guards are dropped faster than the server is told.
#[tokio::test(start_paused = true)]
async fn a_release_that_is_repeated_waits_for_no_end_of_new_ones() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let until = Instant::now() + MINUTE;
    let release = |key: &str| {
        let remove = Command::new("DEL").key(client.key(key)).idempotent(true);
        client.release_later(Release::new([remove]).until(until));
    };
    backend.add(Rule::new(Injection::NotSent).on_part("first").times(1));
    backend.add(Rule::new(Injection::DelayReply(Duration::from_secs(1))));
    release("first");
    sleep(Duration::from_millis(1)).await;
    // Eight rounds of 32 batches.
    for _ in 0..16_000 {
        release("other");
    }
    sleep(Duration::from_millis(2_500)).await;
    assert_eq!(backend.count("first"), 2);
}

/// As with a node of a cluster that does not answer.
#[tokio::test(start_paused = true)]
async fn releases_that_hang_again_and_again_leave_places_to_new_ones() {
    let backend = FaultyBackend::embedded();
    let mut breaker = BreakerConfig::default();
    breaker.enabled = false;
    let client = backend.client_with(&ClientConfig::default().breaker(breaker));
    let until = Instant::now() + MINUTE;
    let release = |key: &str| {
        let remove = Command::new("DEL").key(client.key(key)).idempotent(true);
        client.release_later(Release::new([remove]).until(until));
    };
    backend.add(Rule::new(Injection::HangBefore).on_part("stuck"));
    for _ in 0..200 {
        release("stuck");
        sleep(Duration::from_millis(50)).await;
    }
    release("fresh");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(backend.count("fresh"), 1);
}

#[test]
fn a_guard_may_be_dropped_outside_of_its_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let lost = tally("lost");
    let del = || Release::new([Command::new("DEL").key("k")]).counted_by(lost.clone());
    client.release_later(del());
    assert_eq!(lost.get(), 1, "nothing runs that could do it");
    runtime.block_on(async { client.prepare_releases() });
    client.release_later(del());
    runtime.block_on(client.shutdown());
    assert_eq!((lost.get(), backend.count("DEL")), (1, 1));
}
