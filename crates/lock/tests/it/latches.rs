//! Count-down latches: set once, counted once by each name, woken waiters.

use std::time::Duration;

use redkit_core::{Client, ClientConfig, Command, ErrorKind};
use redkit_lock::{CountDownLatch, Error, LatchManager};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const LONG: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);

fn latch(client: &Client) -> CountDownLatch {
    let manager = LatchManager::builder(client, "import").build().unwrap();
    manager.latch("k").unwrap()
}

redkit_testkit::suite! {
    async fn a_latch_opens_when_it_was_counted_down(fixture: Fixture) {
        let latch = latch(&fixture.client);
        assert_eq!(latch.remaining().await.unwrap(), None);
        assert!(latch.set(3).await.unwrap());
        assert!(!latch.set(5).await.unwrap());
        assert_eq!(latch.count_down(1).await.unwrap(), 2);
        assert!(!latch.wait(Duration::from_millis(50)).await.unwrap());
        // More than is left is all that is left.
        assert_eq!(latch.count_down(5).await.unwrap(), 0);
        assert!(latch.wait(Duration::ZERO).await.unwrap());
        // It stays open.
        assert_eq!(latch.count_down(1).await.unwrap(), 0);
        assert!(!latch.set(1).await.unwrap());
        assert!(latch.delete().await.unwrap() && !latch.delete().await.unwrap());
        assert!(latch.set(1).await.unwrap());
    }

    async fn a_name_counts_once(fixture: Fixture) {
        let latch = latch(&fixture.client);
        latch.set(3).await.unwrap();
        for _ in 0..3 {
            assert_eq!(latch.count_down_as("part-1", 1).await.unwrap(), 2);
        }
        assert_eq!(latch.count_down_as("part-2", 2).await.unwrap(), 0);
        // Nothing of the names is kept once it is open.
        let key = fixture.client.key("latch:import:{k}:counted");
        let there: i64 = fixture.client.call(Command::new("EXISTS").key(&key)).await.unwrap();
        assert_eq!(there, 0);
    }

    async fn waiters_of_all_processes_are_woken_at_zero(fixture: Fixture) {
        let clients = [
            fixture.client.clone(),
            fixture.connect(fixture.config().unwrap()).await.unwrap(),
        ];
        let mut waiters = JoinSet::new();
        for number in 0..6 {
            // Some wait before it is set.
            let latch = latch(&clients[number % 2]);
            waiters.spawn(async move {
                assert!(latch.wait(LONG).await.unwrap());
                Instant::now()
            });
        }
        sleep(Duration::from_millis(200)).await;
        let latch = latch(&fixture.client);
        latch.set(1).await.unwrap();
        sleep(Duration::from_millis(200)).await;
        let opened = Instant::now();
        latch.count_down(1).await.unwrap();
        for woken in waiters.join_all().await {
            // Well before the waiter's own look after five seconds.
            assert!(woken - opened < 4 * SECOND, "{:?}", woken - opened);
        }
    }

    async fn impossible_counts_and_absent_latches_are_told(fixture: Fixture) {
        let latch = latch(&fixture.client);
        for error in [latch.set(0).await.unwrap_err(), latch.set(1_000_001).await.unwrap_err()] {
            assert!(error.to_string().contains("count") && error.kind() == ErrorKind::Usage);
        }
        let absent = latch.count_down(1).await.unwrap_err();
        assert!(matches!(absent, Error::NoLatch) && absent.to_string().contains("ttl"));
        latch.set(1).await.unwrap();
        assert!(matches!(latch.count_down_as("", 1).await, Err(Error::EmptyKey)));
        assert!(latch.count_down(0).await.unwrap_err().to_string().contains("count"));
        let manager = LatchManager::builder(&fixture.client, "import");
        assert!(manager.clone().ttl(Duration::ZERO).build().unwrap_err().to_string().contains("ttl"));
        assert!(matches!(manager.build().unwrap().latch(""), Err(Error::EmptyKey)));
    }

    #[paused]
    async fn a_latch_runs_out_after_its_last_count(fixture: Fixture) {
        let builder = LatchManager::builder(&fixture.client, "import").ttl(10 * SECOND);
        let latch = builder.build().unwrap().latch("k").unwrap();
        latch.set(3).await.unwrap();
        for left in [2, 1] {
            sleep(9 * SECOND).await;
            assert_eq!(latch.count_down(1).await.unwrap(), left);
        }
        sleep(11 * SECOND).await;
        assert_eq!(latch.remaining().await.unwrap(), None);
        let key = fixture.client.key("latch:import:{k}:counted");
        let there: i64 = fixture.client.call(Command::new("EXISTS").key(&key)).await.unwrap();
        assert_eq!(there, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_count_whose_reply_is_lost_counts_once() {
    let backend = FaultyBackend::embedded();
    let config = ClientConfig::default().retry(3, MOMENT, MOMENT);
    let latch = latch(&backend.client_with(&config));
    // So that the reply that is lost is not `NOSCRIPT`.
    latch.set(1).await.unwrap();
    latch.count_down(1).await.unwrap();
    latch.delete().await.unwrap();
    backend.add(Rule::new(Injection::LoseReply).times(1));
    assert!(latch.set(3).await.unwrap(), "the repetition knows its own");
    backend.add(Rule::new(Injection::LoseReply).times(1));
    assert_eq!(latch.count_down(1).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_outlives_an_outage_and_ends_with_it_at_its_timeout() {
    let backend = FaultyBackend::embedded();
    let latch = latch(&backend.client());
    latch.set(1).await.unwrap();
    let other = latch.clone();
    let waiting = tokio::spawn(async move { other.wait(LONG).await });
    sleep(SECOND).await;
    backend.set(Rule::new(Injection::NotSent).on_name("HGET"));
    latch.count_down(1).await.unwrap();
    sleep(10 * SECOND).await;
    backend.clear();
    assert!(
        timeout(5 * SECOND, waiting)
            .await
            .unwrap()
            .unwrap()
            .unwrap()
    );
    backend.set(Rule::new(Injection::NotSent));
    let start = Instant::now();
    let error = latch.wait(3 * SECOND).await.unwrap_err();
    assert!(error.is_retryable() && start.elapsed() < 6 * SECOND);
}

#[tokio::test]
async fn forgotten_scripts_are_sent_again() {
    let client = FaultyBackend::embedded().client();
    let latch = latch(&client);
    latch.set(2).await.unwrap();
    latch.count_down(1).await.unwrap();
    let flush = Command::new("SCRIPT").arg("FLUSH");
    client.call::<()>(flush).await.unwrap();
    assert_eq!(latch.count_down(1).await.unwrap(), 0);
}

/// The subscription hangs: the wait ends with its time all the same.
#[tokio::test(start_paused = true)]
async fn a_subscription_that_hangs_makes_no_wait_longer() {
    let backend = FaultyBackend::embedded();
    let latch = latch(&backend.client());
    latch.set(1).await.unwrap();
    let subscribes = |command: &Command| command.name().ends_with("SUBSCRIBE");
    backend.set(Rule::new(Injection::HangBefore).on(subscribes));
    let start = Instant::now();
    assert!(!latch.wait(Duration::from_millis(50)).await.unwrap());
    let took = start.elapsed();
    assert!(took < Duration::from_millis(100), "{took:?}");
}

/// A replica may not know yet of the count that woke the waiter.
#[tokio::test]
async fn the_count_is_read_at_the_master() {
    let backend = FaultyBackend::embedded();
    let latch = latch(&backend.client());
    latch.set(1).await.unwrap();
    assert_eq!(latch.remaining().await.unwrap(), Some(1));
    let reads = |seen: &Command| seen.name() == "HGET";
    let reads: Vec<_> = backend.seen().into_iter().filter(reads).collect();
    assert!(!reads.is_empty() && reads.iter().all(Command::is_from_master));
}
