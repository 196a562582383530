//! Idempotent executions: one in flight for a key, its result for all later calls, and nothing of a
//! runner that lost its lease.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redkit_core::{Client, ClientConfig, Command, ErrorKind};
use redkit_lock::{
    Error, Executed, IdempotentError, IdempotentExecution, IdempotentExecutionBuilder,
};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule, Server, ServerOptions};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep, timeout};

const MOMENT: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(30);

pub(crate) fn builder(client: &Client) -> IdempotentExecutionBuilder {
    IdempotentExecution::builder(client, "payments")
}

fn payments(client: &Client) -> IdempotentExecution {
    builder(client).build().unwrap()
}

/// Work that counts its runs and takes some time.
async fn pay(runs: &AtomicU32, time: Duration) -> Result<String, String> {
    let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
    sleep(time).await;
    Ok(format!("run {run}"))
}

/// Lets the server know all scripts, so that a reply that is lost is not `NOSCRIPT`.
async fn warm_up(payments: &IdempotentExecution) {
    let runs = AtomicU32::new(0);
    payments
        .run("warm", "k", "", pay(&runs, MOMENT))
        .await
        .unwrap();
    payments.forget("warm", "k").await.unwrap();
}

type Outcome = Result<Executed<String>, IdempotentError<String>>;

fn not_executed(outcome: Outcome) -> Error {
    match outcome {
        Err(IdempotentError::NotExecuted(error)) => error,
        other => panic!("{other:?}"),
    }
}

redkit_testkit::suite! {
    async fn a_result_is_given_to_every_later_call(fixture: Fixture) {
        let (payments, runs) = (payments(&fixture.client), AtomicU32::new(0));
        let first = payments.run("alice", "k", "9900", pay(&runs, MOMENT)).await.unwrap();
        assert!(first.value == "run 1" && !first.is_replayed && first.is_kept);
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        for client in [&fixture.client, &other] {
            let payments = crate::idempotent::payments(client);
            let again = payments.run("alice", "k", "9900", pay(&runs, MOMENT)).await.unwrap();
            assert!(again.value == "run 1" && again.is_replayed);
        }
        // Of another caller, or another key, it is another execution.
        payments.run("bob", "k", "9900", pay(&runs, MOMENT)).await.unwrap();
        payments.run("alice", "k2", "9900", pay(&runs, MOMENT)).await.unwrap();
        // And no scope and key run into each other.
        payments.run("alice:k", "2", "9900", pay(&runs, MOMENT)).await.unwrap();
        assert_eq!(runs.load(Ordering::SeqCst), 4);
    }

    async fn one_execution_is_in_flight_and_the_others_are_told_when_to_ask(fixture: Fixture) {
        let payments = builder(&fixture.client).retry_after(7 * SECOND).build().unwrap();
        let runs = Arc::new(AtomicU32::new(0));
        let (begun, ends) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let running = {
            let (payments, runs) = (payments.clone(), Arc::clone(&runs));
            let (begun, ends) = (Arc::clone(&begun), Arc::clone(&ends));
            tokio::spawn(async move {
                let work = async {
                    begun.notify_one();
                    ends.notified().await;
                    pay(&runs, Duration::ZERO).await
                };
                payments.run("alice", "k", "9900", work).await.unwrap()
            })
        };
        begun.notified().await;
        let error = not_executed(payments.run("alice", "k", "9900", pay(&runs, MOMENT)).await);
        assert!(matches!(error, Error::InFlight { retry_after } if retry_after == 7 * SECOND));
        assert!(error.is_retryable());
        // What is asked for comes first: asking again would not help.
        let error = not_executed(payments.run("alice", "k", "1", pay(&runs, MOMENT)).await);
        assert!(matches!(error, Error::OtherFingerprint) && !error.is_retryable());
        ends.notify_one();
        assert!(!running.await.unwrap().is_replayed);
        let error = not_executed(payments.run("alice", "k", "1", pay(&runs, MOMENT)).await);
        assert!(matches!(error, Error::OtherFingerprint) && error.kind() == ErrorKind::Usage);
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }

    #[multi_thread]
    async fn of_many_calls_at_once_one_does_the_work(fixture: Fixture) {
        let runs = Arc::new(AtomicU32::new(0));
        let mut calls = JoinSet::new();
        for _ in 0..20 {
            let (payments, runs) = (payments(&fixture.client), Arc::clone(&runs));
            calls.spawn(async move {
                loop {
                    match payments.run("alice", "k", "9900", pay(&runs, MOMENT)).await {
                        Ok(executed) => return executed.value,
                        Err(IdempotentError::NotExecuted(Error::InFlight { .. })) => sleep(MOMENT).await,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        let values = calls.join_all().await;
        assert!(values.iter().all(|value| value == "run 1"), "{values:?}");
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }

    async fn a_failure_is_not_kept_nor_a_result_that_says_so(fixture: Fixture) {
        let (payments, runs) = (payments(&fixture.client), AtomicU32::new(0));
        let fails = async { Err::<String, _>("no money".to_owned()) };
        let error = payments.run("alice", "k", "9900", fails).await.unwrap_err();
        assert!(matches!(&error, IdempotentError::Work(why) if why == "no money"), "{error}");
        // The key was freed before the call returned.
        let next = payments.run_keeping("alice", "k", "9900", pay(&runs, MOMENT), |_| false).await;
        let next = next.unwrap();
        assert!(!next.is_kept && next.value == "run 1");
        // Also for other content.
        let last = payments.run("alice", "k", "1", pay(&runs, MOMENT)).await.unwrap();
        assert!(last.is_kept && last.value == "run 2");
    }

    async fn a_result_over_the_limit_is_not_kept_but_never_made_twice(fixture: Fixture) {
        let payments = builder(&fixture.client).max_result_bytes(16).build().unwrap();
        let large = async { Ok::<_, String>("x".repeat(17)) };
        let executed = payments.run("alice", "k", "9900", large).await.unwrap();
        assert!(executed.value.len() == 17 && !executed.is_kept);
        let runs = AtomicU32::new(0);
        let error = not_executed(payments.run("alice", "k", "9900", pay(&runs, MOMENT)).await);
        assert!(matches!(error, Error::NotKept) && !error.is_retryable());
        assert!(error.to_string().contains("max_result_bytes"));
        assert_eq!(runs.load(Ordering::SeqCst), 0);
        // An operator may decide otherwise.
        assert!(payments.forget("alice", "k").await.unwrap());
        assert!(!payments.forget("alice", "k").await.unwrap());
        assert!(payments.run("alice", "k", "9900", pay(&runs, MOMENT)).await.is_ok());
    }

    async fn a_result_over_the_clients_limit_is_not_kept_but_never_made_twice(fixture: Fixture) {
        let config = fixture.config().unwrap().max_value_bytes(10_000);
        let client = fixture.connect(config).await.unwrap();
        let payments = payments(&client);
        let large = async { Ok::<_, String>("x".repeat(20_000)) };
        let executed = payments.run("alice", "k", "9900", large).await.unwrap();
        assert!(executed.value.len() == 20_000 && !executed.is_kept);
        let runs = AtomicU32::new(0);
        let error = not_executed(payments.run("alice", "k", "9900", pay(&runs, MOMENT)).await);
        assert!(matches!(error, Error::NotKept), "{error}");
        assert_eq!(runs.load(Ordering::SeqCst), 0);
    }

    async fn a_result_that_cannot_be_encoded_is_given_and_never_made_twice(fixture: Fixture) {
        let payments = payments(&fixture.client);
        // In JSON keys are strings.
        let odd = async { Ok::<_, String>(HashMap::from([((1_u8, 2_u8), 3_u8)])) };
        let executed = payments.run("alice", "k", "9900", odd).await.unwrap();
        assert!(executed.value[&(1, 2)] == 3 && !executed.is_kept);
        let runs = AtomicU32::new(0);
        let error = not_executed(payments.run("alice", "k", "9900", pay(&runs, MOMENT)).await);
        assert!(matches!(error, Error::NotKept), "{error}");
        assert_eq!(runs.load(Ordering::SeqCst), 0);
    }

    async fn impossible_keys_and_settings_are_refused_with_a_remedy(fixture: Fixture) {
        let (payments, runs) = (payments(&fixture.client), AtomicU32::new(0));
        let long = "x".repeat(256);
        for (scope, key, says) in [
            ("", "k", "empty"), ("alice", "", "empty"),
            (&long, "k", "scope"), ("alice", &long, "255 bytes"),
        ] {
            let error = not_executed(payments.run(scope, key, "", pay(&runs, MOMENT)).await);
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(error.kind(), ErrorKind::Usage);
        }
        assert_eq!(runs.load(Ordering::SeqCst), 0);
        for (builder, field) in [
            (builder(&fixture.client).lease(MOMENT), "lease"),
            (builder(&fixture.client).run_at_most(SECOND), "run_at_most"),
            (builder(&fixture.client).keep_for(MOMENT), "keep_for"),
            (builder(&fixture.client).max_result_bytes(0), "max_result_bytes"),
            (IdempotentExecution::builder(&fixture.client, ""), "name"),
        ] {
            let error = builder.build().unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }

    #[paused]
    async fn long_work_keeps_its_key_and_a_result_is_kept_for_its_time(fixture: Fixture) {
        let payments = builder(&fixture.client).keep_for(60 * SECOND).build().unwrap();
        let runs = AtomicU32::new(0);
        let other = payments.clone();
        let other_runs = AtomicU32::new(0);
        let long = payments.run("alice", "k", "9900", pay(&runs, 5 * LEASE));
        let asking = async {
            sleep(4 * LEASE).await;
            not_executed(other.run("alice", "k", "9900", pay(&other_runs, MOMENT)).await)
        };
        let (done, error) = tokio::join!(long, asking);
        assert!(done.unwrap().is_kept && matches!(error, Error::InFlight { .. }));
        sleep(59 * SECOND).await;
        assert!(payments.run("alice", "k", "9900", pay(&runs, MOMENT)).await.unwrap().is_replayed);
        sleep(2 * SECOND).await;
        assert!(!payments.run("alice", "k", "9900", pay(&runs, MOMENT)).await.unwrap().is_replayed);
    }

    #[paused]
    async fn a_dead_runners_key_is_free_after_its_lease(fixture: Fixture) {
        let backend = FaultyBackend::new(Arc::clone(fixture.client.backend()));
        let dying = payments(&backend.client_with(&fixture.config().unwrap()));
        let runs = Arc::new(AtomicU32::new(0));
        let dead = {
            let runs = Arc::clone(&runs);
            tokio::spawn(async move { dying.run("alice", "k", "9900", pay(&runs, 10 * LEASE)).await })
        };
        sleep(SECOND).await;
        backend.set(Rule::new(Injection::LoseRequest));
        let payments = payments(&fixture.client);
        let start = Instant::now();
        let value = loop {
            match payments.run("alice", "k", "9900", pay(&runs, MOMENT)).await {
                Ok(executed) => break executed.value,
                Err(IdempotentError::NotExecuted(Error::InFlight { retry_after })) => sleep(retry_after).await,
                Err(error) => panic!("{error}"),
            }
        };
        assert!(value == "run 2" && start.elapsed() <= LEASE + SECOND, "{:?}", start.elapsed());
        // The dead runner's work was dropped by its own clock.
        assert!(matches!(not_executed(dead.await.unwrap()), Error::Lost));
    }

    #[paused]
    async fn work_is_dropped_when_it_takes_too_long(fixture: Fixture) {
        let payments = builder(&fixture.client).run_at_most(2 * LEASE).build().unwrap();
        let (runs, start) = (AtomicU32::new(0), Instant::now());
        let error = not_executed(payments.run("alice", "k", "9900", pay(&runs, 10 * LEASE)).await);
        assert!(matches!(error, Error::Lost) && start.elapsed() == 2 * LEASE, "{:?}", start.elapsed());
        sleep(SECOND).await;
        assert!(payments.run("alice", "k", "9900", pay(&runs, MOMENT)).await.is_ok());
    }

    /// The process is stopped for longer than the lease: when it goes on, timers and work are ready together.
    #[paused]
    async fn work_goes_no_further_once_its_lease_is_lost(fixture: Fixture) {
        let payments = payments(&fixture.client);
        let steps = AtomicU32::new(0);
        let work = async {
            sleep(SECOND).await;
            steps.fetch_add(1, Ordering::SeqCst);
            Ok::<_, String>("paid".to_owned())
        };
        let stopped = async {
            sleep(MOMENT).await;
            advance(2 * LEASE).await;
        };
        let (outcome, ()) = tokio::join!(payments.run("alice", "k", "9900", work), stopped);
        assert!(matches!(not_executed(outcome), Error::Lost));
        assert_eq!(steps.load(Ordering::SeqCst), 0);
    }

    #[paused]
    async fn a_dropped_call_frees_its_key(fixture: Fixture) {
        let (payments, runs) = (payments(&fixture.client), AtomicU32::new(0));
        let dropped = timeout(SECOND, payments.run("alice", "k", "9900", pay(&runs, LEASE))).await;
        assert!(dropped.is_err());
        sleep(MOMENT).await;
        let next = payments.run("alice", "k", "9900", pay(&runs, MOMENT)).await.unwrap();
        assert_eq!(next.value, "run 2");
    }

    /// The lease is lost on the server while the local deadline stands: another runner has begun, and its
    /// result counts.
    #[paused]
    async fn a_runner_that_lost_its_lease_keeps_nothing(fixture: Fixture) {
        let payments = payments(&fixture.client);
        let runs = Arc::new(AtomicU32::new(0));
        let slow = {
            let (payments, runs) = (payments.clone(), Arc::clone(&runs));
            // Done before the next renewal would tell.
            tokio::spawn(async move { payments.run("alice", "k", "9900", pay(&runs, 3 * SECOND)).await })
        };
        sleep(SECOND).await;
        assert!(payments.forget("alice", "k").await.unwrap());
        let other = {
            let (payments, runs) = (payments.clone(), Arc::clone(&runs));
            tokio::spawn(async move { payments.run("alice", "k", "9900", pay(&runs, 5 * SECOND)).await })
        };
        assert!(matches!(not_executed(slow.await.unwrap()), Error::Lost));
        // Neither is the other's key freed by it.
        let asked = payments.run("alice", "k", "9900", pay(&runs, MOMENT)).await;
        assert!(matches!(not_executed(asked), Error::InFlight { .. }));
        assert_eq!(other.await.unwrap().unwrap().value, "run 2");
        let replayed = payments.run("alice", "k", "9900", pay(&runs, MOMENT)).await.unwrap();
        assert!(replayed.is_replayed && replayed.value == "run 2");
    }

    #[paused]
    async fn a_runner_that_lost_its_lease_frees_nobody_elses_key(fixture: Fixture) {
        let payments = payments(&fixture.client);
        let runs = Arc::new(AtomicU32::new(0));
        let fails = async {
            sleep(3 * SECOND).await;
            Err::<String, _>("too late".to_owned())
        };
        let others = async {
            sleep(SECOND).await;
            assert!(payments.forget("alice", "k").await.unwrap());
            payments.run("alice", "k", "9900", pay(&runs, 10 * SECOND)).await.unwrap()
        };
        let asked = async {
            sleep(6 * SECOND).await;
            not_executed(payments.run("alice", "k", "9900", pay(&runs, MOMENT)).await)
        };
        let (failed, done, asked) =
            tokio::join!(payments.run("alice", "k", "9900", fails), others, asked);
        assert!(matches!(failed, Err(IdempotentError::Work(_))));
        assert!(matches!(asked, Error::InFlight { .. }));
        assert!(done.is_kept && done.value == "run 1");
    }

    #[paused]
    async fn nothing_is_left_after_its_time(fixture: Fixture) {
        let payments = builder(&fixture.client).keep_for(60 * SECOND).build().unwrap();
        let runs = AtomicU32::new(0);
        payments.run("alice", "k", "9900", pay(&runs, MOMENT)).await.unwrap();
        let key = fixture.client.key("idempotent:payments:{5:alice:k}");
        let exists = async || {
            fixture.client.call::<i64>(Command::new("EXISTS").key(&key)).await.unwrap()
        };
        assert_eq!(exists().await, 1);
        sleep(61 * SECOND).await;
        assert_eq!(exists().await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn lost_replies_neither_begin_nor_keep_twice() {
    let backend = FaultyBackend::embedded();
    let config = ClientConfig::default().retry(3, MOMENT, MOMENT);
    let payments = payments(&backend.client_with(&config));
    warm_up(&payments).await;
    let runs = AtomicU32::new(0);
    backend.set(Rule::new(Injection::LoseReply).times(1));
    let work = async {
        backend.set(Rule::new(Injection::LoseReply).times(1));
        pay(&runs, MOMENT).await
    };
    let first = payments.run("alice", "k", "9900", work).await.unwrap();
    assert!(first.is_kept && first.value == "run 1");
    let again = payments
        .run("alice", "k", "9900", pay(&runs, MOMENT))
        .await
        .unwrap();
    assert!(again.is_replayed && again.value == "run 1");
}

/// A call that knows nothing of its beginning gives its key back.
#[tokio::test(start_paused = true)]
async fn a_beginning_of_which_nothing_is_known_is_undone() {
    let backend = FaultyBackend::embedded();
    let (payments, runs) = (payments(&backend.client()), AtomicU32::new(0));
    warm_up(&payments).await;
    backend.set(Rule::new(Injection::LoseReply).times(1));
    let error = not_executed(payments.run("alice", "k", "9900", pay(&runs, MOMENT)).await);
    assert!(matches!(&error, Error::Core(core) if core.is_maybe()));
    sleep(MOMENT).await;
    let next = payments
        .run("alice", "k", "9900", pay(&runs, MOMENT))
        .await
        .unwrap();
    assert!(!next.is_replayed && next.value == "run 1");
}

/// The reply says that the work may begin, and comes when the lease is over: another may have begun.
#[tokio::test(start_paused = true)]
async fn work_is_not_begun_by_a_reply_that_is_later_than_the_lease() {
    let backend = FaultyBackend::embedded();
    let lease = Duration::from_millis(200);
    let payments = builder(&backend.client()).lease(lease).build().unwrap();
    let runs = AtomicU32::new(0);
    warm_up(&payments).await;
    let before = runs.load(Ordering::SeqCst);
    backend.set(Rule::new(Injection::DelayReply(2 * lease)).times(1));
    let error = not_executed(
        payments
            .run("alice", "k", "9900", pay(&runs, Duration::ZERO))
            .await,
    );
    assert!(matches!(error, Error::Lost), "{error}");
    assert_eq!(runs.load(Ordering::SeqCst), before);
    sleep(SECOND).await;
    let next = payments.run("alice", "k", "9900", pay(&runs, MOMENT)).await;
    assert!(!next.unwrap().is_replayed);
}

/// Work under way keeps its key, and its result is kept, though nothing new may be begun.
#[tokio::test]
async fn a_server_without_memory_keeps_what_was_begun() {
    let server = Server::redis(ServerOptions::default()).await.unwrap();
    let config = ClientConfig::from_url(&server.url()).unwrap();
    let client = Client::connect(config).await.unwrap();
    let lease = Duration::from_secs(3);
    let payments = builder(&client).lease(lease).build().unwrap();
    let runs = AtomicU32::new(0);
    let work = async {
        let full = ["CONFIG", "SET", "maxmemory", "1"];
        server.raw(&full).await.unwrap();
        pay(&runs, lease + SECOND).await
    };
    let done = payments.run("alice", "k", "9900", work).await.unwrap();
    assert!(done.is_kept);
    let other = payments
        .run("alice", "other", "1", pay(&runs, MOMENT))
        .await;
    let refused = not_executed(other);
    assert!(refused.to_string().contains("OOM"), "{refused}");
    let again = payments.run("alice", "k", "9900", pay(&runs, MOMENT)).await;
    assert!(again.unwrap().is_replayed);
}

/// The work is done and Redis is down: the caller has the result, and it is kept when Redis is back within
/// the lease.
#[tokio::test(start_paused = true)]
async fn a_result_is_kept_after_an_outage_shorter_than_the_lease() {
    let backend = FaultyBackend::embedded();
    let (payments, runs) = (payments(&backend.client()), AtomicU32::new(0));
    let work = async {
        backend.set(Rule::new(Injection::NotSent));
        pay(&runs, MOMENT).await
    };
    let first = payments.run("alice", "k", "9900", work).await.unwrap();
    assert!(first.value == "run 1" && !first.is_kept);
    sleep(5 * SECOND).await;
    backend.clear();
    sleep(5 * SECOND).await;
    let again = payments
        .run("alice", "k", "9900", pay(&runs, MOMENT))
        .await
        .unwrap();
    assert!(again.is_replayed && again.value == "run 1");
}

/// A lease of minutes, and an outage of two.
#[tokio::test(start_paused = true)]
async fn a_result_is_kept_after_an_outage_of_minutes_that_is_shorter_than_the_lease() {
    let backend = FaultyBackend::embedded();
    let payments = builder(&backend.client()).lease(300 * SECOND).build();
    let (payments, runs) = (payments.unwrap(), AtomicU32::new(0));
    let work = async {
        backend.set(Rule::new(Injection::NotSent));
        pay(&runs, MOMENT).await
    };
    let first = payments.run("alice", "k", "9900", work).await.unwrap();
    assert!(first.value == "run 1" && !first.is_kept);
    sleep(120 * SECOND).await;
    backend.clear();
    // The longest pause between two attempts.
    sleep(16 * SECOND).await;
    let again = payments
        .run("alice", "k", "9900", pay(&runs, MOMENT))
        .await
        .unwrap();
    assert!(again.is_replayed && again.value == "run 1");
    // After the lease as well.
    sleep(400 * SECOND).await;
    let again = payments
        .run("alice", "k", "9900", pay(&runs, MOMENT))
        .await
        .unwrap();
    assert!(again.is_replayed && runs.load(Ordering::SeqCst) == 1);
}

#[tokio::test]
async fn forgotten_scripts_are_sent_again() {
    let client = FaultyBackend::embedded().client();
    let (payments, runs) = (payments(&client), AtomicU32::new(0));
    for key in ["a", "b"] {
        payments
            .run("alice", key, "", pay(&runs, MOMENT))
            .await
            .unwrap();
        let flush = Command::new("SCRIPT").arg("FLUSH");
        client.call::<()>(flush).await.unwrap();
    }
    assert!(
        payments
            .run("alice", "a", "", pay(&runs, MOMENT))
            .await
            .unwrap()
            .is_replayed
    );
}
